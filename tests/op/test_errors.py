"""Wrong input: one line that names the op, the argument, what came and what would be right; nothing else escapes."""

import re

import evidence as ev
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attention_ref as ar

SUBJECTS = ev.subjects()
ERRORS = (ar.ShapeError, ar.OptionError)


def refused(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert re.search(message, text), f"{text!r} does not say {message!r}"
    assert "\n" not in text


def attend(rule="scaled_dot", **changed):
    inputs = ar.rules[rule].example() | changed
    return lambda: ar.attention(rule=rule, **{name: x for name, x in inputs.items() if x is not LEFT_OUT})


LEFT_OUT = object()
Q, K, V = (ar.rules["scaled_dot"].example()[name] for name in "qkv")


# Wrong input that every op can get


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_any_op_refuses(name):
    op = SUBJECTS[name]
    inputs = ev.draw(op, 0, "none")
    for argument in ev.floating(op, inputs):
        x, says = inputs[argument], f"^{op.name}: .*{argument}"

        def call(value, argument=argument):
            return lambda: op.forward(**inputs | {argument: value})

        refused(call(np.ones(x.shape, int)), ar.OptionError, f"{says} must be floating-point; got dtype int64")
        refused(call(np.ones(x.shape, bool)), ar.OptionError, f"{says} must be floating-point; got dtype bool")
        refused(call("text"), ar.OptionError, f"{says} must be floating-point; got dtype <U4")
        refused(call(np.full(x.shape, None)), ar.OptionError, f"{says} must be floating-point; got dtype object")
        refused(call([[1.0], [1.0, 2.0]]), ar.OptionError, f"{says} is no array: ")
        if not op.arguments[argument].leading and not op.arguments[argument].broadcasts:
            refused(call(x[None]), ar.ShapeError, f"{says}.* has {x.ndim} ax[ie]s; got shape")
        if x.ndim and not op.arguments[argument].broadcasts:
            refused(call(np.float64(1)), ar.ShapeError, rf"{says}.* has (at least )?\d+ ax[ie]s; got shape \(\)")
    refused(lambda: op.forward(**inputs, nonsense=1), ar.OptionError, f"^{op.name}: there is no argument 'nonsense'")
    refused(lambda: op.forward(*[1.0] * 40), ar.OptionError, f"^{op.name}: got 40 positional arguments, takes ")
    first = next(iter(op.arguments))
    refused(lambda: op.forward(1.0, **inputs), ar.OptionError, f"^{op.name}: {first} was given twice")


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_missing_is_named(name):
    op = SUBJECTS[name]
    inputs = ev.draw(op, 0, "none")
    for argument in op.signature.arguments:
        if not argument.optional:
            lacking = {n: x for n, x in inputs.items() if n != argument.name}
            says = f"^{op.name}: {argument.name} is missing; it is {re.escape(str(argument))}"
            refused(lambda lacking=lacking: op.forward(**lacking), ar.OptionError, says)
            none = inputs | {argument.name: None}
            refused(lambda none=none: op.forward(**none), ar.OptionError, says)


@pytest.mark.parametrize("name", SUBJECTS)
def test_an_axis_of_another_size_is_named(name):
    """One more along one axis: refused wherever another argument has the same axis, taken everywhere else."""
    op = SUBJECTS[name]
    inputs = ev.draw(op, 0, "none")
    for argument in ev.floating(op, inputs):
        for axis in range(inputs[argument].ndim):
            wrong = np.repeat(inputs[argument], 2, axis=axis)
            done, said = outcome(lambda wrong=wrong, argument=argument: op.forward(**inputs | {argument: wrong}))
            if done is None:
                assert re.match(rf"{op.name}: .*(axis \S+ |\b{argument}\b|heads|does not broadcast)", said), said


@pytest.mark.parametrize("name", SUBJECTS)
def test_leading_axes_that_do_not_broadcast(name):
    op = SUBJECTS[name]
    names = [a.name for a in op.signature.arguments if a.leading and not a.optional]
    if len(names) > 1:
        inputs = op.example(leading={names[0]: (2,), names[1]: (3,)})
        says = rf"^{op.name}: the leading axes do not broadcast: {names[0]} \(2,\), {names[1]} \(3,\)"
        refused(lambda: op.forward(**inputs), ar.ShapeError, says)


@pytest.mark.parametrize("name", SUBJECTS)
def test_wrong_cotangents(name):
    op = SUBJECTS[name]
    case = ev.case(name, 0, "none")
    _, tape = op.forward(**case.inputs)
    for result, value in case.values.items():

        def back(d, result=result):
            given = [d if r.name == result else None for r in op.signature.results]
            return lambda: op.backward(ev.as_value(op, given), **tape)

        says = f"^{op.name}: d{result} "
        refused(back(np.ones((*np.shape(value), 2))), ar.ShapeError, rf"{says}has shape .*, {result}\[.*\] is ")
        refused(back(np.ones(np.shape(value), int)), ar.OptionError, f"{says}must be floating-point; got dtype int64")
        refused(back("text"), ar.OptionError, f"{says}must be floating-point; got dtype <U4")
        refused(back([[1.0], [1.0, 2.0]]), ar.OptionError, f"{says}is no array: ")
    if len(op.signature.results) > 1:
        for wrong in (np.ones(3), 1.0, "text", None, (None,) * 7, {}):
            says = f"^{op.name}: backward takes one cotangent a result, the tuple "
            refused(lambda wrong=wrong: op.backward(wrong, **tape), ar.ShapeError, says)
    refused(
        lambda: op.backward(case.dvalue(case.choices[0])), ar.OptionError, f"^{op.name}: backward needs forward's tape"
    )


INTEGERS = [(n, a.name) for n, op in SUBJECTS.items() for a in op.signature.arguments if a.limit]


@pytest.mark.parametrize(("name", "argument"), INTEGERS)
def test_integers_out_of_range(name, argument):
    op = SUBJECTS[name]
    variant = next(n for n in range(len(op.variants)) if argument in op.example(variant=n, leading=(2,)))
    inputs = op.example(variant=variant, leading=(2,))
    limit = op.arguments[argument].limit
    size = ev.sizes_of(op, inputs)[limit]
    top = size - (not op.arguments[argument].inclusive)
    for wrong in (-1, top + 1):
        values = inputs[argument].copy()
        values.flat[0] = wrong
        says = rf"^{op.name}: {argument} holds {wrong}; with {limit} = {size} it must be in 0\.\.{top}$"
        refused(lambda values=values: op.forward(**inputs | {argument: values}), ar.OptionError, says)
    fractions = inputs[argument].astype(float)
    says = f"^{op.name}: {argument} must hold integers; got dtype float64"
    refused(lambda: op.forward(**inputs | {argument: fractions}), ar.OptionError, says)
    refused(
        lambda: op.forward(**inputs | {argument: "text"}), ar.OptionError, f"^{op.name}: {argument} must hold integers"
    )


RAGGED = [[True], [True, False], [True]]
MASKS = [(n, a.name) for n, op in SUBJECTS.items() for a in op.signature.arguments if a.kind == "bool"]


@pytest.mark.parametrize(("name", "argument"), MASKS)
def test_masks_that_are_none(name, argument):
    op = SUBJECTS[name]
    variant = next(n for n in range(len(op.variants)) if argument in op.example(variant=n))
    inputs = op.named((), op.example(variant=variant))
    mask = inputs[argument]
    says = f"^{op.name}: {argument} "
    for wrong in (mask.astype(int), mask.astype(float), "text", np.full(mask.shape, None)):
        message = rf"{says}must be boolean(, True = (may attend|kept).*)?; got dtype "
        refused(lambda wrong=wrong: op.forward(**inputs | {argument: wrong}), ar.OptionError, message)
    refused(lambda: op.forward(**inputs | {argument: RAGGED}), ar.OptionError, rf"{says}is (no array: |\(keep, p\))")
    wide = np.ones((*mask.shape[:-1], mask.shape[-1] + 1), bool)
    says = rf"^{op.name}: {argument} of shape .* does not broadcast to {argument}\(.*\) = \("
    refused(lambda: op.forward(**inputs | {argument: wide}), ar.ShapeError, says)


# Rules by name


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (attend(k=K[:, :-1]), ar.ShapeError, r"^scaled_dot: axis d is 7 in q\[... i d\] of shape .*6 in k\[... j d\]"),
        (attend(v=V[:-1]), ar.ShapeError, r"^scaled_dot: axis j is 3 in k\[... j d\] of shape .* and 2 in v"),
        (attend(q=Q[0]), ar.ShapeError, r"^scaled_dot: q\[... i d\] has at least 2 axes; got shape \(7,\)"),
        (attend(q=Q.astype(int)), ar.OptionError, "^scaled_dot: q must be floating-point; got dtype int64, convert it"),
        (
            attend(allowed=np.ones((5, 4), bool)),
            ar.ShapeError,
            r"^scaled_dot: allowed of shape \(5, 4\) does not",
        ),
        (attend(allowed=np.ones((5, 3))), ar.OptionError, "^scaled_dot: allowed must be boolean, True = may attend"),
        (attend(scale="half"), ar.OptionError, "^scaled_dot: scale must be floating-point; got dtype <U4"),
        (
            attend(scale=np.ones((4, 3))),
            ar.ShapeError,
            r"^scaled_dot: scale of shape \(4, 3\) does not broadcast",
        ),
        (attend(w_q=Q), ar.OptionError, "^scaled_dot: there is no argument 'w_q'"),
        (attend(scal=2.0), ar.OptionError, "^scaled_dot: there is no argument 'scal'; did you mean 'scale'"),
        (attend("additive", w_s=LEFT_OUT), ar.OptionError, r"^additive: w_s is missing; it is w_s\[x\]"),
        (
            attend("concat_linear", w=np.ones(11)),
            ar.ShapeError,
            r"^concat_linear: axis d\+c of w\[d\+c\] is 11 .*= 1",
        ),
        (
            attend(normalize="softmix"),
            ar.OptionError,
            "^scaled_dot: there is no normalizer 'softmix'; did you",
        ),
        (attend(normalize=["softmax"]), ar.OptionError, r"^scaled_dot: there is no normalizer \['softmax'\]"),
        (lambda: ar.attention(Q, K, V, "scaled_dt"), ar.OptionError, "no rule 'scaled_dt'; did you mean 'scaled_dot'"),
        (lambda: ar.attention(Q, K, V, "zzz"), ar.OptionError, "no rule 'zzz'; it takes "),
        (lambda: ar.attention(Q, K, V, None), ar.OptionError, "no rule None"),
        (lambda: ar.attention(Q, K, V, ["dot"]), ar.OptionError, r"no rule \['dot'\]"),
        (lambda: ar.attention(Q, K, V, "two\nlines"), ar.OptionError, r"no rule 'two\\nlines'"),
        (lambda: ar.attention(Q, K, V, np.ones((40, 40))), ar.OptionError, "no rule array"),
        (lambda: ar.attention(Q, K, None), ar.OptionError, r"^scaled_dot: v is missing; it is v\[... j e\]"),
        (lambda: ar.rules["dot"].example(dd=3), ar.ShapeError, "^example: there is no axis 'dd'"),
        (
            lambda: ar.attention(Q, K, V, "double_softmax").backward(dlse=np.ones(5)),
            ar.OptionError,
            "^double_softmax: dlse was given, and this normalizer has no lse",
        ),
    ],
)
def test_rules(call, kind, message):
    refused(call, kind, message)


