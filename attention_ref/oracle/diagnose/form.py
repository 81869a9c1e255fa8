"""What is wrong with results before any of their numbers: how they come, their dtype, their shape.

Each sentence says in how many cases, and the usual cause or what to do.
"""

from itertools import permutations

from attention_ref.op.words import listed
from attention_ref.oracle.run.trouble import TroubleKind

NARROW = (
    "a float64 scalar or array in it promotes the rest, as np.sqrt(d) of an integer does; compute in q.dtype or return "
    "o.astype(q.dtype)"
)
CHANGED = "results and gradients come back in the dtype of the inputs, lse also in the accumulator's"
VARIES = "an uninitialized buffer, a race or an unseeded generator does that"
SHOWN = 3  # groups of runs, and names of cases: the report has all of them
WRITES = (TroubleKind.WRITES_INPUT, TroubleKind.RETURNS_VIEW)


def form(runs):
    """The sentences on how the results of the failing runs come."""
    return [*written(runs), *dtypes(runs), *shapes(runs)]


def written(runs):
    """What a run is failed for whatever its numbers: it writes into an input, or returns a view of one."""
    groups = grouped(run for run in runs if run.verdict == "fail" and run.trouble.kind in WRITES)
    return [f"{group[0].sentence}: {cases(group)}" for group in groups[:SHOWN]]


def raised(runs):
    """The sentences on what was raised, or returned and of no use, the most frequent first."""
    sentences = []
    groups = grouped(run for run in runs if run.verdict == "error")
    ran = [run for run in runs if run.verdict != "unsupported"]
    for group in groups[:SHOWN]:
        others = {flag for run in ran if run not in group for flag in run.flags}
        shared = [flag for flag in group[0].flags if flag not in others and all(flag in run.flags for run in group)]
        which = f", the cases with the flag {shared[0]}" if shared and len(group) > 1 else ""
        sentences.append(f"{group[0].sentence}: {cases(group)}{which}")
    if len(groups) > SHOWN:
        sentences.append("other errors are below")
    return sentences


def varying(runs):
    """A sentence on the results that differ between two runs on the same inputs; "" if there are none."""
    unsteady = {run.case: [c.result for c in run.results if c.varies] for run in runs}
    names = list(dict.fromkeys(name for results in unsteady.values() for name in results))
    if not names:
        return ""
    which = cases([run for run in runs if unsteady[run.case]])
    verb = "differs" if len(names) == 1 else "differ"
    return f"{listed(names)} {verb} between two runs on the same inputs in {which}: {VARIES}"


def grouped(runs):
    """The runs by the kind of their trouble, the largest group first."""
    groups: dict = {}
    for run in runs:
        groups.setdefault(run.trouble.group, []).append(run)
    return sorted(groups.values(), key=len, reverse=True)


def cases(runs):
    names = list(dict.fromkeys(run.case for run in runs))
    if len(names) == 1:
        return names[0]
    more = ", …" if len(names) > SHOWN else ""
    return f"{len(names)} cases ({', '.join(names[:SHOWN])}{more})"


def failing_results(runs):
    """(name, got, want, run, comparison) of every result that failed."""
    for run in runs:
        for comparison in run.results:
            if comparison.verdict == "fail" and run.evidence and comparison.result in run.evidence["got"]:
                want = run.evidence["want"][comparison.result]
                yield comparison.result, run.evidence["got"][comparison.result], want, run, comparison


def dtypes(runs):
    """One sentence for each wrong dtype: what it is, and why that usually happens."""
    groups = {}
    for name, got, want, run, _ in failing_results(runs):
        if got.shape == want.shape and foreign(name, got, run):
            groups.setdefault((got.dtype.name, run.dtype), {}).setdefault(name, []).append(run)
    for (got, asked), names in groups.items():
        first = [run for runs in names.values() for run in runs]
        verb = "come back" if len(names) > 1 else "comes back"
        cause = NARROW if got == "float64" else CHANGED
        yield f"{listed(names)} {verb} as {got} for {asked} inputs in {cases(first)}: {cause}"


def foreign(name, got, run):
    """Has a result a dtype that it should not have?"""
    return got.dtype.name not in ({run.dtype, "float32"} if name == "lse" else {run.dtype})


def shapes(runs):
    """One sentence for each result of a wrong shape: what was done to the axes, if one thing explains all cases."""
    groups = {}
    for name, got, want, run, comparison in failing_results(runs):
        if got.shape != want.shape:
            groups.setdefault(name, []).append((got.shape, want.shape, run, comparison))
    for name, some in groups.items():
        clause = next((text for text, change in CHANGES if all(g in change(w) for g, w, *_ in some)), "")
        if name in ("dk", "dv") and all(not_summed(g, w) for g, w, *_ in some):
            clause = "one gradient for each query head: sum it over the heads of a group"
        which = cases([run for _, _, run, _ in some])
        sentence = some[0][3].sentence
        yield f"{sentence}, {clause}: {which}" if clause else f"{sentence}: {which}"


def not_summed(got, want):
    return len(got) == len(want) > 2 and got[-2:] == want[-2:] and got[-3] > want[-3]


def exchanged(one, other):
    def change(shape):
        if len(shape) < max(one, other):
            return ()
        axes = list(shape)
        axes[-one], axes[-other] = axes[-other], axes[-one]
        return (tuple(axes),)

    return change


def merged(shape):
    """(batch, row, head * width) of (batch, head, row, width)."""
    return ((*shape[:-3], shape[-2], shape[-3] * shape[-1]),) if len(shape) > 2 else ()


def flattened(shape):
    """(batch * head, row, width) of (batch, head, row, width)."""
    return ((shape[0] * shape[1], *shape[2:]),) if len(shape) > 3 else ()


CHANGES = (
    ("the last two axes exchanged", exchanged(1, 2)),
    ("the axes of heads and rows exchanged: what comes as (batch, head, row, width) goes back so", exchanged(2, 3)),
    ("the heads merged into the width", merged),
    ("batch and heads merged", flattened),
    ("one axis too many", lambda shape: ((1, *shape), (*shape, 1))),
    ("axes of size 1 left out", lambda shape: (tuple(n for n in shape if n != 1),)),
    ("without the last axis", lambda shape: (shape[:-1],)),
    ("all axes there, in another order", lambda shape: set(permutations(shape))),
)
