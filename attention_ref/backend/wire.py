"""What a program that is a candidate reads and writes: arrays and words, as safetensors."""

import numpy as np

from attention_ref.backend import safetensors

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "bool": "BOOL",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
}
NAMES = {short: name for name, short in DTYPES.items()}


def encode(arrays: dict[str, np.ndarray], words: dict[str, str]) -> bytes:
    """The bytes for arrays by name and a dictionary of strings."""
    tensors = {}
    for name, x in arrays.items():
        bits = np.ascontiguousarray(x).reshape(x.shape)
        if x.dtype.name == "bfloat16":
            bits = bits.view(np.uint16)
        tensors[name] = DTYPES[x.dtype.name], bits
    return safetensors.encode(tensors, words)


def decode(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays by name, the dictionary of strings); ValueError, in half a sentence, for bytes that are not so."""
    if not content:
        raise ValueError("it wrote nothing on standard output")
    try:
        tensors, words = safetensors.decode(content)
    except safetensors.Malformed as error:
        raise ValueError(f"what it wrote {error}") from None
    return {name: as_numpy(*tensor) for name, tensor in tensors.items()}, words


def as_numpy(dtype, x):
    """bfloat16 as the dtype of ml_dtypes; every other array as it is."""
    if dtype != "BF16":
        return x
    import ml_dtypes

    return x.view(ml_dtypes.bfloat16)
