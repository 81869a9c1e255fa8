"""Mistakes in the softmax: maximum, normalizer, tiles, splits, tails; and in lse."""

import numpy as np

from attention_ref.oracle.diagnose.faults.kernel import Kernel, catalog, in_tiles
from attention_ref.oracle.diagnose.faults.stages import ScaleMissing, SoftcapIgnored
from attention_ref.oracle.diagnose.faults.weights import SinkIgnored

LN2 = float(np.log(2))


class MaxMissing(Kernel):
    """the row's maximum not subtracted, so that exp overflows"""

    narrow = True

    def top(self, m, s):
        return np.zeros_like(super().top(m, s))

    def start(self, rows, first):
        m, z = super().start(rows, first)
        return np.zeros_like(m), z * np.exp(np.where(np.isneginf(m), 0, m))


class RescaleMissing(Kernel):
    """the output not rescaled in an online softmax with tiles of {tile} keys"""

    def rescaled(self, acc, back):
        return acc


class RescaleSumMissing(Kernel):
    """the normalizer not rescaled in an online softmax with tiles of {tile} keys"""

    def rescaled_sum(self, z, back):
        return z


class RescaleBothMissing(RescaleMissing, RescaleSumMissing):
    """neither output nor normalizer rescaled in an online softmax with tiles of {tile} keys"""


class KeysDropped(Kernel):
    """Some keys that take no part."""

    def lost(self, keys):
        return slice(0, 0)

    def masked(self, s):
        s = super().masked(s)
        s[..., self.lost(s.shape[-1])] = -np.inf
        return s


class LastKeyDropped(KeysDropped):
    """the last key dropped"""

    def lost(self, keys):
        return slice(keys - 1, keys)


class FirstKeyDropped(KeysDropped):
    """the first key dropped"""

    def lost(self, keys):
        return slice(0, 1)


class TailKeysDropped(KeysDropped):
    """the last partial tile of {tile} keys dropped behind whole ones"""

    def lost(self, keys):
        return slice(keys // self.tile * self.tile or keys, keys)


class TailKeysPadded(Kernel):
    """the padding of the last tile of {tile} keys taken for keys with score 0"""

    def start(self, rows, first):
        m, z = super().start(rows, first)
        padding = -self.arrays["v"].shape[-2] % self.tile
        if first or not padding:
            return m, z
        top = np.maximum(m, 0)
        return top, z * np.exp(m - top) + padding * np.exp(-top)


class TailRowsDropped(Kernel):
    """the last partial tile of {tile} queries dropped behind whole ones"""

    def tail(self):
        rows = self.arrays["q"].shape[-2]
        return slice(rows // self.tile * self.tile or rows, rows)

    def forward(self):
        results = super().forward()
        results["o"][..., self.tail(), :] = 0
        if "lse" in results:
            results["lse"][..., self.tail()] = 0
        return results

    def weights(self, s, lse):
        p = super().weights(s, lse)
        p[..., self.tail(), :] = 0
        return p


class Unnormalized(Kernel):
    """the output not divided by the normalizer"""

    def divided(self, acc, z):
        return acc


class NormalizerOff(Kernel):
    """the normalizer 0.1 % too large"""

    def divided(self, acc, z):
        return super().divided(acc, z * z.dtype.type(1.001))


class NormalizerEpsilon(Kernel):
    """1e-6 added to the normalizer"""

    def divided(self, acc, z):
        return super().divided(acc, z + z.dtype.type(1e-6))


class MaskAfterSoftmax(Kernel):
    """the mask applied behind the softmax, without normalizing again"""

    def masked(self, s):
        self.mask = self.allowed()
        return s

    def dropped(self, p, first):
        kept = self.mask
        if kept is not None:
            p = np.where(kept if kept.shape[-1] == 1 else kept[..., first : first + p.shape[-1]], p, 0).astype(p.dtype)
        return super().dropped(p, first)


class SplitAverage(Kernel):
    """two splits of the keys averaged, not weighted by their lse"""

    splits = 2

    def merged(self, parts):
        _, lse = super().merged(parts)
        return sum(o for o, _ in parts) / len(parts), lse


class SplitByMax(Kernel):
    """two splits of the keys merged with equal normalizers, by an lse that lacks the logarithm"""

    splits = 2
    tops: tuple = ()

    def merged(self, parts):
        _, lse = super().merged(parts)
        o, _ = super().merged([(o, top) for (o, _), top in zip(parts, self.tops, strict=True)])
        return o, lse

    def part(self, s, v, first):
        self.tops = (*(self.tops if first else ()), s.max(axis=-1))
        return super().part(s, v, first)


class LseBaseTwo(Kernel):
    """lse in base 2"""

    def forward(self):
        results = super().forward()
        return results | {"lse": results["lse"] / results["lse"].dtype.type(LN2)} if "lse" in results else results

    def weights(self, s, lse):
        return super().weights(s, lse * lse.dtype.type(LN2))


class LseWithoutMax(Kernel):
    """lse without the row's maximum added back"""

    def logarithm(self, m, z):
        return super().logarithm(np.where(np.isneginf(m), m, 0), z)


class LseOnlyMax(Kernel):
    """lse without the logarithm of the normalizer, only the maximum"""

    def logarithm(self, m, z):
        return super().logarithm(m, np.where(z == 0, z, 1))


class LseNegative(Kernel):
    """lse with the opposite sign"""

    def forward(self):
        results = super().forward()
        return results | {"lse": -results["lse"]} if "lse" in results else results


class LseOfAnother(Kernel):
    """lse of scores that lack a stage."""

    another: type[Kernel] = Kernel

    def forward(self):
        return super().forward() | {n: x for n, x in self.another(*self.call).forward().items() if n == "lse"}


class LseUnscaled(LseOfAnother):
    """lse of the scores before the scale"""

    another = ScaleMissing


class LseUncapped(LseOfAnother):
    """lse of the scores before the softcap"""

    another = SoftcapIgnored


class LseWithoutSink(LseOfAnother):
    """lse without the sink"""

    another = SinkIgnored


TILED = {
    name: mistake
    for one in (RescaleMissing, RescaleSumMissing, RescaleBothMissing, TailKeysDropped, TailKeysPadded, TailRowsDropped)
    for name, mistake in in_tiles(one).items()
}
WHOLE = [x for x in catalog(globals()) if x not in (KeysDropped, LseOfAnother) and "{tile}" not in x.clause()]
CATALOG = [*WHOLE, *TILED.values()]
