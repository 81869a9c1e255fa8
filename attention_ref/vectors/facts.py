"""What the flags of one vector are decided by: its inputs and options, which pairs are allowed, the oracle's scores."""

import numpy as np

from attention_ref.oracle.cases.case import Size
from attention_ref.pipeline.place import Place

FLOAT32_LEAST_NORMAL = 2.0**-126
FLOAT32_BEYOND = 2.0**128
FLOAT32_LARGEST_EXPONENT = 89  # exp(89) > 2^128: an exponential that is not shifted overflows in float32
TIE = 1e-12  # scores this close, relative to the row's largest, differ by float64's rounding alone
SATURATED = 8  # 1 - tanh(8)^2 is 4.5e-7, of which float32, as 1 - tanh^2, has three bits


class Facts:
    """One vector's call. `options` has all that is given beside q, k and v, arrays as well as words."""

    def __init__(self, rule, inputs, options, cotangents):
        self.rule, self.inputs, self.cotangents = rule, inputs, cotangents
        self.options = {name: x for name, x in inputs.items() if name not in ("q", "k", "v")} | options
        q, k, v = inputs["q"], inputs["k"], inputs["v"]
        heads, key_heads = 1, None
        if q.ndim > 2:
            heads = q.shape[-3]
        if q.ndim > 2 and k.ndim > 2:
            key_heads = k.shape[-3]
        self.size = Size(q.shape[-2], v.shape[-2], k.shape[-1], v.shape[-1], heads=heads, groups=key_heads)

        called = dict(inputs)
        for name, x in options.items():
            called[name] = tuple(x) if isinstance(x, list) else x  # JSON has no tuples
        arrays, words = rule.check(called)
        self.normalize = words.get("normalize", rule.module.own_normalize)
        positions = Place(self.size.queries, self.size.keys, arrays | words, rule.module.pairwise)
        self.offset, self.relative = positions.offset, positions.relative
        self.allowed = np.ones((self.size.queries, self.size.keys), bool)
        if positions.allowed is not None:
            self.allowed = positions.allowed
        shape = np.broadcast_shapes(self.allowed.shape, (*q.shape[:-2], self.size.queries, self.size.keys))
        self.allowed = np.broadcast_to(self.allowed, shape)
        self.tape = rule.forward(**inputs, **words)[1]

    @property
    def scores(self):
        """The scores as the normalizer gets them."""
        stages = ("masked", "biased", "capped", "scaled", "score")
        return next(self.tape[stage] for stage in stages if stage in self.tape)

    def is_square(self):
        return self.size.queries == self.size.keys

    def is_decode_step(self):
        """One query, aligned to the end of several keys."""
        return self.size.queries == 1 and self.size.keys > 1 and self.options.get("align") == "bottom_right"

    def has_empty_row(self):
        """Whether some query may attend to no key."""
        return bool((~self.allowed.any(axis=-1)).any())

    def hides(self, test):
        """Whether a key that no query may see has a number in k or v that passes the test."""
        unseen = ~self.allowed.any(axis=tuple(range(self.allowed.ndim - 1)))
        for name in "kv":
            x = self.inputs[name]
            # k of a rule without key positions has a row for each query instead.
            if x.shape[-2] == self.size.keys and (unseen & test(x).any(axis=-1)).any():
                return True
        return False

    def has_tied_maxima(self):
        """Whether two allowed keys of a row share its greatest score."""
        scores = self.scores
        with np.errstate(all="ignore"):
            greatest = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
            size = np.max(np.where(np.isfinite(scores), np.abs(scores), 0), axis=-1, keepdims=True, initial=0)
            tied = (scores >= greatest - TIE * size) & np.isfinite(greatest)
        return bool((tied.sum(axis=-1) > 1).any())

    def has_window_edge(self):
        """Whether pairs at each edge of the window and pairs just beyond it both occur."""
        left, right = self.options.get("window", (None, None))
        distances = []
        if left is not None:
            distances += [-left, -left - 1]
        if right is not None:
            distances += [right, right + 1]
        return bool(distances) and all((self.relative == distance).any() for distance in distances)

    def saturates_softcap(self):
        if "softcap" not in self.options:
            return False
        before = self.tape.get("scaled", self.tape["score"])
        return bool((np.abs(before) > SATURATED * self.options["softcap"]).any())

    def input_sizes(self):
        """The absolute values of all floating-point inputs, in one row."""
        return np.abs(np.concatenate([x.ravel() for x in self.inputs.values() if x.dtype.kind == "f"]))

    def has_subnormals(self):
        sizes = self.input_sizes()
        return bool(((sizes > 0) & (sizes < FLOAT32_LEAST_NORMAL)).any())

    def overflows(self):
        """Whether an input or an exponential of a score is beyond float32's range."""
        sizes = self.input_sizes()
        scores = np.abs(self.scores[np.isfinite(self.scores)])
        beyond = (sizes[np.isfinite(sizes)] > FLOAT32_BEYOND).any()
        return bool(beyond or (scores > FLOAT32_LARGEST_EXPONENT).any())
