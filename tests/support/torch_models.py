"""Every rule and mechanism a second time, in PyTorch, from the formulas: torch's own blocks, torch's own gradients.

`RULES` take q, k, v, the rule's parameters, `allowed` and `scale`, and give (o, alpha, lse); `MECHANISMS` take their
signature's arguments and options by name and give the tuple of their results.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def leads(*pairs):
    """The tensors of (tensor, number of own axes) pairs, their leading axes broadcast against each other."""
    lead = torch.broadcast_shapes(*[x.shape[: x.ndim - own] for x, own in pairs])
    return [x.expand(*lead, *x.shape[x.ndim - own :]) for x, own in pairs]


def cat(*tensors):
    """Concatenated on the last axis, the others broadcast."""
    return torch.cat(leads(*[(x, 1) for x in tensors]), dim=-1)


def pairs(q, k):
    """[q_i; k_j] for every i and j."""
    return cat(q[..., :, None, :], k[..., None, :, :])


def softmax(s, keep=None):
    """Over the last axis and the kept entries only; a row without any is 0."""
    if keep is None:
        return F.softmax(s, dim=-1)
    alive = keep.any(-1, keepdim=True)
    shown = s.masked_fill(~keep, -math.inf).masked_fill(~alive, 0.0)
    return F.softmax(shown, dim=-1).masked_fill(~(keep & alive), 0.0)


def logsumexp(s, keep=None):
    if keep is None:
        return torch.logsumexp(s, dim=-1)
    alive = keep.any(-1)
    shown = s.masked_fill(~keep, -math.inf).masked_fill(~alive[..., None], 0.0)
    return torch.logsumexp(shown, dim=-1).masked_fill(~alive, -math.inf)


def within(lengths, n):
    """True at the first `lengths` of n places; None without lengths."""
    return None if lengths is None else torch.arange(n) < lengths[..., None]


def softmax_within(s, lengths):
    """Over the first `lengths` places of the last axis; the leading axes of both broadcast."""
    if lengths is None:
        return softmax(s)
    return softmax(*leads((s, 1), (within(lengths, s.shape[-1]), 1)))


def dot(q, k):
    return q @ k.mT


def additive(q, k, w_q, w_k, b, w_s):
    hidden = torch.tanh(F.linear(q, w_q)[..., :, None, :] + F.linear(k, w_k, b)[..., None, :, :])
    return F.linear(hidden, w_s[None])[..., 0]


def concat_linear(q, k, w, b):
    return F.linear(pairs(q, k), w[None], b[None])[..., 0]


def concat_tanh_sum(q, k, w, b):
    return torch.tanh(F.linear(pairs(q, k), w, b)).sum(-1)


def positional_concat(q, k, w, b):
    return F.linear(cat(q, k), w, b)


def general(q, k, w):
    return F.bilinear(*(x.contiguous() for x in leads(*over_pairs(q, k))), w[None])[..., 0]


def over_pairs(q, k):
    rows, columns = q.shape[-2], k.shape[-2]
    q, k = leads((q, 2), (k, 2))
    return (
        (q[..., :, None, :].expand(*q.shape[:-1], columns, -1), 1),
        (k[..., None, :, :].expand(*k.shape[:-2], rows, -1, -1), 1),
    )


def unit(x):
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    zero = norm == 0
    return torch.where(zero, 0.0, x / torch.where(zero, 1.0, norm))


def cosine(q, k):
    return unit(q) @ unit(k).mT


def key_norm(q, k):
    return (q @ k.mT) * torch.linalg.vector_norm(k, dim=-1)[..., None, :]


def rule(score, factor=lambda q: 1.0, own="softmax"):
    def attend(q, k, v, allowed=None, scale=None, softcap=None, bias=None, sink=None, normalize=None, **parameters):
        twice = {"softmax": False, "double_softmax": True}[normalize or own]
        s = score(q, k, **parameters)
        s = s.expand(*torch.broadcast_shapes(s.shape[:-2], v.shape[:-2]), -1, -1)
        s = s * (factor(q) if scale is None else scale)
        s = s if softcap is None else softcap * torch.tanh(s / softcap)
        s = s if bias is None else s + bias
        keep = None if allowed is None else allowed.broadcast_to(s.shape)
        if sink is None:
            alpha = softmax(softmax(s, keep), keep) if twice else softmax(s, keep)
            return alpha @ v, alpha, None if twice else logsumexp(s, keep)
        s = s if keep is None else s.masked_fill(~keep, -math.inf)
        s = cat(s, sink[..., None, None].expand(*s.shape[:-1], 1))
        alpha = F.softmax(s, dim=-1)[..., :-1]
        return alpha @ v, alpha, torch.logsumexp(s, dim=-1)

    return attend


PIPELINE = ("allowed", "scale", "softcap", "bias", "sink")
RULES = {
    "dot": rule(dot),
    "scaled_dot": rule(dot, factor=lambda q: 1 / math.sqrt(q.shape[-1])),
    "general": rule(general),
    "additive": rule(additive),
    "concat_linear": rule(concat_linear),
    "concat_tanh_sum": rule(concat_tanh_sum),
    "positional_concat": rule(positional_concat),
    "cosine": rule(cosine),
    "double_softmax": rule(dot, own="double_softmax"),
    "key_norm": rule(key_norm),
}


def bmm(a, c):
    return (torch.bmm(a, c),)


def scaled_dot_product(q, k, v):
    return (F.scaled_dot_product_attention(*leads((q, 2), (k, 2), (v, 2))),)


def self_attention(x, w_q, w_k, w_v):
    return scaled_dot_product(x @ w_q, x @ w_k, x @ w_v)


def stacked_self_attention(x, w_q, w_k, w_v):
    for layer in zip(w_q, w_k, w_v, strict=True):
        (x,) = self_attention(x, *layer)
    return (x,)


def pooled_self_attention(x, w_q, w_k, w_v, pool="mean"):
    (y,) = self_attention(x, w_q, w_k, w_v)
    return ({"mean": torch.mean, "max": torch.amax}[pool](y, dim=-2),)


def multi_head_self_attention(x, w_q, b_q, w_k, b_k, w_v, b_v, w_o, b_o, heads):
    def split(w, b):
        return F.linear(x, w, b).unflatten(-1, (heads, -1)).transpose(-2, -3)

    (y,) = scaled_dot_product(split(w_q, b_q), split(w_k, b_k), split(w_v, b_v))
    return (F.linear(y.transpose(-2, -3).flatten(-2) + x, w_o, b_o),)


def multi_head_attention(q, k, v, w_q, w_k, w_v, w_o, b_q=None, b_k=None, b_v=None, b_o=None, **options):
    def project(x, w, b):
        y = x[..., None, :, :] @ w
        return y if b is None else y + b[:, None, :]

    lead = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    _, alpha, _ = RULES["scaled_dot"](project(q, w_q, b_q), project(k, w_k, b_k), project(v, w_v, b_v), **options)
    o = alpha @ project(v, w_v, b_v)
    y = F.linear(o.transpose(-2, -3).flatten(-2), w_o.flatten(0, 1).mT, b_o)
    return y, alpha.expand(*lead, -1, -1, -1)


def multi_head_layer(q, k, v, w_q, w_k, w_v, w_o, b_q, b_k, b_v, b_o, allowed):
    """The same by nn.MultiheadAttention, whose heads are as wide together as its output and whose mask is True = no."""
    width = w_o.shape[-1]
    module = nn.MultiheadAttention(width, len(w_q), kdim=k.shape[-1], vdim=v.shape[-1], batch_first=True, dtype=q.dtype)
    weights = {f"{name}_proj_weight": w.mT.flatten(0, 1) for name, w in (("q", w_q), ("k", w_k), ("v", w_v))}
    weights["in_proj_bias"] = torch.cat([b_q.flatten(), b_k.flatten(), b_v.flatten()])
    weights |= {"out_proj.weight": w_o.flatten(0, 1).mT, "out_proj.bias": b_o}
    options = {"attn_mask": ~allowed.flatten(0, 1), "average_attn_weights": False}
    return functional_call(module, weights, (q, k, v), options)


def elementwise_heads(q, k, v):
    q, k, v = leads((q, 2), (k, 2), (v, 2))
    return (F.softmax((q * k).mT / math.sqrt(q.shape[-1]), dim=-1).mT * (q * v),)


def attn(q, k, v, w_a, b_a, w_c, b_c):
    o, alpha, _ = RULES["positional_concat"](q, k, v, w=w_a, b=b_a)
    return F.linear(cat(q, o), w_c, b_c), alpha


def query_values(q, values, w_1, b_1, w_2, b_2, lengths=None):
    s = (values @ q[..., None])[..., 0] / math.sqrt(q.shape[-1])
    alpha = softmax_within(s, lengths)
    context = (alpha[..., None, :] @ values)[..., 0, :]
    return F.relu(F.linear(context, w_1, b_1)) + F.linear(q, w_2, b_2), alpha


def gru(x, h_0, w_ih, w_hh, b_ih, b_hh, lengths=None):
    """nn.GRU with these weights; after its length a row's outputs are 0 and its last state stands."""
    lead = torch.broadcast_shapes(x.shape[:-2], h_0.shape[:-1], () if lengths is None else lengths.shape)
    x, h_0 = x.expand(*lead, *x.shape[-2:]), h_0.expand(*lead, -1)
    rows, state = x.reshape(-1, *x.shape[-2:]), h_0.reshape(1, -1, h_0.shape[-1])
    weights = {"weight_ih_l0": w_ih, "weight_hh_l0": w_hh, "bias_ih_l0": b_ih, "bias_hh_l0": b_hh}
    module = nn.GRU(x.shape[-1], h_0.shape[-1], batch_first=True, dtype=x.dtype)
    if lengths is None:
        outputs, h_n = functional_call(module, weights, (rows, state))
        return outputs.reshape(*lead, *outputs.shape[-2:]), h_n.reshape(*lead, -1)
    counts = lengths.broadcast_to(lead)
    packed = pack_padded_sequence(rows, counts.reshape(-1).clamp(min=1), batch_first=True, enforce_sorted=False)
    outputs, h_n = functional_call(module, weights, (packed, state))
    outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[-2])
    outputs, h_n = outputs.reshape(*lead, *outputs.shape[-2:]), h_n.reshape(*lead, -1)
    empty = (counts == 0)[..., None]
    return outputs.masked_fill(empty[..., None], 0.0), torch.where(empty, h_0, h_n)


