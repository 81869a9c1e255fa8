"""Keras 3: ops.dot_product_attention and the attention layers, on the backend that KERAS_BACKEND names.

Layers with projections get identity matrices, which leave every number as it is.
"""

from dataclasses import replace

import numpy as np

from attention_ref.conformance.libraries.preset import (
    BY_OPERATION,
    DEAD,
    LEAK,
    NAN_BIAS,
    NARROW_DV,
    SCALED_DOT,
    UNIFORM,
    Known,
    Preset,
    equal_widths,
    four_axes,
    number,
    opened,
    refuse,
    top_left,
    with_four_axes,
    without_masks,
)
from attention_ref.pipeline.attention import attention as oracle

TESTED = "3.15.1"
SCORES = {"scaled_dot": "scaled", "dot": "score", "additive": "score"}
MODELS = {**BY_OPERATION, "float64": "f32"}


def pad(x, n):
    from keras import ops

    return ops.pad(x, [(0, 0)] * (len(x.shape) - 1) + [(0, n)])


def joined(q, k, v):
    from keras import ops

    return four_axes(ops.broadcast_to, q, k, v)


def on_torch():
    from keras import config

    return config.backend() == "torch"


def dtype_of(x):
    from keras import backend

    return backend.standardize_dtype(x.dtype)


def swapped(x):
    """(batch, head, row, width) to (batch, row, head, width), and back."""
    from keras import ops

    return ops.transpose(x, (0, 2, 1, 3))


def side_by_side(x):
    """(batch, row, head * width)"""
    from keras import ops

    batch, heads, rows, width = x.shape
    return ops.reshape(swapped(x), (batch, rows, heads * width))


def own_heads(q, k):
    if q.shape[1] != k.shape[1]:
        refuse("it has no grouped heads")


def dot_product_attention(function, q, k, v, *, allowed=None, bias=None, causal=False, align=None, scale=None):
    (q, k, v), original = joined(q, k, v)
    if allowed is not None and bias is not None and on_torch():
        refuse("on torch it takes a mask or a bias, not both")
    if causal:
        top_left(q.shape[2], k.shape[2], align)
    q, k, v, scale, values = equal_widths(pad, q, k, v, number("scale", scale))
    o = function(
        *(swapped(x) for x in (q, k, v)),
        bias=with_four_axes(bias),
        mask=with_four_axes(allowed),
        scale=scale,
        is_causal=causal,
    )
    return original(swapped(o)[..., :values])


def lengths_mask(k, k_lengths):
    from keras import ops

    return None if k_lengths is None else ops.arange(k.shape[-2])[None] < k_lengths


def folded(layer, q, k, v, causal, align, k_lengths):
    """A layer without heads, its batch the sequences' and the heads' together; inputs in the order q, v, k."""
    from keras import ops

    (q, k, v), original = joined(q, k, v)
    own_heads(q, k)
    if causal:
        top_left(q.shape[2], k.shape[2], align)
    batch, heads = q.shape[:2]
    flat = [ops.reshape(x, (batch * heads, *x.shape[2:])) for x in (q, v, k)]
    keep = lengths_mask(k, k_lengths)
    mask = None if keep is None else [None, ops.repeat(keep, heads, axis=0)]
    o, alpha = layer(flat, mask=mask, use_causal_mask=causal, return_attention_scores=True)
    found = {"o": o, "alpha": alpha}
    return {name: original(ops.reshape(x, (batch, heads, *x.shape[1:]))) for name, x in found.items()}


def attention(layer, q, k, v, *, causal=False, align=None, k_lengths=None):
    layer = layer(use_scale=False, score_mode="dot", dtype=dtype_of(q))
    return folded(layer, q, k, v, causal, align, k_lengths)


def additive(layer, q, k, v, *, w_q, w_k, b, w_s, causal=False, align=None, k_lengths=None):
    """It has the vector w_s, and no projections: they come before."""
    from keras import ops

    (q, k, v), original = joined(q, k, v)
    layer = layer(use_scale=True, dtype=dtype_of(q))
    q, k = ops.matmul(q, ops.transpose(w_q)), ops.matmul(k, ops.transpose(w_k)) + b
    layer.build([(None, *x.shape[2:]) for x in (q, v, k)])
    layer.scale = w_s
    found = folded(layer, q, k, v, causal, align, k_lengths)
    return {name: original(x) for name, x in found.items()}


def blocks(heads, width):
    """The identity as a projection from heads side by side to heads: [m h d]."""
    return np.eye(heads * width).reshape(heads * width, heads, width)


def multi_head(layer, q, k, v, *, allowed=None, causal=False, align=None, k_lengths=None):
    (q, k, v), original = joined(q, k, v)
    own_heads(q, k)
    if causal:
        top_left(q.shape[2], k.shape[2], align)
    heads, width, values = q.shape[1], q.shape[-1], v.shape[-1]
    layer = layer(
        heads, width, values, use_bias=False, kernel_initializer="zeros", output_shape=heads * values, dtype=dtype_of(q)
    )
    q, k, v = (side_by_side(x) for x in (q, k, v))
    layer.build(q.shape, v.shape, k.shape)
    of_k, of_v = blocks(heads, width), blocks(heads, values)
    layer.set_weights([of_k, of_k, of_v, np.moveaxis(of_v, 0, -1)])
    return called(layer, q, k, v, (allowed, causal, k_lengths), original, heads)


