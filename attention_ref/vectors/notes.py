"""What the flags of the vectors mean: each with a kind of bug, a description and links.

When a flag is true is in `oracle/cases/flags.py`. The order here is that of the flags in the files.
"""

from dataclasses import dataclass

from attention_ref.oracle.cases.flags import TRUE_OF_VECTOR
from attention_ref.vectors.facts import Facts


@dataclass(frozen=True)
class Note:
    bug_type: str
    description: str
    links: tuple[str, ...]

    def json(self) -> dict:
        return {"bugType": self.bug_type, "description": self.description, "links": list(self.links)}


def note(bug_type, description, *links) -> Note:
    return Note(bug_type, description, links)


PYTORCH, MLX = "https://github.com/pytorch/pytorch/issues/", "https://github.com/ml-explore/mlx/issues/"
ONNX, FLASH = "https://github.com/onnx/onnx/issues/", "https://github.com/Dao-AILab/flash-attention/issues/"

# The descriptions stand in the published files, so they stay as they are, word by word.
NOTES = {
    "DeadRow": note(
        "CONVENTION",
        "A query that may attend to no key. Zero, uniform weights and NaN are all found in the wild.",
        f"{PYTORCH}41508",
        f"{PYTORCH}103749",
        f"{MLX}2395",
    ),
    "Mask": note(
        "MASKING",
        "Some pairs are allowed and some are not: polarity and the order of the axes matter.",
        f"{PYTORCH}114083",
    ),
    "NaNBehindMask": note(
        "MASKING",
        "A key or value that no query may see is NaN; masking by multiplication or addition lets it out.",
        f"{PYTORCH}101967",
    ),
    "InfBehindMask": note("MASKING", "The same with an infinity: 0 · ∞ is NaN."),
    "SingleKey": note("EDGE_CASE", "One key: its weight is 1, its score is nothing."),
    "SingleQuery": note("EDGE_CASE", "One query."),
    "EmptyKeys": note("EDGE_CASE", "No keys: o is 0 and lse is −∞."),
    "Rectangular": note("INDEXING", "Queries and keys are not equally many."),
    "Causal": note("MASKING", "No key behind the query's own position."),
    "CausalRectangular": note(
        "ALIGNMENT",
        "Causal with L ≠ S: top-left and bottom-right alignment differ.",
        f"{PYTORCH}108108",
        f"{MLX}2835",
        f"{FLASH}282",
    ),
    "Offset": note("ALIGNMENT", "Queries do not begin at the first key's position."),
    "Window": note("INDEXING", "A sliding window, inclusive on both sides."),
    "WindowEdge": note(
        "INDEXING",
        "Pairs just inside and just outside the window occur: an off-by-one shows.",
        "https://github.com/huggingface/transformers/issues/39408",
    ),
    "GroupedHeads": note("INDEXING", "Query head h reads key head h // r.", f"{ONNX}7274"),
    "MultiQuery": note("INDEXING", "All query heads read one key head."),
    "ValueWidth": note("INDEXING", "Values are not as wide as keys."),
    "Scale": note("ARITHMETIC", "A scale of the caller's."),
    "NegativeScale": note("ARITHMETIC", "Implementations that take the square root of the scale get NaN."),
    "Softcap": note("ARITHMETIC", "softcap · tanh(s / softcap), ahead of a bias.", f"{ONNX}7867"),
    "SoftcapSaturated": note(
        "ARITHMETIC", "Scores far beyond the softcap: the slope is tiny, and 1 − tanh² loses its digits."
    ),
    "Bias": note("ARITHMETIC", "A bias behind scale and softcap."),
    "BiasForbids": note("MASKING", "A bias of −∞ forbids like a mask."),
    "Alibi": note("ARITHMETIC", "A bias in proportion to the distance."),
    "RelativeBias": note("INDEXING", "A bias by T5's buckets of the distance."),
    "Sink": note(
        "ARITHMETIC",
        "A score more in the denominator, which belongs to no key.",
        "https://github.com/NVIDIA/TransformerEngine/issues/3551",
    ),
    "Dropout": note("ARITHMETIC", "A given keep mask; kept weights are scaled by 1/(1−p)."),
    "Lengths": note("MASKING", "Counts of real queries or keys."),
    "Packed": note("MASKING", "Several sequences in one, by segment ids."),
    "Padding": note("MASKING", "A negative segment id attends to nothing and is not attended to."),
    "DecodeStep": note("ALIGNMENT", "One query at the end of a cache of keys."),
    "TiedMaxima": note("EDGE_CASE", "Two allowed keys of a row share its greatest score."),
    "Subnormal": note("ARITHMETIC", "Inputs below float32's normal range, or float64's."),
    "HugeRange": note("ARITHMETIC", "Inputs or scores for which exp or a product overflows."),
    "Normalizer": note("ARITHMETIC", "Another normalizer than softmax."),
    "EmptyRowOption": note("CONVENTION", "Another convention for dead rows is asked for."),
    "LseCotangent": note("GRADIENT", "A cotangent of lse, as ring attention needs.", f"{FLASH}141"),
    "AlphaCotangent": note("GRADIENT", "A cotangent of the weights."),
    "SlipOfThePen": note("CONVENTION", "The rule is a text's slip of the pen, kept as printed."),
    "Invalid": note("VALIDATION", "The call has no meaning and must be refused."),
}


def flags_of(rule, inputs, options, cotangents) -> list[str]:
    """Every flag that is true of a vector, in the order of the notes; Invalid is for calls that are refused."""
    facts = Facts(rule, inputs, options, cotangents)
    return [name for name in NOTES if name != "Invalid" and TRUE_OF_VECTOR[name](facts)]
