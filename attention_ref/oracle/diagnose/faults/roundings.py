"""What a kernel rounds: the format of its sums, of what goes into a matrix product, of its results."""

from dataclasses import dataclass

import numpy as np


def as_is(x):
    return x


def bf16(x):
    """Round to bfloat16, to nearest even, by the bits of float32."""
    bits = np.asarray(x, np.float32, order="C").view(np.uint32)
    kept = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), kept)


def f16(x):
    return np.asarray(x).astype(np.float16).astype(np.float32)


def tf32(x):
    """Cut float32 to ten bits of fraction, as tensor cores do."""
    return (np.asarray(x, np.float32, order="C").view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


@dataclass(frozen=True)
class Arithmetic:
    """The dtype of the work, and the rounding of operands and of results."""

    work: type
    operand: object = as_is
    out: object = as_is


ARITHMETIC = {
    "float64": Arithmetic(np.float64),
    "float32": Arithmetic(np.float32),
    "bfloat16": Arithmetic(np.float32, bf16, bf16),
    "float16": Arithmetic(np.float32, f16, f16),
}
