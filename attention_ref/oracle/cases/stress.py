"""The cases that are about the arrays and not the options: families of values, layouts in memory, poison."""

import numpy as np

from attention_ref.oracle.cases.case import GROUPED, TILED, WIDE, Case, Size


def values():
    why = {
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
    for name, sentence in why.items():
        yield Case(f"values-{name.replace('_', '-')}", sentence, TILED, values=name)
        causal = {"causal": True, "align": "bottom_right"}
        full = f"{sentence}; causal"
        yield Case(
            f"causal-{name.replace('_', '-')}", full, TILED, causal, values=name, core=name in ("peaked", "last_key")
        )
        if name == "last_key":
            yield Case("long-rising", f"{sentence}; past key 128", Size(5, 163), values=name)
        large = Size(131, 259, 64, 64)
        yield Case(f"large-{name.replace('_', '-')}", f"{sentence}; in many tiles", large, values=name, core=False)


def layouts():
    why = {
        "strided": "every other element of a wider array: strides taken for 1",
        "transposed": "the last two axes swapped in memory",
        "heads_inside": "BLHD in memory seen as BHLD: a kernel that trusts the order in memory",
        "backwards": "a negative stride",
        "offset": "the inside of a larger array: no alignment, padded strides",
        "read_only": "arrays that may not be written to",
    }
    for name, sentence in why.items():
        yield Case(f"layout-{name.replace('_', '-')}", sentence, WIDE, layout=name)
        grouped = f"{sentence}; grouped heads"
        yield Case(f"gqa-layout-{name.replace('_', '-')}", grouped, GROUPED, layout=name, core=False)
    yield Case("shared-k", "keys without a batch axis: their gradient is summed over the batch", WIDE, shared=("k",))
    no_batch = "values without a batch axis: their gradient is summed over the batch"
    yield Case("shared-v", no_batch, WIDE, shared=("v",))
    yield Case("shared-kv", "keys and values shared by the batch", WIDE, shared=("k", "v"))
    yield Case("no-batch", "heads, but no batch axis", Size(13, 19, axes=1))
    yield Case("no-batch-no-head", "two axes only: (rows, width)", Size(13, 19, axes=0))
    causal = {"causal": True}
    yield Case("no-batch-causal", "two axes only, causal", Size(19, 19, axes=0), causal)


def poisons():
    """NaN, infinity and 1e3 wherever nobody may look."""
    segments = {"q_segments": "@q_segments", "k_segments": "@padded_segments"}
    closed: dict[str, tuple] = {
        "mask": (WIDE, {"allowed": "@dead_columns"}, "a mask that multiplies or adds lets it through"),
        "padding": (WIDE, {"allowed": "@padding"}, "padding is not zero in practice"),
        "dead-rows": (WIDE, {"allowed": "@dead_rows"}, "queries that may attend to nothing give 0 whatever they hold"),
        "causal": (WIDE, {"causal": True, "align": "top_left"}, "the keys beyond the last query"),
        "window": (Size(11, 29), {"window": (2, 1), "align": "top_left"}, "keys outside of every window"),
        "lengths": (WIDE, {"k_lengths": "@k_lengths", "q_lengths": "@q_lengths"}, "rows behind the lengths"),
        "segments": (Size(29, 29), segments, "padding keys of a packed row"),
        "bias": (WIDE, {"allowed": "@dead_columns", "bias": "@bias"}, "a bias where the mask is closed"),
        "gqa": (GROUPED, {"allowed": "@padding"}, "grouped heads behind a padding mask"),
    }
    for kind, poison in (("nan", np.nan), ("inf", np.inf), ("1e3", 1e3)):
        for name, (size, options, sentence) in closed.items():
            core = kind == "nan" or name in ("mask", "lengths")
            why = f"{kind} behind a mask must not reach an output or a gradient: {sentence}"
            dead = ("DeadRow",) * (name in ("dead-rows", "lengths"))
            yield Case(f"poison-{kind}-{name}", why, size, options, poison=poison, more=dead, core=core)
