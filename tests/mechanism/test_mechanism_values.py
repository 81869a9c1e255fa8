"""The documents' mechanisms against loops by hand, and the facts that are peculiar to each of them."""

from math import exp, sqrt

import numpy as np
import pytest

import attention_ref as ar

IN_ORDER = (
    "stacked_self_attention",
    "self_attention",
    "multi_head_self_attention",
    "bmm",
    "attn",
    "pooled_self_attention",
    "multi_head_attention",
    "elementwise_heads",
    "query_values",
    "scaled_dot_product",
)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14)


def value(name, **inputs):
    return ar.mechanisms[name].forward(**inputs)[0]


def gradients(name, cotangent, **inputs):
    op = ar.mechanisms[name]
    return op.backward(cotangent, **op.forward(**inputs)[1])


def gaussian(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


# Loops by hand, on nested lists.


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(row):
    e = [exp(s) for s in row]
    return [x / sum(e) for x in e]


def linear(x, w, b):
    """One vector through a layer, w as [out in]."""
    return [dot(row, x) + shift for row, shift in zip(w, b, strict=True)]


def times(x, w):
    """One vector times a matrix, w as [in out]."""
    return [sum(x[m] * w[m][n] for m in range(len(x))) for n in range(len(w[0]))]


def mix(weights, vectors):
    return [dot(weights, [vector[e] for vector in vectors]) for e in range(len(vectors[0]))]


def attend(q, k, v):
    """(outputs, weights) of scaled dot-product attention."""
    alpha = [softmax([dot(a, b) / sqrt(len(a)) for b in k]) for a in q]
    return [mix(weights, v) for weights in alpha], alpha


def attend_self(x, w_q, w_k, w_v):
    return attend(*([times(row, w) for row in x] for w in (w_q, w_k, w_v)))[0]


def plain(inputs):
    return {name: x.tolist() for name, x in inputs.items() if isinstance(x, np.ndarray)}


def test_mechanisms_are_listed_in_the_documents_order():
    assert [name for name in ar.mechanisms if name in IN_ORDER] == list(IN_ORDER)


def test_only_the_kept_slip_is_marked_as_one():
    assert [name for name in IN_ORDER if ar.mechanisms[name].erratum] == ["elementwise_heads"]


def test_bmm_has_the_shape_that_the_text_prints():
    assert value("bmm", a=gaussian(0, 10, 3, 4), c=gaussian(1, 10, 4, 5)).shape == (10, 3, 5)


def test_bmm_by_hand():
    inputs = ar.mechanisms["bmm"].example()
    a, c = plain(inputs).values()
    want = [[[dot(row, column) for column in zip(*c[b], strict=True)] for row in a[b]] for b in range(len(a))]
    close(value("bmm", **inputs), want)


def test_bmm_refuses_to_broadcast_the_batch():
    with pytest.raises(ar.ShapeError, match="axis b is 10"):
        value("bmm", a=gaussian(0, 10, 3, 4), c=gaussian(1, 1, 4, 5))


def test_scaled_dot_product_by_hand():
    inputs = ar.mechanisms["scaled_dot_product"].example()
    close(value("scaled_dot_product", **inputs), attend(**plain(inputs))[0])


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_multi_head_self_attention_by_hand(heads):
    inputs = ar.mechanisms["multi_head_self_attention"].example(t=5, m=6) | {"heads": heads}
    p = plain(inputs)
    width = 6 // heads
    q, k, v = ([linear(x, p[f"w_{n}"], p[f"b_{n}"]) for x in p["x"]] for n in "qkv")
    together = [[] for _ in p["x"]]
    for h in range(heads):
        of_head = ([row[h * width : (h + 1) * width] for row in z] for z in (q, k, v))
        for row, part in zip(together, attend(*of_head)[0], strict=True):
            row.extend(part)
    want = [
        linear([a + b for a, b in zip(row, x, strict=True)], p["w_o"], p["b_o"])
        for row, x in zip(together, p["x"], strict=True)
    ]
    close(value("multi_head_self_attention", **inputs), want)


def test_the_residual_joins_before_the_last_layer():
    inputs = ar.mechanisms["multi_head_self_attention"].example()
    silent = inputs | {"w_v": np.zeros((6, 6)), "b_v": np.zeros(6)}
    close(value("multi_head_self_attention", **silent), inputs["x"] @ inputs["w_o"].T + inputs["b_o"])


@pytest.mark.parametrize("name", ["multi_head_self_attention", "multi_head_attention"])
def test_the_gradient_of_the_key_bias_is_zero_to_rounding(name):
    op = ar.mechanisms[name]
    inputs = op.example(leading=(2,))
    result = op.forward(**inputs)[0]
    several = isinstance(result, tuple)
    cotangent = tuple(gaussian(3, *y.shape) for y in result) if several else gaussian(3, *result.shape)
    g = gradients(name, cotangent, **inputs)
    assert np.abs(g["b_k"]).max() < 1e-13
    assert np.abs(g["b_q"]).max() > 1e-2
    assert np.abs(g["b_v"]).max() > 1e-2


@pytest.mark.parametrize("heads", [0, -2, 4, 7, 2.0, True, "2", None])
def test_heads_that_do_not_divide_are_refused(heads):
    inputs = ar.mechanisms["multi_head_self_attention"].example() | {"heads": heads}
    with pytest.raises(
        ar.OptionError, match=r"multi_head_self_attention: heads=.* positive integer that divides m = 6"
    ):
        value("multi_head_self_attention", **inputs)


def test_heads_has_no_default():
    inputs = ar.mechanisms["multi_head_self_attention"].example()
    del inputs["heads"]
    with pytest.raises(ar.OptionError, match="the option heads= is missing"):
        value("multi_head_self_attention", **inputs)


def test_multi_head_attention_by_hand():
    inputs = ar.mechanisms["multi_head_attention"].example(h=2, d=3, e=4, y=5)
    p = plain(inputs)

    def project(x, name, h):
        columns = times(x, p[f"w_{name}"][h])
        return [column + shift for column, shift in zip(columns, p[f"b_{name}"][h], strict=True)]

    y, alpha = [list(p["b_o"]) for _ in p["q"]], []
    for h in range(2):
        o, weights = attend(*([project(row, name, h) for row in p[name]] for name in "qkv"))
        alpha.append(weights)
        for i, row in enumerate(o):
            y[i] = [a + b for a, b in zip(y[i], times(row, p["w_o"][h]), strict=True)]
    got_y, got_alpha = value("multi_head_attention", **inputs)
    close(got_y, y)
    close(got_alpha, alpha)


def test_multi_head_attention_is_concatenation_and_one_output_matrix():
    inputs = ar.mechanisms["multi_head_attention"].example(variant=1, h=2, d=3, e=4, y=5)
    by_head = [value("scaled_dot_product", **{n: inputs[n] @ inputs[f"w_{n}"][h] for n in "qkv"}) for h in range(2)]
    want = np.concatenate(by_head, axis=-1) @ np.concatenate(inputs["w_o"])
    close(value("multi_head_attention", **inputs)[0], want)


def test_multi_head_attention_holds_multi_head_self_attention():
    inputs = ar.mechanisms["multi_head_self_attention"].example(leading=(2,)) | {"heads": 2}
    x = inputs["x"]
    same = {n: x for n in "qkv"}
    same |= {f"w_{n}": inputs[f"w_{n}"].T.reshape(6, 2, 3).swapaxes(0, 1) for n in "qkv"}
    same |= {f"b_{n}": inputs[f"b_{n}"].reshape(2, 3) for n in "qkv"}
    y, _ = value("multi_head_attention", **same, w_o=inputs["w_o"].T.reshape(2, 3, 6), b_o=inputs["b_o"])
    close(y + x @ inputs["w_o"].T, value("multi_head_self_attention", **inputs))


def test_masked_positions_of_multi_head_attention_may_be_nan():
    op = ar.mechanisms["multi_head_attention"]
    inputs = op.example(leading=(2,), h=2) | {"allowed": np.ones((5, 3), bool)}
    inputs["allowed"][:, 1] = False
    inputs["allowed"][4, :] = False
    wild = inputs | {n: inputs[n].copy() for n in "qkv"}
    wild["k"][:, 1] = wild["v"][:, 1] = wild["q"][:, 4] = np.nan
    cotangent = tuple(gaussian(5, *y.shape) for y in value("multi_head_attention", **inputs))
    for got, want in zip(value("multi_head_attention", **wild), value("multi_head_attention", **inputs), strict=True):
        close(got, want)
    got, want = (gradients("multi_head_attention", cotangent, **given) for given in (wild, inputs))
    for name in want:
        close(got[name], want[name])
    assert not want["k"][:, 1].any()
    assert not want["q"][:, 4].any()


def test_a_nan_that_is_attended_to_is_not_hidden():
    inputs = ar.mechanisms["multi_head_attention"].example(variant=1) | {"allowed": np.ones((5, 3), bool)}
    inputs["allowed"][0, 1] = False
    inputs["v"][1] = np.nan
    y, _ = value("multi_head_attention", **inputs)
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1:]).all()


