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
    """One kind of call: the sizes, what is given besides q, k, v and the rule's parameters, and what is set by hand."""

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


def shapes():
    yield Feature("shapes", "no leading axes, value width unlike key width")
    yield Feature("shapes", "a batch axis", leads=dict.fromkeys(("q", "k", "v"), (2,)), sizes=FEW)
    yield Feature("shapes", "batch and heads", leads=dict.fromkeys(("q", "k", "v"), (2, 2)), sizes=FEW)
    yield Feature("shapes", "a batch of q over one k and v", leads={"q": (2,)}, sizes=FEW)
    yield Feature("shapes", "four query heads share two key heads", leads=GROUPED, sizes=FEW, only=(PAIRS,))
    yield Feature("shapes", "three query heads share one key head", leads=SHARED, sizes=FEW, only=(PAIRS,))
    yield Feature("shapes", "a single key", sizes={"j": 1})
    yield Feature("shapes", "a single query", sizes={"i": 1})
    yield Feature("shapes", "one query, one key", sizes={"i": 1, "j": 1})
    yield Feature("shapes", "more queries than keys", sizes={"i": 7, "j": 2})
    yield Feature("shapes", "no keys at all", sizes={"j": 0})
    yield Feature("shapes", "width one", sizes={"d": 1, "c": 1, "e": 1, "x": 1})


def masks():
    yield Feature("masks", "a random mask", arrays={"allowed": mask("10110 01011 11101")})
    yield Feature("masks", "the same keys for every query", arrays={"allowed": mask("10110")})
    dead = mask("1011 0000 1101")
    yield Feature("masks", "a row with nothing allowed", sizes={"j": 4}, arrays={"allowed": dead}, alternatives=True)
    nothing = np.zeros((3, 4), bool)
    yield Feature("masks", "nothing allowed", sizes={"j": 4}, arrays={"allowed": nothing}, alternatives=True)
    yield Feature("masks", "empty rows are NaN", arrays={"allowed": dead}, sizes={"j": 4}, options={"empty_row": "nan"})
    yield Feature(
        "masks", "empty rows are uniform", arrays={"allowed": dead}, sizes={"j": 4}, options={"empty_row": "uniform"}
    )
    hidden = mask("10110 10011 10101")
    yield Feature("masks", "NaN in a masked value", arrays={"allowed": hidden}, change=edges(v=(1, nan)))
    yield Feature("masks", "infinity in a masked value", arrays={"allowed": hidden}, change=edges(v=(1, inf)))
    yield Feature("masks", "NaN in a masked key", arrays={"allowed": hidden}, change=edges(k=(1, nan)), only=(PAIRS,))
    yield Feature(
        "masks", "lengths of keys", leads={"q": (2,), "k": (2,), "v": (2,)}, arrays={"k_lengths": np.array([5, 3])}
    )
    both = {"q_lengths": np.array([3, 2]), "k_lengths": np.array([2, 5])}
    yield Feature("masks", "lengths of queries and keys", leads={"q": (2,), "k": (2,), "v": (2,)}, arrays=both)
    yield Feature(
        "masks", "a length of zero", arrays={"k_lengths": np.array([0, 4])}, leads={"q": (2,)}, sizes=FEW | {"j": 4}
    )
    ids = {"q_segments": np.array([0, 1, 1]), "k_segments": np.array([0, 0, 1, 1, 2])}
    yield Feature("masks", "packed segments", arrays=ids)
    padded = {"q_segments": np.array([0, 1, -1]), "k_segments": np.array([0, 1, 1, -1, -1])}
    yield Feature("masks", "packed segments with padding", arrays=padded)


def positions():
    def case(comment, sizes=None, arrays=None, leads=None, **options):
        return Feature(
            "positions", comment, sizes or {}, leads or {}, arrays=arrays or {}, options=options, only=(PAIRS,)
        )

    wide, tall = {"i": 3, "j": 5}, {"i": 5, "j": 3}
    yield case("causal, as many queries as keys", {"i": 4, "j": 4}, causal=True)
    yield case("causal from the top left", wide, causal=True, align="top_left")
    yield case("causal to the bottom right", wide, causal=True, align="bottom_right")
    yield case("causal to the bottom right, more queries than keys", tall, causal=True, align="bottom_right")
    yield case("causal at an offset of 1", wide, causal=True, align=1)
    yield case("causal at an offset of -1", wide, causal=True, align=-1)
    yield case("window of one on each side", {"i": 5, "j": 5}, window=[1, 1])
    yield case("window of the query's own position only", {"i": 4, "j": 4}, window=[0, 0])
    yield case("window unlimited to the left", {"i": 4, "j": 4}, window=[None, 1])
    yield case("window unlimited to the right", {"i": 4, "j": 4}, window=[1, None])
    yield case("window to the bottom right", {"i": 3, "j": 7}, window=[2, 0], align="bottom_right")
    yield case("causal and window", {"i": 5, "j": 5}, causal=True, window=[2, 2])
    yield case("decode step: one query behind a cache", {"i": 1, "j": 7}, causal=True, align="bottom_right")
    cache = {"k_lengths": np.array([3, 6])}
    batch = {"q": (2,), "k": (2,), "v": (2,)}
    yield case("decode step: caches of two lengths", {"i": 1, "j": 6}, cache, batch, causal=True, align="bottom_right")
    yield case("ALiBi", wide, {"alibi_slopes": np.array(0.5)}, align="bottom_right")
    yield case("ALiBi, a slope for each head", FEW, {"alibi_slopes": np.array([0.5, 0.125])}, {"q": (2,)}, align=0)
    table = {"relative_table": np.arange(-4, 4) / 8}
    yield case("relative bias by T5's buckets", {"i": 3, "j": 7}, table, align=1, relative_max_distance=6)
    yield case(
        "relative bias, one-sided",
        {"i": 3, "j": 7},
        table,
        align=4,
        relative_max_distance=6,
        relative_bidirectional=False,
    )


