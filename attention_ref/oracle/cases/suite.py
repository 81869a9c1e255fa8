"""The cases. Core runs in seconds; the rest of full adds the grid of shapes, the families and every pair of options."""

from itertools import combinations

from attention_ref.oracle.cases.case import GROUPED, SMALL, TALL, TILED, WIDE, Case, Size
from attention_ref.oracle.cases.stress import layouts, poisons, values


def shapes():
    """Sizes around the tiles of kernels, and far from square."""
    why = {
        (1, 1): "a softmax over one key must give weight 1, not 0/0",
        (1, 67): "decoding: one query against a cache; a kernel that assumes at least a tile of queries",
        (2, 16): "queries below a tile against exactly one tile of keys",
        (15, 15): "one less than a tile: a tail that is loaded whole reads past the end",
        (16, 16): "exactly one tile: a loop that runs one time too often or not at all",
        (17, 17): "one more than a tile: a tail of one row and one key, forgotten or not masked",
        (35, 35): "two tiles and a tail: the rescaling between tiles and the tail together",
        (63, 64): "one query less than a tile of 64, keys exactly one",
        (64, 65): "queries exactly one tile of 64, one key more",
        (65, 63): "queries and keys on either side of 64: the two tails exchanged",
        (131, 67): "several tiles of queries: every tile after the first must start its running maximum anew",
        (3, 131): "far fewer queries than keys: a transposed grid",
        (131, 5): "far fewer keys than queries: gradients of k and v summed over many tiles",
    }
    for (queries, keys), sentence in why.items():
        yield Case(f"shape-{queries}x{keys}", sentence, Size(queries, keys), more=("Shape",))
    widths = {
        (8, 16): "a width below a vector register",
        (40, 80): "widths that are no power of two, values wider than keys: padding that leaks into the sums",
        (64, 128): "values wider than keys: an accumulator sized by the width of q; scale by the wrong width",
        (128, 64): "values narrower than keys: the width of k written where that of v belongs",
        (256, 32): "the widest head: partial sums over the width",
        (1, 1): "a width of one",
    }
    for (width, other), sentence in widths.items():
        yield Case(f"width-{width}x{other}", sentence, Size(17, 19, width, other), more=("Shape",))
    for block in (32, 64, 128):
        for queries in (1, block - 1, block, block + 1, 2 * block + 3):
            for keys in (block - 1, block + 1, 2 * block + 3):
                name = f"block{block}-{queries}x{keys}"
                sentence = f"sizes around a tile of {block}: tails, exact fits and loops one too long"
                yield Case(name, sentence, Size(queries, keys, 32, 40), more=("Shape",), core=False)
    for width in (8, 16, 32, 64, 96, 128, 192, 256):
        sentence = f"a width of {width} in more than one tile"
        yield Case(f"wide-{width}", sentence, Size(131, 67, width, max(8, width // 2)), more=("Shape",), core=False)
    sentence = "long sums: an error that grows with the number of keys shows against a bound that does not"
    yield Case("long-259x1031", sentence, Size(259, 1031, 64, 64, heads=2), more=("Shape",), core=False)


def masks():
    causal, left, right = {"causal": True}, {"align": "top_left"}, {"align": "bottom_right"}
    k, q = {"k_lengths": "@k_lengths"}, {"q_lengths": "@q_lengths"}
    segments = {"q_segments": "@q_segments", "k_segments": "@k_segments"}
    dead = ("DeadRow",)
    yield Case("causal", "the diagonal itself: j < i for j <= i, or a mask that is not there", Size(19, 19), causal)
    yield Case("causal-tiles", "tiles on, above and below the diagonal, skipped or not", Size(67, 67, 32, 17), causal)
    yield Case("causal-top-left", "more keys than queries, aligned at the bottom right instead", WIDE, causal | left)
    why = "more keys than queries, aligned at the top left instead of the bottom right"
    yield Case("causal-bottom-right", why, WIDE, causal | right)
    why = "more queries than keys, aligned at the bottom right instead"
    yield Case("causal-top-left-tall", why, TALL, causal | left)
    why = "more queries than keys: the first rows may attend to nothing and must give 0, not NaN"
    yield Case("causal-bottom-right-tall", why, TALL, causal | right, more=dead)
    why = "one query at the end of the cache sees all of it; aligned at the top left it sees one key"
    yield Case("causal-decode", why, Size(1, 37), causal | right)
    yield Case("causal-offset", "an offset that is neither corner", WIDE, causal | {"align": 4})
    yield Case("causal-offsets", "an offset of its own for each batch entry", WIDE, causal | {"align": "@offsets"})
    why = "counts that do not include the query's own key, or a total width"
    yield Case("window", why, SMALL, window(3, 2, left))
    yield Case(
        "window-self", "a window of the own key only: off by one on either side shows", Size(17, 17), window(0, 0)
    )
    why = "no limit on one side: None taken for 0"
    yield Case("window-left", why, WIDE, window(5, None, right))
    yield Case("window-right", why, WIDE, window(None, 4, left))
    why = "a window below the diagonal: both limits at once, in tiles"
    yield Case("window-causal", why, TILED, causal | window(9, None, right))
    why = "a window that leaves rows without a key"
    yield Case("window-dead-rows", why, Size(41, 17), window(2, 1, left), more=dead)
    yield Case("k-lengths", "lengths taken for the last index, or ignored", WIDE, k)
    yield Case(
        "k-lengths-full", "every length equal to the size: the edge of the count", WIDE, {"k_lengths": "@full_lengths"}
    )
    why = "a sequence of length 0: all of its rows are empty"
    yield Case("k-lengths-zero", why, WIDE, {"k_lengths": "@zero_length"}, more=dead)
    yield Case("q-k-lengths", "padded queries: their rows give 0 and no gradient", WIDE, k | q, more=dead)
    why = "alignment by the real lengths, not by the padded sizes"
    yield Case("causal-lengths", why, WIDE, causal | k | q | right, more=dead)
    yield Case("causal-lengths-top-left", "causal and padding, both", Size(19, 19), causal | k | left)
    yield Case("segments", "packed documents: a query that sees its neighbor's keys", Size(29, 29), segments)
    yield Case(
        "segments-causal",
        "packed and causal: positions count from the start of the row",
        Size(29, 29),
        segments | causal,
    )
    why = "padding keys with segment -1: nobody may attend to them"
    yield Case("segments-padded", why, Size(29, 29), segments | {"k_segments": "@padded_segments"})
    allowed = {
        "half": ("inverted polarity, or a mask of one head used for all", WIDE, ()),
        "one_for_all": ("a mask without batch and head axes", WIDE, ()),
        "padding": ("a mask broadcast over heads and queries", WIDE, ()),
        "dead_rows": ("rows in which nothing is allowed: uniform or NaN instead of 0", WIDE, dead),
        "dead_columns": ("keys that nobody may attend to: their gradients are 0", WIDE, ()),
        "nothing": ("nothing allowed anywhere", SMALL, dead),
        "one_key_each": ("one key for each query: weight 1 on it, whatever its score", WIDE, ()),
        "first_tile_dead": ("a first tile without a key: -inf - -inf in the running maximum", TILED, ()),
        "only_last_key": ("only the last key: a tail that is dropped leaves nothing", Size(17, 33), ()),
        "blocks": ("whole tiles closed, and skipped or not", Size(67, 67, 32, 17), ()),
    }
    for recipe, (sentence, size, flags) in allowed.items():
        yield Case(f"mask-{recipe.replace('_', '-')}", sentence, size, {"allowed": f"@{recipe}"}, more=flags)
    why = "a mask and causal: the two are joined, neither replaces the other"
    yield Case("mask-causal", why, Size(19, 19), causal | {"allowed": "@half"})


def window(left, right, more=None):
    return {"window": (left, right)} | (more or {})


def adjustments():
    causal = {"causal": True}
    dead = ("DeadRow",)
    yield Case("bias", "a bias for every pair; its gradient is ds itself", WIDE, {"bias": "@bias"})
    yield Case(
        "bias-by-head",
        "a bias shared by the batch: its gradient is summed over the batch",
        WIDE,
        {"bias": "@bias_by_head"},
    )
    yield Case(
        "bias-on-keys",
        "a bias along the keys: its gradient is summed over heads and rows",
        WIDE,
        {"bias": "@bias_on_keys"},
    )
    yield Case(
        "bias-on-rows", "a bias constant along rows changes lse and nothing else", WIDE, {"bias": "@bias_on_rows"}
    )
    why = "a bias of -inf masks, and is no 0 * inf in the gradient"
    yield Case("bias-minus-inf", why, WIDE, {"bias": "@bias_with_holes"})
    why = "rows with nothing but -inf: empty, as under a mask"
    yield Case("bias-dead-rows", why, WIDE, {"bias": "@bias_with_dead_rows"}, more=dead)
    why = "-10000 is a number: a row of nothing else is not empty"
    yield Case("bias-minus-1e4", why, WIDE, {"bias": "@bias_of_minus_1e4"})
    why = "slopes per head, distances along the diagonal"
    yield Case("alibi", why, Size(19, 19), {"alibi_slopes": "@slopes"})
    why = "distance from the query's own position, which the alignment decides"
    yield Case("alibi-bottom-right", why, WIDE, causal | {"alibi_slopes": "@slopes", "align": "bottom_right"})
    why = "buckets of relative positions, and a gradient gathered by bucket"
    yield Case("relative", why, Size(19, 19), {"relative_table": "@relative_table"})
    why = "relative positions in fewer buckets, on one side: a bucket counted on both, or another maximal distance"
    one_sided = {"relative_bidirectional": False, "relative_max_distance": 40}
    yield Case("relative-one-sided", why, Size(19, 19), {"relative_table": "@relative_table"} | one_sided)
    yield Case("scale", "a scale that is given replaces 1/sqrt(d), it does not come on top", WIDE, {"scale": 0.375})
    yield Case("scale-one", "a scale of 1 taken for 'not given'", WIDE, {"scale": 1.0})
    why = "a negative scale: the largest score is the smallest product"
    yield Case("scale-negative", why, WIDE, {"scale": -0.25})
    why = "a scale of its own for each head, as learned temperatures are"
    yield Case("scale-by-head", why, WIDE, {"scale": "@scale_by_head"})
    yield Case("softcap", "cap * tanh(s / cap), not tanh(s) * cap; its slope in the backward", WIDE, {"softcap": 2.5})
    yield Case(
        "softcap-large",
        "a cap that hardly bends: left out, it can be seen at all",
        WIDE,
        {"softcap": 30.0, "scale": 2.0},
    )
    why = "the cap before the mask: after it, -inf becomes -cap and every key is allowed"
    yield Case("softcap-mask", why, WIDE, {"softcap": 2.5, "allowed": "@half"})
    why = "the cap before the bias"
    yield Case("softcap-bias", why, WIDE, {"softcap": 2.5, "bias": "@bias"})
    yield Case("sink", "a sink takes weight from every row, and has a gradient", WIDE, {"sink": "@sink"})
    why = "a sink far above every score: the maximum must include it"
    yield Case("sink-strong", why, WIDE, {"sink": "@strong_sink"})
    why = "an empty row with a sink: lse is the sink, the output 0"
    yield Case("sink-dead-rows", why, WIDE, {"sink": "@sink", "allowed": "@dead_rows"}, more=dead)
    yield Case("sink-causal", "a sink in every tile's normalizer, once", Size(37, 37), causal | {"sink": "@sink"})
    yield Case(
        "dropout", "kept weights scaled by 1/(1-p), and D from the dropped weights", WIDE, {"dropout": "@dropout"}
    )
    why = "rows that lose every key are 0, not renormalized"
    yield Case("dropout-heavy", why, WIDE, {"dropout": "@heavy_dropout"})
    yield Case("dropout-mask", "dropout and a mask", WIDE, {"dropout": "@dropout", "allowed": "@half"})
    why = "rows with nothing allowed, NaN on request"
    yield Case("empty-row-nan", why, WIDE, {"allowed": "@dead_rows", "empty_row": "nan"}, more=dead, backward=False)

    why = "rows with nothing allowed: the mean of all values, on request"
    yield Case("empty-row-uniform", why, WIDE, {"allowed": "@dead_rows", "empty_row": "uniform"}, more=dead)
    why = "one more in the normalizer than the keys give"
    yield Case("normalize-off-by-one", why, WIDE, {"normalize": "softmax_off_by_one"})
    yield Case("normalize-sigmoid", "every weight by itself, no sum", WIDE, {"normalize": "sigmoid"})


def heads():
    causal, mask = {"causal": True}, {"allowed": "@half"}
    yield Case("gqa", "query head h reads key head h // r, not h % g; gradients summed over the group", GROUPED)
    yield Case(
        "gqa-3",
        "three groups of two: the group's size and the number of groups exchanged",
        Size(13, 19, heads=6, groups=3),
    )
    yield Case("mqa", "one key head for all: a gradient summed over every head", Size(13, 19, heads=5, groups=1))
    yield Case(
        "gqa-causal",
        "grouped heads folded into the rows: the mask must fold along",
        Size(19, 19, heads=6, groups=2),
        causal,
    )
    yield Case("gqa-mask", "a mask by query head, keys by group", GROUPED, mask)
    yield Case("gqa-bias", "a bias by query head", GROUPED, {"bias": "@bias_by_head"})
    yield Case("gqa-sink", "a sink by query head", GROUPED, {"sink": "@sink"})
    yield Case("gqa-alibi", "slopes by query head", Size(19, 19, heads=6, groups=2), {"alibi_slopes": "@slopes"})
    yield Case("gqa-dropout", "a keep mask by query head", GROUPED, {"dropout": "@dropout"})
    yield Case("gqa-decode", "one query, grouped heads", Size(1, 37, heads=8, groups=2))
    yield Case("many-heads", "more heads than rows: heads and rows exchanged", Size(3, 5, heads=13), more=("Heads",))
    yield Case("one-head", "a single head", Size(13, 19, heads=1), more=("Heads",))
    yield Case("large-batch", "more batch entries than anything else", Size(3, 5, batch=17, heads=2), more=("Heads",))


def pairs():
    """Every pair of options: the order of two stages, or a path in which one of them is forgotten."""
    size = Size(19, 19, heads=4)
    single: dict[str, dict] = {
        "allowed": {"allowed": "@half"},
        "causal": {"causal": True},
        "window": {"window": (5, 3)},
        "lengths": {"k_lengths": "@k_lengths", "align": "top_left"},
        "segments": {"q_segments": "@q_segments", "k_segments": "@k_segments"},
        "bias": {"bias": "@bias"},
        "alibi": {"alibi_slopes": "@slopes"},
        "relative": {"relative_table": "@relative_table"},
        "scale": {"scale": 0.375},
        "softcap": {"softcap": 2.5},
        "sink": {"sink": "@sink"},
        "dropout": {"dropout": "@dropout"},
    }
    dead = {("allowed", "lengths"), ("window", "lengths"), ("lengths", "segments")}
    for (one, first), (other, second) in combinations(single.items(), 2):
        flags = ("Pair", *("DeadRow",) * ((one, other) in dead))
        why = f"{one} and {other} at once: the order of the two, or a path that forgets one"
        yield Case(f"pair-{one}-{other}", why, size, first | second, more=flags, core=False)
        grouped = Size(19, 19, heads=4, groups=2)
        why = f"{one} and {other} with grouped heads"
        yield Case(f"gqa-{one}-{other}", why, grouped, first | second, more=flags, core=False)


ROOMS = (shapes, masks, adjustments, heads, values, layouts, poisons, pairs)
CASES = {case.name: case for room in ROOMS for case in room()}
