"""The cases. Core runs in seconds; the rest of full adds the grid of shapes, the families and every pair of options.

Each row of a table is a case: its name, its size, its options as in a call of `ar.attention`, and the bug it catches.
An option that starts with "@" is drawn by the recipe of that name in `option_values.py`.
"""

from itertools import combinations

from attention_ref.oracle.cases.case import GROUPED, PACKED, SMALL, SQUARE, TALL, TILED, WIDE, Size, case
from attention_ref.oracle.cases.stress import LAYOUTS, POISONS, VALUES


def shape(queries, keys, catches):
    return case(f"shape-{queries}x{keys}", Size(queries, keys), catches=catches, flags=("Shape",))


def width(of_keys, of_values, catches):
    size = Size(17, 19, of_keys, of_values)
    return case(f"width-{of_keys}x{of_values}", size, catches=catches, flags=("Shape",))


# Around the tiles of kernels, and far from square.
SHAPES = [
    shape(1, 1, "a softmax over one key must give weight 1, not 0/0"),
    shape(1, 67, "decoding: one query against a cache; a kernel that assumes at least a tile of queries"),
    shape(2, 16, "queries below a tile against exactly one tile of keys"),
    shape(15, 15, "one less than a tile: a tail that is loaded whole reads past the end"),
    shape(16, 16, "exactly one tile: a loop that runs one time too often or not at all"),
    shape(17, 17, "one more than a tile: a tail of one row and one key, forgotten or not masked"),
    shape(35, 35, "two tiles and a tail: the rescaling between tiles and the tail together"),
    shape(63, 64, "one query less than a tile of 64, keys exactly one"),
    shape(64, 65, "queries exactly one tile of 64, one key more"),
    shape(65, 63, "queries and keys on either side of 64: the two tails exchanged"),
    shape(131, 67, "several tiles of queries: every tile after the first must start its running maximum anew"),
    shape(3, 131, "far fewer queries than keys: a transposed grid"),
    shape(131, 5, "far fewer keys than queries: gradients of k and v summed over many tiles"),
    width(8, 16, "a width below a vector register"),
    width(40, 80, "widths that are no power of two, values wider than keys: padding that leaks into the sums"),
    width(64, 128, "values wider than keys: an accumulator sized by the width of q; scale by the wrong width"),
    width(128, 64, "values narrower than keys: the width of k written where that of v belongs"),
    width(256, 32, "the widest head: partial sums over the width"),
    width(1, 1, "a width of one"),
]

