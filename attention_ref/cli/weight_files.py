"""Reading weights from files: .npy, .npz and .safetensors, without pickle, sizes checked before memory is taken."""

import json
import math
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from attention_ref.errors import OptionError

MOST_BYTES = 4 * 2**30
MOST_HEADER = 100 * 2**20
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read(path, most=MOST_BYTES):
    """The arrays of a file by name, in natural order: layer 2 before layer 10."""
    path = Path(path)
    readers = {".npy": read_npy, ".npz": read_npz, ".safetensors": read_safetensors}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise OptionError(
            f"{path.name}: cannot read {path.suffix or 'a file without an ending'}; {', '.join(readers)} can be read. "
            f"Save a tuple of torch tensors with numpy.savez(path, *[a.numpy() for a in attentions])"
        )
    try:
        size = path.stat().st_size
        arrays = reader(path, size, most)
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise OptionError(f"{path.name}: cannot be read: {error}") from None
    if not arrays:
        raise OptionError(f"{path.name}: holds no arrays")
    return {name: arrays[name] for name in sorted(arrays, key=natural)}


def natural(name):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def read_npy(path, size, most):
    with open(path, "rb") as file:
        return {path.stem: read_array(path.name, file, size, most)}


def read_npz(path, size, most):
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
        check_size(path.name, total, most)
        for entry in archive.infolist():
            if entry.filename.endswith(".npy"):
                with archive.open(entry) as file:
                    name = entry.filename.removesuffix(".npy")
                    arrays[name] = read_array(f"{path.name}: {name}", file, entry.file_size, most)
    return arrays


def read_array(owner, file, size, most):
    """One array in NumPy's format, its header checked against the bytes that are there."""
    try:
        version = npy.read_magic(file)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = header(file)
    except (ValueError, KeyError) as error:
        raise OptionError(f"{owner}: is not in NumPy's format: {error}") from None
    if dtype.hasobject:
        raise OptionError(f"{owner}: holds Python objects, which are not loaded; save a numeric array")
    count = math.prod(shape)
    check_size(owner, count * dtype.itemsize, min(most, size), whole=size)
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise OptionError(f"{owner}: ends after {len(data)} of {count * dtype.itemsize} bytes")
    array = np.frombuffer(data, dtype, count)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def check_size(owner, needed, most, whole=None):
    if whole is not None and needed > whole:
        raise OptionError(f"{owner}: its header promises {needed} bytes and the file has {whole}")
    if needed > most:
        raise OptionError(f"{owner}: holds {needed / 2**30:.1f} GiB, more than the {most / 2**30:.1f} GiB allowed")


def read_safetensors(path, size, most):
    """The tensors of a safetensors file; bfloat16 is widened to float32, exactly."""
    with open(path, "rb") as file:
        header, start = read_header(path.name, file, size)
        check_size(path.name, size - start, most)
        arrays = {}
        for name, entry in header.items():
            if name != "__metadata__":
                arrays[name] = read_tensor(f"{path.name}: {name}", file, entry, start, size)
    return arrays


def read_header(owner, file, size):
    """(the header, where the data begin)."""
    head = file.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
    if length > min(size - 8, MOST_HEADER):
        raise OptionError(f"{owner}: is no safetensors file: its header would be {length} bytes long")
    try:
        header = json.loads(file.read(length))
    except ValueError as error:
        raise OptionError(f"{owner}: is no safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise OptionError(f"{owner}: is no safetensors file: its header is a {type(header).__name__}")
    return header, 8 + length


def read_tensor(owner, file, entry, start, size):
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise OptionError(f"{owner}: its entry in the header is not dtype, shape and data_offsets") from None
    if kind not in DTYPES:
        raise OptionError(f"{owner}: has dtype {kind}; weights must be {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[kind])
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= size - start or end - begin != needed:
        raise OptionError(f"{owner}: shape {shape} of {kind} does not fit the bytes {begin} to {end} of the file")
    file.seek(start + begin)
    array = np.frombuffer(file.read(needed), dtype).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else array
