"""PyTorch's own attentions, in their conventions, against `ar.attention`: the output, the lse and every gradient.

scaled_dot_product_attention differentiates in float64 with its math backend. flex_attention has no backward on a CPU:
its forward is compared, and the same score_mod and mask_mod written out on whole matrices give the gradients.
"""

import numpy as np
import pytest
import torch
from agreement import agree, relative
from index_notation import ALONE, PAIRS, RANDOM, H, L, S, adjusted, case, permitted, whole
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import attention_ref as ar
from attention_ref.adjust.rotary import rotary_angles

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning:torch.nn.attention"),
]

INF = float("inf")


def tensor(x, requires_grad=False):
    return torch.tensor(x, requires_grad=requires_grad and np.asarray(x).dtype.kind == "f")


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


# scaled_dot_product_attention


def by_torch(q, k, v, do, attn_mask=None, **options):
    leaves = {"q": tensor(q, True), "k": tensor(k, True), "v": tensor(v, True)}
    if attn_mask is not None:
        leaves["bias"] = attn_mask = tensor(attn_mask, True)
    with sdpa_kernel(SDPBackend.MATH):
        o = scaled_dot_product_attention(*list(leaves.values())[:3], attn_mask=attn_mask, **options)
    leaves = {name: x for name, x in leaves.items() if x.requires_grad}
    grads = torch.autograd.grad(o, list(leaves.values()), tensor(do))
    return {"o": o.detach().numpy()} | {f"d{name}": g.numpy() for name, g in zip(leaves, grads, strict=True)}


def by_us(q, k, v, do, **options):
    a = ar.attention(q, k, v, **options)
    return {"o": a.o} | {f"d{name}": g for name, g in a.backward(do).items()}


def allowed(shape, dead=False):
    keep = np.random.default_rng(len(shape)).random(shape) < 0.6
    keep[..., 0] = True
    if dead:
        keep[..., 1, :] = False
    return keep


def bias(shape, dead=False):
    return np.where(allowed(shape, dead), draw(len(shape), shape)[0], -INF)


SDPA = {
    "plain": ({}, {}),
    "causal": ({"is_causal": True}, {"causal": True, "align": "top_left"}),
    "scale": ({"scale": 0.3}, {"scale": 0.3}),
    "negative scale": ({"scale": -0.3}, {"scale": -0.3}),
    "boolean mask": ({"attn_mask": allowed((3, 5, 11))}, {"allowed": allowed((3, 5, 11))}),
    "one mask for all": ({"attn_mask": allowed((5, 11))}, {"allowed": allowed((5, 11))}),
    "mask of the keys": ({"attn_mask": allowed((2, 1, 1, 11))}, {"allowed": allowed((2, 1, 1, 11))}),
    "dead rows": ({"attn_mask": allowed((3, 5, 11), True)}, {"allowed": allowed((3, 5, 11), True)}),
    "float mask": ({"attn_mask": bias((3, 5, 11))}, {"bias": bias((3, 5, 11))}),
    "float mask over the batch": ({"attn_mask": bias((2, 1, 5, 11))}, {"bias": bias((2, 1, 5, 11))}),
    "float mask, dead rows": ({"attn_mask": bias((2, 3, 5, 11), True)}, {"bias": bias((2, 3, 5, 11), True)}),
    "mask and scale": ({"attn_mask": bias((5, 11)), "scale": 0.7}, {"bias": bias((5, 11)), "scale": 0.7}),
}


@pytest.mark.parametrize("name", SDPA)
def test_scaled_dot_product_attention(name):
    theirs, ours = SDPA[name]
    q, k, v, do = draw(0, (2, 3, 5, 7), (2, 3, 11, 7), (2, 3, 11, 13), (2, 3, 5, 13))
    agree(by_us(q, k, v, do, **ours), by_torch(q, k, v, do, **theirs))


@pytest.mark.parametrize(("queries", "keys"), [(5, 11), (11, 5), (7, 7), (1, 5)])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 3, 2)], ids=str)
def test_causal_is_top_left(leading, queries, keys):
    q, k, v, do = draw(1, (*leading, queries, 7), (*leading, keys, 7), (*leading, keys, 3), (*leading, queries, 3))
    theirs = by_torch(q, k, v, do, is_causal=True)
    agree(by_us(q, k, v, do, causal=True, align="top_left"), theirs)
    if queries != keys:
        assert relative(by_us(q, k, v, do, causal=True, align="bottom_right")["o"], theirs["o"]) > 0.01


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
@pytest.mark.parametrize("name", ["plain", "causal", "scale", "one mask for all"])
def test_grouped_heads(name, heads):
    theirs, ours = SDPA[name]
    q, k, v, do = draw(2, (2, 6, 5, 7), (2, heads, 11, 7), (2, heads, 11, 13), (2, 6, 5, 13))
    agree(by_us(q, k, v, do, **ours), by_torch(q, k, v, do, enable_gqa=True, **theirs))


