"""Safetensors files: eight bytes with the length of a header, the header in JSON, the arrays one after the other.

Used for programs that are candidates (`wire.py`), for weights that are plotted, and for the larger golden vectors.
What a file says about itself is checked before memory is taken for an array: files come from strangers. The package
`safetensors` is not asked, because it reads a file or bytes as a whole; here one tensor can be read out of many.
"""

import json
import math
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import numpy as np

# Storage of each dtype of the format. NumPy has no bfloat16: its bits come as unsigned integers, to be widened.
STORAGE: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "BOOL": np.dtype("?"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
MOST_HEADER = 100 * 2**20  # the limit of the format's own reader
MOST_AXES = 64  # of NumPy's arrays


class Malformed(ValueError):
    """What is wrong with the bytes, as a sentence that lacks its subject: "has 3 bytes, too few for …"."""


@dataclass(frozen=True)
class Tensor:
    """One array of a file: its dtype in the format's words, its shape, and where its bytes begin in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * STORAGE[self.dtype].itemsize


def encode(
    arrays: dict[str, tuple[str, np.ndarray]],
    metadata: dict[str, str] | None = None,
    separators: tuple[str, str] = (", ", ": "),
) -> bytes:
    """The bytes of a file with these arrays, {name: (dtype, array)}, in their order.

    `separators` are those of the header's JSON. Programs that read it by hand, as examples/kernel.c does, rely on the
    spaces; the published vectors have none.
    """
    header: dict[str, dict] = {}
    if metadata is not None:
        header["__metadata__"] = metadata
    parts, at = [], 0
    for name, (dtype, x) in arrays.items():
        content = np.ascontiguousarray(x, STORAGE[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [at, at + len(content)]}
        parts.append(content)
        at += len(content)
    text = json.dumps(header, separators=separators).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def decode(content: bytes) -> tuple[dict[str, tuple[str, np.ndarray]], dict[str, str]]:
    """({name: (dtype, array)}, the metadata) of a file's bytes."""
    file = BytesIO(content)
    tensors, metadata = read_header(file, len(content))
    return {name: (tensor.dtype, read_tensor(file, tensor)) for name, tensor in tensors.items()}, metadata


def read_header(file: BinaryIO, size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """({name: Tensor}, the metadata) of a file of so many bytes; no array is read."""
    if size < 8:
        raise Malformed(f"has {size} bytes, too few for the length of a header")
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MOST_HEADER:
        raise Malformed("is not safetensors: the first 8 bytes are no length of a header")
    start = 8 + length
    if size < start:
        raise Malformed(f"has {size} bytes, fewer than its header of {length} needs")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):  # RecursionError: brackets in brackets, thousands deep
        header = None
    if not isinstance(header, dict):
        raise Malformed("is not safetensors: the header is not the JSON object that it should be")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise Malformed("is not safetensors: the header's __metadata__ is not a dictionary of strings")
    tensors = {name: tensor_of(name, entry, start, size) for name, entry in header.items()}
    refuse_overlap(tensors)
    return tensors, metadata


def tensor_of(name, entry, start, size) -> Tensor:
    """One entry of the header, checked against the bytes that there are."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        begin = None
    if begin is None or not all(type(n) is int for n in (*shape, begin, end)):
        raise Malformed(f"is not safetensors: the header's entry of {name!r} is not dtype, shape and data_offsets")
    if not isinstance(dtype, str) or dtype not in STORAGE:
        raise Malformed(f"has {name!r} in the dtype {dtype!r}; known are {', '.join(STORAGE)}")
    if len(shape) > MOST_AXES:
        raise Malformed(f"has {name!r} with {len(shape)} axes; NumPy has at most {MOST_AXES}")
    if min(shape, default=0) < 0 or not 0 <= begin <= end:
        raise Malformed(f"has {name!r} with a negative size: shape {list(shape)}, bytes {begin} to {end}")
    if end > size - start:
        raise Malformed(f"has {size - start} bytes of data, and {name!r} should end at {end}")
    tensor = Tensor(dtype, shape, start + begin)
    if tensor.nbytes != end - begin:
        raise Malformed(f"has {end - begin} bytes for {name!r}, which is not its shape {list(shape)} in {dtype}")
    return tensor


def refuse_overlap(tensors: dict[str, Tensor]) -> None:
    """Arrays in the same bytes would take more memory than the file has."""
    last, end = "", 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        if tensor.nbytes and tensor.start < end:
            raise Malformed(f"has {last!r} and {name!r} in the same bytes")
        if tensor.nbytes:
            last, end = name, tensor.start + tensor.nbytes


def read_tensor(file: BinaryIO, tensor: Tensor) -> np.ndarray:
    """The array; of bfloat16 its bits."""
    try:
        array = np.empty(tensor.shape, STORAGE[tensor.dtype])
    except (ValueError, OverflowError):  # an empty array with another size beyond 64 bits, or older NumPy's 32 axes
        raise Malformed(f"has an array of {len(tensor.shape)} axes with a shape that NumPy cannot have") from None
    file.seek(tensor.start)
    content = file.read(tensor.nbytes)
    if len(content) < tensor.nbytes:
        raise Malformed(f"ends after {len(content)} of the {tensor.nbytes} bytes of an array")
    array.reshape(-1).view(np.uint8)[:] = np.frombuffer(content, np.uint8)
    return array
