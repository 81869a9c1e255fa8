"""The float64 path's proven error on every vector, by rule: what it is compared with is exact, correctly rounded."""

from collections import Counter, defaultdict

import numpy as np

import attention_ref as ar
from attention_ref.vectors import encoding
from attention_ref.vectors.verify import arguments

U = 2.0**-53
FINE = 4  # units: a value rounded a few times on its way; what is above it needs a reason
REASONS = """\
error: max |got - exact| / max |exact| over an array, in units of 2^-53.
More than 4 has one of three reasons:
underflow  the inputs are subnormal, and 2^-53 of the result is less than a subnormal
zero       the exact answer is 0 everywhere, so that any error is infinitely large beside it
sensitive  its terms cancel, or exp enlarges a rounding of the scores: any correct program may be
           off there by the a-priori bound, in the last column in the same units"""
HEAD = f"{'':28} {'arrays':>6} {'<= 4':>6} {'underflow':>10} {'zero':>6} {'sensitive':>10} {'worst':>9} {'bound':>9}"


def page():
    """The lines of `python -m benchmarks.certify --vectors`."""
    yield f"{REASONS}\n"
    yield from table()


def table(folder=encoding.DATA):
    """The lines of the table."""
    yield HEAD
    large = encoding.load_large(folder)
    judgments = defaultdict(list)
    for file, group, test in encoding.vectors(folder):
        if test["result"] != "invalid":
            for kind, judgment in judged_arrays(ar.rules[group["rule"]], test, large):
                judgments[file, kind].append(judgment)
    for (file, kind), judgments_of_kind in judgments.items():
        yield line(f"{file} {kind}", judgments_of_kind)


def line(label, judgments):
    count = Counter(reason for reason, _, _ in judgments)
    explained = [(error, limit) for reason, error, limit in judgments if reason in ("fine", "sensitive")]
    worst, limit = max(explained, default=(0, 0))
    cells = f"{len(judgments):6} {count['fine']:6} {count['underflow']:10} {count['zero']:6} {count['sensitive']:10}"
    text = f"{label:28} {cells} {worst:9.3g} {limit:9.3g}"
    return f"{text}  {count['none']} WITHOUT A REASON" if count["none"] else text


def judged_arrays(rule, test, large):
    """(kind, (reason, error, bound)) of each result and gradient of a test."""
    inputs, options = arguments(test, large)
    value, tape = rule.forward(**inputs, **options)
    cotangents = encoding.tree(test["cotangents"], large)
    grads = rule.backward(tuple(cotangents.get(name) for name in ("o", "alpha", "lse")), **tape)
    computed = {"results": dict(zip(("o", "alpha", "lse"), value, strict=True)), "gradients": grads}
    for kind, arrays in computed.items():
        for name, entry in test["expected"][kind].items():
            right = encoding.decoded(entry, large)
            limit = encoding.decoded_bound(test["bounds"]["f64"][kind][name], right.shape, large)
            yield kind, judged(arrays[name], right, limit, "Subnormal" in test["flags"])


def judged(got, right, limit, subnormal):
    """(the reason for an error above 4, the error, the bound), each in units of 2⁻⁵³ of the largest exact value."""
    finite = np.isfinite(right)
    size = np.max(np.abs(right[finite]), initial=0)
    error = np.abs(got[finite] - right[finite])
    worst = np.max(error + np.where(error > 0, np.spacing(np.abs(right[finite])) / 2, 0), initial=0)
    if worst == 0:
        return "fine", 0.0, 0.0
    if size == 0:
        return "zero", np.inf, np.inf
    worst, most = (float(x / size / U) for x in (worst, np.max(limit[finite], initial=0)))
    if worst <= FINE:
        return "fine", worst, most
    if subnormal:
        return "underflow", worst, most
    return "sensitive" if worst <= most else "none", worst, most
