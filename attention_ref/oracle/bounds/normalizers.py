"""Normalizers of scores with an error, and the way back, for any kernel: two passes, online, split, base 2.

Softmax and lse, written for a row i with n allowed keys; u is the working format's roundoff, c u the error of exp:

    a_j  = Δs_j + u (2|s_j| + 3|s_j − m|) + (c + (c + 1) R_j) u
    g    = log Σ_k α_k e^{a_k} + γ_n + (2c + 8) u + 4u (|m| + |lse|) + n η
    Δα_j = α_j (e^{a_j + g} − 1) + 4η
    Δlse = g + u (c |log Σ e^{s−m}| + 4|m| + |lse|)

2|s| is for a kernel that works in base 2 (s log₂e is rounded before the maximum is taken off), 3|s − m| for the
difference and the constant log₂e. R_j is how often an online kernel may have to rescale what key j gave: each time
that a later key raises the maximum, so at most as often as there are keys whose score may exceed s_j. |m| + |lse| is
for parts merged by their lse, and for a backward pass that recomputes α = exp(s − lse). Σ_k α_k e^{a_k} bounds the
normalizer from both sides: 1/Σ α e^{−a} ≤ e^{Σ α a} ≤ Σ α e^a (Jensen).
"""

from typing import Any

import numpy as np

from attention_ref.normalize import entmax15, sparsemax
from attention_ref.oracle.bounds.running_error import where, with_error


class Softmax:
    """The weights of scores as the forward pass has them (alpha), as the backward pass has them (again), and lse.

    Keys that are not allowed have weight 0, and a row without any has lse −inf. A sink is one more key.
    """

    def __init__(self, s, allowed):
        model, u, c = s.model, s.model.u, s.model.c
        n = allowed.sum(axis=-1, keepdims=True)
        value = np.where(allowed, s.value, -np.inf)
        error = np.where(allowed, s.error, 0)
        m = np.where(n > 0, np.max(value, axis=-1, keepdims=True, initial=-np.inf), 0)
        e = np.exp(value - m)
        z = np.where(n > 0, np.sum(e, axis=-1, keepdims=True), 1)
        alpha, log_z = e / z, np.log(z)
        lse = m + log_z

        size = np.where(allowed, np.abs(s.value), 0)
        below = np.where(allowed, m - s.value, 0)
        rescaled = model.effective(overtaken(value, error, allowed))
        a = error + u * (2 * size + 3 * below) + (c + (c + 1) * rescaled) * u
        few = model.gamma(n) + (2 * c + 8) * u
        g = log_mean_exp(alpha, a, allowed) + few + 4 * u * (np.abs(m) + np.abs(lse)) + n * model.tiny
        moved = np.where(allowed, np.where(alpha > 0, alpha * np.expm1(a + g), 0) + 4 * model.tiny, 0)
        most = np.where(allowed, np.maximum(alpha, 1 - alpha) + few, 0)
        off = g + u * (c * np.abs(log_z) + 4 * np.abs(m) + np.abs(lse))
        self.alpha = with_error(alpha, np.fmin(moved, most), model)
        self.again = with_error(alpha, moved, model.backward())
        self.lse = with_error(np.where(n > 0, lse, -np.inf)[..., 0], np.where(n > 0, off, 0)[..., 0], model)

    def backward(self, dalpha, through_o, dlse):
        row = either(self.row(dalpha), through_o)
        return self.ds(dalpha, row if dlse is None else row - dlse)

    @property
    def kept(self):
        """The weights as they are stored."""
        return self.again.rounded(self.again.model.stored)

    def row(self, dalpha):
        """D = Σ_j α_j dα_j."""
        return (self.kept * dalpha.settled()).sum(axis=-1).settled()

    def ds(self, dalpha, row):
        """α ∘ (dα − D): Δds = (α + Δα)(Δdα + ΔD) + Δα |dα − D| + 4u α (|dα| + |D|) + …, also as α ∘ dα − α D.

        Where every result is stored, so are these two products.
        """
        again, dalpha, row = self.kept, dalpha.settled(), row.settled()[..., None]
        apart = dalpha - row
        apart = apart.but(depth=apart.depth + 2)
        ds, model = (again * apart.settled()).settled(), again.model
        parts = [model.rounding(model.stored, again.upper * x.upper) for x in (dalpha, row)]
        return ds.but(inherited=ds.inherited + sum(parts))


class DoubleSoftmax:
    """Softmax of softmax; it has no lse."""

    lse = None

    def __init__(self, s, allowed):
        self.first = Softmax(s, allowed)
        self.second = Softmax(self.first.alpha, allowed)
        self.alpha, self.again = self.second.alpha, self.second.again

    def backward(self, dalpha, through_o, dlse):
        dfirst = self.second.backward(dalpha, through_o, None)
        return self.first.ds(dfirst, self.first.row(dfirst))


