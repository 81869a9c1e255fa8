"""GRU encoder: one state a token, and the last one.

Steps at or after the length leave the state as it is and put out zeros; their tokens are never looked at.
"""

import numpy as np

from attention_ref.layer import embedding as lookup
from attention_ref.layer import gru_cell, linear
from attention_ref.mechanism.lengths import leading_axes, real_steps
from attention_ref.op.arrays import leading_sum, outer_sum

SIGNATURE = (
    "tokens<v[... t] h_0[... h] embedding[v m] w_ih[3h m] w_hh[3h h] b_ih[3h] b_hh[3h] lengths?<=t[...]"
    " -> outputs[... t h] h_n[... h]"
)
FORMULA = r"h_t = \mathrm{GRU}(E_{\mathrm{token}_t}, h_{t-1})"
SOURCE = "001 §5 (Encoder)"
VARIANTS = ({}, {"include": ("lengths",)})


def definition(xp, tokens, h_0, embedding, w_ih, w_hh, b_ih, b_hh, lengths=None):
    steps = tokens.shape[-1]
    real = real_steps(lengths, steps)
    leading = leading_axes(tokens, h_0, real)
    tokens, hidden, outputs = np.broadcast_to(tokens, (*leading, steps)), h_0 + np.zeros((*leading, 1)), []
    for i in range(steps):
        now = real[..., i, None]
        x = xp.where(now, embedding[tokens[..., i]], 0)
        h_new = gru_cell.definition(xp, x, hidden, w_ih, w_hh, b_ih, b_hh)
        hidden = xp.where(now, h_new, hidden)
        outputs.append(xp.where(now, h_new, 0))
    return xp.stack(outputs, axis=-2) if outputs else np.zeros((*leading, 0, h_0.shape[-1])), hidden


def forward(tokens, h_0, embedding, w_ih, w_hh, b_ih, b_hh, lengths=None):
    steps, h = tokens.shape[-1], h_0.shape[-1]
    real = real_steps(lengths, steps)[..., None]
    looked_up, looking = lookup.forward(tokens, embedding)
    embedded = np.where(real, looked_up, 0)
    from_x, _ = linear.forward(embedded, w_ih, b_ih)
    leading = leading_axes(tokens, h_0, real[..., 0])
    hidden = np.broadcast_to(h_0, (*leading, h))
    outputs, before = (np.empty((*leading, steps, h), from_x.dtype) for _ in range(2))
    gates = []
    for i in range(steps):
        before[..., i, :] = hidden
        from_h, _ = linear.forward(hidden, w_hh, b_hh)
        h_new, taped = gru_cell.gate(from_x[..., i, :], from_h, hidden)
        hidden = np.where(real[..., i, :], h_new, hidden)
        outputs[..., i, :] = np.where(real[..., i, :], h_new, 0)
        gates.append(taped)
    tape = {"looking": looking, "embedded": embedded, "before": before, "gates": gates}
    return (outputs, hidden), tape | {"real": real, "w_ih": w_ih, "w_hh": w_hh}


def backward(cotangents, *, looking, embedded, before, gates, real, w_ih, w_hh):
    doutputs, dhidden = cotangents
    shape = (*before.shape[:-1], len(w_ih))
    dfrom_x, dfrom_h = (np.empty(shape, np.result_type(doutputs, dhidden, before)) for _ in range(2))
    for i in reversed(range(len(gates))):
        dh_new = np.where(real[..., i, :], doutputs[..., i, :] + dhidden, 0)
        dkept = np.where(real[..., i, :], 0, dhidden)
        dfrom_x[..., i, :], dfrom_h[..., i, :], dhidden = gru_cell.gate_back(dh_new, **gates[i])
        dhidden = dkept + dhidden + dfrom_h[..., i, :] @ w_hh
    grads = linear.backward(dfrom_x, x=embedded, w=w_ih)
    dlooked_up = np.where(real, grads["x"], 0)
    return {
        "h_0": dhidden,
        "embedding": lookup.backward(dlooked_up, **looking)["embedding"],
        "w_ih": grads["w"],
        "w_hh": outer_sum(dfrom_h, before),
        "b_ih": grads["b"],
        "b_hh": leading_sum(dfrom_h),
    }
