"""One BLAS thread while tasks run side by side, as it was before afterwards."""

import os
from contextlib import contextmanager
from functools import cache
from threading import Lock

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
lock, users, limits = Lock(), 0, None


@cache
def controller():
    """threadpoolctl's view of the loaded BLAS; None where threadpoolctl is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


def kernel():
    """What multiplies matrices here, such as "openblas 0.3.31 Haswell"; "" where threadpoolctl does not say."""
    found = [] if controller() is None else controller().info()
    parts = [[blas[part] for part in ("internal_api", "version", "architecture") if blas.get(part)] for blas in found]
    return " and ".join(dict.fromkeys(" ".join(part) for part in parts))


def one_thread_possible():
    """Can tasks run side by side without each of them starting BLAS threads of its own?"""
    return controller() is not None or any(os.environ.get(name) == "1" for name in VARIABLES)


@contextmanager
def one_thread():
    """BLAS at one thread in the whole process; the last of several calls that overlap gives back what was."""
    global users, limits
    if controller() is None:
        yield
        return
    with lock:
        users += 1
        if users == 1:
            limits = controller().limit(limits=1)
    try:
        yield
    finally:
        with lock:
            users -= 1
            if users == 0 and limits is not None:
                limits.restore_original_limits()


def cores():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