def test_a_row_with_nothing_allowed_is_zero_in_both():
    q, k, v, do = draw(3, (3, 5, 7), (3, 11, 7), (3, 11, 2), (3, 5, 2))
    keep = allowed((5, 11), dead=True)
    for found in (by_us(q, k, v, do, allowed=keep), by_torch(q, k, v, do, keep)):
        assert not found["o"][:, 1].any()
        assert not found["dq"][:, 1].any()


def test_a_masked_nan_leaks_from_theirs_and_not_from_ours():
    """Theirs multiplies the weight 0 with the NaN; ours selects."""
    q, k, v, do = draw(4, (5, 7), (11, 7), (11, 2), (5, 2))
    keep = allowed((5, 11))
    keep[:, 4] = False
    clean = by_us(q, k, v, do, allowed=keep)
    v[4] = np.nan
    ours, theirs = by_us(q, k, v, do, allowed=keep), by_torch(q, k, v, do, keep)
    assert np.isnan(theirs["o"]).all()
    agree(ours, clean)
    k[4] = np.nan
    agree(by_us(q, k, v, do, allowed=keep), clean)


def test_they_refuse_a_mask_with_is_causal_and_ours_is_the_union():
    q, k, v, do = draw(5, (5, 7), (11, 7), (11, 2), (5, 2))
    keep = allowed((5, 11))
    with pytest.raises(RuntimeError, match="attn_mask should not be set when is_causal"):
        by_torch(q, k, v, do, keep, is_causal=True)
    agree(by_us(q, k, v, do, allowed=keep, causal=True, align="top_left"), by_torch(q, k, v, do, np.tril(keep)))


# nn.MultiheadAttention: test_torch.py has its values and gradients; here is what it makes of padding


def test_the_padding_of_multi_head_attention_is_what_ours_does_not_allow():
    """Where every key is padding, it gives NaN if it is asked for the weights too, and as ours 0 if it is not."""
    q, k, v = draw(8, (2, 5, 15), (2, 11, 15), (2, 11, 15))
    torch.manual_seed(8)
    layer = torch.nn.MultiheadAttention(15, 3, bias=False, batch_first=True, dtype=torch.float64)
    projections = layer.in_proj_weight.detach().numpy().reshape(3, 3, 5, 15).swapaxes(-1, -2)
    weights = dict(zip(("w_q", "w_k", "w_v"), projections, strict=True))
    weights["w_o"] = layer.out_proj.weight.detach().numpy().T.reshape(3, 5, 15)
    padding = np.arange(11) >= np.array([[7], [0]])
    (y, alpha), _ = ar.mechanisms["multi_head_attention"].forward(
        q=q, k=k, v=v, **weights, allowed=~padding[:, None, None]
    )
    inputs, options = [tensor(x) for x in (q, k, v)], {"key_padding_mask": tensor(padding)}
    theirs, shares = layer(*inputs, average_attn_weights=False, **options)
    agree({"y": y[0], "alpha": alpha[0]}, {"y": theirs[0].detach().numpy(), "alpha": shares[0].detach().numpy()})
    assert torch.isnan(theirs[1]).all()
    theirs, _ = layer(*inputs, need_weights=False, **options)
    agree({"y": y}, {"y": theirs.detach().numpy()})
    assert not y[1].any()


# flex_attention, and the same options written out


def by_flex(found):
    """o and lse; scale and sink are not options of theirs: the one is a number, the other a share given up by lse."""
    given = {name: tensor(x) for name, x in found.given.items()}

    def score_mod(s, b, h, i, j):
        return adjusted(torch, s, b, h, i, j, given, found.chosen)

    def mask_mod(b, h, i, j):
        return permitted(b, h, i, j, given, found.chosen)

    q, k, v = (tensor(found.ours[name]) for name in "qkv")
    o, aux = flex_attention(
        q,
        k,
        v,
        score_mod=score_mod,
        block_mask=create_block_mask(mask_mod, len(q), H, L, S, device="cpu"),
        scale=float(given["scale"]) if "scale" in given else None,
        enable_gqa=True,
        return_aux=AuxRequest(lse=True),
    )
    if "sink" in given:
        sink = given["sink"][:, None]
        return {"o": o * torch.sigmoid(aux.lse - sink)[..., None], "lse": torch.logaddexp(aux.lse, sink)}
    return {"o": o, "lse": aux.lse}


def written_out(found, do, dalpha, dlse):
    """(o, alpha, lse) and the gradient of every floating-point input, by torch's autograd."""
    leaves = {name: tensor(found.ours[name], True) for name in "qkv"}
    given = {name: tensor(x, True) for name, x in found.given.items()}
    leaves |= {name: x for name, x in given.items() if x.requires_grad}
    results = whole(torch, leaves["q"], leaves["k"], leaves["v"], given, found.chosen)
    cotangents = [tensor(d) for d in (do, dalpha, dlse)]
    grads = torch.autograd.grad(results, list(leaves.values()), cotangents)
    values = {name: x.detach().numpy() for name, x in zip(("o", "alpha", "lse"), results, strict=True)}
    return values | {f"d{name}": g.numpy() for name, g in zip(leaves, grads, strict=True)}


