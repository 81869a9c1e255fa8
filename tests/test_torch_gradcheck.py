"""What a check of every gradient costs, beside `torch.autograd.gradcheck`: in one run, in turns, medians.

gradcheck needs two evaluations of the candidate for every number that goes in. Its fast mode needs a few in all, and
sees one random combination of the gradients; the check sees each of them, and the bound on it.
"""

from statistics import median
from time import process_time

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import attention_ref as ar
from attention_ref.oracle.cases import Case, Size

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


def test_a_check_of_every_gradient_takes_less_than_a_hundredth_of_gradcheck():
    generator = torch.Generator().manual_seed(0)
    shape = (1, 4, 256, 64)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True, generator=generator) for _ in range(3)]
    q, k, v = (x.detach().numpy() for x in inputs)
    do = torch.randn(shape, dtype=torch.float64, generator=generator)
    calls = {
        "check": check,
        "the oracle's forward and backward": lambda: ar.attention(q, k, v).backward(do.numpy()),
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
