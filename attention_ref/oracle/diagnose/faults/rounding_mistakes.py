"""Arithmetic that is coarser than the dtype promises: not one wrong step, but a rounding where none belongs."""

from dataclasses import replace

import numpy as np

from attention_ref.oracle.diagnose.faults.kernel import Kernel, catalog
from attention_ref.oracle.diagnose.faults.roundings import as_is, bf16, f16, tf32


class Coarse(Kernel):
    """A kernel with `rounding` somewhere; in `dtypes` that is more than belongs there."""

    narrow = True
    dtypes: tuple = ("float64", "float32")
    rounding = staticmethod(as_is)


class WeightsBf16(Coarse):
    """the weights rounded to bfloat16"""

    rounding = staticmethod(bf16)

    def product(self, p, v):
        return self.rounding(p) @ v

    def dv(self, p, do):
        return super().dv(self.rounding(p), do)


class WeightsF16(WeightsBf16):
    """the weights rounded to float16"""

    rounding = staticmethod(f16)


class ScoresBf16(Coarse):
    """the scores rounded to bfloat16"""

    dtypes: tuple = ("float64", "float32", "bfloat16", "float16")
    rounding = staticmethod(bf16)

    def scores(self):
        return self.rounding(super().scores())


class ScoresF16(ScoresBf16):
    """the scores rounded to float16"""

    dtypes = ("float64", "float32", "float16")
    rounding = staticmethod(f16)


class InputsBf16(Coarse):
    """q, k and v rounded to bfloat16"""

    rounding = staticmethod(bf16)

    def clean(self, name, x):
        return self.rounding(super().clean(name, x))


class InputsF16(InputsBf16):
    """q, k and v rounded to float16"""

    rounding = staticmethod(f16)


class ProductsTf32(InputsBf16):
    """matrix products in tf32"""

    rounding = staticmethod(tf32)

    def __init__(self, *call):
        super().__init__(*call)
        self.arithmetic = replace(self.arithmetic, operand=lambda x: tf32(self.call[3].operand(x)))


class SumsBf16(Coarse):
    """the output accumulated in bfloat16, 16 keys at a time"""

    dtypes: tuple = ("float64", "float32", "bfloat16", "float16")
    tile = 16
    rounding = staticmethod(bf16)

    def rescaled(self, acc, back):
        return self.rounding(super().rescaled(acc, back))

    def rescaled_sum(self, z, back):
        return self.rounding(super().rescaled_sum(z, back))


class SumsF16(SumsBf16):
    """the output accumulated in float16, 16 keys at a time"""

    dtypes = ("float64", "float32", "float16")
    rounding = staticmethod(f16)


class OutputBf16(Coarse):
    """the output rounded to bfloat16"""

    rounding = staticmethod(bf16)

    def written(self, x):
        return self.rounding(x)


class LseF16(Coarse):
    """lse rounded to float16"""

    dtypes: tuple = ("float64", "float32", "bfloat16", "float16")

    def logarithm(self, m, z):
        return f16(super().logarithm(m, z))


class DsBf16(Coarse):
    """ds rounded to bfloat16"""

    backward_only = True
    rounding = staticmethod(bf16)

    def ds(self, p, da, row):
        return self.rounding(super().ds(p, da, row))


class ExpCoarse(Coarse):
    """exp from a table, off by up to 1e-4"""

    def exp(self, x):
        return super().exp(np.round(x * 8192) / 8192).astype(x.dtype)


CATALOG = [x for x in catalog(globals()) if x is not Coarse]
