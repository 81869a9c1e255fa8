"""FlashAttention: flash_attn_func, on a GPU."""

from attention_ref.conformance.libraries.preset import Preset, bottom_right, equal_widths, four_axes, number


def flash(function, q, k, v, *, causal=False, window=None, align=None, softcap=None, scale=None, alibi_slopes=None):
    import torch

    (q, k, v), original = four_axes(torch.broadcast_to, q, k, v)
    if causal or window is not None or alibi_slopes is not None:
        bottom_right(q.shape[-2], k.shape[-2], align, "what is positional")
    q, k, v, scale, values = equal_widths(
        lambda x, n: torch.nn.functional.pad(x, (0, n)), q, k, v, number("scale", scale)
    )
    o = function(
        *(x.transpose(1, 2) for x in (q, k, v)),
        softmax_scale=scale,
        causal=causal,
        window_size=tuple(-1 if n is None else n for n in window or (None, None)),
        softcap=number("softcap", softcap) or 0.0,
        alibi_slopes=None if alibi_slopes is None else alibi_slopes.float(),
    )
    return original(o.transpose(1, 2)[..., :values])


PRESETS = (
    Preset(
        "flash_attn",
        "torch",
        flash,
        "flash_attn:flash_attn_func",
        "2.8",
        dtypes=("float16", "bfloat16"),
        needs=("flash_attn",),
        device="cuda",
    ),
)