def gru_cell(x, h, w_ih, w_hh, b_ih, b_hh):
    x, h = leads((x, 1), (h, 1))
    module = nn.GRUCell(x.shape[-1], h.shape[-1], dtype=x.dtype)
    weights = {"weight_ih": w_ih, "weight_hh": w_hh, "bias_ih": b_ih, "bias_hh": b_hh}
    new = functional_call(module, weights, (x.reshape(-1, x.shape[-1]), h.reshape(-1, h.shape[-1])))
    return new.reshape(h.shape)


def gru_encoder(tokens, h_0, embedding, w_ih, w_hh, b_ih, b_hh, lengths=None):
    return gru(F.embedding(tokens, embedding), h_0, w_ih, w_hh, b_ih, b_hh, lengths)


def decode(embedded, hidden, context, w_c, b_c, w_ih, w_hh, b_ih, b_hh, w_o, b_o):
    """Combine, one GRU step, log-softmax over the vocabulary."""
    h_new = gru_cell(F.linear(cat(embedded, context), w_c, b_c), hidden, w_ih, w_hh, b_ih, b_hh)
    return F.log_softmax(F.linear(h_new, w_o, b_o), dim=-1), h_new


def weigh(s, encoder_outputs, lengths):
    """(weights, context) of the scores of one decoder step."""
    s, encoder_outputs = leads((s, 1), (encoder_outputs, 2))
    alpha = softmax_within(s, lengths)
    return alpha, (alpha[..., None, :] @ encoder_outputs)[..., 0, :]


