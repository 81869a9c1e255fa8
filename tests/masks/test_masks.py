"""Every mask against a loop over positions, in plain Python."""

import numpy as np
import pytest

from attention_ref import masks
from attention_ref.errors import OptionError, ShapeError
from attention_ref.masks.positions import relative, resolve_offset

QUERIES, KEYS = 7, 11
OFFSET = np.array([[0], [4], [-3]])
Q_LENGTHS, K_LENGTHS = np.array([[7], [5], [0]]), np.array([[2, 11]])
Q_IDS = np.array([[[0, 0, 1, 1, 2, -1, -1]], [[3, 3, 3, 3, 3, 0, 0]], [[5, 4, 4, 2, 2, 2, 7]]])
K_IDS = np.array([[[0, 1, 1, 1, 1, 1, 2, 2, -1, -1, -1]], [[3] * 11], [[5, 4, 4, 2, 2, 2, 7, 7, 7, 7, -2]]])
ARRAY = np.random.default_rng(0).random((3, 2, QUERIES, KEYS)) < 0.5

KINDS = {
    "causal": (masks.causal(), lambda b, h, i, j, p: j <= p),
    "window": (masks.window(2, 1), lambda b, h, i, j, p: p - 2 <= j <= p + 1),
    "window left": (masks.window(left=3), lambda b, h, i, j, p: p - 3 <= j),
    "window right": (masks.window(right=0), lambda b, h, i, j, p: j <= p),
    "window open": (masks.window(), lambda b, h, i, j, p: True),
    "lengths": (
        masks.lengths(Q_LENGTHS, K_LENGTHS),
        lambda b, h, i, j, p: i < Q_LENGTHS[b, 0] and j < K_LENGTHS[0, h],
    ),
    "lengths of keys": (masks.lengths(k_lengths=4), lambda b, h, i, j, p: j < 4),
    "lengths of few queries": (masks.lengths(q_lengths=3), lambda b, h, i, j, p: i < 3),
    "lengths of queries": (masks.lengths(q_lengths=Q_LENGTHS), lambda b, h, i, j, p: i < Q_LENGTHS[b, 0]),
    "lengths of nothing": (masks.lengths(), lambda b, h, i, j, p: True),
    "segments": (
        masks.segments(Q_IDS, K_IDS),
        lambda b, h, i, j, p: Q_IDS[b, 0, i] == K_IDS[b, 0, j] and Q_IDS[b, 0, i] >= 0,
    ),
    "prefix": (masks.prefix(Q_LENGTHS), lambda b, h, i, j, p: j < Q_LENGTHS[b, 0] or j <= p),
    "documents": (
        masks.documents([2, 0, 5], [1, 7, 3]),
        lambda b, h, i, j, p: (0 if i < 2 else 2) == (0 if j < 1 else 1 if j < 8 else 2),
    ),
    "blocks": (
        masks.blocks(3),
        lambda b, h, i, j, p: any(3 * n <= x < 3 * n + 3 for n in range(-9, 9) for x in [p] if 3 * n <= j < 3 * n + 3),
    ),
    "dilated": (masks.dilated(3), lambda b, h, i, j, p: any(j == p + 3 * n for n in range(-20, 20))),
    "dilated by one": (masks.dilated(1), lambda b, h, i, j, p: True),
    "dense": (masks.dense(ARRAY), lambda b, h, i, j, p: ARRAY[b, h, i, j]),
    "dense row": (masks.dense(ARRAY[0, 0, 0]), lambda b, h, i, j, p: ARRAY[0, 0, 0, j]),
    "dense column": (masks.dense(ARRAY[:, :, :, :1]), lambda b, h, i, j, p: ARRAY[b, h, i, 0]),
}


