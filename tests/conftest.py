"""The tests that need another library are collected where it is installed."""

from importlib.util import find_spec

NEEDS = {
    "torch": ("test_torch*.py", "test_library_torch.py"),
    "jax": ("test_library_jax.py",),
    "onnx": ("test_library_onnx.py",),
}

collect_ignore_glob = [glob for library, globs in NEEDS.items() if not find_spec(library) for glob in globs]
