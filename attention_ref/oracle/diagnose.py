"""What is wrong with a candidate, in a sentence, from the runs that failed."""

from dataclasses import dataclass

from attention_ref.oracle.localize import in_common

TOLD = 3


@dataclass(frozen=True)
class Diagnosis:
    """The sentence a report prints, and the cases it was found in."""

    sentence: str
    cases: tuple = ()


def diagnose(runs):
    """A Diagnosis of the failing runs among `runs`, or None where nothing fails.

    Each failing run carries `evidence`: {"case", "inputs", "got", "want", "bounds"}, the last three by result.
    """
    failing = [run for run in runs if run.verdict in ("fail", "error")]
    if not failing:
        return None
    parts = [in_common(runs), *troubles(failing), *places(failing)]
    stages = list(dict.fromkeys(run.stage for run in failing if run.stage))
    sentence = "; ".join(part for part in [*parts, *stages[:1]] if part)
    return Diagnosis(sentence or "the failing cases have nothing in common", tuple(run.case for run in failing))


def troubles(failing):
    """What the candidate did in every failing case alike, whatever the numbers."""
    sentences = {run.sentence for run in failing}
    return sentences if len(sentences) == 1 and len(failing) > 1 else ()


def places(failing):
    """The places that come up in several cases, the most frequent first."""
    cases = {}
    for run in failing:
        for found in run.results:
            place = found.where.partition(", only in ")[2] or found.where.partition(" elements: ")[2]
            if place:
                cases.setdefault(f"{found.result} is wrong in {place}", set()).add(run.case)
    often = sorted((len(names), place) for place, names in cases.items() if len(names) > 1)[::-1]
    return [f"{place} ({n} cases)" for n, place in often[:TOLD]]
