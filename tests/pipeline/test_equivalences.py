"""What must be the same, computed in two ways: over random company of options, gradients included, to rounding."""

from functools import wraps

import combos as c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attention_ref as ar
from attention_ref.pipeline import textbook

CALM = settings(deadline=None, derandomize=True, max_examples=25, database=None)
THOROUGH = settings(CALM, max_examples=300)
SLOW = pytest.mark.slow
RULES = tuple(ar.rules)
PAIRWISE = tuple(rule for rule in RULES if rule != "positional_concat")
ROW_SUMS = ("softmax", "sparsemax", "entmax15", "double_softmax")


def both_doses(test):
    """The test over a few examples, and over many in the slow suite."""

    @pytest.mark.parametrize("dose", [pytest.param(CALM, id="few"), pytest.param(THOROUGH, id="many", marks=SLOW)])
    @wraps(test)
    def run(dose):
        @dose
        @given(st.data())
        def examples(data):
            test(data.draw)

        examples()

    del run.__wrapped__
    return run


def company(draw, rule, without=(), only=tuple(c.OPTIONS), most=5):
    """Options that can be given together with this rule."""
    chosen = []
    candidates = [name for name in only if not name.startswith(tuple(without))]
    for name in draw(st.lists(st.sampled_from(candidates), max_size=most, unique=True)):
        if c.combinable(*chosen, name) and not c.contradiction(rule, (*chosen, name)):
            chosen.append(name)
    return chosen


class Run:
    """One call of attention and its gradients, by Gaussian cotangents that belong to the place of an element."""

    def __init__(self, rule, inputs, do=None, dalpha=None, dlse=None):
        self.a = ar.attention(rule=rule, **inputs)
        self.o, self.alpha, self.lse = self.a.o, self.a.alpha, self.a.lse
        self.grads = self.a.backward(do, dalpha=dalpha, dlse=dlse if self.lse is not None else None)


