"""The ways to compute one attention that are installed here, each a call without arguments."""

import numpy as np

from attention_ref.backend.keras import Keras
from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import find
from benchmarks.bare import Bare


def contenders(arrays, rule, causal, backward):
    """({name: call}, {name: why it is left out})"""
    do = np.random.default_rng(1).standard_normal((*arrays["q"].shape[:-1], arrays["v"].shape[-1]))
    do = do.astype(arrays["q"].dtype)
    calls, left_out = {}, {}
    for name, (make, rules) in MAKERS.items():
        if rules and rule not in rules:
            left_out[name] = f"no {rule}"
            continue
        try:
            calls[name] = make(arrays, rule, causal, do if backward else None)
        except ImportError as error:
            left_out[name] = f"{error.name} is not installed"
        except NotImplementedError as error:
            left_out[name] = str(error)
    return calls, left_out


def ours(tile):
    def make(arrays, rule, causal, do):
        def call():
            a = attention(**arrays, rule=rule, causal=causal, tile=tile)
            return a.o if do is None else a.backward(do)

        return call

    return make


def bare(arrays, rule, causal, do):
    if do is None:
        raise NotImplementedError("it is written for both passes")
    if arrays["q"].shape[-2] > 2048:
        raise NotImplementedError("it keeps all exponentials")
    q, k, v, d = (x.reshape(-1, *x.shape[-2:]) for x in (arrays["q"], arrays["k"], arrays["v"], do))
    return Bare(q, k, v, d, causal).run


def beside(make):
    """The same with a causal mask, beside the calls without."""

    def causal_too(arrays, rule, causal, do):
        if causal:
            raise NotImplementedError("all calls are causal here")
        if not find(rule).module.pairwise:
            raise NotImplementedError("this rule has no key positions")
        return make(arrays, rule, True, do)

    return causal_too


def torch_sdpa(backend):
    def make(arrays, rule, causal, do):
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        q, k, v = (torch.tensor(arrays[name], requires_grad=do is not None) for name in "qkv")
        d = None if do is None else torch.tensor(do)

        def call():
            with sdpa_kernel(getattr(SDPBackend, backend)):
                o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return o if d is None else torch.autograd.grad(o, (q, k, v), d)

        return call

    return make


def torch_additive(arrays, rule, causal, do):
    import torch

    x = {name: torch.tensor(value, requires_grad=do is not None) for name, value in arrays.items()}
    d = None if do is None else torch.tensor(do)

    def call():
        hidden = torch.tanh((x["q"] @ x["w_q"].T)[..., :, None, :] + (x["k"] @ x["w_k"].T + x["b"])[..., None, :, :])
        s = hidden @ x["w_s"]
        if causal:
            s = s.masked_fill(~torch.ones(s.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
        o = torch.softmax(s, dim=-1) @ x["v"]
        return o if d is None else torch.autograd.grad(o, list(x.values()), d)

    return call


def jax(arrays, rule, causal, do):
    import jax

    if arrays["q"].dtype == np.float64:
        raise NotImplementedError("JAX computes in float32 unless the whole process is told otherwise")
    q, k, v = (jax.numpy.asarray(np.swapaxes(arrays[name], 1, 2)) for name in "qkv")

    def forward(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal)

    if do is None:
        run = jax.jit(forward)
        return lambda: jax.block_until_ready(run(q, k, v))
    d = jax.numpy.asarray(np.swapaxes(do, 1, 2))
    run = jax.jit(lambda q, k, v: jax.vjp(forward, q, k, v)[1](d))
    return lambda: jax.block_until_ready(run(q, k, v))


def hips_autograd(arrays, rule, causal, do):
    import autograd.numpy as anp
    from autograd import make_vjp

    if not arrays["q"].shape[-2] <= 1024:
        raise NotImplementedError("the definition on whole matrices takes too long")
    names = list(arrays)

    def definition(values):
        options = {"causal": True} if causal else {}
        return find(rule).definition(anp, **dict(zip(names, values, strict=True)), **options)[0]

    values = tuple(arrays.values())
    return lambda: definition(values) if do is None else make_vjp(definition)(values)[0](do)


def onnx_reference(arrays, rule, causal, do):
    import onnx
    from onnx.reference import ReferenceEvaluator

    if do is not None:
        raise NotImplementedError("ONNX's reference has no backward")
    kind = onnx.helper.np_dtype_to_tensor_dtype(arrays["q"].dtype)
    ports = [onnx.helper.make_tensor_value_info(name, kind, None) for name in "qkvo"]
    node = onnx.helper.make_node("Attention", list("qkv"), ["o"], is_causal=int(causal))
    graph = onnx.helper.make_graph([node], "attention", ports[:3], ports[3:])
    session = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)]))
    return lambda: session.run(None, {name: arrays[name] for name in "qkv"})


def keras(arrays, rule, causal, do):
    if do is not None:
        raise NotImplementedError("Keras is measured forward only")
    if not Keras.installed():
        raise NotImplementedError("keras is not installed")
    keras = Keras().xp
    layer = keras.layers.Attention(use_scale=False, score_mode="dot")
    q, k, v = (arrays[name].reshape(-1, *arrays[name].shape[-2:]) for name in "qkv")
    scaled = q / np.sqrt(q.dtype.type(q.shape[-1]))
    return lambda: layer([scaled, v, k], use_causal_mask=causal)


SCALED = ("scaled_dot",)
MAKERS = {
    "plain": (ours(None), ()),
    "tiled": (ours("auto"), ()),
    "tiled, causal": (beside(ours("auto")), ()),
    "bare NumPy": (bare, SCALED),
    "bare, causal": (beside(bare), SCALED),
    "torch flash": (torch_sdpa("FLASH_ATTENTION"), SCALED),
    "torch math": (torch_sdpa("MATH"), SCALED),
    "torch eager": (torch_additive, ("additive",)),
    "JAX": (jax, SCALED),
    "HIPS autograd": (hips_autograd, ()),
    "ONNX reference": (onnx_reference, SCALED),
    "Keras": (keras, SCALED),
}
