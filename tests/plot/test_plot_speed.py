"""How fast, how large, how much memory: the figures promised, measured in a process of their own."""

import subprocess
import sys

import numpy as np
import pytest
from plot_help import weights, written

from attention_ref import plot

MEASURE = """
import resource, sys, time
import numpy as np
from attention_ref import plot
alpha = np.zeros((8, 4096, 4096), np.float32)
rng = np.random.default_rng(0)
for head in alpha:
    head[np.arange(4096), rng.permutation(4096)] = 1
start = time.perf_counter()
figure, _ = plot.heads(alpha)
plot.save(figure, sys.argv[1])
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_eight_heads_of_4096_take_less_than_five_seconds_and_a_gigabyte(tmp_path):
    """The array itself, in float32, is half of that gigabyte."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "big.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, done.stdout.split())
    assert seconds < 5
    assert gigabytes < 1


@pytest.mark.parametrize("masked", [False, True])
def test_a_pdf_of_512_squared_is_small(masked):
    alpha = weights(512, 512)
    allowed = np.random.default_rng(0).random((512, 512)) < 0.5 if masked else None
    alpha = np.where(allowed, alpha, 0) if masked else alpha
    alpha /= alpha.sum(axis=1, keepdims=True)
    assert len(written(plot.heatmap(alpha, allowed=allowed), "pdf")) < 500_000
