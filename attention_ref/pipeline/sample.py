"""`ar.sample`: exact answers for some queries and some keys of a problem too large to be answered whole."""

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from attention_ref.errors import OptionError
from attention_ref.op.op import owned
from attention_ref.op.protocol import OpModule
from attention_ref.pipeline.options import AttentionOptions, check_options
from attention_ref.pipeline.rule import Rule, find
from attention_ref.pipeline.tiled import execute
from attention_ref.pipeline.tiled.problem import Problem, refusal

if TYPE_CHECKING:
    from typing_extensions import Unpack

ROWS = 1024


@dataclass(frozen=True)
class Sampled:
    """o, lse and dq at the sampled rows, dk and dv at the sampled keys; None for what was not asked for."""

    rows: np.ndarray
    keys: np.ndarray
    o: np.ndarray | None = None
    lse: np.ndarray | None = None
    dq: np.ndarray | None = None
    dk: np.ndarray | None = None
    dv: np.ndarray | None = None


def sample(
    q: npt.ArrayLike,
    k: npt.ArrayLike,
    v: npt.ArrayLike,
    do: npt.ArrayLike | None = None,
    dlse: npt.ArrayLike | None = None,
    rule: str | Rule | OpModule = "scaled_dot",
    *,
    rows: npt.ArrayLike = (),
    keys: npt.ArrayLike = (),
    executor: Executor | None = None,
    **options: "Unpack[AttentionOptions]",
) -> Sampled:
    """Exact o, lse and dq for the queries `rows`, and dk and dv for the keys `keys`, without computing the rest.

    A query needs all the keys that it may attend to. A key needs all the queries that may attend to it, and these all
    of theirs: forward runs for them, backward for the pairs with the sampled keys only.

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> q, k, v, do = np.random.default_rng(0).standard_normal((4, 3000, 16))
    >>> some = ar.sample(q, k, v, do, rows=[0, 1234], keys=[7], causal=True)
    >>> some.o.shape, some.dq.shape, some.dk.shape
    ((2, 16), (2, 16), (1, 16))

    Args:
        do, dlse: the whole cotangents, for all queries
        rows: indices of queries
        keys: indices of keys
        executor: as for `ar.attention`
        options: what else `ar.attention` takes
    """
    rule = find(rule)
    given, settings = rule.check(rule.named((), {"q": q, "k": k, "v": v} | options))
    do, _, dlse = rule.cotangents((do, None, dlse), given)
    whole = rule.promote(given) | settings
    tile = whole.pop("tile", "auto")
    with owned(rule.name), np.errstate(all="ignore"):
        check_options(whole, executor=executor)
        reason = refusal(rule.module, whole)
        if reason:
            raise OptionError(f"{reason}; take ar.attention")
        problem = Problem(rule.module, whole, tile, keeps=False)
        at_row, at_key = chosen("rows", rows, problem.place.queries), chosen("keys", keys, problem.place.keys)
        answers = at_rows(problem, at_row, do, dlse, executor) | at_keys(problem, at_key, do, dlse, executor)
    return Sampled(at_row, at_key, **answers)


def at_rows(problem: Problem, rows: np.ndarray, do: Any, dlse: Any, executor: Any) -> dict[str, Any]:
    if not rows.size:
        return {}
    part = problem.chosen(rows=rows)
    saved = execute.forward(part, executor)
    part = part.with_saved(saved, do[..., rows, :], None if dlse is None else dlse[..., rows])
    return {"o": saved["o"], "lse": saved.get("lse"), "dq": execute.backward(part, executor)["q"]}


def at_keys(problem: Problem, keys: np.ndarray, do: Any, dlse: Any, executor: Any) -> dict[str, Any]:
    if not keys.size:
        return {}
    _, _, grads = through_keys(problem, keys, do, dlse, executor)
    return {"dk": grads["k"], "dv": grads["v"]}


def through_keys(
    problem: Problem, keys: np.ndarray, do: Any, dlse: Any, executor: Any
) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
    """(the queries that reach these keys, what forward gives for them, the gradients through both)"""
    rows = seeing(problem, keys)
    part = problem
    if len(rows) < problem.place.queries:
        part, do, dlse = problem.chosen(rows=rows), do[..., rows, :], None if dlse is None else dlse[..., rows]
    saved = execute.forward(part, executor)
    return rows, saved, execute.backward(part.chosen(keys=keys).with_saved(saved, do, dlse), executor)


def seeing(problem: Problem, keys: np.ndarray) -> np.ndarray:
    """The queries that may attend to one of these keys, or whose row `empty_row` fills, which reaches every key."""
    place = problem.place
    if place.mask is None or "empty_row" in problem.options:
        return np.arange(place.queries)
    found = []
    for start in range(0, place.queries, ROWS):
        rows = np.arange(start, min(start + ROWS, place.queries))
        allowed = place.mask.block(rows, keys, place.offset).any(axis=-1)
        found.append(rows[allowed.reshape(-1, rows.size).any(axis=0)])
    return np.concatenate(found) if found else np.arange(0)


def chosen(name: str, index: Any, size: int) -> np.ndarray:
    """Indices as an array, each from 0 to size - 1."""
    index = np.asarray(index)
    if index.size == 0:
        return np.arange(0)
    if index.ndim != 1 or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= size:
        raise OptionError(f"{name}= are indices from 0 to {size - 1} in one row; got {index.tolist()}")
    return index
