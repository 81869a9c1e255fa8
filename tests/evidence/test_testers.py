"""Tests of the testers: wrong ops, planted on purpose, must be caught, and for the reason they are wrong."""

import evidence as ev
import numpy as np
import pytest

import attention_ref as ar

SUBJECTS = ev.subjects()
COSTLY = "mechanism.seq2seq_loss"  # backward through time, planted in some fifty ways: all variants but one are slow
VARIANTS = [
    pytest.param(name, n, marks=[pytest.mark.slow] * (name == COSTLY and n > 0), id=f"{name}-{n}")
    for name, op in SUBJECTS.items()
    for n in range(len(op.variants))
]
DIFFERS = "differs by more than"
ODD = "is not finite where it should be"


class Planted:
    """An op with something wrong: `wrong_value` and `wrong_gradient`, of a name and its array, spoil the returns."""

    def __init__(self, op, wrong_value=None, wrong_gradient=None):
        self.op, self.wrong_value, self.wrong_gradient = op, wrong_value, wrong_gradient

    def __getattr__(self, name):
        return getattr(self.op, name)

    def forward(self, **inputs):
        value, tape = self.op.forward(**inputs)
        if self.wrong_value:
            names = [result.name for result in self.op.signature.results]
            spoiled = [self.wrong_value(n, v) for n, v in zip(names, ev.as_tuple(self.op, value), strict=True)]
            value = ev.as_value(self.op, spoiled)
        return value, tape

    def backward(self, dvalue, **tape):
        grads = self.op.backward(dvalue, **tape)
        return {n: self.wrong_gradient(n, g) for n, g in grads.items()} if self.wrong_gradient else grads


def only(name, spoil):
    return lambda n, x: spoil(x) if n == name and x is not None else x


def one_element(x, value):
    x = np.array(x)
    x.flat[np.argmax(np.where(np.isfinite(x), np.abs(x), 0))] = value
    return x


def transposed(x):
    """The transpose where that has the same shape, else one axis reversed; None where neither changes anything."""
    if x.ndim > 1 and x.shape[-1] == x.shape[-2] > 1:
        return np.swapaxes(x, -1, -2)
    longer = [axis for axis, n in enumerate(x.shape) if n > 1]
    return np.flip(x, longer[-1]) if longer else None


def row_dropped(x):
    """Without the largest row's contribution."""
    rows = np.array(x).reshape(-1, x.shape[-1] if x.ndim else 1)
    rows[np.argmax(np.max(np.abs(rows), axis=-1))] = 0
    return rows.reshape(x.shape)


