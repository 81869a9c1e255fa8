"""The proven error of every op and rule, in float64 and in float32, and of float64 on every golden vector.

python -m benchmarks.certify normalize.softmax
python -m benchmarks.certify --vectors

Each op runs on its own examples, of multiples of 1/1024, which every float32 holds. What it returns is compared with
balls that contain the exact results and gradients of its definition: the errors are upper bounds, not estimates.
"""

import argparse
import sys

import numpy as np

import attention_ref as ar
from attention_ref.cli.vectors import require_package
from attention_ref.errors import OptionError
from attention_ref.op.suggest import did_you_mean
from benchmarks import vector_errors

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24}
BITS = 384  # of the first balls, seven times float64's 53; more are taken until every decision is certain
HEAD = f"{'':39} {'f64 normwise':>15} {'f64 ulps':>15} {'f32 normwise':>15}  proof"
ROW = f"{'cases':>39}" + f" {'value':>7} {'grad.':>7}" * 3


def subjects():
    """Every rule, then every op, by name."""
    return {f"rule.{name}": rule for name, rule in ar.rules.items()} | dict(ar.ops)


def print_row(name, errors):
    numbers = [errors[dtype, kind, part] for dtype, kind in MEASURES for part in PARTS]
    cells = " ".join(f"{as_text(x):>7}" for x in numbers)
    print(f"{name:35} {errors['cases']:3} {cells}  {errors['proof']}", flush=True)
    return errors["proof"] != "FAILED"


PARTS = ("value", "gradient")
MEASURES = (("float64", "normwise"), ("float64", "ulps"), ("float32", "normwise"))


def as_text(x):
    if x is None:
        return "-"
    return f"{x:.2f}" if x < 100 else f"{x:.1e}"


def certificate(op):
    """The largest errors over the op's variants, and how its gradients were proven.

    hand     the hand-written passes in ball arithmetic meet the definition's balls in every element; a mechanism that
             calls a rule through its checks, which take no balls, has no such proof
    dual     a derivative of the definition by dual numbers meets <gradient, direction>, of the hand-written gradient
             where there is one in balls
    """
    worst = {(*measure, part): None for measure in MEASURES for part in PARTS}
    proofs = []
    for variant in range(len(op.variants)):
        errors, proof = case(op, variant)
        proofs.append(proof)
        for key, x in errors.items():
            worst[key] = x if worst[key] is None else max(worst[key], x)
    proof = next(proof for proof in ("FAILED", "dual", "hand, dual") if proof in proofs)
    return worst | {"cases": len(op.variants), "proof": proof}


def example(op, variant):
    """The op's example in multiples of 1/1024, made so that no definition rounds a constant of its own.

    A probability becomes 1/2, whose factor 1/(1 - p) is exact, and the width in a mechanism's 1/sqrt(d) becomes 4.
    """
    letters = {letter for a in op.signature.arguments for axis in a.axes for _, letter in axis.terms}
    sizes = {"d": 4} if op.name.startswith("mechanism.") and "d" in letters else {}
    inputs = op.named((), op.example(seed=variant, variant=variant, **sizes))
    inputs = {name: coarse(x) if is_float(x) else x for name, x in inputs.items()}
    return inputs | {name: 0.5 for name in ("p", "dropout_p") if name in inputs}


def is_float(x):
    return isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == "f"


def coarse(x):
    """Multiples of 1/1024, none of them 0."""
    return np.where(np.abs(x) < 2.0**-10, 2.0**-10, np.round(x * 1024) / 1024)


def case(op, variant):
    """({measure: error}, how it is proven) of one variant."""
    from attention_ref.oracle.exact.evaluate import risen

    inputs = example(op, variant)
    names = [result.name for result in op.signature.results]
    value, _ = op.forward(**inputs)
    value = dict(zip(names, value if isinstance(value, tuple) else (value,), strict=True))
    rng = np.random.default_rng(variant)
    cotangents = {name: coarse(rng.standard_normal(x.shape)) for name, x in value.items() if x is not None}
    directions = {name: coarse(rng.standard_normal(np.shape(x))) for name, x in inputs.items() if is_float(x)}
    return risen(lambda: proven(op, inputs, cotangents, directions), first=BITS)


