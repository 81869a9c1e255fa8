"""The cases: what they cover, that they are reproducible, that their inputs are what they promise."""

import inspect
import itertools

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.cases import long
from attention_ref.oracle.cases.case import Size, build, folded
from attention_ref.oracle.cases.flags import FLAGS, TRUE_OF_VECTOR
from attention_ref.oracle.cases.layouts import LAYOUTS
from attention_ref.oracle.cases.option_values import RECIPES, make
from attention_ref.oracle.cases.select import select
from attention_ref.oracle.cases.suite import CASES, TABLES
from attention_ref.oracle.cases.value_families import FAMILIES
from attention_ref.oracle.run.truth import Truth, allowed_pairs
from attention_ref.vectors.notes import NOTES

RULE = ar.rules["scaled_dot"]
F32 = number_formats.find("float32")
CORE = select("core")


def test_no_two_cases_have_one_name():
    names = [case.name for table in TABLES for case in table]
    assert len(names) == len(set(names)) == len(CASES)


def test_every_case_says_which_bug_it_catches():
    for case in CASES.values():
        assert len(case.why) > 12, case.name
        assert "\n" not in case.why
        assert case.flags, case.name


def test_core_uses_every_option_of_attention():
    optional = set(inspect.signature(ar.attention).parameters) - {"q", "k", "v", "rule", "params"}
    optional -= {"tile", "executor", "out"}
    assert {name for case in CORE for name in case.options} == optional


def test_core_uses_every_family_layout_and_recipe():
    assert {case.values for case in [*CORE, *long.CASES.values()]} == set(FAMILIES)
    assert {case.layout for case in CORE} == set(LAYOUTS)
    used = {value[1:] for case in CORE for value in case.options.values() if isinstance(value, str) and value[0] == "@"}
    assert used == set(RECIPES)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_draws(name):
    """Helpers of the recipes, such as lengths_of and documents, are none: a case that named them could not be built."""
    drawn = make(f"@{name}", np.random.default_rng(0), Size(13, 23))
    array, *_ = drawn if isinstance(drawn, tuple) else (drawn,)
    assert isinstance(array, np.ndarray)


def test_a_flag_has_one_row_and_a_word_of_the_vectors_one_meaning():
    for names in ([flag.name for flag in FLAGS], [flag.vector_name for flag in FLAGS]):
        used = [name for name in names if name is not None]
        assert len(used) == len(set(used))
    assert set(TRUE_OF_VECTOR) | {"Invalid"} == set(NOTES)
    words = {flag.name: flag.vector_name for flag in FLAGS if flag.name and flag.vector_name != flag.name}
    assert words["GQA"] == "GroupedHeads"
    assert words["MQA"] == "MultiQuery"


def test_the_empty_rows_that_a_case_declares_are_there():
    """DeadRow depends on what is drawn, so that cases declare it by hand; for vectors it is computed."""
    for case in CORE:
        if "normalize" in case.options:
            continue  # without a softmax there is no lse, by which an empty row can be told
        inputs = build(case, RULE, F32)
        attended = ar.attention(**inputs.arrays, rule=RULE, **inputs.options | {"empty_row": "zero", "sink": None})
        assert bool(np.isneginf(attended.lse).any()) == ("DeadRow" in case.flags), case.name


def test_full_has_every_pair_of_options():
    pairs = {frozenset(case.name.split("-")[1:]) for case in CASES.values() if case.name.startswith("pair-")}
    options = set().union(*pairs)
    assert len(options) == 12
    assert pairs == {frozenset(pair) for pair in itertools.combinations(options, 2)}


def test_shapes_lie_around_the_tiles():
    sizes = {(case.size.queries, case.size.keys) for case in CASES.values()}
    for block in (32, 64, 128):
        for n in (1, block - 1, block, block + 1, 2 * block + 3):
            assert any(queries == n for queries, _ in sizes)
    widths = {case.size.width for case in CASES.values()}
    assert {8, 16, 32, 64, 128, 256} <= widths


@pytest.mark.parametrize(
    "name", ["causal-offsets", "values-peaked", "poison-nan-bias", "gqa-dropout", "layout-strided"]
)
def test_the_same_seed_draws_the_same_inputs(name):
    once, again, other = (build(CASES[name], RULE, F32, seed) for seed in (3, 3, 4))
    for drawn, repeated, different in zip(flat(once), flat(again), flat(other), strict=True):
        assert drawn.tobytes() == repeated.tobytes()
        assert drawn.dtype == bool or drawn.size < 8 or drawn.tobytes() != different.tobytes()
    assert not np.shares_memory(once.arrays["q"], again.arrays["q"])


