"""The options of `ar.attention` that are not arrays: their defaults, and one sentence for each wrong value."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from attention_ref.errors import OptionError
from attention_ref.masks import Mask
from attention_ref.op.arrays import checked_flag, shown
from attention_ref.op.suggest import did_you_mean

Align: TypeAlias = Literal["top_left", "bottom_right"] | int | np.ndarray | Sequence[int] | Sequence[Sequence[int]]
EmptyRow: TypeAlias = Literal["zero", "nan", "uniform", "raise"]
Normalizer: TypeAlias = Literal["softmax", "softmax_off_by_one", "sparsemax", "entmax15", "sigmoid", "double_softmax"]
Window: TypeAlias = tuple[int | None, int | None]
Dropout: TypeAlias = tuple[npt.ArrayLike, float]
Tile: TypeAlias = Literal["auto"] | int | tuple[int, int]


class AttentionOptions(TypedDict, total=False):
    """The options of `ar.attention` by name, for functions that hand them on; `ar.attention` says what each does."""

    allowed: npt.ArrayLike | Mask | None
    causal: bool
    window: Window | None
    align: Align | None
    q_lengths: npt.ArrayLike | None
    k_lengths: npt.ArrayLike | None
    q_segments: npt.ArrayLike | None
    k_segments: npt.ArrayLike | None
    bias: npt.ArrayLike | None
    alibi_slopes: npt.ArrayLike | None
    relative_table: npt.ArrayLike | None
    relative_max_distance: int
    relative_bidirectional: bool
    scale: npt.ArrayLike | None
    softcap: npt.ArrayLike | None
    sink: npt.ArrayLike | None
    dropout: Dropout | None
    normalize: Normalizer | None
    empty_row: EmptyRow
    tile: Tile | None
    out: np.ndarray | None
    # the parameters of the package's own rules
    w: npt.ArrayLike
    b: npt.ArrayLike
    w_q: npt.ArrayLike
    w_k: npt.ArrayLike
    w_s: npt.ArrayLike


DEFAULTS: dict[str, Any] = {
    "causal": False,
    "window": None,
    "align": None,
    "normalize": None,
    "empty_row": "zero",
    "relative_max_distance": 128,
    "relative_bidirectional": True,
    "mask": None,
    "dropout_p": None,
    "rounding": None,
    "tile": None,
    "executor": None,
    "out": None,
}
# Names that the pipeline takes and ar.attention does not: it makes mask from allowed= and dropout_p from dropout=, and
# rounding is for emulated precisions.
INTERNAL = ("mask", "dropout_p", "rounding")
EMPTY_ROW = ("zero", "nan", "uniform", "raise")


def given_options(inputs: dict[str, Any]) -> dict[str, Any]:
    """What stands at its default is left out."""
    return {name: x for name, x in inputs.items() if not (name in DEFAULTS and is_default(x, DEFAULTS[name]))}


def is_default(value: Any, default: Any) -> bool:
    return value is None or (isinstance(value, (bool, int, str)) and type(value) is type(default) and value == default)


def check_options(given: dict[str, Any], *, rounding: Any = None, executor: Any = None, out: Any = None) -> None:
    """Refuse the values that cannot be meant, and the pairs that contradict each other."""
    for name in ("causal", "relative_bidirectional"):
        checked_flag(name, given.get(name, False))
    kind = given.get("empty_row", "zero")
    if not isinstance(kind, str) or kind not in EMPTY_ROW:
        raise OptionError(f"there is no empty_row {shown(kind)}{did_you_mean(kind, EMPTY_ROW)}")
    if kind in ("nan", "uniform") and ("sink" in given or given.get("normalize") == "softmax_off_by_one"):
        raise OptionError(f"empty_row={kind!r} contradicts the sink, which takes the whole weight of such a row")
    if not isinstance(given.get("mask"), (Mask, type(None))):
        raise OptionError(f"mask is one of ar.masks, and goes in as allowed=; got {shown(given['mask'])}")
    most = given.get("relative_max_distance", 1)
    if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or not 0 < most < 2**31:
        raise OptionError(f"relative_max_distance must be a positive integer; got {shown(most)}")
    check_dropout(given)
    if rounding is not None and not callable(rounding):
        raise OptionError(f"rounding is a function of a name and an array; got {shown(rounding)}")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise OptionError(f"executor is a concurrent.futures executor or None; got {shown(executor)}")
    if out is not None and not isinstance(out, np.ndarray):
        raise OptionError(f"out is a NumPy array or None; got {shown(out)}")


def check_dropout(given: dict[str, Any]) -> None:
    if ("dropout" in given) != ("dropout_p" in given):
        raise OptionError("dropout is (keep, p), the boolean array of what is kept and the probability of dropping")
    p = given.get("dropout_p", 0.0)
    if isinstance(p, bool) or not isinstance(p, (int, float, np.floating)) or not 0 <= p < 1:
        raise OptionError(f"dropout=(keep, p): p must be a probability, 0 <= p < 1; got {shown(p)}")


def pair(name: str, value: Any) -> Any:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise OptionError(f"{name} is (left, right), how many keys on each side, None = unlimited; got {shown(value)}")
    return value