def attention_decoder_step(token, hidden, encoder_outputs, embedding, w_a, b_a, lengths=None, **weights):
    embedded = F.embedding(token, embedding)
    alpha, context = weigh(F.linear(cat(embedded, hidden), w_a, b_a), encoder_outputs, lengths)
    return step_results(*decode(embedded, hidden, context, **weights), alpha)


def additive_decoder_step(token, hidden, encoder_outputs, embedding, w_q, w_k, b, w_s, lengths=None, **weights):
    embedded = F.embedding(token, embedding)
    s = additive(hidden[..., None, :], encoder_outputs, w_q, w_k, b, w_s)[..., 0, :]
    alpha, context = weigh(s, encoder_outputs, lengths)
    return step_results(*decode(embedded, hidden, context, **weights), alpha)


def step_results(logp, h_new, alpha):
    return tuple(leads((logp, 1), (h_new, 1), (alpha, 1)))


def summed_context(h, lengths=None):
    if lengths is None:
        return (h.sum(-2),)
    h, keep = leads((h, 1), (within(lengths, h.shape[-2])[..., None], 1))
    return (h.where(keep, 0.0).sum(-2),)


def seq2seq_loss(
    source,
    target,
    enc_embedding,
    enc_w_ih,
    enc_w_hh,
    enc_b_ih,
    enc_b_hh,
    decoder="attention",
    start=0,
    source_lengths=None,
    target_lengths=None,
    **parameters,
):
    parameters = {name.removeprefix("dec_"): value for name, value in parameters.items()}
    h_0 = enc_w_ih.new_zeros(enc_w_hh.shape[-1])
    outputs, hidden = gru_encoder(source, h_0, enc_embedding, enc_w_ih, enc_w_hh, enc_b_ih, enc_b_hh, source_lengths)
    keep = within(target_lengths, target.shape[-1])
    token, loss = torch.tensor(start), 0.0
    for t in range(target.shape[-1]):
        logp, hidden = advance(decoder, token, hidden, outputs, source_lengths, parameters)
        token = target[..., t]
        lead = torch.broadcast_shapes(logp.shape[:-1], token.shape, () if keep is None else keep.shape[:-1])
        wanted = token.expand(lead).reshape(-1)
        missed = F.nll_loss(logp.expand(*lead, -1).reshape(-1, logp.shape[-1]), wanted, reduction="none").reshape(lead)
        loss = loss + (missed if keep is None else missed.masked_fill(~keep[..., t], 0.0))
    return (loss,)


def advance(decoder, token, hidden, outputs, lengths, parameters):
    """(logp, hidden) of one step of the decoder by that name."""
    if decoder == "attention":
        return attention_decoder_step(token, hidden, outputs, lengths=lengths, **parameters)[:2]
    if decoder == "additive":
        return additive_decoder_step(token, hidden, outputs, lengths=lengths, **parameters)[:2]
    weights = {name: value for name, value in parameters.items() if name != "embedding"}
    return decode(F.embedding(token, parameters["embedding"]), hidden, outputs.sum(-2), **weights)


MECHANISMS = {
    f.__name__: f
    for f in (
        bmm,
        self_attention,
        multi_head_self_attention,
        multi_head_attention,
        elementwise_heads,
        stacked_self_attention,
        pooled_self_attention,
        attn,
        query_values,
        scaled_dot_product,
        gru_encoder,
        attention_decoder_step,
        additive_decoder_step,
        summed_context,
        seq2seq_loss,
    )
}
