"""ONNX test data: for every vector that the operator Attention can express, what ONNX's backend test runner takes.

DIR/test_<file>_<tcId>/model.onnx, test_data_set_0/{input,output}_k.pb, and data.json with the tolerance: the largest
bound of the vector's o in float32, absolute. The gradients lie beside the outputs, as gradient_{q,k,v}.pb.
"""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from attention_ref.vectors import encoding

ARRAYS = {"q", "k", "v", "allowed", "bias", "scale", "softcap", "k_lengths"}
OPTIONS = {"causal", "window", "align"}
NAMES = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")
KINDS = {"f": TensorProto.FLOAT, "b": TensorProto.BOOL, "i": TensorProto.INT64}


def export(folder, data=encoding.DATA):
    """Write all that can be expressed; how many there were."""
    large, count = encoding.load_large(data), 0
    for file, group, test in encoding.vectors(data):
        call = expressed(group["rule"], test, large)
        if call is not None:
            write(Path(folder) / f"test_{file}_{test['tcId']}", call, test, large)
            count += 1
    return count


def expressed(rule, test, large):
    """(tensors, attributes, opset), or None where the operator has no words for it.

    A bias that forbids becomes part of the mask, and a boolean mask beside a bias becomes -inf in it. What the operator
    cannot say: another rule or normalizer, a sink, segments, dropout, other empty rows, an array for a scale, a
    negative scale (it takes the square root), a length of queries, an offset ahead of the first key.
    """
    if test["result"] == "invalid" or rule not in ("dot", "scaled_dot") or "f32" not in test["bounds"]:
        return None
    inputs, options = encoding.tree(test["inputs"], large), test["options"]
    if not (set(inputs) <= ARRAYS and set(options) <= OPTIONS and set(test["cotangents"]) == {"o"}):
        return None
    attributes = {}
    for name in ("scale", "softcap"):
        if name in inputs:
            if inputs[name].ndim or inputs[name] < 0:
                return None
            attributes[name] = float(inputs[name])
    if rule == "dot":
        attributes.setdefault("scale", 1.0)
    batched = "k_lengths" in inputs
    q, k, v = (four_axes(inputs[name], batched) for name in "qkv")
    batch = max(x.shape[0] for x in (q, k, v))
    q, k, v = (np.broadcast_to(x, (batch, *x.shape[1:])) for x in (q, k, v))
    tensors = {"Q": q, "K": k, "V": v} | mask_of(inputs, batched, q.shape[2], k.shape[2])
    opset = 23
    if "causal" in options:
        attributes["is_causal"] = 1
    if "window" in options:
        left, right = (-1 if side is None else side for side in options["window"])
        attributes |= {"left_window_size": left, "right_window_size": right}
        opset = 25
    placed = offset(options.get("align", 0), inputs, tensors, batch)
    if placed is None:
        return None
    return tensors | placed, attributes, max(opset, 24 if "nonpad_kv_seqlen" in placed else 23)


def offset(align, inputs, tensors, batch):
    """What moves the queries: a past of so many keys, or the number of valid keys."""
    keys = tensors["K"].shape[2]
    if "k_lengths" in inputs:
        lengths = np.broadcast_to(inputs["k_lengths"], batch).astype(np.int64)
        return {"nonpad_kv_seqlen": lengths} if align in (0, "bottom_right") else None
    if align in (0, "top_left"):
        return {}
    if align == "bottom_right":
        return {"nonpad_kv_seqlen": np.full(batch, keys, np.int64)}
    if not 0 < align < keys:
        return None
    k, v = tensors["K"], tensors["V"]
    return {"past_key": k[:, :, :align], "past_value": v[:, :, :align], "K": k[:, :, align:], "V": v[:, :, align:]}


def four_axes(x, batched):
    """One leading axis is the heads, or the batch where lengths go along it."""
    if x.ndim == 3 and batched:
        return x[:, None]
    return x.reshape((1,) * (4 - x.ndim) + x.shape)


def mask_of(inputs, batched, queries, keys):
    allowed, bias = inputs.get("allowed"), inputs.get("bias")
    if allowed is None and bias is None:
        return {}
    both = allowed if bias is None else bias if allowed is None else np.where(allowed, bias, -np.inf)
    both = np.broadcast_to(both, (*both.shape[:-2], queries, keys))
    return {"attn_mask": both if both.ndim == 2 else four_axes(both, batched)}


def write(folder, call, test, large):
    tensors, attributes, opset = call
    tensors = {name: in_float32(tensors[name]) for name in NAMES if name in tensors}
    o = four_axes(encoding.decoded(test["expected"]["results"]["o"], large), "k_lengths" in test["inputs"])
    limit = np.max(encoding.decoded_bound(test["bounds"]["f32"]["results"]["o"], o.shape, large), initial=0)
    written = [name if name in tensors else "" for name in NAMES]
    while not written[-1]:
        written.pop()
    outputs = ["Y", "present_key", "present_value"] if "past_key" in tensors else ["Y"]
    arrays = {"Y": in_float32(o)}
    for new in ("K", "V")[: len(outputs) - 1]:
        name = {"K": "key", "V": "value"}[new]
        arrays[f"present_{name}"] = np.concatenate([tensors[f"past_{name}"], tensors[new]], axis=2)
    node = helper.make_node("Attention", written, outputs, **attributes)
    ports = [[info(*entry) for entry in x.items()] for x in (tensors, arrays)]
    graph = helper.make_graph([node], folder.name, ports[0], ports[1])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    save(model, folder / "model.onnx")
    (folder / "data.json").write_text(json.dumps({"rtol": 0.0, "atol": float(min(limit, 1e30))}) + "\n")
    for kind, several in (("input", tensors), ("output", arrays)):
        for at, (name, x) in enumerate(several.items()):
            (data / f"{kind}_{at}.pb").write_bytes(numpy_helper.from_array(x, name).SerializeToString())
    for name, entry in test["expected"]["gradients"].items():
        gradient = in_float32(encoding.decoded(entry, large))
        (data / f"gradient_{name}.pb").write_bytes(numpy_helper.from_array(gradient, f"d{name}").SerializeToString())


def info(name, x):
    return helper.make_tensor_value_info(name, KINDS[x.dtype.kind], x.shape)


def in_float32(x):
    x = np.ascontiguousarray(x)
    return x.astype(np.float32) if x.dtype.kind == "f" else x
