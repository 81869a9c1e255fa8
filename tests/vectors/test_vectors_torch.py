"""PyTorch's attention by the vectors, through the command: within the bounds, and what it leaks is seen."""

from pathlib import Path

import pytest

from attention_ref.cli.main import main

pytestmark = pytest.mark.torch
CANDIDATES = Path(__file__).parents[1] / "support" / "vector_candidates.py"
WITHOUT = [word for flag in ("Invalid", "NaNBehindMask", "InfBehindMask") for word in ("--without", flag)]


def verified(capsys, name, *arguments):
    status = main(["vectors", "verify", f"{CANDIDATES}:{name}", *arguments])
    return status, capsys.readouterr().out


@pytest.mark.parametrize("name", ["torch_sdpa", "torch_math"])
@pytest.mark.parametrize(("dtype", "least"), [("float64", 36), ("float32", 33), ("bfloat16", 32), ("float16", 30)])
def test_torch_is_within_the_bounds(capsys, name, dtype, least):
    status, out = verified(capsys, name, "--dtype", dtype, *WITHOUT)
    assert status == 0, out
    assert int(out.split()[0]) >= least
    assert "dq" in out


@pytest.mark.parametrize("flag", ["NaNBehindMask", "InfBehindMask"])
def test_torch_lets_masked_values_out(capsys, flag):
    status, out = verified(capsys, "torch_sdpa", "--flag", flag)
    assert status == 1
    assert "is nan" in out
