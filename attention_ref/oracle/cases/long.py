"""The long cases, for `ar.check(…, sample=64)`: one at 131,072 keys, without leading axes, and its relatives.

The values are such that every query's weight lies on a few keys, near and far: spread over so many keys, none of them
would count for more than float32 loses in summing them up.
"""

from dataclasses import replace
from math import prod
from numbers import Integral

from attention_ref.errors import OptionError
from attention_ref.oracle.cases import suite
from attention_ref.oracle.cases.case import Case, Size

LENGTH = 131_072
PAIRS, PAIR_BYTES = 2**24, 300  # of a case that is checked whole: at most, and what each takes there
FIRST = "long-causal"


def long():
    whole, half = Size(LENGTH, LENGTH, 64, 64, axes=0), Size(LENGTH // 2, LENGTH, 64, 64, axes=0)
    grouped = Size(LENGTH, LENGTH, 64, 64, heads=2, groups=1, axes=1)
    decode = Size(1, LENGTH, 64, 64, batch=1, heads=2, groups=1, axes=2)
    causal, window = {"causal": True}, {"window": (255, 0)}
    right = {"causal": True, "align": "bottom_right"}
    documents = {"causal": True, "q_segments": "@q_segments", "k_segments": "@k_segments"}
    cases: list[tuple[str, str, Size, dict]] = [
        (FIRST, "an index of a pair in 32 bits overflows from 46,341 rows on; tiles skipped far out", whole, causal),
        ("long-full", "every key for every query: a sum or a loop count in too few bits", whole, {}),
        ("long-window", "a window of 256 keys far from key 0: the first tile of keys begins too late", whole, window),
        ("long-bottom-right", "a long prompt behind a cache as long: the offset lost far out", half, right),
        ("long-documents", "three documents packed: a tile skipped that a document begins in", whole, documents),
        ("long-mqa", "two query heads on one long key head: strides in 32 bits", grouped, causal),
        ("long-decode", "one query, a long cache: keys split between workers and merged by lse", decode, {}),
    ]
    for name, why, size, options in cases:
        yield Case(name, why, size, options, values="alike", more=("Long",), core=False)


CASES = {case.name: case for case in long()}


def resized(case, length):
    """The case with `length` keys, and queries in proportion."""
    size = case.size
    queries = size.queries if size.queries == 1 else max(1, round(size.queries * length / size.keys))
    return replace(case, size=replace(size, queries=queries, keys=length))


def fitted(cases, sample, length, words=()):
    """The cases as they are run: with `length` keys where that is given. `words` are those that meant them."""
    if not cases:
        raise OptionError("check: cases= leaves no case to run")
    cases = cases if length is None else [resized(case, length) for case in cases]
    large = [case for case in cases if sample is None and too_large(case)]
    for case in large:
        if case.name in words or len(large) == len(cases):
            raise OptionError(f"check: {case.name} {too_large(case)}")
    return cases


def counted(name, number):
    """sample= or length= as an int, or None."""
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
        raise OptionError(f"check: {name}= is a whole number from 1 on, or None; got {number!r}")
    return int(number)


def too_large(case):
    """Why a case cannot be checked whole, as the end of a sentence; "" where it can, and for the user's own."""
    if case.name not in CASES and case.name not in suite.CASES:
        return ""
    *lead, queries, _ = case.size.shapes()["q"]
    pairs = prod(lead) * queries * case.size.keys
    if pairs <= PAIRS:
        return ""
    return (
        f"has {pairs:,} pairs of a query and a key, some {pairs * PAIR_BYTES / 2**30:,.0f} GiB to check whole; give "
        f"sample=, such as 64, or a smaller length="
    )
