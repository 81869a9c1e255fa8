"""`attention-ref check`: the line that a report prints runs the same case again."""

import json
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

import attention_ref as ar
from attention_ref import cli
from attention_ref.oracle.target import load, name_of

KERNEL = """
import attention_ref as ar

def right(q, k, v, **options):
    a = ar.attention(q, k, v, **options)
    return a.o, a.lse

def back(do, q, k, v, o, lse, dlse=None, **options):
    return ar.attention(q, k, v, **options).backward(do, dlse=dlse)

def wrong(q, k, v, causal=False):
    return ar.attention(q, k, v).o

class Kernels:
    @staticmethod
    def inner(q, k, v):
        return ar.attention(q, k, v).o
"""


@pytest.fixture
def kernel(tmp_path):
    path = tmp_path / "my_kernel.py"
    path.write_text(KERNEL)
    return str(path)


def test_a_correct_function_passes(kernel, capsys):
    arguments = ["check", f"{kernel}:right", "--backward", f"{kernel}:back", "--cases", "causal,gqa"]
    assert cli.main([*arguments, "--dtypes", "float32,float64"]) == 0
    assert capsys.readouterr().out.startswith("PASSED")


def test_the_line_of_a_report_runs_the_case_again(kernel, capsys):
    assert cli.main(["check", f"{kernel}:wrong", "--cases", "causal,shape-15x15", "--seed", "4"]) == 1
    page = capsys.readouterr().out
    line = page.replace(" \\\n", " ").partition("    attention-ref")[2].partition("\n")[0]
    line = " ".join(f"attention-ref{line}".split())
    assert "--case causal --seed 4" in line
    again = shlex.split(line)[1:]
    assert cli.main(again) == 1
    assert capsys.readouterr().out.split("Worst cases")[1] == page.split("Worst cases")[1]


def test_the_line_of_a_report_carries_the_arithmetic_that_was_declared(kernel, capsys):
    assert cli.main(["check", f"{kernel}:wrong", "--case", "causal", "--models", "float32=tf32", "--timeout", "9"]) == 1
    page = " ".join(capsys.readouterr().out.replace(" \\\n", " ").split())
    assert "float32, bounded as tf32" in page
    assert "--case causal --seed 0 --models float32=tf32 --timeout 9" in page
    assert cli.main(["check", f"{kernel}:wrong", "--models", "tf32"]) == 2
    assert "--models takes DTYPE=MODEL, such as float32=tf32; got 'tf32'" in capsys.readouterr().err


def test_a_file_may_import_its_neighbors_and_one_that_is_no_python_is_refused(tmp_path, capsys):
    (tmp_path / "neighbor_of_kernel.py").write_text(KERNEL)
    (tmp_path / "kernel_with_neighbor.py").write_text("from neighbor_of_kernel import right\n")
    assert cli.main(["check", f"{tmp_path}/kernel_with_neighbor.py:right", "--case", "causal"]) == 0
    (tmp_path / "kernel_cut_off.py").write_text("def right(q, k, v:\n")
    assert cli.main(["check", f"{tmp_path}/kernel_cut_off.py:right"]) == 2
    assert "kernel_cut_off.py: line 1: " in capsys.readouterr().err


def test_the_report_is_written_for_machines(kernel, tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("report.json", "report.xml")]
    assert cli.main(["check", f"{kernel}:right", "--case", "mqa", "--json", paths[0], "--junit", paths[1]]) == 0
    assert capsys.readouterr().out
    assert json.loads(Path(paths[0]).read_text())["cases"] == "mqa"
    assert ElementTree.parse(paths[1]).getroot().tag == "testsuites"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("right", "a target is package.module:function or file.py:function; got 'right'"),
        ("nowhere.py:right", "there is no file nowhere.py"),
        ("no_such_package:right", "cannot import no_such_package: No module named"),
        ("attention_ref:attend", "there is no attend in attention_ref"),
        ("attention_ref:__version__", "check: candidate must be a function; got str"),
    ],
)
def test_a_target_that_is_not_there_is_refused_in_a_sentence(target, sentence, capsys):
    assert cli.main(["check", target]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("command", [["check", "attention_ref:attention"], ["power"]], ids=lambda words: words[0])
def test_a_seed_below_zero_is_refused(command, capsys):
    assert cli.main([*command, "--cases", "shape-1x1", "--seed", "-1"]) == 2
    assert "seed= is an integer from 0 on; got -1" in capsys.readouterr().err


def test_targets_reach_into_classes(kernel):
    assert load(f"{kernel}:Kernels.inner").__name__ == "inner"
    assert load("attention_ref:attention") is ar.attention
    assert name_of(ar.attention) == "attention_ref.attention:attention"
