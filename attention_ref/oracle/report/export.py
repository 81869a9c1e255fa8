"""A report for machines: JSON with a schema, and JUnit XML."""

import json
from math import isfinite
from pathlib import Path
from xml.etree import ElementTree as xml

from attention_ref.oracle.report.rerun import command

NAME, VERSION = "attention_ref.check", 1
WORST = ("index", "got", "want", "error", "ulps", "bound", "score", "term")
RESULT = ("result", "verdict", "sentence", "wrong", "size", "where", "varies")
SCHEMA = Path(__file__).with_name("report.schema.json")


def to_dict(report):
    """A report as plain data that fits the schema."""
    diagnosis = None if report.diagnosis is None else report.diagnosis.sentence
    return {
        "schema": NAME,
        "version": VERSION,
        "passed": report.passed,
        **report.meta,
        "counts": report.counts(),
        "diagnosis": diagnosis,
        "runs": [run_as_dict(report, run) for run in report.runs],
    }


def run_as_dict(report, run):
    plain = {name: getattr(run, name) for name in ("case", "why", "dtype", "model", "verdict", "sentence", "stage")}
    return plain | {
        "flags": list(run.flags),
        "seconds": run.seconds,
        "command": command(report, run),
        "results": [result_as_dict(comparison) for comparison in run.results],
        "sample": run.sample,
    }


def result_as_dict(comparison):
    plain = {name: getattr(comparison, name) for name in RESULT}
    worst = None
    if comparison.worst is not None:
        worst = {name: numeric(getattr(comparison.worst, name)) for name in WORST}
        worst["index"] = list(comparison.worst.index)
        worst |= {f"{name}_hex": float(getattr(comparison.worst, name)).hex() for name in ("got", "want")}
    return plain | {"worst": worst, "band": numeric(comparison.band), "known": list(comparison.known)}


def numeric(x):
    """JSON has no NaN and no infinity: they are words here."""
    if isinstance(x, float) and not isfinite(x):
        return f"{x:g}"
    return x


def to_json(report, indent=2):
    return json.dumps(to_dict(report), indent=indent, allow_nan=False)


def to_junit(report):
    """JUnit XML: a suite for each dtype, a test case for each case."""
    root = xml.Element("testsuites", name="attention-ref check")
    for dtype in report.meta["dtypes"]:
        runs = [run for run in report.runs if run.dtype == dtype]
        kinds = [element_of(report, run) for run in runs]
        suite = xml.SubElement(
            root,
            "testsuite",
            name=f"{report.meta['candidate']} {report.meta['rule']} {dtype}",
            tests=str(len(runs)),
            failures=str(kinds.count("failure")),
            errors=str(kinds.count("error")),
            skipped=str(kinds.count("skipped")),
            time=f"{sum(run.seconds for run in runs):.3f}",
        )
        for run in runs:
            add_case(suite, report, run)
    xml.indent(root)
    return xml.tostring(root, encoding="unicode", xml_declaration=True)


def add_case(suite, report, run):
    case = xml.SubElement(suite, "testcase", classname=f"{report.meta['rule']}.{run.dtype}", name=run.case)
    case.set("time", f"{run.seconds:.3f}")
    kind = element_of(report, run)
    details = [f"{c.sentence} ({c.where})" if c.place else c.sentence for c in run.results if c.trouble]
    body = "\n".join([f"Catches: {run.why}", *details, command(report, run)])
    if kind:
        xml.SubElement(case, kind, message=printable(run.sentence)).text = printable(body)
    elif run.verdict != "pass":
        xml.SubElement(case, "system-out").text = printable(f"{run.verdict}: {run.sentence}\n{body}")


def element_of(report, run):
    kinds = {"fail": "failure", "error": "error", "unsupported": "skipped"}
    if run.verdict == "nondeterministic" and report.meta["deterministic"]:
        return "failure"
    return kinds.get(run.verdict, "")


def printable(text):
    """XML has no control characters."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)
