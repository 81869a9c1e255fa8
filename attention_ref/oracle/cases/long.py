"""The long cases, for `ar.check(…, sample=64)`: one at 131,072 keys, without leading axes, and its relatives.

The values are such that every query's weight lies on a few keys, near and far: spread over so many keys, none of them
would count for more than float32 loses in summing them up.
"""

from dataclasses import replace
from math import prod
from numbers import Integral

from attention_ref.errors import OptionError
from attention_ref.oracle.cases import suite
from attention_ref.oracle.cases.case import Size, case

LENGTH = 131_072
# A case that is checked whole has at most this many pairs of a query and a key. Each of them takes some 300 bytes, for
# about forty float64 arrays of stages and bounds: an estimate, which only the refusal shows.
PAIRS = 2**24
PAIR_BYTES = 300
FIRST = "long-causal"

WHOLE = Size(LENGTH, LENGTH, 64, 64, axes=0)
HALF = Size(LENGTH // 2, LENGTH, 64, 64, axes=0)
ONE_KEY_HEAD = Size(LENGTH, LENGTH, 64, 64, heads=2, groups=1, axes=1)
DECODE = Size(1, LENGTH, 64, 64, batch=1, heads=2, groups=1, axes=2)


def long_case(name, size, **options):
    return case(name, size, values="alike", flags=("Long",), core=False, **options)


# Two lines a case, as in `suite.py`.
# fmt: off
TABLE = [
    long_case(FIRST, WHOLE, causal=True,
              catches="an index of a pair in 32 bits overflows from 46,341 rows on; tiles skipped far out"),
    long_case("long-full", WHOLE,
              catches="every key for every query: a sum or a loop count in too few bits"),
    long_case("long-window", WHOLE, window=(255, 0),
              catches="a window of 256 keys far from key 0: the first tile of keys begins too late"),
    long_case("long-bottom-right", HALF, causal=True, align="bottom_right",
              catches="a long prompt after a cache as long: the offset lost far out"),
    long_case("long-documents", WHOLE, causal=True, q_segments="@q_segments", k_segments="@k_segments",
              catches="three documents packed: a tile skipped that a document begins in"),
    long_case("long-mqa", ONE_KEY_HEAD, causal=True,
              catches="two query heads on one long key head: strides in 32 bits"),
    long_case("long-decode", DECODE,
              catches="one query, a long cache: keys split between workers and merged by lse"),
]
# fmt: on
CASES = {row.name: row for row in TABLE}


def resized(row, length):
    """The case with `length` keys, and queries in proportion; one query stays one."""
    queries = row.size.queries
    if queries > 1:
        queries = max(1, round(queries * length / row.size.keys))
    return replace(row, size=replace(row.size, queries=queries, keys=length))


def fitted(cases, sample, length, words=()):
    """The cases as they are run: with `length` keys where that is given. `words` are those that meant them."""
    if not cases:
        raise OptionError("check: cases= leaves no case to run")
    if length is not None:
        cases = [resized(row, length) for row in cases]
    large = [row for row in cases if sample is None and too_large(row)]
    for row in large:
        if row.name in words or len(large) == len(cases):
            raise OptionError(f"check: {row.name} {too_large(row)}")
    return cases


def counted(name, number):
    """sample= or length= as an int, or None."""
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
        raise OptionError(f"check: {name}= is a whole number from 1 on, or None; got {number!r}")
    return int(number)


def too_large(row):
    """Why a case cannot be checked whole, as the end of a sentence; "" where it can, and for the user's own."""
    if row.name not in CASES and row.name not in suite.CASES:
        return ""
    *lead, queries, _ = row.size.shapes()["q"]
    pairs = prod(lead) * queries * row.size.keys
    if pairs <= PAIRS:
        return ""
    return (
        f"has {pairs:,} pairs of a query and a key, some {pairs * PAIR_BYTES / 2**30:,.0f} GiB to check whole; give "
        f"sample=, such as 64, or a smaller length="
    )
