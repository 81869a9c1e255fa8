"""`attention-ref check`: the line that a report prints runs the same case again."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import attention_ref as ar
from attention_ref.cli.main import main
from attention_ref.oracle.run.load import load, name_of

ROOT = Path(__file__).parents[2]

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
    assert main([*arguments, "--dtypes", "float32,float64"]) == 0
    assert capsys.readouterr().out.startswith("PASSED")


def test_the_line_of_a_report_runs_the_case_again(kernel, capsys):
    assert main(["check", f"{kernel}:wrong", "--cases", "causal,shape-15x15", "--seed", "4"]) == 1
    page = capsys.readouterr().out
    line = page.replace(" \\\n", " ").partition("    attention-ref")[2].partition("\n")[0]
    line = " ".join(f"attention-ref{line}".split())
    assert "--case causal --seed 4" in line
    again = shlex.split(line)[1:]
    assert main(again) == 1
    assert capsys.readouterr().out.split("Worst cases")[1] == page.split("Worst cases")[1]


def test_the_line_of_a_report_carries_the_arithmetic_that_was_declared(kernel, capsys):
    assert main(["check", f"{kernel}:wrong", "--case", "causal", "--models", "float32=tf32", "--timeout", "9"]) == 1
    page = " ".join(capsys.readouterr().out.replace(" \\\n", " ").split())
    assert "float32, bounded as tf32" in page
    assert "--case causal --seed 0 --models float32=tf32 --timeout 9" in page
    assert main(["check", f"{kernel}:wrong", "--models", "tf32"]) == 2
    assert "--models takes DTYPE=MODEL, such as float32=tf32; got 'tf32'" in capsys.readouterr().err


def test_a_file_may_import_its_neighbors_and_one_that_is_no_python_is_refused(tmp_path, capsys):
    (tmp_path / "neighbor_of_kernel.py").write_text(KERNEL)
    (tmp_path / "kernel_with_neighbor.py").write_text("from neighbor_of_kernel import right\n")
    assert main(["check", f"{tmp_path}/kernel_with_neighbor.py:right", "--case", "causal"]) == 0
    (tmp_path / "kernel_cut_off.py").write_text("def right(q, k, v:\n")
    assert main(["check", f"{tmp_path}/kernel_cut_off.py:right"]) == 2
    assert "kernel_cut_off.py: line 1: " in capsys.readouterr().err


def test_a_forward_may_leave_something_in_its_file_for_its_backward(tmp_path, capsys):
    path = tmp_path / "keeps.py"
    path.write_text(
        "import attention_ref as ar\n\nheld = {}\n\n\n"
        "def attend(q, k, v, **options):\n    held['a'] = ar.attention(q, k, v, **options)\n"
        "    return held['a'].o, held['a'].lse\n\n\n"
        "def back(do, q, k, v, o, lse, dlse=None, **options):\n"
        "    return dict(held['a'].backward(do, dlse))\n"
    )
    asked = ["check", f"{path}:attend", "--backward", f"{path}:back", "--case", "causal"]
    assert main(asked) == 0, capsys.readouterr().out
    path.write_text(path.read_text().replace("(do, dlse)", "(do)"))
    assert main(asked) == 1, "the file as it is now"


def test_the_report_is_written_for_machines(kernel, tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("report.json", "report.xml")]
    assert main(["check", f"{kernel}:right", "--case", "mqa", "--json", paths[0], "--junit", paths[1]]) == 0
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
    assert main(["check", target]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("command", [["check", "attention_ref:attention"], ["power"]], ids=lambda words: words[0])
def test_a_seed_below_zero_is_refused(command, capsys):
    assert main([*command, "--cases", "shape-1x1", "--seed", "-1"]) == 2
    assert "seed= is an integer from 0 on; got -1" in capsys.readouterr().err


HOSTILE = """
import os, sys, time
import numpy as np
import attention_ref as ar

def right(q, k, v):
    print("from Python")
    os.write(1, b"from C\\n")
    return ar.attention(q, k, v).o

class Unspeakable(Exception):
    def __str__(self):
        raise ValueError

def unspeakable(q, k, v):
    raise Unspeakable

def interrupted(q, k, v):
    raise KeyboardInterrupt

def exits(q, k, v):
    sys.exit(0)

def loops(q, k, v):
    while True:
        pass

def closes(q, k, v):
    sys.stdout.close()
    os.chdir("/")
    return right(q, k, v)

def complexes(q, k, v):
    return right(q, k, v) + 0j

def dies(q, k, v, causal=False):
    if causal:
        os._exit(0)
    return right(q, k, v)

def cannot(q, k, v):
    raise NotImplementedError("no such width")

def closure():
    kept = right
    return lambda q, k, v: kept(q, k, v)

