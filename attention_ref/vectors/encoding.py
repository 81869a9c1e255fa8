"""The files: arrays as hexadecimal bit strings in JSON, the larger ones in safetensors; read, and written to the byte.

An array in JSON is {"dtype", "shape", "bits"}: its elements one after the other, row by row, each as many hexadecimal
digits as its dtype has, the most significant first: float64 16, bfloat16 4 (the upper half of a float32), bool 1 (0 or
1). Integers are {"dtype": "int64", "shape", "values"}, a list of plain numbers. An array of `large.safetensors` is
{"tensor": its name}.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attention_ref.backend import safetensors

DATA = Path(__file__).parent / "data" / "v1"
LARGE = "large.safetensors"


@dataclass(frozen=True)
class Bfloat16:
    """Numbers in bfloat16 by their bits, the upper halves of float32: NumPy has no such dtype."""

    bits: np.ndarray


def widened(bits):
    """bfloat16 bit patterns as float64."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def shortest(x):
    """An input as `Bfloat16` where that is exact; any other as it is."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        upper = (np.atleast_1d(x.astype(np.float32)).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    upper = upper.reshape(x.shape)
    # NaN's other bit patterns would come back as the usual one.
    usual_nan = np.float64(np.nan).view(np.uint64)
    has_odd_nan = bool(np.any(np.isnan(x) & (np.atleast_1d(x).view(np.uint64).reshape(x.shape) != usual_nan)))
    if has_odd_nan or not np.array_equal(widened(upper).reshape(x.shape), x, equal_nan=True):
        return x
    return Bfloat16(upper)


def rounded_up(bound):
    """Bounds as bfloat16, rounded up, so that no rounding of our own decides a bit: ⌈Δ (1 + 2⁻²⁰)⌉."""
    with np.errstate(all="ignore"):
        more = np.where(np.isnan(bound), np.inf, np.asarray(bound, np.float64)) * (1 + 2.0**-20)
        single = more.astype(np.float32)
    upper = np.atleast_1d(single).view(np.uint32).astype(np.uint64) >> np.uint64(16)
    below = widened(upper.astype(np.uint32)).reshape(np.shape(more)) < more
    return Bfloat16(np.asarray(upper.reshape(np.shape(more)) + below, np.uint16))


def encoded(x):
    """One array for JSON."""
    if isinstance(x, Bfloat16):
        return {"dtype": "bfloat16", "shape": list(x.bits.shape), "bits": digits(x)}
    x = np.asarray(x)
    shape = list(x.shape)
    if x.dtype == bool:
        return {"dtype": "bool", "shape": shape, "bits": "".join("01"[n] for n in x.ravel().tolist())}
    if x.dtype.kind in "iu":
        return {"dtype": "int64", "shape": shape, "values": x.ravel().tolist()}
    return {"dtype": "float64", "shape": shape, "bits": np.asarray(x, ">f8").tobytes().hex()}


def digits(x):
    """Numbers in bfloat16 as one string: four hexadecimal digits each."""
    return np.asarray(x.bits, ">u2").tobytes().hex()


def as_tensor(x):
    """One array for a safetensors file: (dtype, array)."""
    if isinstance(x, Bfloat16):
        return "BF16", x.bits
    return {"b": "BOOL", "i": "I64", "f": "F64"}[x.dtype.kind], x


def decoded(entry, large=None):
    """The array of one entry: float64, bool or int64."""
    if "tensor" in entry:
        return large[entry["tensor"]]
    shape, dtype = entry["shape"], entry["dtype"]
    if dtype == "int64":
        return np.array(entry["values"], np.int64).reshape(shape)
    if dtype == "bool":
        return np.array([c == "1" for c in entry["bits"]], bool).reshape(shape)
    if dtype == "bfloat16":
        return decoded_digits(entry["bits"], shape)
    return np.frombuffer(bytes.fromhex(entry["bits"]), ">f8").astype(np.float64).reshape(shape)


def decoded_digits(text, shape):
    """Numbers in bfloat16, four hexadecimal digits each, as float64."""
    return widened(np.frombuffer(bytes.fromhex(text), ">u2")).reshape(shape)


def decoded_bound(entry, shape, large=None):
    """A bound, which has the shape of what it bounds: digits alone, or a tensor."""
    if isinstance(entry, dict):
        return decoded(entry, large)
    return decoded_digits(entry, shape)


def is_array(entry):
    return isinstance(entry, dict) and ("shape" in entry or "tensor" in entry)


def tree(entry, large=None):
    """A dict of dicts of arrays, decoded."""
    if is_array(entry):
        return decoded(entry, large)
    return {name: tree(inner, large) for name, inner in entry.items()}


def write_json(value):
    """Canonical JSON: a line for each test and each of the other entries, keys in the order in which they were put."""
    lines = [f"{json.dumps(key)}: {json_of(item)}" for key, item in value.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def json_of(item):
    """A list of groups with a line for each; anything else in one line."""
    if isinstance(item, list) and item and isinstance(item[0], dict):
        return "[\n" + ",\n".join(json_of_group(group) for group in item) + "\n]"
    return one_line(item)


def json_of_group(group):
    """The group's own entries in one line, then a line for each of its tests."""
    if "tests" not in group:
        return one_line(group)
    rest = one_line({name: value for name, value in group.items() if name != "tests"})
    return rest[:-1] + ', "tests": [\n' + ",\n".join(one_line(test) for test in group["tests"]) + "\n]}"


def one_line(item):
    return json.dumps(item, ensure_ascii=False, allow_nan=False)


def write_safetensors(arrays):
    """{name: (dtype, array)} as the bytes of a safetensors file, in the order of the names."""
    return safetensors.encode({name: arrays[name] for name in sorted(arrays)}, separators=(",", ":"))


def read_safetensors(raw):
    """{name: array}; bfloat16 becomes float64."""
    arrays, _ = safetensors.decode(raw)
    out = {}
    for name, (dtype, x) in arrays.items():
        out[name] = widened(x) if dtype == "BF16" else x
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
    if not path.exists():
        return {}
    return read_safetensors(path.read_bytes())


def vectors(folder=DATA, only=None):
    """(file, group, test) of every vector, or of the files named."""
    for name in names(folder):
        if only is None or name in only:
            for group in load(name, folder)["testGroups"]:
                for test in group["tests"]:
                    yield name, group, test
