"""Nothing depends on the words of a sentence: with other words the verdicts, groups and commands are the same."""

import ast
from pathlib import Path

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.oracle.check import result_of
from attention_ref.oracle.diagnose import form
from attention_ref.oracle.report.rerun import command
from attention_ref.oracle.run import trouble
from attention_ref.oracle.run.trouble import SENTENCES, Trouble, TroubleKind

HOUSE = Path(ar.__file__).parent
CASES = "shape-17x17,shape-35x35,causal,causal-tiles,bias,gqa,mask-half"


def attend(q, k, v, **options):
    a = ar.attention(q, k, v, **options)
    return a.o.copy(), a.lse


def careless(q, k, v, **options):
    """Writes into q, returns a view, raises: each in cases of its own."""
    o, lse = attend(q, k, v, **options)
    if "causal" in options:
        raise ValueError(f"no causal: {q.shape}")
    if "bias" in options:
        return o, q[..., 0]
    q *= 2
    return o, lse


def one_head(q, k, v, **options):
    o, lse = attend(q, k, v, **options)
    o[..., 1, :, :] *= np.float32(3)
    return o, lse


def some_options(q, k, v, causal=False):
    return attend(q, k, v, causal=causal)


def refuses(q, k, v, **options):
    if options:
        raise NotImplementedError("no options")
    return attend(q, k, v)


CANDIDATES = [attend, careless, one_head, some_options, refuses]


def decisions(candidate):
    """All that a check decides, without a sentence."""
    report = ar.check(candidate, cases=CASES)
    failing = [run for run in report.runs if run.verdict in ("error", "fail")]
    return {
        "verdicts": [(run.case, run.verdict, [(c.result, c.verdict) for c in run.results]) for run in report.runs],
        "kinds": [run.trouble and run.trouble.kind for run in report.runs],
        "groups": [[run.case for run in group] for group in form.grouped(failing)],
        "written": len(form.written(report.runs)),
        "lacking": [run.lacking for run in report.runs],
        "places": [c.place for run in report.runs for c in run.results],
        "commands": [command(report, run) for run in report.runs],
        "passed": report.passed,
        "parts": len(report.diagnosis.parts) if report.diagnosis else 0,
        "paragraphs": str(report).count("\n\n"),
    }


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_other_words_change_no_decision(candidate, monkeypatch):
    before = decisions(candidate)
    for kind in TroubleKind:
        monkeypatch.setitem(trouble.SENTENCES, kind, "etwas stimmt nicht: in 3 von 4")
    assert ar.check(candidate, cases=CASES).passed == before["passed"]
    assert decisions(candidate) == before


def test_other_words_give_a_crash_the_same_command(monkeypatch):
    class Broken:
        def result(self):
            from concurrent.futures import BrokenExecutor

            raise BrokenExecutor

    report = ar.check(attend, cases="shape-17x17")

    def run_again():
        from attention_ref.oracle.cases.suite import CASES
        from attention_ref.oracle.run.job import Job

        return command(report, result_of(Job(CASES["shape-17x17"], "float32", "f32", "scaled_dot", attend), Broken()))

    before = run_again()
    assert before.endswith("--jobs 2")
    monkeypatch.setitem(trouble.SENTENCES, TroubleKind.DIED, "")
    assert run_again() == before


def test_every_kind_has_a_sentence_and_none_shares_its_name():
    assert set(SENTENCES) == set(TroubleKind)
    assert {kind.verdict for kind in TroubleKind} == {
        "error", "fail", "nondeterministic", "suspicious", "known", "unsupported"
    }  # fmt: skip


def test_numbers_do_not_part_a_group():
    def raised(message, exception="ValueError"):
        return Trouble(TroubleKind.RAISED, {"exception": exception, "message": message})

    assert raised("at 3").group == raised("at 4").group
    assert raised("at 3").group != raised("at 3", "TypeError").group
    assert raised("at 3") != raised("at 4")


READS = {
    "startswith",
    "endswith",
    "partition",
    "rpartition",
    "split",
    "rsplit",
    "replace",
    "find",
    "index",
    "removeprefix",
}
SENTENCE = {"sentence", "where", "stage", "reason", "message", "sentences", "told"}


def looks_into(source):
    """The lines in which a method that reads a string is called on a name or attribute that holds a sentence."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READS:
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in SENTENCE:
                lines.append(node.lineno)
        if isinstance(node, ast.Compare) and any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            for holder in node.comparators:
                if isinstance(holder, ast.Attribute) and holder.attr in SENTENCE - {"sentences"}:
                    lines.append(node.lineno)
    return lines


def test_no_module_looks_into_a_sentence():
    """By the names of attributes and variables, which is all that can be seen without running: a net, no proof."""
    sources = {path.relative_to(HOUSE).as_posix(): path.read_text() for path in HOUSE.rglob("*.py")}
    lines_by_file = {name: looks_into(text) for name, text in sources.items()}
    # Not steering: capitalized() leaves the first letter of a paragraph small where it is the name of a result.
    assert {name for name, lines in lines_by_file.items() if lines} <= {"oracle/diagnose/diagnose.py"}


@pytest.mark.parametrize(
    "line", ["run.sentence.startswith('it')", "x = found.where.partition(', only in ')[2]", "'a' in run.sentence"]
)
def test_the_net_catches(line):
    assert looks_into(line) == [1]
