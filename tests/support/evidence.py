"""The testers: each takes an op and a drawn case, and raises AssertionError naming op, argument, place, got and want.

A subject is anything with the four names of an op. What is expected comes from the subject's `definition` alone,
differentiated by autograd and by complex step, so a tester can be handed a wrong op and must fail.
"""

import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from zlib import crc32

import autograd.numpy as anp
import numpy as np
from autograd import grad

import attention_ref as ar
from attention_ref.op.signature import Signature

TOLERANCE = 1e-12
SINGLE = 3e-5
STEP = 1e-200
PATTERNS = {"none": (), "batch": (3,), "batches": (2, 3), "mixed": "mixed"}
MIXED = ((2, 1), (3,), (2, 3), (), (1, 3))

# Gradients that are identically zero although the result depends on the argument to rounding: a term that is the same
# for every key of a row leaves softmax unchanged. {(subject, argument): (results, unless one of these is given)}
ZEROS = {
    ("rule.concat_linear", "q"): (("o", "alpha"), ("scale", "softcap", "sink")),
    ("rule.concat_linear", "b"): (("o", "alpha"), ("scale", "softcap", "sink")),
    ("mechanism.multi_head_self_attention", "b_k"): (("y",), ()),
    ("mechanism.multi_head_attention", "b_k"): (("y", "alpha"), ("scale", "softcap", "sink")),
}


def subjects():
    """Every op and every rule, by name."""
    return ar.ops | {f"rule.{name}": rule for name, rule in ar.rules.items()}


def name_of(op):
    """The name in `subjects`: rules have a floor of their own."""
    return f"rule.{op.name}" if isinstance(getattr(op, "op", op), ar.Rule) else op.name


def seed_of(*what):
    return crc32(repr(what).encode())


def patterns(op):
    """The leading patterns that make sense: all, or one where nothing has leading axes, none mixed for one argument."""
    count = sum(argument.leading for argument in op.signature.arguments)
    return [p for p in PATTERNS if count > 1 or (count == 1 and p != "mixed") or p == "none"]


def draw(op, variant=0, pattern="none", dtype="float64", seed=0, **sizes):
    """The op's own example; mixed: every argument's leading axes differ and what broadcasts is one row."""
    lead = PATTERNS.get(pattern, pattern)
    names = [argument.name for argument in op.signature.arguments if argument.leading]
    if lead == "mixed":
        lead = {name: MIXED[n % len(MIXED)] for n, name in enumerate(names)}
    example = op.example(seed=seed_of(op.name, variant, seed), dtype=dtype, leading=lead, variant=variant, **sizes)
    inputs = op.named((), example)
    for name, argument in op.arguments.items():
        if name in inputs and argument.inclusive:
            limit = sizes_of(op, inputs)[argument.limit]
            inputs[name] = np.maximum(inputs[name], min(2, limit))
        if name in inputs and argument.kind == "bool":
            inputs[name][..., :2] |= inputs[name].sum(axis=-1, keepdims=True) < 2
        if name in inputs and argument.broadcasts and pattern == "mixed" and len(argument.axes) > 1:
            inputs[name] = inputs[name][..., :1, :]
    return inputs


def sizes_of(op, inputs):
    arrays = {name: np.shape(inputs[name]) for name in op.arguments if inputs.get(name) is not None}
    return op.signature.bind(op.name, arrays).sizes


def floating(op, inputs):
    return [name for name in inputs if name in op.arguments and op.arguments[name].kind == "float"]


def as_tuple(op, value):
    return value if len(op.signature.results) > 1 else (value,)


def as_value(op, values):
    return tuple(values) if len(op.signature.results) > 1 else values[0]


def defined(op, xp, inputs):
    """{result: value} by the definition, with all the leading axes; a result that is None is left out."""
    lead = leading_of(op, inputs)
    if xp is anp:
        inputs = {name: full(op.arguments.get(name), x, lead) for name, x in inputs.items()}
    with np.errstate(all="ignore"):
        value = as_tuple(op, op.definition(xp, **inputs))
    results = zip(op.signature.results, value, strict=True)
    return {result.name: full(result, v, lead) for result, v in results if v is not None}


def leading_of(op, inputs):
    """The broadcast of all leading axes."""
    shapes = {name: np.shape(inputs[name]) for name in op.arguments if inputs.get(name) is not None}
    return np.broadcast_shapes(*[op.arguments[name].lead(shape) for name, shape in shapes.items()])


def full(argument, x, lead):
    """A floating-point array with the full leading axes: autograd's `where` does not sum over broadcast ones."""
    shape = np.shape(x)
    if argument is None or argument.kind != "float" or not argument.leading or (not shape and argument.axes):
        return x
    whole = lead + shape[len(shape) - len(argument.axes) :]
    return x if shape == whole else x + np.zeros(whole)


