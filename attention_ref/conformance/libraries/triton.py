"""Triton: the kernel of its tutorial 06, which is no package: save it as fused_attention.py where Python finds it.

Queries and keys are equally many there, a multiple of 128; causal lets both be filled up with zeros at the end.
"""

from attention_ref.conformance.libraries.preset import Preset, four_axes, number, refuse, top_left

BLOCK = 128
WIDTHS = (16, 32, 64, 128, 256)


def attention(function, q, k, v, *, causal=False, align=None, scale=None):
    import torch

    (q, k, v), original = four_axes(torch.broadcast_to, q, k, v)
    (queries, width), (keys, values) = q.shape[-2:], v.shape[-2:]
    if q.shape[1] != k.shape[1]:
        refuse("it has no grouped heads")
    if causal:
        top_left(queries, keys, align)
    rows = max(queries, keys)
    rows += -rows % BLOCK
    if not rows == queries == keys and (not causal or keys < queries):
        refuse("queries and keys are equally many there, a multiple of 128")
    if max(width, values) > max(WIDTHS):
        refuse("it has no heads wider than 256")
    wide = next(n for n in WIDTHS if n >= max(width, values))
    scale = width**-0.5 if scale is None else number("scale", scale)
    q, k, v = (torch.nn.functional.pad(x, (0, wide - x.shape[-1], 0, rows - x.shape[-2])) for x in (q, k, v))
    return original(function(q, k, v, causal, scale)[..., :queries, :values])


PRESETS = (
    Preset(
        "triton.tutorial",
        "torch",
        attention,
        "fused_attention:attention",
        dtypes=("float16",),
        needs=("fused_attention",),
        device="cuda",
        note="python/tutorials/06-fused-attention.py of Triton, saved as fused_attention.py",
    ),
)
