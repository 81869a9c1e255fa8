"""The number formats a candidate is tested in: the NumPy dtype, the precision model, and how far one ulp is."""

from dataclasses import dataclass

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.suggest import did_you_mean


@dataclass(frozen=True)
class Format:
    """A dtype by name, the model that bounds a correct kernel, its precision in bits and its least exponent."""

    name: str
    model: str
    bits: int
    least: int
    wide: str

    @property
    def dtype(self):
        if self.name != "bfloat16":
            return np.dtype(self.name)
        try:
            import ml_dtypes
        except ImportError:
            raise OptionError("check: bfloat16 needs the package ml_dtypes: pip install ml_dtypes") from None
        return np.dtype(ml_dtypes.bfloat16)

    def ulp(self, x):
        """The distance between neighbors of this format at |x|."""
        _, exponent = np.frexp(np.abs(x))
        return np.ldexp(1.0, np.maximum(exponent - 1, self.least) - self.bits + 1)


FORMATS = {
    "float32": Format("float32", "f32", 24, -126, "float32"),
    "float64": Format("float64", "f64", 53, -1022, "float64"),
    "float16": Format("float16", "f16/f32acc", 11, -14, "float32"),
    "bfloat16": Format("bfloat16", "bf16/f32acc", 8, -126, "float32"),
}


def find(name):
    name = getattr(name, "name", None) or getattr(name, "__name__", name)
    if name not in FORMATS:
        raise OptionError(f"check: there is no dtype {name!r} to test in{did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def widened(x):
    """The same numbers in float64, whatever float they came in; other values as they are."""
    if isinstance(x, tuple):
        return tuple(widened(part) for part in x)
    floating = isinstance(x, np.ndarray) and (x.dtype.kind == "f" or x.dtype.name == "bfloat16")
    return x.astype(np.float64, copy=False) if floating else x
