"""Attention in many correct ways, forward and backward, none of which shares code with the package.

Each way is a core: it takes what `Prepared` holds, q, k and v in the working precision with the heads repeated, and
returns (o, lse). `Candidate` puts the options around it; its `backward` takes the gradients.
"""

import math

import numpy as np


def dense(shape, allowed, causal, window, align, q_lengths, k_lengths):
    """Everything that masks, as one boolean array."""
    *_, queries, keys = shape
    i, j = np.arange(queries)[:, None], np.arange(keys)[None, :]
    n, m = (np.asarray(n if x is None else x) for n, x in ((queries, q_lengths), (keys, k_lengths)))
    n, m = n[..., None, None], m[..., None, None]
    offset = {None: 0, "top_left": 0, "bottom_right": m - n}.get(align, align) if not np.ndim(align) else align
    place = i + (np.asarray(offset)[..., None, None] if np.ndim(offset) in (1, 2) else offset)
    mask = np.ones(shape, bool) & (i < n) & (j < m)
    if causal:
        mask = mask & (j <= place)
    left, right = window or (None, None)
    mask = mask if left is None else mask & (j >= place - left)
    mask = mask if right is None else mask & (j <= place + right)
    return mask if allowed is None else mask & allowed


class Prepared:
    """One call's arrays in the working precision, heads repeated, what nobody may see set to zero."""

    def __init__(self, q, k, v, work, *, bias=None, scale=None, softcap=None, dropout=None, **masks):
        self.heads = q.shape[-3] // k.shape[-3] if q.ndim > 2 and k.ndim > 2 and k.shape[-3] > 1 else 1
        k, v = (np.repeat(x, self.heads, axis=-3) if self.heads > 1 else x for x in (k, v))
        lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        self.shape = (*lead, q.shape[-2], k.shape[-2])
        names = ("allowed", "causal", "window", "align", "q_lengths", "k_lengths")
        self.mask = np.broadcast_to(dense(self.shape, **{name: masks.get(name) for name in names}), self.shape)
        if bias is not None:
            self.mask = self.mask & ~np.isneginf(bias.astype(np.float64))
            bias = np.where(self.mask, bias.astype(work), 0)
        self.bias = bias
        seen, sees = self.mask.any(axis=-2)[..., None], self.mask.any(axis=-1)[..., None]
        self.q = np.where(sees, np.broadcast_to(q.astype(work), (*lead, *q.shape[-2:])), 0).astype(work)
        self.k = np.where(seen, np.broadcast_to(k.astype(work), (*lead, *k.shape[-2:])), 0).astype(work)
        self.v = np.where(seen, np.broadcast_to(v.astype(work), (*lead, *v.shape[-2:])), 0).astype(work)
        scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        self.scale = np.asarray(scale).astype(work)
        self.softcap = None if softcap is None else work(softcap)
        self.keep = None if dropout is None else np.where(dropout[0], work(1 / (1 - dropout[1])), work(0))

    def adjusted(self, s):
        """Scaled products to masked scores."""
        if self.softcap is not None:
            s = self.softcap * np.tanh(s / self.softcap)
        if self.bias is not None:
            s = s + self.bias
        return np.where(self.mask, s, -np.inf).astype(s.dtype)

    def scores(self):
        return self.adjusted((self.q @ flip(self.k)) * self.scale)

    def dropped(self, p):
        return p if self.keep is None else p * self.keep


def flip(x):
    return np.swapaxes(x, -1, -2)


def safe(z):
    return np.where(z == 0, 1, z).astype(z.dtype)


def finite(m):
    return np.where(np.isneginf(m), 0, m).astype(m.dtype)


def naive(given):
    s = given.scores()
    e = np.exp(s - finite(s.max(axis=-1, keepdims=True)))
    z = e.sum(axis=-1, keepdims=True)
    lse = (np.log(safe(z)) + s.max(axis=-1, keepdims=True))[..., 0]
    return given.dropped(e / safe(z)) @ given.v, np.where(z[..., 0] == 0, -np.inf, lse)


