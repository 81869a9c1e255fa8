"""Attention rules: ops whose results are o, alpha and lse, and which take every option of `ar.attention`."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from attention_ref import score as scores
from attention_ref.errors import OptionError, ShapeError
from attention_ref.masks import Mask
from attention_ref.op.arrays import as_array, fits, shown
from attention_ref.op.op import Op, reference, referred
from attention_ref.op.protocol import OpModule, is_op, optional
from attention_ref.op.registry import Lazy, modules, where_written
from attention_ref.op.suggest import did_you_mean
from attention_ref.pipeline.heads import groups
from attention_ref.pipeline.options import DEFAULTS, INTERNAL, given_options
from attention_ref.pipeline.pipeline import Pipeline


class OpWithOptions(Op):
    """An op that takes every option of attention, under their public names."""

    internal = INTERNAL
    left_out = ("alpha", "lse")

    def __init__(self, name: str, module: Any):
        super().__init__(name, module)
        self.options = DEFAULTS

    def named(self, args, inputs):
        """Options as the pipeline takes them: dropout in two, a mask apart from an array, defaults left out."""
        inputs = super().named(args, inputs)
        if isinstance(inputs.get("dropout"), (tuple, list)):
            if len(inputs["dropout"]) != 2:
                raise OptionError(f"{self.name}: dropout is (keep, p), the mask of what is kept and the probability")
            keep, p = inputs["dropout"]
            inputs |= {"dropout": keep, "dropout_p": p}
        if isinstance(inputs.get("allowed"), Mask):
            inputs |= {"allowed": None, "mask": inputs["allowed"]}
        return given_options(inputs)

    def example(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As for any op, with options under their public names."""
        inputs = super().example(*args, **kwargs)
        p = inputs.pop("dropout_p", None)
        return inputs if p is None else inputs | {"dropout": (inputs["dropout"], p)}


class Rule(OpWithOptions):
    """An attention rule: the pipeline around one score."""

    module: Pipeline

    def __init__(self, name: str, module: Any):
        super().__init__(name, Pipeline(module))

    def __reduce__(self):
        return loaded_rule, (type(self), self.name, reference(self.module.module))

    def checked(self, inputs):
        """As for any op; a mask and an array of offsets must fit the leading axes too."""
        given, options, bound = super().checked(inputs)
        leading = bound.leading
        align = as_array(self.name, "align", options.get("align", 0))
        for name, shape in (("align", align.shape), ("allowed", getattr(options.get("mask"), "leading", ()))):
            if not fits(shape, leading):
                raise ShapeError(f"{self.name}: {name} has the leading axes {shape}; they must broadcast to {leading}")
        if "out" in options:
            check_out(self.name, "o", options["out"], bound.shape(self.signature.results[0]), given)
        return given, options, bound

    def bind(self, given):
        """As for any op, except that the keys may have fewer heads, in groups."""
        leads = {name: self.arguments[name].lead(x.shape) for name, x in given.items() if self.arguments[name].leading}
        for few in ("k", "v"):
            if groups(given["q"].shape, given[few].shape):
                leads[few] = (*leads[few][:-1], leads["q"][-1])
        return self.signature.bind(self.name, {name: x.shape for name, x in given.items()}, leads)

    def backward(self, dvalue: Any, /, **tape: Any) -> dict[str, np.ndarray]:
        """As for any op; a gradient is rounded, if at all, once it is summed."""
        out = tape.get("out") or {}
        for name, array in out.items():
            if name in tape.get("inputs", {}):
                others = {f"out= for {other}": x for other, x in out.items() if other != name}
                check_out(self.name, name, array, tape["inputs"][name].shape, others)
        grads = super().backward(dvalue, **tape)
        recorder = tape.get("recorder")
        if recorder is None or recorder.rounding is None:
            return grads
        return {name: recorder.rounded(f"d{name}", gradient) for name, gradient in grads.items()}


def check_out(owner, name, array, shape, read):
    """Refuse an out= array that cannot hold a result, or that the call reads from or writes twice."""
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise ShapeError(f"{owner}: out= for {name} must be an array of shape {shape}; got {shown(array)}")
    if array.dtype.kind != "f" or not array.flags.writeable:
        what = "is read-only" if array.dtype.kind == "f" else f"has dtype {array.dtype}"
        raise OptionError(f"{owner}: out= for {name} must be a floating-point array to write into; it {what}")
    for other, x in read.items():
        if np.may_share_memory(array, x):
            raise OptionError(f"{owner}: out= for {name} shares memory with {other}; give an array of its own")


def loaded_rule(kind, name, module):
    return kind(name, referred(module))


def rules_in(package: str, path: Iterable[str]) -> dict[str, Rule]:
    """The rules of a package of scores, sorted by where they are written: the documents' first, in their order."""
    made = [Rule(name, m) for name, m in modules(package, path).items() if is_rule(m)]
    return {rule.name: rule for rule in sorted(made, key=where_written)}


def is_rule(module: Any) -> bool:
    """A module with a score of its own, or with the name of another rule's."""
    return is_op(module) or bool(optional(module, "SCORE"))


rules = Lazy(lambda: rules_in(scores.__name__, scores.__path__))


def find(rule: str | Rule | OpModule) -> Rule:
    """The rule of this name; or the rule itself, made of a module or an object that has a score's four names."""
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, str) and rule in rules:
        return rules[rule]
    if not isinstance(rule, str) and is_rule(rule):
        return own_rule(rule)
    raise OptionError(f"there is no rule {shown(rule)}{did_you_mean(rule, rules)}")


def own_rule(module: Any) -> Rule:
    """A rule of the user's own; its name is the last part of the module's, or the class's."""
    name = getattr(module, "__name__", type(module).__name__)
    return Rule(name.rpartition(".")[2], module)
