"""Forward and backward over a block of queries.

Softmax needs whole rows: forward keeps each row's maximum and sum so far, backward has the weights again from the
row's lse, and the row's sum of dalpha * alpha is that of do * o.
"""

from functools import cached_property, partial

import numpy as np

from attention_ref.adjust import empty_row
from attention_ref.layer import dropout, weighted_sum
from attention_ref.normalize import softmax_sink
from attention_ref.op.arrays import select
from attention_ref.op.protocol import optional
from attention_ref.pipeline.place import FILL
from attention_ref.pipeline.recorder import has_lse
from attention_ref.pipeline.tiled import memory, online_softmax
from attention_ref.pipeline.tiled.block import through
from attention_ref.pipeline.tiled.cut import add


def forward(cell, rows, stop):
    """{o, lse, empty} of some queries; lse where the normalizer has one, empty where `empty_row` asks for it."""
    blocks, kept = [], {}
    for block in cell.blocks(rows):
        blocks.append(attend(block, stop, kept.setdefault(block.rows.start, [])))
    row_axis = {name: -2 if name == "o" else -1 for name in blocks[0]}
    out = {name: np.concatenate([block[name] for block in blocks], axis=row_axis[name]) for name in blocks[0]}
    return out | ({"kept": kept} if cell.keeps else {})


def attend(block, stop, kept):
    """{o, lse, empty} of a block; o again with the largest shift where it has overflowed with a smaller one."""
    out, empty = over_all_keys(block, stop, kept if block.cell.keeps else None)
    if "lse" in out and not np.isfinite(out["o"]).all():
        again, _ = over_all_keys(block, stop, None, room=0)
        out["o"] = np.where(np.isfinite(out["o"]), out["o"], again["o"])
    if asks_for_empty_rows(block.cell):
        out["empty"] = empty
        for _, weights, given in filled(block, empty):
            out["o"] += weighted_sum.forward(weights, given["v"], empty[..., None])[0]
    return out


def asks_for_empty_rows(cell):
    """Is it asked which rows are empty?"""
    return cell.options.get("empty_row", "zero") != "zero"


def over_all_keys(block, stop, kept, room=None):
    """({o, lse}, which rows are empty) of a block, over all the keys; what backward wants is put into `kept`."""
    cell, o, empty = block.cell, None, np.ones(block.shape, bool)
    rows, asked = accumulator(block, room), asks_for_empty_rows(cell)
    for keys, given, place in block.tiles(stop):
        s, steps = block.scores(keys, given, place)
        shape, s = s.shape, block.free(s, steps)
        if asked:
            empty &= np.isneginf(s.real).all(axis=-1)
        reach = partial(block.reach, keys, given, place)
        e, factor = rows.take(s, reach, None if kept is None else cell.kept_array(s.shape))
        if kept is not None:
            kept.append((e, rows.m, steps, shape))
        weights, _ = block.dropped(e, given)
        part = weighted_sum.selected_matmul(weights, given["v"], place.allowed)
        if o is None:
            o = part
            continue
        if factor is not None:
            o *= factor
        o += part
    if o is None:
        o = np.zeros((*block.shape, cell.given["v"].shape[-1]), cell.dtype)
    return {"o": o} | rows.finish(o, block.shape), empty


def accumulator(block, room):
    """What takes the scores of a block's rows, tile by tile."""
    if not has_lse(block.cell.normalizer):
        return Local(block.cell.normalizer)
    return Online(block, room)


class Online:
    """Softmax over rows that come tile by tile; a sink is what a row starts from."""

    def __init__(self, block, room):
        sink, self.room = (
            sink_of(block.cell, block.given),
            online_softmax.headroom(block.cell.dtype) if room is None else room,
        )
        self.m, self.z = np.full((1, 1), -np.inf, block.cell.dtype).real, np.zeros((1, 1), block.cell.dtype)
        if sink is not None:
            self.m = sink.real
            self.z = online_softmax.weights_from_lse(np.array(sink), self.m)

    def take(self, s, reach, out):
        e, factor, self.m, self.z = online_softmax.online_softmax_step(
            s, self.m, self.z, self.room, reach(self.room), out
        )
        return e, factor

    def finish(self, o, shape):
        """{lse} of rows whose sum is complete; divides o by it."""
        divisor, lse = online_softmax.divisor_and_lse(self.m, self.z)
        o /= divisor
        return {"lse": np.broadcast_to(lse[..., 0], shape)}