@dataclass(eq=False)
class Case:
    """Inputs, and what the definition says about them."""

    op: object
    inputs: dict
    seed: int = 0

    @cached_property
    def values(self):
        return defined(self.op, np, self.inputs)

    @cached_property
    def cotangents(self):
        rng = np.random.default_rng(self.seed + 1)
        return {name: rng.standard_normal(np.shape(value)) for name, value in self.values.items()}

    @cached_property
    def floating(self):
        return floating(self.op, self.inputs)

    @cached_property
    def directions(self):
        rng = np.random.default_rng(self.seed + 2)
        return {name: rng.standard_normal(np.shape(self.inputs[name])) for name in self.floating}

    @cached_property
    def choices(self):
        """The results whose cotangent is given: all together, and each alone."""
        names = tuple(self.values)
        return [names, *[(name,) for name in names if len(names) > 1]]

    def dvalue(self, chosen):
        return as_value(self.op, [self.cotangents[r.name] if r.name in chosen else None for r in self.results])

    @property
    def results(self):
        return self.op.signature.results

    def want(self, chosen):
        """The gradients by autograd of the definition."""
        if chosen not in self.wanted:
            self.wanted[chosen] = self.differentiate(chosen)
        return self.wanted[chosen]

    @cached_property
    def wanted(self):
        return {}

    def differentiate(self, chosen):
        with np.errstate(all="ignore"):
            found = grad(lambda point: self.project(point, chosen))([self.inputs[name] for name in self.floating])
        return dict(zip(self.floating, found, strict=True))

    def project(self, point, chosen, cotangents=None):
        results = defined(self.op, anp, self.inputs | dict(zip(self.floating, point, strict=True)))
        cotangents = cotangents or self.cotangents
        return sum(anp.sum(cotangents[name] * results[name]) for name in chosen)

    @cached_property
    def bends(self):
        """The derivative of all gradients along the directions, by autograd of autograd of the definition."""
        along = [self.directions[name] for name in self.floating]
        first = grad(lambda point: self.project(point, self.choices[0]))

        def slope(point):
            return sum(anp.sum(u * g) for u, g in zip(along, first(point), strict=True))

        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Output seems independent of input")
            found = grad(slope)([self.inputs[name] for name in self.floating])
        return dict(zip(self.floating, found, strict=True))

    @cached_property
    def ignored(self):
        """{(result, argument)}: results that stay the same bit for bit when the argument is drawn anew."""
        rng = np.random.default_rng(self.seed + 3)
        out = set()
        for name in self.floating:
            values = rng.standard_normal(np.shape(self.inputs[name]))
            values = np.exp(values) if self.op.arguments[name].positive else values
            again = defined(self.op, np, self.inputs | {name: values})
            out |= {(r, name) for r, v in self.values.items() if np.array_equal(v, again[r], equal_nan=True)}
        return out

    @cached_property
    def smallest(self):
        """The smallest gradient beside the largest, by the definition: little where a draw is saturated or cut off."""
        found = [1.0]
        for chosen in self.choices:
            want = self.want(chosen)
            sizes = [largest([want[name]]) for name in want if not self.is_zero(chosen, name)]
            found.append(min(sizes, default=0.0) / (largest(want.values()) or 1.0))
        idle = any(all((result, name) in self.ignored for result in self.values) for name in self.floating)
        return 0.0 if idle else min(found)

    def is_zero(self, chosen, name):
        """Is this gradient identically zero: by the table, or because no chosen result depends on the argument?"""
        through, unless = ZEROS.get((name_of(self.op), name), ((), ()))
        declared = () if any(self.inputs.get(option) is not None for option in unless) else through
        return all(result in declared or (result, name) in self.ignored for result in chosen)


@cache
def case(name, variant, pattern):
    """The case of this variant and leading pattern: the first draw that is not degenerate."""
    op = subjects()[name]
    drawn = []
    for seed in range(20):
        drawn.append(Case(op, draw(op, variant, pattern, seed=seed), seed_of(name, variant, pattern, seed)))
        if drawn[-1].smallest > 1e-2:
            break
    return max(drawn, key=lambda one: one.smallest)


# Comparison


def compare(op, name, got, want, tolerance=TOLERANCE, floor=0.0):
    """|got - want| <= tolerance * max(|want|, floor), finite where want is; fails closed."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise AssertionError(f"{op.name}: {name} has shape {got.shape}; want {want.shape}")
    finite = np.isfinite(want)
    odd = (np.isfinite(got) != finite) | (~finite & ~np.isclose(got, want, equal_nan=True))
    if odd.any():
        raise AssertionError(f"{op.name}: {name} is not finite where it should be, or the reverse{at(odd, got, want)}")
    error = np.abs(np.where(finite, got - np.where(finite, want, 0), 0))
    bound = tolerance * np.max(np.abs(want), where=finite, initial=floor)
    if error.size and not error.max() <= bound:
        raise AssertionError(f"{op.name}: {name} differs by more than {bound:.3g}{at(error, got, want)}")


def at(badness, got, want):
    index = tuple(int(n) for n in np.unravel_index(np.argmax(badness), got.shape))
    return f"; worst at {index}: got {got[index]!r}, want {want[index]!r}"


def largest(arrays):
    return max([float(np.max(np.abs(x), initial=0)) for x in arrays] or [0.0])


def compare_names(op, what, got, want):
    if set(got) != set(want):
        raise AssertionError(f"{op.name}: {what} are named {sorted(got)}; want {sorted(want)}")


def compare_values(op, value, want, tolerance=TOLERANCE, floor=0.0):
    value = as_tuple(op, value)
    if len(value) != len(op.signature.results):
        raise AssertionError(f"{op.name}: there are {len(value)} results; want {len(op.signature.results)}")
    got = {r.name: v for r, v in zip(op.signature.results, value, strict=True) if v is not None}
    compare_names(op, "the results", got, want)
    for name in want:
        compare(op, f"result {name}", got[name], want[name], tolerance, floor)


def compare_gradients(op, got, want, tolerance=TOLERANCE, floor=0.0):
    compare_names(op, "the gradients", got, want)
    for name in want:
        compare(op, f"gradient d{name}", got[name], want[name], tolerance, floor)


# The kinds of evidence that every op has


def check_value(op, case):
    """The value is the definition's."""
    value, _ = op.forward(**case.inputs)
    check_dtypes(op, "result", zip(case.values, present(op, value), strict=False), np.float64)
    compare_values(op, value, case.values)


