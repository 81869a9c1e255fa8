"""Forward and backward over a block of queries.

Softmax needs whole rows: forward keeps each row's maximum and sum so far, backward has the weights again from the
row's lse, and the row's sum of dalpha * alpha is that of do * o.
"""

import numpy as np

from attention_ref.arrays import select
from attention_ref.layer import dropout, weighted_sum
from attention_ref.mask import empty_row
from attention_ref.normalize import softmax, softmax_sink
from attention_ref.pipeline import RENAMED
from attention_ref.place import FILL
from attention_ref.tiled import memory
from attention_ref.tiled.block import through
from attention_ref.tiled.cut import add


def forward(cell, rows, stop):
    """{o, lse, empty} of some queries; lse where the normalizer has one, empty where `empty_row` asks for it."""
    blocks, kept = [], {}
    for block in cell.blocks(rows):
        blocks.append(attend(block, stop, kept.setdefault(block.rows.start, [])))
    behind = {name: -2 if name == "o" else -1 for name in blocks[0]}
    out = {name: np.concatenate([block[name] for block in blocks], axis=behind[name]) for name in blocks[0]}
    return out | ({"kept": kept} if cell.keeps else {})


def attend(block, stop, kept):
    """{o, lse, empty} of a block; o again with the largest shift where it has overflowed with a smaller one."""
    out, empty = gathered(block, stop, kept if block.cell.keeps else None)
    if "lse" in out and not np.isfinite(out["o"]).all():
        again, _ = gathered(block, stop, None, room=0)
        out["o"] = np.where(np.isfinite(out["o"]), out["o"], again["o"])
    if watched(block.cell):
        out["empty"] = empty
        for _, weights, given in filled(block, empty):
            out["o"] += weighted_sum.forward(weights, given["v"], empty[..., None])[0]
    return out


def watched(cell):
    """Is it asked which rows are empty?"""
    return cell.options.get("empty_row", "zero") != "zero"


def gathered(block, stop, kept, room=None):
    """({o, lse}, which rows are empty) of a block, over all the keys; what backward wants is put into `kept`."""
    cell, o, empty = block.cell, None, np.ones(block.shape, bool)
    rows = summed(block, room)
    for _, given, place in block.tiles(stop):
        s, steps = block.scores(given, place)
        shape, s = s.shape, block.free(s, steps)
        if watched(cell):
            empty &= np.isneginf(s.real).all(axis=-1)
        e, factor = rows.take(s, block.reach(given, place), None if kept is None else cell.kept_array(s.shape))
        if kept is not None:
            kept.append((e, rows.m, steps, shape))
        weights, _ = block.dropped(e, given)
        part = weighted_sum.selected_matmul(weights, given["v"], place.allowed)
        if o is None:
            o = part
        else:
            o *= factor
            o += part
    if o is None:
        o = np.zeros((*block.shape, cell.given["v"].shape[-1]), cell.dtype)
    return {"o": o} | rows.finish(o, block.shape), empty


def summed(block, room):
    """What takes the scores of a block's rows, tile by tile."""
    if not hasattr(block.cell.normalizer, "LSE"):
        return Local(block.cell.normalizer)
    return Online(block, room)


class Online:
    """Softmax over rows that come tile by tile; a sink is what a row starts from."""

    def __init__(self, block, room):
        sink, self.room = sink_of(block.cell, block.given), softmax.room(block.cell.dtype) if room is None else room
        self.m, self.z = np.full((1, 1), -np.inf, block.cell.dtype).real, np.zeros((1, 1), block.cell.dtype)
        if sink is not None:
            self.m = sink.real
            self.z = softmax.known(np.array(sink), self.m)

    def take(self, s, reach, out):
        e, factor, self.m, self.z = softmax.more(s, self.m, self.z, self.room, reach, out)
        return e, factor

    def finish(self, o, shape):
        """{lse} of rows whose sum is complete; divides o by it."""
        divisor, lse = softmax.whole(self.m, self.z)
        o /= divisor
        return {"lse": np.broadcast_to(lse[..., 0], shape)}


class Local:
    """A normalizer whose weights each depend on their own score only."""

    def __init__(self, op):
        self.op = op

    def take(self, s, reach, out):
        return self.op.forward(s)[0], 1

    def finish(self, o, shape):
        return {}


def sink_of(cell, given):
    """The score of the sink, as [... 1 1]; None where there is none."""
    if "sink" in given:
        return given["sink"][..., None, None]
    return cell.normalizer.sink(given["q"])[..., None, None] if hasattr(cell.normalizer, "sink") else None


