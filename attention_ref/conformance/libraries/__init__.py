"""Presets: the public attention functions of libraries, each with its calling convention and its known deviations.

A preset translates the options of `ar.attention` into a library's arguments and raises NotImplementedError for what the
library cannot say. A file here is a library; `PRESETS` in it are its functions.
"""

from importlib import import_module

from attention_ref.backend import find as find_backend
from attention_ref.backend import kind
from attention_ref.conformance.libraries.preset import Called, Known, Preset
from attention_ref.errors import OptionError
from attention_ref.op.suggest import did_you_mean

LIBRARIES = ("torch", "jax", "keras", "onnx", "mlx", "tinygrad", "flash_attn", "triton", "tensorflow")

__all__ = ["Called", "Known", "Preset", "available", "called", "find", "presets"]


def presets():
    """Every preset by its name; no library is imported."""
    found = {}
    for library in LIBRARIES:
        module = import_module(f"attention_ref.conformance.libraries.{library}")
        found |= {preset.name: preset for preset in module.PRESETS}
    return found


def find(name):
    if isinstance(name, Preset):
        return name
    known = presets()
    if name not in known:
        raise OptionError(f"check: there is no preset {name!r}{did_you_mean(name, known)}")
    return known[name]


def available(preset, device=None):
    """Why a preset cannot run here; "" if it can."""
    if not kind(preset.backend).installed():
        return f"{kind(preset.backend).package} is not installed: pip install {kind(preset.backend).pip}"
    try:
        found = find_backend(preset.backend, device or preset.device)
        for module in preset.needs:
            found.load(module)
    except (ImportError, OptionError):
        return "not run on this machine"
    return ""


def called(preset, rule, candidate=None):
    """The function of a preset under a rule: the library's own, or a candidate that is called as the library's is."""
    if rule not in preset.rules:
        allowed = ", ".join(preset.rules)
        raise OptionError(f"check: the preset {preset.name} is for the rule {allowed}; got {rule!r}")
    return Called(preset, rule, candidate)