class Sigmoid:
    """1 / (1 + e^{−s}), each key for itself: |Δα| ≤ α (e^a − 1) with a = Δs + u (2|s| + 2c + 4), as |(log σ)'| ≤ 1."""

    lse = None

    def __init__(self, s, allowed):
        model = s.model
        alpha = np.where(allowed, 1 / (1 + np.exp(-s.value)), 0)
        a = s.error + model.u * (2 * np.abs(s.value) + 2 * model.c + 4)
        moved = np.where(allowed, alpha * np.expm1(a) + 4 * model.tiny, 0)
        self.alpha = with_error(alpha, np.fmin(moved, np.where(allowed, 1, 0)), model)
        self.again = self.alpha.but(model=model.backward())

    def backward(self, dalpha, through_o, dlse):
        return (dalpha.settled() * (self.again * (1 - self.again).settled())).settled()


class Threshold:
    """max(x − τ, 0), τ such that a row's weights sum to 1, with x less the row's maximum.

    τ moves by no more than the largest move of a score, as it grows with each and by t when all grow by t. Each x that
    it is computed from lies within 1 of the maximum, so |Δτ| ≤ max Δx + 8 γ_{n+4}, and Δroot = Δx + Δτ less the gap by
    which a key is below the threshold.
    """

    lse = None

    def __init__(self, s, allowed, divisor, root):
        model = s.model
        n = allowed.sum(axis=-1, keepdims=True)
        x = np.where(allowed, s.value / divisor, -np.inf)
        tau = np.max(np.where(root > 0, x - root, -np.inf), axis=-1, keepdims=True, initial=-np.inf)
        off = np.where(allowed, s.error / divisor + 2 * model.u * np.abs(x), 0)
        off = off + np.max(off, axis=-1, keepdims=True, initial=0) + 8 * model.gamma(n + 4)
        gap = np.where(root > 0, 0, tau - x)
        self.unclear = (allowed & (np.abs(tau - x) <= off)).any(axis=-1, keepdims=True)
        self.root = with_error(root, np.where(allowed, np.maximum(off - gap, 0), 0), model)

    def centered(self, weight, dalpha):
        """w ∘ (dα − Σ w∘dα / Σ w)."""
        total = weight.sum(axis=-1, keepdims=True).settled()
        total = where(total.value == 0, 1, total)
        mean = ((weight * dalpha).sum(axis=-1, keepdims=True) / total).settled()
        return (weight * (dalpha - mean).settled()).settled()


class Sparsemax(Threshold):
    """Where a key's weight may be zero or not, given the errors, its row's gradient has no bound: it jumps."""

    def __init__(self, s, allowed):
        super().__init__(s, allowed, 1, sparsemax.forward(np.where(allowed, s.value, -np.inf))[0])
        self.alpha, self.again = self.root, self.root.but(model=s.model.backward())

    def backward(self, dalpha, through_o, dlse):
        support = (self.root.value > 0).astype(float)
        ds = self.centered(with_error(support, 0, dalpha.model), dalpha.settled())
        return where(self.unclear, with_error(ds.value, np.inf, ds.model), ds)


class Entmax15(Threshold):
    """The weights are the squares of half of the scores above the threshold; its gradient does not jump."""

    def __init__(self, s, allowed):
        super().__init__(s, allowed, 2, entmax15.forward(np.where(allowed, s.value, -np.inf))[1]["root"])
        self.alpha = (self.root * self.root).settled()
        self.again = self.alpha.but(model=s.model.backward())

    def backward(self, dalpha, through_o, dlse):
        return self.centered(self.root.but(model=dalpha.model), dalpha.settled())


NORMALIZERS: dict[str, Any] = {
    "softmax": Softmax,
    "softmax_off_by_one": Softmax,
    "double_softmax": DoubleSoftmax,
    "sigmoid": Sigmoid,
    "sparsemax": Sparsemax,
    "entmax15": Entmax15,
}


def overtaken(value, error, allowed):
    """For each key of a row, how many allowed keys may have a higher score, given the errors."""
    high = np.where(allowed, value + error, -np.inf)
    low = np.where(allowed, value - error, np.inf)
    both = np.concatenate([low, high], axis=-1)
    order = np.argsort(both, axis=-1, kind="stable")
    is_high = order >= value.shape[-1]
    from_here = np.cumsum(is_high[..., ::-1], axis=-1)[..., ::-1]
    count = np.empty_like(from_here)
    np.put_along_axis(count, order, from_here, axis=-1)
    return np.where(allowed, np.maximum(count[..., : value.shape[-1]] - 1, 0), 0).astype(float)


def log_mean_exp(alpha, a, allowed):
    """log Σ_k α_k e^{a_k}, to its own last digits where a is small; at most the largest a where e^a overflows."""
    top = np.max(np.where(allowed, a, 0), axis=-1, keepdims=True, initial=0)
    excess = np.sum(np.where(allowed & (alpha > 0), alpha * np.expm1(a), 0), axis=-1, keepdims=True)
    return np.where(top < 500, np.log1p(excess), top)


def either(one, other):
    """What a kernel may compute in two ways: the first's values, the larger of the errors."""
    return with_error(one.value, np.maximum(one.error, other.error), one.model)