def compositions():
    """Random expressions in & | ~, each with the same expression in Python's words."""
    rng = np.random.default_rng(1)
    names = list(KINDS)
    out = {}
    for n in range(30):
        a, b, c = (KINDS[name] for name in rng.choice(names, 3, replace=False))
        first, second, negated = rng.random(3) < 0.5
        mask = (a[0] & b[0]) if first else (a[0] | b[0])
        inner = negate(a[1], b[1], both=first)
        mask = ~mask if negated else mask
        mask = (mask & c[0]) if second else (mask | c[0])
        out[f"{n}: {mask!r}"] = mask, combine(inner, c[1], negated, second)
    return out


def negate(a, b, both):
    return lambda *at: (a(*at) and b(*at)) if both else (a(*at) or b(*at))


def combine(inner, c, negated, both):
    def said(*at):
        x = not inner(*at) if negated else inner(*at)
        return (x and c(*at)) if both else (x or c(*at))

    return said


CASES = KINDS | compositions()


def by_loops(said, offset):
    offset = np.broadcast_to(offset, (3, 2))
    out = np.zeros((3, 2, QUERIES, KEYS), bool)
    for b, h, i, j in np.ndindex(out.shape):
        out[b, h, i, j] = said(b, h, i, j, i + offset[b, h])
    return out