# Two lines a case, which the formatter would make three to ten: the call, and below it what it catches.
# fmt: off
MASKS = [
    case("causal", SQUARE, causal=True,
         catches="the diagonal itself: j < i for j <= i, or a mask that is not there"),
    case("causal-tiles", Size(67, 67, 32, 17), causal=True,
         catches="tiles on, above and below the diagonal, skipped or not"),
    case("causal-top-left", WIDE, causal=True, align="top_left",
         catches="more keys than queries, aligned at the bottom right instead"),
    case("causal-bottom-right", WIDE, causal=True, align="bottom_right",
         catches="more keys than queries, aligned at the top left instead of the bottom right"),
    case("causal-top-left-tall", TALL, causal=True, align="top_left",
         catches="more queries than keys, aligned at the bottom right instead"),
    case("causal-bottom-right-tall", TALL, causal=True, align="bottom_right", flags=("DeadRow",),
         catches="more queries than keys: the first rows may attend to nothing and must give 0, not NaN"),
    case("causal-decode", Size(1, 37), causal=True, align="bottom_right",
         catches="one query at the end of the cache sees all of it; aligned at the top left it sees one key"),
    case("causal-offset", WIDE, causal=True, align=4,
         catches="an offset that is neither corner"),
    case("causal-offsets", WIDE, causal=True, align="@offsets",
         catches="an offset of its own for each batch entry"),
    case("window", SMALL, window=(3, 2), align="top_left",
         catches="counts that do not include the query's own key, or a total width"),
    case("window-self", Size(17, 17), window=(0, 0),
         catches="a window of the own key only: off by one on either side shows"),
    case("window-left", WIDE, window=(5, None), align="bottom_right",
         catches="no limit on one side: None taken for 0"),
    case("window-right", WIDE, window=(None, 4), align="top_left",
         catches="no limit on one side: None taken for 0"),
    case("window-causal", TILED, causal=True, window=(9, None), align="bottom_right",
         catches="a window below the diagonal: both limits at once, in tiles"),
    case("window-dead-rows", Size(41, 17), window=(2, 1), align="top_left", flags=("DeadRow",),
         catches="a window that leaves rows without a key"),
    case("k-lengths", WIDE, k_lengths="@k_lengths",
         catches="lengths taken for the last index, or ignored"),
    case("k-lengths-full", WIDE, k_lengths="@full_lengths",
         catches="every length equal to the size: the edge of the count"),
    case("k-lengths-zero", WIDE, k_lengths="@zero_length", flags=("DeadRow",),
         catches="a sequence of length 0: all of its rows are empty"),
    case("q-k-lengths", WIDE, k_lengths="@k_lengths", q_lengths="@q_lengths", flags=("DeadRow",),
         catches="padded queries: their rows give 0 and no gradient"),
    case("causal-lengths", WIDE, causal=True, k_lengths="@k_lengths", q_lengths="@q_lengths", align="bottom_right",
         flags=("DeadRow",),
         catches="alignment by the real lengths, not by the padded sizes"),
    case("causal-lengths-top-left", SQUARE, causal=True, k_lengths="@k_lengths", align="top_left",
         catches="causal and padding, both"),
    case("segments", PACKED, q_segments="@q_segments", k_segments="@k_segments",
         catches="packed documents: a query that sees its neighbor's keys"),
    case("segments-causal", PACKED, q_segments="@q_segments", k_segments="@k_segments", causal=True,
         catches="packed and causal: positions count from the start of the row"),
    case("segments-padded", PACKED, q_segments="@q_segments", k_segments="@padded_segments",
         catches="padding keys with segment -1: nobody may attend to them"),
    case("mask-half", WIDE, allowed="@half",
         catches="inverted polarity, or a mask of one head used for all"),
    case("mask-one-for-all", WIDE, allowed="@one_for_all",
         catches="a mask without batch and head axes"),
    case("mask-padding", WIDE, allowed="@padding",
         catches="a mask broadcast over heads and queries"),
    case("mask-dead-rows", WIDE, allowed="@dead_rows", flags=("DeadRow",),
         catches="rows in which nothing is allowed: uniform or NaN instead of 0"),
    case("mask-dead-columns", WIDE, allowed="@dead_columns",
         catches="keys that nobody may attend to: their gradients are 0"),
    case("mask-nothing", SMALL, allowed="@nothing", flags=("DeadRow",),
         catches="nothing allowed anywhere"),
    case("mask-one-key-each", WIDE, allowed="@one_key_each",
         catches="one key for each query: weight 1 on it, whatever its score"),
    case("mask-first-tile-dead", TILED, allowed="@first_tile_dead",
         catches="a first tile without a key: -inf - -inf in the running maximum"),
    case("mask-only-last-key", Size(17, 33), allowed="@only_last_key",
         catches="only the last key: a tail that is dropped leaves nothing"),
    case("mask-blocks", Size(67, 67, 32, 17), allowed="@blocks",
         catches="whole tiles closed, and skipped or not"),
    case("mask-causal", SQUARE, causal=True, allowed="@half",
         catches="a mask and causal: the two are joined, neither replaces the other"),
]