class Local:
    """A normalizer whose weights each depend on their own score only."""

    def __init__(self, op):
        self.op = op

    def take(self, s, reach, out):
        return self.op.forward(s)[0], None

    def finish(self, o, shape):
        return {}


def sink_of(cell, given):
    """The score of the sink, as [... 1 1]; None where there is none."""
    if "sink" in given:
        return given["sink"][..., None, None]
    fixed = optional(cell.normalizer, "SINK")
    return None if fixed is None else np.full((1, 1), fixed, given["q"].dtype)


def filled(block, empty):
    """(the keys, the weights of the empty rows after dropout, the arguments) of every tile, where there are any."""
    cell = block.cell
    kind = cell.options["empty_row"]
    if kind not in FILL or not empty.any():
        return
    for start in range(0, cell.keys, cell.tile.keys):
        keys = slice(start, min(start + cell.tile.keys, cell.keys))
        given = cell.cutter.along("j", block.given, keys)
        nothing = np.zeros((*block.shape, keys.stop - keys.start), cell.dtype)
        alpha, _ = empty_row.forward(nothing, empty, FILL[kind](cell.place.every_key))
        weights, _ = block.dropped(alpha, given)
        yield keys, weights, given


def backward(cell, rows, stop):
    """The gradients of a cell's floating-point arguments, at some queries and at the keys that these may see.

    Those that no task has added to before are written where they belong, and not returned.
    """
    blocks = list(cell.blocks(rows))
    seen = span_of_keys(cell, blocks)
    for x in cell.own.values():
        x[...] = 0
    shapes = cell.cutter.along("j", cell.cutter.along("i", cell.given, rows), seen)
    rest = {name: x.shape for name, x in shapes.items() if x.dtype.kind in "fc" and name not in cell.own}
    totals = {name: memory.zeros(shape, cell.dtype) for name, shape in rest.items()}
    everything = totals | cell.cutter.along("j", cell.own, seen)
    for block in blocks:
        add_gradients(block, cell.cutter.along("i", everything, relative_to(block.rows, rows)), seen, stop)
    return totals | {"keys": seen}


def span_of_keys(cell, blocks):
    """The least slice of the keys that holds all that these blocks of queries look at."""
    if "empty" in cell.saved:
        return slice(0, cell.keys)
    spans = [keys for block in blocks for keys, _ in cell.key_tiles(block.rows)]
    return slice(min(s.start for s in spans), max(s.stop for s in spans)) if spans else slice(0, 0)


def relative_to(span, whole):
    """A slice, seen from the start of another."""
    return slice(span.start - whole.start, span.stop - whole.start)


def add_gradients(block, totals, seen, stop):
    """Add the gradients through a block of queries; the totals begin where the keys begin that are seen."""
    cell, dq = block.cell, None
    saved = {name: x[..., block.rows, :] for name, x in cell.saved.items()}
    if "sink" in totals:
        saved["do"] = np.where(block.seeing(stop), saved["do"], 0)
    do, lse, row_dot = saved["do"], saved.get("lse"), row_dots(saved)
    kept, factors = iter(cell.kept[block.rows.start] if cell.kept else ()), RowFactors(do, row_dot, lse)
    for keys, given, place in block.tiles(stop):
        e, taped, steps, shape = weights_of_tile(block, keys, given, place, factors, next(kept, None))
        weights, mask = block.dropped(e, given)
        # o = Σ_j weights_ij v_j
        d = weighted_sum.backward(
            factors.do, alpha=weights, v=given["v"], allowed=allowed_if_a_row_is_empty(place.allowed)
        )
        # weights = alpha · keep / (1 - p)
        dalpha = d["alpha"] if mask is None else dropout.backward(d["alpha"], **mask)["alpha"]
        # alpha = normalize(s)
        if lse is None:
            ds = cell.normalizer.backward(dalpha, **taped)["s"]
        else:
            ds = online_softmax.scores_cotangent(dalpha, e, factors.row_dot, out=dalpha)
        # s = score(q, k; θ) and its adjustments
        grads = through(steps, ds, shape)
        dq = grads.pop("q") if dq is None else np.add(dq, grads.pop("q"), out=dq)
        add(cell.cutter.along("j", totals, relative_to(keys, seen)), grads | {"v": d["v"]})
    if dq is not None:
        add(totals, block.unscaled(dq))
    if "sink" in totals:
        sink = np.broadcast_to(sink_of(cell, block.given), row_dot.shape)
        add(totals, {"sink": softmax_sink.sink_backward(row_dot, online_softmax.weights_from_lse(np.array(sink), lse))})
    if "empty" in saved:
        for keys, weights, given in filled(block, saved["empty"][..., 0]):
            dv = weighted_sum.backward(do, alpha=weights, v=given["v"], allowed=None)["v"]
            add(cell.cutter.along("j", totals, keys), {"v": dv})


