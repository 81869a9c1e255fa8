"""What the failing runs of a check have in common, in a sentence, whatever the mistake may be."""

from attention_ref.oracle.diagnose import factors
from attention_ref.oracle.diagnose.form import failing_results, foreign
from attention_ref.oracle.diagnose.localize import in_common
from attention_ref.oracle.run.localize import describe_pattern

SHOWN = 3


def symptoms(runs):
    """The sentence; "" where nothing fails."""
    failing = [run for run in runs if run.verdict in ("fail", "error")]
    if not failing:
        return ""
    parts = [*multiples(failing, ""), in_common(runs), *places(failing)]
    stages = [run.stage for run in failing if run.broken_stage]
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
    sentences = list(multiples(sampled, " wherever it was compared"))
    for run in sampled:
        got, wrong = run.evidence["got"], [comparison for comparison in run.results if comparison.verdict == "fail"]
        wrong = [c for c in wrong if c.result not in got or not foreign(c.result, got[c.result], run)]
        clauses = [f"{c.result} is wrong {c.where}" if c.place else c.sentence for c in wrong]
        if clauses:
            sentences.append(f"{'; '.join(clauses)} ({run.case}, {run.dtype})")
    more = len(sentences) - SHOWN
    return [*sentences[:SHOWN], f"{more} more below"] if more > 0 else sentences


def places(failing):
    """The places that come up in several cases, the most frequent first; those of a single case."""
    cases: dict = {}
    for run in failing:
        for comparison in run.results:
            if comparison.place and comparison.place.pattern:
                names, _ = cases.setdefault(
                    (comparison.result, comparison.place.pattern), (set(), clause_on(comparison))
                )
                names.add(run.case)
    if len(failing) == 1:
        return [clause for _, clause in cases.values()][:SHOWN]
    often = sorted(cases.values(), key=lambda pair: -len(pair[0]))
    return [f"{clause} ({len(names)} cases)" for names, clause in often[:SHOWN] if len(names) > 1]


def clause_on(comparison):
    return f"{comparison.result} is wrong in {describe_pattern(comparison.place)}"