def grouped(layer, q, k, v, *, allowed=None, causal=False, align=None, k_lengths=None):
    (q, k, v), original = joined(q, k, v)
    if causal:
        top_left(q.shape[2], k.shape[2], align)
    heads, few, width, values = q.shape[1], k.shape[1], q.shape[-1], v.shape[-1]
    if values > width:
        refuse("it has no values wider than the keys")
    v = pad(v, width - values)
    layer = layer(width, heads, few, use_bias=False, kernel_initializer="zeros", dtype=dtype_of(q))
    q, k, v = (side_by_side(x) for x in (q, k, v))
    layer.build(q.shape, v.shape, k.shape)
    of_q, of_k = blocks(heads, width), blocks(few, width)
    layer.set_weights([of_q, of_k, of_k, np.moveaxis(of_q, 0, -1)])
    found = called(layer, q, k, v, (allowed, causal, k_lengths), original, heads)
    return found | {"o": found["o"][..., :values]}


def called(layer, q, k, v, masks, original, heads):
    """A layer with heads, called, and its results with the heads in front again."""
    from keras import ops

    allowed, causal, k_lengths = masks
    allowed = with_four_axes(allowed)
    o, alpha = layer(
        q,
        v,
        k,
        attention_mask=allowed,
        value_mask=lengths_mask(k, k_lengths),
        use_causal_mask=causal,
        return_attention_scores=True,
    )
    batch, rows, width = o.shape
    o = swapped(ops.reshape(o, (batch, rows, heads, width // heads)))
    return {"o": original(o), "alpha": original(alpha)}


MEAN = Known(
    "a row with nothing allowed gives the mean of all values, and dv has its share: a large negative number swallows "
    "the scores",
    DEAD,
    convention=UNIFORM,
)
NAN_ROWS = Known(
    "on torch, in float16, a row with nothing allowed is NaN, and so are the gradients it reaches: 1e9 is inf there",
    DEAD,
    dtypes=("float16",),
    nan_from="empty rows",
)
NARROW = Known("float64 is computed in float32 and comes back as float32", dtypes=("float64",), returns="float32")


def level(inputs, allowed, rule):
    """As if a row with nothing allowed had equal scores: what is added swallows them, but their gradient flows on."""
    dead = ~allowed.any(axis=-1, keepdims=True)
    arrays = {name: x.astype(np.float64) for name, x in inputs.arrays.items()}
    s = oracle(**arrays, rule=rule, **without_masks(inputs).options).tape[SCORES[rule.name]]
    return without_masks(inputs, allowed=allowed | dead, bias=np.where(dead, -s, 0))


def swamped(inputs, allowed, rule):
    """As `level`, but that the backward takes each weight for 1: lse is a number that swallows log(keys)."""
    dead, keys = ~allowed.any(axis=-1, keepdims=True), allowed.shape[-1]
    return replace(level(inputs, allowed, rule), do=np.where(dead, inputs.do * keys, inputs.do))


def lowered(inputs, allowed, rule):
    """As if a mask were the number that Keras has for float16, added to the scores."""
    return without_masks(inputs, bias=np.where(allowed, 0, float(np.float16(-0.7 * 65500))))


SWAMPED = Known(
    "on torch a row with nothing allowed gives the mean of all values, and the gradients take each weight for 1: the "
    "mask is -2.4e38, and lse with it",
    DEAD,
    ("allowed",),
    dtypes=("float32", "float64", "bfloat16"),
    convention=swamped,
)
LEVEL = Known(
    "a row with nothing allowed gives the mean of all values, and all gradients their share: 1e9 is taken from "
    "its scores",
    DEAD,
    convention=level,
)
OPEN = Known(
    "in float64 a row with nothing allowed attends to everything: 1e9 is taken from all of its scores alike",
    DEAD,
    dtypes=("float64",),
    convention=opened,
)
LOWERED = Known(
    "on torch, in float16, a row with nothing allowed attends to everything: -45856 is added to each of its scores",
    DEAD,
    ("allowed",),
    dtypes=("float16",),
    convention=lowered,
)

FOLDED = (LEAK, LEVEL, OPEN, NAN_ROWS, NARROW)
HEADS = (replace(LEAK, spreads_across_heads=True),)

PRESETS = (
    Preset(
        "keras.dot_product_attention",
        "keras",
        dot_product_attention,
        "keras.ops:dot_product_attention",
        TESTED,
        models={"float64": "f32"},
        known=(LEAK, MEAN, NAN_BIAS, SWAMPED, LOWERED, NARROW, NARROW_DV),
    ),
    Preset(
        "keras.Attention",
        "keras",
        attention,
        "keras.layers:Attention",
        TESTED,
        rules={"dot": {}},
        models=MODELS,
        known=FOLDED,
    ),
    Preset(
        "keras.AdditiveAttention",
        "keras",
        additive,
        "keras.layers:AdditiveAttention",
        TESTED,
        rules={"additive": {}},
        models=MODELS,
        known=FOLDED,
    ),
    Preset(
        "keras.MultiHeadAttention",
        "keras",
        multi_head,
        "keras.layers:MultiHeadAttention",
        TESTED,
        rules={"scaled_dot": SCALED_DOT["scaled_dot"]},
        models=BY_OPERATION,
        known=HEADS,
    ),
    Preset(
        "keras.GroupQueryAttention",
        "keras",
        grouped,
        "keras.layers:GroupQueryAttention",
        TESTED,
        rules={"scaled_dot": SCALED_DOT["scaled_dot"]},
        models=BY_OPERATION,
        known=HEADS,
    ),
)
