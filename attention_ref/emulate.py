"""Attention in a low precision: the pipeline with chosen stages rounded, as a correct kernel would round them."""

import numpy as np

from attention_ref.attention import attention
from attention_ref.errors import OptionError

STAGES = (
    *("q", "k", "v", "bias", "score", "scaled", "capped", "biased", "masked", "alpha", "dropped", "o", "lse"),
    *("do", "dropped", "dalpha", "ds", "dq", "dk", "dv", "dbias"),
)
KERNEL = ("q", "k", "v", "alpha", "dropped", "o", "do", "ds", "dq", "dk", "dv")


class Rounding:
    """Round to a narrow dtype and back, after the stages named."""

    def __init__(self, dtype, stages=KERNEL):
        self.dtype = narrow_dtype(dtype)
        self.stages = tuple(stages)
        for stage in self.stages:
            if stage not in STAGES:
                raise OptionError(f"emulate: there is no stage {stage!r}; the stages are {', '.join(STAGES)}")

    def __call__(self, name, x):
        return x.astype(self.dtype).astype(x.dtype) if name in self.stages else x


def emulate(dtype, stages=KERNEL, compute="float32"):
    """A function like `ar.attention` that computes in `compute` and rounds to `dtype` after each of `stages`.

    The default is what a kernel does that keeps scores, sums and statistics in float32: it rounds its inputs, the
    weights that it multiplies with v, its output and its gradients, and in backward the ds that it multiplies with q
    and k.
    """
    rounding = Rounding(dtype, stages)

    def emulated(q, k, v, rule="scaled_dot", **options):
        q, k, v = (np.asarray(x).astype(compute) for x in (q, k, v))
        options = {name: narrowed(x, compute) for name, x in options.items()}
        return attention(q, k, v, rule, rounding=rounding, **options)

    return emulated


def narrowed(x, compute):
    floating = isinstance(x, np.ndarray) and x.dtype.kind == "f"
    return x.astype(compute) if floating else x


def narrow_dtype(name):
    if name in ("float16", "float32"):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise OptionError(f"emulate: {name} needs the package ml_dtypes: pip install ml_dtypes") from None
    found = getattr(ml_dtypes, str(name), None)
    if not (isinstance(name, str) and name.startswith(("bfloat", "float")) and found is not None):
        raise OptionError(f"emulate: there is no dtype {name!r}; try bfloat16, float16, float8_e4m3fn or float8_e5m2")
    return np.dtype(found)
