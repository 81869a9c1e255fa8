"""Reading weights from files: .npy, .npz and .safetensors, without pickle, sizes checked before memory is taken."""

import math
import re
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from attention_ref.backend import safetensors
from attention_ref.errors import OptionError

MOST_BYTES = 4 * 2**30  # a layer of 32 heads over 5,792 tokens in float32; matrices beyond that cannot be drawn anyway
MOST_UNPACKED = 2**30  # of compressed arrays: a file of a few MB can say that it holds any number of bytes
FLOATS = ("F64", "F32", "F16", "BF16")


def read(path, most=MOST_BYTES) -> dict[str, np.ndarray]:
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
        arrays = reader(path, path.stat().st_size, most)
    except OptionError:
        raise
    except safetensors.Malformed as error:
        raise OptionError(f"{path.name}: {error}") from None
    except Exception as error:  # the parsers of zip, deflate, lzma and NumPy's format have an exception each
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise OptionError(f"{path.name}: cannot be read: {reason}") from None
    if not arrays:
        raise OptionError(f"{path.name}: holds no arrays")
    return {name: arrays[name] for name in sorted(arrays, key=natural)}


def natural(name):
    """A key to sort by in which numbers count as numbers; digits are compared as text, by their length first."""
    parts = re.split(r"([0-9]+)", name)
    parts[1::2] = [(len(digits.lstrip("0")), digits.lstrip("0")) for digits in parts[1::2]]
    return parts


def read_npy(path, size, most):
    with open(path, "rb") as file:
        check_array(path.name, file, size, most)
    return {path.stem: np.array(np.load(path, mmap_mode="r", allow_pickle=False))}


def read_npz(path, size, most):
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        check_size(path.name, sum(entry.file_size for entry in entries), most)
        compressed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        check_size(path.name, sum(entry.file_size for entry in compressed), MOST_UNPACKED, " unpacked")
        for entry in entries:
            if entry.filename.endswith(".npy"):
                name = entry.filename.removesuffix(".npy")
                with archive.open(entry) as file:
                    check_array(f"{path.name}: {name!r}", file, entry.file_size, most)
                with archive.open(entry) as file:
                    arrays[name] = npy.read_array(file, allow_pickle=False)
    return arrays


def check_array(owner, file, size, most):
    """Refuse an array in NumPy's format by its header: no numbers, or not as many as there are bytes for."""
    try:
        version = npy.read_magic(file)
        read_array_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, _, dtype = read_array_header(file)
    except Exception:  # the header is a Python expression, and each way to write a wrong one has an exception
        raise OptionError(f"{owner}: is not in NumPy's format: its header describes no array") from None
    if dtype.hasobject:
        raise OptionError(f"{owner}: holds Python objects, which are not loaded; save a numeric array")
    if dtype.kind not in "biuf":
        raise OptionError(f"{owner}: has dtype {dtype.str}; weights must be real numbers")
    needed, available = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or needed > available:
        raise OptionError(f"{owner}: its header promises {needed} bytes and the file has {available}")
    check_size(owner, needed, most)


def check_size(owner, needed, most, how=""):
    if needed > most:
        limit = f"more than the {most / 2**30:.1f} GiB allowed"
        raise OptionError(f"{owner}: holds {needed / 2**30:.1f} GiB{how}, {limit}")


def read_safetensors(path, size, most):
    """The tensors of a safetensors file; bfloat16 is widened to float32, exactly."""
    with open(path, "rb") as file:
        tensors, _ = safetensors.read_header(file, size)
        for name, tensor in tensors.items():
            if tensor.dtype not in FLOATS:
                raise OptionError(
                    f"{path.name}: {name!r} has dtype {tensor.dtype}; weights must be {', '.join(FLOATS)}"
                )
        check_size(path.name, sum(memory(tensor) for tensor in tensors.values()), most)
        return {name: as_float(tensor, safetensors.read_tensor(file, tensor)) for name, tensor in tensors.items()}


def memory(tensor):
    """The bytes that a tensor takes in memory."""
    if tensor.dtype == "BF16":
        return 2 * tensor.nbytes
    return tensor.nbytes


def as_float(tensor, x):
    if tensor.dtype == "BF16":
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x