def divided_last(given):
    s = given.scores()
    m = finite(s.max(axis=-1, keepdims=True))
    e = np.exp(s - m)
    z = e.sum(axis=-1, keepdims=True)
    return (given.dropped(e) @ given.v) / safe(z), log_of(z, m)


def log_of(z, m):
    return np.where(z == 0, -np.inf, np.log(safe(z)) + m)[..., 0].astype(z.dtype)


def from_lse(given):
    """The weights as exp(s - lse)."""
    lse = naive(given)[1]
    s = given.scores()
    return given.dropped(np.exp(s - finite(lse)[..., None])) @ given.v, lse


def base_2(given):
    s = given.scores() * given.q.dtype.type(math.log2(math.e))
    m = finite(s.max(axis=-1, keepdims=True))
    e = np.exp2(s - m)
    z = e.sum(axis=-1, keepdims=True)
    lse = np.where(z == 0, -np.inf, (np.log2(safe(z)) + m) * given.q.dtype.type(math.log(2)))
    return (given.dropped(e) @ given.v) / safe(z), lse[..., 0].astype(s.dtype)


def online(tile):
    def core(given):
        s, v = given.scores(), given.v
        m = np.full(s.shape[:-1], -np.inf, s.dtype)
        z, acc = np.zeros_like(m), np.zeros((*m.shape, v.shape[-1]), s.dtype)
        for a in range(0, s.shape[-1], tile):
            here = slice(a, a + tile)
            top = np.maximum(m, s[..., here].max(axis=-1))
            back = np.exp(m - finite(top))
            p = np.exp(s[..., here] - finite(top)[..., None])
            z = z * back + p.sum(axis=-1)
            p = p if given.keep is None else p * np.broadcast_to(given.keep, s.shape)[..., here]
            acc, m = acc * back[..., None] + p @ v[..., here, :], top
        return acc / safe(z)[..., None], log_of(z[..., None], finite(m)[..., None])

    return core


def split(parts):
    """The keys in parts, each by itself, merged by their lse."""

    def core(given):
        s, v = given.scores(), given.v
        keep = 1 if given.keep is None else np.broadcast_to(given.keep, s.shape)
        outs, lses = [], []
        for chunk in np.array_split(np.arange(s.shape[-1]), parts):
            if not chunk.size:
                continue
            x = s[..., chunk]
            m = finite(x.max(axis=-1, keepdims=True))
            e = np.exp(x - m)
            z = e.sum(axis=-1, keepdims=True)
            kept = e if given.keep is None else e * keep[..., chunk]
            outs.append(kept @ v[..., chunk, :] / safe(z))
            lses.append(log_of(z, m))
        lses = np.stack(lses)
        m = finite(lses.max(axis=0))
        w = np.exp(lses - m)
        z = w.sum(axis=0)
        o = (np.stack(outs) * w[..., None]).sum(axis=0) / safe(z)[..., None]
        return o, log_of(z[..., None], m[..., None])

    return core


def summed_by(total):
    """Every sum over the keys and over the width by a summation of one's own."""

    def core(given):
        products = given.q[..., :, None, :] * given.k[..., None, :, :]
        s = given.adjusted(total(products) * given.scale)
        m = finite(s.max(axis=-1, keepdims=True))
        e = np.exp(s - m)
        z = total(e)[..., None]
        o = total(given.dropped(e)[..., None, :] * flip(given.v)[..., None, :, :])
        return o / safe(z), log_of(z, m)

    return core


def forwards(x):
    return np.add.accumulate(x, axis=-1, dtype=x.dtype)[..., -1]


def reversed_sum(x):
    return forwards(x[..., ::-1])


def pairwise(x):
    while x.shape[-1] > 1:
        x = np.concatenate([x, np.zeros_like(x[..., :1])], axis=-1) if x.shape[-1] % 2 else x
        x = x[..., ::2] + x[..., 1::2]
    return x[..., 0]


