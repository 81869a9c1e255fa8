"""Every option alone, in pairs and in random company: the textbook's values, gradients and second derivatives."""

import re
from importlib import import_module

import combos as c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attention_ref as ar
from attention_ref import masks
from attention_ref.adjust import alibi, keep, relative, scale, softcap
from attention_ref.layer import dropout, logsumexp, weighted_sum
from attention_ref.masks import band, packing, valid
from attention_ref.normalize import softmax, softmax_sink
from attention_ref.op import op
from attention_ref.pipeline import heads, options, pipeline, place, recorder

CALM = settings(deadline=None, derandomize=True, max_examples=60, database=None)
THOROUGH = settings(CALM, max_examples=1500)


def label(names):
    return " + ".join(names) if isinstance(names, tuple) else None


# Options and their company


@pytest.mark.parametrize("rule", ar.rules)
@pytest.mark.parametrize("option", c.OPTIONS)
def test_one_option(rule, option):
    check((option,), rule)


@pytest.mark.parametrize("pair", c.PAIRS, ids=label)
def test_two_options(pair):
    check(pair)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [rule for rule in ar.rules if rule != "scaled_dot"])
def test_two_options_of_every_rule(rule):
    for pair in c.PAIRS:
        check(pair, rule)


@st.composite
def companies(draw):
    """A rule and three to eight options that can be given together."""
    chosen = []
    for name in draw(st.lists(st.sampled_from(list(c.OPTIONS)), min_size=3, max_size=8, unique=True)):
        if c.combinable(*chosen, name):
            chosen.append(name)
    return draw(st.sampled_from(list(ar.rules))), tuple(chosen)


@CALM
@given(companies())
def test_many_options(company):
    rule, names = company
    check(names, rule)


@pytest.mark.slow
@THOROUGH
@given(companies())
def test_more_companies_of_many_options(company):
    rule, names = company
    check(names, rule)


def check(names, rule="scaled_dot"):
    inputs = c.draw(rule, *names)
    if why := c.contradiction(rule, names):
        return refused(lambda: ar.attention(rule=rule, **inputs), ar.OptionError, f"^{rule}: .*({why})")
    book = c.check_first_order(rule, inputs)
    c.check_second_order(rule, inputs, book)


