"""The example of a program in C, as a candidate."""

import subprocess
from pathlib import Path

import attention_ref as ar
from attention_ref.backend.command import Command
from attention_ref.cli.main import main

ROOT = Path(__file__).parents[2]
CASES = "shape-17x17,causal,no-batch,one-head,values-peaked"


def test_the_example_in_c(tmp_path, capsys):
    path = tmp_path / "kernel"
    subprocess.run(["cc", "-O2", "-o", path, ROOT / "examples/kernel.c", "-lm"], check=True)
    command = Command(str(path))
    report = ar.check(command, backward=command.backward, cases=CASES)
    assert report.passed, str(report)
    assert {c.result for run in report.runs for c in run.results} == {"o", "lse", "dq", "dk", "dv"}
    more = ar.check(command, cases="gqa,bias,scale,causal-top-left,k-lengths")
    assert {run.verdict for run in more.runs} == {"unsupported"}
    assert main(["check", "--command", str(path), "--cases", "causal"]) == 0
    assert "forward and backward" in capsys.readouterr().out