def cotangents(inputs, queries=None, keys=None):
    rng = np.random.default_rng(5)
    lead, width = inputs["q"].shape[:-2], inputs["v"].shape[-1]
    queries, keys = queries or inputs["q"].shape[-2], keys or inputs["v"].shape[-2]
    shapes = {"do": (*lead, queries, width), "dalpha": (*lead, queries, keys), "dlse": (*lead, queries)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def same(got, want, changed=None, tolerance=1e-12):
    """Values and gradients of two runs; `changed` maps the gradients of the one to the names in the other."""
    changed = changed or {}
    for name in ("o", "alpha", "lse"):
        a, b = getattr(got, name), getattr(want, name)
        assert (a is None) == (b is None)
        if a is not None:
            c.close(a, b, name, tolerance)
    same_gradients(got.grads | changed, want.grads, tolerance)


def same_gradients(got, want, tolerance=1e-12):
    assert set(got) == set(want)
    size = c.largest(want.values())
    for name in want:
        c.close(got[name], want[name], f"d{name}", tolerance, size)


def visible(inputs):
    """Which pairs are allowed, as the textbook has it, -inf in a bias included: [b h i j]."""
    told = c.textbook_inputs(inputs)
    queries, keys = told["q"].shape[-2], told["v"].shape[-2]
    distance = textbook.positions_from_query(queries, keys, told)
    allowed = textbook.allowed_pairs(queries, keys, distance, told)
    if "bias" in told:
        allowed = allowed & ~np.isneginf(told["bias"])
    return np.broadcast_to(allowed, (c.B, c.H, queries, keys))


# Heads


@both_doses
def test_grouped_heads_are_repeated_heads(draw):
    rule, heads = draw(st.sampled_from(RULES)), draw(st.sampled_from([1, c.G]))
    inputs = c.draw(rule, *company(draw, rule, without=["grouped", "one key"]), heads=heads)
    r = c.H // heads
    repeated = inputs | {name: np.repeat(inputs[name], r, axis=1) for name in "kv"}
    d = cotangents(inputs)
    got, want = Run(rule, inputs, **d), Run(rule, repeated, **d)
    for name in "kv":
        want.grads[name] = want.grads[name].reshape(c.B, heads, r, *inputs[name].shape[2:]).sum(axis=2)
    same(got, want)


# Packed, padded, one by one


SHARED = (
    *("causal", "window", "window to the left", "alibi_slopes", "relative_table", "one-sided table", "scale"),
    *("softcap", "softcap of each head", "sink", "scale of each head"),
    *(f"normalize {name}" for name in c.NORMALIZERS),
)


def sequences(rng, sizes, with_bias, with_dropout, with_allowed):
    """Sequences of different sizes, each with its own options of its own size."""
    for i, j in sizes:
        arrays = {"q": (c.H, i, c.D), "k": (c.G, j, c.D), "v": (c.G, j, c.E)}
        one = {name: rng.standard_normal(shape) for name, shape in arrays.items()}
        if with_bias:
            one["bias"] = np.where(rng.random((c.H, i, j)) < 0.2, -np.inf, rng.standard_normal((c.H, i, j)))
        if with_dropout:
            one["dropout"] = rng.random((c.H, i, j)) < 0.7
        if with_allowed:
            one["allowed"] = rng.random((c.H, i, j)) < 0.7
        yield one


AXES = {"q": (0,), "k": (1,), "v": (1,), "bias": (0, 1), "dropout": (0, 1), "allowed": (0, 1), "o": (0,), "lse": (0,)}
LAST = {"q": 1, "k": 1, "v": 1, "o": 1, "lse": 0, "bias": 0, "dropout": 0, "allowed": 0}


def place_of(name, starts, size):
    """Where a sequence lies in an array of that name: its rows, its keys, or both."""
    spans = [slice(start, start + n) for start, n in zip(starts, size, strict=True)]
    return (..., *(spans[axis] for axis in AXES[name]), *[slice(None)] * LAST[name])


@both_doses
def test_packed_is_padded_is_one_by_one(draw):
    rule = draw(st.sampled_from([r for r in PAIRWISE if r not in ("general", "additive", *CONCATS)]))
    names = company(draw, rule, only=SHARED)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    counts = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=3))
    positional = bool(c.POSITIONAL & set(names))
    sizes = [(n, n) for n, _ in counts] if positional else counts
    shared = {name: x for option in names for name, x in c.OPTIONS[option](rng).items()}
    if positional:
        shared["align"] = draw(st.sampled_from(["top_left", "bottom_right", 0]))
    p = 0.3
    ones = list(sequences(rng, sizes, *(draw(st.booleans()) for _ in range(3))))
    ds = [{"do": rng.standard_normal((c.H, i, c.E)), "dlse": rng.standard_normal((c.H, i))} for i, _ in sizes]
    want = [Run(rule, one | shared | dropout_of(one, p), **d) for one, d in zip(ones, ds, strict=True)]

    packed = Layout(sizes, packed=True)
    padded = Layout(sizes, packed=False)
    for layout in (packed, padded):
        inputs = layout.inputs(ones, rng)
        options = layout.options() | shared | dropout_of(inputs, p)
        d = {name: layout.whole(name[1:], [one[name] for one in ds], None) for name in ("do", "dlse")}
        got = Run(rule, inputs | options, **d)
        for b, one in enumerate(want):
            c.close(layout.part("o", got.o, b), one.o, "o")
            if one.lse is not None:
                c.close(layout.part("lse", got.lse, b), one.lse, "lse")
            for name in set(ones[b]) & set(one.grads):
                c.close(
                    layout.part(name, got.grads[name], b),
                    one.grads[name],
                    f"d{name}",
                    size=c.largest([one.grads[name]]),
                )
        for name in set(shared) & set(want[0].grads):
            c.close(got.grads[name], sum(one.grads[name] for one in want), f"d{name}", 1e-11)


CONCATS = ("concat_linear", "concat_tanh_sum")


def dropout_of(inputs, p):
    return {"dropout": (inputs["dropout"], p)} if "dropout" in inputs else {}