ADJUSTMENTS = [
    case("bias", WIDE, bias="@bias",
         catches="a bias for every pair; its gradient is ds itself"),
    case("bias-by-head", WIDE, bias="@bias_by_head",
         catches="a bias shared by the batch: its gradient is summed over the batch"),
    case("bias-on-keys", WIDE, bias="@bias_on_keys",
         catches="a bias along the keys: its gradient is summed over heads and rows"),
    case("bias-on-rows", WIDE, bias="@bias_on_rows",
         catches="a bias constant along rows changes lse and nothing else"),
    case("bias-minus-inf", WIDE, bias="@bias_with_holes",
         catches="a bias of -inf masks, and is no 0 * inf in the gradient"),
    case("bias-dead-rows", WIDE, bias="@bias_with_dead_rows", flags=("DeadRow",),
         catches="rows with nothing but -inf: empty, as under a mask"),
    case("bias-minus-1e4", WIDE, bias="@bias_of_minus_1e4",
         catches="-10000 is a number: a row of nothing else is not empty"),
    case("alibi", SQUARE, alibi_slopes="@slopes",
         catches="slopes per head, distances along the diagonal"),
    case("alibi-bottom-right", WIDE, causal=True, alibi_slopes="@slopes", align="bottom_right",
         catches="distance from the query's own position, which the alignment decides"),
    case("relative", SQUARE, relative_table="@relative_table",
         catches="buckets of relative positions, and a gradient gathered by bucket"),
    case("relative-one-sided", SQUARE, relative_table="@relative_table", relative_bidirectional=False,
         relative_max_distance=40,
         catches="relative positions in fewer buckets, on one side: a bucket counted on both, "
                 "or another maximal distance"),
    case("scale", WIDE, scale=0.375,
         catches="a scale that is given replaces 1/sqrt(d), it does not come on top"),
    case("scale-one", WIDE, scale=1.0,
         catches="a scale of 1 taken for 'not given'"),
    case("scale-negative", WIDE, scale=-0.25,
         catches="a negative scale: the largest score is the smallest product"),
    case("scale-by-head", WIDE, scale="@scale_by_head",
         catches="a scale of its own for each head, as learned temperatures are"),
    case("softcap", WIDE, softcap=2.5,
         catches="cap * tanh(s / cap), not tanh(s) * cap; its slope in the backward"),
    case("softcap-large", WIDE, softcap=30.0, scale=2.0,
         catches="a cap that hardly bends: left out, it can be seen at all"),
    case("softcap-mask", WIDE, softcap=2.5, allowed="@half",
         catches="the cap before the mask: after it, -inf becomes -cap and every key is allowed"),
    case("softcap-bias", WIDE, softcap=2.5, bias="@bias",
         catches="the cap before the bias"),
    case("sink", WIDE, sink="@sink",
         catches="a sink takes weight from every row, and has a gradient"),
    case("sink-strong", WIDE, sink="@strong_sink",
         catches="a sink far above every score: the maximum must include it"),
    case("sink-dead-rows", WIDE, sink="@sink", allowed="@dead_rows", flags=("DeadRow",),
         catches="an empty row with a sink: lse is the sink, the output 0"),
    case("sink-causal", Size(37, 37), causal=True, sink="@sink",
         catches="a sink in every tile's normalizer, once"),
    case("dropout", WIDE, dropout="@dropout",
         catches="kept weights scaled by 1/(1-p), and D from the dropped weights"),
    case("dropout-heavy", WIDE, dropout="@heavy_dropout",
         catches="rows that lose every key are 0, not renormalized"),
    case("dropout-mask", WIDE, dropout="@dropout", allowed="@half",
         catches="dropout and a mask"),
    case("empty-row-nan", WIDE, allowed="@dead_rows", empty_row="nan", flags=("DeadRow",), backward=False,
         catches="rows with nothing allowed, NaN on request"),
    case("empty-row-uniform", WIDE, allowed="@dead_rows", empty_row="uniform", flags=("DeadRow",),
         catches="rows with nothing allowed: the mean of all values, on request"),
    case("normalize-off-by-one", WIDE, normalize="softmax_off_by_one",
         catches="one more in the normalizer than the keys give"),
    case("normalize-sigmoid", WIDE, normalize="sigmoid",
         catches="every weight by itself, no sum"),
]

