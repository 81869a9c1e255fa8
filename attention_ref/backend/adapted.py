"""A candidate in a framework as one in NumPy, and its backward by the framework's autodiff."""

import inspect

import numpy as np

from attention_ref.backend.declare import ARRAYS, declared, declaring

DIFFERENTIABLE = ("o", "lse")


class Adapted:
    """The candidate, called with NumPy arrays."""

    def __init__(self, adapter, candidate):
        self.adapter, self.candidate = adapter, candidate
        self.function = adapter.function(candidate)
        self.__module__ = getattr(candidate, "__module__", "") or ""
        name = getattr(candidate, "__qualname__", None) or getattr(candidate, "__name__", type(candidate).__name__)
        self.__name__ = self.__qualname__ = name
        self.__code__ = getattr(inspect.unwrap(candidate), "__code__", None)
        self.options = declared(self.function)
        declaring(self, self.options)

    def __call__(self, *arrays, **options):
        adapter = self.adapter
        with adapter.scope(arrays):
            inputs = [adapter.value(x) for x in arrays]
            return adapter.results(self.function(*inputs, **{name: adapter.value(x) for name, x in options.items()}))

    def __reduce__(self):
        return Adapted, (self.adapter, self.candidate)

    def backward(self):
        """The framework's own backward of the candidate; None if the framework has none."""
        return Pulled(self) if self.adapter.differentiates else None


class Pulled:
    """The backward of a candidate by its framework's autodiff: the gradient of every array of floats that goes in."""

    needs_lse = True  # a cotangent of lse is for a candidate that returns one

    def __init__(self, adapted):
        self.adapted = adapted
        self.__module__, self.__name__ = "", f"the autodiff of {adapted.adapter.name}"
        self.__code__ = adapted.__code__
        options = None if adapted.options is None else ["dlse", *sorted(adapted.options)]
        declaring(self, options, arrays=("do", *ARRAYS, "o", "lse"))

    def __reduce__(self):
        return Pulled, (self.adapted,)

    def __call__(self, do, q, k, v, o, lse, *, dlse=None, **options):
        adapter = self.adapted.adapter
        inputs = {"q": q, "k": k, "v": v} | options
        with adapter.scope(inputs.values()):
            inputs = {name: adapter.value(x) for name, x in inputs.items()}
            leaves = [name for name, x in (dict(q=q, k=k, v=v) | options).items() if is_float(x)]
            cotangents = {name: d for name, d in (("o", do), ("lse", dlse)) if d is not None}

            def function(primals):
                whole = inputs | dict(zip(leaves, primals, strict=True))
                rest = {name: x for name, x in whole.items() if name not in ARRAYS}
                returned = by_name(self.adapted.function(*(whole[name] for name in ARRAYS), **rest))
                return [returned[name] for name in cotangents]

            pulled = [adapter.array(d) for d in cotangents.values()]
            grads = adapter.vjp(function, [inputs[name] for name in leaves], pulled)
            return {name: adapter.numpy(g) for name, g in zip(leaves, grads, strict=True)}


class Given:
    """A backward that its author wrote in the framework, called with NumPy arrays."""

    def __init__(self, adapter, function):
        self.adapter, self.function = adapter, function
        self.__module__ = getattr(function, "__module__", "") or ""
        self.__name__ = self.__qualname__ = getattr(function, "__qualname__", type(function).__name__)
        self.__code__ = getattr(inspect.unwrap(function), "__code__", None)
        declaring(self, declared(function, 6), arrays=("do", *ARRAYS, "o", "lse"))

    def __reduce__(self):
        return Given, (self.adapter, self.function)

    def __call__(self, *arrays, **options):
        adapter = self.adapter
        with adapter.scope(arrays):
            inputs = [adapter.value(x) for x in arrays]
            return adapter.results(self.function(*inputs, **{name: adapter.value(x) for name, x in options.items()}))


def is_float(x):
    return isinstance(x, np.ndarray) and (x.dtype.kind == "f" or x.dtype.name == "bfloat16")


def by_name(returned):
    """What a candidate returned, by name."""
    if isinstance(returned, dict):
        return returned
    if isinstance(returned, (tuple, list)):
        return dict(zip(DIFFERENTIABLE, returned, strict=False))
    return {"o": returned}