class Layout:
    """Sequences one behind the other, kept apart by segments, or above each other, kept apart by lengths."""

    def __init__(self, sizes, packed):
        self.sizes, self.packed = sizes, packed
        self.queries, self.keys = np.array(sizes).T
        self.many = (self.queries.sum(), self.keys.sum()) if packed else (self.queries.max() + 1, self.keys.max() + 1)

    def at(self, name, b):
        if self.packed:
            return place_of(name, (self.queries[:b].sum(), self.keys[:b].sum()), self.sizes[b])
        return (b, *place_of(name, (0, 0), self.sizes[b]))

    def whole(self, name, parts, rng):
        """An array of garbage, or of zeros, with every sequence's part in its place."""
        lead, width = parts[0].shape[0], parts[0].shape[len(parts[0].shape) - LAST[name] :]
        shape = (*[len(self.sizes)] * (not self.packed), lead, *(self.many[n] for n in AXES[name]), *width)
        whole = np.zeros(shape, parts[0].dtype) if rng is None else rng.standard_normal(shape).astype(parts[0].dtype)
        for b, part in enumerate(parts):
            whole[self.at(name, b)] = part
        return whole

    def inputs(self, ones, rng):
        return {name: self.whole(name, [one[name] for one in ones], rng) for name in ones[0]}

    def options(self):
        if not self.packed:
            return {"q_lengths": self.queries[:, None], "k_lengths": self.keys[:, None]}
        ids = np.arange(len(self.sizes))
        return {"q_segments": np.repeat(ids, self.queries), "k_segments": np.repeat(ids, self.keys)}

    def part(self, name, whole, b):
        return whole[self.at(name, b)]


# Caches


T = 6
DECODED = (
    *("window", "window to the left", "alibi_slopes", "relative_table", "one-sided table", "scale", "softcap", "sink"),
    *(f"normalize {name}" for name in c.NORMALIZERS),
)


@both_doses
def test_cached_decoding_is_causal_attention(draw):
    rule = draw(st.sampled_from(PAIRWISE))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    options = {name: x for option in company(draw, rule, only=DECODED) for name, x in c.OPTIONS[option](rng).items()}
    inputs = ar.rules[rule].example(leading={"q": (c.B, c.H), "k": (c.B, c.G), "v": (c.B, c.G)}, i=T, j=T)
    bias, keep = rng.standard_normal((c.H, T, T)), rng.random((c.B, c.H, T, T)) < 0.8
    d = cotangents(inputs)
    whole = inputs | options | {"causal": True, "bias": bias, "dropout": (keep, 0.2)}
    want = Run(rule, whole, do=d["do"], dlse=d["dlse"])
    steps = draw(st.sampled_from([(1,) * T, (3, 1, 2), (2, 2, 1, 1), (T,)]))
    held = draw(st.sampled_from(["grown", "static", "paged"]))
    hold = {"grown": Grown, "static": Static, "paged": Paged}[held](rng)
    o, lse, grads = [], [], {name: np.zeros_like(x) for name, x in want.grads.items()}
    start = 0
    for n in steps:
        stop = start + n
        k, v, more = hold.after(inputs["k"][..., start:stop, :], inputs["v"][..., start:stop, :], stop)
        rows = slice(start, stop)
        keys = k.shape[-2]
        step = inputs | options | more | {"q": inputs["q"][..., rows, :], "k": k, "v": v}
        step |= {"causal": True, "align": "bottom_right"}
        step |= {"bias": columns(bias[..., rows, :stop], keys, rng)}
        step |= {"dropout": (columns(keep[..., rows, :stop], keys, rng), 0.2)}
        got = Run(rule, step, do=d["do"][..., rows, :], dlse=d["dlse"][..., rows])
        o.append(got.o)
        lse.append(got.lse)
        for name, x in got.grads.items():
            place = {"q": (..., rows, slice(None)), "bias": (..., rows, slice(0, stop))}.get(name, ...)
            if name in "kv":
                assert not x[..., stop:, :].any()
                x, place = x[..., :stop, :], (..., slice(0, stop), slice(None))
            if name == "bias":
                assert not x[..., stop:].any()
                x = x[..., :stop]
            grads[name][place] += x
        start = stop
    c.close(np.concatenate(o, axis=-2), want.o, "o")
    if want.lse is not None:
        c.close(np.concatenate(lse, axis=-1), want.lse, "lse")
    same_gradients(grads, want.grads)


