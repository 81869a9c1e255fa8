"""tinygrad: Tensor.scaled_dot_product_attention."""

from attention_ref.conformance.libraries.preset import (
    BY_OPERATION,
    DEAD,
    LEAK,
    Known,
    Preset,
    four_axes,
    refuse,
    top_left,
)

TESTED = "0.13.0"


def sdpa(function, q, k, v, *, allowed=None, bias=None, causal=False, align=None):
    (q, k, v), original = four_axes(lambda x, shape: x.expand(shape), q, k, v)
    if (allowed is not None) + (bias is not None) + causal > 1:
        refuse("it takes one mask: boolean, additive or causal")
    if causal:
        top_left(q.shape[-2], k.shape[-2], align)
    mask = allowed if bias is None else bias
    return original(function(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]))


NAN_ROWS = Known("a row with nothing allowed is NaN, and so are the gradients it reaches", DEAD, nan_from="empty rows")

PRESETS = (
    Preset(
        "tinygrad.sdpa",
        "tinygrad",
        sdpa,
        "tinygrad:Tensor.scaled_dot_product_attention",
        TESTED,
        rules={"scaled_dot": {}},
        dtypes=("float32", "float64", "float16"),
        models=BY_OPERATION,
        known=(LEAK, NAN_ROWS),
        note="its softmax is in the dtype of the inputs, so narrow ones are bounded operation by operation; its "
        "x86 assembler rounds float16 products too before they are added: dq of values-tiny is 2.4 times the bound",
    ),
)