def test_heads_that_do_not_divide():
    found = [op for op in ar.mechanisms.values() if "heads" in op.options]
    for op in found:
        inputs = op.example()
        wide = ev.sizes_of(op, inputs)["m"]
        for heads in (wide + 1, 0, -1, 1.5, "two", None, [2]):
            refused(
                lambda op=op, heads=heads: op.forward(**op.example() | {"heads": heads}), ERRORS, f"^{op.name}: .*heads"
            )


ODD_OPTIONS = (
    None,
    [2],
    {},
    "",
    "two\nlines",
    1.5,
    -1,
    0,
    10**30,
    True,
    np.ones((40, 40)),
    object(),
    float("nan"),
    "mean",
)


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, op in SUBJECTS.items() for option in op.options])
def test_odd_options(name, option):
    op = SUBJECTS[name]
    inputs = op.example()
    for value in ODD_OPTIONS:
        done = survives(lambda value=value: op.forward(**inputs | {option: value}))
        assert done is None or survives(lambda done=done: op.backward(ones(op, done[0]), **done[1]))
    with pytest.raises(ERRORS, match=f"^{op.name}: .*({option.removesuffix('_p')}|nonsense)"):
        op.forward(**inputs | {option: "nonsense"})


def ones(op, value):
    return ev.as_value(op, [None if v is None else np.ones(v.shape) for v in ev.as_tuple(op, value)])


