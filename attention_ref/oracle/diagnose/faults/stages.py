"""Mistakes in the stages between score and softmax, in the sink and in dropout."""

from math import sqrt

import numpy as np

from attention_ref.adjust import softcap
from attention_ref.oracle.diagnose.faults.kernel import Kernel, catalog


class Times:
    """A stage that multiplies by a number, which has no gradient of its own."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, s):
        return s * self.factor, {}

    def backward(self, ds):
        return {"s": ds * self.factor}


class ScaleMissing(Kernel):
    """the scale left out"""

    also_alone = True

    def scale(self):
        return self.arithmetic.work(1)


class ScaleTwice(Kernel):
    """the scale applied twice"""

    def scale(self):
        factor = super().scale()
        return None if factor is None else factor * factor


class OwnScale(Kernel):
    """Another factor where no scale is given."""

    def scale(self):
        if "scale" in self.options or self.pipeline.own_scale is None:
            return super().scale()
        return self.arithmetic.work(self.factor())

    def factor(self):
        return self.pipeline.own_scale(self.arrays["q"])


class ScaleByWidth(OwnScale):
    """scale 1/d instead of 1/sqrt(d)"""

    def factor(self):
        return 1 / self.arrays["q"].shape[-1]


class ScaleByValueWidth(OwnScale):
    """scale 1/sqrt(d_v) instead of 1/sqrt(d)"""

    def factor(self):
        return 1 / sqrt(self.arrays["v"].shape[-1])


class ScaleByAllHeads(OwnScale):
    """scale 1/sqrt(heads * d) instead of 1/sqrt(d)"""

    def factor(self):
        return 1 / sqrt(self.heads * self.arrays["q"].shape[-1])


class ScaleGivenIgnored(Kernel):
    """the scale that is given ignored, 1/sqrt(d) used"""

    def scale(self):
        own = self.pipeline.own_scale
        return super().scale() if own is None else self.arithmetic.work(own(self.arrays["q"]))


class ScaleOnTop(Kernel):
    """the scale that is given applied on top of 1/sqrt(d)"""

    def scale(self):
        own, factor = self.pipeline.own_scale, super().scale()
        return factor if own is None or "scale" not in self.options else factor * own(self.arrays["q"])


class ScaleOfFirstHead(Kernel):
    """the first head's scale used for all"""

    def scale(self):
        factor = super().scale()
        return factor[..., :1, :, :] if np.ndim(factor) > 2 else factor


class SoftcapIgnored(Kernel):
    """the softcap ignored"""

    also_alone = True

    def capped(self, s):
        return s


class SoftcapUndivided(Kernel):
    """softcap * tanh(s) instead of softcap * tanh(s / softcap)"""

    def capped(self, s):
        return super().capped(self.step(Times(self.options["softcap"]), s)) if "softcap" in self.options else s


class SoftcapUnmultiplied(Kernel):
    """tanh(s / softcap) without the factor softcap behind it"""

    def capped(self, s):
        return self.step(Times(1 / self.options["softcap"]), super().capped(s)) if "softcap" in self.options else s


class SoftcapBeforeScale(Kernel):
    """the softcap before the scale"""

    order = ("capped", "scaled", "biased", "masked")


class SoftcapAfterBias(Kernel):
    """the softcap after the bias"""

    order = ("scaled", "biased", "capped", "masked")


class SoftcapAfterMask(Kernel):
    """the softcap after the mask, so that every key is allowed"""

    order = ("scaled", "biased", "masked", "capped")

    def step(self, op, s, **given):
        return super().step(op, np.nan_to_num(s, neginf=-1e30) if op is softcap else s, **given)


class BiasIgnored(Kernel):
    """the bias ignored"""

    also_alone = True

    def biased(self, s):
        kept, self.options = self.options, {n: x for n, x in self.options.items() if n != "bias"}
        s = super().biased(s)
        self.options = kept
        return s


class BiasBeforeScale(Kernel):
    """the bias before the scale"""

    order = ("biased", "scaled", "capped", "masked")


class BiasNegative(Kernel):
    """the bias subtracted"""

    def understood(self, options):
        x = options.get("bias")
        return options if x is None else options | {"bias": np.where(np.isneginf(x), x, -x)}

    def through(self, op, ds, taped):
        here = super().through(op, ds, taped)
        return here | {"bias": -here["bias"]} if "bias" in here else here


class BiasOfFirstHead(Kernel):
    """the first head's bias used for all"""

    def understood(self, options):
        x = options.get("bias")
        return options | {"bias": np.broadcast_to(x[..., :1, :, :], x.shape)} if np.ndim(x) > 2 else options


class AlibiIgnored(Kernel):
    """alibi_slopes ignored"""

    def distance(self):
        return 0 * super().distance()


class AlibiNegative(Kernel):
    """the ALiBi bias added instead of subtracted"""

    def distance(self):
        return -super().distance()


class AlibiTopLeft(Kernel):
    """ALiBi's distances from the top left corner whatever the alignment"""

    def distance(self):
        return self.placed(self.options | {"align": 0}).distance


class RelativeIgnored(Kernel):
    """relative_table ignored"""

    def bucket(self, n):
        return np.zeros_like(super().bucket(n))


class RelativeReversed(Kernel):
    """relative positions with the opposite sign"""

    def bucket(self, n):
        place = self.placed(self.options)
        place.relative = -place.relative
        return place.bucket(n)


class ScaleUnasked(Kernel):
    """the scale 1/sqrt(d), which this rule does not have"""

    only_unscaled = True

    def scale(self):
        factor = super().scale()
        return self.arithmetic.work(1 / sqrt(self.arrays["q"].shape[-1])) if factor is None else factor


CATALOG = [mistake for mistake in catalog(globals()) if mistake is not OwnScale]