WRONG = {
    "factor": (lambda x: x * (1 + 1e-9), DIFFERS),
    "sign": (np.negative, DIFFERS),
    "zero": (np.zeros_like, DIFFERS),
    "transposed": (transposed, DIFFERS),
    "one element dropped": (lambda x: one_element(x, 0), DIFFERS),
    "one row dropped": (row_dropped, DIFFERS),
}
BROKEN = {
    "nan": (lambda x: one_element(x, np.nan), ODD),
    "inf": (lambda x: one_element(x, np.inf), ODD),
    "dtype": (lambda x: x.astype(np.float32), "has dtype"),
    "shape": (lambda x: x[None], "has shape"),
}


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_wrong_backwards_are_caught(name, variant):
    op = SUBJECTS[name]
    case = ev.case(name, variant, ev.patterns(op)[-1])
    chosen = case.choices[0]
    _, tape = op.forward(**case.inputs)
    right = op.backward(case.dvalue(chosen), **tape)
    ev.check_gradients_through(op, case, chosen, right)
    for argument in case.floating:
        for fault, (spoil, message) in (WRONG | BROKEN).items():
            wrong = spoil(right[argument])
            if wrong is None:
                continue
            spoiled = right | {argument: wrong}
            if fault in WRONG and case.is_zero(chosen, argument):
                ev.check_gradients_through(op, case, chosen, spoiled)
                continue
            with pytest.raises(AssertionError, match=f"^{op.name}: gradient d{argument} through .* ?{message}"):
                ev.check_gradients_through(op, case, chosen, spoiled)
        lacking = {n: g for n, g in right.items() if n != argument}
        for spoiled in (lacking, lacking | {argument + "_": right[argument]}):
            with pytest.raises(AssertionError, match=f"^{op.name}: the gradients are named"):
                ev.check_gradients_through(op, case, chosen, spoiled)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_wrong_forwards_are_caught(name, variant):
    op = SUBJECTS[name]
    case = ev.case(name, variant, ev.patterns(op)[-1])
    for result in case.values:
        for spoil, message in (WRONG | BROKEN).values():
            if spoil(case.values[result]) is None:
                continue
            with pytest.raises(AssertionError, match=f"^{op.name}: result {result} ({message}|{ODD})"):
                ev.check_value(Planted(op, wrong_value=only(result, spoil)), case)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_other_testers_see_a_wrong_gradient_too(name, variant):
    """Complex step and second order, each by itself, catch a factor of 1 + 1e-7 on every gradient.

    Along one direction terms cancel, so a projection shows less than its elements.
    """
    op = SUBJECTS[name]
    case = ev.case(name, variant, ev.patterns(op)[-1])

    def wrong(gradient):
        return gradient * (1 + 1e-7)

    for argument in case.floating:
        if not case.is_zero(case.choices[0], argument):
            planted = Planted(op, wrong_gradient=only(argument, wrong))
            with pytest.raises(AssertionError, match=f"^{op.name}: gradient d{argument} along a direction differs"):
                ev.check_complex_step(planted, case)
    with pytest.raises(AssertionError, match=f"^{op.name}: gradient d.* through .* {DIFFERS}"):
        ev.check_gradients(Planted(op, wrong_gradient=lambda _, g: wrong(g)), case)
    bent = [n for n, g in case.bends.items() if ev.largest([g]) > 1e-6 * ev.largest(case.bends.values())]
    for argument in bent:
        planted = Planted(op, wrong_gradient=only(argument, wrong))
        with pytest.raises(AssertionError, match=f"^{op.name}: second derivative of d{argument} {DIFFERS}"):
            ev.check_second_order(planted, case)


@pytest.mark.parametrize("name", [name for name, op in SUBJECTS.items() if len(op.signature.results) > 1])
def test_a_forgotten_cotangent_is_caught(name):
    op = SUBJECTS[name]
    case = ev.case(name, 0, "none")
    for result in case.values:
        forgetful = Forgetful(op, [r.name for r in op.signature.results].index(result))
        with pytest.raises(AssertionError, match=f"^{op.name}: gradient d.* through .* {DIFFERS}"):
            ev.check_gradients(forgetful, case)


class Forgetful(Planted):
    """An op whose backward leaves out one result's cotangent."""

    def __init__(self, op, index):
        super().__init__(op)
        self.index = index

    def backward(self, dvalue, **tape):
        return self.op.backward(tuple(None if n == self.index else d for n, d in enumerate(dvalue)), **tape)


def test_an_argument_that_does_nothing_is_caught():
    op = ar.ops["score.dot"]
    inputs = op.example() | {"k": np.zeros((3, 7))}
    case = ev.Case(op, inputs)
    with pytest.raises(AssertionError, match=r"^score.dot: no result depends on q: the drawn case proves nothing"):
        ev.check_gradients(op, case)


def test_the_table_of_zeros_is_exact(monkeypatch):
    rule = ar.rules["concat_linear"]
    case = ev.case("rule.concat_linear", 0, "batch")
    monkeypatch.setitem(ev.ZEROS, ("rule.concat_linear", "k"), (("o",), ()))
    with pytest.raises(AssertionError, match="gradient dk through o is in the table of zeros and is not zero"):
        ev.check_gradients(rule, case)
    monkeypatch.delitem(ev.ZEROS, ("rule.concat_linear", "k"))
    monkeypatch.delitem(ev.ZEROS, ("rule.concat_linear", "q"))
    with pytest.raises(AssertionError, match="gradient dq through o is zero and is not in the table"):
        ev.check_gradients(rule, case)


def test_the_table_of_zeros_names_what_there_is():
    for name, argument in ev.ZEROS:
        assert argument in SUBJECTS[name].arguments