def columns(x, keys, rng):
    """The array with garbage behind its last column."""
    more = rng.random((*x.shape[:-1], keys - x.shape[-1])) < 0.5
    return np.concatenate([x, more if x.dtype == bool else np.where(more, np.nan, np.inf)], axis=-1)


class Grown:
    """A cache that grows."""

    def __init__(self, rng):
        self.k = self.v = None

    def after(self, k, v, count):
        self.k, self.v = ar.cache.append(self.k, k), ar.cache.append(self.v, v)
        return self.k, self.v, {}


class Static:
    """A cache of a fixed size, NaN where nothing has been written yet."""

    def __init__(self, rng):
        self.k, self.v, self.lengths = None, None, np.zeros((c.B, 1), int)

    def after(self, k, v, count):
        if self.k is None:
            self.k, self.v = (np.full((*x.shape[:-2], T + 2, x.shape[-1]), np.nan) for x in (k, v))
        self.k, _ = ar.cache.write(self.k, k, self.lengths)
        self.v, self.lengths = ar.cache.write(self.v, v, self.lengths)
        assert (self.lengths == count).all()
        return self.k, self.v, {"k_lengths": self.lengths}


class Paged:
    """Pages of two positions in a pool, out of order, NaN where nothing has been written yet."""

    def __init__(self, rng):
        self.table = rng.permutation(4 * c.B).reshape(c.B, 4)
        self.k = self.v = None
        self.count = 0

    def after(self, k, v, count):
        if self.k is None:
            self.k, self.v = (np.full((4 * c.B, c.G, 2, x.shape[-1]), np.nan) for x in (k, v))
        for t in range(self.count, count):
            page = self.table[:, t // 2]
            self.k[page, :, t % 2], self.v[page, :, t % 2] = k[..., t - self.count, :], v[..., t - self.count, :]
        self.count = count
        used = np.where(np.arange(4) * 2 < count, self.table, -1)
        lengths = np.full((c.B, 1), count)
        return ar.cache.gather(self.k, used), ar.cache.gather(self.v, used), {"k_lengths": lengths}


@both_doses
def test_a_paged_cache_is_a_contiguous_one(draw):
    rule = draw(st.sampled_from(PAIRWISE))
    names = company(draw, rule, without=["k_lengths", "grouped", "one key"])
    inputs = c.draw(rule, *names, k_lengths=np.array([[c.S - 2], [c.S]]))
    if "align" in inputs and isinstance(inputs["align"], str):
        inputs["align"] = 1
    page = draw(st.sampled_from([1, c.S]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    n = c.S // page
    table = rng.permutation(c.B * n + 2)[: c.B * n].reshape(c.B, n)
    paged = dict(inputs)
    for name in "kv":
        pool = np.full((c.B * n + 2, c.H, page, inputs[name].shape[-1]), np.nan)
        for b in range(c.B):
            for m in range(n):
                pool[table[b, m]] = inputs[name][b, :, m * page : (m + 1) * page]
        paged[name] = ar.cache.gather(pool, table)
    d = cotangents(inputs)
    same(Run(rule, paged, **d), Run(rule, inputs, **d))


# Keys in parts, in another order, and windows that are no windows


SPLIT = (
    *("allowed", "mask", "causal", "window", "window to the left", "align integer", "align array", "k_lengths"),
    *("q_lengths", "segments", "bias ()", "bias (7,)", "bias (5, 1)", "bias (2, 4, 5, 7)", "alibi_slopes", "scale"),
    *("relative_table", "one-sided table", "softcap", "sink", "dropout", "grouped heads", "one key head"),
)


@both_doses
def test_keys_in_parts_merged_by_lse_are_the_whole(draw):
    rule = draw(st.sampled_from([r for r in PAIRWISE if r != "double_softmax"]))
    inputs = c.draw(rule, *company(draw, rule, only=SPLIT))
    if isinstance(inputs.get("align"), str):
        inputs["align"] = 2
    if isinstance(inputs.get("allowed"), ar.masks.Mask):
        inputs["allowed"] = inputs["allowed"].dense(c.L, c.S)
    d = cotangents(inputs)
    want = Run(rule, inputs, do=d["do"], dlse=d["dlse"])
    cuts = sorted(draw(st.sets(st.integers(1, c.S - 1), min_size=1, max_size=3)))
    spans = list(zip([0, *cuts], [*cuts, c.S], strict=True))
    parts = [ar.attention(rule=rule, **part_of(inputs, start, stop)) for start, stop in spans]
    merge = ar.ops["layer.merge"]
    o, lse = (np.stack([getattr(part, name) for part in parts], axis=2) for name in ("o", "lse"))
    (merged, merged_lse), tape = merge.forward(o, lse)
    c.close(merged, want.o, "o")
    c.close(merged_lse, want.lse, "lse")
    back = merge.backward((d["do"], d["dlse"]), **tape)
    grads = {name: np.zeros_like(x) for name, x in want.grads.items()}
    for n, ((start, stop), part) in enumerate(zip(spans, parts, strict=True)):
        share = np.exp(part.lse - np.where(np.isneginf(merged_lse), 0, merged_lse))
        c.close(part.alpha * share[..., None], want.alpha[..., start:stop], "alpha")
        for name, x in part.backward(back["o"][:, :, n], dlse=back["lse"][:, :, n]).items():
            keys = {"k": (..., slice(start, stop), slice(None)), "v": (..., slice(start, stop), slice(None))}
            if name == "bias" and x.ndim and inputs["bias"].shape[-1] == c.S:
                keys["bias"] = (..., slice(start, stop))
            grads[name][keys.get(name, ...)] += x
    same_gradients(grads, want.grads)


def part_of(inputs, start, stop):
    """The call over the keys from start to stop; whoever counts positions counts them from there."""
    part = inputs | {name: inputs[name][..., start:stop, :] for name in "kv"}
    for name in ("allowed", "bias", "k_segments"):
        if name in part and np.ndim(part[name]) and part[name].shape[-1] == c.S:
            part[name] = part[name][..., start:stop]
    if "dropout" in part:
        part["dropout"] = part["dropout"][0][..., start:stop], part["dropout"][1]
    if "k_lengths" in part:
        part["k_lengths"] = np.clip(part["k_lengths"] - start, 0, stop - start)
    if "align" in part:
        part["align"] = part["align"] - start
    if "sink" in part and start:
        del part["sink"]
    return part


@both_doses
def test_keys_in_another_order_give_the_same(draw):
    rule = draw(st.sampled_from(PAIRWISE))
    names = company(draw, rule, without=[*c.POSITIONAL, "k_lengths"])
    inputs = c.draw(rule, *names)
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(c.S)
    moved = inputs | {name: inputs[name][..., order, :] for name in "kv"}
    if isinstance(inputs.get("allowed"), ar.masks.Mask):
        moved["allowed"] = inputs["allowed"].dense(c.L, c.S)[..., order]
    for name in ("allowed", "bias", "k_segments"):
        if isinstance(inputs.get(name), np.ndarray) and inputs[name].ndim and inputs[name].shape[-1] == c.S:
            moved[name] = inputs[name][..., order]
    if "dropout" in inputs:
        moved["dropout"] = inputs["dropout"][0][..., order], inputs["dropout"][1]
    d = cotangents(inputs)
    want = Run(rule, inputs, **d)
    got = Run(rule, moved, **d | {"dalpha": d["dalpha"][..., order]})
    back = np.argsort(order)
    got.alpha = got.alpha[..., back]
    got.grads |= {name: got.grads[name][..., back, :] for name in "kv"}
    if "bias" in got.grads and moved["bias"] is not inputs["bias"]:
        got.grads["bias"] = got.grads["bias"][..., back]
    same(got, want)


@both_doses
def test_a_window_as_long_as_the_keys_is_none(draw):
    rule = draw(st.sampled_from(PAIRWISE))
    inputs = c.draw(rule, *company(draw, rule, without=["window"]))
    inputs.setdefault("align", draw(st.sampled_from(["top_left", "bottom_right", -1])))
    far = c.L + c.S + 5
    window = draw(st.sampled_from([(far, far), (None, far), (far, None), (None, None)]))
    d = cotangents(inputs)
    same(Run(rule, inputs | {"window": window}, **d), Run(rule, inputs, **d))


@both_doses
def test_a_number_added_to_a_row_of_scores_moves_only_lse(draw):
    rule = draw(st.sampled_from(RULES))
    without = ["bias", "sink", "normalize sigmoid", "normalize softmax_off_by_one"]
    inputs = c.draw(rule, *company(draw, rule, without=without))
    shift = np.random.default_rng(3).standard_normal((c.B, 1, c.L, 1))
    d = cotangents(inputs)
    got = Run(rule, inputs | {"bias": shift}, **d)
    want = Run(rule, inputs | {"bias": np.zeros_like(shift)}, **d)
    if got.lse is not None:
        got.lse = got.lse - shift[..., 0]
    same(got, want)


# Whatever lies behind a mask


MASKS = (
    *("allowed", "allowed of one row", "mask", "positional mask", "causal", "window", "window to the left"),
    *("q_lengths", "k_lengths", "segments"),
)
POISON = (np.nan, np.inf, -np.inf, 1e200)


def masked_call(draw, rule):
    """A call in which something is masked, and a bias that bans some pairs more."""
    masks = [name for name in MASKS if not c.contradiction(rule, (name,))]
    names = company(draw, rule, without=["bias", "empty_row", "grouped", "one key"])
    one = draw(st.sampled_from(masks))
    names = [one, *(name for name in names if c.combinable(one, name))]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = c.B, c.H, c.L, c.S
    bias = np.where(rng.random(shape) < 0.1, -np.inf, rng.standard_normal(shape))
    bias[..., draw(st.integers(0, c.S - 1))] = -np.inf
    bias[:, 1, draw(st.integers(0, c.L - 1))] = -np.inf
    inputs = c.draw(rule, *names, bias=bias)
    without_bias = {name: x for name, x in inputs.items() if name != "bias"}
    return inputs, visible(inputs), visible(without_bias)


@both_doses
def test_what_is_masked_changes_nothing_be_it_nan(draw):
    rule = draw(st.sampled_from(RULES))
    inputs, allowed, masked_elsewhere = masked_call(draw, rule)
    unseen, dead = ~allowed.any(axis=-2), ~allowed.any(axis=-1)
    poison = draw(st.sampled_from(POISON))
    rows = {"q": dead, "k": unseen if rule in PAIRWISE else dead, "v": unseen}
    wild = inputs | {name: np.where(rows[name][..., None], poison, inputs[name]) for name in rows}
    wild["bias"] = np.where(masked_elsewhere, inputs["bias"], poison)
    assert unseen.any()
    assert dead.any()
    d = cotangents(inputs)
    got, want = Run(rule, wild, **d), Run(rule, inputs, **d)
    for name in ("o", "alpha", "lse"):
        if getattr(want, name) is not None:
            identical(getattr(got, name), getattr(want, name), name)
    for name in want.grads:
        identical(got.grads[name], want.grads[name], f"d{name}")
    for name, where in rows.items():
        assert not got.grads[name][where].any()
    assert not got.grads["bias"][~allowed].any()


@both_doses
def test_what_some_queries_may_not_see_changes_nothing_for_them(draw):
    rule = draw(st.sampled_from(PAIRWISE))
    inputs, allowed, _ = masked_call(draw, rule)
    poison, key = draw(st.sampled_from(POISON[:3])), draw(st.integers(0, c.S - 1))
    names = draw(st.sampled_from(["k", "v", "kv"]))
    wild = inputs | {name: inputs[name].copy() for name in names}
    for name in names:
        wild[name][..., key, :] = poison
    d = cotangents(inputs)
    got, want = Run(rule, wild, **d), Run(rule, inputs, **d)
    spared = ~allowed[..., key]
    assert spared.any()
    for name in ("o", "alpha", "lse"):
        if getattr(want, name) is not None:
            identical(getattr(got, name)[spared], getattr(want, name)[spared], name)
    identical(got.grads["q"][spared], want.grads["q"][spared], "dq")
    identical(got.grads["bias"][spared], want.grads["bias"][spared], "dbias")
    seen = allowed[..., key] & (want.alpha[..., key] != 0)
    if poison is POISON[0] and "dropout" not in inputs:
        assert np.isnan(got.o[seen]).all()


def identical(got, want, name):
    assert np.array_equal(got, want, equal_nan=True), f"{name} is not the same bit for bit"


# Identities


def identity_call(draw, rule, without):
    inputs = c.draw(rule, *company(draw, rule, without=[*without, "bias", "dropout", "grouped", "one key"]))
    d = cotangents(inputs)
    zero = np.zeros((c.B, c.H, c.L, c.S))
    return inputs, Run(rule, inputs | {"bias": zero}, do=d["do"]), d["do"]


NO_SUM = ("sink", "normalize sigmoid", "normalize softmax_off_by_one", "empty_row")


@both_doses
def test_the_gradients_of_a_row_of_scores_add_up_to_nothing(draw):
    _, run, _ = identity_call(draw, draw(st.sampled_from(RULES)), NO_SUM)
    ds = run.grads["bias"]
    c.close(ds.sum(axis=-1), np.zeros(ds.shape[:-1]), "the sum of ds")


@both_doses
def test_the_gradients_of_the_values_add_up_to_the_outputs(draw):
    inputs, run, do = identity_call(draw, draw(st.sampled_from(RULES)), NO_SUM)
    alive = visible(inputs).any(axis=-1, keepdims=True)
    c.close(run.grads["v"].sum(axis=-2), np.where(alive, do, 0).sum(axis=-2), "the sum of dv")


@both_doses
def test_products_with_the_gradients_of_a_dot_agree(draw):
    plain_inputs, run, _ = identity_call(draw, "dot", ("softcap", "scale"))
    inputs, scaled, _ = identity_call(draw, "scaled_dot", ("softcap",))
    s, ds = scaled.a.tape["scaled"], scaled.grads["bias"]
    products = [np.sum(inputs[name] * scaled.grads[name], axis=(-2, -1)) for name in "qk"]
    c.close(products[0], np.sum(s * ds, axis=(-2, -1)), "<q, dq>")
    c.close(products[1], np.sum(s * ds, axis=(-2, -1)), "<k, dk>")
    plain = [np.sum(run.a.tape["score"] * run.grads["bias"]), np.sum(plain_inputs["q"] * run.grads["q"])]
    c.close(*plain, "<s, ds>")


@both_doses
def test_the_gradients_of_the_keys_of_a_dot_add_up_to_nothing(draw):
    rule = draw(st.sampled_from(["dot", "scaled_dot", "general"]))
    _, run, _ = identity_call(draw, rule, (*NO_SUM, "softcap"))
    dk = run.grads["k"]
    c.close(dk.sum(axis=-2), np.zeros((c.B, c.H, dk.shape[-1])), "the sum of dk")


@both_doses
def test_weights_and_outputs_have_the_same_product_with_their_gradients(draw):
    rule = draw(st.sampled_from(RULES))
    inputs, run, do = identity_call(draw, rule, ("empty_row",))
    dalpha = do @ np.swapaxes(inputs["v"], -1, -2)
    c.close(np.sum(run.alpha * dalpha, axis=-1), np.sum(do * run.o, axis=-1), "rowsum(do * o)")


# Masks and empty rows


def expressions():
    """(a mask, the same as a dense array) with & | ~ between simple ones."""
    i, j = np.arange(c.L)[:, None], np.arange(c.S)
    offset = 2
    simple = [
        (ar.masks.causal(), j <= i + offset),
        (ar.masks.window(2, 1), (j >= i + offset - 2) & (j <= i + offset + 1)),
        (ar.masks.window(None, 0), j <= i + offset),
        (ar.masks.lengths(4, 5), (i < 4) & (j < 5)),
        (ar.masks.lengths(k_lengths=np.array([[3], [6]])), (j < np.array([[3], [6]])[..., None, None])),
        (ar.masks.segments([0, 0, 1, 1, -1], [0, 0, 0, 1, 1, -1, -1]), segment_pairs()),
        (ar.masks.documents([2, 3], [3, 4]), (i < 2) == (j < 3)),
        (ar.masks.blocks(3), (i + offset) // 3 == j // 3),
        (ar.masks.dilated(2), (i + offset - j) % 2 == 0),
        (ar.masks.prefix(2), (j <= i + offset) | (j < 2)),
        (ar.masks.dense(DENSE), DENSE),
    ]
    leaves = st.sampled_from(
        [(mask, np.broadcast_to(dense, np.broadcast_shapes(dense.shape, (c.L, c.S)))) for mask, dense in simple]
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda two: (two[0][0] & two[1][0], two[0][1] & two[1][1])),
            st.tuples(inner, inner).map(lambda two: (two[0][0] | two[1][0], two[0][1] | two[1][1])),
            inner.map(lambda one: (~one[0], ~one[1])),
        ),
        max_leaves=5,
    )


DENSE = np.random.default_rng(8).random((c.H, c.L, c.S)) < 0.6


def segment_pairs():
    q, k = np.array([0, 0, 1, 1, -1])[:, None], np.array([0, 0, 0, 1, 1, -1, -1])
    return (q == k) & (q >= 0)


@both_doses
def test_composed_masks_are_the_composed_arrays(draw):
    rule = draw(st.sampled_from(PAIRWISE))
    mask, dense = draw(expressions())
    names = company(draw, rule, without=["allowed", "mask", "positional mask", "align"])
    inputs = c.draw(rule, *names) | {"align": 2}
    d = cotangents(inputs)
    got, want = Run(rule, inputs | {"allowed": mask}, **d), Run(rule, inputs | {"allowed": dense}, **d)
    for name in ("o", "alpha", "lse"):
        if getattr(want, name) is not None:
            identical(getattr(got, name), getattr(want, name), name)
    for name in want.grads:
        identical(got.grads[name], want.grads[name], f"d{name}")


@both_doses
def test_a_row_without_keys_gets_what_was_asked_for(draw):
    rule = draw(st.sampled_from(RULES))
    without = ["sink", "normalize softmax_off_by_one", "empty_row", "grouped", "one key", "dropout", "bias"]
    names = company(draw, rule, without=without)
    bias = np.random.default_rng(2).standard_normal((c.B, c.H, c.L, c.S))
    bias[:, 1, 2], bias[0, :, 4] = -np.inf, -np.inf
    inputs = c.draw(rule, *names, bias=bias)
    dead = ~visible(inputs).any(axis=-1)
    d = cotangents(inputs)
    zero, nan, uniform = (Run(rule, inputs | {"empty_row": kind}, **d) for kind in ("zero", "nan", "uniform"))
    assert not zero.o[dead].any()
    assert not zero.alpha[dead].any()
    assert np.isnan(nan.o[dead]).all()
    assert np.isnan(nan.alpha[dead]).all()
    c.close(uniform.alpha[dead], np.full((dead.sum(), c.S), 1 / c.S), "alpha")
    mean = np.broadcast_to(inputs["v"].mean(axis=-2, keepdims=True), uniform.o.shape)
    c.close(uniform.o[dead], mean[dead], "o")
    for run in (zero, nan, uniform):
        assert run.lse is None or np.isneginf(run.lse[dead]).all()
        assert not run.grads["q"][dead].any()
        assert not run.grads["bias"][dead].any()
        for name in ("o", "alpha", "lse"):
            if run.lse is not None or name != "lse":
                identical(getattr(run, name)[~dead], getattr(zero, name)[~dead], name)
    more = np.where(dead[..., None], d["do"], 0).sum(axis=-2, keepdims=True) / c.S
    c.close(uniform.grads["v"], zero.grads["v"] + more, "dv")
    with pytest.raises(ar.OptionError, match=r"^\w+: query \d of \(\d, \d\) may attend to no key$"):
        ar.attention(rule=rule, **inputs, empty_row="raise")