def test_elementwise_heads_by_hand():
    inputs = ar.mechanisms["elementwise_heads"].example(t=5, d=3)
    q, k, v = plain(inputs).values()
    want = np.empty((5, 3))
    for d in range(3):
        alpha = softmax([q[t][d] * k[t][d] / sqrt(3) for t in range(5)])
        for t in range(5):
            want[t, d] = alpha[t] * q[t][d] * v[t][d]
    close(value("elementwise_heads", **inputs), want)


def test_elementwise_heads_is_not_attention():
    q, k, v = gaussian(0, 5, 3), gaussian(1, 5, 3), gaussian(2, 5, 3)
    one = {f"w_{n}": np.eye(3)[None] for n in "qkvo"}
    meant, _ = value("multi_head_attention", q=q, k=k, v=v, **one)
    close(meant, value("scaled_dot_product", q=q, k=k, v=v))
    assert np.abs(meant - value("elementwise_heads", q=q, k=k, v=v)).max() > 0.1


def test_elementwise_heads_takes_no_value_from_another_position():
    inputs = ar.mechanisms["elementwise_heads"].example(t=5, d=3)
    dy = np.zeros((5, 3))
    dy[2] = gaussian(4, 3)
    dv = gradients("elementwise_heads", dy, **inputs)["v"]
    assert dv[2].all()
    assert not dv[[0, 1, 3, 4]].any()


