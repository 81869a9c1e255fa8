"""One BLAS thread a test process; the tests that need PyTorch are collected where it is installed."""

import os
from importlib.util import find_spec

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore_glob = [] if find_spec("torch") else ["test_torch*.py"]
