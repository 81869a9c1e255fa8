"""What the decoders share: look at the encoder's outputs, combine [embedded; context], one GRU step, read out."""

import numpy as np

from attention_ref.layer import embedding as lookup
from attention_ref.layer import gru_cell, linear, log_softmax
from attention_ref.mechanism import summed_context
from attention_ref.mechanism.lengths import leading_axes, real_steps
from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import rules

ROWS = ("embedded", "hidden")
STATES = (*ROWS, "encoder_outputs")


class Attend:
    """A decoder's look at the encoder's outputs: an attention rule, and what plays which of its parts."""

    def __init__(self, rule, **parts):
        self.rule, self.parts = rule, parts
        self.parameters = tuple(name for name in parts.values() if name not in STATES)

    def definition(self, xp, states, lengths, parameters):
        o, alpha, _ = rules[self.rule].definition(xp, **self.cast(states, parameters), allowed=allowed(lengths, states))
        return o[..., 0, :], alpha[..., 0, :]

    def forward(self, states, lengths, parameters):
        attended = attention(rule=self.rule, **self.cast(states, parameters), allowed=allowed(lengths, states))
        return attended.o[..., 0, :], attended.alpha[..., 0, :], attended

    def backward(self, dcontext, dalpha, attended):
        g = attended.backward(dcontext[..., None, :], dalpha=None if dalpha is None else dalpha[..., None, :])
        grads = {}
        for part, name in self.parts.items():
            d = g[part][..., 0, :] if name in ROWS else g[part]
            grads[name] = grads[name] + d if name in grads else d
        return grads

    def cast(self, states, parameters):
        """The rule's inputs by part: the embedded token and the hidden state are sequences of one row."""
        known = states | {name: states[name][..., None, :] for name in ROWS} | parameters
        return {part: known[name] for part, name in self.parts.items()}


class Sum:
    """The look of the baseline: every output of the encoder counts the same, and nothing else does."""

    parameters = ()

    def definition(self, xp, states, lengths, parameters):
        return summed_context.definition(xp, states["encoder_outputs"], lengths), None

    def forward(self, states, lengths, parameters):
        context, taped = summed_context.forward(states["encoder_outputs"], lengths)
        return context, None, taped

    def backward(self, dcontext, dalpha, taped):
        return {"encoder_outputs": summed_context.backward(dcontext, **taped)["h"]}


def allowed(lengths, states):
    return None if lengths is None else real_steps(lengths, states["encoder_outputs"].shape[-2])[..., None, :]


def step_definition(xp, look, token, hidden, encoder_outputs, embedding, lengths, w_o, b_o, **parameters):
    """(logp, h_new, alpha) of one decoder step, as the text prints it."""
    leading = step_leading(token, hidden, encoder_outputs, lengths)
    states = {"embedded": embedding[token], "hidden": hidden + np.zeros((*leading, 1))}
    h_new, alpha = advance_definition(xp, look, states | {"encoder_outputs": encoder_outputs}, lengths, **parameters)
    return log_softmax.definition(xp, linear.definition(xp, h_new, w_o, b_o)), h_new, alpha


def step(look, token, hidden, encoder_outputs, embedding, lengths, w_o, b_o, **parameters):
    """((logp, h_new, alpha), tape) of one decoder step."""
    leading = step_leading(token, hidden, encoder_outputs, lengths)
    embedded, looking = lookup.forward(np.broadcast_to(token, leading), embedding)
    states = {"embedded": embedded, "hidden": np.broadcast_to(hidden, (*leading, hidden.shape[-1]))}
    h_new, alpha, advanced = advance(look, states | {"encoder_outputs": encoder_outputs}, lengths, **parameters)
    logp, reading = read(h_new, w_o, b_o)
    return (logp, h_new, alpha), {"looking": looking, "advanced": advanced, "reading": reading}


def step_back(look, cotangents, *, looking, advanced, reading):
    dlogp, dh_new, dalpha = cotangents
    grads = read_back(dlogp, **reading)
    grads |= advance_back(look, dh_new + grads.pop("h_new"), dalpha, **advanced)
    return grads | lookup.backward(grads.pop("embedded"), **looking)


def step_leading(token, hidden, encoder_outputs, lengths):
    counted = () if lengths is None else lengths.shape
    return np.broadcast_shapes(token.shape, leading_axes(hidden), encoder_outputs.shape[:-2], counted)


def advance_definition(xp, look, states, lengths, w_c, b_c, w_ih, w_hh, b_ih, b_hh, **own):
    context, alpha = look.definition(xp, states, lengths, own)
    m = states["embedded"].shape[-1]
    from_token = xp.einsum("...m,xm->...x", states["embedded"], w_c[:, :m])
    combined = from_token + xp.einsum("...e,xe->...x", context, w_c[:, m:]) + b_c
    return gru_cell.definition(xp, combined, states["hidden"], w_ih, w_hh, b_ih, b_hh), alpha


def advance(look, states, lengths, w_c, b_c, w_ih, w_hh, b_ih, b_hh, **own):
    """(h_new, alpha, tape): the part of a step that the next one waits for.

    The embedded token and the hidden state must have the same leading axes, those of everything in the step.
    """
    context, alpha, looked = look.forward(states, lengths, own)
    combined, combining = linear.forward(concatenate(states["embedded"], context), w_c, b_c)
    h_new, recurring = gru_cell.forward(combined, states["hidden"], w_ih, w_hh, b_ih, b_hh)
    split = states["embedded"].shape[-1]
    return h_new, alpha, {"looked": looked, "combining": combining, "recurring": recurring, "split": split}


def advance_back(look, dh_new, dalpha, *, looked, combining, recurring, split):
    grads = gru_cell.backward(dh_new, **recurring)
    combined = linear.backward(grads.pop("x"), **combining)
    dembedded, dcontext = combined["x"][..., :split], combined["x"][..., split:]
    through = look.backward(dcontext, dalpha, looked)
    dembedded = dembedded + through.pop("embedded", 0)
    dhidden = grads.pop("hidden") + through.pop("hidden", 0)
    return grads | through | {"embedded": dembedded, "hidden": dhidden, "w_c": combined["w"], "b_c": combined["b"]}


def read(h, w_o, b_o):
    """(log-probabilities of the next token, tape), for any number of states at once."""
    logits, outward = linear.forward(h, w_o, b_o)
    logp, normalizing = log_softmax.forward(logits)
    return logp, {"outward": outward, "normalizing": normalizing}


def read_back(dlogp, *, outward, normalizing):
    grads = linear.backward(log_softmax.backward(dlogp, **normalizing)["x"], **outward)
    return {"h_new": grads["x"], "w_o": grads["w"], "b_o": grads["b"]}


def concatenate(a, b):
    leading = leading_axes(a, b)
    return np.concatenate([np.broadcast_to(x, (*leading, x.shape[-1])) for x in (a, b)], axis=-1)
