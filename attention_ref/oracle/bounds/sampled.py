"""The bounds of `bound` at some rows and some keys of a problem too long for it, in memory that grows with its length.

A row has its bound as it would have it in the whole: it needs only the keys that it sees. A key's gradients are sums
over all rows, and the error of each row's normalizer and of its D = Σ do∘o is a sum over all of the row's keys. There
the largest key and value, element by element, stand for every one, which makes the bound wider, never narrower.
"""

from math import prod

import numpy as np

from attention_ref.op.progress import Progress
from attention_ref.oracle.bounds.bound import Plan, deltas
from attention_ref.oracle.bounds.normalizers import Softmax
from attention_ref.oracle.bounds.running_error import Near, assembled, concatenate, exact, with_error
from attention_ref.pipeline.place import FILL
from attention_ref.pipeline.tiled.plan import key_tiles
from attention_ref.pipeline.tiled.problem import ADJUSTED

PAIRS = 2**20
TILE = 2**13
MONOTONE = ("dot", "general")  # the scores whose error is largest for the largest key
OUTSIDE = (*ADJUSTED, "sink", "dropout")


def at_rows(problem, rows, model, do=None, dlse=None):
    """({"o": Δ, "lse": Δ, "q": Δ}, which share of the rows' pairs shows if it is left out); "q" where do is given."""
    keys = problem.place.keys
    size = max(1, PAIRS // max(keys * prod(problem.leading), 1))
    found, seen, pairs = [], 0, 0
    for part in watched(np.array_split(np.arange(len(rows)), -(-len(rows) // size))):
        plan = Rows(problem, rows[part], model)
        results = plan.forward()
        del results["alpha"]
        if do is not None:
            results |= plan.backward(do[..., part, :], None if dlse is None else dlse[..., part])
        bounds = deltas(results, model)
        found.append(bounds)
        here = plan.detectable_keys(bounds["o"])
        seen, pairs = seen + here[0], pairs + here[1]
    row_axis = {name: -1 if name == "lse" else -2 for name in found[0]}
    return {name: np.concatenate([x[name] for x in found], axis=row_axis[name]) for name in row_axis}, seen / max(
        pairs, 1
    )


def at_keys(problem, keys, model, rows, saved, do, dlse=None):
    """{"k": Δ, "v": Δ}: `rows` are those that see the keys, `saved` what forward gave for them, as are do and dlse."""
    size = max(1, PAIRS // 4 // max(len(keys) * prod(problem.leading), 1))
    largest = {name: largest_of(problem.given[name]) for name in "kv"}
    totals = {}
    plan = Columns(problem, rows[:1], keys, model)
    for part in watched(np.array_split(np.arange(len(rows)), max(1, -(-len(rows) // size)))):
        plan = Columns(problem, rows[part], keys, model)
        plan.know(largest, saved["o"][..., part, :], saved["lse"][..., part], do[..., part, :])
        here = plan.backward(do[..., part, :], None if dlse is None else dlse[..., part])
        totals = {name: total(totals.get(name), here[name]) for name in "kv"}
    return deltas(Plan.results(plan, totals), model)


def largest_of(x):
    """The largest absolute value in each column, of what is finite."""
    extremes = (f(x, axis=-2, keepdims=True, where=np.isfinite(x), initial=0) for f in (np.max, np.min))
    return np.maximum(*map(np.abs, extremes))


def no_bound_at_keys(pipeline, given):
    """Why there is no bound for dk and dv of a sample, in a sentence, or ""."""
    outside = [f"{name}=" for name in OUTSIDE if name in given]
    outside += ["empty_row="] if given.get("empty_row") in FILL else []
    normalize = given.get("normalize", pipeline.own_normalize)
    outside += [f"normalize={normalize!r}"] if normalize != "softmax" else []
    outside += [] if pipeline.score.__name__.rpartition(".")[2] in MONOTONE else ["this score"]
    return f"a sample has no bound for dk and dv with {outside[0]}" if outside else ""


def watched(parts):
    with Progress(len(parts)) as progress:
        for part in parts:
            if len(part):
                yield part
            progress.step()


def total(sum_so_far, near):
    """The sum of two parts of one sum."""
    if sum_so_far is None:
        return near
    parts = [getattr(sum_so_far, name) + getattr(near, name) for name in ("value", "size", "depth", "inherited")]
    return assembled(parts, near.model, given=False)


def part_of(problem, rows, keys, without=()):
    """(the arguments, the place) of some rows and some keys, both indices."""
    given = {name: x for name, x in problem.given.items() if name not in without}
    given = problem.cutter.along("j", problem.cutter.along("i", given, rows), as_slice(keys))
    place = problem.place.chosen(rows, keys)
    return given, place.tile(slice(0, len(rows)), slice(0, len(keys)), given | problem.options)


def as_slice(index):
    """Indices that follow on each other as the slice that they are, which takes no copy."""
    whole = len(index) and (np.diff(index) == 1).all()
    return slice(int(index[0]), int(index[-1]) + 1) if whole else index


class Rows(Plan):
    """Some rows against all the keys that they see, a tile of keys at a time."""

    def __init__(self, problem, rows, model):
        keys = seen_keys(problem, rows)
        given, place = part_of(problem, rows, keys, without="kv")
        super().__init__(problem.pipeline, given, problem.options, place, model)
        self.tiles = [keys[n : n + TILE] for n in range(0, len(keys), TILE)]
        self.problem, self.rows = problem, rows

    def spans(self, without):
        """(the columns of a tile, its plan), made anew each time: all of them together are too large to keep."""
        start = 0
        for keys in self.tiles:
            given, place = part_of(self.problem, self.rows, keys, without)
            plan = Plan(self.pipeline, given, self.problem.options, place, self.model)
            yield (..., slice(start, start + len(keys))), plan
            start += len(keys)

    def scores(self):
        return concatenate([tile.scores() for _, tile in self.spans(without="v")], axis=-1)

    def weighted(self, alpha):
        o = None
        for span, tile in self.spans(without="k"):
            o = total(o, tile.weighted(alpha[span]))
        return o

    def pulled(self, do):
        return concatenate([tile.pulled(do) for _, tile in self.spans(without="k")], axis=-1)

    def through_weights(self, weights, do):
        return {}

    def through_scores(self, ds):
        dq = None
        for span, tile in self.spans(without="v"):
            tile.scores()
            dq = total(dq, tile.through_scores(ds[span])["q"])
        return {"q": dq}

    def results(self, grads):
        return super().results({"q": grads["q"]})

    def detectable_keys(self, bound):
        """(how many of the pairs would break the bound of o if the row left that key out, how many pairs there are)"""
        o, seen, limit = self.o.value, 0, np.where(bound > 0, bound, np.inf)
        for span, tile in self.spans(without="k"):
            alpha = self.normalizer.alpha.value[..., : self.keys][span]
            v = np.broadcast_to(tile.given["v"].value, (*alpha.shape[:-2], *tile.given["v"].shape[-2:]))
            most = np.max((np.abs(o) + np.max(np.abs(v), axis=-2, keepdims=True)) / limit, axis=-1, keepdims=True)
            *lead, i, j = np.nonzero(alpha * most > 1 - alpha)
            apart = np.max(np.abs(v[(*lead, j)] - o[(*lead, i)]) / limit[(*lead, i)], axis=-1)
            weight = alpha[(*lead, i, j)]
            seen += int(np.count_nonzero(weight * apart > 1 - weight))
        return seen, int(np.count_nonzero(self.allowed))


def seen_keys(problem, rows):
    """The keys that one of the rows may attend to, and one at least; all where an empty row is filled from all."""
    mask, keys = problem.place.mask, np.arange(problem.place.keys)
    if mask is None or problem.options.get("empty_row") in FILL:
        return keys
    allowed = mask.block(rows, keys, problem.place.offset)
    return keys[allowed.reshape(-1, len(keys)).any(axis=0) | (keys == 0)]


class Columns(Plan):
    """Some rows against some of their keys, with what is known about the rest of them."""

    def __init__(self, problem, rows, keys, model):
        self.problem, self.arguments = problem, part_of(problem, rows, keys)
        super().__init__(problem.pipeline, self.arguments[0], problem.options, self.arguments[1], model)
        every = problem.place.chosen(rows, np.arange(problem.place.keys))
        tiles = key_tiles(every, slice(0, len(rows)), problem.tile)
        self.count = sum(span.stop - span.start for span, _ in tiles)

    def know(self, largest, o, lse, do):
        """Forward, from the o and lse of the rows and the largest key and value of all."""
        s = self.scores().settled()
        self.keys = s.shape[-1]
        allowed = self.place.allowed
        self.allowed = np.broadcast_to(True if allowed is None else allowed, s.shape)
        given, place = self.arguments
        top = Plan(self.pipeline, given | largest, self.problem.options, place, self.model)
        self.normalizer = Known(s, self.allowed, top.scores(), lse[..., None], self.count)
        star, n = self.normalizer.star, self.count
        v, model = top.given["v"], self.model
        most = star @ v
        lost = 2 * model.tiny + model.lost(model.operand) * v.upper
        most = most.but(depth=most.depth + n, inherited=most.inherited + n * lost)
        self.o = with_error(o, most.rounded(model.out).error, model)
        self.normalizer.know(np.sum(do * o, axis=-1), exact(np.abs(do), model.backward()), v)

    def results(self, grads):
        return {name: grads[name] for name in "kv"}


class Known(Softmax):
    """The weights of some keys of rows whose lse is known; `top` is the largest score that any key may have.

    The bound is Softmax's with the largest a for the mean of e^a. As the weights sum to 1, no more than e^{2Δs}/α_j
    keys can have a higher score than key j.
    """

    def __init__(self, s, allowed, top, lse, n):
        model, u, c = s.model, s.model.u, s.model.c
        lse = np.where(np.isfinite(lse), lse, 0)
        alpha = np.where(allowed, np.exp(np.where(allowed, s.value, -np.inf) - lse), 0)
        m = np.abs(lse) + np.log(max(n, 1))
        most = top.error + u * (5 * top.upper + 3 * m) + (c + (c + 1) * model.effective(n)) * u
        g = most + model.gamma(n) + (2 * c + 8) * u + 4 * u * (m + np.abs(lse)) + n * model.tiny
        higher = np.minimum(n, np.exp(2 * top.error) / np.where(alpha > 0, alpha, 1))
        below = np.maximum(lse - s.value, 0)
        a = s.error + u * (2 * np.abs(s.value) + 3 * below) + (c + (c + 1) * model.effective(higher)) * u
        moved = np.where(allowed, np.where(alpha > 0, alpha * np.expm1(a + g), 0) + 4 * model.tiny, 0)
        self.again = with_error(alpha, moved, model.backward())
        self.n, one = n, np.ones_like(g)
        self.star = Near(one, one, 0 * one, np.expm1(most + g) + 4 * n * model.tiny, model)

    def know(self, along, do, v):
        """D from the rows' o, and how far off it may be as Σ α∘dα."""
        model = do.model
        dalpha = (do @ np.swapaxes(v.but(model=model), -1, -2)).settled()
        most = self.star.but(model=model) * dalpha
        lost = self.n * (2 * model.tiny + model.lost(model.stored))
        most = most.but(depth=most.depth + self.n, inherited=most.inherited + lost)
        self.along = with_error(along, most.error[..., 0], model)

    def row(self, dalpha):
        return self.along
