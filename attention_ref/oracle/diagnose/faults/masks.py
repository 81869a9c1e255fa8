"""Mistakes about masks and lengths, and about rows in which nothing is allowed."""

import numpy as np

from attention_ref.oracle.diagnose.faults.kernel import Kernel, catalog
from attention_ref.oracle.diagnose.faults.positions import without

LARGE = -0.7 * float(np.finfo(np.float32).max)


class MasksForgotten(Kernel):
    """every mask ignored"""

    also_alone = True

    def allowed(self):
        return None


class LengthsIgnored(Kernel):
    """the lengths ignored"""

    also_alone = True

    def understood(self, options):
        return without(options, "q_lengths", "k_lengths")


class QLengthsIgnored(Kernel):
    """q_lengths ignored"""

    def allowed(self):
        real = {"align": self.placed(self.options).offset} if "q_lengths" in self.options else {}
        return self.placed(without(self.options, "q_lengths") | real).allowed


class LengthsLastIndex(Kernel):
    """k_lengths taken for the last index instead of a count"""

    more = 1

    def allowed(self):
        if "k_lengths" not in self.options:
            return super().allowed()
        keys = self.arrays["v"].shape[-2]
        moved = {"k_lengths": np.clip(self.options["k_lengths"] + self.more, 0, keys)}
        return self.placed(self.options | moved | {"align": self.placed(self.options).offset}).allowed


class LengthsOneShort(LengthsLastIndex):
    """k_lengths one too short"""

    more = -1


class LengthsOfFirstEntry(Kernel):
    """the first batch entry's k_lengths used for all"""

    def understood(self, options):
        return options | {"k_lengths": options["k_lengths"][:1]} if np.ndim(options.get("k_lengths")) else options


class MaskIgnored(Kernel):
    """the mask ignored"""

    also_alone = True

    def understood(self, options):
        return without(options, "allowed")


class MaskInverted(Kernel):
    """the mask inverted, True = masked out"""

    def understood(self, options):
        return options | {"allowed": ~options["allowed"]} if "allowed" in options else options


class MaskOfFirstHead(Kernel):
    """the first head's mask used for all"""

    def understood(self, options):
        allowed = options.get("allowed")
        return options | {"allowed": allowed[..., :1, :, :]} if np.ndim(allowed) > 2 else options


class MaskOfFirstEntry(Kernel):
    """the first batch entry's mask used for all"""

    def understood(self, options):
        allowed = options.get("allowed")
        return options | {"allowed": allowed[:1]} if np.ndim(allowed) > 3 else options


class MaskReplacedByCausal(Kernel):
    """with causal, the mask ignored"""

    def understood(self, options):
        return without(options, "allowed") if "causal" in options else options


class MaskAsNumber(Kernel):
    """the boolean mask added to the scores as 0 and 1"""

    def selected(self, s, allowed):
        return s + allowed.astype(s.dtype)


class MaskAdded(Kernel):
    """the mask added as 0 and -inf, so that NaN behind it leaks"""

    def clean(self, name, x):
        return x

    def selected(self, s, allowed):
        return s + np.where(allowed, s.dtype.type(0), s.dtype.type(-np.inf))


class EmptyRowUniform(Kernel):
    """a row with nothing allowed gets uniform weights, from a large finite number in place of -inf"""

    fill = LARGE

    def weights(self, s, lse):
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        empty = (s == s.dtype.type(self.fill)).all(axis=-1, keepdims=True)
        return np.where(empty, e / e.sum(axis=-1, keepdims=True), super().weights(s, lse))


class FillMinus10000(EmptyRowUniform):
    """-10000 in place of -inf"""

    fill = -1e4


class EmptyRowNan(Kernel):
    """a row with nothing allowed gives NaN"""

    def divided(self, acc, z):
        return acc / z[..., None]

    def weights(self, s, lse):
        return self.exp(s - lse[..., None])


class EmptyRowNanLse(EmptyRowNan):
    """a row with nothing allowed gives NaN, in lse as well"""

    def logarithm(self, m, z):
        return np.where(z == 0, np.nan, super().logarithm(m, z))


class EmptyRowLseZero(Kernel):
    """lse = 0 in a row with nothing allowed"""

    def logarithm(self, m, z):
        return np.where(z == 0, 0, super().logarithm(m, z))


CATALOG = catalog(globals())
