"""Adapters to the frameworks that candidates are written in, and presets for their public attention functions."""

from importlib import import_module

from attention_ref.backend.adapter import Adapter
from attention_ref.errors import OptionError
from attention_ref.op.suggest import did_you_mean

NAMES = (
    *("numpy", "torch", "jax", "tensorflow", "keras", "onnx", "onnxruntime", "tinygrad", "mlx", "cupy"),
)  # fmt: skip


def kind(name):
    """The adapter's class; its framework is not imported."""
    if name not in NAMES:
        raise OptionError(f"check: there is no backend {name!r}{did_you_mean(name, NAMES)}")
    return import_module(f"attention_ref.backend.{name}").ADAPTER


def find(name, device=None) -> Adapter:
    """The adapter of a backend by name; one sentence if what it needs is not installed."""
    if isinstance(name, Adapter):
        return name
    found = kind(name)
    lacking = found.lacking(device)
    if lacking:
        raise OptionError(f"backend {name!r} {lacking}")
    return found(device)


def installed():
    """The names of the backends that can be used here."""
    return [name for name in NAMES if not kind(name).lacking()]
