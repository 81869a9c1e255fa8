"""The forward pass of a correct attention kernel, in steps so small that a mistake is another version of one."""

import re
from itertools import pairwise

import numpy as np

from attention_ref import normalize as normalizers
from attention_ref.adjust import alibi, bias, relative, scale, softcap
from attention_ref.oracle.bounds.number_formats import widened
from attention_ref.oracle.diagnose.faults.roundings import ARITHMETIC
from attention_ref.pipeline.place import FILL, Place

WORDS = r"(?<=[a-z])(?=[A-Z])|(?<=[a-z]{2})(?=[0-9]+$)|(?<=[A-Z])(?=[A-Z][a-z])"


class Forward:
    """One call of attention. `asked` is what was asked for, where a mistake is another choice."""

    tile: int | None = None
    splits = 1
    order = ("scaled", "capped", "biased", "masked")
    fill = -np.inf
    asked = ""
    narrow = False  # whether the mistake shows only in the arithmetic of the dtype, as an overflow does
    backward_only = False
    only_unscaled = False  # a mistake only under a rule without a scale of its own
    also_alone = False  # whether a correct forward pass with the mistake in the backward pass is to be tried as well

    def __init__(self, rule, arrays, options, arithmetic=ARITHMETIC["float64"]):
        self.call = rule, arrays, options, arithmetic
        self.pipeline, self.arithmetic = rule.module, arithmetic
        self.shapes = {name: np.shape(x) for name, x in (arrays | options).items() if not isinstance(x, tuple)}
        arrays, options = ({n: self.number(x) for n, x in given.items()} for given in (arrays, options))
        self.arrays = {name: self.read(x) for name, x in arrays.items()}
        self.options = {name: x for name, x in options.items() if x is not None}
        for kind in type(self).__mro__:
            if "understood" in vars(kind):
                self.options = vars(kind)["understood"](self, self.options)
        self.heads = self.arrays["q"].shape[-3] if self.arrays["q"].ndim > 2 else 1

    @classmethod
    def name(cls):
        """no-max-shift for NoMaxShift."""
        return re.sub(WORDS, "-", cls.__name__).lower()

    @classmethod
    def clause(cls):
        return (cls.__doc__ or "").partition("\n")[0].strip(" .")

    def number(self, x):
        x = widened(x)
        floating = isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")
        return np.asarray(x, self.arithmetic.work) if floating else x

    def read(self, x):
        """An array as the kernel sees it in memory."""
        return x

    def written(self, x):
        """An output or a gradient as it lies in memory."""
        return x

    def understood(self, options):
        """The options as the kernel takes them; with several mistakes, one after the other."""
        return options

    def placed(self, options):
        queries, keys = self.arrays["q"].shape[-2], self.arrays["v"].shape[-2]
        return Place(queries, keys, options, self.pipeline.pairwise)

    def allowed(self):
        """Which pairs may attend, None for all."""
        return self.placed(self.options).allowed

    def distance(self):
        return self.placed(self.options).distance

    def bucket(self, n):
        return self.placed(self.options).bucket(n)

    def clean(self, name, x):
        """An operand without what is not finite in rows that no query, or no key, may see."""
        finite = np.isfinite(x)
        allowed = None if finite.all() else self.allowed()
        if allowed is None:
            return x
        seen = allowed.any(axis=-1 if name == "q" else -2)[..., None]
        return np.where(seen | finite, x, 0)

    def shared(self, x):
        """Key heads written out for the query heads that read them."""
        if x.ndim < 3:
            return x
        return np.take(x, self.key_heads(x.shape[-3]), axis=-3)

    def key_heads(self, groups):
        """The key head that each query head reads."""
        return np.arange(self.heads) // (self.heads // groups)

    def scores(self):
        """The scores after every stage; what backward needs is kept."""
        q, k = self.clean("q", self.arrays["q"]), self.clean("k", self.shared(self.arrays["k"]))
        parameters = {name: self.options[name] for name in self.pipeline.parameters if name in self.options}
        s, self.taped = self.pipeline.score.forward(q, k=k, **parameters)
        self.steps = []
        for stage in self.order:
            s = getattr(self, stage)(s)
        return s

    def step(self, op, s, **given):
        s, taped = op.forward(s, **given)
        self.steps.append((op, taped))
        return s

    def scale(self):
        """The factor of the scores, None for none."""
        if "scale" in self.options:
            return self.options["scale"]
        own = self.pipeline.own_scale
        return None if own is None else self.arithmetic.work(own(self.arrays["q"]))

    def scaled(self, s):
        factor = self.scale()
        return s if factor is None else self.step(scale, s, scale=np.asarray(factor))

    def capped(self, s):
        return self.step(softcap, s, softcap=np.asarray(self.options["softcap"])) if "softcap" in self.options else s

    def biased(self, s):
        if "bias" in self.options:
            s = self.step(bias, s, bias=self.options["bias"])
        if "alibi_slopes" in self.options:
            distance = self.distance().astype(self.arithmetic.work)
            s = self.step(alibi, s, alibi_slopes=self.options["alibi_slopes"], distance=distance)
        if "relative_table" in self.options:
            table = self.options["relative_table"]
            s = self.step(relative, s, relative_table=table, bucket=self.bucket(table.shape[-1]))
        return s

    def masked(self, s):
        allowed = self.allowed()
        return s if allowed is None else self.step(Keep(self), s, allowed=allowed)

    def selected(self, s, allowed):
        return np.where(allowed, s, self.fill).astype(s.dtype)

    def forward(self):
        """{"o": …, "lse": …}; no lse where the normalizer has none."""
        s = self.scores()
        v = self.clean("v", self.shared(self.arrays["v"]))
        if self.softmax:
            edges = np.linspace(0, s.shape[-1], min(self.splits, s.shape[-1]) + 1).astype(int)
            parts = [self.part(s[..., a:b], v[..., a:b, :], a) for a, b in pairwise(edges)]
            o, lse = self.merged(parts)
            o = self.in_empty_rows(o, s, v)
            return {"o": self.written(self.arithmetic.out(o)), "lse": lse}
        alpha, _ = self.normalizer.forward(s)
        o = self.in_empty_rows(self.product(self.dropped(alpha, 0), v), s, v)
        return {"o": self.written(self.arithmetic.out(o))}

    @property
    def normalize(self):
        return self.options.get("normalize", self.pipeline.own_normalize)

    @property
    def normalizer(self):
        return normalizers.ops[f"normalize.{self.normalize}"].module

    @property
    def softmax(self):
        return self.normalize in ("softmax", "softmax_off_by_one")

    @property
    def sink(self):
        """The sink, 0 in a softmax off by one; None without."""
        if self.normalize == "softmax_off_by_one":
            return np.zeros(1, self.arithmetic.work)
        return self.options.get("sink")

    def part(self, s, v, first):
        """(o, lse) of some of the keys, tile by tile."""
        m, z = self.start(s.shape[:-1], first)
        acc = np.zeros((*s.shape[:-1], v.shape[-1]), s.dtype)
        for a, b in self.tiles(s.shape[-1]):
            top = self.top(m, s[..., a:b])
            shift = np.where(np.isneginf(top), 0, top).astype(s.dtype)
            p, back = self.exp(s[..., a:b] - shift[..., None]), self.exp(m - shift)
            z = self.rescaled_sum(z, back) + self.row_sum(p, first + a)
            acc = self.rescaled(acc, back) + self.product(self.dropped(p, first + a), v[..., a:b, :])
            m = top
        return self.divided(acc, z), self.logarithm(m, z)

    def start(self, rows, first):
        """The maximum and the sum before any key: the sink's, in the part with the first key."""
        if first or self.sink is None:
            return self.nothing(rows)
        sink = np.broadcast_to(self.sink[..., None], rows).astype(self.arithmetic.work)
        return sink, np.ones(rows, sink.dtype)

    def nothing(self, rows):
        return np.full(rows, -np.inf, self.arithmetic.work), np.zeros(rows, self.arithmetic.work)

    def tiles(self, keys):
        """(start, end) of every tile of keys."""
        tile = self.tile or max(keys, 1)
        return [(a, min(a + tile, keys)) for a in range(0, keys, tile)]

    def top(self, m, s):
        return np.maximum(m, s.max(axis=-1))

    def exp(self, x):
        return np.exp(x)

    def row_sum(self, p, first):
        return p.sum(axis=-1)

    def rescaled_sum(self, z, back):
        return z * back

    def rescaled(self, acc, back):
        return acc * back[..., None]

    def product(self, p, v):
        return self.arithmetic.operand(p) @ v

    def divided(self, acc, z):
        return acc / np.where(z == 0, 1, z)[..., None]

    def logarithm(self, m, z):
        return np.where(z == 0, -np.inf, m + np.log(np.where(z == 0, 1, z))).astype(z.dtype)

    def merged(self, parts):
        """One (o, lse) of those of several parts of the keys."""
        if len(parts) == 1:
            return parts[0]
        o, lse = (np.stack(x) for x in zip(*parts, strict=True))
        top = lse.max(axis=0)
        w = self.exp(lse - np.where(np.isneginf(top), 0, top))
        z = w.sum(axis=0)
        return self.divided((o * w[..., None]).sum(axis=0), z), self.logarithm(top, z)

    def dropped(self, p, first):
        """The weights of keys from `first` on after dropout; its own transpose."""
        if "dropout" not in self.options:
            return p
        keep, rate = self.options["dropout"]
        keep = keep if keep.shape[-1] == 1 else keep[..., first : first + p.shape[-1]]
        return np.where(keep, p * p.dtype.type(1 / (1 - rate)), p.dtype.type(0))

    def in_empty_rows(self, o, s, v):
        kind = self.options.get("empty_row", "zero")
        if kind not in FILL:
            return o
        return np.where(empty_rows(s), np.nan if kind == "nan" else v.mean(axis=-2, keepdims=True), o)


def empty_rows(s):
    return np.isneginf(s).all(axis=-1, keepdims=True)


class Keep:
    """The mask as a step, by the kernel's own selection."""

    def __init__(self, kernel):
        self.kernel = kernel

    def forward(self, s, allowed):
        return self.kernel.selected(s, allowed), {"allowed": allowed}

    def backward(self, ds, allowed):
        return {"s": np.where(allowed, ds, 0)}
