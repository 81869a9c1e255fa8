"""The command line, as a caller sees it: what is printed, what is written, what is returned."""

import os
import subprocess
import sys

import numpy as np
import pytest

import attention_ref as ar
from attention_ref import demo
from attention_ref.cli.main import main
from attention_ref.demo import candidates, compare
from attention_ref.op.formula import readable

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


def test_the_demo_judges_both_and_draws(tmp_path):
    done = run("demo", "--out", str(tmp_path / "new" / "folder"), PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    text = done.stdout.decode()
    assert max(map(len, text.replace(str(tmp_path), "").splitlines())) <= 100
    assert "correct: passes" in text
    assert "wrong: FAILS in o, alpha, dq, dk, dv" in text
    assert (tmp_path / "new" / "folder" / "alpha.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("result", compare.RESULTS)
@pytest.mark.parametrize("fault", [1 + 1e-9, -1, 0, np.nan])
def test_the_demo_sees_one_wrong_element(result, fault):
    given = compare.inputs()
    got, want = candidates.correct(**given), compare.oracle(**given)
    worst = tuple(int(n) for n in np.unravel_index(np.argmax(np.abs(want[result])), want[result].shape))
    got[result][worst] *= fault
    findings = {found.result: found for found in compare.compare(got, want)}
    assert [name for name, found in findings.items() if not found.passed] == [result]
    assert findings[result].worst == worst


def test_the_demo_says_when_it_misjudges(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(demo.CANDIDATES, "correct", candidates.wrong)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "correct: FAILS" in capsys.readouterr().out


def test_what_the_demo_says_of_usual_tests_is_true():
    given = compare.inputs()
    assert compare.self_consistency(candidates.wrong, given) < 1e-8
    square = compare.inputs(e=given["k"].shape[-1])
    assert compare.worst_error(candidates.wrong(**square), compare.oracle(**square)) < compare.TOLERANCE
