"""Correct attention kernels in emulated low precision, ways to break them, and scores against a bound."""

import itertools
from dataclasses import dataclass, field

import numpy as np

from attention_ref.oracle.diagnose.faults.roundings import bf16, f16, tf32

f32 = np.float32


def narrow(bits, least):
    """Rounding to a float of so many fraction bits, whose smallest normal exponent is `least`."""

    def rounded(x):
        _, exponent = np.frexp(np.asarray(x, np.float64))
        step = np.exp2(np.maximum(exponent - 1, least) - bits)
        return (np.round(np.asarray(x, np.float64) / step) * step).astype(f32)

    return rounded


def as_is(x):
    return np.asarray(x, dtype=f32)


def flushed(x):
    x = np.asarray(x, dtype=f32)
    return np.where(np.abs(x) < np.finfo(f32).tiny, f32(0), x)


e4m3, e5m2 = narrow(3, -6), narrow(2, -14)
ROUNDING = {
    "f32": as_is,
    "flushed": flushed,
    "tf32": as_is,
    "bf16/f32acc": bf16,
    "f16/f32acc": f16,
    "bf16": bf16,
    "f16": f16,
    "fp8/f32acc": bf16,
}
OPERAND = ROUNDING | {"tf32": tf32, "fp8/f32acc": e4m3}


def forwards(x):
    return np.add.accumulate(x, axis=-1, dtype=f32)[..., -1] if x.shape[-1] else np.zeros(x.shape[:-1], f32)


def backwards(x):
    return forwards(x[..., ::-1])


def pairwise(x):
    while x.shape[-1] > 1:
        x = x if x.shape[-1] % 2 == 0 else np.concatenate([x, np.zeros_like(x[..., :1])], axis=-1)
        x = x[..., ::2] + x[..., 1::2]
    return x[..., 0]


@dataclass(frozen=True)
class Kernel:
    """How a kernel works; every one of these is correct."""

    tile: int | None = None  # online softmax over tiles of so many keys
    splits: int = 1  # the keys in parts, merged by their lse
    base2: bool = False
    total: object = forwards
    rounds_p: bool = True
    unnormalized: bool = True  # the weights are rounded before they are divided by the normalizer
    d_from_o: bool = True
    scale_in_q: bool = False
    by_operation: bool = False
    sloppy: float = 0  # how many ulps exp is off by: rescaling factors are too large, weights too small
    fault: frozenset = field(default_factory=frozenset)


LOG2E, LN2 = f32(1.4426950408889634), f32(0.6931471805599453)