def check_gradients(op, case):
    """Every gradient is autograd's of the definition, for every cotangent together and each alone."""
    _, tape = op.forward(**case.inputs)
    for chosen in case.choices:
        check_gradients_through(op, case, chosen, op.backward(case.dvalue(chosen), **tape))


def check_gradients_through(op, case, chosen, got):
    want = case.want(chosen)
    compare_names(op, "the gradients", got, want)
    size = max(largest(want.values()), largest(case.cotangents[r] for r in chosen))
    for name in want:
        label = f"gradient d{name} through {', '.join(chosen)}"
        if got[name].dtype != case.inputs[name].dtype:
            raise AssertionError(f"{op.name}: {label} has dtype {got[name].dtype}; want {case.inputs[name].dtype}")
        zero = largest([want[name]]) <= TOLERANCE * size
        if all((result, name) in case.ignored for result in case.values):
            raise AssertionError(f"{op.name}: no result depends on {name}: the drawn case proves nothing")
        if zero != case.is_zero(chosen, name):
            table = "is zero and is not in the table" if zero else "is in the table of zeros and is not zero"
            raise AssertionError(f"{op.name}: {label} {table}{at(np.abs(want[name]), want[name], want[name])}")
        compare(op, label, got[name], np.zeros_like(want[name]) if zero else want[name], floor=size if zero else 0.0)


def complex_step(op, inputs, name, direction):
    """{result: derivative along the direction} of the definition, by a step of 1e-200."""
    stepped = defined(op, np, inputs | {name: inputs[name] + 1j * STEP * direction})
    return {result: np.imag(value) / STEP for result, value in stepped.items()}


def check_complex_step(op, case):
    """One argument at a time: forward's derivative and backward's gradient against the definition's complex step."""
    _, tape = op.forward(**case.inputs)
    everything = case.choices[0]
    grads = op.backward(case.dvalue(everything), **tape)
    size = max(largest(case.want(everything).values()), 1.0)
    for name in case.floating:
        direction = case.directions[name]
        want = complex_step(op, case.inputs, name, direction)
        got = as_tuple(op, ar.jvp(op, case.inputs, {name: direction}))
        got = {r.name: v for r, v in zip(case.results, got, strict=True) if r.name in want}
        for result in want:
            floor = 1.0 if case.is_zero((result,), name) else 0.0
            compare(op, f"derivative of {result} along {name}", got[result], want[result], floor=floor)
        terms = [np.sum(case.cotangents[r] * want[r]) for r in want]
        floor = size if case.is_zero(everything, name) else np.sum(np.abs(grads[name] * direction))
        projected = np.sum(grads[name] * direction)
        compare(op, f"gradient d{name} along a direction", projected, np.sum(terms), floor=floor)


def check_second_order(op, case):
    """The derivative of every gradient along a direction, against autograd of autograd of the definition."""
    got = ar.hvp(op, case.inputs, case.dvalue(case.choices[0]), case.directions)
    want = case.bends
    compare_names(op, "the second derivatives", got, want)
    size = largest(want.values())
    for name in want:
        zero = largest([want[name]]) <= TOLERANCE * size
        compare(op, f"second derivative of d{name}", got[name], want[name], 10 * TOLERANCE, size if zero else 0.0)


def check_purity(op, case):
    """Inputs and cotangents are not written to; backward twice gives the same bits; read-only arrays will do."""
    inputs = {n: x.copy() if isinstance(x, np.ndarray) else x for n, x in case.inputs.items()}
    locked = [x for x in inputs.values() if isinstance(x, np.ndarray)]
    dvalue = case.dvalue(case.choices[0])
    cotangents = [d.copy() for d in as_tuple(op, dvalue) if d is not None]
    _, tape = op.forward(**inputs)
    first = op.backward(dvalue, **tape)
    kept = {name: x.copy() for name, x in first.items()}
    second = op.backward(dvalue, **tape)
    for name, x in inputs.items():
        if isinstance(x, np.ndarray) and not np.array_equal(x, case.inputs[name], equal_nan=True):
            raise AssertionError(f"{op.name}: the input {name} was written to")
    for d, copy in zip([d for d in as_tuple(op, dvalue) if d is not None], cotangents, strict=True):
        if not np.array_equal(d, copy):
            raise AssertionError(f"{op.name}: a cotangent was written to")
    for name in kept:
        if not np.array_equal(kept[name], second[name], equal_nan=True):
            raise AssertionError(f"{op.name}: gradient d{name} is not the same the second time")
        if any(np.shares_memory(second[name], x) for x in locked):
            raise AssertionError(f"{op.name}: gradient d{name} shares memory with an input")
    for x in [*locked, *cotangents]:
        x.flags.writeable = False
    again = iter(cotangents)
    dvalue = as_value(op, [None if d is None else next(again) for d in as_tuple(op, dvalue)])
    value, tape = op.forward(**inputs)
    compare_values(op, value, case.values)
    compare_gradients(op, op.backward(dvalue, **tape), kept)