# Anything at all


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**30),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.binary(max_size=3),
    st.lists(st.lists(st.floats(), max_size=2), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.builds(object),
    st.just(np.ma.masked_array([1.0, 2.0], [True, False])),
    st.just(np.array(["a", None], dtype=object)),
    st.just(np.datetime64("2020-01-01")),
    st.just(np.zeros(2, dtype=[("a", float)])),
    st.just(iter([1.0])),
    st.just(float),
)
DTYPES = st.sampled_from(["f2", "f4", "f8", "c8", "c16", "i4", "u1", "?", "O", "U3", "M8[s]"])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 5, 7]), max_size=4).map(tuple)
ARRAYS = st.builds(lambda shape, dtype: np.zeros(shape, "f8").astype(dtype), SHAPES, DTYPES)
VALUES = st.one_of(ARRAYS, JUNK)
FUZZ = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def survives(call):
    """The value, or None after a refusal in one line."""
    return outcome(call)[0]


def outcome(call):
    """(value, "") or (None, what was said)."""
    try:
        return call(), ""
    except ERRORS as error:
        said = str(error)
    assert said
    assert "\n" not in said
    return None, said


def spoiled(data, op, inputs):
    """Fitting inputs of which some are left out, replaced by junk, cut, or joined by names that do not exist."""
    inputs = dict(inputs)
    for _ in range(data.draw(st.integers(0, 3))):
        name = data.draw(st.sampled_from([*op.arguments, *op.options, "nonsense", "heads", "self", "normalize"]))
        how = data.draw(st.sampled_from(["junk", "gone", "cut", "dtype"]))
        if how == "junk" or not isinstance(inputs.get(name), np.ndarray):
            inputs[name] = data.draw(VALUES)
        elif how == "gone":
            del inputs[name]
        elif how == "cut":
            inputs[name] = inputs[name][..., : data.draw(st.integers(0, 2))] if inputs[name].ndim else inputs[name]
        else:
            inputs[name] = np.zeros(inputs[name].shape, data.draw(st.sampled_from(["f2", "f4", "i8", "c16", "O"])))
    return inputs


