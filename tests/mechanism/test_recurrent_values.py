"""The recurrent mechanisms against plain loops, one-by-one sequences and finite differences."""

import math

import numpy as np
import pytest

import attention_ref as ar

DECODERS = {"attention": ("w_a", "b_a"), "additive": ("w_q", "w_k", "b", "w_s"), "summed": ()}
LOSS = ar.mechanisms["seq2seq_loss"]
SHORT = {"a": 5, "j": 4, "v": 7, "t": 3, "m": 2, "h": 3, "n": 5, "x": 2, "y": 3}
SOURCE_LENGTHS, TARGET_LENGTHS = np.array([4, 1, 0, 3]), np.array([2, 3, 1, 0])


def example(decoder, lengths=False, leading=(), seed=0, **sizes):
    variant = list(DECODERS).index(decoder) + lengths * len(DECODERS)
    return LOSS.example(seed=seed, variant=variant, leading=leading, **SHORT | sizes)


def padded(decoder):
    inputs = example(decoder, leading=(4,))
    return inputs | {"source_lengths": SOURCE_LENGTHS, "target_lengths": TARGET_LENGTHS}


def affine(w, x, b):
    return [sum(w[i][k] * x[k] for k in range(len(x))) + b[i] for i in range(len(b))]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def gru(x, hidden, w_ih, w_hh, b_ih, b_hh):
    h = len(hidden)
    from_x, from_h = affine(w_ih, x, b_ih), affine(w_hh, hidden, b_hh)
    new = []
    for i in range(h):
        r = sigmoid(from_x[i] + from_h[i])
        z = sigmoid(from_x[h + i] + from_h[h + i])
        n = math.tanh(from_x[2 * h + i] + r * from_h[2 * h + i])
        new.append((1 - z) * n + z * hidden[i])
    return new


def softmax(scores):
    e = [math.exp(s) for s in scores]
    return [x / sum(e) for x in e]