def scores():
    def case(comment, include=(), **arrays):
        return Feature("scores", comment, include=include, arrays={name: np.asarray(x) for name, x in arrays.items()})

    yield case("a scale", scale=0.375)
    yield case("a negative scale", scale=-0.5)
    yield case("a scale of zero", scale=0.0)
    yield case("a softcap", softcap=1.5)
    yield case("a saturated softcap", softcap=0.125, scale=8.0)
    yield case("a bias", ("bias",))
    yield case("one row of bias", bias=np.array([[0.5, -1, 0, 1.5, 0.125]]))
    yield case("a bias that forbids", bias=np.array([[0.5, -inf, 0, 1.5, -inf]]))
    yield case("scale, softcap and bias in their order", ("bias",), scale=0.75, softcap=0.5)


def weights():
    def case(comment, only=(), arrays=None, **rest):
        arrays = {name: np.asarray(x) for name, x in (arrays or {}).items()}
        return Feature("weights", comment, arrays=arrays, only=only, **rest)

    some = {"allowed": mask("10110 01011 11101")}
    for name in ("softmax_off_by_one", "sparsemax", "entmax15", "sigmoid", "double_softmax"):
        yield case(name, options={"normalize": name})
        yield case(f"{name} under a mask", arrays=some, options={"normalize": name})
    dead = {"allowed": mask("10110 00000 11101"), "sink": 0.25}
    yield case("a sink", (SOFTMAX,), {"sink": 0.25})
    yield case("a sink for each head", (SOFTMAX,), {"sink": [0.5, -1.25]}, leads={"q": (2,)}, sizes=FEW)
    yield case("a sink takes all of an empty row", (SOFTMAX,), dead)
    dropped = {"dropout": mask("10110 01011 11101")}
    yield case("dropout", (), dropped, options={"dropout_p": 0.5})
    yield case("dropout of a whole row", (), {"dropout": mask("10110 00000 11101")}, options={"dropout_p": 0.75})


def cotangents():
    def case(comment, *given, **rest):
        return Feature("cotangents", comment, cotangents=given, **rest)

    yield case("a cotangent of alpha alone", "alpha")
    yield case("cotangents of o and alpha", "o", "alpha", arrays={"allowed": mask("10110 01011 11101")})
    yield case("a cotangent of lse alone", "lse", only=(SOFTMAX,))
    yield case("cotangents of o, alpha and lse", "o", "alpha", "lse", only=(SOFTMAX,))


def numbers():
    def case(comment, change, only=(), **rest):
        return Feature("numbers", comment, change=change, only=only, **rest)

    yield case("two keys tie for the maximum", tied)
    yield case("queries of zero", scaled(q=0.0))
    yield case("subnormal values", scaled(v=2.0**-1071))
    yield case("subnormal queries", scaled(q=2.0**-1071))
    yield case("values of huge range", scaled(v=2.0**1000))
    yield case("scores in the hundreds: exp overflows unless shifted", scaled(q=2.0**9), (DOTS,))
    yield case("float32 subnormals in the values", scaled(v=2.0**-145))


def features():
    for kind in (shapes, masks, positions, scores, weights, cotangents, numbers):
        yield from kind()


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
                lead = self.feature.leads.get(name, ()) * argument.leading
                shape = lead + tuple(axis.size(sizes) for axis in argument.axes)
                out[name] = draw(f"{self.name}/{name}", shape, "positive" if argument.positive else argument.kind)
        return self.feature.change(out) if self.feature.change else out

    def cotangents(self, results):
        return {name: draw(f"{self.name}/d{name}", results[name].shape) for name in self.feature.cotangents}


def cases(file=None):
    """All vectors that are valid, by file and in their order there."""
    for name, rule in rules.items():
        if file in (None, name):
            for feature in features():
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