HEADS = [
    case("gqa", GROUPED,
         catches="query head h reads key head h // r, not h % g; gradients summed over the group"),
    case("gqa-3", Size(13, 19, heads=6, groups=3),
         catches="three groups of two: the group's size and the number of groups exchanged"),
    case("mqa", Size(13, 19, heads=5, groups=1),
         catches="one key head for all: a gradient summed over every head"),
    case("gqa-causal", Size(19, 19, heads=6, groups=2), causal=True,
         catches="grouped heads folded into the rows: the mask must fold along"),
    case("gqa-mask", GROUPED, allowed="@half",
         catches="a mask by query head, keys by group"),
    case("gqa-bias", GROUPED, bias="@bias_by_head",
         catches="a bias by query head"),
    case("gqa-sink", GROUPED, sink="@sink",
         catches="a sink by query head"),
    case("gqa-alibi", Size(19, 19, heads=6, groups=2), alibi_slopes="@slopes",
         catches="slopes by query head"),
    case("gqa-dropout", GROUPED, dropout="@dropout",
         catches="a keep mask by query head"),
    case("gqa-decode", Size(1, 37, heads=8, groups=2),
         catches="one query, grouped heads"),
    case("many-heads", Size(3, 5, heads=13), flags=("Heads",),
         catches="more heads than rows: heads and rows exchanged"),
    case("one-head", Size(13, 19, heads=1), flags=("Heads",),
         catches="a single head"),
    case("large-batch", Size(3, 5, batch=17, heads=2), flags=("Heads",),
         catches="more batch entries than anything else"),
]
# fmt: on


def grid():
    """Sizes around tiles of 32, 64 and 128, widths in more than one tile, and long sums."""
    for block in (32, 64, 128):
        for queries in (1, block - 1, block, block + 1, 2 * block + 3):
            for keys in (block - 1, block + 1, 2 * block + 3):
                yield case(
                    f"block{block}-{queries}x{keys}",
                    Size(queries, keys, 32, 40),
                    catches=f"sizes around a tile of {block}: tails, exact fits and loops one too long",
                    flags=("Shape",),
                    core=False,
                )
    for of_keys in (8, 16, 32, 64, 96, 128, 192, 256):
        size = Size(131, 67, of_keys, max(8, of_keys // 2))
        catches = f"a width of {of_keys} in more than one tile"
        yield case(f"wide-{of_keys}", size, catches=catches, flags=("Shape",), core=False)
    catches = "long sums: an error that grows with the number of keys shows against a bound that does not"
    yield case("long-259x1031", Size(259, 1031, 64, 64, heads=2), catches=catches, flags=("Shape",), core=False)


# One value of each option, to be combined with every other.
SINGLE: dict[str, dict] = {
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
PAIRS_WITH_EMPTY_ROWS = {("allowed", "lengths"), ("window", "lengths"), ("lengths", "segments")}


def pairs():
    """Every pair of options: the order of two stages, or a path in which one of them is forgotten."""
    size, grouped = Size(19, 19, heads=4), Size(19, 19, heads=4, groups=2)
    for one, other in combinations(SINGLE, 2):
        options = SINGLE[one] | SINGLE[other]
        flags = ["Pair"]
        if (one, other) in PAIRS_WITH_EMPTY_ROWS:
            flags.append("DeadRow")
        catches = f"{one} and {other} at once: the order of the two, or a path that forgets one"
        yield case(f"pair-{one}-{other}", size, catches=catches, flags=flags, core=False, **options)
        catches = f"{one} and {other} with grouped heads"
        yield case(f"gqa-{one}-{other}", grouped, catches=catches, flags=flags, core=False, **options)


TABLES = (SHAPES, list(grid()), MASKS, ADJUSTMENTS, HEADS, VALUES, LAYOUTS, POISONS, list(pairs()))
CASES = {row.name: row for table in TABLES for row in table}
