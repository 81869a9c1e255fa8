"""The flags: properties of a call by which cases and golden vectors are selected. One table for both.

`attention-ref check … --cases flag:GQA` takes the cases with a flag, `attention-ref vectors verify … --flag
GroupedHeads` the vectors. The vectors' files are published and do not change: where they use another word, the table
has both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Flag:
    """A flag's name for cases and for vectors (None: not used there), and when it is true.

    `true_of` takes a `Case`, or the `Facts` of a vector. Both have `options`, the names of the options that are given
    among its keys, and `size`, a `Size`; what a predicate reads beyond that, only one of them has.
    """

    name: str | None
    vector_name: str | None
    true_of: Callable[[Any], bool]


def both(name, true_of, vector_name=None):
    return Flag(name, vector_name or name, true_of)


def of_cases(name, true_of):
    return Flag(name, None, true_of)


def of_vectors(vector_name, true_of):
    return Flag(None, vector_name, true_of)


def gives(*options):
    """True of a call that gives any of these options."""
    return lambda call: any(name in call.options for name in options)


# A case's masks are drawn when it is run, so what depends on their values (DeadRow, TiedMaxima, …) is computed for
# vectors alone. Cases declare such flags by hand, in `Case.more`.
FLAGS = (
    # Masks. "Mask" has two meanings, both public: a case gives a mask of its own, a vector hides some pair in any way.
    both("Causal", gives("causal")),
    both("Window", gives("window")),
    of_cases("Mask", gives("allowed")),
    of_vectors("Mask", lambda facts: bool(facts.allowed.any() and not facts.allowed.all())),
    of_vectors("DeadRow", lambda facts: facts.size.keys > 0 and facts.has_empty_row()),
    both("Lengths", gives("k_lengths", "q_lengths")),
    both("Segments", gives("q_segments"), vector_name="Packed"),
    of_cases("Align", gives("align")),
    of_vectors("Padding", lambda facts: bool((facts.options.get("q_segments", np.zeros(1)) < 0).any())),
    of_vectors("CausalRectangular", lambda facts: "causal" in facts.options and not facts.is_square()),
    of_vectors("Offset", lambda facts: bool(np.any(np.asarray(facts.offset) != 0))),
    of_vectors("WindowEdge", lambda facts: facts.has_window_edge()),
    # Scores and weights.
    both("Bias", gives("bias")),
    of_vectors("BiasForbids", lambda facts: bool(np.isneginf(facts.options.get("bias", 0)).any())),
    both("ALiBi", gives("alibi_slopes"), vector_name="Alibi"),
    both("Relative", gives("relative_table"), vector_name="RelativeBias"),
    both("Scale", gives("scale")),
    of_vectors("NegativeScale", lambda facts: bool((np.asarray(facts.options.get("scale", 1)) < 0).any())),
    both("Softcap", gives("softcap")),
    of_vectors("SoftcapSaturated", lambda facts: facts.saturates_softcap()),
    both("Sink", gives("sink")),
    both("Dropout", gives("dropout")),
    both("EmptyRow", gives("empty_row"), vector_name="EmptyRowOption"),
    of_cases("Normalize", gives("normalize")),
    of_vectors("Normalizer", lambda facts: facts.normalize != "softmax"),
    of_vectors("SlipOfThePen", lambda facts: bool(facts.rule.erratum)),
    # Shapes.
    both("GQA", lambda call: 1 < call.size.key_heads < call.size.heads, vector_name="GroupedHeads"),
    both("MQA", lambda call: 1 == call.size.key_heads < call.size.heads, vector_name="MultiQuery"),
    both("Decode", lambda call: call.size.queries == 1, vector_name="SingleQuery"),
    of_vectors("DecodeStep", lambda facts: facts.is_decode_step()),
    of_vectors("SingleKey", lambda facts: facts.size.keys == 1),
    of_vectors("EmptyKeys", lambda facts: facts.size.keys == 0),
    of_vectors("Rectangular", lambda facts: not facts.is_square()),
    of_vectors("ValueWidth", lambda facts: facts.size.values != facts.size.width),
    # The arrays: how they lie in memory, and their numbers.
    of_cases("Values", lambda case: case.values != "gaussian"),
    of_cases("Layout", lambda case: case.layout != "contiguous"),
    of_cases("Shared", lambda case: bool(case.shared)),
    of_cases("NoBatch", lambda case: case.size.axes < 2),
    # Poison is NaN, an infinity or a large number; the vectors say which.
    of_cases("Poison", lambda case: case.poison is not None),
    of_vectors("NaNBehindMask", lambda facts: facts.hides(np.isnan)),
    of_vectors("InfBehindMask", lambda facts: facts.hides(np.isinf)),
    of_vectors("TiedMaxima", lambda facts: facts.has_tied_maxima()),
    of_vectors("Subnormal", lambda facts: facts.has_subnormals()),
    of_vectors("HugeRange", lambda facts: facts.overflows()),
    # Cotangents.
    of_vectors("LseCotangent", lambda facts: "lse" in facts.cotangents),
    of_vectors("AlphaCotangent", lambda facts: "alpha" in facts.cotangents),
)


def flags_of_case(case) -> Iterator[str]:
    return (flag.name for flag in FLAGS if flag.name and flag.true_of(case))


TRUE_OF_VECTOR = {flag.vector_name: flag.true_of for flag in FLAGS if flag.vector_name}
