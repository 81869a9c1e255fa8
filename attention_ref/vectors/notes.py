"""What the flags mean: each with a kind of bug, a description, links, and the condition that a test must meet."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attention_ref.pipeline.place import Place


@dataclass(frozen=True)
class Note:
    bug_type: str
    description: str
    links: tuple
    true_of: Callable

    def json(self):
        return {"bugType": self.bug_type, "description": self.description, "links": list(self.links)}


class Facts:
    """What a test's flags are decided by."""

    def __init__(self, rule, inputs, options, cotangents):
        self.rule, self.inputs, self.options, self.cotangents = rule, inputs, options, cotangents
        self.queries, self.keys = inputs["q"].shape[-2], inputs["v"].shape[-2]
        given, self.named = rule.check(inputs | {n: tuple(x) if isinstance(x, list) else x for n, x in options.items()})
        place = Place(self.queries, self.keys, given | self.named, rule.module.pairwise)
        self.offset, self.relative = place.offset, place.relative
        lead = np.broadcast_shapes(*(inputs[n].shape[:-2] for n in "q"))
        allowed = np.ones((self.queries, self.keys), bool) if place.allowed is None else place.allowed
        shape = np.broadcast_shapes(allowed.shape, (*lead, self.queries, self.keys))
        self.allowed = np.broadcast_to(allowed, shape)
        self.tape = rule.forward(**inputs, **self.named)[1]

    def has(self, *names):
        return all(name in self.inputs or name in self.options for name in names)

    @property
    def dead(self):
        return bool((~self.allowed.any(axis=-1)).any()) if self.queries else False

    @property
    def scores(self):
        """The scores as the normalizer gets them."""
        stages = ("masked", "biased", "capped", "scaled", "score")
        return next(self.tape[stage] for stage in stages if stage in self.tape)

    def hidden(self, test):
        """Is there a key that no query may see and whose value or key is so?"""
        unseen = ~self.allowed.any(axis=tuple(range(self.allowed.ndim - 1)))
        wild = [test(self.inputs[n]).any(axis=-1) for n in "kv" if self.inputs[n].shape[-2] == self.keys]
        return any(bool((unseen & w).any()) for w in wild)

    def tied(self):
        with np.errstate(all="ignore"):
            best = np.max(self.scores, axis=-1, keepdims=True, initial=-np.inf)
            size = np.max(np.where(np.isfinite(self.scores), np.abs(self.scores), 0), axis=-1, keepdims=True, initial=0)
            near = self.scores >= best - 1e-12 * size
            return bool(((near & np.isfinite(best)).sum(axis=-1) > 1).any())

    def window_edge(self):
        """Pairs at the window's edge and just beyond both occur."""
        left, right = self.options.get("window", (None, None))
        at = [n for n in (None if left is None else -left, right) if n is not None]
        beyond = [
            n for n in (None if left is None else -left - 1, None if right is None else right + 1) if n is not None
        ]
        return bool(at) and all((self.relative == n).any() for n in at + beyond)

    def saturated(self):
        if not self.has("softcap"):
            return False
        before = self.tape.get("scaled", self.tape["score"])
        return bool((np.abs(before) > 8 * self.inputs["softcap"]).any())

    def groups(self):
        q, k = self.inputs["q"].shape, self.inputs["k"].shape
        return k[-3] if len(q) > 2 and len(k) > 2 and k[-3] != q[-3] else None


def floats(facts):
    return np.concatenate([x.ravel() for x in facts.inputs.values() if x.dtype.kind == "f"])


def subnormal(facts):
    x = np.abs(floats(facts))
    return bool(((x > 0) & (x < 2.0**-126)).any())


def huge(facts):
    x = np.abs(floats(facts))
    x = x[np.isfinite(x)]
    scores = np.abs(facts.scores[np.isfinite(facts.scores)])
    return bool((x > 2.0**128).any() or (scores > 89).any())