def check_layout(op, case):
    """Reversed strides and Fortran order give what contiguous arrays give."""
    dvalue = case.dvalue(case.choices[0])
    _, tape = op.forward(**case.inputs)
    want = op.backward(dvalue, **tape)
    size = largest(want.values())
    for arrange in (reversed_strides, np.asfortranarray):
        inputs = {n: arrange(x) if isinstance(x, np.ndarray) else x for n, x in case.inputs.items()}
        value, tape = op.forward(**inputs)
        compare_values(op, value, case.values)
        arranged = as_value(op, [None if d is None else arrange(d) for d in as_tuple(op, dvalue)])
        got = op.backward(arranged, **tape)
        for name in want:
            zero = case.is_zero(case.choices[0], name)
            compare(op, f"gradient d{name}", got[name], want[name], floor=size if zero else 0.0)


def reversed_strides(x):
    flip = (slice(None, None, -1),) * x.ndim
    return x[flip].copy()[flip]


def check_single(op, case):
    """float32 in, float32 out and near float64; one float64 argument takes the results up, float16 is widened."""
    single = {n: cast(op, n, x, np.float32) for n, x in case.inputs.items()}
    exact = Case(op, {n: cast(op, n, x, np.float64) for n, x in single.items()}, case.seed)
    chosen = exact.choices[0]
    value, tape = op.forward(**single)
    check_dtypes(op, "result", zip(exact.values, present(op, value), strict=True), np.float32)
    compare_values(op, value, exact.values, SINGLE)
    dvalue = as_value(op, [None if d is None else d.astype(np.float32) for d in as_tuple(op, exact.dvalue(chosen))])
    got = op.backward(dvalue, **tape)
    check_dtypes(op, "gradient", got.items(), np.float32)
    want = exact.want(chosen)
    size = max(largest(want.values()), 1.0)
    for name in want:
        floor = size if exact.is_zero(chosen, name) else 0.0
        compare(op, f"gradient d{name}", got[name], want[name], SINGLE, floor)
    check_mixed(op, case, single)
    check_half(op, case)


def check_mixed(op, case, single):
    raised = case.floating[0]
    value, tape = op.forward(**single | {raised: case.inputs[raised]})
    wide = np.float64 if case.inputs[raised].dtype == np.float64 else np.float32
    check_dtypes(op, "result", zip(case.values, present(op, value), strict=True), wide)
    got = op.backward(case.dvalue(case.choices[0]), **tape)
    check_dtypes(op, "gradient", [(raised, got[raised])], np.float64)
    check_dtypes(op, "gradient", [(n, g) for n, g in got.items() if n != raised], np.float32)


def check_half(op, case):
    half = {n: cast(op, n, x, np.float16) for n, x in case.inputs.items()}
    wide = {n: cast(op, n, x, np.float64) for n, x in half.items()}
    value, tape = op.forward(**half)
    want, wide_tape = op.forward(**wide)
    for v, w in zip(present(op, value), present(op, want), strict=True):
        if v.dtype != np.float64 or not np.array_equal(v, w, equal_nan=True):
            raise AssertionError(f"{op.name}: float16 is not widened to float64: {at(v != w, v, w)}")
    dvalue = case.dvalue(case.choices[0])
    expected = op.backward(dvalue, **wide_tape)
    for name, g in op.backward(dvalue, **tape).items():
        if not np.array_equal(g, expected[name], equal_nan=True):
            raise AssertionError(f"{op.name}: gradient d{name} of float16 is not float64's")


def cast(op, name, x, dtype):
    return x.astype(dtype) if name in op.arguments and op.arguments[name].kind == "float" else x


def present(op, value):
    return [v for v in as_tuple(op, value) if v is not None]


def check_dtypes(op, what, arrays, dtype):
    for name, x in arrays:
        if x.dtype != dtype:
            raise AssertionError(f"{op.name}: {what} {name} has dtype {x.dtype}; want {np.dtype(dtype)}")


def check_sizes_one(op, variant):
    """One axis at a time of length 1, and all of them."""
    letters = free_letters(op, variant)
    for ones in [*[(letter,) for letter in letters], letters]:
        inputs = draw(op, variant, "batch", **dict.fromkeys(ones, 1))
        if not refused(op, inputs):
            check_against_definition(op, Case(op, inputs, seed_of(op.name, ones)))


