"""The faults: a correct kernel in small steps, and every mistake of the catalog as a change to one or two of them."""

from attention_ref.oracle.diagnose.faults import (
    gradients,
    heads,
    masks,
    positions,
    rounding_mistakes,
    softmax,
    stages,
    sums,
    weights,
)
from attention_ref.oracle.diagnose.faults.kernel import Kernel, Online, Split, Straight

ROOMS = (positions, masks, stages, weights, heads, softmax, gradients, sums)


def listed(rooms):
    """The mistakes of these modules by name, in the order in which they are written."""
    found = [mistake for room in rooms for mistake in room.CATALOG]
    return {mistake.name(): mistake for mistake in found}


MISTAKES = listed(ROOMS)
ARITHMETIC = listed((rounding_mistakes,))

__all__ = ["ARITHMETIC", "MISTAKES", "Kernel", "Online", "Split", "Straight"]
