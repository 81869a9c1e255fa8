"""`out=`, and what a caller may do with what was returned: nothing is wrong in silence."""

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.pipeline.place import Place

TILES = [None, (5, 7)]


def drawn(*shape, count=4):
    return np.random.default_rng(0).standard_normal((count, *shape))


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_a_residual_added_to_o_leaves_the_gradients_as_they_are(tile):
    q, k, v, do = drawn(2, 13, 5)
    want = ar.attention(q, k, v, tile=tile).backward(do)
    a = ar.attention(q, k, v, tile=tile)
    o, lse = a.o, a.lse
    o += q
    lse += 1
    got = a.backward(do)
    for name, gradient in want.items():
        np.testing.assert_array_equal(got[name], gradient)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_one_buffer_for_two_calls(tile):
    q, k, v, do = drawn(2, 13, 5)
    out = np.empty_like(q)
    first = ar.attention(q, k, v, tile=tile, out=out)
    want = ar.attention(q, k, v, tile=tile).backward(do)
    ar.attention(k, q, v, tile=tile, out=out)
    for name, gradient in first.backward(do).items():
        np.testing.assert_array_equal(gradient, want[name])


WRONG = {
    "integers": (lambda q: np.empty(q.shape, np.int64), ar.OptionError, "it has dtype int64"),
    "booleans": (lambda q: np.empty(q.shape, bool), ar.OptionError, "it has dtype bool"),
    "another shape": (lambda q: np.empty(q.shape[1:]), ar.ShapeError, r"must be an array of shape \(2, 13, 5\)"),
    "an input": (lambda q: q, ar.OptionError, "shares memory with q"),
    "a part of an input": (lambda q: q.reshape(-1)[:].reshape(q.shape), ar.OptionError, "shares memory with q"),
}


@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_out_is_refused_before_anything_is_computed(wrong, tile, monkeypatch):
    make, error, sentence = WRONG[wrong]
    q, k, v, do = drawn(2, 13, 5)
    a = ar.attention(q, k, v, tile=tile)
    monkeypatch.setattr(ar.ops["score.dot"].module, "forward", None)
    with pytest.raises(error, match=sentence):
        ar.attention(q, k, v, tile=tile, out=make(q))
    if "input" not in wrong:
        with pytest.raises(error, match=sentence):
            a.backward(do, out={"k": make(q)})


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_a_read_only_array_and_one_array_for_two_gradients_are_refused(tile):
    q, k, v, do = drawn(2, 13, 5)
    frozen = np.empty_like(q)
    frozen.flags.writeable = False
    with pytest.raises(ar.OptionError, match="it is read-only"):
        ar.attention(q, k, v, tile=tile, out=frozen)
    a, both = ar.attention(q, k, v, tile=tile), np.empty_like(q)
    with pytest.raises(ar.OptionError, match="shares memory with out= for k"):
        a.backward(do, out={"q": both, "k": both})


def test_emulated_attention_writes_it_too():
    q, k, v, _ = drawn(2, 13, 5)
    out = np.zeros(q.shape, np.float32)
    a = ar.emulate("float16")(q, k, v, out=out)
    np.testing.assert_array_equal(out, a.o)


def test_a_sample_checks_its_options():
    q, k, v, _ = drawn(13, 5)
    for option, message in (({"causal": "no"}, "causal is True or False"), ({"empty_row": "none"}, "no empty_row")):
        with pytest.raises(ar.OptionError, match=message):
            ar.sample(q, k, v, rows=[1], **option)


def test_scores_that_do_not_fit_into_memory_name_the_way_out():
    q = np.broadcast_to(np.zeros(1), (10**7, 1))
    with pytest.raises(
        ar.OptionError, match=r'10,000,000 queries and 10,000,000 keys .*; take tile="auto", or ar.sample'
    ):
        ar.attention(q, q, q)


def test_lists_get_the_sentence_too(monkeypatch):
    def too_large(q, k):
        raise MemoryError("7.28 TiB")

    monkeypatch.setattr(ar.ops["score.dot"].module, "forward", too_large)
    with pytest.raises(ar.OptionError, match="the score matrix of 1 queries and 2 keys"):
        ar.attention([[1.0]], [[1.0], [2.0]], [[1.0], [2.0]])


def test_a_part_of_the_positions_has_a_mask_of_its_own():
    place = Place(4, 4, {"causal": True})
    assert place.allowed.shape == place.relative.shape == (4, 4)
    part = place.chosen(rows=np.array([1, 3]))
    np.testing.assert_array_equal(part.allowed, place.allowed[[1, 3]])
    np.testing.assert_array_equal(part.relative, place.relative[[1, 3]])
    tile = place.tile(slice(2, 4), slice(0, 3), {})
    np.testing.assert_array_equal(tile.allowed, place.allowed[2:4, 0:3])
