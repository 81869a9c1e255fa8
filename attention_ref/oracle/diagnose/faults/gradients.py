"""Mistakes that only a backward pass can make, and NaN that leaks through a product with weights of zero."""

import numpy as np

from attention_ref.adjust import bias, softcap
from attention_ref.oracle.diagnose.faults.kernel import Kernel, catalog


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


CATALOG = [mistake for mistake in catalog(globals()) if mistake not in (Backward, GradientMissing)]