def allowed_if_a_row_is_empty(allowed):
    """What is allowed in a tile where some query sees no key at all; None where ds, selected later, is enough."""
    return None if allowed is None or allowed.any(axis=-1).all() else allowed


class RowFactors:
    """Turns kept exponentials into weights by a factor for each row, put where it costs least.

    Kept are e = e^(s - m); the weights are alpha = f e with f = e^(m - lse), a number for each row. Backward needs them
    in two places only, and in both f can go to the row's cotangent instead of to each of its exponentials:

        dv = alphaᵀ do              = eᵀ (f do)
        ds = alpha (do vᵀ - D)      = e ((f do) vᵀ - f D)

    So `do` and `row_dot` (D) are multiplied by f once a row, for all keys, unless the smallest of a row's f |do| would
    fall so near to the end of the range that it lost digits: then that row's exponentials are multiplied instead.
    """

    def __init__(self, do, row_dot, lse):
        self.plain, self.lse, self.shift, self.of_exponentials = (do, row_dot), lse, None, None
        self.do, self.row_dot = self.plain

    def weights(self, e, m):
        """The weights of exponentials that were shifted by m, but for the factor that `do` and `row_dot` now have."""
        if m is not self.shift:
            self.shift, factor, self.of_exponentials = m, online_softmax.rescale_factor(m, self.lse), None
            if not np.min(factor, initial=np.inf) * self.smallest >= self.smallest_exact:
                fits = factor * self.smallest_of_row >= self.smallest_exact
                if not fits.all():
                    factor, self.of_exponentials = np.where(fits, factor, 1), np.where(fits, 1, factor)
            self.do, self.row_dot = (x * factor for x in self.plain)
        return e if self.of_exponentials is None else e * self.of_exponentials

    @cached_property
    def smallest(self):
        """The smallest |do| that is not 0, of all rows: usually enough to decide, and one number to find."""
        return self.smallest_along(axis=None)

    @cached_property
    def smallest_of_row(self):
        return self.smallest_along(axis=-1)

    def smallest_along(self, axis):
        sizes = np.abs(self.plain[0])
        where = {} if sizes.all() else {"where": sizes != 0}
        return np.min(sizes, axis=axis, keepdims=axis is not None, initial=np.inf, **where)

    @property
    def smallest_exact(self):
        """Below this a product loses digits: the smallest normal number, times 1/eps for the digits."""
        limits = np.finfo(self.plain[0].dtype)
        return limits.tiny / limits.eps


def weights_of_tile(block, keys, given, place, factors, kept):
    """(a tile's weights, as `factors` takes them, the normalizer's tape, the steps, the scores' shape)

    A row whose lse is NaN has no weight where it may not attend.
    """
    lse = factors.lse
    if kept is not None:
        e, m, steps, shape = kept
        e = factors.weights(e, m)
    else:
        s, steps = block.scores(keys, given, place)
        shape, s = s.shape, block.free(s, steps)
        if lse is None:
            alpha, taped = block.cell.normalizer.forward(s)
            return alpha, taped, steps, shape
        e = online_softmax.weights_from_lse(s, lse)
    if place.allowed is not None and np.isnan(lse).any():
        e = select(place.allowed, e)
    return e, None, steps, shape


def row_dots(saved):
    """Every row's sum of dalpha * alpha, less dlse, which goes the same way; nothing where a row was filled."""
    row_dot = np.einsum("...e,...e->...", saved["do"], saved["o"])[..., None]
    if "dlse" in saved:
        row_dot = row_dot - saved["dlse"]
    return np.where(saved["empty"], 0, row_dot) if "empty" in saved else row_dot