def finish(embedded, hidden, states, alpha, p):
    context = [sum(a * state[e] for a, state in zip(alpha, states, strict=True)) for e in range(len(states[0]))]
    combined = affine(p["w_c"], [*embedded, *context], p["b_c"])
    new = gru(combined, hidden, *(p[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")))
    return [math.log(x) for x in softmax(affine(p["w_o"], new, p["b_o"]))], new, alpha


def close(value, expected, rtol=1e-13):
    value, expected = np.asarray(value), np.asarray(expected)
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=0, atol=rtol * max(1, np.abs(expected).max(initial=0)))


def test_encoder_is_a_loop_over_gru_steps():
    inputs = ar.mechanisms["gru_encoder"].example(t=4, h=3, v=5, m=2)
    (outputs, h_n), _ = ar.mechanisms["gru_encoder"].forward(**inputs)
    p = {name: x.tolist() for name, x in inputs.items()}
    hidden, expected = p["h_0"], []
    for token in p["tokens"]:
        hidden = gru(p["embedding"][token], hidden, *(p[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")))
        expected.append(hidden)
    close(outputs, expected)
    close(h_n, hidden)


def test_attention_decoder_step_is_the_printed_class():
    step = ar.mechanisms["attention_decoder_step"]
    inputs = step.example(h=3, j=4, e=2, v=5, m=3, x=2)
    value, _ = step.forward(**inputs)
    p = {name: x.tolist() for name, x in inputs.items()}
    embedded = p["embedding"][p["token"]]
    alpha = softmax(affine(p["w_a"], [*embedded, *p["hidden"]], p["b_a"]))
    for got, expected in zip(value, finish(embedded, p["hidden"], p["encoder_outputs"], alpha, p), strict=True):
        close(got, expected)


def test_additive_decoder_step_scores_every_state_against_the_hidden_state():
    step = ar.mechanisms["additive_decoder_step"]
    inputs = step.example(h=3, j=4, e=2, v=5, m=3, x=2, y=3)
    value, _ = step.forward(**inputs)
    p = {name: x.tolist() for name, x in inputs.items()}
    from_hidden = affine(p["w_q"], p["hidden"], p["b"])
    scores = []
    for state in p["encoder_outputs"]:
        from_state = affine(p["w_k"], state, [0.0] * 3)
        scores.append(sum(w * math.tanh(a + b) for w, a, b in zip(p["w_s"], from_hidden, from_state, strict=True)))
    expected = finish(p["embedding"][p["token"]], p["hidden"], p["encoder_outputs"], softmax(scores), p)
    for got, want in zip(value, expected, strict=True):
        close(got, want)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("decoder", ["attention", "additive"])
def test_loss_is_the_sum_over_decoder_steps(decoder, lengths):
    inputs = example(decoder, lengths, leading=(2,))
    loss, _ = LOSS.forward(**inputs, start=3)
    encoder = {name.removeprefix("enc_"): x for name, x in inputs.items() if name.startswith("enc_")}
    counts = inputs.get("source_lengths")
    (outputs, hidden), _ = ar.mechanisms["gru_encoder"].forward(
        tokens=inputs["source"], h_0=np.zeros((2, 3)), lengths=counts, **encoder
    )
    step = {name.removeprefix("dec_"): x for name, x in inputs.items() if name.startswith("dec_")}
    step |= {name: inputs[name] for name in ("w_c", "b_c", "w_o", "b_o", *DECODERS[decoder])}
    token, expected = np.array([3, 3]), np.zeros(2)
    for i in range(3):
        (logp, hidden, _), _ = ar.mechanisms[f"{decoder}_decoder_step"].forward(
            token=token, hidden=hidden, encoder_outputs=outputs, lengths=counts, **step
        )
        token = inputs["target"][:, i]
        counted = i < inputs.get("target_lengths", np.array([3, 3]))
        expected -= np.where(counted, logp[np.arange(2), token], 0)
    close(loss, expected)


def test_summed_decoder_gives_every_state_the_same_weight():
    inputs = example("summed", leading=(2,))
    loss, _ = LOSS.forward(**inputs)
    even = {"w_a": np.zeros((4, 8)), "b_a": np.zeros(4), "w_c": inputs["w_c"].copy()}
    even["w_c"][:, 5:] *= 4
    close(loss, LOSS.forward(**inputs | even | {"decoder": "attention"})[0])


def test_encoder_of_padded_batch_equals_one_by_one():
    op = ar.mechanisms["gru_encoder"]
    inputs = op.example(leading=(4,), t=5, h=3, v=7, m=2) | {"lengths": np.array([5, 2, 0, 3])}
    (outputs, h_n), tape = op.forward(**inputs)
    rng = np.random.default_rng(1)
    doutputs, dh_n = rng.standard_normal(outputs.shape), rng.standard_normal(h_n.shape)
    grads = op.backward((doutputs, dh_n), **tape)
    shared = {name: x for name, x in inputs.items() if name not in ("tokens", "h_0", "lengths")}
    total = {name: np.zeros_like(x) for name, x in shared.items()}
    for row, n in enumerate(inputs["lengths"]):
        assert not outputs[row, n:].any()
        if n == 0:
            close(h_n[row], inputs["h_0"][row])
            close(grads["h_0"][row], dh_n[row])
            continue
        value, alone = op.forward(tokens=inputs["tokens"][row, :n], h_0=inputs["h_0"][row], **shared)
        close(outputs[row, :n], value[0])
        close(h_n[row], value[1])
        own = op.backward((doutputs[row, :n], dh_n[row]), **alone)
        close(grads["h_0"][row], own.pop("h_0"))
        for name, d in own.items():
            total[name] += d
    for name, d in total.items():
        close(grads[name], d)


@pytest.mark.parametrize("decoder", DECODERS)
def test_loss_of_padded_batch_equals_one_by_one(decoder):
    inputs = padded(decoder)
    loss, tape = LOSS.forward(**inputs)
    dloss = np.random.default_rng(2).standard_normal(loss.shape)
    grads = LOSS.backward(dloss, **tape)
    total = {name: np.zeros_like(d) for name, d in grads.items()}
    alone = {name: x for name, x in inputs.items() if not name.endswith("_lengths")}
    for row, (j, t) in enumerate(zip(SOURCE_LENGTHS, TARGET_LENGTHS, strict=True)):
        if t == 0:
            assert loss[row] == 0
            continue
        cut = {"source": inputs["source"][row, :j], "target": inputs["target"][row, :t]}
        cut |= {name: inputs[name][:j] for name in ("w_a", "b_a") if name in inputs}
        if j == 0:
            cut = cut | {"source": inputs["source"][row, :1], "source_lengths": 0}
            cut |= {name: inputs[name][:1] for name in ("w_a", "b_a") if name in inputs}
        value, taped = LOSS.forward(**alone | cut)
        close(loss[row], value)
        for name, d in LOSS.backward(dloss[row], **taped).items():
            total[name][tuple(slice(0, n) for n in d.shape)] += d
    for name, d in total.items():
        close(grads[name], d)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("decoder", DECODERS)
def test_leading_axes_of_source_and_target_broadcast(decoder, lengths):
    lead = {"source": (2, 1), "target": (3,), "source_lengths": (2, 3), "target_lengths": (1,)}
    inputs = example(decoder, lengths, leading=lead)
    spread = {
        name: np.broadcast_to(x, (2, 3, *x.shape[len(lead[name]) :])) for name, x in inputs.items() if name in lead
    }
    (loss, tape), (expected, full) = LOSS.forward(**inputs), LOSS.forward(**inputs | spread)
    close(loss, expected)
    dloss = np.random.default_rng(4).standard_normal((2, 3))
    grads = LOSS.backward(dloss, **full)
    for name, d in LOSS.backward(dloss, **tape).items():
        close(d, grads[name])


@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize("decoder", ["attention", "additive"])
def test_leading_axes_of_a_decoder_step_broadcast(decoder, variant):
    step = ar.mechanisms[f"{decoder}_decoder_step"]
    lead = {"token": (), "hidden": (2, 1), "encoder_outputs": (1,), "lengths": (3,)}
    inputs = step.example(leading=lead, variant=variant)
    leading = (2, 3) if variant else (2, 1)
    spread = {n: np.broadcast_to(x, (*leading, *x.shape[len(lead[n]) :])) for n, x in inputs.items() if n in lead}
    (value, tape), (expected, full) = step.forward(**inputs), step.forward(**inputs | spread)
    for got, want in zip(value, expected, strict=True):
        close(got, want)
    rng = np.random.default_rng(5)
    cotangents = tuple(rng.standard_normal(v.shape) for v in value)
    grads = step.backward(cotangents, **full)
    for name, d in step.backward(cotangents, **tape).items():
        want = grads[name]
        if name in lead:
            want = want.sum(axis=tuple(range(len(leading) - len(lead[name]))))
            want = want.sum(axis=tuple(k for k, n in enumerate(lead[name]) if n != want.shape[k]), keepdims=True)
        close(d, want)


@pytest.mark.parametrize("decoder", DECODERS)
def test_padding_tokens_do_not_matter_even_if_their_embedding_is_nan(decoder):
    inputs = padded(decoder)
    source_pad = np.arange(4) >= SOURCE_LENGTHS[:, None]
    target_pad = np.arange(3) >= TARGET_LENGTHS[:, None]
    inputs["source"][~source_pad] %= 4
    inputs["target"][~target_pad] %= 6
    loss, tape = LOSS.forward(**inputs)
    grads = LOSS.backward(loss, **tape)
    other = inputs | {
        "source": np.where(source_pad, 4, inputs["source"]),
        "target": np.where(target_pad, 6, inputs["target"]),
        "enc_embedding": inputs["enc_embedding"].copy(),
        "dec_embedding": inputs["dec_embedding"].copy(),
    }
    other["enc_embedding"][4] = other["dec_embedding"][6] = np.nan
    again, tape = LOSS.forward(**other)
    np.testing.assert_array_equal(loss, again)
    for name, d in LOSS.backward(again, **tape).items():
        np.testing.assert_array_equal(d, grads[name])


def test_summed_context_is_the_sum_of_the_real_states():
    op = ar.mechanisms["summed_context"]
    h = op.example(leading=(3,), j=5, d=2)["h"]
    close(op.forward(h=h)[0], [sum(states) for states in h])
    lengths = np.array([5, 2, 0])
    for row, n in enumerate(lengths):
        h[row, n:] = np.nan
    c, tape = op.forward(h=h, lengths=lengths)
    dc = np.random.default_rng(0).standard_normal(c.shape)
    close(c, [h[0].sum(axis=0), h[1, :2].sum(axis=0), [0, 0]])
    dh = op.backward(dc, **tape)["h"]
    for row, n in enumerate(lengths):
        close(dh[row, :n], np.tile(dc[row], (n, 1)))
        assert not dh[row, n:].any()


@pytest.mark.parametrize("decoder", DECODERS)
def test_gradient_of_the_loss_is_the_difference_quotient(decoder):
    inputs = padded(decoder)
    loss, tape = LOSS.forward(**inputs)
    rng = np.random.default_rng(3)
    dloss = rng.standard_normal(loss.shape)
    for name, d in LOSS.backward(dloss, **tape).items():
        at = np.unravel_index(np.argmax(np.abs(d)), d.shape)
        change = np.zeros_like(d)
        change[at] = 1e-5
        ahead, behind = (LOSS.forward(**inputs | {name: inputs[name] + sign * change})[0] for sign in (1, -1))
        assert d[at] == pytest.approx(np.sum(dloss * (ahead - behind)) / 2e-5, rel=1e-7, abs=1e-9)


def test_every_parameter_of_the_loss_gets_a_gradient():
    for decoder in DECODERS:
        inputs = example(decoder, leading=(3,))
        loss, tape = LOSS.forward(**inputs)
        grads = LOSS.backward(loss, **tape)
        assert list(grads) == [name for name in inputs if name not in ("source", "target", "decoder")]
        assert all(d.any() for d in grads.values())


def test_gates_and_log_probabilities_do_not_overflow():
    far = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    sigmoid, log_softmax = ar.ops["layer.sigmoid"].module, ar.ops["layer.log_softmax"].module
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_array_equal(sigmoid.forward(far)[0], [0, 0, 0.5, 1, 1])
        assert sigmoid.forward(far + 1e-200j)[0][2].imag == pytest.approx(0.25e-200)
        np.testing.assert_array_equal(log_softmax.forward(far)[0], far - 1e4)
    assert sigmoid.forward(np.array([-40.0]))[0][0] == pytest.approx(math.exp(-40), rel=1e-15)


@pytest.mark.parametrize("start", [-1, 7, 1.0, True, "0"])
def test_start_outside_the_vocabulary_is_refused(start):
    with pytest.raises(ar.OptionError, match=r"start=.* is no token id; with v = 7 it must be in 0\.\.6"):
        LOSS.forward(**example("summed"), start=start)


def test_unknown_decoder_is_refused():
    with pytest.raises(ar.OptionError, match=r"there is no decoder 'bogus'; it takes attention, additive, summed"):
        LOSS.forward(**example("summed") | {"decoder": "bogus"})


@pytest.mark.parametrize(
    ("decoder", "parameter", "takes"),
    [("attention", "b_a", "w_a b_a"), ("attention", "w_a", "w_a b_a"), ("additive", "w_s", "w_q w_k b w_s")],
)
def test_missing_attention_parameter_is_refused(decoder, parameter, takes):
    inputs = example(decoder)
    del inputs[parameter]
    with pytest.raises(ar.OptionError, match=f"decoder='{decoder}' takes {takes}; {parameter} is missing"):
        LOSS.forward(**inputs)


@pytest.mark.parametrize(("decoder", "parameter"), [("attention", "w_s"), ("additive", "w_a"), ("summed", "b_a")])
def test_foreign_attention_parameter_is_refused(decoder, parameter):
    donor = example("attention" if parameter in DECODERS["attention"] else "additive")
    with pytest.raises(ar.OptionError, match=f"decoder='{decoder}' takes .*; {parameter} was given too"):
        LOSS.forward(**example(decoder) | {parameter: donor[parameter]})


@pytest.mark.parametrize("name", ["source", "target"])
def test_token_outside_the_vocabulary_is_refused(name):
    inputs = example("summed")
    inputs[name] = inputs[name] + 7
    with pytest.raises(ar.OptionError, match=rf"{name} holds \d+; with ."):
        LOSS.forward(**inputs)
