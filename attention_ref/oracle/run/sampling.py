"""Which rows and keys a sample looks at, and how likely a fault is to lie beside it."""

from math import exp, lgamma

import numpy as np

BLOCK = 64  # the tiles of kernels are multiples of 64, or divide it
SHARES = (0.001, 0.01, 0.1)
REST = "All other rows and keys were looked at for shape, dtype and NaN only: a wrong number there is not seen."
ONCE = "The candidate ran once: whether its bits vary between runs was not looked at."
AT = {"rows": ("o", "lse", "dq"), "keys": ("dk", "dv")}


def chosen(length, count, rng):
    """`count` positions: one in each of as many equal parts, half at random, a quarter each on either side of a border.

    The first and the last position are among them. Borders are those of blocks of 64.
    """
    if count >= length:
        return np.arange(length)
    edges = np.linspace(0, length, count + 1)
    drawn = (edges[:-1] + rng.random(count) * np.diff(edges)).astype(int)
    border = np.round(drawn / BLOCK).astype(int) * BLOCK
    kind = np.arange(count) % 4
    drawn = np.where(kind == 1, border - 1, np.where(kind == 3, border, drawn))
    drawn[-1], drawn[0] = length - 1, 0
    found = np.unique(np.clip(drawn, 0, length - 1))
    rest = np.setdiff1d(np.arange(length), found)
    return np.sort(np.concatenate([found, rng.choice(rest, count - len(found), replace=False)]))


def missed(length, count, faulty):
    """The probability that none of `faulty` positions, anywhere among `length`, is one of the `count` sampled ones."""
    if faulty + count > length:
        return 0.0
    return exp(log_binomial(length - faulty, count) - log_binomial(length, count))


def log_binomial(n, k):
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def block_missed(positions, length):
    """The probability that a block of 64, any of them, has none of the positions in it."""
    return 1 - len(np.unique(positions // BLOCK)) / -(-length // BLOCK)


def sentences(facts, results):
    """What a sample proves, and how likely it is to miss what, for a report; `results` are those that were compared."""
    yield f"Compared: {compared(facts, results)}."
    for name, index, size in places(facts, results):
        if 0 < len(index) < size:
            faulty = dict.fromkeys(max(1, round(share * size)) for share in SHARES)
            shares = [f"{n:,} of the {size:,} {name}: {chance(missed(size, len(index), n))}" for n in faulty]
            block = f"one block of {BLOCK}: {chance(block_missed(index, size))}"
            yield f"A fault at random places is missed with probability: {', '.join([*shares, block])}."
    if facts["telling"] is not None and "o" in results and 0 < len(facts["rows"]) < facts["of_rows"]:
        yield (
            f"Of the keys that a sampled row sees, {facts['telling']:.3%} hold so much of its weight that o breaks its "
            f"bound without them. One key, any, left out in one block of {BLOCK} rows, any, is missed with probability "
            f"{chance(one_key_missed(facts))}, and with {chance(1 - facts['telling'])} where the block is sampled at "
            f"one row."
        )


def whole(facts):
    """Are all rows, and the keys if there are any, in the sample?"""
    return all(len(facts[name]) in (0, facts[f"of_{name}"]) for name in AT)


def sentence(facts, results):
    """The same in short, of one of several runs."""
    chances = [f"a fault in one block of {BLOCK} {name} is missed with probability {chance(block_missed(index, size))}"
        for name, index, size in places(facts, results) if 0 < len(index) < size]  # fmt: skip
    if facts["telling"] is not None and "o" in results:
        chances.append(f"one key left out in one block of rows with {chance(one_key_missed(facts))}")
    return "; ".join([compared(facts, results), *chances])


def one_key_missed(facts):
    """The probability that a sample misses one key left out in one block of rows, where all are equally likely."""
    return 1 - (1 - block_missed(np.array(facts["rows"]), facts["of_rows"])) * facts["telling"]


def compared(facts, results):
    told = []
    for what, index, size in places(facts, results):
        names = [name for name in AT[what] if name in results]
        told.append(f"{listed(names)} at {of(index, size, what.removesuffix('s'))}")
    return "; ".join(told) or "nothing"


def listed(names):
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def places(facts, results):
    """(what, the indices, of how many) of the rows and the keys at which some of these results are."""
    at = [name for name in AT if set(AT[name]) & set(results)]
    return [(name, np.array(facts[name]), facts[f"of_{name}"]) for name in at]


def of(index, size, name):
    """ "64 of 131,072 rows (0, 2047, 2048, …, 131071)"."""
    if len(index) == size:
        return f"all {size:,} {name}s" if size != 1 else f"the only {name}"
    *first, last = index.tolist()
    listed = f" ({', '.join(map(str, first[:3]))}, …, {last})" if len(first) > 3 else f" ({', '.join(map(str, index))})"
    return f"{len(index)} of {size:,} {name}{'s' * (size != 1)}{listed}"


def chance(p):
    """A probability that is not called 1 or 0 unless it is."""
    if p in (0, 1):
        return f"{p:.0f}"
    return f"{p:.3f}" if 0.0005 <= p < 0.9995 else f"1 - {1 - p:.1e}" if p > 0.5 else f"{p:.1e}"