# One misbehavior at a time, on ops small enough to read


class Misbehaving(Planted):
    """Dot product with one bad habit."""

    def __init__(self, habit, op=None):
        super().__init__(op or ar.ops["score.dot"])
        self.habit, self.calls = habit, 0

    def forward(self, **inputs):
        value, tape = self.op.forward(**inputs)
        if self.habit == "writes to an input":
            inputs["q"].flat[0] += 1
        if self.habit == "float32 becomes float64":
            value = value.astype(np.float64)
        if self.habit == "computes in float16":
            value = value.astype(np.float16).astype(value.dtype)
        if self.habit == "depends on the layout" and not inputs["k"].flags.c_contiguous:
            value = value[..., ::-1].copy()
        return value, tape

    def backward(self, dvalue, **tape):
        self.calls += 1
        if self.habit == "writes to the cotangent":
            dvalue *= 2
        grads = self.op.backward(dvalue, **tape)
        if self.habit == "another gradient the second time":
            return {name: g * (1 + 1e-15 * self.calls) for name, g in grads.items()}
        if self.habit == "hands out its input":
            return grads | {"q": tape["inputs"]["q"]}
        if self.habit == "float64 gradients":
            return {name: g.astype(np.float64) for name, g in grads.items()}
        return grads


@pytest.mark.parametrize(
    ("habit", "check", "message"),
    [
        ("writes to an input", ev.check_purity, "the input q was written to"),
        ("writes to the cotangent", ev.check_purity, "a cotangent was written to"),
        ("another gradient the second time", ev.check_purity, "gradient d. is not the same the second time"),
        ("hands out its input", ev.check_purity, "gradient dq shares memory with an input"),
        ("depends on the layout", ev.check_layout, "result s differs by more than"),
        ("float32 becomes float64", ev.check_single, "result s has dtype float64; want float32"),
        ("float64 gradients", ev.check_single, "gradient q has dtype float64; want float32"),
        ("computes in float16", ev.check_single, "result s differs by more than"),
    ],
)
def test_bad_habits_are_caught(habit, check, message):
    op = ar.ops["score.dot"]
    check(op, ev.Case(op, ev.draw(op, 0, "batch")))
    planted = Misbehaving(habit)
    with pytest.raises(AssertionError, match=f"^score.dot: {message}"):
        check(planted, ev.Case(planted, ev.draw(op, 0, "batch")))


class Leaking(Planted):
    """A rule that masks by adding or multiplying, or that does not shift, planted one at a time."""

    def __init__(self, rule, fault):
        super().__init__(rule)
        self.fault = fault

    def forward(self, **inputs):
        given = dict(inputs)
        if self.fault == "uniform dead rows":
            given["allowed"] = given["allowed"] | ~given["allowed"].any(axis=-1, keepdims=True)
        (o, alpha, lse), tape = self.op.forward(**given)
        if self.fault == "lse of a dead row is 0":
            lse = np.where(np.isneginf(lse), 0, lse)
        if self.fault == "multiplies v":
            o = np.einsum("...ij,...je->...ie", alpha, inputs["v"])
        if self.fault == "does not shift":
            with np.errstate(all="ignore"):
                s = np.where(inputs.get("allowed", True), tape.get("scaled", tape["score"]), -np.inf)
                alpha = np.exp(s) / np.exp(s).sum(axis=-1, keepdims=True)
        if self.fault == "alpha of dead rows":
            alpha = np.where(alpha.any(axis=-1, keepdims=True), alpha, 1 / alpha.shape[-1])
        return (o, alpha, lse), tape

    def backward(self, dvalue, **tape):
        grads = self.op.backward(dvalue, **tape)
        if self.fault == "gradient of k multiplies v":
            poison = np.isfinite(tape["inputs"]["v"]).all()
            return grads if poison else grads | {"k": grads["k"] * np.nan}
        if self.fault == "gradient of a dead row":
            return grads | {"q": grads["q"] + 1e-30}
        if self.fault == "gradient of one scale":
            return grads | {"scale": grads["scale"] * (1 + 1e-9)} if "scale" in grads else grads
        return grads


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        ("uniform dead rows", ev.check_dead_rows, "result o differs|o of a dead row is not 0"),
        ("alpha of dead rows", ev.check_dead_rows, "result alpha differs|alpha of a dead row is not 0"),
        ("lse of a dead row is 0", ev.check_dead_rows, "result lse is not finite where it should be, or the reverse"),
        ("gradient of a dead row", ev.check_dead_rows, "gradient dq of a dead row is not 0"),
        ("multiplies v", ev.check_poison, "result o with NaN behind the mask .* is not finite where it should be"),
        ("multiplies v", ev.check_partial_poison, "result o of a row without the NaN is not finite"),
        ("gradient of k multiplies v", ev.check_poison, "gradient dk with NaN behind the mask .* is not finite"),
        ("does not shift", ev.check_huge_scores, "huge scores give NaN"),
        ("gradient of one scale", ev.check_scalar_scale, "gradient dscale differs by more than"),
    ],
)
def test_leaks_are_caught(fault, check, message):
    rule = ar.rules["scaled_dot"]
    check(rule, 1)
    with pytest.raises(AssertionError, match=f"^scaled_dot: ({message})"):
        check(Leaking(rule, fault), 1)