class Run:
    """One forward and backward pass of a kernel in float32 with roundings."""

    def __init__(self, kernel, model):
        self.kernel, self.low = kernel, ROUNDING[model]
        self.operand = OPERAND[model] if kernel.rounds_p or model == "tf32" else as_is
        self.pulled = e5m2 if model == "fp8/f32acc" and kernel.rounds_p else self.operand
        self.given = {"tf32": tf32, "flushed": flushed}.get(model, as_is)
        self.store = self.low if kernel.by_operation else as_is

    def dot(self, a, b):
        """Σ over the last axis of both."""
        return self.store(self.kernel.total((a[..., :, None, :] * b[..., None, :, :]).astype(f32)))

    def exp(self, x, side=1):
        """exp or exp2, below 0 off by so many ulps to one side."""
        e = np.exp2(x) if self.kernel.base2 else np.exp(x)
        return np.where(x < 0, e * f32(1 + side * self.kernel.sloppy * 2.0**-23), e).astype(f32)

    def scores(self, q, k, scale, softcap, bias):
        q, k = self.given(q), self.given(k)
        if self.kernel.scale_in_q:
            s = self.dot(self.store(q * f32(scale)) if self.kernel.by_operation else q * f32(scale), k)
        else:
            s = self.store(self.dot(q, k) * f32(scale))
        self.t = None
        if softcap is not None:
            self.t = self.store(np.tanh(self.store(s / f32(softcap))))
            s = self.store(f32(softcap) * self.t)
        return s if bias is None else self.store(s + bias)

    def forward(self, q, k, v, *, scale, allowed=None, bias=None, softcap=None, sink=None, dropout=None):
        self.q, self.k, self.v, self.scale, self.softcap, self.dropout = q, k, v, f32(scale), softcap, dropout
        self.sink = sink
        s = self.scores(q, k, scale, softcap, bias)
        allowed = np.ones(s.shape, bool) if allowed is None else allowed
        self.s = s = np.where(allowed, s, f32(-np.inf))
        self.allowed = allowed
        if "last key" in self.kernel.fault:
            s = np.where(np.arange(s.shape[-1]) == s.shape[-1] - 1, f32(-np.inf), s)
        x = s * LOG2E if self.kernel.base2 else s
        edges = np.linspace(0, s.shape[-1], self.kernel.splits + 1).astype(int)
        parts = [self.part(x[..., a:b], v[..., a:b, :], a) for a, b in itertools.pairwise(edges)]
        o, lse = parts[0]
        for more in parts[1:]:
            o, lse = self.merge(o, lse, *more)
        if sink is not None:
            column = np.broadcast_to(sink * LOG2E if self.kernel.base2 else sink, lse.shape).astype(f32)
            o, lse = self.merge(o, lse, np.zeros_like(o), column)
        self.o = self.low(o)
        self.lse = (lse * LN2 if self.kernel.base2 else lse).astype(f32)
        self.alpha = self.probabilities()
        return {"o": self.o, "lse": self.lse, "alpha": self.low(self.alpha)}

    def part(self, x, v, first):
        """(o, lse) of some keys, in tiles; lse to the base that the kernel works in."""
        rows = x.shape[:-1]
        m, z = np.full(rows, f32(-np.inf)), np.zeros(rows, f32)
        acc = np.zeros((*rows, v.shape[-1]), f32)
        tile = self.kernel.tile or max(x.shape[-1], 1)
        for a in range(0, x.shape[-1], tile):
            block = x[..., a : a + tile]
            top = np.maximum(m, block.max(axis=-1))
            shift = np.where(np.isneginf(top), 0, top).astype(f32)
            back = self.exp(m - shift)
            p = self.exp(block - shift[..., None], -1)
            z = z * back + self.kernel.total(p)
            if not self.kernel.unnormalized and self.kernel.tile is None:
                p = p / np.where(z == 0, 1, z)[..., None]
            p = self.operand(self.drop(p, first + a))
            acc = acc * back[..., None] + self.dot(p, np.swapaxes(self.given(v[..., a : a + tile, :]), -1, -2))
            m = top
        z = z * f32(1.001) if "normalizer" in self.kernel.fault else z
        divisor = 1 if not self.kernel.unnormalized and self.kernel.tile is None else np.where(z == 0, 1, z)[..., None]
        log = np.log2 if self.kernel.base2 else np.log
        return (acc / divisor).astype(f32), (np.where(z == 0, f32(-np.inf), m + log(np.where(z == 0, 1, z)))).astype(
            f32
        )

    def merge(self, o, lse, o2, lse2):
        top = np.maximum(lse, lse2)
        shift = np.where(np.isneginf(top), 0, top).astype(f32)
        w, w2 = self.exp(lse - shift), self.exp(lse2 - shift)
        z = w + w2
        divisor = np.where(z == 0, 1, z).astype(f32)
        log = np.log2 if self.kernel.base2 else np.log
        together = np.where(z == 0, f32(-np.inf), top + log(divisor)).astype(f32)
        return ((o * w[..., None] + o2 * w2[..., None]) / divisor[..., None]).astype(f32), together

    def drop(self, p, first=0):
        if self.dropout is None:
            return p
        keep, rate = self.dropout
        keep = np.broadcast_to(keep, self.s.shape)[..., first : first + p.shape[-1]]
        return np.where(keep, p * f32(1 / (1 - rate)), f32(0))

    def probabilities(self):
        lse = np.where(np.isneginf(self.lse), 0, self.lse)[..., None].astype(f32)
        if self.kernel.base2:
            return np.exp2(self.s * LOG2E - lse * LOG2E)
        return self.store(np.exp(self.s - lse))

    def backward(self, do, dlse=None, dalpha=None):
        low, dot, flip = self.low, self.dot, lambda x: np.swapaxes(x, -1, -2)
        alpha = self.alpha
        out = {"v": dot(flip(self.pulled(self.drop(alpha))), flip(self.given(do)))}
        da = self.drop(dot(self.given(do), self.given(self.v)))
        d = (do * self.o).astype(f32)
        if dalpha is not None:
            d = np.concatenate([d, dalpha * alpha], axis=-1)
            da = da + dalpha
        row = self.kernel.total(d if self.kernel.d_from_o else alpha * da)
        row = row if dlse is None else row - dlse
        if "no D" in self.kernel.fault:
            row = row * 0
        ds = self.store(np.where(self.allowed, alpha * (da - row[..., None]), f32(0)))
        if self.sink is not None:
            lse = np.where(np.isneginf(self.lse), 0, self.lse)
            out["sink"] = self.kernel.total(-np.exp(self.sink - lse) * row)
        out["bias"] = ds
        if self.softcap is not None:
            slope = 1 - self.t * self.t
            ratio = self.raw() / f32(self.softcap)
            out["softcap"] = self.kernel.total((ds * (self.t - ratio * slope)).reshape(-1))
            ds = self.store(ds * slope)
        out["scale"] = self.kernel.total((ds * dot(self.given(self.q), self.given(self.k))).reshape(-1))
        ds = self.pulled(ds)
        scale = f32(1 if "no scale" in self.kernel.fault else self.scale)
        out["q"] = dot(ds, flip(self.given(self.k))) * scale
        out["k"] = dot(flip(ds), flip(self.given(self.q))) * scale
        return {name: low(np.asarray(x, f32)) for name, x in out.items()}

    def raw(self):
        return self.dot(self.given(self.q), self.given(self.k)) * self.scale


CORRECT = {
    "two passes": Kernel(),
    "two passes, weights normalized first, D from alpha": Kernel(unnormalized=False, d_from_o=False),
    "two passes, reversed sums, scale in q": Kernel(total=backwards, scale_in_q=True),
    "two passes, pairwise, weights not rounded": Kernel(total=pairwise, rounds_p=False, d_from_o=False),
    "base 2": Kernel(base2=True),
    "base 2, online, scale in q": Kernel(base2=True, tile=8, scale_in_q=True),
    "online, a key at a time": Kernel(tile=1, d_from_o=False),
    "online, tiles of 4, pairwise": Kernel(tile=4, total=pairwise),
    "online, tiles of 13, reversed": Kernel(tile=13, total=backwards, rounds_p=False),
    "split in 3": Kernel(splits=3),
    "split in 2, base 2, online": Kernel(splits=2, base2=True, tile=5, d_from_o=False),
}


def plain(x):
    while hasattr(x, "_value"):
        x = x._value
    return x


def scores(got, want, delta):
    """|got − want| / Δ at each element where both are finite; infinite where only one is, or where Δ is 0 and wrong."""
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    agree = np.isfinite(got) == np.isfinite(want)
    with np.errstate(all="ignore"):
        off = np.abs(got - want)
        score = np.where(off == 0, 0, off / delta)
    same = np.where(np.isfinite(want), score, np.where(agree & (got == want), 0, np.inf))
    return np.where(np.isinf(delta) & np.isfinite(want), 0, np.where(agree, same, np.inf))