inner = closure()
"""


@pytest.fixture
def newcomer(tmp_path):
    """What a command line gives: (exit status, standard output, standard error); there is never a traceback."""
    (tmp_path / "hostile.py").write_text(HOSTILE)

    def run(*words, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.py").write_text(content)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        command = [sys.executable, "-m", "attention_ref", "check", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=100)
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


ONE = ("--cases", "shape-15x15")


@pytest.mark.parametrize(
    ("name", "status", "sentence"),
    [
        ("right", 0, "PASSED"),
        ("closes", 0, "PASSED"),
        ("inner", 0, "PASSED"),
        ("unspeakable", 1, "Diagnosis: it raised Unspeakable (hostile.py:"),
        ("interrupted", 1, "Diagnosis: it raised KeyboardInterrupt (hostile.py:"),
        ("exits", 1, "Diagnosis: it raised SystemExit: 0 (hostile.py:"),
        ("loops", 1, "Diagnosis: it had not returned after 1 s (timeout=)"),
        ("complexes", 1, "Diagnosis: o comes back as complex64 for float32 inputs"),
        ("cannot", 3, "nothing could be checked"),
    ],
)
def test_whatever_a_function_does_is_a_verdict_and_no_part_of_the_page(newcomer, name, status, sentence):
    found, page, told = newcomer(f"hostile.py:{name}", *ONE, "--timeout", "1")
    assert (found, sentence in page) == (status, True), page + told
    assert "from " not in page
    assert ("from Python" in told, "from C" in told) == ((name in ("right", "closes", "inner", "complexes")),) * 2


def test_processes_run_what_cannot_be_named_and_outlive_a_crash(newcomer):
    status, page, told = newcomer("hostile.py:inner", "--cases", "shape-15x15,shape-1x1", "--jobs", "2")
    assert (status, page.partition(" ")[0], told.count("from Python")) == (0, "PASSED", 4)
    status, page, _ = newcomer("hostile.py:dies", "--cases", "shape-15x15,causal", "--jobs", "2")
    assert (status, "it ended its worker process" in page) == (1, True)
    assert " --seed 0 --jobs 2\n" in page, "without --jobs it ends the command too"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["broken.py:f"], "cannot import broken.py: it raised ZeroDivisionError: no (line 1)"),
        (["leaving.py:f"], "cannot import leaving.py: it raised SystemExit: bye (line 1)"),
        (["lacking.py:f"], "cannot import lacking.py: No module named 'no_such_framework'"),
        (["hostile.py"], "got 'hostile.py': name the function too, as hostile.py:attention"),
        (["torch.sdp"], "got 'torch.sdp', which is no preset either; did you mean 'torch.sdpa'?"),
        (["--command", "'unclosed"], "is not one that a shell reads: No closing quotation"),
        (["--command", ""], "the command is empty"),
        (["hostile.py:right", "--command", "x"], "give a TARGET or --command, one of them"),
        (["hostile.py:right", "--jobs", "0"], "--jobs is a number of processes, 1 or more; got 0"),
        (["hostile.py:right", "--timeout", "nan"], "timeout= is a number of seconds above 0"),
        (["hostile.py:right", "--device", "moon"], "backend 'numpy' has no device 'moon' on this machine"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(newcomer, words, sentence):
    files = {"broken": "raise ZeroDivisionError('no')", "leaving": "raise SystemExit('bye')"}
    status, page, told = newcomer(*words, lacking="import no_such_framework", **files)
    assert (status, page) == (2, "")
    assert told.startswith("attention-ref: ")
    assert sentence in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("command", ["echo hello", "head -c 100 /dev/zero", "false", "./nowhere", "sleep 60"])
def test_a_program_that_is_none_is_a_verdict(newcomer, command):
    status, page, _ = newcomer("--command", command, *ONE, "--timeout", "1")
    assert (status, "1 error" in page) == (1, True)


def test_a_figure_is_drawn_where_there_is_something_to_draw(newcomer, tmp_path):
    status, _, told = newcomer("hostile.py:right", *ONE, "--figure", "right.png")
    assert (status, (tmp_path / "right.png").exists()) == (0, False)
    assert "right.png is not written: figure: no run failed" in told
    wrong = "import attention_ref as ar\ndef f(q, k, v):\n    return ar.attention(2 * q, k, v).o\n"
    assert newcomer("wrong.py:f", *ONE, "--figure", "wrong.png", wrong=wrong)[0] == 1
    assert (tmp_path / "wrong.png").read_bytes()[:4] == b"\x89PNG"
    assert newcomer("wrong.py:f", *ONE, "--figure", "wrong.bad")[0] == 2


def test_targets_reach_into_classes(kernel):
    assert load(f"{kernel}:Kernels.inner").__name__ == "inner"
    assert load("attention_ref:attention") is ar.attention
    assert name_of(ar.attention) == "attention_ref.pipeline.attention:attention"
