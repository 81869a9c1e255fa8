"""Attention in a low precision: the pipeline with chosen stages rounded, as a correct kernel would round them."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.arrays import NARROW
from attention_ref.op.protocol import OpModule
from attention_ref.pipeline.attention import Attended, attend
from attention_ref.pipeline.rule import Rule, find

STAGES = (
    *("q", "k", "v", "bias", "score", "scaled", "capped", "biased", "masked", "alpha", "dropped", "o", "lse"),
    *("do", "dalpha", "ds", "dq", "dk", "dv", "dbias"),
)
KERNEL = ("q", "k", "v", "alpha", "dropped", "o", "do", "ds", "dq", "dk", "dv")
COMPUTE = ("float32", "float64")
KNOWN = "try bfloat16, float16, float8_e4m3fn or float8_e5m2"


class Rounding:
    """Round to a narrow dtype and back, after the stages named; an infinity stays one, also where a dtype has none."""

    def __init__(self, dtype: str, stages: str | Sequence[str] = KERNEL):
        self.dtype = narrow_dtype(dtype)
        self.stages = (stages,) if isinstance(stages, str) else tuple(stages)
        for stage in self.stages:
            if stage not in STAGES:
                raise OptionError(f"emulate: there is no stage {stage!r}; the stages are {', '.join(STAGES)}")

    def __call__(self, name: str, x: np.ndarray) -> np.ndarray:
        if name not in self.stages:
            return x
        with np.errstate(all="ignore"):
            return np.where(np.isinf(x), x, x.astype(self.dtype).astype(x.dtype))


def emulate(
    dtype: str, stages: str | Sequence[str] = KERNEL, compute: Literal["float32", "float64"] = "float32"
) -> Callable[..., Attended]:
    """A function like `ar.attention` that gives what a correct kernel in low precision would give.

    >>> import attention_ref as ar
    >>> inputs = ar.rules["scaled_dot"].example()
    >>> error = ar.emulate("float16")(**inputs).o - ar.attention(**inputs).o
    >>> bool(0 < abs(error).max() < 1e-2)
    True

    The default is what a kernel does that keeps scores, sums and statistics in float32: it rounds its inputs, the
    weights that it multiplies with v, its output and its gradients, and in backward, once, the ds that it multiplies
    with q and k.

    Args:
        dtype: "float16"; with the package ml_dtypes also "bfloat16", "float8_e4m3fn", "float8_e5m2"
        stages: after which of the tape's stages, inputs, results and gradients it rounds
        compute: "float32" or "float64", the precision in between
    """
    rounding = Rounding(dtype, stages)
    if compute not in COMPUTE:
        raise OptionError(f"emulate: compute must be {' or '.join(COMPUTE)}; got {compute!r}")

    def emulated(q: Any, k: Any, v: Any, rule: str | Rule | OpModule = "scaled_dot", **options: Any) -> Attended:
        rule = find(rule)
        inputs = {"q": q, "k": k, "v": v} | options
        floating = {name for name, argument in rule.arguments.items() if argument.kind == "float"}
        inputs = {name: narrowed(x, compute) if name in floating else x for name, x in inputs.items()}
        return attend(rule, inputs | {"rounding": rounding})

    return emulated


def narrowed(x: Any, compute: str) -> Any:
    """In `compute` what is floating-point; attention itself looks after the rest."""
    if x is None or isinstance(x, (int, float)):
        return x
    array = np.asarray(x)
    return array.astype(compute) if array.dtype.kind == "f" or array.dtype.name.startswith(NARROW) else x


def narrow_dtype(name: str) -> np.dtype:
    if name in ("float16", "float32"):
        return np.dtype(name)
    if not str(name).startswith(NARROW):
        raise OptionError(f"emulate: there is no dtype {name!r}; {KNOWN}")
    try:
        import ml_dtypes
    except ImportError:
        raise OptionError(f"emulate: {name} needs the package ml_dtypes: pip install ml_dtypes") from None
    if not hasattr(ml_dtypes, str(name)):
        raise OptionError(f"emulate: there is no dtype {name!r}; {KNOWN}")
    return np.dtype(getattr(ml_dtypes, name))