def proven(op, inputs, cotangents, directions):
    from attention_ref.oracle.exact import evaluate

    results, gradients = evaluate.defined(op, inputs, cotangents)
    errors = {}
    for dtype in UNITS:
        value, grads = computed(op, inputs, cotangents, dtype)
        for part, got, right in (("value", value, results), ("gradient", grads, gradients)):
            scale = max((largest(distances(got[name], right[name])[1]) for name in right), default=0.0)
            for kind, measure in (("normwise", normwise), ("ulps", ulps)):
                if right and (dtype, kind) in MEASURES:
                    errors[dtype, kind, part] = max(measure(got[name], right[name], dtype, scale) for name in right)
    derivative = evaluate.directional(op, inputs, cotangents, directions) if directions else None
    try:
        by_hand = evaluate.by_hand(op, inputs, cotangents)
    except OptionError:
        return errors, "dual" if encloses(derivative, gradients, directions) else "FAILED"
    agree = all(overlap(mine, hand) for mine, hand in zip((results, gradients), by_hand, strict=True))
    return errors, "hand, dual" if agree and encloses(derivative, by_hand[1], directions) else "FAILED"


def computed(op, inputs, cotangents, dtype):
    """({result: array}, {input: gradient}) by the float path."""
    inputs = {name: x.astype(dtype) if is_float(x) else x for name, x in inputs.items()}
    value, tape = op.forward(**inputs)
    value = value if isinstance(value, tuple) else (value,)
    names = [result.name for result in op.signature.results]
    asked = [cotangents[name].astype(dtype) if name in cotangents else None for name in names]
    grads = op.backward(tuple(asked) if len(names) > 1 else asked[0], **tape)
    return dict(zip(names, value, strict=True)), grads


def distances(got, right):
    """(upper bounds of |got - right|, right to float64's precision); infinities must be met."""
    from flint import arb

    got = np.asarray(got, np.float64).ravel()
    exact = np.array([float(ball.value.mid()) for ball in right.ravel().tolist()])
    error = [float((arb(x) - ball.value).abs_upper()) for x, ball in zip(got.tolist(), right.ravel(), strict=True)]
    return np.where(np.isfinite(exact), error, np.where(got == exact, 0, np.inf)), exact


def normwise(got, right, dtype, scale):
    """max |error| / max |right|, in units of u; where right is 0 everywhere, beside the largest number elsewhere."""
    error, exact = distances(got, right)
    size = largest(exact)
    return float(np.max(error, initial=0) / (size if size > TINY else scale or 1) / UNITS[dtype])


def ulps(got, right, dtype, scale):
    """The largest error of an element in units of its last place; where a sum cancels this has no limit."""
    error, exact = distances(got, right)
    some = (np.abs(exact) > TINY) & np.isfinite(exact)
    return float(np.max(error[some] / np.spacing(np.abs(exact[some]).astype(dtype)), initial=0))


def largest(exact):
    return float(np.max(np.abs(exact[np.isfinite(exact)]), initial=0))


# An exact 0 comes out of 384 bits as a ball around something near 1e-115, and no example's result is this small.
TINY = 1e-60


def overlap(mine, hand):
    """Whether every ball meets its counterpart."""
    pairs = [(a, b) for name in mine for a, b in zip(mine[name].ravel(), hand[name].ravel(), strict=True)]
    return all(a.value.overlaps(b.value) or (a.value.is_nan() and b.value.is_nan()) for a, b in pairs)


def encloses(derivative, gradients, directions):
    """Whether the derivative's ball meets <gradient, direction>, both narrow."""
    from flint import arb

    from attention_ref.oracle.exact.evaluate import product

    if derivative is None:
        return True
    along = sum((product(directions[name], gradients[name]) for name in directions), arb(0))
    narrow = float(along.rad()) < 1e-30 and float(derivative.rad()) < 1e-30
    return bool(derivative.overlaps(along)) and narrow


def main(argv=None):
    parser = argparse.ArgumentParser("python -m benchmarks.certify", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="ops and rules (default: all), or part of a name")
    parser.add_argument("--vectors", action="store_true", help="float64 on every golden vector; no python-flint needed")
    args = parser.parse_args(argv)
    if args.vectors:
        print(*vector_errors.page(), sep="\n")
        return 0
    try:
        require_package("flint", "python-flint", "certify")
        chosen = matching(args.names)
    except OptionError as error:
        parser.error(str(error))
    print(HEAD)
    print(ROW)
    proven = [print_row(name, certificate(op)) for name, op in chosen.items()]
    return 0 if all(proven) else 1


def matching(parts):
    """The subjects whose names have one of these parts; all of them for no part."""
    known = subjects()
    chosen = {name: op for name, op in known.items() if any(part in name for part in parts or [""])}
    if not chosen:
        raise OptionError(f"there is no op or rule {parts[0]!r}{did_you_mean(parts[0], known)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