def ours_of(found, seed=0):
    a = ar.attention(**found.ours)
    cotangents = draw(seed, a.o.shape, a.alpha.shape, a.lse.shape)
    grads = a.backward(*(cotangents[n] for n in (0, 2, 1)))
    values = {"o": a.o, "alpha": a.alpha, "lse": a.lse}
    return values | {f"d{name}": g for name, g in grads.items()}, cotangents


def check_options(chosen, **layout):
    found = case(chosen, **layout)
    ours, cotangents = ours_of(found)
    theirs = written_out(found, *cotangents)
    assert set(theirs) == set(ours)
    agree(ours, theirs)
    if "dropout" not in chosen:
        agree(ours, {name: x.numpy() for name, x in by_flex(found).items()})


@pytest.mark.parametrize("chosen", ALONE, ids=" ".join)
@pytest.mark.parametrize("heads", [1, 2, 6])
@pytest.mark.parametrize("align", ["top_left", "bottom_right", 3, [-2, 4]], ids=str)
def test_every_option(chosen, heads, align):
    check_options(chosen, heads=heads, align=align)


@pytest.mark.parametrize("chosen", PAIRS, ids=" ".join)
def test_every_pair_of_options(chosen):
    check_options(chosen)


@pytest.mark.parametrize("chosen", RANDOM, ids=" ".join)
def test_many_options_together(chosen):
    check_options(chosen, align=[-2, 4])


def test_flex_attention_has_no_backward_on_a_cpu():
    q, k, v = (tensor(x, True) for x in draw(6, (1, 1, 5, 7), (1, 1, 11, 7), (1, 1, 11, 3)))
    with pytest.raises(NotImplementedError, match="does not support backward on CPU"):
        flex_attention(q, k, v)


def test_a_sink_is_a_key_that_nobody_reads():
    """A key whose score is the sink for every query and whose value is 0, in scaled_dot_product_attention itself."""
    q, k, v, do, sink = draw(7, (2, 3, 5, 7), (2, 3, 11, 7), (2, 3, 11, 2), (2, 3, 5, 2), (3,))
    bias = np.zeros((3, 5, 12))
    bias[..., 11] = sink[:, None]
    more = [np.concatenate([x, np.zeros((2, 3, 1, x.shape[-1]))], axis=2) for x in (k, v)]
    theirs, ours = by_torch(q, *more, do, bias), by_us(q, k, v, do, sink=sink)
    theirs["dsink"] = theirs.pop("dbias")[..., 11].sum(-1)
    agree(ours, theirs | {name: theirs[name][:, :, :11] for name in ("dk", "dv")})


# Rotary embedding


def rotate_complex(x, cos, sin):
    """Interleaved: every pair of features is a complex number, which turns by multiplication."""
    r = cos.shape[-1]
    pairs = torch.view_as_complex(x[..., : 2 * r].unflatten(-1, (r, 2)))
    return torch.cat([torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2), x[..., 2 * r :]], -1)


def rotate_half(x, cos, sin):
    """In halves, as GPT-NeoX and Llama have it: x cos + rotate_half(x) sin."""
    turning, rest = x.tensor_split([2 * cos.shape[-1]], -1)
    a, b = turning.chunk(2, -1)
    both = torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)
    return torch.cat([turning * both[0] + torch.cat([-b, a], -1) * both[1], rest], -1)


@pytest.mark.parametrize("width", [12, 8, 2])
@pytest.mark.parametrize(("interleaved", "model"), [(True, rotate_complex), (False, rotate_half)])
def test_rotary(interleaved, model, width):
    x, dy = draw(8, (2, 3, 5, 12), (2, 3, 5, 12))
    positions = np.array([[0, 1, 2, 3, 4], [7, 3, 11, 0, 1000]])[:, None]
    frequencies = 10000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.tensor(positions)[..., None] * frequencies
    cos, sin = rotary_angles(positions, width)
    leaves = [tensor(x, True), angles.cos().requires_grad_(), angles.sin().requires_grad_()]
    agree({"cos": cos, "sin": sin}, {"cos": leaves[1].detach().numpy(), "sin": leaves[2].detach().numpy()})
    want = model(*leaves)
    grads = torch.autograd.grad(want, leaves, tensor(dy))
    y, tape = ar.ops["adjust.rotary"].forward(x=x, cos=cos, sin=sin, interleaved=interleaved)
    ours = {"y": y} | ar.ops["adjust.rotary"].backward(dy, **tape)
    agree(ours, {"y": want.detach().numpy()} | dict(zip(("x", "cos", "sin"), (g.numpy() for g in grads), strict=True)))
