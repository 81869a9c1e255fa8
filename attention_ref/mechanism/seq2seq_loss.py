"""Sequence to sequence: encode the source, decode with the true target fed back, sum the negative log-likelihood.

The encoder starts from a zero state and the decoder from the encoder's last one. `decoder=` says how a decoder step
looks at the source: "attention" (parameters w_a b_a), "additive" (w_q w_k b w_s) or "summed" (none). Backward is
backward through time, for every weight.
"""

from typing import Any

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.layer import embedding as lookup
from attention_ref.layer import linear, log_softmax
from attention_ref.mechanism import additive_decoder_step, attention_decoder_step, gru_encoder
from attention_ref.mechanism.decoder import Sum, advance, advance_back, advance_definition, read, read_back
from attention_ref.mechanism.lengths import leading_axes, real_steps
from attention_ref.op.arrays import reduce_to, shown
from attention_ref.op.suggest import did_you_mean

SIGNATURE = (
    "source<a[... j] target<v[... t]"
    " enc_embedding[a m] enc_w_ih[3h m] enc_w_hh[3h h] enc_b_ih[3h] enc_b_hh[3h]"
    " dec_embedding[v n] dec_w_ih[3h x] dec_w_hh[3h h] dec_b_ih[3h] dec_b_hh[3h]"
    " w_a?[j n+h] b_a?[j] w_q?[y h] w_k?[y h] b?[y] w_s?[y] w_c[x n+h] b_c[x] w_o[v h] b_o[v]"
    " source_lengths?<=j[...] target_lengths?<=t[...] -> loss[...]"
)
FORMULA = r"\ell = -\sum_t \log p(y_t \mid y_{<t}, x)"
SOURCE = "001 §4–5"
LOOKS: dict[str, Any] = {
    "attention": attention_decoder_step.ATTEND,
    "additive": additive_decoder_step.ATTEND,
    "summed": Sum(),
}
LENGTHS = ("source_lengths", "target_lengths")
VARIANTS = tuple(
    {"include": (*look.parameters, *lengths), "options": {"decoder": name}}
    for lengths in ((), LENGTHS)
    for name, look in LOOKS.items()
)
GRU = ("w_ih", "w_hh", "b_ih", "b_hh")


def definition(xp, source, target, *, decoder="attention", start=0, **arrays):
    weights = Weights(decoder, start, arrays)
    h_0 = np.zeros((*source.shape[:-1], weights.width))
    encoder_outputs, hidden = gru_encoder.definition(xp, source, h_0, **weights.encoder)
    real = real_steps(weights.target_lengths, target.shape[-1])
    target = np.broadcast_to(target, (*leading_axes(target, hidden, real), target.shape[-1]))
    inputs, loss = fed_back(target, start), 0.0
    for i in range(target.shape[-1]):
        embedded = xp.where(real[..., i, None], weights.embedding[inputs[..., i]], 0)
        states = {"embedded": embedded, "hidden": hidden, "encoder_outputs": encoder_outputs}
        hidden, _ = advance_definition(xp, weights.look, states, weights.source_lengths, **weights.recurrent)
        logp = log_softmax.definition(xp, linear.definition(xp, hidden, *weights.outward))
        scored = (target[..., i, None] == np.arange(logp.shape[-1])) & real[..., i, None]
        loss = loss - xp.sum(xp.where(scored, logp, 0), axis=-1)
    return loss


def forward(source, target, *, decoder="attention", start=0, **arrays):
    weights = Weights(decoder, start, arrays)
    check_steps(target)
    h_0 = np.zeros((*source.shape[:-1], weights.width), weights.embedding.dtype)
    (encoder_outputs, h_n), encoding = gru_encoder.forward(source, h_0, **weights.encoder)
    real = real_steps(weights.target_lengths, target.shape[-1])
    leading = leading_axes(target, h_n, real)
    target = np.broadcast_to(target, (*leading, target.shape[-1]))
    looked_up, looking = lookup.forward(fed_back(target, start), weights.embedding)
    embedded = np.where(real[..., None], looked_up, 0)
    hidden = np.broadcast_to(h_n, (*leading, weights.width))
    states, steps = np.empty((*target.shape, weights.width), h_n.dtype), []
    for i in range(target.shape[-1]):
        at = {"embedded": embedded[..., i, :], "hidden": hidden, "encoder_outputs": encoder_outputs}
        hidden, _, taped = advance(weights.look, at, weights.source_lengths, **weights.recurrent)
        states[..., i, :] = hidden
        steps.append(taped)
    logp, reading = read(states, *weights.outward)
    picked = np.take_along_axis(logp, target[..., None], axis=-1)[..., 0]
    tape = {"encoding": encoding, "encoder_outputs": encoder_outputs, "h_n": h_n, "looking": looking, "steps": steps}
    tape |= {"logp": logp, "reading": reading, "look": weights.look, "target": target, "real": real}
    return -np.sum(np.where(real, picked, 0), axis=-1), tape


