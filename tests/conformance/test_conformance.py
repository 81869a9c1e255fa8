"""CONFORMANCE.md: what its blocks print is what the page says, with what is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from attention_ref.backend import installed, tinygrad

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONFORMANCE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.M | re.S)
LIBRARIES = ("torch", "jax", "keras", "onnx", "onnxruntime", "mlx", "tinygrad")


def needed(code):
    return {name for name in LIBRARIES if re.search(rf"^(import|from).*\b{name}\b", code, re.M)}


def name_of(block):
    return "-".join(sorted(needed(block[0])))


def test_every_block_says_what_it_prints():
    assert len(BLOCKS) == PAGE.count("```py\n") == PAGE.count("```text\n")
    assert set().union(*(needed(code) for code, _ in BLOCKS)) == set(LIBRARIES)
    assert not any("attention_ref" in code for code, _ in BLOCKS)


RUN = [one for one in BLOCKS if needed(one[0]) <= set(installed())]

if RUN:

    @pytest.mark.backends
    @pytest.mark.parametrize("block", RUN, ids=name_of)
    def test_a_block_prints_what_the_page_says(block):
        code, printed = block
        environment = {name: x for name, x in os.environ.items() if name != "KERAS_BACKEND"}
        if not tinygrad.compiles():
            environment["DEV"] = "CPU:X86"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.stdout == printed, done.stderr
