"""The contract of every adapter that is installed: arrays, dtypes, autodiff, recognition; nothing else is loaded."""

import subprocess
import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest

import attention_ref as ar
from attention_ref import backend
from attention_ref.backend import NAMES, find, installed, kind, recognize
from attention_ref.backend.adapter import Adapter
from attention_ref.errors import Unsupported
from attention_ref.oracle.bounds.number_formats import find as find_format

INSTALLED = [pytest.param(name, marks=[pytest.mark.backends] * (name != "numpy")) for name in installed()]

# The same attention in each framework, as its users write it.
KERNELS = {
    "numpy": """
import numpy as np
def attention(q, k, v):
    s = q @ np.swapaxes(k, -1, -2) * np.float64(q.shape[-1] ** -0.5).astype(q.dtype)
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v
""",
    "torch": """
import torch
def attention(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v
""",
    "jax": """
import jax
import jax.numpy as jnp
def attention(q, k, v):
    return jax.nn.softmax(q @ jnp.swapaxes(k, -1, -2) * q.shape[-1] ** -0.5) @ v
""",
    "tensorflow": """
import tensorflow as tf
def attention(q, k, v):
    return tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * q.shape[-1] ** -0.5) @ v
""",
    "keras": """
from keras import ops
def attention(q, k, v):
    return ops.softmax(q @ ops.swapaxes(k, -1, -2) * q.shape[-1] ** -0.5) @ v
""",
    "tinygrad": """
from tinygrad import Tensor
def attention(q, k, v):
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
""",
    "mlx": """
import mlx.core as mx
def attention(q, k, v):
    return mx.softmax(q @ mx.swapaxes(k, -1, -2) * q.shape[-1] ** -0.5, axis=-1) @ v
""",
    "cupy": """
import cupy
def attention(q, k, v):
    s = q @ cupy.swapaxes(k, -1, -2) * q.shape[-1] ** -0.5
    e = cupy.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v
""",
}
WITH_KERNEL = [param for param in INSTALLED if param.values[0] in KERNELS]


def kernel(name, source=None):
    """The function, in a module of its own."""
    module = types.ModuleType("kernel_" + name)
    assert find(name).xp
    exec(compile(source or KERNELS[name], module.__name__, "exec"), module.__dict__)
    return module.attention


def numbers(name):
    """Numbers of a dtype, infinities and NaN among them."""
    dtype = find_format(name).dtype
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(dtype)
    x[0, :4] = [np.inf, -np.inf, np.nan, 2.0**-14]
    return x


@pytest.mark.parametrize("name", INSTALLED)
def test_arrays_go_in_and_come_back_bit_for_bit(name):
    adapter = find(name)
    for dtype in [dtype for dtype in adapter.dtypes if dtype != "bfloat16" or find_spec("ml_dtypes")]:
        x = numbers(dtype)
        for one in (x, x[::-1], x[:, ::2], x.T, x[:0], x[:1, 0].reshape(())):
            with adapter.scope([one]):
                there = given(adapter, one)
                if there is None:
                    assert (name, dtype) == ("tinygrad", "bfloat16")
                    continue
                assert adapter.owns(there), dtype
                back = adapter.numpy(there)
            assert back.dtype == x.dtype
            assert back.shape == one.shape
            assert bits(back) == bits(one)


def given(adapter, x):
    """The framework's array; None where it says that it cannot have it, as tinygrad with an old clang does."""
    try:
        return adapter.array(x)
    except Unsupported:
        return None


SHARING = [param for param in INSTALLED if param.values[0] in ("numpy", "torch", "jax", "onnx", "onnxruntime")]


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
def test_arrays_go_in_without_a_copy(name, dtype):
    adapter, x = find(name), aligned((31, 64), dtype)
    with adapter.scope([x]):
        there = adapter.array(x)
        assert np.shares_memory(np.asarray(there), x)
        back = adapter.numpy(there)
        assert np.shares_memory(back, x) == (name != "jax")  # whose arrays never change, so that no result is a view
        assert back.tobytes() == x.tobytes()