def test_stacked_self_attention_by_hand():
    inputs = ar.mechanisms["stacked_self_attention"].example(n=3, t=5, m=4, d=2)
    p = plain(inputs)
    x = p["x"]
    for n in range(3):
        x = attend_self(x, p["w_q"][n], p["w_k"][n], p["w_v"][n])
    close(value("stacked_self_attention", **inputs), x)


def test_stacked_self_attention_is_self_attention_repeated():
    inputs = ar.mechanisms["stacked_self_attention"].example(leading=(2,), n=3)
    dy = gaussian(4, *inputs["x"].shape)
    x, tapes = inputs["x"], []
    op = ar.mechanisms["self_attention"]
    for n in range(3):
        x, tape = op.forward(x=x, **{w: inputs[w][n] for w in ("w_q", "w_k", "w_v")})
        tapes.append(tape)
    close(value("stacked_self_attention", **inputs), x)
    g = gradients("stacked_self_attention", dy, **inputs)
    for n in (2, 1, 0):
        want = op.backward(dy, **tapes[n])
        for w in ("w_q", "w_k", "w_v"):
            close(g[w][n], want[w])
        dy = want["x"]
    close(g["x"], dy)


def test_no_layer_changes_nothing():
    inputs = ar.mechanisms["stacked_self_attention"].example(n=0)
    close(value("stacked_self_attention", **inputs), inputs["x"])
    dy = gaussian(4, *inputs["x"].shape)
    close(gradients("stacked_self_attention", dy, **inputs)["x"], dy)


@pytest.mark.parametrize(("pool", "pick"), [("mean", lambda column: sum(column) / len(column)), ("max", max)])
def test_pooled_self_attention_by_hand(pool, pick):
    inputs = ar.mechanisms["pooled_self_attention"].example(t=5, m=4, d=2, e=3) | {"pool": pool}
    want = [pick(column) for column in zip(*attend_self(**plain(inputs)), strict=True)]
    close(value("pooled_self_attention", **inputs), want)


def test_the_pool_is_the_mean_unless_told():
    inputs = ar.mechanisms["pooled_self_attention"].example(variant=0)
    del inputs["pool"]
    close(value("pooled_self_attention", **inputs), value("pooled_self_attention", **inputs, pool="mean"))


def test_a_tie_in_max_shares_its_gradient_equally():
    row = gaussian(0, 1, 4)
    weights = {"w_q": gaussian(1, 4, 2), "w_k": gaussian(2, 4, 2), "w_v": gaussian(3, 4, 3)}
    dy = gaussian(4, 3)
    alike = gradients("pooled_self_attention", dy, x=np.repeat(row, 5, axis=0), **weights, pool="max")
    for n in range(5):
        close(alike["x"][n], weights["w_v"] @ dy / 5)
    close(alike["w_v"], row.T * dy)


def test_two_of_three_positions_tie():
    """Values of the first two positions are equal, and every position attends almost only to itself."""
    x = np.array([[1.0, 0, 0, 2], [0, 1, 0, 2], [0, 0, 1, -3]])
    look = 40 * np.eye(4, 3)
    w_v = np.array([[0.0], [0], [0], [1]])
    dy = np.array([0.7])
    y = value("pooled_self_attention", x=x, w_q=look, w_k=look, w_v=w_v, pool="max")
    g = gradients("pooled_self_attention", dy, x=x, w_q=look, w_k=look, w_v=w_v, pool="max")
    close(y, [2])
    close(g["x"][:, 3], [0.35, 0.35, 0])


def test_max_hides_no_nan():
    inputs = ar.mechanisms["pooled_self_attention"].example(variant=1)
    inputs["x"][0, 0] = np.nan
    assert np.isnan(value("pooled_self_attention", **inputs)).all()