@pytest.mark.parametrize("offset", [OFFSET, 4, -8, 30], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_dense_is_the_loop(name, offset):
    mask, said = CASES[name]
    found = mask.dense(QUERIES, KEYS, align=offset)
    assert found.dtype == bool
    assert found.shape[-2:] == (QUERIES, KEYS)
    np.testing.assert_array_equal(np.broadcast_to(found, (3, 2, QUERIES, KEYS)), by_loops(said, offset))


@pytest.mark.parametrize("name", CASES)
def test_a_block_is_a_part_of_the_whole(name):
    mask, rng = CASES[name][0], np.random.default_rng(2)
    whole = mask.dense(QUERIES, KEYS, align=OFFSET)
    for _ in range(10):
        rows = rng.choice(QUERIES, rng.integers(0, QUERIES))
        keys = rng.choice(KEYS, rng.integers(0, KEYS))
        np.testing.assert_array_equal(mask.block(rows, keys, OFFSET), whole[..., rows[:, None], keys])


def every_block():
    for r0 in range(QUERIES):
        for r1 in range(r0, QUERIES + 1):
            for k0 in range(KEYS):
                for k1 in range(k0, KEYS + 1):
                    yield slice(r0, r1), slice(k0, k1)


EXACT = {name for name in KINDS if name.split()[0] in ("causal", "window", "lengths", "blocks", "dilated", "dense")}


@pytest.mark.parametrize("offset", [OFFSET, 4], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_status_never_lies(name, offset):
    mask = CASES[name][0]
    whole = mask.dense(QUERIES, KEYS, align=offset)
    for rows, keys in every_block():
        part = whole[..., rows, keys]
        truth = "none" if not part.any() else "all" if part.all() else "some"
        found = mask.status(rows, keys, offset)
        assert found == truth or (found == "some" and name not in EXACT and part.size), (rows, keys, found, truth)


BANDS = [KINDS[name][0] for name in KINDS if name.split()[0] in ("causal", "window")]
BANDS += [~BANDS[0], BANDS[0] & ~masks.window(2, 1), masks.window(1, 1) | ~masks.window(3, 2)]


@pytest.mark.parametrize("offset", [4, -3])
@pytest.mark.parametrize("mask", BANDS, ids=repr)
def test_the_status_changes_only_where_it_may(mask, offset):
    whole = mask.dense(QUERIES, KEYS, align=offset)
    for r0 in range(QUERIES):
        for r1 in range(r0 + 1, QUERIES + 1):
            part, known = whole[r0:r1], mask.status_changes(slice(r0, r1), offset)
            kinds = np.stack([part.any(axis=0), part.all(axis=0)])
            changes = 1 + np.flatnonzero((kinds[:, 1:] != kinds[:, :-1]).any(axis=0))
            assert set(changes) <= set(known), (r0, r1, known)


@pytest.mark.parametrize("mask", [KINDS["segments"][0], KINDS["lengths"][0] & masks.causal()], ids=repr)
def test_changes_of_status_that_are_not_known(mask):
    assert mask.status_changes(slice(0, 3)) is None
    assert masks.causal().status_changes(slice(0, 3), OFFSET) is None


@pytest.mark.parametrize("kind", ["segments", "documents"])
def test_packed_segments_skip_the_blocks_of_other_segments(kind):
    mask = masks.segments([0] * 4 + [1] * 4 + [-1] * 2) if kind == "segments" else masks.documents([4, 4, 2])
    assert mask.status(slice(0, 4), slice(4, 8)) == "none"
    assert mask.status(slice(4, 8), slice(4, 8)) == "all"
    assert mask.status(slice(2, 6), slice(4, 8)) == "some"
    assert mask.status(slice(8, 10), slice(8, 10)) == ("none" if kind == "segments" else "all")


def test_de_morgan():
    names = list(KINDS)
    for a, b in zip(names, names[1:] + names[:1], strict=True):
        a, b = KINDS[a][0], KINDS[b][0]
        for left, right in ((~(a & b), ~a | ~b), (~(a | b), ~a & ~b)):
            np.testing.assert_array_equal(
                *(np.broadcast_to(m.dense(QUERIES, KEYS, align=OFFSET), (3, 2, QUERIES, KEYS)) for m in (left, right))
            )


def test_a_boolean_array_composes_from_both_sides():
    array = ARRAY[0, 0]
    want = array & np.tri(QUERIES, KEYS, 2, dtype=bool)
    for mask in (array & masks.causal(), masks.causal() & array):
        np.testing.assert_array_equal(mask.dense(QUERIES, KEYS, align=2), want)
    np.testing.assert_array_equal((array | ~masks.dense(array)).dense(QUERIES, KEYS), True)


def test_identities():
    def same(a, b, align=OFFSET):
        np.testing.assert_array_equal(*np.broadcast_arrays(*(m.dense(QUERIES, KEYS, align) for m in (a, b))))

    same(masks.causal(), masks.window(None, 0))
    same(masks.window(QUERIES + KEYS + 4, QUERIES + KEYS + 4) & masks.causal(), masks.causal())
    same(masks.blocks(1), masks.window(0, 0))
    same(masks.blocks(100) & masks.blocks(5), masks.blocks(5), 0)
    same(masks.prefix(0), masks.causal())
    same(masks.prefix(KEYS) & masks.causal(), masks.causal())
    same(masks.documents([QUERIES], [KEYS]), masks.window())


def test_alignment():
    np.testing.assert_array_equal(masks.causal().dense(3, 3), np.tri(3, dtype=bool))
    np.testing.assert_array_equal(masks.causal().dense(2, 4, "top_left"), [[1, 0, 0, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(masks.causal().dense(2, 4, "bottom_right"), [[1, 1, 1, 0], [1, 1, 1, 1]])
    by_length = masks.causal().dense(2, 4, "bottom_right", k_lengths=np.array([2, 3]))
    np.testing.assert_array_equal(by_length, [[[1, 0, 0, 0], [1, 1, 0, 0]], [[1, 1, 0, 0], [1, 1, 1, 0]]])
    np.testing.assert_array_equal(
        relative(2, 3, np.array([0, 5])), [[[0, 1, 2], [-1, 0, 1]], [[-5, -4, -3], [-6, -5, -4]]]
    )


def test_resolve_offset():
    np.testing.assert_array_equal(relative(1, 3), [[0, 1, 2]])
    assert resolve_offset(None, 5, 5) == 0
    assert resolve_offset(None, 5, 7, needed=False) == 0
    assert resolve_offset("top_left", 5, 7) == 0
    assert resolve_offset("bottom_right", 5, 7) == 2
    assert resolve_offset(np.int32(-3), 5, 7) == -3
    assert resolve_offset("bottom_right", 5, 7, q_lengths=3) == 4
    both = resolve_offset("bottom_right", 5, 7, q_lengths=np.array([[1], [5]]), k_lengths=np.array([[7, 2]], np.uint8))
    np.testing.assert_array_equal(both, [[6, 1], [2, -3]])
    np.testing.assert_array_equal(resolve_offset([[1], [2]], 5, 7), [[1], [2]])
    assert resolve_offset(None, 5, 7, q_lengths=np.array([2, 3]), k_lengths=np.array([2, 3])) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"align": None},
            r"align is missing: something positional is used and queries \(5\) and keys \(7\) are not eq",
        ),
        ({"align": None, "keys": 5, "k_lengths": [4]}, r"not equally many, by their lengths, so align= must be 'top_"),
        ({"align": "bottom_rigth"}, "there is no alignment 'bottom_rigth'; did you mean 'bottom_right'"),
        ({"align": 1.5}, "align must be 'top_left' .*; got dtype float64"),
        ({"align": True}, "align must be 'top_left' .*; got dtype bool"),
        ({"align": 0, "k_lengths": [8]}, "k_lengths holds 8; a count along an axis of 7 must be in 0..7"),
        ({"align": 0, "q_lengths": [1, -2]}, "q_lengths holds -2"),
        ({"align": 0, "q_lengths": [1.0]}, "q_lengths must be counts; got dtype float64"),
    ],
)
def test_resolve_offset_refuses(arguments, message):
    with pytest.raises(OptionError, match=message):
        resolve_offset(**{"queries": 5, "keys": 7} | arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masks.window(-1, 0), "left must be None or how many keys, 0 or more; got -1"),
        (lambda: masks.window(1, 2.0), r"right must be .* got 2\.0"),
        (lambda: masks.blocks(0), "size must be an integer, 1 or more; got 0"),
        (lambda: masks.dilated(True), "step must be an integer, 1 or more; got True"),
        (lambda: masks.lengths([1.5]), "q_lengths must be counts"),
        (lambda: masks.segments(["a"]), "q_segments must be integer ids"),
        (lambda: masks.documents([3, -1]), r"0 or more; got \[3, -1\]"),
        (lambda: masks.dense([0.0, 1.0]), "must be boolean, True = may attend; got dtype float64"),
        (lambda: masks.causal() & np.zeros((2, 2)), "additive masks go in as bias="),
        (lambda: masks.lengths([1, 2]) & masks.lengths([1, 2, 3]), r"do not broadcast: \(2,\) and \(3,\)"),
        (lambda: masks.lengths([1, 2]).dense(3, 3, [0, 0, 1]), r"do not broadcast: \(2,\) and \(3,\)"),
        (lambda: masks.causal().dense(3, 4), "align is missing"),
        (lambda: (masks.causal() & masks.lengths(4)).dense(3, 3), "q_lengths holds 4"),
        (lambda: masks.prefix(5).dense(4, 4), "prefix holds 5"),
        (lambda: (~masks.segments([0, 1])).dense(3, 2), r"q_segments has shape \(2,\)"),
        (lambda: masks.segments([0, 1], [0, 1]).dense(2, 3), r"k_segments has shape \(2,\)"),
        (lambda: masks.dense(np.ones((2, 3), bool)).dense(3, 3), r"allowed of shape \(2, 3\) does not broadcast to 3"),
    ],
)
def test_refusals(make, message):
    with pytest.raises((OptionError, ShapeError), match=message):
        make()


def test_only_positional_masks_need_an_offset():
    assert masks.lengths(k_lengths=2).dense(3, 4).shape == (3, 4)
    assert not (masks.lengths(2) | ~masks.segments([0])).positional
    assert (masks.lengths(2) | ~masks.blocks(2)).positional
    assert (masks.causal() & masks.lengths(Q_LENGTHS, K_LENGTHS)).leading == (3, 2)


def test_empty_axes():
    assert (masks.causal() | masks.blocks(2)).dense(0, 3, 0).shape == (0, 3)
    assert (masks.segments(np.zeros(0, int), [1, 1]) & masks.causal()).dense(0, 2, 0).shape == (0, 2)
    for mask, _ in CASES.values():
        assert mask.status(slice(0, 0), slice(0, 3), OFFSET) == "none"