@pytest.mark.parametrize("argument", ["q", "k", "v", "scale"])
def test_identities_see_a_wrong_gradient(argument):
    rule = ar.rules["scaled_dot"]
    ev.check_identities(rule, 0)
    planted = Planted(rule, wrong_gradient=only(argument, lambda g: one_element(g, 0)))
    with pytest.raises(AssertionError, match=f"^scaled_dot: .*(<{argument}, d{argument}>|d{argument[0]}|differs)"):
        ev.check_identities(planted, 0)


def test_normalizers_are_seen_not_to_sum_to_zero():
    op = ar.ops["normalize.softmax"]
    planted = Planted(op, wrong_gradient=only("s", lambda g: g * (1 + 1e-9 * np.sign(g))))
    with pytest.raises(AssertionError, match=r"^normalize.softmax: the sum of ds over the keys is"):
        ev.check_normalizer(planted)


@pytest.mark.parametrize("check", [ev.check_autograd, ev.check_autograd_twice])
def test_autograd_testers_see_a_wrong_primitive(check):
    op = ar.ops["score.dot"]
    case = ev.Case(op, ev.draw(op, 0, "batch"))
    check(op, case)
    wrong = ar.Op("score.dot", Halved)
    with pytest.raises(AssertionError, match=r"^score.dot: .* d. of a model differs by more than"):
        check(wrong, case)


class Halved:
    """The dot product with half of dk."""

    SIGNATURE, FORMULA, SOURCE = ar.ops["score.dot"].signature.text, "", ""
    definition, forward = (staticmethod(getattr(ar.ops["score.dot"].module, n)) for n in ("definition", "forward"))

    @staticmethod
    def backward(ds, **tape):
        grads = ar.ops["score.dot"].module.backward(ds, **tape)
        return grads | {"k": grads["k"] / 2}


# The comparison itself


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        ([1.0, np.nan], [1.0, 2.0], ODD),
        ([1.0, 2.0], [1.0, np.nan], ODD),
        ([1.0, np.inf], [1.0, -np.inf], ODD),
        ([1.0, np.inf], [1.0, 1e308], ODD),
        ([1.0, 2.0 + 1e-11], [1.0, 2.0], r"worst at \(1,\): got np.float64\(2.0"),
        ([1e-300], [0.0], DIFFERS),
        ([0.0], [1e-300], DIFFERS),
        ([[1.0]], [1.0], r"has shape \(1, 1\); want \(1,\)"),
    ],
)
def test_comparison_fails_closed(got, want, message):
    with pytest.raises(AssertionError, match=message):
        ev.compare(ar.ops["score.dot"], "dq", np.array(got), np.array(want))


def test_comparison_passes_what_is_equal():
    x = np.array([1.0, np.nan, np.inf, -np.inf, 0.0])
    ev.compare(ar.ops["score.dot"], "dq", x, x.copy())
    ev.compare(ar.ops["score.dot"], "dq", np.zeros((0, 3)), np.zeros((0, 3)))