def kahan(x):
    total, lost = np.zeros_like(x[..., 0]), np.zeros_like(x[..., 0])
    for n in range(x.shape[-1]):
        term = x[..., n] - lost
        more = total + term
        total, lost = more, (more - total) - term
    return total


def einsum(given):
    s = given.adjusted(np.einsum("...id,...jd->...ij", given.q, given.k) * given.scale)
    m = finite(s.max(axis=-1, keepdims=True))
    e = np.exp(s - m)
    z = e.sum(axis=-1, keepdims=True)
    return np.einsum("...ij,...je->...ie", given.dropped(e), given.v) / safe(z), log_of(z, m)


def scale_in_q(given):
    scale = given.scale if given.scale.ndim == 0 or given.scale.shape[-1] == 1 else given.scale[..., :1]
    s = given.adjusted((given.q * scale) @ flip(given.k))
    m = finite(s.max(axis=-1, keepdims=True))
    e = np.exp(s - m)
    z = e.sum(axis=-1, keepdims=True)
    return (given.dropped(e) @ given.v) / safe(z), log_of(z, m)


def keys_first(given):
    """Everything transposed: scores are [keys, queries], the softmax runs over columns."""
    scale = flip(given.scale) if given.scale.ndim else given.scale
    s = flip(given.adjusted(flip((given.k @ flip(given.q)) * scale)))
    m = finite(s.max(axis=-2, keepdims=True))
    e = np.exp(s - m)
    z = e.sum(axis=-2, keepdims=True)
    kept = e if given.keep is None else e * flip(np.broadcast_to(given.keep, given.shape))
    return flip(flip(given.v) @ kept / safe(z)), log_of(flip(z), flip(m))


def permuted(given):
    """The keys in another order."""
    order = np.random.default_rng(7).permutation(given.shape[-1])
    s = given.scores()[..., order]
    m = finite(s.max(axis=-1, keepdims=True))
    e = np.exp(s - m)
    z = e.sum(axis=-1, keepdims=True)
    kept = e if given.keep is None else e * np.broadcast_to(given.keep, given.shape)[..., order]
    return (kept @ given.v[..., order, :]) / safe(z), log_of(z, m)


def row_by_row(given):
    s = given.scores()
    o, lse = np.zeros((*given.shape[:-1], given.v.shape[-1]), s.dtype), np.full(given.shape[:-1], -np.inf, s.dtype)
    keep = None if given.keep is None else np.broadcast_to(given.keep, given.shape)
    for index in np.ndindex(*given.shape[:-1]):
        row = s[index]
        if np.isneginf(row).all():
            continue
        e = np.exp(row - row.max())
        o[index] = (e if keep is None else e * keep[index]) @ given.v[index[:-1]] / e.sum()
        lse[index] = row.max() + np.log(e.sum())
    return o, lse


def blocks_of_queries(given):
    """Queries in blocks of 16, each with all keys."""
    s, out = given.scores(), []
    keep = None if given.keep is None else np.broadcast_to(given.keep, given.shape)
    for a in range(0, given.shape[-2], 16):
        x = s[..., a : a + 16, :]
        m = finite(x.max(axis=-1, keepdims=True))
        e = np.exp(x - m)
        z = e.sum(axis=-1, keepdims=True)
        kept = e if keep is None else e * keep[..., a : a + 16, :]
        out.append((kept @ given.v / safe(z), log_of(z, m)))
    return tuple(np.concatenate(parts, axis=axis) for parts, axis in zip(zip(*out, strict=True), (-2, -1), strict=True))


def shifted_high(given):
    """A shift above the maximum is as good as the maximum."""
    s = given.scores()
    m = finite(s.max(axis=-1, keepdims=True)) + 3
    e = np.exp(s - m)
    z = e.sum(axis=-1, keepdims=True)
    return (given.dropped(e) @ given.v) / safe(z), log_of(z, m)


