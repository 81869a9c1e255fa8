"""The command line, as a caller sees it: what is printed, what is written, what is returned."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.cli import demo
from attention_ref.cli.main import COMMANDS, main
from attention_ref.op.formula import readable
from attention_ref.oracle.run.load import load

SCRIPT = "import sys; from attention_ref.cli.main import main; sys.exit(main())"


def run(*arguments, **environment):
    """The command in a process of its own, as the installed script starts it."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, check=False, env=os.environ | environment, timeout=60)


@pytest.mark.parametrize(("command", "names"), [(["rules"], ar.rules), (["mechanisms"], ar.mechanisms)])
def test_the_catalog_shows_every_entry(command, names, capsys):
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert {line.split()[0] for line in lines[2:] if line[:1].strip()} >= set(names)
    for label in ("formula", "signature", "source"):
        assert sum(line.startswith(f"  {label:11}") for line in lines) == len(names)
    assert sum(line.startswith(f"  {'erratum':11}") for line in lines) == sum(bool(op.erratum) for op in names.values())


def test_all_is_both(capsys):
    main(["rules"])
    main(["mechanisms"])
    apart = capsys.readouterr().out.split()
    assert main(["rules", "--all"]) == 0
    assert capsys.readouterr().out.split() == apart


@pytest.mark.parametrize("op", [*ar.rules.values(), *ar.mechanisms.values()], ids=lambda op: op.name)
def test_no_formula_is_left_in_latex(op):
    assert not set(readable(op.formula)) & set("\\{}")


@pytest.mark.parametrize(
    ("latex", "wanted"),
    [
        (r"s_{ij} = q_i^\top W k_j", "s_ij = q_iᵀ W k_j"),
        (r"\alpha_{ij} = e^{s_{ij}} / \sum_k e^{s_{ik}}", "α_ij = e^(s_ij) / Σ_k e^(s_ik)"),
        (r"h_{t-1} / \sqrt{d + c}", "h_(t-1) / √(d + c)"),
        (r"\mathrm{softmax}(\mathbf{x})^{\top} \, \|k\|", "softmax(x)ᵀ ‖k‖"),
        (r"X^{(l)} = E_{\mathrm{token}_t} + p(y_t \mid y_{<t})", "X^(l) = E_(token_t) + p(y_t | y_(<t))"),
        (r"\frac{a}{b}", r"\frac{a}{b}"),
    ],
)
def test_readable(latex, wanted):
    assert readable(latex) == wanted


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["rulez"], "'rulez'"),
        (["rules", "--every"], "--every"),
        (["demo", "--out"], "--out"),
        (["demo", "--out", __file__], "test_cli.py"),
    ],
)
def test_a_usage_error_is_one_sentence(arguments, named, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.startswith("attention-ref: ")
    assert named in err


def test_a_reader_who_stops_early_sees_no_traceback():
    """As in `attention-ref rules | head -1`: here nobody reads at all."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", SCRIPT, "rules"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert done.stderr == b""


def test_a_terminal_without_unicode_sees_no_traceback():
    done = run("rules", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_page_of_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: attention-ref {command} ")


def test_the_page_of_all_commands_is_light():
    code = "import sys; from attention_ref.cli.main import parser; parser([]).format_help()"
    code += "; print([name for name in sys.modules if name.startswith(('matplotlib', 'attention_ref.oracle'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_the_demo_checks_both_draws_and_names_the_next_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("demo", "--out", "new/folder", PYTHONIOENCODING="utf-8", PYTHONPATH=os.pathsep.join(sys.path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    text = done.stdout.decode()
    assert "PASSED  new/folder/kernels.py:right" in text
    assert "FAILED  new/folder/kernels.py:wrong" in text
    assert "one key too many" in " ".join(text.split())
    assert max(map(len, text[text.index(demo.LEAK) :].splitlines())) <= 100
    assert Path("new/folder/wrong.png").read_bytes().startswith(b"\x89PNG")
    program, *command = text.splitlines()[-1].split()
    assert program == "attention-ref"
    assert main([*command, "--cases", "causal,shape-17x17"]) == 1
    assert "one key too many" in capsys.readouterr().out


def test_the_demo_checks_what_its_reader_has_made_of_the_file(tmp_path, capsys):
    mended = demo.KERNELS.replace("future=1", "future=0")
    (tmp_path / "kernels.py").write_text(mended, encoding="utf-8")
    assert main(["demo", "--out", str(tmp_path)]) == 1
    page = capsys.readouterr().out
    assert "is there already, and is checked as it is" in page
    assert "FAILED" not in page
    assert demo.LEAK not in page
    assert (tmp_path / "kernels.py").read_text(encoding="utf-8") == mended


def test_what_the_demo_says_of_finite_differences_is_true(tmp_path):
    file = tmp_path / "kernels.py"
    file.write_text(demo.KERNELS, encoding="utf-8")
    wrong, backward = load(f"{file}:wrong"), load(f"{file}:wrong_backward")
    rng = np.random.default_rng(13)
    inputs, tangents = rng.standard_normal((2, 3, 2, 11, 7))
    do = rng.standard_normal((2, 11, 7))
    step = 1e-5
    forwards, backwards = (wrong(*(inputs + sign * step * tangents), causal=True) for sign in (1, -1))
    measured = np.vdot(do, forwards - backwards) / (2 * step)
    gradients = backward(do, *inputs, None, None, causal=True)
    claimed = sum(np.vdot(gradients[name], tangent) for name, tangent in zip("qkv", tangents, strict=True))
    assert abs(measured - claimed) < 1e-8 * abs(measured)
