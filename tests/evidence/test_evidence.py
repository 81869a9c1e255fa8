"""Every op and every rule, every variant, every leading pattern: the evidence, generated from the registry."""

import evidence as ev
import numpy as np
import pytest

import attention_ref as ar

SUBJECTS = ev.subjects()
VARIANTS = [(name, n) for name, op in SUBJECTS.items() for n in range(len(op.variants))]
CASES = [(name, n, pattern) for name, n in VARIANTS for pattern in ev.patterns(SUBJECTS[name])]
ENDS = [(name, n, pattern) for name, n, pattern in CASES if pattern == ev.patterns(SUBJECTS[name])[-1]]
COMPOSED = [(name, n, pattern) for name, n, pattern in ENDS if name.startswith(("rule.", "mechanism."))]
MASKED = [(name, n) for name, op in SUBJECTS.items() if ev.takes_allowed(op) for n in ev.masked_variants(op)]
MEASURED = [(name, n) for name, op in SUBJECTS.items() if ev.takes_lengths(op) for n in ev.lengths_variants(op)]
SELECTING = [(name, n) for name, op in SUBJECTS.items() if ev.takes_allowed(op) for n in ev.selecting_variants(op)]
RULES = [(f"rule.{name}", n) for name, rule in ar.rules.items() for n in ev.plain_variants(rule)]


def only_scores(name):
    return [argument.name for argument in SUBJECTS[name].signature.arguments] == ["s"]


def each(cases):
    return pytest.mark.parametrize(("name", "variant", "pattern"), cases, ids=["-".join(map(str, c)) for c in cases])


@each(CASES)
def test_value_is_the_definitions(name, variant, pattern):
    ev.check_value(SUBJECTS[name], ev.case(name, variant, pattern))


@each(CASES)
def test_gradients_are_autograds(name, variant, pattern):
    ev.check_gradients(SUBJECTS[name], ev.case(name, variant, pattern))


@each(CASES)
def test_derivatives_are_the_complex_steps(name, variant, pattern):
    ev.check_complex_step(SUBJECTS[name], ev.case(name, variant, pattern))


@each(CASES)
def test_nothing_is_written_to(name, variant, pattern):
    ev.check_purity(SUBJECTS[name], ev.case(name, variant, pattern))


@each(ENDS)
def test_second_derivatives_are_autograds(name, variant, pattern):
    ev.check_second_order(SUBJECTS[name], ev.case(name, variant, pattern))


@each(ENDS)
def test_layout_does_not_matter(name, variant, pattern):
    ev.check_layout(SUBJECTS[name], ev.case(name, variant, pattern))


@each(ENDS)
def test_precision_is_kept(name, variant, pattern):
    ev.check_single(SUBJECTS[name], ev.case(name, variant, pattern))


@each(COMPOSED)
def test_autograd_takes_it_as_a_primitive(name, variant, pattern):
    ev.check_autograd(SUBJECTS[name], ev.case(name, variant, pattern))


@each(COMPOSED)
def test_autograd_takes_it_twice(name, variant, pattern):
    ev.check_autograd_twice(SUBJECTS[name], ev.case(name, variant, pattern))


@pytest.mark.parametrize(("name", "variant"), MASKED)
def test_dead_rows(name, variant):
    ev.check_dead_rows(SUBJECTS[name], variant)


@pytest.mark.parametrize(("name", "variant"), [pair for pair in SELECTING if "q" in SUBJECTS[pair[0]].arguments])
def test_nan_behind_the_mask(name, variant):
    ev.check_poison(SUBJECTS[name], variant)


@pytest.mark.parametrize(("name", "variant"), SELECTING)
def test_nan_that_others_may_attend_to(name, variant):
    ev.check_partial_poison(SUBJECTS[name], variant)


@pytest.mark.parametrize(("name", "variant"), MEASURED)
def test_lengths(name, variant):
    ev.check_lengths(SUBJECTS[name], variant)


@pytest.mark.parametrize(("name", "variant"), RULES)
def test_huge_scores(name, variant):
    ev.check_huge_scores(SUBJECTS[name], variant)


@pytest.mark.parametrize(("name", "variant"), RULES)
def test_scale_as_a_number(name, variant):
    ev.check_scalar_scale(SUBJECTS[name], variant)