CORES = {
    "naive": naive,
    "divided last": divided_last,
    "from lse": from_lse,
    "base 2": base_2,
    "online 8": online(8),
    "online 16": online(16),
    "online 32": online(32),
    "online 64": online(64),
    "split in 2": split(2),
    "split in 3": split(3),
    "split in 7": split(7),
    "sums forwards": summed_by(forwards),
    "sums backwards": summed_by(reversed_sum),
    "pairwise sums": summed_by(pairwise),
    "Kahan sums": summed_by(kahan),
    "einsum": einsum,
    "scale in q": scale_in_q,
    "keys first": keys_first,
    "keys permuted": permuted,
    "row by row": row_by_row,
    "blocks of queries": blocks_of_queries,
    "shifted high": shifted_high,
}


class Candidate:
    """A core with its options around it, in the dtype it is given; `work` is what it computes in."""

    def __init__(self, core, work=None):
        self.core, self.work = core, work

    def precision(self, x):
        return self.work or (np.float64 if x.dtype == np.float64 else np.float32)

    def __call__(
        self,
        q,
        k,
        v,
        *,
        allowed=None,
        causal=False,
        window=None,
        align=None,
        q_lengths=None,
        k_lengths=None,
        bias=None,
        scale=None,
        softcap=None,
        dropout=None,
    ):
        options = {name: x for name, x in locals().items() if name not in ("self", "q", "k", "v")}
        with np.errstate(all="ignore"):
            o, lse = self.core(Prepared(q, k, v, self.precision(q), **options))
        wide = np.float64 if q.dtype == np.float64 else np.float32
        return o.astype(q.dtype), lse.astype(wide)

    def backward(
        self,
        do,
        q,
        k,
        v,
        o,
        lse,
        *,
        dlse=None,
        allowed=None,
        causal=False,
        window=None,
        align=None,
        q_lengths=None,
        k_lengths=None,
        bias=None,
        scale=None,
        softcap=None,
        dropout=None,
    ):
        names = (
            "allowed",
            "causal",
            "window",
            "align",
            "q_lengths",
            "k_lengths",
            "bias",
            "scale",
            "softcap",
            "dropout",
        )
        here = locals()
        with np.errstate(all="ignore"):
            return self.gradients(do, q, k, v, o, lse, dlse, {name: here[name] for name in names})

    def gradients(self, do, q, k, v, o, lse, dlse, options):
        work = self.precision(q)
        given = Prepared(q, k, v, work, **options)
        do, o, lse = do.astype(work), o.astype(work), lse.astype(work)
        product = (given.q @ flip(given.k)) * given.scale
        p = np.where(given.mask, np.exp(given.adjusted(product) - finite(lse)[..., None]), 0).astype(work)
        dv = flip(given.dropped(p)) @ do
        dp = given.dropped(do @ flip(given.v))
        row = (do * o).sum(axis=-1)
        row = row if dlse is None else row - dlse.astype(work)
        ds = np.where(given.mask, p * (dp - row[..., None]), 0).astype(work)
        out = {"v": dv}
        if given.bias is not None:
            out["bias"] = ds
        if given.softcap is not None:
            ds = ds * (1 - np.tanh(product / given.softcap) ** 2)
        ds = ds * given.scale
        out |= {"q": ds @ given.k, "k": flip(ds) @ given.q}
        wanted = {"q": q, "k": k, "v": v, "bias": options["bias"]}
        return {name: gathered(x, wanted[name], given.heads if name in "kv" else 1) for name, x in out.items()}


def gathered(x, like, heads):
    """A gradient in the shape and dtype of its argument."""
    if heads > 1:
        x = x.reshape(*x.shape[:-3], x.shape[-3] // heads, heads, *x.shape[-2:]).sum(axis=-3)
    while x.ndim > like.ndim:
        x = x.sum(axis=0)
    for axis, n in enumerate(like.shape):
        x = x.sum(axis=axis, keepdims=True) if n == 1 else x
    return x.astype(like.dtype)
