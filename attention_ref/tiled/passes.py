"""Forward and backward over a block of queries.

Softmax needs whole rows: forward keeps each row's maximum and sum so far, backward has the weights again from the
row's lse, and the row's sum of dalpha * alpha is that of do * o.
"""

import numpy as np

from attention_ref.layer import dropout, weighted_sum
from attention_ref.mask import empty_row
from attention_ref.normalize import softmax, softmax_sink
from attention_ref.pipeline import RENAMED
from attention_ref.place import FILL
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
    cell, o = block.cell, None
    rows = summed(block)
    watched = cell.options.get("empty_row", "zero") != "zero"
    empty = np.ones(block.shape, bool)
    for _, given, place in block.tiles(stop):
        s, steps = block.scores(given, place)
        shape, s = s.shape, block.free(s, steps)
        if watched:
            empty &= np.isneginf(s.real).all(axis=-1)
        e, factor = rows.take(s, block.reach(given, place), cell.kept_array(s.shape))
        if cell.keeps:
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
    out = {"o": o} | rows.finish(o, block.shape)
    if watched:
        out["empty"] = empty
        for _, weights, given in filled(block, empty, stop):
            o += weighted_sum.forward(weights, given["v"], empty[..., None])[0]
    return out


def summed(block):
    """What takes the scores of a block's rows, tile by tile."""
    if not hasattr(block.cell.normalizer, "LSE"):
        return Local(block.cell.normalizer)
    return Online(block)


class Online:
    """Softmax over rows that come tile by tile; a sink is what a row starts from."""

    def __init__(self, block):
        sink = sink_of(block.cell, block.given)
        self.m, self.z = np.full((1, 1), -np.inf, block.cell.dtype).real, np.zeros((1, 1), block.cell.dtype)
        if sink is not None:
            self.m = sink.real
            self.z = softmax.known(np.array(sink), self.m)

    def take(self, s, reach, out):
        e, factor, self.m, self.z = softmax.more(s, self.m, self.z, reach, out)
        return e, factor

    def finish(self, o, shape):
        """{lse} of rows whose sum is complete; divides o by it."""
        divisor, lse = softmax.whole(self.m, self.z)
        o /= divisor
        return {"lse": np.broadcast_to(lse[..., 0], shape)}


class Local:
    """A normalizer whose weights each depend on their own score only."""

    m = None

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


def filled(block, empty, stop):
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
    """The gradients of a cell's floating-point arguments, at some queries and at the keys that these may see."""
    blocks = list(cell.blocks(rows))
    seen = hull(cell, blocks)
    shapes = cell.cutter.along("j", cell.cutter.along("i", cell.given, rows), seen)
    totals = {name: np.zeros(x.shape, cell.dtype) for name, x in shapes.items() if x.dtype.kind in "fc"}
    for block in blocks:
        retract(block, cell.cutter.along("i", totals, moved(block.rows, rows)), seen, stop)
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
    kept = iter(cell.kept[block.rows.start] if cell.kept else ())
    for keys, given, place in block.tiles(stop):
        e, share, taped, steps, shape = weights_again(block, given, place, lse, next(kept, None))
        weights, mask = block.dropped(e, given)
        d = weighted_sum.backward(do * share, alpha=weights, v=given["v"], allowed=place.allowed)
        dalpha = d["alpha"] if mask is None else dropout.backward(d["alpha"], **mask)["alpha"]
        ds = (
            softmax.across(dalpha, e, along * share, out=dalpha)
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
        for keys, weights, given in filled(block, saved["empty"][..., 0], stop):
            dv = weighted_sum.backward(do, alpha=weights, v=given["v"], allowed=None)["v"]
            add(cell.cutter.along("j", totals, keys), {"v": dv})


def weights_again(block, given, place, lse, kept):
    """(a tile's weights but for a factor of each row, that factor, the normalizer's tape, the steps, the scores' shape)

    The factor goes with the row's cotangent instead: that is shorter than the row.
    """
    if kept is not None:
        e, m, steps, shape = kept
        return e, softmax.share(m, lse), None, steps, shape
    s, steps = block.scores(given, place)
    shape, s = s.shape, block.free(s, steps)
    if lse is not None:
        return softmax.known(s, lse), 1, None, steps, shape
    alpha, taped = block.cell.normalizer.forward(s)
    return alpha, 1, taped, steps, shape


def along_alpha(saved):
    """Every row's sum of dalpha * alpha, less dlse, which goes the same way; nothing where a row was filled."""
    along = np.sum(saved["do"] * saved["o"], axis=-1, keepdims=True)
    if "dlse" in saved:
        along = along - saved["dlse"]
    return np.where(saved["empty"], 0, along) if "empty" in saved else along


def renamed(grads):
    return {RENAMED.get(name, name): gradient for name, gradient in grads.items()}