@FUZZ
@given(data=st.data(), name=st.sampled_from(sorted(SUBJECTS)))
def test_nothing_else_escapes_from_an_op(data, name):
    op = SUBJECTS[name]
    variant = data.draw(st.integers(0, len(op.variants) - 1))
    inputs = spoiled(data, op, op.example(variant=variant))
    done = survives(lambda: op.forward(**inputs))
    if done is None:
        return
    value, tape = done
    bound = op.bind(tape["inputs"])
    for result, v in zip(op.signature.results, ev.as_tuple(op, value), strict=True):
        assert v is None or v.shape == bound.shape(result)
    right = [None if v is None else np.ones(v.shape) for v in ev.as_tuple(op, value)]
    right = [data.draw(VALUES) if data.draw(st.booleans()) else d for d in right]
    dvalue = data.draw(st.one_of(st.just(ev.as_value(op, right)), VALUES))
    grads = survives(lambda: op.backward(dvalue, **tape))
    assert grads is None or all(grads[n].shape == tape["inputs"][n].shape for n in grads)


@FUZZ
@given(data=st.data(), rule=st.sampled_from(sorted(ar.rules)))
def test_nothing_else_escapes_from_attention(data, rule):
    op = ar.rules[rule]
    inputs = spoiled(data, op, op.example(variant=data.draw(st.integers(0, len(op.variants) - 1))))
    inputs.pop("self", None)
    q, k, v = (inputs.pop(name, None) for name in "qkv")
    rule = data.draw(st.one_of(st.just(rule), st.just(op), VALUES)) if data.draw(st.booleans()) else rule
    attended = survives(lambda: ar.attention(q, k, v, rule, **inputs))
    if attended is not None:
        assert attended.o.shape[:-1] == attended.alpha.shape[:-1]
        cotangents = {name: data.draw(VALUES) for name in ("do", "dlse", "dalpha") if data.draw(st.booleans())}
        survives(lambda: attended.backward(**cotangents))


@FUZZ
@given(q=VALUES, k=VALUES, v=VALUES)
def test_nothing_else_escapes_from_three_arguments(q, k, v):
    survives(lambda: ar.attention(q, k, v))


@FUZZ
@given(data=st.data(), name=st.sampled_from(sorted(SUBJECTS)), text=st.text(max_size=5))
def test_nothing_else_escapes_from_example(data, name, text):
    op = SUBJECTS[name]
    sizes = {text: data.draw(st.integers(0, 4))} if text.isidentifier() else {}
    sizes = {n: x for n, x in sizes.items() if n not in ("self", "seed", "dtype", "leading", "variant")}
    survives(lambda: op.example(**sizes))