@pytest.mark.parametrize(("name", "variant"), RULES)
def test_identities(name, variant):
    ev.check_identities(SUBJECTS[name], variant)


@pytest.mark.parametrize("name", [name for name in SUBJECTS if name.startswith("normalize.") and only_scores(name)])
def test_normalizers(name):
    ev.check_normalizer(SUBJECTS[name])


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_axes_of_length_one(name, variant):
    ev.check_sizes_one(SUBJECTS[name], variant)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_empty_axes(name, variant):
    ev.check_empty(SUBJECTS[name], variant)


EVERYWHERE = {
    "test_value_is_the_definitions",
    "test_gradients_are_autograds",
    "test_derivatives_are_the_complex_steps",
    "test_nothing_is_written_to",
}
ALWAYS = EVERYWHERE | {
    "test_second_derivatives_are_autograds",
    "test_layout_does_not_matter",
    "test_precision_is_kept",
    "test_axes_of_length_one",
    "test_empty_axes",
}
COMPOSED_ONLY = {"test_autograd_takes_it_as_a_primitive", "test_autograd_takes_it_twice"}
MASKED_ONLY = {"test_dead_rows", "test_nan_behind_the_mask", "test_nan_that_others_may_attend_to"}
RULES_ONLY = {"test_huge_scores", "test_scale_as_a_number", "test_identities"}


def kinds_wanted(name):
    composed = name in {f"rule.{rule}" for rule in ar.rules} | {op.name for op in ar.mechanisms.values()}
    rule = name.startswith("rule.")
    return ALWAYS | (COMPOSED_ONLY if composed else set()) | (RULES_ONLY | MASKED_ONLY if rule else set())


def variants_wanted(kind, op):
    if kind in RULES_ONLY:
        return [0, 1]
    if kind in MASKED_ONLY:
        return ev.masked_variants(op) if kind == "test_dead_rows" else ev.selecting_variants(op)
    return range(len(op.variants))


def lacking(collected):
    """What every op and every rule must have, less what there is: (kind, name, variant, pattern)."""
    out = []
    for name, op in [*ar.ops.items(), *((f"rule.{name}", rule) for name, rule in ar.rules.items())]:
        for kind in sorted(kinds_wanted(name)):
            of_kind = [at for found, at in collected if found == kind and at["name"] == name]
            for n in variants_wanted(kind, op):
                there = {at.get("pattern") for at in of_kind if at["variant"] == n}
                wanted = set(ev.patterns(op)) if kind in EVERYWHERE else there or {"any"}
                out += [f"{name}, variant {n}, leading {at}: no {kind}" for at in sorted(wanted - there)]
    return out


def test_every_op_has_every_kind_of_evidence():
    assert lacking(declared()) == []


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_optional_argument_is_in_some_variant(name):
    """Or the op says that it takes no such thing."""
    op = SUBJECTS[name]
    included = {argument for variant in op.variants for argument in variant.get("include", ())}
    left = {argument.name for argument in op.signature.arguments if argument.optional} - included
    for argument in left:
        drawn = op.signature.draw(np.random.default_rng(0), include=(argument,))
        with pytest.raises((ar.OptionError, ar.ShapeError)):
            op.forward(**op.example() | {argument: drawn[argument]})


def declared():
    """[(test, its parameters)] of this module."""
    out = []
    for kind, test in globals().items():
        for mark in getattr(test, "pytestmark", []):
            names, values = mark.args
            names = (names,) if isinstance(names, str) else names
            out += [(kind, dict(zip(names, at if len(names) > 1 else (at,), strict=True))) for at in values]
    return out


def test_the_closing_test_sees_what_is_missing():
    gone = [(kind, at) for kind, at in declared() if (kind, at["name"]) != ("test_huge_scores", "rule.additive")]
    assert lacking(gone) == [f"rule.additive, variant {n}, leading any: no test_huge_scores" for n in (0, 1)]
    place = {"name": "score.dot", "variant": 0, "pattern": "mixed"}
    gone = [(kind, at) for kind, at in declared() if (kind, at) != ("test_value_is_the_definitions", place)]
    assert lacking(gone) == ["score.dot, variant 0, leading mixed: no test_value_is_the_definitions"]
