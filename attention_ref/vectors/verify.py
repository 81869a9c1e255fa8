"""Run a candidate against the vectors and judge it by the stored bounds.

A candidate is a function like `ar.attention`: `candidate(q, k, v, **options)`, with `rule=` if it has several rules. It
returns o, or an object with `o` and, as far as it has them, `alpha`, `lse` and `backward(do, dlse=…, dalpha=…)`, which
gives gradients by name; or a pair (o, backward), where `backward(do)` may also give the tuple (dq, dk, dv). What it
does not take it refuses with NotImplementedError, or by having no such parameter: that is counted, not judged.
"""

import inspect
from dataclasses import dataclass, field

import numpy as np

from attention_ref.op.words import first_line, shorten
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.run.compare import Wanted, compare
from attention_ref.vectors import encoding

MODELS = {name: fmt.model for name, fmt in number_formats.FORMATS.items()}

FLOAT64 = number_formats.find("float64")


@dataclass
class Verdict:
    """What became of one test: passed, failed, not supported or not expressible in the dtype; and why."""

    file: str
    test: dict
    status: str
    why: str = ""
    ratio: float = 0.0
    checked: tuple = ()


@dataclass
class Summary:
    """All verdicts of a candidate."""

    verdicts: list = field(default_factory=list)

    def count(self, status):
        return sum(verdict.status == status for verdict in self.verdicts)

    @property
    def passed(self):
        return self.count("failed") == 0 and self.count("passed") > 0

    @property
    def worst(self):
        return max((verdict.ratio for verdict in self.verdicts if verdict.status == "passed"), default=0.0)

    def failures(self):
        return [verdict for verdict in self.verdicts if verdict.status == "failed"]

    def checked(self):
        """{name: in how many tests it was judged}"""
        names = [name for verdict in self.verdicts for name in verdict.checked]
        return {name: names.count(name) for name in dict.fromkeys(names)}


def verify(candidate, rule=None, dtype="float32", model=None, folder=encoding.DATA, only=None, flags=(), without=()):
    """Run every vector of the rule (of all rules, if the candidate has a parameter `rule`)."""
    model = model or MODELS[dtype]
    takes = parameters(candidate)
    rule = rule or (None if "rule" in takes else "scaled_dot")
    large, summary = encoding.load_large(folder), Summary()
    for file, group, test in encoding.vectors(folder, only):
        wanted = set(flags) <= set(test["flags"]) and not set(without) & set(test["flags"])
        if rule in (None, group["rule"]) and wanted:
            name = {"rule": group["rule"]} if "rule" in takes else {}
            summary.verdicts.append(judge(candidate, takes, file, test, name, dtype, model, large))
    return summary


def parameters(candidate):
    """The names of a candidate's parameters; None among them stands for any."""
    found = inspect.signature(candidate).parameters.values()
    return {None if p.kind == p.VAR_KEYWORD else p.name for p in found}


def judge(candidate, takes, file, test, name, dtype, model, large):
    inputs, options = arguments(test, large)
    unknown = sorted(option for option in (*inputs, *options) if option not in takes and None not in takes)
    if unknown:
        return Verdict(file, test, "unsupported", f"takes no {unknown[0]}")
    if test["result"] != "invalid" and model not in test["bounds"]:
        return Verdict(file, test, "inexpressible", f"the inputs do not fit {dtype}")
    given = {n: cast(x, dtype) for n, x in inputs.items()}
    try:
        with np.errstate(all="ignore"):
            answer = candidate(given.pop("q"), given.pop("k"), given.pop("v"), **given, **options, **name)
            got = results_and_gradients(answer, test, dtype, large)
    except NotImplementedError as error:
        return Verdict(file, test, "unsupported", shorten(first_line(str(error)), 200))
    except Exception as error:
        status = "passed" if test["result"] == "invalid" else "failed"
        return Verdict(file, test, status, f"{type(error).__name__}: {shorten(first_line(str(error)), 200)}")
    if test["result"] == "invalid":
        return Verdict(file, test, "failed", "was not refused")
    return best(
        file, test, [judged_by(want, got, model, large) for want in (test, *test.get("alternatives", {}).values())]
    )


def best(file, test, outcomes):
    """Passed if one of the accepted answers is matched as a whole."""
    for why, ratio, checked in outcomes:
        if not why:
            return Verdict(file, test, "passed", "", ratio, checked)
    why, ratio, checked = outcomes[0]
    return Verdict(file, test, "failed", why, ratio, checked)


def arguments(test, large):
    """(arrays, options) as `ar.attention` takes them."""
    inputs = encoding.tree(test["inputs"], large)
    options = {name: tuple(x) if isinstance(x, list) else x for name, x in test["options"].items()}
    if "dropout" in inputs and "dropout_p" in options:
        options["dropout"] = inputs.pop("dropout"), options.pop("dropout_p")
    return inputs, options


def cast(x, dtype):
    if x.dtype.kind != "f":
        return x
    return x.astype(number_formats.find(dtype).dtype)


def results_and_gradients(answer, test, dtype, large):
    """{"results": …, "gradients": …} in float64, as far as the candidate has them."""
    backward = None
    if isinstance(answer, tuple) and len(answer) == 2 and callable(answer[1]):
        answer, backward = answer
    if hasattr(answer, "o"):
        backward = getattr(answer, "backward", None)
        results = {name: getattr(answer, name, None) for name in ("o", "alpha", "lse")}
    else:
        results = {"o": answer}
    results = {name: float64(x) for name, x in results.items() if x is not None}
    gradients = {}
    if backward is not None and test["result"] != "invalid":
        cotangents = {f"d{n}": cast(x, dtype) for n, x in encoding.tree(test["cotangents"], large).items()}
        if set(cotangents) != {"do"} and not set(cotangents) <= parameters(backward) | {None}:
            return {"results": results, "gradients": {}}
        found = backward(cotangents["do"]) if set(cotangents) == {"do"} else backward(**cotangents)
        found = dict(zip("qkv", found, strict=True)) if isinstance(found, tuple) else found
        gradients = {name: float64(x) for name, x in found.items()}
    return {"results": results, "gradients": gradients}


def float64(x):
    return np.asarray(x).astype(np.float64)


def judged_by(want, got, model, large):
    """(what is wrong, or nothing; the largest |got − want| / bound; what was judged)."""
    ratio, checked = 0.0, []
    for kind in ("results", "gradients"):
        for name, entry in want["expected"][kind].items():
            if name not in got[kind]:
                continue
            right = encoding.decoded(entry, large)
            bound = encoding.decoded_bound(want["bounds"][model][kind][name], right.shape, large)
            label = name if kind == "results" else f"d{name}"
            comparison = compared(label, got[kind][name], right, bound)
            if comparison.verdict != "pass":
                return sentence(comparison), np.inf, tuple(checked)
            if comparison.worst is not None:
                ratio = max(ratio, comparison.worst.score)
            checked.append(label)
    return "", ratio, tuple(checked)


def compared(label, got, right, bound):
    """The check's comparison. An infinite bound asks for nothing, whatever is right: so say the vectors' readers."""
    if got.shape == right.shape:
        got = np.where(np.isposinf(bound), right, got)
    comparison, _ = compare(label, got, Wanted(right, bound, FLOAT64, (FLOAT64.dtype,)))
    return comparison


def sentence(comparison):
    worst = comparison.worst
    if worst is None:
        return comparison.sentence
    place = f"{comparison.result}{list(worst.index)} is {worst.got:.9g}, right is {worst.want:.9g}"
    return f"{place}, off by {worst.error:.2g}, allowed {worst.bound:.2g}"