PYTORCH, MLX = "https://github.com/pytorch/pytorch/issues/", "https://github.com/ml-explore/mlx/issues/"
ONNX, FLASH = "https://github.com/onnx/onnx/issues/", "https://github.com/Dao-AILab/flash-attention/issues/"
NOTES = {
    name: Note(*entry)
    for name, entry in {
        "DeadRow": (
            "CONVENTION",
            "A query that may attend to no key. Zero, uniform weights and NaN are all found in the wild.",
            (f"{PYTORCH}41508", f"{PYTORCH}103749", f"{MLX}2395"),
            lambda f: f.keys > 0 and f.dead,
        ),
        "Mask": (
            "MASKING",
            "Some pairs are allowed and some are not: polarity and the order of the axes matter.",
            (f"{PYTORCH}114083",),
            lambda f: bool(f.allowed.any() and not f.allowed.all()),
        ),
        "NaNBehindMask": (
            "MASKING",
            "A key or value that no query may see is NaN; masking by multiplication or addition lets it out.",
            (f"{PYTORCH}101967",),
            lambda f: f.hidden(np.isnan),
        ),
        "InfBehindMask": ("MASKING", "The same with an infinity: 0 · ∞ is NaN.", (), lambda f: f.hidden(np.isinf)),
        "SingleKey": (
            "EDGE_CASE",
            "One key: its weight is 1, its score is nothing.",
            (),
            lambda f: f.keys == 1,
        ),
        "SingleQuery": ("EDGE_CASE", "One query.", (), lambda f: f.queries == 1),
        "EmptyKeys": ("EDGE_CASE", "No keys: o is 0 and lse is −∞.", (), lambda f: f.keys == 0),
        "Rectangular": ("INDEXING", "Queries and keys are not equally many.", (), lambda f: f.queries != f.keys),
        "Causal": ("MASKING", "No key behind the query's own position.", (), lambda f: f.has("causal")),
        "CausalRectangular": (
            "ALIGNMENT",
            "Causal with L ≠ S: top-left and bottom-right alignment differ.",
            (f"{PYTORCH}108108", f"{MLX}2835", f"{FLASH}282"),
            lambda f: f.has("causal") and f.queries != f.keys,
        ),
        "Offset": (
            "ALIGNMENT",
            "Queries do not begin at the first key's position.",
            (),
            lambda f: bool(np.any(np.asarray(f.offset) != 0)),
        ),
        "Window": ("INDEXING", "A sliding window, inclusive on both sides.", (), lambda f: f.has("window")),
        "WindowEdge": (
            "INDEXING",
            "Pairs just inside and just outside the window occur: an off-by-one shows.",
            ("https://github.com/huggingface/transformers/issues/39408",),
            lambda f: f.window_edge(),
        ),
        "GroupedHeads": (
            "INDEXING",
            "Query head h reads key head h // r.",
            (f"{ONNX}7274",),
            lambda f: f.groups() is not None and f.groups() > 1,
        ),
        "MultiQuery": ("INDEXING", "All query heads read one key head.", (), lambda f: f.groups() == 1),
        "ValueWidth": (
            "INDEXING",
            "Values are not as wide as keys.",
            (),
            lambda f: f.inputs["v"].shape[-1] != f.inputs["k"].shape[-1],
        ),
        "Scale": ("ARITHMETIC", "A scale of the caller's.", (), lambda f: f.has("scale")),
        "NegativeScale": (
            "ARITHMETIC",
            "Implementations that take the square root of the scale get NaN.",
            (),
            lambda f: f.has("scale") and bool((f.inputs["scale"] < 0).any()),
        ),
        "Softcap": (
            "ARITHMETIC",
            "softcap · tanh(s / softcap), ahead of a bias.",
            (f"{ONNX}7867",),
            lambda f: f.has("softcap"),
        ),
        "SoftcapSaturated": (
            "ARITHMETIC",
            "Scores far beyond the softcap: the slope is tiny, and 1 − tanh² loses its digits.",
            (),
            lambda f: f.saturated(),
        ),
        "Bias": ("ARITHMETIC", "A bias behind scale and softcap.", (), lambda f: f.has("bias")),
        "BiasForbids": (
            "MASKING",
            "A bias of −∞ forbids like a mask.",
            (),
            lambda f: f.has("bias") and bool(np.isneginf(f.inputs["bias"]).any()),
        ),
        "Alibi": ("ARITHMETIC", "A bias in proportion to the distance.", (), lambda f: f.has("alibi_slopes")),
        "RelativeBias": ("INDEXING", "A bias by T5's buckets of the distance.", (), lambda f: f.has("relative_table")),
        "Sink": (
            "ARITHMETIC",
            "A score more in the denominator, which belongs to no key.",
            ("https://github.com/NVIDIA/TransformerEngine/issues/3551",),
            lambda f: f.has("sink"),
        ),
        "Dropout": (
            "ARITHMETIC",
            "A given keep mask; kept weights are scaled by 1/(1−p).",
            (),
            lambda f: f.has("dropout"),
        ),
        "Lengths": (
            "MASKING",
            "Counts of real queries or keys.",
            (),
            lambda f: f.has("k_lengths") or f.has("q_lengths"),
        ),
        "Packed": ("MASKING", "Several sequences in one, by segment ids.", (), lambda f: f.has("q_segments")),
        "Padding": (
            "MASKING",
            "A negative segment id attends to nothing and is not attended to.",
            (),
            lambda f: f.has("q_segments") and bool((f.inputs["q_segments"] < 0).any()),
        ),
        "DecodeStep": (
            "ALIGNMENT",
            "One query at the end of a cache of keys.",
            (),
            lambda f: f.queries == 1 and f.keys > 1 and f.options.get("align") == "bottom_right",
        ),
        "TiedMaxima": ("EDGE_CASE", "Two allowed keys of a row share its greatest score.", (), lambda f: f.tied()),
        "Subnormal": ("ARITHMETIC", "Inputs below float32's normal range, or float64's.", (), subnormal),
        "HugeRange": ("ARITHMETIC", "Inputs or scores for which exp or a product overflows.", (), huge),
        "Normalizer": (
            "ARITHMETIC",
            "Another normalizer than softmax.",
            (),
            lambda f: f.options.get("normalize", f.rule.module.own_normalize) != "softmax",
        ),
        "EmptyRowOption": (
            "CONVENTION",
            "Another convention for dead rows is asked for.",
            (),
            lambda f: f.has("empty_row"),
        ),
        "LseCotangent": (
            "GRADIENT",
            "A cotangent of lse, as ring attention needs.",
            (f"{FLASH}141",),
            lambda f: "lse" in f.cotangents,
        ),
        "AlphaCotangent": ("GRADIENT", "A cotangent of the weights.", (), lambda f: "alpha" in f.cotangents),
        "SlipOfThePen": (
            "CONVENTION",
            "The rule is a text's slip of the pen, kept as printed.",
            (),
            lambda f: bool(f.rule.erratum),
        ),
    }.items()
}
NOTES["Invalid"] = Note("VALIDATION", "The call has no meaning and must be refused.", (), lambda f: False)


def flags_of(rule, inputs, options, cotangents):
    """Every flag that is true of a test, in the order of the notes."""
    facts = Facts(rule, inputs, options, cotangents)
    return [name for name, note in NOTES.items() if note.true_of(facts)]
