"""Mistakes in what a gradient is summed over: groups, broadcast axes, tiles of keys and queries."""

import numpy as np

from attention_ref.oracle.diagnose.faults.gradients import Backward
from attention_ref.oracle.diagnose.faults.kernel import catalog, in_tiles


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


TILED = {
    name: mistake
    for one in (DqOfLastTile, DkOfLastTile, DvOfLastTile, DqWithoutTail, DkWithoutTail)
    for name, mistake in in_tiles(one).items()
}
WHOLE = [mistake for mistake in catalog(globals()) if mistake is not Part and "{tile}" not in mistake.clause()]
CATALOG = [*WHOLE, *TILED.values()]