def flat(inputs):
    for x in [*inputs.arrays.values(), *inputs.options.values(), inputs.do, inputs.dlse]:
        yield from (part for part in (x if isinstance(x, tuple) else (x,)) if isinstance(part, np.ndarray))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_inputs_come_in_the_tested_dtype_and_are_what_the_oracle_computes_with(dtype):
    fmt = number_formats.find(dtype)
    for name in ("bias", "sink", "values-huge", "alibi"):
        inputs = build(CASES[name], RULE, fmt)
        floating = [x for x in flat(inputs) if x.dtype.kind == "f" and x is not inputs.dlse]
        assert {x.dtype for x in floating} == {fmt.dtype}
        truth = Truth(RULE, inputs, fmt.model)
        for letter, x in inputs.arrays.items():
            assert np.array_equal(truth.arrays[letter], x.astype(np.float64))


def test_integers_are_the_same_in_every_dtype():
    drawn = [
        build(CASES["values-integers"], RULE, number_formats.find(name)).arrays["q"] for name in ("float64", "float16")
    ]
    assert np.array_equal(drawn[0], drawn[1].astype(np.float64))


@pytest.mark.parametrize("name", sorted(name for name in CASES if name.startswith("poison-")))
def test_poison_is_there_and_changes_nothing(name):
    case = CASES[name]
    inputs = build(case, RULE, F32)
    everywhere = np.concatenate([x.ravel() for x in flat(inputs) if x.dtype.kind == "f"])
    poisoned = np.isnan(everywhere) if np.isnan(case.poison) else everywhere == case.poison
    assert poisoned.sum() >= 8
    truth = Truth(RULE, inputs, "f32", True)
    results = truth.forward() | truth.backward()
    assert all(np.isfinite(x).all() for name, x in results.items() if name != "lse")


def test_poison_lies_only_where_nobody_may_look():
    inputs = build(CASES["poison-nan-mask"], RULE, F32)
    seen = allowed_pairs(13, 23, inputs.options).any(axis=-2)
    assert np.array_equal(np.isnan(inputs.arrays["k"]).any(axis=-1), ~seen)
    assert np.array_equal(np.isnan(inputs.arrays["v"]).all(axis=-1), ~seen)


def test_a_mask_folds_into_a_smaller_shape_by_all():
    mask = np.ones((2, 6, 5), bool)
    mask[0, 3, 2] = False
    assert folded(mask, (2, 3, 5)).sum() == 29
    assert not folded(mask, (2, 3, 5))[0, 1, 2]
    assert folded(mask, (5,)).sum() == 4
    assert folded(mask, (1, 6, 1)).sum() == 5


def test_layouts_change_the_memory_and_not_the_numbers():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    for name, layout in LAYOUTS.items():
        assert np.array_equal(layout(x), x), name
        assert layout(x).flags.writeable == (name != "read_only")
        assert layout(x).flags.c_contiguous == (name in ("contiguous", "read_only"))


def test_shared_keys_have_no_batch_axis():
    inputs = build(CASES["shared-kv"], RULE, F32)
    assert inputs.arrays["k"].ndim == inputs.arrays["q"].ndim - 1
    assert build(CASES["no-batch-no-head"], RULE, F32).arrays["q"].ndim == 2


def test_select_by_name_flag_and_difference():
    assert [case.name for case in select("causal,gqa")] == ["causal", "gqa"]
    gqa = select("flag:GQA")
    assert len(gqa) > 8
    assert all("GQA" in case.flags for case in gqa)
    assert not any("GQA" in case.flags for case in select("core,-flag:GQA"))
    assert len(select("full")) == len(CASES) > len(CORE) > 100
    assert select([CASES["mqa"], "causal"]) == [CASES["mqa"], CASES["causal"]]


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ("causel", "there is no case 'causel'; did you mean 'causal'"),
        ("flag:GAQ", "there is no flag 'GAQ'; did you mean 'GQA'"),
        ("everything", "give core, full, long, flag:NAME or the name of a case"),
        ([3], "there is no case 3; give core, full"),
    ],
)
def test_a_selector_that_means_nothing_is_refused(cases, message):
    with pytest.raises(ar.OptionError, match=message):
        select(cases)


def test_a_case_that_a_rule_has_no_meaning_for_says_so():
    assert CASES["causal"].unfit(ar.rules["positional_concat"]) == "the rule positional_concat has no key positions"
    assert CASES["sink"].unfit(ar.rules["double_softmax"])
    assert not any(case.unfit(RULE) for case in CASES.values())
