"""What a cell is besides its number: seen, masked, dead, not a number, or masked and yet not zero."""

import numpy as np

SEEN, MASKED, DEAD, NAN, LEAK = range(5)
NAMES = {
    MASKED: "masked (may not attend)",
    DEAD: "dead row (attends to nothing)",
    NAN: "NaN or ∞",
    LEAK: "masked, yet not 0",
}
KINDS = ("weights", "scores", "gradient", "plain")


def classify(values, allowed, kind="weights"):
    """The state of every cell of whole rows.

    Where masked, weights and gradients must be 0, and are a leak if not; scores may be anything, and -inf is masked.
    """
    states = np.zeros(values.shape, np.int8)
    finite = np.isfinite(values)
    shut = None if allowed is None else ~allowed
    if kind == "scores":
        low = np.isneginf(values)
        shut = low if shut is None else shut | low
    if not finite.all():
        states[~finite] = NAN
    if shut is not None:
        quiet = finite & (values == 0) if kind in ("weights", "gradient") else True
        states[shut & quiet] = MASKED
        if kind in ("weights", "gradient"):
            states[shut & finite & (values != 0)] = LEAK
    states[dead_rows(values, shut, kind)[:, None] & (states <= MASKED)] = DEAD
    return states


def dead_rows(values, shut, kind="weights"):
    """The rows that may attend to nothing; without a mask, the rows of weights that are all 0."""
    if shut is not None:
        return shut.all(axis=-1)
    if kind != "weights":
        return np.zeros(len(values), bool)
    return (values[:, 0] == 0) & (values.max(axis=-1) == 0) & (values.min(axis=-1) == 0)