def free_letters(op, variant):
    """The axes whose size is anybody's choice: not the variant's, and no vocabulary."""
    letters = op.signature.prime_sizes()
    taken = {a.limit for a in op.signature.arguments if a.limit and not a.inclusive}
    return [letter for letter in letters if letter not in taken | set(op.variants[variant].get("sizes", {}))]


def check_against_definition(op, case):
    """Value and gradients, where a gradient may be zero or empty."""
    value, tape = op.forward(**case.inputs)
    compare_values(op, value, case.values, floor=1.0)
    got = op.backward(case.dvalue(case.choices[0]), **tape)
    want = case.want(case.choices[0])
    compare_names(op, "the gradients", got, want)
    for name in want:
        compare(op, f"gradient d{name}", got[name], want[name], floor=max(largest(want.values()), 1.0))


def check_empty(op, variant):
    """No batch, queries, keys, steps or features: value and gradients are the definition's, or the op refuses."""
    leading = [("batch", (0,))] if any(a.leading for a in op.signature.arguments) else []
    axes = [(letter, "batch") for letter in free_letters(op, variant)]
    for label, lead in [*leading, *axes]:
        sizes = {} if label == "batch" else {label: 0}
        inputs = draw(op, variant, lead if label == "batch" else "batch", **sizes)
        if not refused(op, inputs):
            check_against_definition(op, Case(op, inputs, seed_of(op.name, label)))


def refused(op, inputs):
    """Does the op say in so many words that it cannot take these?"""
    try:
        op.forward(**inputs)
    except (ar.ShapeError, ar.OptionError):
        return True
    return False


# autograd


def model(op, case, evaluate):
    """A user's little model around the op: sin before it, tanh and a random projection after it."""

    def loss(point):
        positive = [op.arguments[name].positive for name in case.floating]
        point = [1.1 * (x if keep else anp.sin(x)) for x, keep in zip(point, positive, strict=True)]
        inputs = case.inputs | dict(zip(case.floating, point, strict=True))
        results = evaluate(inputs)
        return sum(anp.sum(c * anp.tanh(results[name])) for name, c in case.cotangents.items())

    return loss


def primitive(op):
    def evaluate(inputs):
        value = as_tuple(op, op.forward(**inputs)[0])
        return {r.name: v for r, v in zip(op.signature.results, value, strict=False) if v is not None}

    return evaluate


def check_autograd(op, case):
    """autograd through the op as a primitive gives what autograd through its definition gives."""
    point = [case.inputs[name] for name in case.floating]
    with np.errstate(all="ignore"):
        got = grad(model(op, case, primitive(op)))(point)
        want = grad(model(op, case, lambda inputs: defined(op, anp, inputs)))(point)
    compare_models(op, case, "gradient d{} of a model", got, want)


def check_autograd_twice(op, case):
    """And so does the gradient of the gradient."""
    point = [case.inputs[name] for name in case.floating]

    def bent(evaluate):
        first = grad(model(op, case, evaluate))

        def slope(at):
            return sum(anp.sum(case.directions[n] * g) for n, g in zip(case.floating, first(at), strict=True))

        return grad(slope)(point)

    with np.errstate(all="ignore"):
        got, want = bent(primitive(op)), bent(lambda inputs: defined(op, anp, inputs))
    compare_models(op, case, "second derivative d{} of a model", got, want, 10 * TOLERANCE)


def compare_models(op, case, label, got, want, tolerance=TOLERANCE):
    size = largest(want)
    for name, g, w in zip(case.floating, got, want, strict=True):
        zero = largest([w]) <= TOLERANCE * size
        compare(op, label.format(name), g, w, tolerance, size if zero else 0.0)


# Masks: for everything that takes `allowed`


def poisoned(op, inputs, letter, index, values=(np.nan, np.inf)):
    """The inputs with NaN and inf at one index of an axis of q, k and v."""
    out, fill = dict(inputs), iter(values * 2)
    for name in ("q", "k", "v"):
        axis = axis_of(op, name, letter) if name in inputs else None
        if axis is not None:
            out[name] = inputs[name].copy()
            np.moveaxis(out[name], axis, 0)[index] = next(fill)
    return out


def axis_of(op, name, letter):
    """Where an axis stands in an argument, counted from the end; None where it is not."""
    axes = [axis.text for axis in op.arguments[name].axes]
    return axes.index(letter) - len(axes) if letter in axes else None


def takes_allowed(op):
    return "allowed" in op.arguments and [axis.text for axis in op.arguments["allowed"].axes] == ["i", "j"]


def masked_variants(op):
    return [n for n, v in enumerate(op.variants) if "allowed" in v.get("include", ())]


def selecting_variants(op):
    """Those in which a row with nothing allowed looks at nothing."""
    return [n for n in masked_variants(op) if "empty_row" not in op.variants[n].get("options", {})]


def plain_variants(rule):
    """Those whose scores are the rule's own, at most masked and scaled."""
    plain = {"allowed", "scale"}
    return [n for n, v in enumerate(rule.variants) if not v.get("options") and set(v.get("include", ())) <= plain]


def masked_case(op, variant):
    """A case whose `allowed` has its full shape: query 0 may attend to nothing, nobody to the last key."""
    inputs = draw(op, variant, "batch")
    allowed = inputs["allowed"].copy()
    allowed[..., 1:, :2] = True
    allowed[..., 0, :] = False
    allowed[..., :, -1] = False
    return Case(op, inputs | {"allowed": allowed}, seed_of(op.name, variant, "masked"))


