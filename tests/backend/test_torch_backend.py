"""Candidates and presets in PyTorch: gradients, the backward that is given, what is known."""

import numpy as np
import pytest
import torch

import attention_ref as ar

pytestmark = pytest.mark.torch


def test_lse_and_options_have_gradients_in_torch():
    def attention(q, k, v, *, bias=None, scale=None):
        s = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        s = s if bias is None else s + bias
        return {"o": torch.softmax(s, -1) @ v, "lse": torch.logsumexp(s, -1)}

    report = ar.check(attention, cases="bias,scale-by-head,shape-17x17", dtypes=("float32", "bfloat16", "float64"))
    gradients = {c.result for run in report.runs if run.dtype != "bfloat16" for c in run.results if c.verdict == "pass"}
    assert gradients == {"o", "lse", "dq", "dk", "dv", "dbias", "dscale"}
    assert report.meta["backward"] == "the autodiff of torch"

    def detached(q, k, v):
        found = attention(q, k, v)
        return {"o": found["o"], "lse": found["lse"].detach()}

    assert ar.check(detached, cases="shape-17x17").runs[0].verdict == "fail"


def test_a_given_backward_is_called_in_the_framework_and_false_is_none():
    def attention(q: torch.Tensor, k, v):
        return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v

    def backward(do, q, k, v, o, lse):
        assert isinstance(do, torch.Tensor)
        alpha = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
        return {"v": alpha.transpose(-1, -2) @ do}

    report = ar.check(attention, backward=backward, cases="shape-17x17")
    assert [c.verdict for c in report.runs[0].results if c.result == "dv"] == ["pass"]
    assert ar.check(attention, backward=False, cases="shape-17x17").meta["backward"] is None


def test_a_function_of_numpy_that_uses_torch_inside_gets_numpy():
    def inside(q, k, v):
        q, k, v = (torch.from_numpy(np.array(x)) for x in (q, k, v))
        return (torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v).numpy()

    report = ar.check(inside, cases="shape-17x17")
    assert report.meta["backend"].startswith("numpy ")
    assert report.passed


TORCH = ("torch.sdpa", "torch.sdpa.math", "torch.sdpa.flash", "torch.mha")


@pytest.mark.parametrize("name", TORCH)
def test_torch_passes_but_for_what_it_is_known_for(name):
    report = ar.check(preset=name, cases="shape-17x17,causal,gqa,mask-dead-rows,bias,poison-nan-mask,shared-kv")
    assert report.passed, str(report)
    assert report.counts()["known"] >= 1
    assert report.meta["vanished"] == []


def test_a_users_function_in_torchs_convention():
    def wrong(q, k, v, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
        mask = None if attn_mask is None else ~attn_mask
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)

    report = ar.check(wrong, preset="torch.sdpa", cases="mask-half,shape-17x17")
    assert [run.verdict for run in report.runs] == ["fail", "pass"]