def aligned(shape, dtype):
    """An array that begins at a multiple of 64 bytes, as allocators of frameworks make them."""
    raw = np.zeros(int(np.prod(shape)) * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    x = raw[start : start + raw.size - 64].view(dtype).reshape(shape)
    x[...] = np.random.default_rng(0).integers(-99, 99, shape)
    return x


def bits(x):
    """Every bit of an array; all NaN are one."""
    return np.where(np.isnan(x), x.dtype.type(0), x).tobytes(), np.isnan(x).tobytes()


@pytest.mark.parametrize("name", INSTALLED)
def test_masks_and_integers_go_in(name):
    adapter = find(name)
    mask, counts = np.array([[True, False]]), np.array([[3], [70000]])
    assert np.array_equal(adapter.numpy(adapter.array(mask)), mask)
    assert np.array_equal(adapter.numpy(adapter.array(counts)), counts)
    keep, p = adapter.value((mask, 0.25))
    assert p == 0.25
    assert adapter.owns(keep)


@pytest.mark.parametrize("name", WITH_KERNEL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_correct_function_passes_with_the_frameworks_own_backward(name, dtype):
    if name == "mlx" and dtype == "float64":
        dtype = "float32"  # its GEMM has no float64
    report = ar.check(kernel(name), backend=name, cases="shape-17x17,shape-1x67,no-batch", dtypes=dtype)
    assert report.passed, str(report)
    checked = {found.result for run in report.runs for found in run.results if found.verdict == "pass"}
    assert checked == ({"o", "dq", "dk", "dv"} if find(name).differentiates else {"o"})


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_a_wrong_function_fails(name):
    wrong = kernel(name, KERNELS[name].replace("** -0.5", "** -0.4"))
    report = ar.check(wrong, backend=name, cases="shape-17x17")
    assert report.counts()["fail"] == 1, str(report)


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_a_function_is_recognized(name):
    report = ar.check(kernel(name), cases="shape-17x17")
    assert report.meta["backend"].startswith(f"{name} "), report.meta["backend"]
    assert report.passed


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_what_is_written_into_an_input_or_is_a_view_of_it_is_seen_or_impossible(name):
    view = kernel(name, KERNELS[name].replace("@ v\n", "@ v\n").rstrip() + "\n    \ndef same(q, k, v):\n    return v\n")
    same = view.__globals__["same"]
    run = ar.check(same, backend=name, cases="shape-17x17").runs[0]
    assert run.verdict == "fail"


@pytest.mark.parametrize("name", INSTALLED)
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises((ar.OptionError, RuntimeError), match="device"):
        find(name, "no_such_device")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "numpy"])
def test_a_framework_that_is_not_installed_is_named_with_its_pip_line(name, monkeypatch):
    monkeypatch.setattr(Adapter, "installed", classmethod(lambda cls: False))
    with pytest.raises(ar.OptionError, match=f"backend '{name}' needs {kind(name).package}: pip install"):
        ar.check(lambda q, k, v: q, backend=name)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ar.OptionError, match="there is no backend 'pytorch'; did you mean 'torch'"):
        backend.find("pytorch")


def test_a_check_in_numpy_imports_no_framework():
    packages = [kind(name).package for name in NAMES if name != "numpy"]
    code = (
        "import sys, attention_ref as ar\n"
        "from attention_ref.conformance import libraries\n"
        "libraries.presets()\n"
        "ar.check(lambda q, k, v: ar.attention(q, k, v).o, cases='shape-15x15')\n"
        f"print([name for name in {packages} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=".")
    assert done.stdout == "[]\n", done.stderr


def test_recognition_follows_annotations_modules_and_helpers(monkeypatch):
    fake = types.ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", fake)
    scope = {"nn": fake}
    exec("def helper(q):\n    return nn.softmax(q)\ndef attention(q, k, v):\n    return helper(q)", scope)
    assert recognize.mentioned(scope["attention"]) == ["torch"]

    def annotated(q, k, v):
        return q

    annotated.__annotations__ = {"q": "torch.Tensor"}
    assert recognize.certain(annotated) == "torch"
    assert recognize.certain(np.add) is None
    assert recognize.mentioned(ar.attention) == []
