"""The example of a program in JavaScript, as a candidate."""

from pathlib import Path

import attention_ref as ar
from attention_ref.backend.command import Command

CASES = "shape-17x17,causal,no-batch,one-head,values-peaked"


def test_the_example_in_javascript():
    command = Command(["node", str(Path(__file__).parents[2] / "examples/kernel.js")])
    report = ar.check(command, backward=command.backward, cases=CASES)
    assert report.passed, str(report)
    assert "backward: forward only" in str(report)
    assert {run.verdict for run in ar.check(command, cases="gqa,bias,scale").runs} == {"unsupported"}
