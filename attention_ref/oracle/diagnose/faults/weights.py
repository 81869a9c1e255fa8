"""Mistakes in the sink and in dropout."""

import numpy as np

from attention_ref.oracle.diagnose.faults.kernel import Kernel, catalog


class SinkIgnored(Kernel):
    """the sink ignored"""

    also_alone = True

    def start(self, rows, first):
        return self.nothing(rows) if "sink" in self.options else super().start(rows, first)

    def weights(self, s, lse):
        p = self.exp(s - s.max(axis=-1, keepdims=True, initial=-1e30))
        z = p.sum(axis=-1, keepdims=True)
        return p / np.where(z == 0, 1, z) if "sink" in self.options else super().weights(s, lse)

    def dsink(self, lse, row):
        return np.zeros_like(row)


class SinkScaled(Kernel):
    """the sink multiplied by the scale, as if it were a raw score"""

    def understood(self, options):
        own = self.pipeline.own_scale
        if "sink" not in options or own is None:
            return options
        return options | {"sink": options["sink"] * self.arithmetic.work(own(self.arrays["q"]))}


class SinkOfFirstHead(Kernel):
    """the first head's sink used for all"""

    def understood(self, options):
        return options | {"sink": 0 * options["sink"] + options["sink"][..., :1]} if "sink" in options else options


class SinkInEverySplit(Kernel):
    """the sink counted once in each of two splits of the keys"""

    splits = 2

    def start(self, rows, first):
        return super().start(rows, 0)


class DropoutIgnored(Kernel):
    """dropout ignored"""

    also_alone = True

    def dropped(self, p, first):
        return p


class DropoutUnscaled(Kernel):
    """the kept weights not scaled by 1/(1-p)"""

    also_alone = True

    def understood(self, options):
        return options | {"dropout": (options["dropout"][0], 0.0)} if "dropout" in options else options


class DropoutScaledByP(Kernel):
    """the kept weights scaled by 1/p instead of 1/(1-p)"""

    def understood(self, options):
        return (
            options | {"dropout": (options["dropout"][0], 1 - options["dropout"][1])}
            if "dropout" in options
            else options
        )


class DropoutInverted(Kernel):
    """the keep mask of dropout inverted"""

    def understood(self, options):
        return (
            options | {"dropout": (~options["dropout"][0], options["dropout"][1])} if "dropout" in options else options
        )


class DropoutRenormalized(Kernel):
    """the kept weights normalized to a sum of one"""

    def understood(self, options):
        return options | {"dropout": (options["dropout"][0], 0.0)} if "dropout" in options else options

    def row_sum(self, p, first):
        return super().row_sum(self.dropped(p, first), first)


class DropoutOfFirstHead(Kernel):
    """the first head's keep mask used for all"""

    def understood(self, options):
        keep, p = options.get("dropout", (None, None))
        return options | {"dropout": (keep[..., :1, :, :], p)} if np.ndim(keep) > 2 else options


CATALOG = catalog(globals())
