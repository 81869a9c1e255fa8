"""Additive decoder step: a small network scores each of the encoder's outputs against the hidden state."""

from attention_ref.mechanism import decoder

SIGNATURE = (
    "token<v[...] hidden[... h] encoder_outputs[... j e] embedding[v m] w_q[y h] w_k[y e] b[y] w_s[y]"
    " w_c[x m+e] b_c[x] w_ih[3h x] w_hh[3h h] b_ih[3h] b_hh[3h] w_o[v h] b_o[v] lengths?<=j[...]"
    " -> logp[... v] h_new[... h] alpha[... j]"
)
FORMULA = (
    r"\alpha_{ij} = \mathrm{softmax}_j(w_s \cdot \tanh(W_q h + W_k h_j + b)),\; c_i = \sum_j \alpha_{ij} h_j,\; "
    r"h' = \mathrm{GRU}(W_c [E_y ; c_i] + b_c, h),\; \log p = \mathrm{logsoftmax}(W_o h' + b_o)"
)
SOURCE = "001 §3"
VARIANTS = ({}, {"include": ("lengths",)})
ATTEND = decoder.Attend(
    "additive", q="hidden", k="encoder_outputs", v="encoder_outputs", w_q="w_q", w_k="w_k", b="b", w_s="w_s"
)


def definition(xp, token, hidden, encoder_outputs, embedding, lengths=None, **parameters):
    return decoder.step_definition(xp, ATTEND, token, hidden, encoder_outputs, embedding, lengths, **parameters)


def forward(token, hidden, encoder_outputs, embedding, lengths=None, **parameters):
    return decoder.step(ATTEND, token, hidden, encoder_outputs, embedding, lengths, **parameters)


def backward(cotangents, **tape):
    return decoder.step_back(ATTEND, cotangents, **tape)
