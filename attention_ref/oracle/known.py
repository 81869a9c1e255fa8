"""The deviations that a library is known for: seen again, they do not fail; no longer seen, they are reported."""

from dataclasses import replace

BAD = ("fail", "error", "nondeterministic", "suspicious")
RANK = ("error", "fail", "nondeterministic", "suspicious", "known", "pass", "unsupported")


def explained(run, known):
    """The run with "known" as the verdict on every result, and on itself, that a known deviation accounts for."""
    if run.verdict not in BAD or not known:
        return run
    results = [told(run, found, known) for found in run.results]
    verdicts = [found.verdict for found in results]
    if run.verdict == "error" or run.sentence not in [found.sentence for found in run.results]:
        whole = reason(run, "", run.verdict, known)
        return replace(run, results=results, verdict="known", sentence=whole.sentence) if whole else run
    verdict = min(verdicts, key=RANK.index)
    sentence = next(found.sentence for found in results if found.verdict == verdict)
    return replace(run, results=results, verdict=verdict, sentence=sentence)


def told(run, found, known):
    why = reason(run, found.result, found.verdict, known)
    return replace(found, verdict="known", sentence=why.sentence) if why else found


def reason(run, result, verdict, known):
    """The known deviation that explains a verdict; None if there is none."""
    return next((one for one in known if one.explains(run.case, run.dtype, result, verdict)), None)


def vanished(runs, known):
    """The sentences of the deviations whose cases were checked and showed none of it."""
    gone = []
    for one in known:
        covered = [run for run in runs if one.covers(run.case, run.dtype) and checked(run, one)]
        told = {run.sentence for run in covered} | {c.sentence for run in covered for c in run.results}
        if covered and one.sentence not in told:
            gone.append(one.sentence)
    return gone


def checked(run, one):
    """Whether a run had any of the results that the deviation is about."""
    return any(c.verdict != "unsupported" and (not one.results or c.result in one.results) for c in run.results)
