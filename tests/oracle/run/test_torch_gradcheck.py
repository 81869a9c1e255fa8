"""What a check of every gradient costs, beside `torch.autograd.gradcheck`: in one run, in turns, medians.

gradcheck needs two evaluations of the candidate for every number that goes in. Its fast mode needs a few in all, and
sees one random combination of the gradients, to a tolerance that grows with how many they are; the check sees each of
them, and the bound on it.
"""

from statistics import median
from time import process_time

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import attention_ref as ar
from attention_ref.oracle.cases.case import Case, Size

pytestmark = [pytest.mark.torch, pytest.mark.slow]
CASE = Case("heads-4", "the size that gradcheck is measured at", Size(256, 256, 64, 64, batch=1, heads=4))
ROUNDS = 5


def candidate(q, k, v):
    with sdpa_kernel(SDPBackend.MATH):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def check():
    report = ar.check(candidate, cases=[CASE], dtypes="float64", backend="torch")
    assert report.passed
    assert {c.result for c in report.runs[0].results} == {"o", "dq", "dk", "dv"}


def drawn():
    generator = torch.Generator().manual_seed(0)
    shape = (1, 4, 256, 64)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True, generator=generator) for _ in range(3)]


def test_a_check_of_every_gradient_takes_less_than_a_hundredth_of_gradcheck():
    inputs = drawn()
    q, k, v = (x.detach().numpy() for x in inputs)
    do = np.random.default_rng(1).standard_normal(q.shape)
    calls = {
        "check": check,
        "the oracle's forward and backward": lambda: ar.attention(q, k, v).backward(do),
        "gradcheck, fast mode": lambda: torch.autograd.gradcheck(candidate, inputs, fast_mode=True),
        "one evaluation": lambda: candidate(*inputs),
    }
    seconds = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            start = process_time()
            call()
            seconds[name].append(process_time() - start)
    cost = {name: median(found[1:]) for name, found in seconds.items()}
    cost["gradcheck, at the least"] = 2 * sum(x.numel() for x in inputs) * cost["one evaluation"]
    for name, found in cost.items():
        print(f"{name:34} {found:10.4f} s, {cost['check'] / found:.1e} is what the check takes of it")
    assert cost["check"] < cost["gradcheck, at the least"] / 100
    assert cost["the oracle's forward and backward"] < cost["gradcheck, fast mode"]


class Wrong(torch.autograd.Function):
    """Scaled dot attention whose gradients are multiplied by three factors."""

    @staticmethod
    def forward(ctx, q, k, v, factors):
        alpha = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1)
        ctx.save_for_backward(q, k, v, alpha)
        ctx.factors = factors
        return alpha @ v

    @staticmethod
    def backward(ctx, do):
        q, k, v, alpha = ctx.saved_tensors
        dalpha = do @ v.mT
        ds = alpha * (dalpha - (alpha * dalpha).sum(dim=-1, keepdim=True)) / q.shape[-1] ** 0.5
        return *(f * x for f, x in zip(ctx.factors, (ds @ k, ds.mT @ q, alpha.mT @ do), strict=True)), None


@pytest.mark.parametrize(
    ("factors", "diagnosis"),
    [
        ((1, 1, 1), None),
        ((1, 8, 1), "with the scale missing in dk"),
        ((0, 1, 1), "dq is 0 everywhere"),
        ((1, -1, 1), "dk is -1 times what it should be"),
    ],
    ids=["right", "dk without the scale", "no dq", "-dk"],
)
def test_at_this_size_the_fast_mode_accepts_gradients_that_the_check_names(factors, diagnosis):
    calls = []

    def candidate(q, k, v):
        calls.append(None)
        return Wrong.apply(q, k, v, factors)

    inputs = drawn()
    assert torch.autograd.gradcheck(candidate, inputs, fast_mode=True), "the fast mode has changed: docs tell of it"
    assert len(calls) == 8
    report = ar.check(candidate, cases=[CASE], dtypes="float64", backend="torch")
    assert report.passed == (diagnosis is None)
    assert report.passed or diagnosis in report.diagnosis.sentence
