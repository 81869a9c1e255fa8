"""`ar.sample` gives the whole problem's answers at the places that were asked for."""

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.score import dot

RNG = np.random.default_rng(5)
OPTIONS = {
    "nothing": {},
    "causal": {"causal": True},
    "window": {"window": (5, 2)},
    "lengths": {"k_lengths": np.array([[20], [37]])},
    "bias and softcap": {"bias": RNG.standard_normal((37, 37)), "softcap": 3.0},
    "sigmoid": {"normalize": "sigmoid"},
    "sink": {"sink": RNG.standard_normal(4)},
    "alibi": {"alibi_slopes": RNG.random(4)},
    "uniform": {"allowed": RNG.random((37, 37)) < 0.1, "empty_row": "uniform"},
    "dropout": {"dropout": (RNG.random((37, 37)) < 0.5, 0.5)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("tile", ["auto", (5, 7)], ids=str)
def test_a_sample_is_the_whole_at_those_places(options, tile):
    rng = np.random.default_rng(3)
    q, do = rng.standard_normal((2, 2, 4, 37, 5))
    k, v = rng.standard_normal((2, 2, 2, 37, 5))
    whole = ar.attention(q, k, v, **options)
    dlse = None if whole.lse is None else rng.standard_normal(whole.lse.shape)
    grads = whole.backward(do, dlse)
    some = ar.sample(q, k, v, do, dlse, rows=[3, 36, 7, 3], keys=[0, 5, 30], tile=tile, **options)
    at = {"o": whole.o, "dq": grads["q"], "dk": grads["k"], "dv": grads["v"]}
    for name, x in at.items():
        index = some.rows if name in ("o", "dq") else some.keys
        np.testing.assert_allclose(getattr(some, name), x[..., index, :], rtol=1e-11, atol=1e-12, err_msg=name)
    if dlse is not None:
        np.testing.assert_allclose(some.lse, whole.lse[..., some.rows], rtol=1e-12)


def test_only_what_the_mathematics_needs_is_computed(monkeypatch):
    pairs, forward = [], dot.forward
    monkeypatch.setattr(dot, "forward", lambda q, k: pairs.append(q.shape[-2] * k.shape[-2]) or forward(q, k))
    q, k, v = np.random.default_rng(0).standard_normal((3, 512, 4))
    ar.sample(q, k, v, q, rows=[7, 500])
    assert sum(n for n in pairs if n > 4) <= 2 * 2 * 512
    pairs.clear()
    ar.sample(q, k, v, q, keys=[500], causal=True)
    assert sum(n for n in pairs if n > 4) <= 12 * 512 + 12


def test_nothing_asked_nothing_given():
    q = np.ones((5, 3))
    some = ar.sample(q, q, q)
    assert [some.o, some.dq, some.dk, some.dv, some.lse] == [None] * 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rows": [5]}, r"^scaled_dot: rows= are indices from 0 to 4 in one row; got \[5\]$"),
        ({"keys": [0.5]}, r"^scaled_dot: keys= are indices from 0 to 4"),
        ({"rows": [0], "normalize": "sparsemax"}, r"^scaled_dot: sparsemax needs every score of a row at once"),
        ({"rows": [0], "rule": "nothing"}, r"^there is no rule 'nothing'"),
    ],
    ids=str,
)
def test_what_cannot_be_sampled_is_refused(more, message):
    q = np.ones((5, 3))
    with pytest.raises(ar.OptionError, match=message):
        ar.sample(q, q, q, **more)
