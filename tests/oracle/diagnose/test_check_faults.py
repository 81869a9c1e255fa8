"""Planted mistakes: each is caught in core, in the cases that are there for it."""

import math

import numpy as np
import pytest
from candidates import CORES, Candidate, finite, flip, log_of, safe
from thinned import thinned

import attention_ref as ar
from attention_ref.oracle.bounds.bound import bound
from attention_ref.oracle.cases.select import select
from attention_ref.oracle.diagnose.factors import factor, share, times
from attention_ref.oracle.diagnose.localize import in_common


def forward(q, k, v, **options):
    a = ar.attention(q, k, v, **options)
    return a.o, a.lse


def backward(do, q, k, v, o, lse, dlse=None, **options):
    return ar.attention(q, k, v, **options).backward(do, dlse=dlse)


def changed(**change):
    """A candidate that takes some options for others: change(name=function of the value)."""

    def candidate(q, k, v, **options):
        for name, turn in change.items():
            if name in options:
                options[name] = turn(options[name])
        return forward(q, k, v, **options)

    return candidate


def without(*names):
    def candidate(q, k, v, **options):
        return forward(q, k, v, **{name: x for name, x in options.items() if name not in names})

    return candidate


def interleaved(q, k, v, **options):
    if k.ndim == q.ndim > 2 and 1 < k.shape[-3] < q.shape[-3]:
        times = q.shape[-3] // k.shape[-3]
        k, v = (np.concatenate([x] * times, axis=-3) for x in (k, v))
    return forward(q, k, v, **options)


def uniform_dead_rows(q, k, v, **options):
    o, lse = forward(q, k, v, **options)
    dead = np.isneginf(lse)[..., None]
    return np.where(dead, np.nan_to_num(v).mean(axis=-2, keepdims=True)[..., : o.shape[-1]].mean(), o).astype(
        o.dtype
    ), lse


def capped_after_the_mask(q, k, v, softcap=None, allowed=None):
    s = (q @ flip(k)) / math.sqrt(q.shape[-1])
    s = s if allowed is None else np.where(allowed, s, -1e9)
    s = s if softcap is None else softcap * np.tanh(s / softcap)
    e = np.exp(s - s.max(axis=-1, keepdims=True)).astype(q.dtype)
    return e @ v / e.sum(axis=-1, keepdims=True)


def leaking(q, k, v, **options):
    """The weights are right, and 0 * NaN is NaN."""
    return np.asarray(ar.attention(q, k, v, **options).alpha @ v)


def base_2_lse(q, k, v, **options):
    o, lse = forward(q, k, v, **options)
    return o, (lse * np.float32(math.log2(math.e))).astype(lse.dtype)