def run(op, case, inputs=None):
    """(results by name, gradients) with all cotangents."""
    value, tape = op.forward(**(inputs or case.inputs))
    return dict(zip(case.values, present(op, value), strict=True)), op.backward(case.dvalue(case.choices[0]), **tape)


def check_dead_rows(op, variant):
    """A query that may attend to nothing: o = 0, alpha = 0, lse = -inf, and its gradient exactly 0.

    With another `empty_row` only what the definition says.
    """
    case = masked_case(op, variant)
    check_against_definition(op, case)
    if "empty_row" in case.inputs:
        return
    check_dead(op, *run(op, case), np.s_[..., 0, :], np.s_[..., 0])
    nobody = Case(op, case.inputs | {"allowed": np.zeros_like(case.inputs["allowed"])}, case.seed)
    values, grads = run(op, nobody)
    check_dead(op, values, grads, np.s_[...], np.s_[...])
    if isinstance(getattr(op, "op", op), ar.Rule):
        for name, g in grads.items():
            if name != "sink" and g.any():
                raise AssertionError(f"{op.name}: gradient d{name} of dead rows alone is {largest([g])}; want 0")


def check_dead(op, values, grads, rows, row):
    dead = {"o": (rows, 0), "alpha": (rows, 0), "lse": (row, -np.inf)}
    for name, (where, want) in dead.items():
        if name in values and "sink" not in grads and not np.all(values[name][where] == want):
            raise AssertionError(f"{op.name}: {name} of a dead row is not {want}")
    if "q" in grads and grads["q"][rows].any():
        raise AssertionError(f"{op.name}: gradient dq of a dead row is not 0")


def check_poison(op, variant):
    """NaN and inf behind the mask change no result and no gradient."""
    case = masked_case(op, variant)
    values, grads = run(op, case)
    for letter, index in (("j", -1), ("i", 0)):
        dirty, dirty_grads = run(op, case, poisoned(op, case.inputs, letter, index))
        for name in values:
            compare(op, f"result {name} with NaN behind the mask ({letter})", dirty[name], values[name])
        size = largest(grads.values())
        for name in grads:
            label = f"gradient d{name} with NaN behind the mask ({letter})"
            compare(op, label, dirty_grads[name], grads[name], floor=size)


def check_partial_poison(op, variant):
    """NaN in a key that some may attend to: the rows that may not stay what they are, and so does their gradient."""
    case = masked_case(op, variant)
    allowed = case.inputs["allowed"].copy()
    allowed[..., 1, 0], allowed[..., 2, 0] = False, True
    case = Case(op, case.inputs | {"allowed": allowed}, case.seed)
    values, grads = run(op, case)
    for poison in (np.nan, np.inf):
        dirty, dirty_grads = run(op, case, poisoned(op, case.inputs, "j", 0, (poison, poison)))
        for name in values:
            axis = [a.text for a in next(r for r in case.results if r.name == name).axes]
            rows = (..., 1, *[slice(None)] * (len(axis) - axis.index("i") - 1))
            compare(op, f"result {name} of a row without the NaN", dirty[name][rows], values[name][rows])
        if "q" in grads:
            name, rows = "gradient dq of a row without the NaN", np.s_[..., 1, :]
            compare(op, name, dirty_grads["q"][rows], grads["q"][rows], floor=largest([grads["q"]]))


def takes_lengths(op):
    return any(argument.inclusive for argument in op.signature.arguments)


def lengths_variants(op):
    names = {argument.name for argument in op.signature.arguments if argument.inclusive}
    required = any(not op.arguments[name].optional for name in names)
    return [n for n, v in enumerate(op.variants) if required or names & set(v.get("include", ()))]


def check_lengths(op, variant):
    """Lengths of 0 give what the definition says; NaN and inf behind a length change no result and no gradient."""
    inputs = draw(op, variant, "batch")
    lengths = {a.name: a.limit for a in op.signature.arguments if a.inclusive and inputs.get(a.name) is not None}
    for name in lengths:
        inputs[name] = np.maximum(inputs[name] - 1, 1)
        inputs[name].flat[0] = 0
    case = Case(op, inputs, seed_of(op.name, variant, "lengths"))
    check_against_definition(op, case)
    values, grads = run(op, case)
    for poison in (np.nan, np.inf):
        dirty, dirty_grads = run(op, case, behind_lengths(op, inputs, lengths, poison))
        for name in values:
            compare(op, f"result {name} with {poison} behind its length", dirty[name], values[name])
        for name in grads:
            label = f"gradient d{name} with {poison} behind its length"
            compare(op, label, dirty_grads[name], grads[name], floor=largest(grads.values()))


