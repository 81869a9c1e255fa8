"""Safetensors as bytes: eight bytes of length, a JSON header, the arrays one after the other."""

import json
import struct

import numpy as np

DTYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8"},
}
NAMES = {short: name for name, short in DTYPES.items()}
MOST_HEADER = 100 * 2**20


def encode(arrays, words):
    """The bytes for arrays by name and a dictionary of strings."""
    header, parts, at = {"__metadata__": words}, [], 0
    for name, x in arrays.items():
        content = x.tobytes()
        header[name] = {
            "dtype": DTYPES[x.dtype.name],
            "shape": list(x.shape),
            "data_offsets": [at, at + len(content)],
        }
        parts.append(content)
        at += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def decode(content):
    """(arrays by name, the dictionary of strings); ValueError, in half a sentence, for bytes that are not so."""
    if not content:
        raise ValueError("it wrote nothing on standard output")
    if len(content) < 8:
        raise ValueError(f"it wrote {len(content)} bytes, too few for the length of a header")
    (length,) = struct.unpack("<Q", content[:8])
    if length > MOST_HEADER:
        raise ValueError("what it wrote is not safetensors: the first 8 bytes are no length of a header")
    if len(content) < 8 + length:
        raise ValueError(f"it wrote {len(content)} bytes, fewer than its header of {length} has")
    try:
        header = json.loads(content[8 : 8 + length])
        words = header.pop("__metadata__", {})
        return {name: array(name, entry, content[8 + length :]) for name, entry in header.items()}, words
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError, KeyError):
        raise ValueError("what it wrote is not safetensors: the header is not the JSON that it should be") from None


def array(name, entry, content):
    start, stop = entry["data_offsets"]
    dtype, shape = dtype_of(entry["dtype"]), tuple(entry["shape"])
    if not 0 <= start <= stop:
        raise ValueError(f"the offsets of {name} are {start} and {stop}")
    if stop > len(content):
        raise ValueError(f"it wrote {len(content)} bytes of data, and {name} should end at {stop}")
    if stop - start != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{name} has {stop - start} bytes, which is not its shape {shape} in {dtype.name}")
    return np.frombuffer(content[start:stop], dtype).reshape(shape).copy()


def dtype_of(short):
    if short not in NAMES:
        raise ValueError(f"it wrote the dtype {short!r}; known are {', '.join(NAMES)}")
    if short != "BF16":
        return np.dtype(NAMES[short])
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)
