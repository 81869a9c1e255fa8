"""The cases that are about the arrays and not the options: families of values, layouts in memory, poison."""

from dataclasses import replace

import numpy as np

from attention_ref.oracle.cases.case import GROUPED, PACKED, TILED, WIDE, Size, case

# What each family of `value_families.py` brings out.
FAMILIES = {
    "peaked": "nearly all weight on one key: errors of exp and of D that Gaussian inputs do not show",
    "tied": "equal maxima and constant rows",
    "cancelling": "sums that cancel: an accumulator that is too narrow",
    "huge": "scores in the thousands: a missing maximum overflows",
    "tiny": "numbers near the bottom of float16: flushed, or lost in an epsilon",
    "shifted": "keys with a common offset: differences of large scores",
    "correlated": "rows as real activations have them, a few loud channels",
    "integers": "numbers exact in every format: what differs is no rounding of the inputs",
    "first_key": "falling scores: an online softmax that never rescales",
    "last_key": "rising scores: an online softmax rescales in every tile; a missing rescale shows",
    "one_hot_values": "values that show the weights themselves",
    "wild_values": "values of very different sizes",
}


def families():
    """Each family with every key visible, causal, and in many tiles."""
    for family, shows in FAMILIES.items():
        name = family.replace("_", "-")
        yield case(f"values-{name}", TILED, values=family, catches=shows)
        yield case(
            f"causal-{name}",
            TILED,
            causal=True,
            align="bottom_right",
            values=family,
            catches=f"{shows}; causal",
            core=family in ("peaked", "last_key"),
        )
        if family == "last_key":
            yield case("long-rising", Size(5, 163), values=family, catches=f"{shows}; past key 128")
        large = Size(131, 259, 64, 64)
        yield case(f"large-{name}", large, values=family, catches=f"{shows}; in many tiles", core=False)


# What each layout of `layouts.py` brings out.
IN_MEMORY = {
    "strided": "every other element of a wider array: strides taken for 1",
    "transposed": "the last two axes swapped in memory",
    "heads_inside": "BLHD in memory seen as BHLD: a kernel that trusts the order in memory",
    "backwards": "a negative stride",
    "offset": "the inside of a larger array: no alignment, padded strides",
    "read_only": "arrays that may not be written to",
}


def in_memory():
    """Each layout with equally many heads and with grouped ones."""
    for layout, shows in IN_MEMORY.items():
        name = layout.replace("_", "-")
        yield case(f"layout-{name}", WIDE, layout=layout, catches=shows)
        yield case(f"gqa-layout-{name}", GROUPED, layout=layout, catches=f"{shows}; grouped heads", core=False)


# Two lines a row, as in `suite.py`.
# fmt: off
WITHOUT_BATCH = [
    case("shared-k", WIDE, shared=("k",),
         catches="keys without a batch axis: their gradient is summed over the batch"),
    case("shared-v", WIDE, shared=("v",),
         catches="values without a batch axis: their gradient is summed over the batch"),
    case("shared-kv", WIDE, shared=("k", "v"),
         catches="keys and values shared by the batch"),
    case("no-batch", Size(13, 19, axes=1),
         catches="heads, but no batch axis"),
    case("no-batch-no-head", Size(13, 19, axes=0),
         catches="two axes only: (rows, width)"),
    case("no-batch-causal", Size(19, 19, axes=0), causal=True,
         catches="two axes only, causal"),
]
# fmt: on

# NaN, an infinity and a large number are written wherever nobody may look.
POISON = {"nan": np.nan, "inf": np.inf, "1e3": 1e3}


# fmt: off
HIDDEN = [
    case("mask", WIDE, allowed="@dead_columns",
         catches="a mask that multiplies or adds lets it through"),
    case("padding", WIDE, allowed="@padding",
         catches="padding is not zero in practice"),
    case("dead-rows", WIDE, allowed="@dead_rows", flags=("DeadRow",),
         catches="queries that may attend to nothing give 0 whatever they hold"),
    case("causal", WIDE, causal=True, align="top_left",
         catches="the keys beyond the last query"),
    case("window", Size(11, 29), window=(2, 1), align="top_left",
         catches="keys outside of every window"),
    case("lengths", WIDE, k_lengths="@k_lengths", q_lengths="@q_lengths", flags=("DeadRow",),
         catches="rows after the lengths"),
    case("segments", PACKED, q_segments="@q_segments", k_segments="@padded_segments",
         catches="padding keys of a packed row"),
    case("bias", WIDE, allowed="@dead_columns", bias="@bias",
         catches="a bias where the mask is closed"),
    case("gqa", GROUPED, allowed="@padding",
         catches="grouped heads under a padding mask"),
]
# fmt: on


def poisons():
    for kind, poison in POISON.items():
        for row in HIDDEN:
            yield replace(
                row,
                name=f"poison-{kind}-{row.name}",
                why=f"{kind} under a mask must not reach an output or a gradient: {row.why}",
                poison=poison,
                core=kind == "nan" or row.name in ("mask", "lengths"),
            )


VALUES = list(families())
LAYOUTS = [*in_memory(), *WITHOUT_BATCH]
POISONS = list(poisons())
