"""Candidates for `attention-ref vectors verify`: PyTorch's and JAX's attention behind a call like `ar.attention`.

What they do not have is no parameter here, so that the command counts it as unsupported.
"""

import numpy as np


def torch_sdpa(q, k, v, allowed=None, causal=False, align=None, scale=None, bias=None):
    """torch.nn.functional.scaled_dot_product_attention by its default kernel, with its gradients."""
    return torch_by(q, k, v, allowed, causal, align, scale, bias, None)


def torch_math(q, k, v, allowed=None, causal=False, align=None, scale=None, bias=None):
    """The same by its math kernel."""
    from torch.nn.attention import SDPBackend

    return torch_by(q, k, v, allowed, causal, align, scale, bias, SDPBackend.MATH)


def torch_by(q, k, v, allowed, causal, align, scale, bias, backend):
    from contextlib import nullcontext

    import torch
    from torch.nn.attention import sdpa_kernel

    refuse_offset(causal, align, q, k)
    arrays = {"q": q, "k": k, "v": v} | ({} if bias is None else {"bias": bias})
    x = {name: tensor(torch, a).requires_grad_() for name, a in arrays.items()}
    heads = {name: x[name] if x[name].ndim > 2 else x[name][None] for name in "qkv"}
    mask = x.get("bias") if allowed is None else torch.tensor(allowed)
    if bias is not None and allowed is not None:
        raise NotImplementedError("a mask and a bias at once")
    with sdpa_kernel(backend) if backend else nullcontext():
        o = torch.nn.functional.scaled_dot_product_attention(
            **dict(zip(("query", "key", "value"), heads.values(), strict=True)),
            attn_mask=mask,
            is_causal=bool(causal),
            scale=None if scale is None else float(scale),
            enable_gqa=q.ndim > 2 and k.ndim > 2 and q.shape[-3] != k.shape[-3],
        )
    o = o if q.ndim > 2 else o[0]

    def backward(do):
        grads = torch.autograd.grad(o, list(x.values()), tensor(torch, do))
        return {name: array(g) for name, g in zip(x, grads, strict=True)}

    return array(o), backward


def tensor(torch, x):
    """bfloat16 and the rest by way of float32 where that is exact."""
    name = np.asarray(x).dtype.name
    return torch.tensor(np.asarray(x, np.float32 if name == "bfloat16" else None)).to(getattr(torch, name))


def array(x):
    return x.detach().double().numpy()


def jax_attention(q, k, v, allowed=None, causal=False, align=None, scale=None, bias=None):
    """jax.nn.dot_product_attention, with its gradients; values get zeros beside them until they are as wide as keys."""
    import jax
    from jax.nn import dot_product_attention

    refuse_offset(causal, align, q, k)
    width = v.shape[-1]
    if width > k.shape[-1]:
        raise NotImplementedError("values that are wider than keys")
    if 0 in k.shape:
        raise NotImplementedError("no keys")
    if q.ndim > 3 or (q.ndim == 3 and (k.ndim != 3 or q.shape[0] % k.shape[0])):
        raise NotImplementedError("these leading axes")
    arrays = {"q": q, "k": k, "v": v} | ({} if bias is None else {"bias": bias})

    def run(given):
        wide = jax.numpy.pad(given["v"], [(0, 0)] * (v.ndim - 1) + [(0, k.shape[-1] - width)])
        heads = [jax.numpy.swapaxes(x, 0, 1) if x.ndim == 3 else x[:, None] for x in (given["q"], given["k"], wide)]
        rest = {}
        if allowed is not None:
            rest["mask"] = np.broadcast_to(allowed, (1, q.shape[-2], k.shape[-2]))
        if bias is not None:
            rest["bias"] = jax.numpy.broadcast_to(given["bias"], (1, q.shape[-2], k.shape[-2]))
        o = dot_product_attention(*heads, is_causal=bool(causal), scale=None if scale is None else float(scale), **rest)
        return (o[:, 0] if q.ndim == 2 else jax.numpy.swapaxes(o, 0, 1))[..., :width]

    o, pull = jax.vjp(run, {name: jax.numpy.asarray(x) for name, x in arrays.items()})

    def backward(do):
        return {name: np.asarray(g, np.float64) for name, g in pull(jax.numpy.asarray(do))[0].items()}

    return np.asarray(o, np.float64), backward


def refuse_offset(causal, align, q, k):
    """Both are aligned to the top left."""
    if align not in (None, 0, "top_left") and causal:
        raise NotImplementedError("an alignment other than the top left")


def leaks_nan(q, k, v, allowed=None):
    """A wrong one: masks the weights by multiplication, so that a masked NaN comes through."""
    s = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    e = np.exp(s - np.max(s, axis=-1, keepdims=True)) * (1 if allowed is None else allowed)
    return e / np.sum(e, axis=-1, keepdims=True) @ v


def top_left(q, k, v, causal=False, align=None):
    """A wrong one: causal always from the top left."""
    s = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    s = np.where(np.tri(*s.shape[-2:], dtype=bool) | (not causal), s, -np.inf)
    e = np.exp(s - np.max(s, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True) @ v