def refused(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert re.search(message, text), f"{text!r} does not say {message!r}"
    assert "\n" not in text


@pytest.mark.parametrize("rule", ar.rules)
def test_a_row_without_keys_can_be_refused(rule):
    allowed = np.ones((c.B, c.H, c.L, c.S), dtype=bool)
    inputs = c.draw(rule, allowed=allowed, empty_row="raise")
    c.check_first_order(rule, inputs)
    allowed[1, 2, 3] = False
    message = rf"^{rule}: query 3 of \(1, 2\) may attend to no key$"
    refused(lambda: ar.attention(rule=rule, **inputs), ar.OptionError, message)


# The table: options x rules


REFUSED = {
    **{
        ("positional_concat", option): "this rule's keys stand beside its queries"
        for option in ("causal", "window", "window to the left", "positional mask", "alibi_slopes", "relative_table")
    },
    **{
        ("positional_concat", option): "this rule's keys stand beside its queries"
        for option in ("one-sided table", "align top_left", "align bottom_right", "align integer", "align array")
    },
    ("double_softmax", "sink"): "a sink belongs to softmax; normalize='double_softmax' has none",
}
REFUSED_PAIRS = {
    **{("sink", f"normalize {name}"): "a sink belongs to softmax" for name in c.NORMALIZERS},
    ("sink", "empty_row nan"): "contradicts the sink",
    ("sink", "empty_row uniform"): "contradicts the sink",
    ("normalize softmax_off_by_one", "empty_row nan"): "contradicts the sink",
    ("normalize softmax_off_by_one", "empty_row uniform"): "contradicts the sink",
}


@pytest.mark.parametrize("rule", ar.rules)
def test_every_option_of_every_rule_is_supported_or_refused(rule):
    for option in c.OPTIONS:
        supported_or_refused(rule, (option,), REFUSED.get((rule, option)))
    for pair in c.PAIRS:
        reasons = [REFUSED.get((rule, option)) for option in pair] + [REFUSED_PAIRS.get(pair)]
        supported_or_refused(rule, pair, "|".join(filter(None, reasons)))


def supported_or_refused(rule, names, reason):
    inputs = c.draw(rule, *names)
    if reason:
        return refused(lambda: ar.attention(rule=rule, **inputs), ar.OptionError, f"^{rule}: .*({reason})")
    a = ar.attention(rule=rule, **inputs)
    assert a.o.shape == (c.B, c.H, c.L, c.E)
    assert a.alpha.shape == (c.B, c.H, c.L, c.S)
    assert np.isfinite(a.o).all() or "empty_row nan" in names


def test_refusals_of_several_kinds_are_the_tables():
    for rule in ar.rules:
        for names in [*((option,) for option in c.OPTIONS), *c.PAIRS]:
            table = any((rule, option) in REFUSED for option in names) or names in REFUSED_PAIRS
            assert table == bool(c.contradiction(rule, names)), (rule, names)


KEEP = np.ones((c.L, c.S), dtype=bool)
CONTRADICTIONS = [
    ({"causal": True}, ar.OptionError, r"align is missing: .*queries \(5\) and keys \(7\)"),
    ({"window": (2, 1)}, ar.OptionError, "align is missing"),
    ({"alibi_slopes": np.ones(c.H)}, ar.OptionError, "align is missing"),
    ({"relative_table": np.ones(8)}, ar.OptionError, "align is missing"),
    ({"allowed": ar.masks.blocks(2)}, ar.OptionError, "align is missing"),
    ({"causal": True, "align": "left"}, ar.OptionError, "there is no alignment 'left'; did you mean 'top_left'"),
    ({"causal": True, "align": 0.5}, ar.OptionError, "align must be .* got dtype float64"),
    ({"causal": 1}, ar.OptionError, "causal is True or False; got 1"),
    ({"window": 3, "align": 0}, ar.OptionError, r"window is \(left, right\)"),
    ({"window": (1, 2, 3), "align": 0}, ar.OptionError, r"window is \(left, right\)"),
    ({"window": (-1, 2), "align": 0}, ar.OptionError, "window: left must be None or how many keys"),
    ({"q_segments": np.zeros(c.L, int)}, ar.OptionError, "q_segments and k_segments belong together"),
    ({"k_segments": np.zeros(c.S, int)}, ar.OptionError, "q_segments and k_segments belong together"),
    ({"q_segments": np.zeros(4, int), "k_segments": np.zeros(c.S, int)}, ar.ShapeError, "q_segments of shape"),
    ({"q_segments": np.zeros(c.L, int), "k_segments": np.zeros(4, int)}, ar.ShapeError, "k_segments of shape"),
    ({"q_segments": np.zeros(c.L), "k_segments": np.zeros(c.S)}, ar.OptionError, "q_segments must hold integers"),
    ({"q_lengths": 6}, ar.OptionError, "q_lengths holds 6"),
    ({"k_lengths": [[-1], [2]]}, ar.OptionError, "k_lengths holds -1"),
    ({"k_lengths": [1, 2, 3]}, ar.ShapeError, "leading axes do not broadcast"),
    ({"k_lengths": 2.0}, ar.OptionError, "k_lengths must hold integers"),
    ({"dropout": (KEEP, 1.0)}, ar.OptionError, "p must be a probability, 0 <= p < 1; got 1.0"),
    ({"dropout": (KEEP, -0.1)}, ar.OptionError, "p must be a probability"),
    ({"dropout": (KEEP, "half")}, ar.OptionError, "p must be a probability"),
    ({"dropout": (KEEP,)}, ar.OptionError, r"dropout is \(keep, p\)"),
    ({"dropout": KEEP}, ar.OptionError, r"dropout is \(keep, p\)"),
    ({"dropout": 0.3}, ar.OptionError, "dropout"),
    ({"dropout": (KEEP.astype(float), 0.3)}, ar.OptionError, "dropout must be boolean"),
    ({"allowed": KEEP.astype(int)}, ar.OptionError, "allowed must be boolean"),
    ({"allowed": KEEP[:, :4]}, ar.ShapeError, "allowed of shape"),
    ({"allowed": ar.masks.dense(KEEP[:, :4])}, ar.ShapeError, "allowed of shape"),
    ({"allowed": ar.masks.dense(np.ones((3, 1, 1), bool))}, ar.ShapeError, "allowed has the leading axes"),
    ({"allowed": ar.masks.documents([2, 2], [3, 4])}, ar.ShapeError, "q_segments has shape"),
    ({"bias": np.ones((c.S, c.L))}, ar.ShapeError, "bias of shape"),
    ({"scale": np.ones((3, 1, 1))}, ar.ShapeError, "leading axes do not broadcast"),
    ({"softcap": 0.0}, ar.OptionError, "softcap must be greater than 0"),
    ({"softcap": -1.0}, ar.OptionError, "softcap must be greater than 0"),
    ({"sink": np.ones(3)}, ar.ShapeError, "leading axes do not broadcast"),
    ({"sink": np.ones(c.H), "normalize": "sparsemax"}, ar.OptionError, "a sink belongs to softmax"),
    ({"alibi_slopes": np.ones(3), "align": 0}, ar.ShapeError, "leading axes do not broadcast"),
    ({"relative_table": np.ones((c.H, 1)), "align": 0}, ar.OptionError, "t5_bucket: 1 buckets"),
    ({"normalize": "softmin"}, ar.OptionError, "there is no normalizer 'softmin'; did you mean 'softmax'"),
    ({"normalize": "softmax_sink"}, ar.OptionError, "there is no normalizer 'softmax_sink'"),
    ({"empty_row": "zeros"}, ar.OptionError, "there is no empty_row 'zeros'; did you mean 'zero'"),
    ({"empty_row": "nan", "sink": 0.0}, ar.OptionError, "contradicts the sink"),
    ({"align": np.ones((3, 1), int), "causal": True}, ar.ShapeError, "align has the leading axes"),
    ({"align": [[1], [1, 2]], "causal": True}, ar.OptionError, "align is no array"),
    ({"temperature": 2.0}, ar.OptionError, "there is no argument 'temperature'"),
]


@pytest.mark.parametrize(("given", "kind", "message"), CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(given, kind, message):
    inputs = c.draw("scaled_dot") | given
    refused(lambda: ar.attention(**inputs), kind, f"^scaled_dot: .*({message})")


def test_heads_that_do_not_divide_are_refused():
    inputs = c.draw("scaled_dot")
    inputs |= {"k": inputs["k"][:, :3], "v": inputs["v"][:, :3]}
    refused(lambda: ar.attention(**inputs), ar.ShapeError, "^scaled_dot: the leading axes do not broadcast")


# Faults: each stage wrong in one way, and what notices it


def reordered(later, earlier):
    """A recorder that puts the stage `later` off until after the stage `earlier`."""
    apply = recorder.Recorder.apply

    def swapped(self, name, op, x, /, **arguments):
        if name == later:
            self.put_off = op, arguments
            return x
        x = apply(self, name, op, x, **arguments)
        if name == earlier:
            op, arguments = self.put_off
            x = apply(self, later, op, x, **arguments)
        return x

    return swapped


def altered(function, change):
    """The function with its result changed."""
    return lambda *args, **kwargs: change(function(*args, **kwargs))


def without_dlse(backward):
    return lambda cotangents, **tape: backward((cotangents[0], None), **tape)


def alpha_after_dropout(self, *args, forward=pipeline.Pipeline.forward, **given):
    (o, _, lse), tape = forward(self, *args, **given)
    return (o, tape["dropped"], lse), tape


def zeroed(name):
    return lambda grads: grads | {name: 0 * grads[name]}


def wrong_split(x, g):
    return np.swapaxes(x.reshape(*x.shape[:-3], x.shape[-3] // g, g, *x.shape[-2:]), -4, -3)


def wrong_join(x):
    return heads_join(np.swapaxes(x, -4, -3))


def padded_offset(align, queries, keys, q_lengths=None, k_lengths=None, needed=True):
    return resolve(align, queries, keys, needed=needed)


def first_only(gradient, shape):
    """A broadcast gradient cut down instead of summed."""
    gradient = gradient[(0,) * (gradient.ndim - len(shape))]
    return gradient[tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]


def share_of_first(grads):
    """The gradient of one query head for the whole group."""
    return grads | {"alpha" if "alpha" in grads else "q": next(iter(grads.values()))}


def every_scale(self, q, given):
    own = self.own_scale(q) if self.own_scale else 1
    return given["scale"] * own if "scale" in given else own


heads_join, resolve = heads.join, place.resolve_offset
CAPPED = "softcap", "scale", "bias (4, 5, 7)"
FAULTS = {
    "the softcap behind the bias": (recorder.Recorder, "apply", reordered("capped", "biased"), CAPPED),
    "the scale behind the softcap": (recorder.Recorder, "apply", reordered("scaled", "capped"), CAPPED),
    "the scale behind the bias": (recorder.Recorder, "apply", reordered("scaled", "biased"), CAPPED[1:]),
    "a given scale on top of the rule's own": (pipeline.Pipeline, "factor", every_scale, ("scale",)),
    "an offset off by one": (place, "resolve_offset", altered(resolve, lambda n: n + 1), ("causal",)),
    "an offset off by one for slopes": (place, "resolve_offset", altered(resolve, lambda n: n + 1), ("alibi_slopes",)),
    "an offset of the wrong sign": (place, "resolve_offset", altered(resolve, lambda n: -n), ("window",)),
    "bottom_right by the padded lengths": (place, "resolve_offset", padded_offset, ("causal", "k_lengths")),
    "causal without the diagonal": (place.masks, "causal", lambda: band.Band(None, -1), ("causal",)),
    "a window one key narrower": (place.masks, "window", lambda a, b: band.window(a - 1, b), ("window",)),
    "a window the wrong way round": (place.masks, "window", lambda a, b: band.window(b, a), ("window",)),
    "lengths that count one more": (
        valid,
        "below",
        lambda n, count: n >= 0 if count is None else n <= count[..., None, None],
        ("k_lengths",),
    ),
    "padding that attends to padding": (
        packing.Segments,
        "allows",
        lambda self, i, j, p: self.q_segments[..., i] == self.k_segments[..., j],
        ("segments",),
    ),
    "one mask or the other": (masks.Mask, "__and__", masks.Mask.__or__, ("allowed", "causal")),
    "masked scores of zero": (
        keep,
        "forward",
        lambda s, allowed: (np.where(allowed, s, 0), {"allowed": allowed}),
        ("allowed",),
    ),
    "a bias without its leading axes' sum": (op, "reduce_to", first_only, ("bias (1, 7)",)),
    "a bias gradient scaled": (pipeline.bias, "backward", lambda d: {"s": d, "bias": 2 * d}, ("bias ()",)),
    "slopes times the signed distance": (place.Place, "distance", property(lambda at: at.relative), ("alibi_slopes",)),
    "slopes without a gradient": (
        alibi,
        "backward",
        altered(alibi.backward, zeroed("alibi_slopes")),
        ("alibi_slopes",),
    ),
    "buckets of the wrong side": (
        place.Place,
        "bucket",
        lambda at, n: place.t5_bucket(-at.relative, n, at.given.get("relative_max_distance", 128)),
        ("relative_table",),
    ),
    "a table added to no gradient": (
        relative,
        "backward",
        altered(relative.backward, zeroed("relative_table")),
        ("relative_table",),
    ),
    "the scale's gradient left out": (scale, "backward", altered(scale.backward, zeroed("scale")), ("scale",)),
    "the softcap's slope left out": (
        softcap,
        "backward",
        lambda dcapped, *, x, y: {"s": dcapped, "softcap": dcapped * (y - x * (1 - y * y))},
        ("softcap",),
    ),
    "a softcap without its own gradient": (
        softcap,
        "backward",
        altered(softcap.backward, zeroed("softcap")),
        ("softcap",),
    ),
    "a sink without a gradient": (softmax_sink, "backward", altered(softmax_sink.backward, zeroed("sink")), ("sink",)),
    "an lse without the sink": (
        softmax_sink,
        "forward",
        lambda s, sink, forward=softmax_sink.forward: (
            (forward(s, sink)[0][0], logsumexp.forward(s)[0]),
            forward(s, sink)[1],
        ),
        ("sink",),
    ),
    "dlse ignored": (softmax_sink, "backward", without_dlse(softmax_sink.backward), ("sink",)),
    "dlse ignored without options": (softmax, "backward", without_dlse(softmax.backward), ()),
    "dropout that does not scale": (
        dropout,
        "forward",
        lambda alpha, keep, p: (np.where(keep, alpha, 0), {"keep": keep, "factor": 1.0}),
        ("dropout",),
    ),
    "dropout that lets every gradient through": (
        dropout,
        "backward",
        lambda ddropped, *, keep, factor: {"alpha": ddropped * factor},
        ("dropout",),
    ),
    "alpha after the dropout": (pipeline.Pipeline, "forward", alpha_after_dropout, ("dropout",)),
    "heads in the wrong order": (heads, ("split", "join"), (wrong_split, wrong_join), ("grouped heads",)),
    "the group's gradient from one head": (
        heads.Grouped,
        "backward",
        lambda self, dvalue, backward=heads.Grouped.backward, **tape: {
            name: x / 2 if name == self.few else x for name, x in backward(self, dvalue, **tape).items()
        },
        ("grouped heads",),
    ),
    "one key head that is not summed": (op, "reduce_to", first_only, ("one key head",)),
    "zeros where NaN was asked for": (
        pipeline,
        "FILL",
        {"nan": lambda keys: 0.0},
        ("allowed", "empty_row nan"),
    ),
    "uniform over the wrong number": (
        pipeline,
        "FILL",
        {"uniform": lambda keys: 1 / (keys + 1)},
        ("allowed", "empty_row uniform"),
    ),
    "a normalizer not asked for": (
        pipeline.Pipeline,
        "normalizer",
        lambda self, given, normalizer=pipeline.Pipeline.normalizer: normalizer(self, {}),
        ("normalize entmax15",),
    ),
    "values not weighted by what was kept": (
        weighted_sum,
        "backward",
        altered(weighted_sum.backward, zeroed("v")),
        ("dropout",),
    ),
    "an option that is dropped on the way": (
        import_module("attention_ref.pipeline.rule"),
        "given_options",
        lambda inputs: options.given_options({n: x for n, x in inputs.items() if n != "causal"}),
        ("causal",),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_pipeline_is_caught(fault, monkeypatch):
    room, name, wrong, company = FAULTS[fault]
    inputs = c.draw("scaled_dot", *company)
    c.check_first_order("scaled_dot", inputs)
    for one, value in zip(name, wrong, strict=True) if isinstance(name, tuple) else [(name, wrong)]:
        monkeypatch.setattr(room, one, value)
    with pytest.raises(AssertionError, match=r"differs|finite where it should be"):
        c.check_first_order("scaled_dot", inputs)
