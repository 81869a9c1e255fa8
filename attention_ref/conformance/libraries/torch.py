"""PyTorch: scaled_dot_product_attention by backend, flex_attention, MultiheadAttention."""

import warnings
from dataclasses import replace

from attention_ref.backend.declare import declared, declaring
from attention_ref.conformance.libraries.preset import (
    BY_OPERATION,
    DEAD,
    NARROW_DV,
    Known,
    Preset,
    equal_widths,
    four_axes,
    number,
    offset_of,
    refuse,
    top_left,
)

TESTED = "2.13.0"
FLEX = "torch.nn.attention.flex_attention:flex_attention"
SDPA = "torch.nn.functional:scaled_dot_product_attention"


def masked(allowed, bias):
    """One mask from a boolean one and an additive one: torch has one argument for both."""
    if allowed is None or bias is None:
        return allowed if bias is None else bias
    return bias.expand(*_joint(bias, allowed)).masked_fill(~allowed, float("-inf"))


def _joint(a, b):
    import torch

    return torch.broadcast_shapes(a.shape, b.shape)


def grouped(q, k):
    return q.ndim > 2 and q.shape[-3] != k.shape[-3]


def sdpa(function, q, k, v, *, allowed=None, bias=None, causal=False, align=None, scale=None):
    if causal and (allowed is not None or bias is not None):
        refuse("it takes a mask or is_causal, not both")
    if causal:
        top_left(q.shape[-2], k.shape[-2], align)
    (q, k, v), original = joined(q, k, v)
    mask = masked(allowed, bias)
    return original(
        function(q, k, v, attn_mask=mask, is_causal=causal, scale=number("scale", scale), enable_gqa=grouped(q, k))
    )


def joined(q, k, v):
    import torch

    return four_axes(torch.broadcast_to, q, k, v)


def pad(x, n):
    import torch

    return torch.nn.functional.pad(x, (0, n))


def by_backend(name, padded):
    def call(function, q, k, v, *, allowed=None, bias=None, causal=False, align=None, scale=None):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        scale, values = number("scale", scale), v.shape[-1]
        if padded:
            q, k, v, scale, values = equal_widths(pad, q, k, v, scale)
        try:
            with sdpa_kernel(getattr(SDPBackend, name)), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                o = sdpa(function, q, k, v, allowed=allowed, bias=bias, causal=causal, align=align, scale=scale)
        except RuntimeError as error:
            if "No available kernel" in str(error) or "No viable backend" in str(error):
                refuse(f"the {name} backend has no kernel for these arguments")
            raise
        return o[..., :values]

    return call


def flex(
    function,
    q,
    k,
    v,
    *,
    allowed=None,
    bias=None,
    causal=False,
    window=None,
    align=None,
    q_lengths=None,
    k_lengths=None,
    q_segments=None,
    k_segments=None,
    alibi_slopes=None,
    softcap=None,
    scale=None,
):
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    (q, k, v), original = joined(q, k, v)
    queries, keys = q.shape[-2], k.shape[-2]
    offset = offset_of(queries, keys, align)
    if align == "bottom_right" and (q_lengths is not None or k_lengths is not None):
        refuse("an offset by lengths is not written here")
    whole = (len(q), q.shape[1], queries, keys)
    allowed, bias = (None if x is None else x.broadcast_to(whole) for x in (allowed, bias))
    left, right = window or (None, None)

    def mask_mod(b, h, i, j):
        keep = j >= 0
        if allowed is not None:
            keep = keep & allowed[b, h, i, j]
        if causal:
            keep = keep & (j <= i + offset)
        if left is not None:
            keep = keep & (j >= i + offset - left)
        if right is not None:
            keep = keep & (j <= i + offset + right)
        if k_lengths is not None:
            keep = keep & (j < k_lengths.reshape(-1)[b])
        if q_lengths is not None:
            keep = keep & (i < q_lengths.reshape(-1)[b])
        if q_segments is not None:
            keep = keep & (q_segments[i] == k_segments[j]) & (q_segments[i] >= 0)
        return keep

    def score_mod(s, b, h, i, j):
        if softcap is not None:
            s = softcap * torch.tanh(s / softcap)
        if bias is not None:
            s = s + bias[b, h, i, j]
        if alibi_slopes is not None:
            s = s - alibi_slopes[h] * (j - i - offset).abs()
        return s

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        o = function(
            q,
            k,
            v,
            score_mod=score_mod,
            block_mask=create_block_mask(mask_mod, len(q), q.shape[1], queries, keys, device=q.device),
            scale=number("scale", scale),
            enable_gqa=grouped(q, k),
        )
    return original(o)


