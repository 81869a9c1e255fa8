"""What was done instead: the mistakes of the catalog, alone and in pairs, that make just what came.

A mistake explains a failing case if a kernel with that mistake makes what the candidate returned, to rounding; it is
named only if it explains every failing case and changes nothing in those that pass. The gradients are looked at for
themselves, from the o and lse that the candidate returned.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from attention_ref.oracle.diagnose import factors, rounding_like
from attention_ref.oracle.diagnose.faults import MISTAKES, Kernel
from attention_ref.oracle.diagnose.faults.kernel import Narrow
from attention_ref.oracle.diagnose.form import form, raised, varying
from attention_ref.oracle.diagnose.localize import in_common
from attention_ref.oracle.diagnose.observation import BACKWARD, FORWARD, observed
from attention_ref.oracle.diagnose.symptoms import at_samples, symptoms
from attention_ref.oracle.run.truth import RESULTS

CLOSE = 1.25  # of several mistakes that explain everything, those nearly as close as the closest are named
PROBES = 6  # in how many cases a part of a pair is looked for, each with other options
PAIRS = 2000  # how many pairs are tried if no single mistake explains any part
TOLD = 4
NAMES = (*RESULTS, "dq", "dk", "dv")


@dataclass(frozen=True)
class Finding:
    """An explanation of one direction: the names of the mistakes that were made together, in words, how closely."""

    names: tuple
    clause: str
    agreement: float
    asked: str = ""
    rounding: bool = False
    factor: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """The sentence a report prints, the cases it was found in, and the findings, several where cases cannot decide."""

    sentence: str
    cases: tuple = ()
    forward: tuple = ()
    backward: tuple = ()
    parts: tuple = ()


def diagnose(runs, jobs, deterministic=True):
    """A Diagnosis of the failing runs among `runs`, or None where nothing fails; `jobs` are what was run."""
    bad = ("fail", "error") + ("nondeterministic",) * deterministic
    failing = tuple(run.case for run in runs if run.verdict in bad)
    if not failing:
        return None
    with np.errstate(all="ignore"):
        found = findings(observed(runs, jobs))
    formal, errors, unsteady = form(runs), raised(runs), varying(runs)
    named = told(found, "that returns" if any(run.verdict == "error" for run in runs) else "")
    by_chance = any(random(explained) for explained in found.values())
    if unsteady and (deterministic or by_chance):
        named = [unsteady, *(named if not by_chance else ())]
    with np.errstate(all="ignore"):
        sampled = at_samples(runs)
        silent = not (formal or named or sampled or errors)
        unexplained = bool(found) and not all(found.values()) and not (unsteady and by_chance)
        common = [symptoms(runs)] if silent or unexplained else []
        if not common and any(run.verdict == "pass" for run in runs) and any(by_factor(one) for one in found.values()):
            common = [in_common(runs)]
    parts = tuple(part for part in [*formal, *named, *sampled, *common, *errors] if part)
    return Diagnosis(text(parts), failing, found.get(FORWARD, ()), found.get(BACKWARD, ()), parts)


def random(explained):
    """Whether errors that look like rounding, or like nothing, may be those of a candidate that varies."""
    return not explained or explained[0].rounding


def by_factor(explained):
    """Whether all that is known is a factor: then what the cases have in common may tell where it comes from."""
    return bool(explained) and explained[0].factor


def text(sentences):
    """Several sentences as a paragraph that goes on after a colon."""
    first, *rest = [sentence for sentence in sentences if sentence] or [""]
    return ". ".join([first, *map(capitalized, rest)])


def capitalized(sentence):
    """With a capital, unless the sentence begins with the name of a result."""
    return sentence if sentence.split()[0].strip(",") in NAMES else sentence[0].upper() + sentence[1:]


def findings(observations):
    """{"forward": findings, "backward": findings} of the directions in which something fails."""
    found = {}
    for side in (FORWARD, BACKWARD):
        if any(seen.of(side, seen.failing) for seen in observations):
            found[side] = explanations(observations, side, found.get(FORWARD, ()))
    return found


def explanations(observations, side, of_forward):
    """The findings of one direction, () if nothing in the catalog explains it."""
    relevant = sorted((seen for seen in observations if seen.of(side)), key=lambda seen: seen.cost)
    failing = [seen for seen in relevant if seen.of(side, seen.failing)]
    relevant = failing + [seen for seen in relevant if seen not in failing]
    groups = [singles(side)]
    if side == BACKWARD:
        first = [mistakes_of(finding.names) for finding in of_forward]
        groups = [[()], [(Narrow,)], first, [(*mistakes, Narrow) for mistakes in first], *groups]
    factors = multiples(failing, side)
    for group in groups:
        found = surviving(group, relevant, side)
        # Several mistakes that these cases do not tell apart say less than the one factor that all of them make.
        if found and not (factors and len(found) > 1):
            return found
    if factors:
        return (Finding((factors,), factors, 0.0, factor=True),)
    rounded = rounding_like.coarse(failing, side)
    if rounded:
        return (Finding((rounded.name,), rounded.clause, rounded.error, rounding=True),)
    return surviving(pairs(failing, side), relevant, side)


def multiples(failing, side):
    """The clauses on one factor each, if that is what is wrong with every result that fails; "" if not."""
    results = {}
    for seen in failing:
        for name in seen.of(side, seen.failing):
            results.setdefault(name, []).append((seen.got[name], seen.want[name], seen.bounds[name]))
    clauses = list(factors.clauses(results))
    return ", ".join(clauses) if len(clauses) == len(results) else ""


def mistakes_of(names):
    return tuple(MISTAKES[name] for name in names if name in MISTAKES)


def singles(side):
    return [(mistake,) for mistake in MISTAKES.values() if side == BACKWARD or not mistake.backward_only]


def kernel_with(mistakes):
    """One kernel with all these mistakes."""
    if len(mistakes) == 1:
        return mistakes[0]
    body = {"narrow": any(mistake.narrow for mistake in mistakes)}
    return type("Kernel", (*mistakes, Kernel), body) if mistakes else Kernel


def surviving(group, observations, side):
    """The findings of a group that fit every observation, the closest first."""
    fits = {}
    for mistakes in group:
        kernel = kernel_with(mistakes)
        worst = (0.0, 0.0)
        for seen in observations:
            found = seen.fits(kernel, side)
            if found is None:
                break
            worst = max(worst[0], found[0]), max(worst[1], found[1])
        else:
            fits[mistakes] = worst
    nearest = min((size for size, _ in fits.values()), default=0)
    kept = sorted((m for m in fits if fits[m][0] <= CLOSE * nearest), key=lambda m: fits[m])
    return tuple(finding(mistakes, fits[mistakes][1], observations) for mistakes in kept)


def finding(mistakes, agreement, observations):
    mistakes = [mistake for mistake in mistakes if mistake is not Narrow]
    names = tuple(mistake.name() for mistake in mistakes)
    clause = " and ".join(mistake.clause() for mistake in mistakes)
    options = [m.asked for m in mistakes if m.asked]
    asked = {str(seen.truth.options.get(name)) for name in options for seen in observations if seen.failing}
    asked = {one for one in asked & {"top_left", "bottom_right"} if one not in clause}
    return Finding(names, clause, agreement, " or ".join(sorted(asked)))


def pairs(failing, side):
    """Pairs of which one mistake explains at least one failing result; all pairs of few if there is none."""
    catalog = [mistakes[0] for mistakes in singles(side)]
    cheapest = {tuple(seen.truth.options): seen for seen in reversed(failing)}.values()
    some = sorted(cheapest, key=lambda seen: seen.cost)[:PROBES]
    partial = [mistake for mistake in catalog if any(part_of(seen, mistake, side) for seen in some)]
    if partial:
        once = {frozenset((one, other)): (one, other) for one in partial for other in catalog}
        yield from (pair for pair in once.values() if compatible(*pair))
        return
    effective = [mistake for mistake in catalog if moves(some[0], mistake, side)]
    several = [pair for pair in combinations(effective, 2) if compatible(*pair)]
    yield from several[:PAIRS]


def compatible(one, other):
    return one is not other and not issubclass(one, other) and not issubclass(other, one)


def part_of(seen, mistake, side):
    """Whether a mistake explains one of the results that fail here."""
    made = seen.made(mistake, side)
    return made is not None and any(
        name in made and seen.explained(name, made[name]) is not None for name in seen.of(side, seen.failing)
    )


def moves(seen, mistake, side):
    """Whether a mistake changes anything that fails here."""
    made = seen.made(mistake, side)
    names = seen.of(side, seen.failing)
    return made is not None and any(name in made and seen.untouched(name, made[name]) is None for name in names)


def told(found, which=""):
    """The sentences of the findings, the forward pass first; `which` says of which cases."""
    sentences = []
    for side, explained in found.items():
        what = f"every case {which}".strip() if side == FORWARD else "every gradient"
        if not explained:
            sentences.append(f"no mistake of the catalog, alone or with another, makes these {noun(side)}")
        elif explained[0].names == ():
            sentences.append("the gradients are right for the o and lse that were returned")
        elif side == BACKWARD and explained[0].names == names_of(found.get(FORWARD)):
            sentences.append("the gradients have the same mistake")
        elif explained[0].factor:
            sentences.append(explained[0].clause)
        elif explained[0].rounding:
            size = number(explained[0].agreement)
            sentences.append(
                f"{what} is off by up to {size}, either way, as errors are that come of {explained[0].clause}"
            )
        else:
            sentences.append(f"{what} agrees {listed(explained)}")
    return sentences


def number(x):
    return f"{x:.0e}".replace("e-0", "e-") if x else "the last bit"


def noun(side):
    return "results" if side == FORWARD else "gradients"


def names_of(explained):
    return explained[0].names if explained else None


def listed(explained):
    """ "to 3e-7 with one thing, or with another: these cases do not tell them apart"."""
    first, *others = explained
    text = f"to {number(first.agreement)} with {first.clause}"
    for other in others[: TOLD - 1]:
        text += f", or with {other.clause}"
    text += f", or {len(others) - TOLD + 1} other mistakes" if len(others) >= TOLD else ""
    text += ": these cases do not tell them apart" if others else ""
    return text + (f"; you were asked for {first.asked}" if first.asked else "")
