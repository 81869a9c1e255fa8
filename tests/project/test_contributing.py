"""The file that CONTRIBUTING.md shows is a rule as soon as it lies in the folder of the scores."""

import re
import sys
from pathlib import Path

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

import attention_ref as ar
from attention_ref import score
from attention_ref.pipeline.rule import rules_in

CONTRIBUTING = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
LEADING = {"q": (2, 1), "k": (3,), "v": (2, 3)}


@pytest.fixture
def rule(tmp_path, monkeypatch):
    """What discovery makes of the printed file when it lies beside the package's own."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    (name,) = re.findall(r"^`attention_ref/score/(\w+)\.py`:$", CONTRIBUTING, re.MULTILINE)
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    list(ar.rules)  # the registry as it is without the file
    monkeypatch.setattr(score, "__path__", [*score.__path__, str(tmp_path)])
    yield rules_in(score.__name__, score.__path__)[name]
    del sys.modules[f"{score.__name__}.{name}"]
    delattr(score, name)


def test_it_is_not_in_the_package(rule):
    assert rule.name not in ar.rules


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_forward_is_the_definition(rule, variant):
    inputs = rule.example(seed=variant, leading=LEADING, variant=variant)
    value, _ = rule.forward(**inputs)
    for got, want in zip(value, rule.definition(np, **inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_gradients_are_those_of_the_definition(rule, variant):
    inputs = rule.example(seed=variant, leading=LEADING, variant=variant)
    rng = np.random.default_rng(variant)
    value, tape = rule.forward(**inputs)
    cotangents = tuple(rng.standard_normal(x.shape) for x in value)

    def scalar(floats):
        results = rule.definition(anp, **{**inputs, **floats})
        return sum(anp.sum(d * x) for d, x in zip(cotangents, results, strict=True))

    gradients = rule.backward(cotangents, **tape)
    wanted = grad(scalar)({name: inputs[name] for name in gradients})
    assert {"q", "k", "v"} <= set(gradients)
    for name, want in wanted.items():
        np.testing.assert_allclose(gradients[name], want, rtol=1e-12, atol=1e-12, err_msg=name)


def test_the_score_alone_has_the_same_gradients(rule):
    """Through the softmax a shift of a whole row is invisible; here it is not."""
    q, k = (np.random.default_rng(seed).standard_normal(shape) for seed, shape in enumerate([(2, 1, 5, 7), (3, 11, 7)]))
    s, tape = rule.module.score.forward(q, k)
    ds = np.random.default_rng(2).standard_normal(s.shape)
    got = rule.module.score.backward(ds, **tape)
    want = grad(lambda x: anp.sum(ds * rule.module.score.definition(anp, *x)))((q, k))
    np.testing.assert_allclose(got["q"].sum(axis=1, keepdims=True), want[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got["k"].sum(axis=0), want[1], rtol=1e-12, atol=1e-12)
