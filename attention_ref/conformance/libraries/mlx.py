"""MLX: mx.fast.scaled_dot_product_attention."""

from attention_ref.conformance.libraries.preset import (
    BY_OPERATION,
    DEAD,
    LEAK,
    NAN_BIAS,
    UNIFORM,
    Known,
    Preset,
    bottom_right,
    four_axes,
    number,
    refuse,
    with_four_axes,
)

TESTED = "0.32.4"


def sdpa(function, q, k, v, *, allowed=None, bias=None, causal=False, align=None, scale=None, sink=None):
    import mlx.core as mx

    (q, k, v), original = four_axes(mx.broadcast_to, q, k, v)
    if (allowed is not None) + (bias is not None) + causal > 1:
        refuse("it takes one mask: boolean, additive or causal")
    if causal:
        bottom_right(q.shape[-2], k.shape[-2], align)
    mask = "causal" if causal else with_four_axes(allowed if bias is None else bias)
    scale = q.shape[-1] ** -0.5 if scale is None else number("scale", scale)
    return original(function(q, k, v, scale=scale, mask=mask, sinks=sink))


MEAN = Known(
    "a row with nothing allowed by a boolean mask, or by causal, gives the mean of all values, and dv its share",
    DEAD,
    ("allowed", "causal"),
    convention=UNIFORM,
    link="https://github.com/ml-explore/mlx/issues/2395",
)

PRESETS = (
    Preset(
        "mlx.sdpa",
        "mlx",
        sdpa,
        "mlx.core:fast.scaled_dot_product_attention",
        TESTED,
        dtypes=("float32", "float16", "bfloat16"),
        models=BY_OPERATION,
        known=(LEAK, MEAN, NAN_BIAS),
        note="on a CPU every operation rounds to the narrow dtype, and is bounded so",
    ),
)
