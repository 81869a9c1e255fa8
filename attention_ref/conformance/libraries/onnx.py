"""ONNX: the Attention operator of opsets 23, 24 and 25, by the reference evaluator and by ONNX Runtime.

Forward only. The scale is an attribute, and every attribute is float32.
"""

from functools import lru_cache

import numpy as np

from attention_ref.conformance.libraries.preset import (
    BY_OPERATION,
    DEAD,
    LEAK,
    Known,
    Preset,
    four_axes,
    number,
    refuse,
    top_left,
    with_four_axes,
)

TESTED = "1.23.2"
TESTED_RUNTIME = "1.31.1"
INPUTS = ("q", "k", "v", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")
IR_VERSION = 10


def attention(
    run, opset, q, k, v, *, allowed=None, bias=None, causal=False, window=None, align=None, k_lengths=None, **numbers
):
    (q, k, v), original = four_axes(np.broadcast_to, q, k, v)
    queries, keys = q.shape[-2], k.shape[-2]
    attributes = {name: float(number(name, x)) for name, x in numbers.items() if x is not None}
    arrays = {"q": q, "k": k, "v": v}
    if allowed is not None and bias is not None:
        refuse("it takes one mask: boolean or additive")
    if allowed is not None or bias is not None:
        arrays["attn_mask"] = whole_rows(with_four_axes(allowed if bias is None else bias), queries, keys)
    if k_lengths is not None:
        if opset < 24:
            refuse("it has no lengths before opset 24")
        arrays["nonpad_kv_seqlen"] = np.broadcast_to(k_lengths[..., 0], len(q)).astype(np.int64)
    if causal or window is not None:
        what = "what is positional"
        if k_lengths is None:
            top_left(queries, keys, align, what)
        elif align != "bottom_right":
            refuse("what is positional is aligned by the lengths there")
        attributes["is_causal"] = int(causal)
    if window is not None:
        if opset < 25:
            refuse("it has no window before opset 25")
        sides = ("left_window_size", "right_window_size")
        attributes |= {side: -1 if n is None else n for side, n in zip(sides, window, strict=True)}
    if "scale" in attributes and attributes["scale"] < 0:
        refuse("it takes the square root of the scale")
    kinds = tuple((name, x.dtype.name, x.shape) for name, x in arrays.items())
    return original(run(model(opset, kinds, tuple(attributes.items())), arrays))


def whole_rows(mask, queries, keys):
    """A mask with all its rows and columns: one column means one key there, and ONNX Runtime repeats no row."""
    return np.broadcast_to(mask, (*mask.shape[:-2], queries, keys))


def options(run, opset):
    """The call of one opset, with the options that it has."""

    def call(
        q,
        k,
        v,
        *,
        allowed=None,
        bias=None,
        causal=False,
        window=None,
        align=None,
        k_lengths=None,
        scale=None,
        softcap=None,
    ):
        given = {"allowed": allowed, "bias": bias, "causal": causal, "window": window, "align": align}
        return attention(run, opset, q, k, v, **given, k_lengths=k_lengths, scale=scale, softcap=softcap)

    return call


@lru_cache(maxsize=8)
def model(opset, kinds, attributes):
    """A model of one Attention node, for these names, dtypes and shapes."""
    from onnx import helper

    types = {name: helper.np_dtype_to_tensor_dtype(dtype_of(dtype)) for name, dtype, _ in kinds}
    present = [name if name in types else "" for name in INPUTS]
    while not present[-1]:
        present.pop()
    node = helper.make_node("Attention", present, ["o"], **dict(attributes))
    ins = [helper.make_tensor_value_info(name, types[name], shape) for name, _, shape in kinds]
    outs = [helper.make_tensor_value_info("o", types["q"], None)]
    graph = helper.make_graph([node], "attention", ins, outs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    return Model(made)


class Model:
    """A model, compared by identity."""

    def __init__(self, proto):
        self.proto = proto


def dtype_of(name):
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


@lru_cache(maxsize=8)
def evaluator(model):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model.proto)


@lru_cache(maxsize=8)
def session(model):
    from attention_ref.backend.onnxruntime import OnnxRuntime

    runtime = OnnxRuntime().xp.capi.onnxruntime_pybind11_state
    try:
        return OnnxRuntime().session(model.proto)
    except (runtime.NotImplemented, runtime.InvalidGraph, runtime.Fail) as error:
        refuse("it " + " ".join(str(error).partition(":")[2].split())[:120])


def by_reference(model, arrays):
    return evaluator(model).run(None, arrays)[0]


def by_runtime(model, arrays):
    return session(model).run(None, {name: np.ascontiguousarray(x) for name, x in arrays.items()})[0]


NAN_ROWS = Known(
    "in float64 a row with nothing allowed is NaN, where the operator, and its kernel in float32, give 0",
    DEAD,
    dtypes=("float64",),
    nan_from="empty rows",
)
OPSETS = (23, 24, 25)
NARROW_SCALE = Known(
    "the scale is an attribute, which is a float32, and its root is taken in float32: 1e-8 off in float64",
    options=("scale",),
    dtypes=("float64",),
    model="f32",
)
PRESETS = (
    *(
        Preset(
            f"onnx.Attention-{n}",
            "onnx",
            options(by_reference, n),
            "",
            TESTED,
            models=BY_OPERATION,
            known=(LEAK, NARROW_SCALE),
        )
        for n in OPSETS
    ),
    *(
        Preset(
            f"onnxruntime.Attention-{n}",
            "onnxruntime",
            options(by_runtime, n),
            "",
            TESTED_RUNTIME,
            dtypes=("float32", "float64", "float16"),
            needs=("onnx",),
            models={**BY_OPERATION, "float64": "f32"},
            known=(LEAK, NAN_ROWS),
            note="scales are float32, so float64 is bounded as float32",
        )
        for n in OPSETS
    ),
)