def behind_lengths(op, inputs, lengths, poison):
    """The inputs with poison behind their lengths, the greatest of the heads' where heads share an argument."""
    out = dict(inputs)
    for length, letter in lengths.items():
        for name in floating(op, inputs):
            axis = axis_of(op, name, letter) if op.arguments[name].leading else None
            if axis is not None:
                rows = np.moveaxis(inputs[name].copy(), axis, -1)
                reach = inputs[length]
                heads = range(len(op.arguments[name].lead(inputs[name].shape)), reach.ndim)
                reach = reach.max(axis=tuple(heads))
                reach = reach.reshape(reach.shape + (1,) * (-axis))
                rows[np.broadcast_to(np.arange(rows.shape[-1]) >= reach, rows.shape)] = poison
                out[name] = np.moveaxis(rows, -1, axis)
    return out


# Rules


def check_huge_scores(rule, variant):
    """Scores of +-1e4, keys 0 and 1 nearly tied: the definition with the row's maximum subtracted.

    At 1e4 a score's last digits are 2e-12, and a few of them are lost in the products: 2e-10 of the largest value.
    """
    inputs = draw(rule, variant, "batch") | {"scale": None}
    rng = np.random.default_rng(seed_of(rule.name))
    for name in inputs:
        axis = axis_of(rule, name, "j") if name in rule.arguments and name not in ("v", "allowed") else None
        if axis is not None and inputs[name] is not None:
            rows = np.moveaxis(inputs[name], axis, 0)
            rows[1] = rows[0] * (1 + 1e-5 * rng.standard_normal(rows[0].shape))
    scores = score_of(rule, np, inputs)
    for sign in (1, -1):
        inputs["scale"] = np.full(scores.shape[-2:], sign * 1e4 / np.max(np.abs(scores)))
        top = np.max(keep_allowed(np, inputs, scores * inputs["scale"]), axis=-1, keepdims=True)
        check_huge_scores_at(rule, inputs, np.where(np.isfinite(top), top, 0))


def check_huge_scores_at(rule, inputs, shift):
    case = Case(Shifted(rule, shift), inputs, seed_of(rule.name, "huge"))
    values, grads = run(rule, case)
    if any(np.isnan(x).any() for x in [*values.values(), *grads.values()]):
        raise AssertionError(f"{rule.name}: huge scores give NaN")
    want = case.want(case.choices[0])
    for name in values:
        compare(rule, f"result {name} at huge scores", values[name], case.values[name], 2e-10)
    for name in grads:
        compare(rule, f"gradient d{name} at huge scores", grads[name], want[name], 2e-10, largest(want.values()))


def score_of(rule, xp, inputs):
    """The scores by the score op's own definition."""
    names = [argument.name for argument in Signature(rule.module.score.SIGNATURE).arguments]
    return rule.module.score.definition(xp, **{name: inputs[name] for name in names})


def keep_allowed(xp, inputs, s):
    return s if inputs.get("allowed") is None else xp.where(inputs["allowed"], s, -np.inf)


class Shifted:
    """A rule's definition at scores from which a constant, the row's maximum, was taken: exact, and no overflow."""

    def __init__(self, rule, shift):
        self.rule, self.shift = rule, shift
        self.name, self.signature, self.arguments = rule.name, rule.signature, rule.arguments

    def definition(self, xp, **inputs):
        s = keep_allowed(xp, inputs, score_of(self.rule, xp, inputs) * inputs["scale"]) - self.shift
        normalizer = self.rule.module.normalizer({})
        normalized = normalizer.definition(xp, s)
        alpha, lse = normalized if isinstance(normalized, tuple) else (normalized, None)
        o = xp.einsum("...ij,...je->...ie", alpha, inputs["v"])
        return o, alpha, None if lse is None else lse + self.shift[..., 0]


def check_scalar_scale(rule, variant):
    """A plain number as scale has a gradient, plain and traced; a traced plain number too."""
    inputs = draw(rule, variant, "batch") | {"scale": 0.7}
    case = Case(rule, inputs, seed_of(rule.name, "scale"))
    check_against_definition(rule, case)

    def loss(evaluate):
        def at(scale):
            results = evaluate(inputs | {"scale": scale})
            return sum(anp.sum(c * anp.tanh(results[name])) for name, c in case.cotangents.items())

        return at

    with np.errstate(all="ignore"):
        got = grad(loss(primitive(rule)))(0.7)
        want = grad(loss(lambda given: defined(rule, anp, given)))(0.7)
    compare(rule, "gradient dscale of a traced number", got, want, floor=1.0)


# Identities that need no oracle


def score_gradients(rule, inputs, cotangents):
    """(s, ds) at the scores after the scale: with a scale for every score, ds = dscale / s."""
    shape = rule.forward(**inputs)[0][1].shape
    factor = np.full(shape, 0.6)
    value, tape = rule.forward(**inputs | {"scale": factor})
    grads = rule.backward(cotangents(value), **tape)
    return tape["score"] * factor, grads["scale"] / tape["score"], grads


