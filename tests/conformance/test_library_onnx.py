"""ONNX's reference evaluator for Attention and RotaryEmbedding against `ar.attention` and `adjust.rotary`, in float64.

ONNX has no backward: forward only. It multiplies q and k by the square root of the scale each. Its attributes are
float32, and the reference takes that root in float32: the scales here have an exact root, except where a test says so.
"""

import numpy as np
import pytest
from agreement import agree, relative
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import attention_ref as ar
from attention_ref.adjust.rotary import rotary_angles

pytestmark = pytest.mark.onnx

INPUTS = ("q", "k", "v", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")
OUTPUTS = ("o", "present_key", "present_value", "qk")
KINDS = {"f": TensorProto.DOUBLE, "b": TensorProto.BOOL, "i": TensorProto.INT64}
INF = float("inf")


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def qkv(seed=0, heads=2, queries=5, keys=11):
    return dict(zip("qkv", draw(seed, (2, 6, queries, 7), (2, heads, keys, 7), (2, heads, keys, 3)), strict=True))


def evaluate(op, names, arrays, outputs, opset, attributes):
    """One node, run by the reference evaluator."""
    present = [name if name in arrays else "" for name in names]
    while not present[-1]:
        present.pop()
    node = helper.make_node(op, present, outputs, **attributes)
    ins = [helper.make_tensor_value_info(name, KINDS[x.dtype.kind], x.shape) for name, x in arrays.items()]
    outs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in outputs]
    graph = helper.make_graph([node], op, ins, outs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return dict(zip(outputs, ReferenceEvaluator(model).run(None, arrays), strict=True))


def attention(arrays, opset=24, **attributes):
    return evaluate("Attention", INPUTS, arrays, OUTPUTS, opset, attributes)


def mask(shape, dead=False):
    keep = np.random.default_rng(len(shape)).random(shape) < 0.6
    keep[..., 0] = True
    if dead:
        keep[..., 1, :] = False
    return keep


def bias(shape, dead=False):
    return np.where(mask(shape, dead), draw(len(shape), shape)[0], -INF)


ALL = (
    {"attn_mask": bias((6, 5, 11)), "is_causal": 1, "scale": 0.5625, "softcap": 1.5},
    {"bias": bias((6, 5, 11)), "causal": True, "align": "top_left", "scale": 0.5625, "softcap": 1.5},
)
OPTIONS = {
    "plain": ({}, {}),
    "scale": ({"scale": 0.5625}, {"scale": 0.5625}),
    "softcap": ({"softcap": 1.5}, {"softcap": 1.5}),
    "causal": ({"is_causal": 1}, {"causal": True, "align": "top_left"}),
    "mask": ({"attn_mask": mask((5, 11))}, {"allowed": mask((5, 11))}),
    "mask of each head": ({"attn_mask": mask((6, 5, 11))}, {"allowed": mask((6, 5, 11))}),
    "mask of each batch": ({"attn_mask": mask((2, 1, 5, 11))}, {"allowed": mask((2, 1, 5, 11))}),
    "mask, dead rows": ({"attn_mask": mask((2, 6, 5, 11), True)}, {"allowed": mask((2, 6, 5, 11), True)}),
    "causal and mask": (
        {"attn_mask": mask((5, 11)), "is_causal": 1},
        {"allowed": mask((5, 11)), "causal": True, "align": "top_left"},
    ),
    "bias": ({"attn_mask": draw(1, (2, 6, 5, 11))[0]}, {"bias": draw(1, (2, 6, 5, 11))[0]}),
    "bias, dead rows": ({"attn_mask": bias((6, 5, 11), True)}, {"bias": bias((6, 5, 11), True)}),
    "all": ALL,
}


def split(theirs):
    """(tensors, attributes)"""
    return tuple({n: x for n, x in theirs.items() if (n in INPUTS) == tensors} for tensors in (True, False))


@pytest.mark.parametrize("opset", [23, 24, 25])
@pytest.mark.parametrize("heads", [1, 2, 6])
@pytest.mark.parametrize("name", OPTIONS)
def test_attention(name, heads, opset):
    theirs, ours = OPTIONS[name]
    arrays, (tensors, attributes) = qkv(heads=heads), split(theirs)
    found = attention(arrays | tensors, opset, **attributes)
    agree({"o": ar.attention(**arrays, **ours).o}, {"o": found["o"]})


@pytest.mark.parametrize("name", OPTIONS)
def test_three_axes_hold_the_heads_side_by_side(name):
    theirs, ours = OPTIONS[name]
    arrays, (tensors, attributes) = qkv(1), split(theirs)
    flat = {n: np.swapaxes(x, 1, 2).reshape(2, x.shape[2], -1) for n, x in arrays.items()}
    found = attention(flat | tensors, q_num_heads=6, kv_num_heads=2, **attributes)
    o = ar.attention(**arrays, **ours).o
    agree({"o": np.swapaxes(o, 1, 2).reshape(2, 5, -1)}, {"o": found["o"]})


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_qk_matmul_output_is_a_stage_of_the_tape(name, mode):
    """0 is the scaled score, 1 is behind the softcap, 2 behind bias and mask, 3 the weights.

    With a softcap, this reference gives in mode 0 what mode 1 is; where the stage was left out, it is the one before.
    """
    theirs, ours = OPTIONS[name]
    arrays, (tensors, attributes) = qkv(2), split(theirs)
    found = attention(arrays | tensors, qk_matmul_output_mode=mode, **attributes)["qk"]
    tape = ar.attention(**arrays, **ours).tape
    stages = ("scaled", "capped", "biased", "masked", "alpha")[: (2, 2, 4, 5)[mode]]
    last = next(stage for stage in reversed(stages) if stage in tape)
    agree({last: tape[last]}, {last: found})
    if mode == 0 and "softcap" in theirs:
        assert relative(tape["scaled"], found) > 0.01


@pytest.mark.parametrize("past", [0, 1, 6, 13])
@pytest.mark.parametrize("queries", [1, 5])
def test_a_past_is_a_cache_and_moves_the_causal_offset(queries, past):
    """A query sits behind the past, wherever the new keys end: align is the length of the past."""
    arrays = qkv(3, queries=queries, keys=queries + 2)
    old = dict(zip(("past_key", "past_value"), draw(4, (2, 2, past, 7), (2, 2, past, 3)), strict=True))
    found = attention(arrays | old, is_causal=1)
    k, v = (ar.cache.append(*pair) for pair in ((old["past_key"], arrays["k"]), (old["past_value"], arrays["v"])))
    agree({"present_key": k, "present_value": v}, {name: found[name] for name in ("present_key", "present_value")})
    agree({"o": ar.attention(arrays["q"], k, v, causal=True, align=past).o}, {"o": found["o"]})
    assert relative(ar.attention(arrays["q"], k, v, causal=True, align="bottom_right").o, found["o"]) > 0.001


def test_a_mask_shorter_than_the_keys_forbids_the_rest():
    arrays, short = qkv(5), mask((5, 7))
    wide = np.pad(short, ((0, 0), (0, 4)))
    agree({"o": ar.attention(**arrays, allowed=wide).o}, {"o": attention(arrays | {"attn_mask": short})["o"]})


VALID = np.array([9, 3])


@pytest.mark.parametrize("opset", [24, 25])
@pytest.mark.parametrize("valid", [VALID, np.array([0, 11])], ids=str)
@pytest.mark.parametrize("causal", [0, 1])
def test_nonpad_kv_seqlen_is_k_lengths(causal, valid, opset):
    """And causal is bottom-right by these lengths then, with rows that see nothing where queries are more than keys."""
    arrays = qkv(6)
    ours = {"k_lengths": valid[:, None]} | ({"causal": True, "align": "bottom_right"} if causal else {})
    found = attention(arrays | {"nonpad_kv_seqlen": valid}, opset, is_causal=causal, qk_matmul_output_mode=3)
    a = ar.attention(**arrays, **ours)
    agree({"o": a.o, "alpha": a.alpha}, {"o": found["o"], "alpha": found["qk"]})
    assert np.array_equal(np.isneginf(a.lse), ~found["qk"].any(-1))


@pytest.mark.parametrize(("left", "right"), [(2, 1), (0, 0), (-1, 1), (3, -1), (-1, -1), (4, 0)])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("placed", ["alone", "past", "lengths"])
def test_window(placed, causal, left, right):
    """Inclusive on both sides, -1 is unlimited; at the causal offset, whether or not it is causal."""
    arrays, more = qkv(7), {}
    k, v, ours = arrays["k"], arrays["v"], {"align": "top_left"}
    if placed == "past":
        more = dict(zip(("past_key", "past_value"), draw(8, (2, 2, 4, 7), (2, 2, 4, 3)), strict=True))
        k, v = (ar.cache.append(*pair) for pair in ((more["past_key"], k), (more["past_value"], v)))
        ours = {"align": 4}
    if placed == "lengths":
        more, ours = {"nonpad_kv_seqlen": VALID}, {"align": "bottom_right", "k_lengths": VALID[:, None]}
    ours |= {"window": tuple(None if n < 0 else n for n in (left, right)), "causal": bool(causal)}
    found = attention(arrays | more, 25, left_window_size=left, right_window_size=right, is_causal=causal)
    agree({"o": ar.attention(arrays["q"], k, v, **ours).o}, {"o": found["o"]})


def test_the_scale_attribute_and_its_root_are_float32():
    arrays = qkv(9)
    found = attention(arrays, scale=0.1)["o"]
    agree({"o": ar.attention(**arrays, scale=float(np.sqrt(np.float32(0.1))) ** 2).o}, {"o": found})
    assert 1e-11 < relative(ar.attention(**arrays, scale=0.1).o, found) < 2.0**-24


def test_a_negative_scale_is_nan_in_theirs():
    """They take its square root."""
    arrays = qkv(10)
    with np.errstate(invalid="ignore"):
        assert np.isnan(attention(arrays, scale=-0.5)["o"]).all()
    flipped = ar.attention(-arrays["q"], arrays["k"], arrays["v"], scale=0.5).o
    agree({"o": ar.attention(**arrays, scale=-0.5).o}, {"o": flipped})


def test_a_masked_nan_leaks_from_theirs_and_not_from_ours():
    arrays, keep = qkv(11), mask((5, 11))
    keep[:, 4] = False
    clean = ar.attention(**arrays, allowed=keep).o
    arrays["v"][:, :, 4] = np.nan
    assert np.isnan(attention(arrays | {"attn_mask": keep})["o"]).all()
    agree({"o": ar.attention(**arrays, allowed=keep).o}, {"o": clean})


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("width", [12, 8, 2])
@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("axes", [3, 4])
def test_rotary(axes, by_position, width, interleaved, opset):
    """Their caches have no axis for the heads, and a row for every position where position_ids pick the rows."""
    (x,) = draw(12, (2, 6, 5, 12))
    positions = np.array([[0, 1, 2, 3, 4], [7, 3, 11, 0, 19]])
    cos, sin = rotary_angles(positions, width)
    theirs = dict(zip(("cos", "sin"), rotary_angles(np.arange(23), width) if by_position else (cos, sin), strict=True))
    if by_position:
        theirs["position_ids"] = positions
    flat = np.swapaxes(x, 1, 2).reshape(2, 5, 72)
    attributes = {"interleaved": interleaved, "num_heads": 6 if axes == 3 else 0}
    attributes["rotary_embedding_dim"] = width if width < 12 else 0
    arrays = {"x": x if axes == 4 else flat} | theirs
    found = evaluate("RotaryEmbedding", ("x", "cos", "sin", "position_ids"), arrays, ["y"], opset, attributes)
    y, _ = ar.ops["adjust.rotary"].forward(x=x, cos=cos[:, None], sin=sin[:, None], interleaved=bool(interleaved))
    agree({"y": y if axes == 4 else np.swapaxes(y, 1, 2).reshape(2, 5, 72)}, found)
