"""What a report says of a sample: which rows and keys were compared, and with which probability a fault is missed."""

import numpy as np

from attention_ref.op.words import listed
from attention_ref.oracle.report.page import held
from attention_ref.oracle.run.sampling import BLOCK, block_missed, missed, one_key_missed

SHARES = (0.001, 0.01, 0.1)  # of all rows or keys: how large a fault is that lies at random places
REST = "All other rows and keys were looked at for shape, dtype and NaN only: a wrong number there is not seen."
ONCE = "The candidate ran once: whether its bits vary between runs was not looked at."
AT = {"rows": ("o", "lse", "dq"), "keys": ("dk", "dv")}


def sentences(facts, results):
    """What a sample proves, and how likely it is to miss what; `results` are those that were compared."""
    yield f"Compared: {compared(facts, results)}."
    for name, index, size in lines_of(facts, results):
        if 0 < len(index) < size:
            faulty = dict.fromkeys(max(1, round(share * size)) for share in SHARES)
            shares = [f"{n:,} of the {size:,} {name}: {chance(missed(size, len(index), n))}" for n in faulty]
            block = f"one block of {BLOCK}: {chance(block_missed(index, size))}"
            yield f"A fault at random places is missed with probability: {', '.join([*shares, block])}."
    share = facts["detectable_key_share"]
    if share is not None and "o" in results and 0 < len(facts["rows"]) < facts["of_rows"]:
        yield (
            f"Of the keys that a sampled row sees, {share:.3%} hold so much of its weight that o breaks its bound "
            f"without them. One key, any, left out in one block of {BLOCK} rows, any, is missed with probability "
            f"{chance(one_key_missed(facts))}, and with {chance(1 - share)} where the block is sampled at one row."
        )


def sentence(facts, results):
    """The same in short, of one of several runs."""
    clauses = [compared(facts, results)]
    for name, index, size in lines_of(facts, results):
        if 0 < len(index) < size:
            probability = chance(block_missed(index, size))
            clauses.append(f"a fault in one block of {BLOCK} {name} is missed with probability {probability}")
    if facts["detectable_key_share"] is not None and "o" in results:
        clauses.append(f"one key left out in one block of rows with {chance(one_key_missed(facts))}")
    return "; ".join(clauses)


def compared(facts, results):
    clauses = []
    for name, index, size in lines_of(facts, results):
        names = [result for result in AT[name] if result in results]
        clauses.append(f"{listed(names)} at {share_of(index, size, name.removesuffix('s'))}")
    return "; ".join(clauses) or "nothing"


def lines_of(facts, results):
    """("rows" or "keys", the sampled indices, of how many) of those at which some of these results are."""
    at = [name for name in AT if set(AT[name]) & set(results)]
    return [(name, np.array(facts[name]), facts[f"of_{name}"]) for name in at]


def share_of(index, size, name):
    """ "64 of 131,072 rows (0, 2047, 2048, …, 131071)"."""
    if len(index) == size:
        return f"all {size:,} {name}s" if size != 1 else f"the only {name}"
    *first, last = index.tolist()
    some = f"{', '.join(map(str, first[:3]))}, …, {last}" if len(first) > 3 else ", ".join(map(str, index))
    return f"{len(index)} of {size:,} {name if size == 1 else name + 's'} ({some})"


def chance(p):
    """A probability that is not called 1 or 0 unless it is."""
    if p in (0, 1):
        return f"{p:.0f}"
    if 0.0005 <= p < 0.9995:
        return f"{p:.3f}"
    return held(f"1 - {1 - p:.1e}") if p > 0.5 else f"{p:.1e}"
