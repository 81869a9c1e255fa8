"""A report for machines: JSON with a schema, and JUnit XML."""

import json
from dataclasses import asdict
from math import isfinite
from xml.etree import ElementTree as xml

from attention_ref.oracle.report.rerun import command

NAME, VERSION = "attention_ref.check", 1
WORST = ("index", "got", "want", "error", "ulps", "bound", "score", "term")
NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}
TEXT, COUNT = {"type": "string"}, {"type": "integer"}
VERDICT = {"enum": ["pass", "known", "fail", "error", "nondeterministic", "suspicious", "unsupported"]}


def strict(properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


WORST_SCHEMA = strict(
    {
        **{
            "index": {"type": "array", "items": COUNT},
            "got": NUMBER,
            "got_hex": TEXT,
            "want": NUMBER,
            "want_hex": TEXT,
        },
        **{name: NUMBER for name in ("error", "ulps", "bound", "score")},
        "term": TEXT,
    }
)
RESULT_SCHEMA = strict(
    {
        **{"result": TEXT, "verdict": VERDICT, "sentence": TEXT, "worst": {"anyOf": [WORST_SCHEMA, {"type": "null"}]}},
        **{"wrong": COUNT, "size": COUNT, "where": TEXT, "band": {"anyOf": [NUMBER, {"type": "null"}]}},
        "varies": {"type": "boolean"},
    }
)
SAMPLE_SCHEMA = strict(
    {
        **{name: {"type": "array", "items": COUNT} for name in ("rows", "keys")},
        **{name: COUNT for name in ("of_rows", "of_keys")},
        "telling": {"anyOf": [NUMBER, {"type": "null"}]},
    }
)
RUN_SCHEMA = strict(
    {
        **{"case": TEXT, "why": TEXT, "flags": {"type": "array", "items": TEXT}, "dtype": TEXT, "model": TEXT},
        **{"verdict": VERDICT, "sentence": TEXT, "seconds": NUMBER, "stage": TEXT, "command": TEXT},
        "results": {"type": "array", "items": RESULT_SCHEMA},
        "sample": {"anyOf": [SAMPLE_SCHEMA, {"type": "null"}]},
    }
)
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": f"{NAME} {VERSION}",
    **strict(
        {
            "schema": {"const": NAME},
            "version": {"const": VERSION},
            "passed": {"type": "boolean"},
            **{name: TEXT for name in ("candidate", "rule", "cases")},
            "dtypes": {"type": "array", "items": TEXT},
            **{"seed": COUNT, "backward": {"anyOf": [TEXT, {"type": "null"}]}, "deterministic": {"type": "boolean"}},
            "dlse": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "timeout": {"anyOf": [NUMBER, {"type": "null"}]},
            **{name: {"anyOf": [COUNT, {"type": "null"}]} for name in ("sample", "length")},
            "models": {"type": "object", "additionalProperties": TEXT},
            "unknown": {"type": "array", "items": TEXT},
            "seconds": NUMBER,
            "backend": TEXT,
            "preset": {"anyOf": [TEXT, {"type": "null"}]},
            "vanished": {"type": "array", "items": TEXT},
            "counts": {"type": "object", "additionalProperties": COUNT},
            "diagnosis": {"anyOf": [TEXT, {"type": "null"}]},
            "runs": {"type": "array", "items": RUN_SCHEMA},
        }
    ),
}


def to_dict(report):
    """A report as plain data that fits SCHEMA."""
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
        "results": [result_as_dict(found) for found in run.results],
        "sample": run.sample,
    }


def result_as_dict(found):
    plain = asdict(found)
    if found.worst is not None:
        worst = {name: numeric(getattr(found.worst, name)) for name in WORST}
        worst["index"] = list(found.worst.index)
        worst |= {f"{name}_hex": float(getattr(found.worst, name)).hex() for name in ("got", "want")}
        plain["worst"] = worst
    return plain | {"band": numeric(found.band)}


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
    details = [c.sentence + f" ({c.where})" * bool(c.where) for c in run.results if c.sentence]
    body = "\n".join([f"there to catch: {run.why}", *details, command(report, run)])
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