def filled(block, empty):
    """(the keys, the weights of the empty rows behind dropout, the arguments) of every tile, where there are any."""
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

    Those that no other task adds to are written where they belong, and not returned.
    """
    blocks = list(cell.blocks(rows))
    seen = hull(cell, blocks)
    for x in cell.own.values():
        x[...] = 0
    shapes = cell.cutter.along("j", cell.cutter.along("i", cell.given, rows), seen)
    rest = {name: x.shape for name, x in shapes.items() if x.dtype.kind in "fc" and name not in cell.own}
    totals = {name: memory.zeros(shape, cell.dtype) for name, shape in rest.items()}
    everything = totals | cell.cutter.along("j", cell.own, seen)
    for block in blocks:
        retract(block, cell.cutter.along("i", everything, moved(block.rows, rows)), seen, stop)
    return totals | {"keys": seen}


def hull(cell, blocks):
    """The least slice of the keys that holds all that these blocks of queries look at."""
    if "empty" in cell.saved:
        return slice(0, cell.keys)
    spans = [keys for block in blocks for keys, _ in cell.key_tiles(block.rows)]
    return slice(min(s.start for s in spans), max(s.stop for s in spans)) if spans else slice(0, 0)


def moved(span, whole):
    """A slice, seen from the start of another."""
    return slice(span.start - whole.start, span.stop - whole.start)


def retract(block, totals, seen, stop):
    """Add the gradients through a block of queries; the totals begin where the keys begin that are seen."""
    cell, dq = block.cell, None
    saved = {name: x[..., block.rows, :] for name, x in cell.saved.items()}
    do, lse, along = saved["do"], saved.get("lse"), along_alpha(saved)
    online = lse is not None
    kept, least = iter(cell.kept[block.rows.start] if cell.kept else ()), least_of(do) if cell.kept else 0
    for keys, given, place in block.tiles(stop):
        e, factor, taped, steps, shape = weights_again(block, given, place, lse, next(kept, None), least)
        weights, mask = block.dropped(e, given)
        d = weighted_sum.backward(do * factor, alpha=weights, v=given["v"], allowed=place.allowed)
        dalpha = d["alpha"] if mask is None else dropout.backward(d["alpha"], **mask)["alpha"]
        ds = (
            softmax.across(dalpha, e, along * factor, out=dalpha)
            if online
            else cell.normalizer.backward(dalpha, **taped)["s"]
        )
        grads = through(steps, ds, shape)
        dq = grads.pop("q") if dq is None else np.add(dq, grads.pop("q"), out=dq)
        add(cell.cutter.along("j", totals, moved(keys, seen)), renamed(grads) | {"v": d["v"]})
    if dq is not None:
        add(totals, block.unscaled(dq))
    if "sink" in totals:
        sink = np.broadcast_to(sink_of(cell, block.given), along.shape)
        add(totals, {"sink": softmax_sink.sink_backward(along, softmax.known(np.array(sink), lse))})
    if "empty" in saved:
        for keys, weights, given in filled(block, saved["empty"][..., 0]):
            dv = weighted_sum.backward(do, alpha=weights, v=given["v"], allowed=None)["v"]
            add(cell.cutter.along("j", totals, keys), {"v": dv})


def least_of(do):
    """The least number in these that is not zero."""
    return np.min(np.abs(do), where=do != 0, initial=np.inf)


def weights_again(block, given, place, lse, kept, least):
    """(a tile's weights but for a factor of each row, that factor, the normalizer's tape, the steps, the scores' shape)

    The factor goes with the row's cotangent instead, which is shorter than the row, unless `least` of these would
    lose digits below the end of the range. A row whose lse is NaN has no weight where it may not attend.
    """
    if kept is not None:
        e, m, steps, shape = kept
        factor, form = softmax.share(m, lse), np.finfo(e.dtype)
        if not np.min(factor, initial=1) * least >= form.tiny / form.eps:
            e, factor = e * factor, 1
    else:
        s, steps = block.scores(given, place)
        shape, s = s.shape, block.free(s, steps)
        if lse is None:
            alpha, taped = block.cell.normalizer.forward(s)
            return alpha, 1, taped, steps, shape
        e, factor = softmax.known(s, lse), 1
    if place.allowed is not None and np.isnan(lse).any():
        e = select(place.allowed, e)
    return e, factor, None, steps, shape


def along_alpha(saved):
    """Every row's sum of dalpha * alpha, less dlse, which goes the same way; nothing where a row was filled."""
    along = np.einsum("...e,...e->...", saved["do"], saved["o"])[..., None]
    if "dlse" in saved:
        along = along - saved["dlse"]
    return np.where(saved["empty"], 0, along) if "empty" in saved else along


def renamed(grads):
    return {RENAMED.get(name, name): gradient for name, gradient in grads.items()}
