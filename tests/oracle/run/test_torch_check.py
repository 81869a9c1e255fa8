"""No false alarm, from a library: PyTorch's math backend on a CPU passes, forward and by its autograd."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

import attention_ref as ar

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def tensor(x):
    return torch.tensor(np.ascontiguousarray(x))


def attend(q, k, v, allowed, causal, scale):
    if k.ndim > 2 and 1 < k.shape[-3] < q.shape[-3]:
        raise NotImplementedError("grouped heads")
    mask = None if allowed is None else tensor(allowed)
    with sdpa_kernel(SDPBackend.MATH):
        return sdpa(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)


def forward(q, k, v, *, allowed=None, causal=False, scale=None):
    if allowed is not None and causal:
        raise NotImplementedError("a mask together with is_causal")
    return attend(tensor(q), tensor(k), tensor(v), allowed, causal, scale).numpy()


def backward(do, q, k, v, o, lse, *, allowed=None, causal=False, scale=None):
    inputs = [tensor(x).requires_grad_() for x in (q, k, v)]
    out = attend(*inputs, allowed, causal, scale)
    grads = torch.autograd.grad(out, inputs, tensor(do))
    return {name: x.numpy() for name, x in zip("qkv", grads, strict=True)}


@pytest.mark.torch
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_math_backend_passes_but_for_what_it_lets_through_a_mask(dtype):
    report = ar.check(forward, cases="core,-scale-by-head", dtypes=dtype, backward=backward)
    wrong = {run.case for run in report.failures()}
    assert wrong == {"poison-nan-mask", "poison-inf-mask", "poison-nan-padding", "poison-nan-dead-rows"}, str(report)
    assert report.counts()["pass"] > 55