def tail_forgotten(q, k, v):
    whole = max(k.shape[-2] // 16 * 16, min(k.shape[-2], 16))
    return forward(q, k[..., :whole, :], v[..., :whole, :])[0]


def no_shift(given):
    e = np.exp(given.scores())
    z = e.sum(axis=-1, keepdims=True)
    return given.dropped(e) @ given.v / safe(z), log_of(z, np.zeros_like(z))


def no_rescale(given):
    """An online softmax that rescales the normalizer and forgets the accumulator."""
    s, v = given.scores(), given.v
    m = np.full(s.shape[:-1], -np.inf, s.dtype)
    z, acc = np.zeros_like(m), np.zeros((*m.shape, v.shape[-1]), s.dtype)
    for a in range(0, s.shape[-1], 16):
        top = np.maximum(m, s[..., a : a + 16].max(axis=-1))
        p = np.exp(s[..., a : a + 16] - finite(top)[..., None])
        z = z * np.exp(m - finite(top)) + p.sum(axis=-1)
        acc, m = acc + p @ v[..., a : a + 16, :], top
    return acc / safe(z)[..., None], log_of(z[..., None], finite(m)[..., None])


def width_of_v(q, k, v, scale=None):
    return forward(q, k, v, scale=1 / math.sqrt(v.shape[-1]) if scale is None else scale)[0]


def trusting_memory(q, k, v):
    """Reads the arrays in the order in which they lie, as a kernel does that never looks at the strides."""
    q, k, v = (np.frombuffer(bytes_of(x), x.dtype).reshape(x.shape) for x in (q, k, v))
    return forward(q, k, v)[0]


def bytes_of(x):
    base = x if x.base is None else x.base
    return base.tobytes("A")[: x.nbytes]


def half_inside(q, k, v):
    q, k, v = (x.astype(np.float16).astype(x.dtype) for x in (q, k, v))
    return forward(q, k, v)[0]


def one_head_for_all(q, k, v):
    if q.ndim > 2 and q.shape[-3] > 1:
        k = np.broadcast_to(k[..., :1, :, :], k.shape)
    return forward(q, k, v)[0]


NO_GROUPS = "core,-flag:GQA,-flag:MQA"
FAULTS = {
    "top left for bottom right": (changed(align=lambda a: "top_left"), "causal-bottom-right"),
    "bottom right for top left": (changed(align=lambda a: "bottom_right"), "causal-top-left"),
    "causal ignored": (without("causal"), "causal"),
    "align shifted by one": (changed(align=lambda a: a + 1 if isinstance(a, int) else a), "causal-offset"),
    "mask inverted": (changed(allowed=np.logical_not), "mask-half"),
    "mask of the first head": (changed(allowed=lambda m: m[:, :1] if m.ndim == 4 else m), "mask-half"),
    "window is a total": (changed(window=lambda w: tuple(n and n - 1 for n in w)), "window"),
    "window left only": (changed(window=lambda w: (w[0], None)), "window-right"),
    "lengths are last indices": (changed(k_lengths=lambda n: np.minimum(n + 1, n.max())), "k-lengths"),
    "lengths ignored": (without("k_lengths"), "k-lengths"),
    "segments ignored": (without("q_segments", "k_segments"), "segments"),
    "uniform dead rows": (uniform_dead_rows, "mask-dead-rows"),
    "scale ignored": (without("scale"), "scale"),
    "scale squared": (changed(scale=np.square), "scale"),
    "scale by the width of v": (width_of_v, "width-64x128"),
    "softcap ignored": (without("softcap"), "softcap"),
    "softcap after the mask": (capped_after_the_mask, "softcap-mask"),
    "bias negated": (changed(bias=np.negative), "bias"),
    "bias of the first head": (changed(bias=lambda b: b[:1]), "bias-by-head"),
    "slopes negated": (changed(alibi_slopes=np.negative), "alibi"),
    "slopes reversed": (changed(alibi_slopes=lambda s: s[::-1]), "alibi"),
    "sink ignored": (without("sink"), "sink"),
    "dropout not scaled": (changed(dropout=lambda d: (d[0], 0.0)), "dropout"),
    "dropout inverted": (changed(dropout=lambda d: (~d[0], d[1])), "dropout"),
    "heads interleaved": (interleaved, "gqa"),
    "one key head for all": (one_head_for_all, "gqa"),
    "0 times NaN": (leaking, "poison-nan-lengths"),
    "lse to base 2": (base_2_lse, "causal"),
    "tail forgotten": (tail_forgotten, "shape-17x17"),
    "no maximum": (Candidate(no_shift), "values-huge"),
    "no rescale": (Candidate(no_rescale), "values-last-key"),
    "float16 inside": (half_inside, "values-correlated"),
    "strides ignored": (trusting_memory, "layout-transposed"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_forward_fails_in_the_case_that_is_there_for_it(name):
    candidate, case = FAULTS[name]
    run = ar.check(candidate, cases=case).runs[0]
    assert run.verdict == "fail", run.sentence
    assert any(c.verdict == "fail" and c.worst is not None and not c.worst.score <= 1 for c in run.results)


def gradient(**change):
    def wrong(do, q, k, v, o, lse, dlse=None, **options):
        grads = backward(do, q, k, v, o, lse, dlse, **options)
        return {name: change[name](x, q, k) if name in change else x for name, x in grads.items()}

    return wrong


def d_left_out(do, q, k, v, o, lse, dlse=None, **options):
    """ds = alpha * dalpha, without the row's D."""
    a = ar.attention(q, k, v, **options)
    grads = a.backward(do, dlse=dlse)
    scale = options.get("scale", 1 / math.sqrt(q.shape[-1]))
    row = (do * a.o).sum(axis=-1, keepdims=True)
    return grads | {"q": (grads["q"] + (a.alpha * row) @ k * scale).astype(q.dtype)}


def first_of_the_group(x, q, k):
    return x if x.shape[-3] == q.shape[-3] else x / 3


BACKWARD_FAULTS = {
    "dq without the scale": (gradient(q=lambda x, q, k: x * 4), "shape-17x17", "dq"),
    "dk negated": (gradient(k=lambda x, q, k: -x), "shape-17x17", "dk"),
    "dk of the rows in reverse": (gradient(k=lambda x, q, k: x[..., ::-1, :].copy()), "shape-17x17", "dk"),
    "D left out": (d_left_out, "shape-17x17", "dq"),
    "dv of the last key missing": (gradient(v=lambda x, q, k: x * (np.arange(17)[:, None] < 16)), "shape-17x17", "dv"),
    "a group not summed": (gradient(v=first_of_the_group), "gqa", "dv"),
    "dbias not summed": (gradient(bias=lambda x, q, k: x / 2), "bias-by-head", "dbias"),
    "dsink of the wrong sign": (gradient(sink=lambda x, q, k: -x), "sink", "dsink"),
    "dq in float16": (gradient(q=lambda x, q, k: x.astype(np.float16).astype(x.dtype)), "shape-17x17", "dq"),
}


@pytest.mark.parametrize("name", BACKWARD_FAULTS)
def test_a_wrong_backward_fails_in_the_gradient_that_is_wrong(name):
    wrong, case, result = BACKWARD_FAULTS[name]
    run = ar.check(forward, cases=case, backward=wrong).runs[0]
    assert [c.result for c in run.results if c.verdict == "fail"] == [result]


def test_the_diagnosis_names_the_flag_that_all_failing_cases_have():
    report = ar.check(without("sink"), cases=thinned(1, whole="Sink"))
    assert in_common(report.runs) == "all 5 failing cases have the flag Sink, and every case without it passes"
    assert report.diagnosis.sentence.endswith(" with the sink ignored")
    assert set(report.diagnosis.cases) == {run.case for run in report.failures()}


def test_the_diagnosis_names_the_tail():
    shapes = [case for case in select("core") if "Shape" in case.flags]
    report = ar.check(tail_forgotten, cases=shapes)
    where = "it fails where there are more than 16 keys and no multiple of it, and only there"
    assert in_common(report.runs) == where
    assert report.diagnosis.sentence.endswith(" with the last partial tile of 16 keys dropped behind whole ones")


CASES_OF_FACTORS = "shape-17x17,shape-35x35,width-8x16"


@pytest.mark.parametrize("sampled", [{}, {"sample": 5}], ids=["whole", "sampled"])
@pytest.mark.parametrize("names", ["v", "q", "qk"])
@pytest.mark.parametrize(
    ("by", "said"),
    [
        (0, "0"),
        (-1, "-1 times what it should be"),
        (np.log(2), "0.6931 (ln 2) times what it should be"),
        (1 + 1e-3, "1.001 times what it should be"),
    ],
    ids=str,
)
def test_the_diagnosis_names_a_factor(by, said, names, sampled):
    """dq = 0 is not put down to tiles, -dk not to arithmetic, and a sample says no more than it has seen."""

    def wrong(do, q, k, v, o, lse, dlse=None, **options):
        grads = backward(do, q, k, v, o, lse, dlse, **options)
        return grads | {name: (grads[name] * by).astype(q.dtype) for name in names}

    report = ar.check(forward, cases=CASES_OF_FACTORS, backward=wrong, **sampled)
    where = " wherever it was compared" if sampled else " everywhere" if by == 0 else ""
    wanted = [f"d{name} is {said}{where}" for name in names]
    if sampled:
        assert sorted(report.diagnosis.parts[: len(names)]) == sorted(wanted)
    elif (by, names) == (-1, "qk"):
        assert report.diagnosis.sentence.endswith("with ds with the opposite sign")  # which is the mistake itself
    else:
        assert report.diagnosis.sentence == ", ".join(sorted(wanted))


def test_a_factor_that_is_another_in_each_case_or_row_is_not_named():
    def by_length(do, q, k, v, o, lse, dlse=None, **options):
        grads = backward(do, q, k, v, o, lse, dlse, **options)
        return grads | {"v": (grads["v"] * v.shape[-2]).astype(v.dtype)}

    sentence = ar.check(forward, cases=CASES_OF_FACTORS, backward=by_length).diagnosis.sentence
    assert "times" not in sentence
    assert "arithmetic" not in sentence


@pytest.mark.parametrize(("wrong", "said"), [("causal", "the flag Causal"), ("", None)])
def test_beside_a_factor_stands_what_tells_the_cases_apart(wrong, said):
    def back(do, q, k, v, o, lse, dlse=None, **options):
        grads = backward(do, q, k, v, o, lse, dlse, **options)
        return grads | {"k": -grads["k"]} if options or not wrong else grads

    sentence = ar.check(forward, cases="causal,causal-tiles,shape-17x17", backward=back).diagnosis.sentence
    assert sentence.startswith("dk is -1 times what it should be")
    assert (said in sentence) if said else sentence == "dk is -1 times what it should be"


@pytest.mark.parametrize("change", ["-dk", "no dk from key 300 on"])
def test_a_long_case_does_not_take_for_rounding_what_is_as_large_as_the_gradient(change):
    """Its bounds in a low precision are wider than the gradients."""

    def wrong(do, q, k, v, o, lse, dlse=None, **options):
        grads = backward(do, q, k, v, o, lse, dlse, **options)
        grads["k"] = -grads["k"] if change == "-dk" else grads["k"] * (np.arange(len(k)) < 300)[:, None]
        return grads | {"k": grads["k"].astype(k.dtype)}

    sentence = ar.check(forward, cases="long-causal", length=521, backward=wrong).diagnosis.sentence
    assert "arithmetic" not in sentence
    assert ("dk is -1 times" if change == "-dk" else "dk is wrong in keys 300 to 520 of 521") in sentence


def test_a_factor_leaves_no_errors_for_rounding_and_rounding_leaves_none_for_a_factor():
    want = np.random.default_rng(3).standard_normal((37, 11))
    noise = np.random.default_rng(4).standard_normal((37, 11))
    assert share([(1e-6 * want, want), (1e-6 * want[:5], want[:5])]) == pytest.approx(1)
    assert share([(1e-6 * noise, want), (-1e-6 * want, noise)]) < 0.02
    assert share([(noise * 0, want)]) == 0
    assert share([(np.append(want, 0), np.append(want, -np.inf))]) == pytest.approx(1)


def test_a_factor_is_one_for_every_element_and_not_that_of_what_is_right():
    want, bound = np.random.default_rng(2).standard_normal((5, 3)), np.full((5, 3), 1e-9)
    assert factor(2.5 * want, want, bound) == pytest.approx(2.5)
    assert factor(want + 0.5e-9, want, bound) is None
    assert factor(want * [[1], [1], [1], [1], [2]], want, bound) is None
    assert factor(want[:4], want, bound) is None
    assert factor(want * np.nan, want, bound) is None
    assert factor(2.5 * want, want, None) is None
    for size in (1e-200, 1e200):
        assert factor(2.5 * size * want, size * want, size * bound) == pytest.approx(2.5)
    dead = np.append(want, [[-np.inf] * 3], axis=0)
    bounds = np.append(bound, [[0.0] * 3], axis=0)
    assert factor(0.7 * dead, dead, bounds) == pytest.approx(0.7)
    assert factor(np.where(np.isfinite(dead), 0.7 * dead, -1e30), dead, bounds) is None


def test_a_factor_near_1_is_not_called_1():
    assert [times(c) for c in (0.25, 1 + 3e-6, 1 - 3e-6, -1, 1.442695)] == [
        "0.25 times", "1 + 3e-06 times", "1 - 3e-06 times", "-1 times", "1.443 (1/ln 2) times"
    ]  # fmt: skip


def test_the_diagnosis_names_the_gradient_and_the_place():
    def wrong(do, q, k, v, o, lse, dlse=None, **options):
        grads = backward(do, q, k, v, o, lse, dlse, **options)
        dv = grads["v"].copy()
        dv[:, 1] *= 2
        return grads | {"v": dv}

    report = ar.check(forward, cases="shape-17x17,shape-35x35,width-8x16", backward=wrong)
    assert "every case that could be run fails" in report.diagnosis.sentence.lower()
    assert "dv is wrong in head 1 of 3 (3 cases)" in report.diagnosis.sentence
    where = [c.where for run in report.runs for c in run.results if c.where]
    assert where[0].endswith("only in head 1 of 3")


def test_the_worst_element_and_its_bound_are_right():
    def wrong(q, k, v):
        o, _ = forward(q, k, v)
        o = o.copy()
        o[1, 2, 3, 4] += np.float32(0.5)
        return o

    found = ar.check(wrong, cases="shape-15x15").runs[0].results[0]
    assert found.worst.index == (1, 2, 3, 4)
    assert found.worst.error == pytest.approx(0.5, abs=1e-6)
    assert found.worst.got - found.worst.want == pytest.approx(0.5, abs=1e-6)
    assert found.worst.score == found.worst.error / found.worst.bound
    assert found.worst.term == "arithmetic"
    assert (found.wrong, found.size) == (1, 990)
    assert found.where == "1 of 990 elements, only in batch entry 1 of 2, head 2 of 3, row 3 of 15, column 4 of 11"


def test_a_doubtful_candidate_is_suspicious_and_passes():
    """Off by less than the worst that roundings can add up to, by more than they do."""

    def doubtful(q, k, v):
        inputs = {"q": q, "k": k, "v": v}
        return (forward(**inputs)[0] + 0.97 * bound("scaled_dot", inputs)["o"]).astype(q.dtype)

    report = ar.check(doubtful, cases="values-integers,shape-131x67")
    suspicious = [run for run in report.runs if run.verdict == "suspicious"]
    assert suspicious, str(report)
    assert report.passed
    assert "times the statistical band" in suspicious[0].sentence
    assert "Suspicious" in str(report)


def test_what_the_oracle_declares_about_the_arithmetic_decides():
    def single_inside(q, k, v):
        return forward(*(x.astype(np.float32) for x in (q, k, v)))[0].astype(np.float64)

    assert not ar.check(single_inside, cases="shape-17x17", dtypes="float64").passed
    assert ar.check(single_inside, cases="core", dtypes="float64", models={"float64": "f32"}).passed


def test_cores_are_the_right_ones():
    assert len(CORES) >= 20
