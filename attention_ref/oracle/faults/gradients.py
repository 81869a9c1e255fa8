"""Mistakes that only a backward pass can make, and NaN that leaks through a product with weights of zero."""

import numpy as np

from attention_ref.adjust import bias, softcap
from attention_ref.oracle.faults.kernel import Kernel, catalog, in_tiles


class Backward(Kernel):
    """A mistake of the backward pass."""

    backward_only = True


class DMissing(Backward):
    """ds without the D term"""

    def d(self, do, o, p, da):
        return np.zeros_like(super().d(do, o, p, da))


class DWithoutDropout(Backward):
    """D from the weights before dropout"""

    def d(self, do, o, p, da):
        v = self.clean("v", self.shared(self.arrays["v"]))
        return (p * (do @ np.swapaxes(v, -1, -2))).sum(axis=-1)


class DHalf(Backward):
    """D summed over half of the width"""

    def d(self, do, o, p, da):
        half = (o.shape[-1] + 1) // 2
        return super().d(do[..., :half], o[..., :half], p, da)


class DUnweighted(Backward):
    """D from the cotangents of the weights without the weights"""

    def d(self, do, o, p, da):
        return da.mean(axis=-1)


class DlseIgnored(Backward):
    """the cotangent of lse ignored"""

    def less_dlse(self, row, dlse):
        return row


class DlseNegative(Backward):
    """the cotangent of lse with the opposite sign"""

    def less_dlse(self, row, dlse):
        return row if dlse is None else row + self.number(dlse)


class DsWithoutWeights(Backward):
    """ds without the factor alpha"""

    def ds(self, p, da, row):
        return np.where(p > 0, da - row[..., None], 0)


class DsNegative(Backward):
    """ds with the opposite sign"""

    def ds(self, p, da, row):
        return -super().ds(p, da, row)


class DsUnscaled(Backward):
    """the scale missing in dq and dk"""

    scaled_in: tuple = ("q", "k")
    power = -1

    def through_score(self, ds):
        grads, factor = super().through_score(ds), self.scale()
        if factor is None:
            return grads
        return {name: x * factor**self.power if name in self.scaled_in else x for name, x in grads.items()}


class DqUnscaled(DsUnscaled):
    """the scale missing in dq"""

    scaled_in = ("q",)


class DkUnscaled(DsUnscaled):
    """the scale missing in dk"""

    scaled_in = ("k",)


class DqScaledTwice(DqUnscaled):
    """the scale applied twice in dq"""

    power = 1


class DkScaledTwice(DkUnscaled):
    """the scale applied twice in dk"""

    power = 1


class DkTransposed(Backward):
    """dk from ds where its transpose belongs, which goes unnoticed when queries and keys are equally many"""

    def through_score(self, ds):
        grads = super().through_score(ds)
        if ds.shape[-1] != ds.shape[-2]:
            return grads
        return grads | {"k": super().through_score(np.swapaxes(ds, -1, -2))["k"]}


class DvTransposed(Backward):
    """dv from the weights where their transpose belongs, which goes unnoticed when queries and keys are equally many"""

    def dv(self, p, do):
        if p.shape[-1] != p.shape[-2]:
            return super().dv(p, do)
        return self.dropped(p, 0) @ do


class DkFromWeights(Backward):
    """dk from the weights instead of ds"""

    def through_score(self, ds):
        return super().through_score(ds) | {"k": super().through_score(self.alpha)["k"]}


class DvWithoutDropout(Backward):
    """dv from the weights before dropout"""

    def dv(self, p, do):
        return np.swapaxes(p, -1, -2) @ do


class WeightsCotangentWithoutDropout(Backward):
    """dropout forgotten in the cotangent of the weights"""

    def into_weights(self, do, v):
        return do @ np.swapaxes(v, -1, -2)


class GroupFirst(Backward):
    """gradients of grouped keys and values of the first query head only, not summed over the group"""

    def over_group(self, dx):
        return dx[..., 0, :, :]


class GroupLast(Backward):
    """gradients of grouped keys and values of the last query head only, not summed over the group"""

    def over_group(self, dx):
        return dx[..., -1, :, :]


class GroupMean(Backward):
    """gradients of grouped keys and values averaged over the group, not summed"""

    def over_group(self, dx):
        return dx.sum(axis=-3) / max(dx.shape[-3], 1)


class BroadcastFirst(Backward):
    """the gradient of a broadcast argument taken from the first copy, not summed"""

    def over_broadcast(self, name, dx, shape):
        dx = dx[(0,) * (dx.ndim - len(shape))]
        for axis, n in enumerate(shape):
            dx = dx.take([0], axis=axis) if n == 1 else dx
        return dx


class BroadcastMean(Backward):
    """the gradient of a broadcast argument averaged, not summed"""

    def over_broadcast(self, name, dx, shape):
        whole = super().over_broadcast(name, dx, shape)
        return whole * max(whole.size, 1) / max(dx.size, 1)


