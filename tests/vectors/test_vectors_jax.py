"""JAX's attention by the vectors, through the command: within the bounds."""

from pathlib import Path

import pytest

from attention_ref.cli.main import main

pytestmark = pytest.mark.jax
CANDIDATES = Path(__file__).parents[1] / "support" / "vector_candidates.py"
WITHOUT = [word for flag in ("Invalid", "NaNBehindMask", "InfBehindMask") for word in ("--without", flag)]


@pytest.mark.parametrize(("dtype", "least"), [("float32", 30), ("bfloat16", 29)])
def test_jax_is_within_the_bounds(capsys, dtype, least):
    status = main(["vectors", "verify", f"{CANDIDATES}:jax_attention", "--dtype", dtype, *WITHOUT])
    out = capsys.readouterr().out
    assert status == 0, out
    assert int(out.split()[0]) >= least
    assert "dq" in out
