"""An op is a module with SIGNATURE, definition, forward and backward; `Op` checks what goes in and out of it."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.op import autograd
from attention_ref.op.arrays import as_array, cast, floats, indices, reduce_to
from attention_ref.op.protocol import optional
from attention_ref.op.signature import Argument, Bound, Signature
from attention_ref.op.suggest import did_you_mean

Arrays: TypeAlias = dict[str, np.ndarray]
Shape: TypeAlias = tuple[int, ...]


class Op:
    """One op of the registry: `value, tape = op.forward(**inputs)`, `grads = op.backward(dvalue, **tape)`.

    On top of the module's own four names it checks every argument, promotes the dtypes, sums a gradient over the axes
    that were broadcast and gives it its argument's dtype.

    >>> import attention_ref as ar
    >>> op = ar.ops["normalize.softmax"]
    >>> op
    <Op normalize.softmax: s[... i j] -> alpha[... i j] lse[... i]>
    >>> (alpha, lse), tape = op.forward([[0.0, 0.0, float("-inf")]])
    >>> alpha
    array([[0.5, 0.5, 0. ]])
    >>> op.backward(([[1.0, 0.0, 9.0]], None), **tape)["s"]
    array([[ 0.25, -0.25,  0.  ]])
    """

    internal: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # results whose cotangent stays None where none was given

    def __init__(self, name: str, module: Any):
        self.name = name
        self.module = module
        self.signature = Signature(module.SIGNATURE)
        self.formula = optional(module, "FORMULA")
        self.source = optional(module, "SOURCE")
        self.erratum = optional(module, "ERRATUM")
        self.variants = optional(module, "VARIANTS")
        self.doc = inspect.cleandoc(module.__doc__ or "")
        self.arguments = {argument.name: argument for argument in self.signature.arguments}
        self.options = options_of(module.forward, self.arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.signature}>"

    def __reduce__(self) -> tuple:
        """Ops travel, and are copied, by the names of their modules, which cannot be pickled themselves."""
        return made_again, (type(self), self.name, reference(self.module))

    def definition(self, xp: Any, /, *args: Any, **inputs: Any) -> Any:
        """The textbook's value, in the arithmetic of the namespace xp."""
        return self.module.definition(xp, **self.named(args, inputs))

    def forward(self, /, *args: Any, **inputs: Any) -> tuple[Any, dict[str, Any]]:
        """(value, tape): the results, several as a tuple, and what backward needs, by name."""
        inputs = self.named(args, inputs)
        if autograd.traced(inputs.values()):
            return autograd.forward(self, inputs)
        given, options, bound = self.checked(inputs)
        with np.errstate(all="ignore"), owned(self.name):
            value, tape = self.module.forward(**self.promote(given), **options)
        return self.full(value, bound), tape | {"inputs": given}

    def backward(self, dvalue: Any, /, **tape: Any) -> dict[str, np.ndarray]:
        """{argument: gradient} of every floating-point argument, from a cotangent of each result, None for zeros."""
        if "inputs" not in tape:
            raise OptionError(f"{self.name}: backward needs forward's tape, as in backward(dvalue, **tape)")
        given = tape.pop("inputs")
        with np.errstate(all="ignore"):
            dvalue = self.cotangents(dvalue, given)
            with owned(self.name):
                grads = self.module.backward(dvalue, **tape)
            floating = {name: x for name, x in given.items() if self.arguments[name].kind == "float"}
            summed = {name: cast(reduce_to(grads[name], x.shape), x.dtype) for name, x in floating.items()}
        return {name: unshared(gradient, dvalue) for name, gradient in summed.items()}

    def example(
        self, seed: int = 0, dtype: str = "float64", leading: Any = (), variant: int = 0, **sizes: int
    ) -> dict[str, Any]:
        """Inputs that fit, drawn at random, each axis a different prime unless `sizes` or the variant gives it.

        >>> import attention_ref as ar
        >>> inputs = ar.rules["additive"].example(seed=0, leading=(2,), i=3, j=4)
        >>> list(inputs), inputs["q"].shape, inputs["w_q"].shape
        (['q', 'k', 'v', 'w_q', 'w_k', 'b', 'w_s'], (2, 3, 7), (13, 7))

        Args:
            seed, dtype: of the floating-point arrays
            leading: leading axes, for all inputs
            variant: which of the op's VARIANTS, with its optional arguments and options
            sizes: sizes of axes by their letters
        """
        chosen = self.variants[variant]
        sizes = chosen.get("sizes", {}) | sizes
        rng = np.random.default_rng(seed)
        drawn = self.signature.draw(rng, sizes, leading, dtype, chosen.get("include", ()))
        return drawn | chosen.get("options", {})

    def named(self, args: tuple, inputs: dict[str, Any]) -> dict[str, Any]:
        names = list(self.arguments)
        if len(args) > len(names):
            raise OptionError(f"{self.name}: got {len(args)} positional arguments, takes {', '.join(names)}")
        twice = sorted(set(names[: len(args)]) & set(inputs))
        if twice:
            raise OptionError(f"{self.name}: {twice[0]} was given twice, by position and by name")
        return dict(zip(names, args, strict=False)) | inputs

    def check(self, inputs: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """(arrays by name, options by name), or an error that says what would be right."""
        given, options, _ = self.checked(inputs)
        return given, options

    def checked(self, inputs: dict[str, Any]) -> tuple[Arrays, dict[str, Any], Bound]:
        """(arrays by name, options by name, the sizes of all axes), as check() finds them."""
        known = [*self.arguments, *self.options]
        for name in inputs:
            if name not in known:
                raise self.unknown(name)
        given = {}
        for name, argument in self.arguments.items():
            if inputs.get(name) is not None:
                convert = {"float": floats, "int": indices, "bool": truths}[argument.kind]
                given[name] = convert(self.name, argument, inputs[name])
            elif not argument.optional:
                raise OptionError(f"{self.name}: {name} is missing; it is {argument}")
        weak = {name for name in given if given[name].dtype.kind == "f" and isinstance(inputs[name], (int, float))}
        if weak:
            given = weaken(given, weak)
        bound = self.bind(given)
        for name, argument in self.arguments.items():
            if argument.positive and name in given:
                check_positive(self.name, name, given[name].real)
            if argument.limit and name in given:
                check_range(self.name, argument, given[name], bound.sizes)
        options = {name: inputs[name] for name in self.options if name in inputs}
        for name, default in self.options.items():
            if default is inspect.Parameter.empty and name not in options:
                raise OptionError(f"{self.name}: the option {name}= is missing")
        return given, options, bound

    def unknown(self, name: str) -> OptionError:
        public = [known for known in [*self.arguments, *self.options] if known not in self.internal]
        return OptionError(f"{self.name}: there is no argument {name!r}{did_you_mean(name, public)}")

    def full(self, value: Any, bound: Bound) -> Any:
        """The results with all the leading axes of the inputs, also those that a result does not depend on."""
        several = isinstance(value, tuple)
        pairs = zip(self.signature.results, value if several else (value,), strict=True)
        results = [stretched(x, bound.shape(result)) for result, x in pairs]
        return tuple(results) if several else results[0]

    def bind(self, given: Arrays) -> Bound:
        return self.signature.bind(self.name, {name: x.shape for name, x in given.items()})

    def promote(self, given: Arrays) -> Arrays:
        dtype = compute_dtype(given)
        return {name: x.astype(dtype, copy=False) if x.dtype.kind in "fc" else x for name, x in given.items()}

    def cotangents(self, dvalue: Any, given: Arrays) -> Any:
        """The cotangents as arrays in the results' dtype; zeros for None."""
        bound, results = self.bind(given), self.signature.results
        several = len(results) > 1
        if several and not (isinstance(dvalue, (tuple, list)) and len(dvalue) == len(results)):
            names = ", ".join("d" + result.name for result in results)
            raise ShapeError(f"{self.name}: backward takes one cotangent a result, the tuple ({names})")
        out: list[np.ndarray | None] = []
        for result, d in zip(results, dvalue if several else (dvalue,), strict=True):
            if d is None and result.name in self.left_out:
                out.append(None)
                continue
            d = None if d is None else floats(self.name, result, d, prefix="d")
            if d is not None and d.shape != bound.shape(result):
                raise ShapeError(f"{self.name}: d{result.name} has shape {d.shape}, {result} is {bound.shape(result)}")
            out.append(self.cotangent(d, bound.shape(result), compute_dtype(given)))
        return tuple(out) if several else out[0]

    def cotangent(self, d: np.ndarray | None, shape: Shape, dtype: np.dtype) -> np.ndarray:
        if d is None:
            return np.zeros(shape, dtype)
        return d if np.iscomplexobj(d) else d.astype(dtype, copy=False)


def reference(module: Any) -> Any:
    """What stands for an op's module in a pickle: its name, or the object itself where it is no module."""
    return module.__name__ if isinstance(module, ModuleType) else module


def referred(module: Any) -> Any:
    """The module that a reference() stands for."""
    return importlib.import_module(module) if isinstance(module, str) else module


def made_again(kind: type[Op], name: str, module: Any) -> Op:
    return kind(name, referred(module))


def stretched(x: Any, shape: Shape) -> Any:
    return x if x is None else np.asarray(x) if x.shape == shape else np.broadcast_to(x, shape).copy()


def unshared(gradient: np.ndarray, cotangents: Any) -> np.ndarray:
    """An array of its own: a stage that passes its cotangent on would otherwise return the caller's."""
    given = cotangents if isinstance(cotangents, tuple) else (cotangents,)
    shared = any(d is not None and np.may_share_memory(gradient, d) for d in given)
    return np.array(gradient) if shared else np.asarray(gradient)


@contextmanager
def owned(name: str) -> Iterator[None]:
    """Put the op's name in front of what its module refuses, all on one line."""
    try:
        yield
    except (ShapeError, OptionError) as error:
        said = " ".join(str(error).split())
        raise type(error)(said if said.startswith(f"{name}: ") else f"{name}: {said}") from None


def options_of(forward: Callable, arguments: Mapping[str, Argument]) -> dict[str, Any]:
    """{name: default} of the parameters of forward that are not arrays of the signature."""
    parameters = inspect.signature(forward).parameters
    return {key: p.default for key, p in parameters.items() if key not in arguments and p.kind != p.VAR_KEYWORD}


def compute_dtype(given: Arrays) -> np.dtype:
    return np.result_type(*[x.dtype for x in given.values() if x.dtype.kind in "fc"])


def weaken(given: Arrays, weak: set[str]) -> Arrays:
    """A number, unlike an array, takes the dtype of the arrays."""
    strong = {name: x for name, x in given.items() if name not in weak and x.dtype.kind in "fc"}
    if not strong:
        return given
    dtype = compute_dtype(strong)
    return {name: x.astype(dtype.type(0).real.dtype) if name in weak else x for name, x in given.items()}


MEANING = {
    "allowed": ", True = may attend (additive masks go in as bias=)",
    "dropout": ", True = kept, in (keep, p)",
}


def truths(owner: str, argument: Argument, value: Any) -> np.ndarray:
    array = as_array(owner, argument.name, value)
    if array.dtype != bool:
        raise OptionError(
            f"{owner}: {argument.name} must be boolean{MEANING.get(argument.name, '')}; got dtype {array.dtype}"
        )
    return array


def check_range(owner: str, argument: Argument, array: np.ndarray, sizes: Mapping[str, int]) -> None:
    low, high = (array.min(), array.max()) if array.size else (0, -1)
    top = sizes[argument.limit] - (not argument.inclusive)
    if low < 0 or high > top:
        wrong = low if low < 0 else high
        size = f"{argument.limit} = {sizes[argument.limit]}"
        raise OptionError(f"{owner}: {argument.name} holds {wrong}; with {size} it must be in 0..{top}")


def check_positive(owner: str, name: str, array: np.ndarray) -> None:
    wrong = array[~((array > 0) & (array < np.inf))]
    if wrong.size:
        raise OptionError(f"{owner}: {name} must be greater than 0 and finite; got {wrong[0]}")
