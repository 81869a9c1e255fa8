"""GRU cell: one step of a gated recurrent unit, its gates in the order reset, update, new, as in nn.GRU."""

import numpy as np

from attention_ref.layer import linear, sigmoid

SIGNATURE = "x[... m] hidden[... h] w_ih[3h m] w_hh[3h h] b_ih[3h] b_hh[3h] -> h_new[... h]"
FORMULA = (
    r"r = \sigma(W_{ir} x + b_{ir} + W_{hr} h + b_{hr}),\; z = \sigma(W_{iz} x + b_{iz} + W_{hz} h + b_{hz}),\; "
    r"n = \tanh(W_{in} x + b_{in} + r \odot (W_{hn} h + b_{hn})),\; h' = (1 - z) \odot n + z \odot h"
)
SOURCE = "001 §5 (nn.GRU)"


def definition(xp, x, hidden, w_ih, w_hh, b_ih, b_hh):
    h = hidden.shape[-1]
    reset, update, new = slice(0, h), slice(h, 2 * h), slice(2 * h, 3 * h)

    def from_x(gate):
        return xp.einsum("...m,hm->...h", x, w_ih[gate]) + b_ih[gate]

    def from_h(gate):
        return xp.einsum("...k,hk->...h", hidden, w_hh[gate]) + b_hh[gate]

    r = sigmoid.definition(xp, from_x(reset) + from_h(reset))
    z = sigmoid.definition(xp, from_x(update) + from_h(update))
    n = xp.tanh(from_x(new) + r * from_h(new))
    return (1 - z) * n + z * hidden


def forward(x, hidden, w_ih, w_hh, b_ih, b_hh):
    from_x, _ = linear.forward(x, w_ih, b_ih)
    from_h, _ = linear.forward(hidden, w_hh, b_hh)
    h_new, gates = gate(from_x, from_h, hidden)
    return h_new, {"x": x, "w_ih": w_ih, "w_hh": w_hh, "gates": gates}


def backward(dh_new, *, x, w_ih, w_hh, gates):
    dfrom_x, dfrom_h, dhidden = gate_back(dh_new, **gates)
    through_h = linear.backward(dfrom_h, x=gates["hidden"], w=w_hh)
    through_x = linear.backward(dfrom_x, x=x, w=w_ih)
    dparameters = {"w_ih": through_x["w"], "w_hh": through_h["w"], "b_ih": through_x["b"], "b_hh": through_h["b"]}
    return {"x": through_x["x"], "hidden": dhidden + through_h["x"]} | dparameters


def gate(from_x, from_h, hidden):
    """The new state from what the two linear maps say, and the tape: the part of the step without parameters."""
    h = hidden.shape[-1]
    rz, _ = sigmoid.forward(from_x[..., : 2 * h] + from_h[..., : 2 * h])
    r, z = rz[..., :h], rz[..., h:]
    h_n = from_h[..., 2 * h :]
    n = np.tanh(from_x[..., 2 * h :] + r * h_n)
    return (1 - z) * n + z * hidden, {"r": r, "z": z, "n": n, "h_n": h_n, "hidden": hidden}


def gate_back(dh_new, *, r, z, n, h_n, hidden):
    """(dfrom_x, dfrom_h, dhidden) of `gate`."""
    dz, dn, dhidden = dh_new * (hidden - n), dh_new * (1 - z), dh_new * z
    dpre_n = dn * (1 - n * n)
    dpre_z = sigmoid.backward(dz, y=z)["x"]
    dpre_r = sigmoid.backward(dpre_n * h_n, y=r)["x"]
    dfrom_x = np.concatenate([dpre_r, dpre_z, dpre_n], axis=-1)
    dfrom_h = np.concatenate([dpre_r, dpre_z, dpre_n * r], axis=-1)
    return dfrom_x, dfrom_h, dhidden