def check_identities(rule, variant):
    inputs = {n: x for n, x in draw(rule, variant, "batch").items() if n != "scale"}
    rng = np.random.default_rng(seed_of(rule.name, variant, "identities"))
    o, *_ = rule.forward(**inputs)[0]
    do = rng.standard_normal(o.shape)

    def every(value):
        return tuple(None if v is None else rng.standard_normal(v.shape) for v in value)

    s, ds, _ = score_gradients(rule, inputs, lambda value: (every(value)[0], every(value)[1], None))
    zero(rule, "the sum of ds over the keys", ds.sum(axis=-1), ds)
    s, ds, grads = score_gradients(rule, inputs, lambda value: (do, None, None))
    total = grads["v"].sum(axis=-2)
    compare(rule, "the sum of dv over the keys", total, do.sum(axis=-2))
    degree_q, degree_k = DEGREES.get(rule.name, (None, None))
    flow = np.sum(s * ds, axis=-1)
    scale = np.abs(s * ds).max()
    if degree_q is not None:
        along_q = np.sum(inputs["q"] * grads["q"], axis=-1)
        compare(rule, "<q, dq> of each row", along_q, degree_q * flow, floor=scale)
        along_k = np.sum(inputs["k"] * grads["k"], axis=(-2, -1))
        compare(rule, "<k, dk>", along_k, degree_k * flow.sum(axis=-1), floor=scale)
    if rule.name in ("dot", "scaled_dot", "general", "double_softmax"):
        zero(rule, "the sum of dk over the keys", grads["k"].sum(axis=-2), grads["k"])
    check_permutation(rule, inputs, rng)
    check_split(rule, inputs)


# The score is homogeneous of this degree in q and in k (Euler: <q, dq> = degree * <s, ds>).
DEGREES = {
    "dot": (1, 1),
    "scaled_dot": (1, 1),
    "general": (1, 1),
    "double_softmax": (1, 1),
    "key_norm": (1, 2),
    "cosine": (0, 0),
}


def zero(op, what, got, terms):
    bound = TOLERANCE * np.abs(terms).max()
    if not np.abs(got).max() <= bound:
        raise AssertionError(f"{op.name}: {what} is {np.abs(got).max()}; want 0 to {bound:.3g}")


def take(op, inputs, letter, index):
    """The inputs with this index taken along one axis, wherever it stands."""
    out = dict(inputs)
    for name in op.arguments:
        axis = axis_of(op, name, letter) if inputs.get(name) is not None else None
        if axis is not None and np.shape(inputs[name])[axis] != 1:
            out[name] = np.take(inputs[name], index, axis=axis)
    return out


def check_permutation(rule, inputs, rng):
    """Permuted keys, or queries, permute their gradients and nothing else."""
    value, tape = rule.forward(**inputs)
    d = tuple(None if v is None else rng.standard_normal(v.shape) for v in value)
    grads = rule.backward(d, **tape)
    for letter in ("j", "i"):
        axes = [[a.text for a in r.axes] for r in rule.signature.results]
        places = [a.index(letter) - len(a) if letter in a else None for a in axes]
        order = rng.permutation(sizes_of(rule, inputs)[letter])

        def move(x, place, order=order):
            return x if x is None or place is None else np.take(x, order, axis=place)

        moved = tuple(map(move, d, places))
        got, tape = rule.forward(**take(rule, inputs, letter, order))
        for name, g, v, place in zip(("o", "alpha", "lse"), got, value, places, strict=True):
            if v is not None:
                compare(rule, f"result {name} with {letter} permuted", g, move(v, place))
        got = rule.backward(moved, **tape)
        want = take(rule, grads, letter, order)
        for name in want:
            label = f"gradient d{name} with {letter} permuted"
            compare(rule, label, got[name], want[name], floor=largest(grads.values()))


def check_split(rule, inputs):
    """The keys in two parts, merged by lse, are the keys in one."""
    o, _, lse = rule.forward(**inputs)[0]
    if lse is None:
        return
    parts = [
        rule.forward(**take(rule, inputs, "j", part))[0] for part in (np.array([0]), np.arange(1, keys_of(inputs)))
    ]
    merged = np.logaddexp(parts[0][2], parts[1][2])
    compare(rule, "lse merged of two parts", merged, lse)
    weights = [np.exp(part[2] - merged)[..., None] for part in parts]
    compare(rule, "o merged of two parts", weights[0] * parts[0][0] + weights[1] * parts[1][0], o)


def keys_of(inputs):
    return inputs["v"].shape[-2]


def check_normalizer(op):
    """A constant added to a row's scores changes nothing and the rows of ds sum to 0, if the definition has it so."""
    rng = np.random.default_rng(seed_of(op.name, "normalizer"))
    s, dalpha = rng.standard_normal((2, 3, 5, 7))
    more = s + rng.standard_normal((3, 5, 1))
    with_lse = len(op.signature.results) > 1

    def weights(value):
        return value[0] if with_lse else value

    def ds_of(tape):
        return op.backward((dalpha, None) if with_lse else dalpha, **tape)["s"]

    value, tape = op.forward(s=s)
    alpha, ds = weights(value), ds_of(tape)
    if np.abs(weights(op.definition(np, more)) - weights(op.definition(np, s))).max() > 1e-3:
        if not np.abs(ds.sum(axis=-1)).max() > 1e-3:
            raise AssertionError(f"{op.name}: the definition feels a shift of the scores and the gradient does not")
        return
    zero(op, "the sum of ds over the keys", ds.sum(axis=-1), ds)
    shifted, tape = op.forward(s=more)
    compare(op, "alpha of shifted scores", weights(shifted), alpha)
    compare(op, "gradient ds of shifted scores", ds_of(tape), ds)
