"""The files: arrays as hexadecimal bit strings in JSON, the larger ones in safetensors; read, and written to the byte.

An array in JSON is {"dtype", "shape", "bits"}: its elements one behind the other, row by row, each as many hexadecimal
digits as its dtype has, the most significant first: float64 16, bfloat16 4 (the upper half of a float32), bool 1 (0 or
1). Integers are {"dtype": "int64", "shape", "values"}, a list of plain numbers. An array of `large.safetensors` is
{"tensor": its name}.
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data" / "v1"
LARGE = "large.safetensors"
TENSORS: dict[str, Any] = {
    "F64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
    "BOOL": np.dtype("?"),
    "I64": np.dtype("<i8"),
}


def widened(upper):
    """bfloat16 bit patterns as float64."""
    return (upper.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def narrowed(x):
    """The upper halves of float32 numbers, if nothing is lost by it; otherwise None."""
    with np.errstate(all="ignore"):
        single = x.astype(np.float32)
        upper = (np.atleast_1d(single).view(np.uint32) >> np.uint32(16)).astype(np.uint16).reshape(x.shape)
    return upper if np.array_equal(widened(upper).reshape(x.shape), x, equal_nan=True) and not odd_nan(x) else None


def odd_nan(x):
    return bool(np.any(np.isnan(x) & (np.asarray(x).view(np.uint64) != np.float64(np.nan).view(np.uint64))))


def raised(bound):
    """Bounds as bfloat16, rounded up, so that no rounding of our own decides a bit: ⌈Δ (1 + 2⁻²⁰)⌉."""
    with np.errstate(all="ignore"):
        more = np.where(np.isnan(bound), np.inf, np.asarray(bound, np.float64)) * (1 + 2.0**-20)
        single = more.astype(np.float32)
    bits = np.atleast_1d(single).view(np.uint32).astype(np.uint64)
    upper = bits >> np.uint64(16)
    below = widened(upper.astype(np.uint32)).reshape(np.shape(more)) < more
    return (upper.reshape(np.shape(more)) + below).astype(np.uint16)


def encoded(x, upper=False):
    """One array for JSON; with `upper`, bit patterns of bfloat16."""
    x = np.asarray(x)
    head = {"dtype": "bfloat16", "shape": list(x.shape)}
    if upper:
        return head | {"bits": bits(x)}
    if x.dtype == bool:
        return head | {"dtype": "bool", "bits": "".join("01"[n] for n in x.ravel().tolist())}
    if x.dtype.kind in "iu":
        return head | {"dtype": "int64", "values": x.ravel().tolist()}
    x = x.astype(np.float64)
    return head | {"dtype": "float64", "bits": x.astype(">f8").tobytes().hex()}


def bits(upper):
    """bfloat16 bit patterns as one string: four digits each."""
    return "".join(f"{n:04x}" for n in upper.ravel().tolist())


def encoded_input(x):
    """An input as bfloat16 where that is exact, as float64 otherwise; integers and booleans as they are."""
    x = np.asarray(x)
    upper = narrowed(x.astype(np.float64)) if x.dtype.kind == "f" else None
    return encoded(x) if upper is None else encoded(upper, upper=True)


def decoded(entry, large=None):
    """The array of one entry: float64, bool or int64."""
    if "tensor" in entry:
        return large[entry["tensor"]]
    shape, dtype = entry["shape"], entry["dtype"]
    if dtype == "int64":
        return np.array(entry["values"], np.int64).reshape(shape)
    if dtype == "bool":
        return np.array([c == "1" for c in entry["bits"]], bool).reshape(shape)
    raw = bytes.fromhex(entry["bits"])
    if dtype == "bfloat16":
        return widened(np.frombuffer(raw, ">u2")).reshape(shape)
    return np.frombuffer(raw, ">f8").astype(np.float64).reshape(shape)


def is_array(entry):
    return isinstance(entry, dict) and ("shape" in entry or "tensor" in entry)


def tree(entry, large=None):
    """A dict of dicts of arrays, decoded."""
    if is_array(entry):
        return decoded(entry, large)
    return {name: tree(inner, large) for name, inner in entry.items()}


def write_json(value):
    """Canonical JSON: a line for each test and each of the other entries, keys in the order in which they were put."""
    lines = [f"{json.dumps(key)}: {inner(item)}" for key, item in value.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def inner(item):
    if isinstance(item, list) and item and isinstance(item[0], dict):
        return "[\n" + ",\n".join(group(entry) for entry in item) + "\n]"
    return compact(item)


def group(entry):
    if "tests" not in entry:
        return compact(entry)
    rest = compact({name: value for name, value in entry.items() if name != "tests"})
    return rest[:-1] + ', "tests": [\n' + ",\n".join(compact(test) for test in entry["tests"]) + "\n]}"


def compact(item):
    return json.dumps(item, ensure_ascii=False, allow_nan=False)


def write_safetensors(arrays):
    """{name: (tag, array)} as the bytes of a safetensors file, in the order of the names."""
    header, blobs, at = {}, [], 0
    for name in sorted(arrays):
        tag, array = arrays[name]
        blob = np.ascontiguousarray(array, TENSORS[tag]).tobytes()
        header[name] = {"dtype": tag, "shape": list(array.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + b"".join(blobs)


def read_safetensors(raw):
    """{name: array}; BF16 becomes float64."""
    (size,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    out = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        array = np.frombuffer(body[start:stop], TENSORS[entry["dtype"]]).reshape(entry["shape"])
        out[name] = widened(array) if entry["dtype"] == "BF16" else array
    return out


def digest(raw):
    return hashlib.sha256(raw).hexdigest()


def content_hash(hashes):
    """One hash over all files: SHA-256 of the lines "<sha256>  <name>", sorted by name, as sha256sum prints them."""
    return digest("".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode())


def names(folder=DATA):
    """The vector files of a folder, in alphabetical order."""
    return sorted(path.stem for path in Path(folder).glob("*.json") if path.name != "MANIFEST.json")


def load(name, folder=DATA):
    return json.loads((Path(folder) / f"{name}.json").read_bytes())


def load_large(folder=DATA):
    path = Path(folder) / LARGE
    return read_safetensors(path.read_bytes()) if path.exists() else {}


def vectors(folder=DATA, only=None):
    """(file, group, test) of every vector, or of the files named."""
    for name in names(folder):
        if only is None or name in only:
            for group_ in load(name, folder)["testGroups"]:
                for test in group_["tests"]:
                    yield name, group_, test