def compiled(function, q, k, v, **options):
    """flex_attention through torch.compile, as the library says to call it; values as wide as the keys."""
    import torch

    q, k, v, scale, values = equal_widths(pad, q, k, v, number("scale", options.pop("scale", None)))
    return flex(torch.compile(function, dynamic=False), q, k, v, scale=scale, **options)[..., :values]


compiled = declaring(compiled, sorted(declared(flex, 4)), "compiled", ("function", "q", "k", "v"))


def mha(layer, q, k, v, *, allowed=None, causal=False, align=None, k_lengths=None):
    """With identity projections, which leave every number as it is; values are filled up to the width of the keys."""
    import torch

    (q, k, v), original = joined(q, k, v)
    if grouped(q, k):
        refuse("it has no grouped heads")
    batch, heads, queries, width = q.shape
    keys, values = k.shape[-2], v.shape[-1]
    if values > width:
        refuse("it has no values wider than the keys")
    if allowed is not None and causal:
        refuse("is_causal is a hint there, and the mask is then the whole mask")
    attn_mask = None
    if causal:
        top_left(queries, keys, align)
        attn_mask = torch.ones(queries, keys, dtype=torch.bool, device=q.device).triu(1)
    if allowed is not None:
        attn_mask = ~allowed.broadcast_to(batch, heads, queries, keys).reshape(-1, queries, keys)
    padding = None if k_lengths is None else torch.arange(keys, device=q.device) >= k_lengths
    layer = layer(heads * width, heads, bias=False, batch_first=True, device=q.device, dtype=q.dtype)
    eye = torch.eye(heads * width, device=q.device, dtype=q.dtype)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat([eye, eye, eye]))
        layer.out_proj.weight.copy_(eye)
    flat = [x.transpose(1, 2).reshape(batch, x.shape[2], -1) for x in (q, k, pad(v, width - values))]
    o, alpha = layer(*flat, attn_mask=attn_mask, key_padding_mask=padding, average_attn_weights=False)
    o = o.reshape(batch, queries, heads, width).transpose(1, 2)[..., :values]
    return {"o": original(o), "alpha": original(alpha)}


LEAK = Known(
    "a masked NaN or infinity in v reaches the output, and in k or q the gradients, as 0 * NaN",
    nan_from="poison",
    link="https://github.com/pytorch/pytorch/issues/101967",
)
NAN_ROWS = Known(
    "a row with nothing allowed is NaN, and so are all gradients, as need_weights=True, the default, has it",
    DEAD,
    nan_from="empty rows",
    spreads_across_heads=True,
    link="https://github.com/pytorch/pytorch/issues/41508",
)

LEAK_ACROSS = replace(LEAK, spreads_across_heads=True)

PRESETS = (
    Preset("torch.sdpa", "torch", sdpa, SDPA, TESTED, known=(LEAK,)),
    Preset("torch.sdpa.math", "torch", by_backend("MATH", False), SDPA, TESTED, known=(LEAK,)),
    Preset("torch.sdpa.flash", "torch", by_backend("FLASH_ATTENTION", True), SDPA, TESTED, known=(LEAK, NARROW_DV)),
    Preset(
        "torch.sdpa.efficient",
        "torch",
        by_backend("EFFICIENT_ATTENTION", False),
        SDPA,
        TESTED,
        dtypes=("float32", "float16", "bfloat16"),
        device="cuda",
    ),
    Preset(
        "torch.sdpa.cudnn",
        "torch",
        by_backend("CUDNN_ATTENTION", True),
        SDPA,
        TESTED,
        dtypes=("float16", "bfloat16"),
        device="cuda",
    ),
    Preset(
        "torch.flex_attention",
        "torch",
        flex,
        FLEX,
        TESTED,
        known=(LEAK,),
        note="not compiled; it has no backward on a CPU",
    ),
    Preset(
        "torch.flex_attention.compiled",
        "torch",
        compiled,
        FLEX,
        TESTED,
        dtypes=("float32", "float16", "bfloat16"),
        device="cuda",
        note="compiled; its backward is a kernel of its own",
    ),
    Preset(
        "torch.mha",
        "torch",
        mha,
        "torch.nn:MultiheadAttention",
        TESTED,
        rules={"scaled_dot": {}},
        models=BY_OPERATION,
        known=(LEAK_ACROSS, NAN_ROWS),
        note="with need_weights=True every operation rounds to the dtype of the inputs, and is bounded so",
    ),
)