class BiasGradientScaled(Backward):
    """the gradient of the bias multiplied by the scale"""

    def through(self, op, ds, taped):
        here, factor = super().through(op, ds, taped), self.scale()
        return here | {"bias": here["bias"] * factor} if op is bias and factor is not None else here


class GradientMissing(Backward):
    """A gradient that is zero."""

    missing = ""

    def over_broadcast(self, name, dx, shape):
        dx = super().over_broadcast(name, dx, shape)
        return 0 * dx if name == self.missing else dx


class BiasGradientMissing(GradientMissing):
    """the gradient of the bias zero"""

    missing = "bias"


class SinkGradientMissing(GradientMissing):
    """the gradient of the sink zero"""

    missing = "sink"


class SinkGradientNegative(Backward):
    """the gradient of the sink with the opposite sign"""

    def dsink(self, lse, row):
        return -super().dsink(lse, row)


class SinkGradientPositiveOnly(Backward):
    """the gradient of the sink without D, its weight alone"""

    def dsink(self, lse, row):
        return super().dsink(lse, np.ones_like(row))


class SoftcapSlopeMissing(Backward):
    """the slope of the softcap missing in the backward"""

    def through(self, op, ds, taped):
        here = super().through(op, ds, taped)
        return here | {"s": ds} if op is softcap else here


class SoftcapSlopeLinear(Backward):
    """the slope of the softcap 1 - tanh instead of 1 - tanh^2"""

    def through(self, op, ds, taped):
        here = super().through(op, ds, taped)
        return here | {"s": ds * (1 - taped["y"])} if op is softcap else here


class SlopesGradientNegative(Backward):
    """the gradient of alibi_slopes with the opposite sign"""

    def over_broadcast(self, name, dx, shape):
        dx = super().over_broadcast(name, dx, shape)
        return -dx if name == "alibi_slopes" else dx


class TableGradientMissing(GradientMissing):
    """the gradient of relative_table zero"""

    missing = "relative_table"


class Part(Backward):
    """A gradient from a part of ds."""

    def some(self, ds):
        return ds

    def kept(self, ds, axis, start, end):
        inside = np.arange(ds.shape[axis])
        inside = (start <= inside) & (inside < end)
        return np.where(inside if axis == -1 else inside[:, None], ds, 0)


class DqOfLastTile(Part):
    """dq overwritten by each tile of {tile} keys instead of accumulated"""

    def through_score(self, ds):
        keys = ds.shape[-1]
        last = self.kept(ds, -1, (keys - 1) // self.tile * self.tile, keys)
        return super().through_score(ds) | {"q": super().through_score(last)["q"]}


class DkOfLastTile(Part):
    """dk overwritten by each tile of {tile} queries instead of accumulated"""

    def through_score(self, ds):
        rows = ds.shape[-2]
        last = self.kept(ds, -2, (rows - 1) // self.tile * self.tile, rows)
        return super().through_score(ds) | {"k": super().through_score(last)["k"]}


class DvOfLastTile(Part):
    """dv overwritten by each tile of {tile} queries instead of accumulated"""

    def dv(self, p, do):
        rows = p.shape[-2]
        return super().dv(self.kept(p, -2, (rows - 1) // self.tile * self.tile, rows), do)


class DqWithoutTail(Part):
    """the last partial tile of {tile} keys missing in dq"""

    def through_score(self, ds):
        whole = self.kept(ds, -1, 0, ds.shape[-1] // self.tile * self.tile)
        return super().through_score(ds) | {"q": super().through_score(whole)["q"]}


class DkWithoutTail(Part):
    """the last partial tile of {tile} queries missing in dk"""

    def through_score(self, ds):
        whole = self.kept(ds, -2, 0, ds.shape[-2] // self.tile * self.tile)
        return super().through_score(ds) | {"k": super().through_score(whole)["k"]}


class DkWithoutLastQuery(Part):
    """the last query missing in dk and dv"""

    def weights(self, s, lse):
        p = super().weights(s, lse)
        return self.kept(p, -2, 0, p.shape[-2] - 1)


class NanThroughValues(Kernel):
    """what is not finite in a masked value leaking, as 0 * NaN"""

    def clean(self, name, x):
        return x if name == "v" else super().clean(name, x)


class NanThroughKeys(Backward):
    """what is not finite in a masked key leaking into dq, as 0 * NaN"""

    def clean(self, name, x):
        return x if name == "k" else super().clean(name, x)


class NanThroughQueries(Backward):
    """what is not finite in a masked query leaking into dk, as 0 * NaN"""

    def clean(self, name, x):
        return x if name == "q" else super().clean(name, x)


TILED = {
    name: mistake
    for one in (DqOfLastTile, DkOfLastTile, DvOfLastTile, DqWithoutTail, DkWithoutTail)
    for name, mistake in in_tiles(one).items()
}
BASES = (Backward, GradientMissing, Part)
CATALOG = [*(x for x in catalog(globals()) if x not in BASES and "{tile}" not in x.clause()), *TILED.values()]
