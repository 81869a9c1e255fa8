"""Which vectors there are: every rule with every feature that it can have, and calls that must be refused."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, nan

import numpy as np

from attention_ref.pipeline.rule import rules
from attention_ref.vectors.integers import draw

SIZES = {"i": 3, "j": 5, "d": 3, "c": 4, "e": 2, "x": 2, "n": 8}
SOFTMAX, PAIRS, DOTS = "softmax", "pairs", "dots"
GROUPED = {"q": (4,), "k": (2,), "v": (2,)}
SHARED = {"q": (3,), "k": (1,), "v": (1,)}
FEW = {"d": 3, "c": 2, "i": 2, "j": 3}


@dataclass(frozen=True)
class Feature:
    """One kind of call: the sizes, the leading axes of each input, and what there is beside q, k, v and the parameters.

    `include` names optional inputs that are drawn, `arrays` gives those that are set by hand, `change` changes what was
    drawn. `only` is what a rule must have: SOFTMAX, PAIRS of queries and keys, scores that are DOTS.
    """

    group: str
    comment: str
    sizes: dict = field(default_factory=dict)
    leads: dict = field(default_factory=dict)
    include: tuple = ()
    arrays: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    change: Callable | None = None
    cotangents: tuple = ("o",)
    alternatives: bool = False
    only: tuple = ()

    def fits(self, rule):
        module = rule.module
        have = {
            PAIRS: module.pairwise,
            SOFTMAX: module.own_normalize == "softmax",
            DOTS: module.score.SIGNATURE.startswith("q[... i d] k[... j d] ->"),
        }
        return all(have[need] for need in self.only)


def edges(**places):
    """Set single entries or whole rows: {name: (index, value)}."""

    def change(inputs):
        for name, (index, value) in places.items():
            inputs[name][index] = value
        return inputs

    return change


def scaled(**factors):
    def change(inputs):
        return {name: x * factors[name] if name in factors else x for name, x in inputs.items()}

    return change


def tied(inputs):
    for name in "kv":
        inputs[name][..., 1, :] = inputs[name][..., 0, :]
    inputs["v"][..., 1, 0] += 0.125
    return inputs


def mask(text):
    """Rows of 0 and 1, separated by spaces."""
    return np.array([[c == "1" for c in row] for row in text.split()])


BATCH = {"q": (2,), "k": (2,), "v": (2,)}
BATCH_AND_HEADS = {"q": (2, 2), "k": (2, 2), "v": (2, 2)}
SHAPES = [
    Feature("shapes", "no leading axes, value width unlike key width"),
    Feature("shapes", "a batch axis", leads=BATCH, sizes=FEW),
    Feature("shapes", "batch and heads", leads=BATCH_AND_HEADS, sizes=FEW),
    Feature("shapes", "a batch of q over one k and v", leads={"q": (2,)}, sizes=FEW),
    Feature("shapes", "four query heads share two key heads", leads=GROUPED, sizes=FEW, only=(PAIRS,)),
    Feature("shapes", "three query heads share one key head", leads=SHARED, sizes=FEW, only=(PAIRS,)),
    Feature("shapes", "a single key", sizes={"j": 1}),
    Feature("shapes", "a single query", sizes={"i": 1}),
    Feature("shapes", "one query, one key", sizes={"i": 1, "j": 1}),
    Feature("shapes", "more queries than keys", sizes={"i": 7, "j": 2}),
    Feature("shapes", "no keys at all", sizes={"j": 0}),
    Feature("shapes", "width one", sizes={"d": 1, "c": 1, "e": 1, "x": 1}),
]


def masked(comment, arrays, keys=None, **rest):
    """A row of MASKS: masks, lengths or segments, and the number of keys where it is not 5."""
    sizes = rest.pop("sizes", {})
    if keys is not None:
        sizes = sizes | {"j": keys}
    arrays = {name: np.asarray(x) for name, x in arrays.items()}
    return Feature("masks", comment, sizes=sizes, arrays=arrays, **rest)


RANDOM = {"allowed": mask("10110 01011 11101")}
HIDING = {"allowed": mask("10110 10011 10101")}  # key 1 from every query
EMPTY = {"allowed": mask("1011 0000 1101")}
NOTHING = {"allowed": mask("0000 0000 0000")}
TWO_LENGTHS = {"q_lengths": [3, 2], "k_lengths": [2, 5]}
PACKED = {"q_segments": [0, 1, 1], "k_segments": [0, 0, 1, 1, 2]}
PADDED = {"q_segments": [0, 1, -1], "k_segments": [0, 1, 1, -1, -1]}
MASKS = [
    masked("a random mask", RANDOM),
    masked("the same keys for every query", {"allowed": mask("10110")}),
    masked("a row with nothing allowed", EMPTY, keys=4, alternatives=True),
    masked("nothing allowed", NOTHING, keys=4, alternatives=True),
    masked("empty rows are NaN", EMPTY, keys=4, options={"empty_row": "nan"}),
    masked("empty rows are uniform", EMPTY, keys=4, options={"empty_row": "uniform"}),
    masked("NaN in a masked value", HIDING, change=edges(v=(1, nan))),
    masked("infinity in a masked value", HIDING, change=edges(v=(1, inf))),
    masked("NaN in a masked key", HIDING, change=edges(k=(1, nan)), only=(PAIRS,)),
    masked("lengths of keys", {"k_lengths": [5, 3]}, leads=BATCH),
    masked("lengths of queries and keys", TWO_LENGTHS, leads=BATCH),
    masked("a length of zero", {"k_lengths": [0, 4]}, keys=4, leads={"q": (2,)}, sizes=FEW),
    masked("packed segments", PACKED),
    masked("packed segments with padding", PADDED),
]


def placed(comment, queries, keys, arrays=None, leads=None, sizes=None, **options):
    """A row of POSITIONS: the numbers of queries and keys, and options that relate their positions."""
    sizes = (sizes or {}) | {"i": queries, "j": keys}
    return Feature("positions", comment, sizes, leads or {}, arrays=arrays or {}, options=options, only=(PAIRS,))


SLOPE = {"alibi_slopes": np.array(0.5)}
SLOPES = {"alibi_slopes": np.array([0.5, 0.125])}
TABLE = {"relative_table": np.arange(-4, 4) / 8}
CACHES = {"k_lengths": np.array([3, 6])}
POSITIONS = [
    placed("causal, as many queries as keys", 4, 4, causal=True),
    placed("causal from the top left", 3, 5, causal=True, align="top_left"),
    placed("causal to the bottom right", 3, 5, causal=True, align="bottom_right"),
    placed("causal to the bottom right, more queries than keys", 5, 3, causal=True, align="bottom_right"),
    placed("causal at an offset of 1", 3, 5, causal=True, align=1),
    placed("causal at an offset of -1", 3, 5, causal=True, align=-1),
    placed("window of one on each side", 5, 5, window=[1, 1]),
    placed("window of the query's own position only", 4, 4, window=[0, 0]),
    placed("window unlimited to the left", 4, 4, window=[None, 1]),
    placed("window unlimited to the right", 4, 4, window=[1, None]),
    placed("window to the bottom right", 3, 7, window=[2, 0], align="bottom_right"),
    placed("causal and window", 5, 5, causal=True, window=[2, 2]),
    placed("decode step: one query behind a cache", 1, 7, causal=True, align="bottom_right"),
    placed("decode step: caches of two lengths", 1, 6, CACHES, BATCH, causal=True, align="bottom_right"),
    placed("ALiBi", 3, 5, SLOPE, align="bottom_right"),
    placed("ALiBi, a slope for each head", 2, 3, SLOPES, {"q": (2,)}, sizes=FEW, align=0),
    placed("relative bias by T5's buckets", 3, 7, TABLE, align=1, relative_max_distance=6),
    placed("relative bias, one-sided", 3, 7, TABLE, align=4, relative_max_distance=6, relative_bidirectional=False),
]


def scored(comment, include=(), **arrays):
    """A row of SCORES: arrays by hand, and the names of those that are drawn."""
    return Feature("scores", comment, include=include, arrays={name: np.asarray(x) for name, x in arrays.items()})


SCORES = [
    scored("a scale", scale=0.375),
    scored("a negative scale", scale=-0.5),
    scored("a scale of zero", scale=0.0),
    scored("a softcap", softcap=1.5),
    scored("a saturated softcap", softcap=0.125, scale=8.0),
    scored("a bias", ("bias",)),
    scored("one row of bias", bias=[[0.5, -1, 0, 1.5, 0.125]]),
    scored("a bias that forbids", bias=[[0.5, -inf, 0, 1.5, -inf]]),
    scored("scale, softcap and bias in their order", ("bias",), scale=0.75, softcap=0.5),
]


def weighted(comment, only=(), arrays=None, **rest):
    """A row of WEIGHTS: normalizers, sinks, dropout."""
    arrays = {name: np.asarray(x) for name, x in (arrays or {}).items()}
    return Feature("weights", comment, arrays=arrays, only=only, **rest)


def normalizers():
    for name in ("softmax_off_by_one", "sparsemax", "entmax15", "sigmoid", "double_softmax"):
        yield weighted(name, options={"normalize": name})
        yield weighted(f"{name} under a mask", arrays=RANDOM, options={"normalize": name})


EMPTY_ROW_WITH_SINK = {"allowed": mask("10110 00000 11101"), "sink": 0.25}
DROPPED = {"dropout": mask("10110 01011 11101")}
DROPPED_ROW = {"dropout": mask("10110 00000 11101")}
WEIGHTS = [
    *normalizers(),
    weighted("a sink", (SOFTMAX,), {"sink": 0.25}),
    weighted("a sink for each head", (SOFTMAX,), {"sink": [0.5, -1.25]}, leads={"q": (2,)}, sizes=FEW),
    weighted("a sink takes all of an empty row", (SOFTMAX,), EMPTY_ROW_WITH_SINK),
    weighted("dropout", (), DROPPED, options={"dropout_p": 0.5}),
    weighted("dropout of a whole row", (), DROPPED_ROW, options={"dropout_p": 0.75}),
]

COTANGENTS = [
    Feature("cotangents", "a cotangent of alpha alone", cotangents=("alpha",)),
    Feature("cotangents", "cotangents of o and alpha", cotangents=("o", "alpha"), arrays=RANDOM),
    Feature("cotangents", "a cotangent of lse alone", cotangents=("lse",), only=(SOFTMAX,)),
    Feature("cotangents", "cotangents of o, alpha and lse", cotangents=("o", "alpha", "lse"), only=(SOFTMAX,)),
]

# 2^-1074 is float64's least subnormal number, 2^-149 float32's; inputs are at most 15/8 ≈ 2^0.9.
NUMBERS = [
    Feature("numbers", "two keys tie for the maximum", change=tied),
    Feature("numbers", "queries of zero", change=scaled(q=0.0)),
    Feature("numbers", "subnormal values", change=scaled(v=2.0**-1071)),
    Feature("numbers", "subnormal queries", change=scaled(q=2.0**-1071)),
    Feature("numbers", "values of huge range", change=scaled(v=2.0**1000)),
    Feature("numbers", "scores in the hundreds: exp overflows unless shifted", change=scaled(q=2.0**9), only=(DOTS,)),
    Feature("numbers", "float32 subnormals in the values", change=scaled(v=2.0**-145)),
]
FEATURES = [*SHAPES, *MASKS, *POSITIONS, *SCORES, *WEIGHTS, *COTANGENTS, *NUMBERS]


@dataclass(frozen=True)
class Case:
    """One call of a rule, its inputs drawn by the generator in `integers`."""

    file: str
    feature: Feature

    @property
    def rule(self):
        return rules[self.file]

    @property
    def name(self):
        return f"{self.file}/{self.feature.comment}"

    def inputs(self):
        sizes, out = SIZES | self.feature.sizes, {}
        for name, argument in self.rule.arguments.items():
            if name in self.feature.arrays:
                out[name] = np.array(self.feature.arrays[name])
            elif not argument.optional or name in self.feature.include:
                shape = tuple(axis.size(sizes) for axis in argument.axes)
                if argument.leading:
                    shape = self.feature.leads.get(name, ()) + shape
                kind = "positive" if argument.positive else argument.kind
                out[name] = draw(f"{self.name}/{name}", shape, kind)
        if self.feature.change is None:
            return out
        return self.feature.change(out)

    def cotangents(self, results):
        return {name: draw(f"{self.name}/d{name}", results[name].shape) for name in self.feature.cotangents}


def cases(file=None):
    """All vectors that are valid, by file and in their order there."""
    for name, rule in rules.items():
        if file in (None, name):
            for feature in FEATURES:
                if feature.fits(rule):
                    yield Case(name, feature)


REFUSED = (
    ("causal with L ≠ S and no alignment", {}, {"causal": True}),
    ("a window with L ≠ S and no alignment", {}, {"window": [1, 1]}),
    ("a negative window", {}, {"window": [-1, 0], "align": 0}),
    ("an alignment that does not exist", {}, {"causal": True, "align": "bottom_left"}),
    ("a softcap of zero", {"softcap": np.array(0.0)}, {}),
    ("a mask of numbers", {"allowed": np.ones((3, 5), np.int64)}, {}),
    ("a mask of the wrong shape", {"allowed": np.ones((5, 3), bool)}, {}),
    ("keys of another width", {"k": np.ones((5, 7))}, {}),
    ("more values than keys", {"v": np.ones((6, 2))}, {}),
    ("integers for queries", {"q": np.ones((3, 3), np.int64)}, {}),
    ("dropout without a probability", {"dropout": np.ones((3, 5), bool)}, {}),
    ("dropout of everything", {"dropout": np.ones((3, 5), bool)}, {"dropout_p": 1.0}),
    ("a normalizer that does not exist", {}, {"normalize": "softmaxx"}),
    ("a sink with sparsemax", {"sink": np.array(0.5)}, {"normalize": "sparsemax"}),
    ("an empty row where that is an error", {"allowed": mask("11111 00000 10101")}, {"empty_row": "raise"}),
    ("segments of the queries alone", {"q_segments": np.array([0, 0, 1])}, {}),
    ("more real keys than keys", {"k_lengths": np.array(6)}, {}),
    ("four query heads over three key heads", {"q": np.ones((4, 3, 3)), "k": np.ones((3, 5, 3))}, {}),
    ("a bias of the wrong shape", {"bias": np.ones((2, 5))}, {}),
    ("uniform empty rows with a sink", {"sink": np.array(0.5)}, {"empty_row": "uniform"}),
)

BOTTOM, WINDOW = {"causal": True, "align": "bottom_right"}, {"window": [20, 4], "align": 40}
LARGE = (
    Feature("large", "48 queries, 64 keys", {"i": 48, "j": 64, "d": 16, "e": 8}, options=BOTTOM),
    Feature("large", "a window over 96 keys", {"i": 24, "j": 96, "d": 8, "e": 12}, options=WINDOW),
    Feature("large", "six heads over two", {"i": 13, "j": 23, "d": 12, "e": 8}, {"q": (6,), "k": (2,), "v": (2,)}),
)
