"""What a cell is besides its number: seen, masked, in an empty row, not a number, or masked and yet not zero."""

import numpy as np

SEEN, MASKED, EMPTY, NAN, LEAK = range(5)
NAMES = {
    MASKED: "masked (may not attend)",
    EMPTY: "empty row (attends to nothing)",
    NAN: "NaN or ∞",
    LEAK: "masked, yet not 0",
}
COLORED = (SEEN, LEAK)  # the states whose number is drawn as a color, and counts in sums and extremes


def classify(values: np.ndarray, allowed: np.ndarray | None, kind: str = "weights") -> np.ndarray:
    """The state of every cell of complete rows.

    Where masked, weights and gradients must be 0, and are a leak if not; scores may be anything, and -inf is masked.
    """
    states = np.zeros(values.shape, np.int8)
    finite = np.isfinite(values)
    masked = None if allowed is None else ~allowed
    if kind == "scores":
        lowest = np.isneginf(values)
        masked = lowest if masked is None else masked | lowest
    if not finite.all():
        states[~finite] = NAN
    if masked is not None:
        if kind in ("weights", "gradient"):
            states[masked & finite & (values == 0)] = MASKED
            states[masked & finite & (values != 0)] = LEAK
        else:
            states[masked] = MASKED
    states[empty_rows(values, masked, kind)[:, None] & (states <= MASKED)] = EMPTY
    return states


def empty_rows(values: np.ndarray, masked: np.ndarray | None, kind: str = "weights") -> np.ndarray:
    """The rows that may attend to nothing; without a mask, the rows of weights that are all 0."""
    if masked is not None:
        return np.asarray(masked.all(axis=-1))
    if kind != "weights":
        return np.zeros(len(values), bool)
    return (values == 0).all(axis=-1)
