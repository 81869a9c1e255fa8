"""Attention decoder step: the weights come from [embedded; hidden], one weight vector for each source position.

In the printed class the number of positions is the width of the hidden state, so that a source has to be exactly as
long as the state is wide; here the positions j have a size of their own. There is no ReLU, as printed.
"""

from attention_ref.mechanism import decoder

SIGNATURE = (
    "token<v[...] hidden[... h] encoder_outputs[... j e] embedding[v m] w_a[j m+h] b_a[j] w_c[x m+e] b_c[x]"
    " w_ih[3h x] w_hh[3h h] b_ih[3h] b_hh[3h] w_o[v h] b_o[v] lengths?<=j[...]"
    " -> logp[... v] h_new[... h] alpha[... j]"
)
FORMULA = (
    r"\alpha = \mathrm{softmax}(W_a [E_y ; h] + b_a),\; c = \sum_j \alpha_j h_j,\; "
    r"h' = \mathrm{GRU}(W_c [E_y ; c] + b_c, h),\; \log p = \mathrm{logsoftmax}(W_o h' + b_o)"
)
SOURCE = "001 §5 (AttnDecoder)"
VARIANTS = ({}, {"include": ("lengths",)})
ATTEND = decoder.Attend("positional_concat", q="embedded", k="hidden", v="encoder_outputs", w="w_a", b="b_a")


def definition(xp, token, hidden, encoder_outputs, embedding, lengths=None, **parameters):
    return decoder.step_definition(xp, ATTEND, token, hidden, encoder_outputs, embedding, lengths, **parameters)


def forward(token, hidden, encoder_outputs, embedding, lengths=None, **parameters):
    return decoder.step(ATTEND, token, hidden, encoder_outputs, embedding, lengths, **parameters)


def backward(cotangents, **tape):
    return decoder.step_back(ATTEND, cotangents, **tape)