def test_an_unknown_pool_is_refused():
    inputs = ar.mechanisms["pooled_self_attention"].example() | {"pool": "sum"}
    with pytest.raises(ar.OptionError, match=r"pooled_self_attention: pool='sum' must be 'mean' or 'max'"):
        value("pooled_self_attention", **inputs)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_there_is_nothing_to_pool_in_an_empty_sequence(pool):
    inputs = ar.mechanisms["pooled_self_attention"].example(t=0) | {"pool": pool}
    with pytest.raises(ar.ShapeError, match="no position to pool over; axis t must be at least 1"):
        value("pooled_self_attention", **inputs)


def test_attn_by_hand():
    inputs = ar.mechanisms["attn"].example()
    p = plain(inputs)
    y, alpha = [], []
    for q, k in zip(p["q"], p["k"], strict=True):
        alpha.append(softmax(linear(q + k, p["w_a"], p["b_a"])))
        y.append(linear(q + mix(alpha[-1], p["v"]), p["w_c"], p["b_c"]))
    got_y, got_alpha = value("attn", **inputs)
    close(got_y, y)
    close(got_alpha, alpha)


def test_attn_has_the_shapes_that_the_text_prints():
    inputs = ar.mechanisms["attn"].example(leading=(1,), i=1, d=32, c=32, j=32, e=64, y=64)
    y, alpha = value("attn", **inputs)
    assert y.shape == (1, 1, 64)
    assert alpha.shape == (1, 1, 32)


def test_attn_sums_the_gradient_of_a_shared_query_once():
    inputs = ar.mechanisms["attn"].example(leading={"v": (3,)})
    alone = [inputs | {"v": v} for v in inputs["v"]]
    dy = gaussian(4, *value("attn", **inputs)[0].shape)
    want = sum(gradients("attn", (d, None), **given)["q"] for d, given in zip(dy, alone, strict=True))
    close(gradients("attn", (dy, None), **inputs)["q"], want)


@pytest.mark.parametrize("length", [None, 0, 1, 2, 3])
def test_query_values_by_hand(length):
    inputs = ar.mechanisms["query_values"].example(j=3, m=4, u=5)
    p = plain(inputs)
    near = p["values"] if length is None else p["values"][:length]
    context, weights = [0.0] * 4, []
    if near:
        (context,), (weights,) = attend([p["q"]], near, near)
    hidden = [max(x, 0) for x in linear(context, p["w_1"], p["b_1"])]
    want = [a + b for a, b in zip(hidden, linear(p["q"], p["w_2"], p["b_2"]), strict=True)]
    y, alpha = value("query_values", **inputs, lengths=None if length is None else np.array(length))
    close(y, want)
    close(alpha, weights + [0] * (3 - len(weights)))


def test_query_values_gives_one_vector_a_member_of_the_batch():
    inputs = ar.mechanisms["query_values"].example(leading=(2,))
    y, alpha = value("query_values", **inputs)
    for b in range(2):
        alone = inputs | {"q": inputs["q"][b], "values": inputs["values"][b]}
        for got, want in zip((y[b], alpha[b]), value("query_values", **alone), strict=True):
            close(got, want)


def test_padding_of_query_values_may_be_nan():
    lengths = np.array([[3], [0], [7]])
    inputs = ar.mechanisms["query_values"].example(leading={"q": (2,), "values": (3, 1)}) | {"lengths": lengths}
    padding = np.arange(7) >= lengths[..., None]
    wild = inputs | {"values": np.where(padding[..., None], np.nan, inputs["values"])}
    cotangent = tuple(gaussian(5, *y.shape) for y in value("query_values", **inputs))
    for got, want in zip(value("query_values", **wild), value("query_values", **inputs), strict=True):
        close(got, want)
    got, want = (gradients("query_values", cotangent, **given) for given in (wild, inputs))
    for name in want:
        close(got[name], want[name])
    assert not want["values"][padding].any()


def test_length_zero_leaves_the_two_layers():
    inputs = ar.mechanisms["query_values"].example(leading=(2,)) | {"lengths": np.array([0, 4])}
    y, alpha = value("query_values", **inputs)
    assert not alpha[0].any()
    close(y[0], np.maximum(inputs["b_1"], 0) + inputs["q"][0] @ inputs["w_2"].T + inputs["b_2"])
    dy = np.stack([gaussian(4, y.shape[-1]), np.zeros(y.shape[-1])])
    g = gradients("query_values", (dy, gaussian(5, *alpha.shape) * [[1], [0]]), **inputs)
    close(g["q"][0], dy[0] @ inputs["w_2"])
    assert not g["values"].any()
    assert not g["w_1"].any()


def test_a_length_beyond_the_sequence_is_refused():
    inputs = ar.mechanisms["query_values"].example(j=3) | {"lengths": np.array(4)}
    with pytest.raises(ar.OptionError, match=r"lengths holds 4; with j = 3 it must be in 0\.\.3"):
        value("query_values", **inputs)