def backward(dloss, *, encoding, encoder_outputs, h_n, looking, steps, logp, reading, look, target, real):
    dlogp = np.zeros(logp.shape, np.result_type(dloss, logp))
    np.put_along_axis(dlogp, target[..., None], np.where(real, -dloss[..., None], 0)[..., None], axis=-1)
    grads = read_back(dlogp, **reading)
    dstates, dhidden, through_time = grads.pop("h_new"), 0, {}
    dembedded: list = [None] * len(steps)
    for i in reversed(range(len(steps))):
        step_grads = advance_back(look, dstates[..., i, :] + dhidden, None, **steps[i])
        dembedded[i], dhidden = step_grads.pop("embedded"), step_grads.pop("hidden")
        accumulate(through_time, step_grads)
    dlooked_up = np.where(real[..., None], np.stack(dembedded, axis=-2), 0)
    doutputs = reduce_to(through_time.pop("encoder_outputs"), encoder_outputs.shape)
    encoder = gru_encoder.backward((doutputs, reduce_to(dhidden, h_n.shape)), **encoding)
    decoder = lookup.backward(dlooked_up, **looking) | {name: through_time.pop(name) for name in GRU}
    grads |= {f"enc_{name}": d for name, d in encoder.items()} | {f"dec_{name}": d for name, d in decoder.items()}
    return grads | through_time


class Weights:
    """The parameters, sorted by who takes them, and the lengths."""

    def __init__(self, decoder, start, arrays):
        self.look = checked_look(decoder, arrays)
        check_start(start, len(arrays["dec_embedding"]))
        self.source_lengths, self.target_lengths = (arrays.get(name) for name in LENGTHS)
        self.encoder = {name: arrays[f"enc_{name}"] for name in ("embedding", *GRU)} | {"lengths": self.source_lengths}
        self.embedding = arrays["dec_embedding"]
        self.recurrent = {name: arrays[f"dec_{name}"] for name in GRU}
        self.recurrent |= {name: arrays[name] for name in ("w_c", "b_c", *self.look.parameters)}
        self.outward = arrays["w_o"], arrays["b_o"]
        self.width = self.encoder["w_hh"].shape[-1]


def fed_back(target, start):
    """The decoder's inputs: the start token, then the target without its last token."""
    first = np.full((*target.shape[:-1], 1), start, np.intp)
    return np.concatenate([first, target.astype(np.intp)], axis=-1)[..., : target.shape[-1]]


def accumulate(total, grads):
    for name, d in grads.items():
        if name in total:
            total[name] += d
        else:
            total[name] = np.array(d)


def checked_look(decoder, arrays):
    name = "mechanism.seq2seq_loss"
    if not isinstance(decoder, str) or decoder not in LOOKS:
        raise OptionError(f"{name}: there is no decoder {shown(decoder)}{did_you_mean(decoder, LOOKS)}")
    wanted = LOOKS[decoder].parameters
    takes = f"decoder={decoder!r} takes {' '.join(wanted) or 'no attention parameters'}"
    for parameter in dict.fromkeys(p for look in LOOKS.values() for p in look.parameters):
        given = arrays.get(parameter) is not None
        if given != (parameter in wanted):
            raise OptionError(f"{name}: {takes}; {parameter} {'was given too' if given else 'is missing'}")
    return LOOKS[decoder]


def check_steps(target):
    if not target.shape[-1]:
        raise ShapeError("there is no step to predict; axis t of target must be at least 1")


def check_start(start, vocabulary):
    if not isinstance(start, (int, np.integer)) or isinstance(start, bool) or not 0 <= start < vocabulary:
        top = vocabulary - 1
        raise OptionError(f"start={shown(start)} is no token id; with v = {vocabulary} it must be in 0..{top}")
