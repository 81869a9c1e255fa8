"""What the failing runs of a check have in common, in a sentence, whatever the mistake may be."""

from attention_ref.oracle.diagnose import factors
from attention_ref.oracle.diagnose.form import failing_results, foreign
from attention_ref.oracle.diagnose.localize import in_common

TOLD = 3


def symptoms(runs):
    """The sentence; "" where nothing fails."""
    failing = [run for run in runs if run.verdict in ("fail", "error")]
    if not failing:
        return ""
    parts = [*multiples(failing, ""), in_common(runs), *places(failing)]
    stages = list(dict.fromkeys(run.stage for run in failing if run.stage))
    sentence = "; ".join(part for part in [*parts, *stages[:1]] if part)
    return sentence or "no flag, size or place separates the failing cases from the others"


def multiples(runs, where):
    """The clauses on what is off by one factor."""
    results = {}
    for name, got, want, run, _ in failing_results(runs):
        results.setdefault(name, []).append((got, want, run.evidence["bounds"][name]))
    return factors.clauses(results, where)


def at_samples(runs):
    """What is wrong in each failing sample, its dtypes aside: long cases are too few for what they have in common."""
    sampled = [run for run in runs if run.verdict == "fail" and run.sample]
    told = list(multiples(sampled, " wherever it was compared"))
    for run in sampled:
        got, wrong = run.evidence["got"], [found for found in run.results if found.verdict == "fail"]
        wrong = [c for c in wrong if c.result not in got or not foreign(c.result, got[c.result], run)]
        clauses = [f"{found.result} is wrong {found.where}" if found.where else found.sentence for found in wrong]
        told += [f"{'; '.join(clauses)} ({run.case}, {run.dtype})"] if clauses else []
    return told[:TOLD] + [f"{len(told) - TOLD} more below"] * (len(told) > TOLD)


def places(failing):
    """The places that come up in several cases, the most frequent first; those of a single case."""
    cases = {}
    for run in failing:
        for found in run.results:
            place = found.where.partition(", only in ")[2] or found.where.partition(" elements: ")[2]
            if place:
                cases.setdefault(f"{found.result} is wrong in {place}", set()).add(run.case)
    if len(failing) == 1:
        return list(cases)[:TOLD]
    often = sorted((len(names), place) for place, names in cases.items() if len(names) > 1)[::-1]
    return [f"{place} ({n} cases)" for n, place in often[:TOLD]]
