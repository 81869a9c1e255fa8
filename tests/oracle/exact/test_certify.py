"""Ball arithmetic: exact answers, their proofs, and that a fault in either pass, or in the balls, is seen."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from flint import arb

import attention_ref as ar
from attention_ref.oracle.exact import evaluate
from attention_ref.oracle.exact.arrays import balls, exact, rounded, variables
from attention_ref.oracle.exact.ball import Ball, Undecided, decided, nearest, precision
from attention_ref.oracle.exact.derivative import gradient, tangent
from attention_ref.vectors import encoding
from attention_ref.vectors.write import files
from benchmarks import certify

pytestmark = pytest.mark.extra
SUBJECTS = certify.subjects()
QUICK = [name for name in SUBJECTS if not name.startswith("mechanism.")]


@pytest.mark.parametrize("name", QUICK)
def test_every_op_is_certified(name):
    op = SUBJECTS[name]
    errors, proof = certify.case(op, len(op.variants) - 1)
    assert proof == "hand, dual"
    assert all(np.isfinite(x) for x in errors.values())
    assert errors["float64", "normwise", "value"] <= 12


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_every_variant_is_certified(name):
    assert certify.certificate(SUBJECTS[name])["proof"] in ("hand, dual", "dual")


def planted(op, change):
    """The op with another backward."""
    module = SimpleNamespace(
        **{n: getattr(op.module, n) for n in ("SIGNATURE", "FORMULA", "SOURCE", "definition", "forward")}
    )
    module.__doc__ = op.doc
    module.backward = lambda d, **tape: change(op.module.backward(d, **tape))
    return ar.Op(op.name, module)


@pytest.mark.parametrize(
    "change",
    [
        lambda grads: grads | {"q": grads["q"] * (1 + 2.0**-50)},
        lambda grads: grads | {"k": -grads["k"]},
    ],
)
def test_a_wrong_backward_has_no_proof(change):
    assert certify.case(ar.ops["score.cosine"], 0)[1] == "hand, dual"
    assert certify.case(planted(ar.ops["score.cosine"], change), 0)[1] == "FAILED"


def test_dual_numbers_see_a_gradient_that_is_off():
    op = ar.ops["normalize.softmax"]
    s, d, u = np.random.default_rng(0).standard_normal((3, 2, 5))
    with precision(256):
        _, grads = evaluate.defined(op, {"s": s}, {"alpha": d})
        derivative = evaluate.directional(op, {"s": s}, {"alpha": d}, {"s": u})
        assert certify.encloses(derivative, grads, {"s": u})
        assert not certify.encloses(derivative + arb(2) ** -80, grads, {"s": u})
        assert not certify.encloses(arb(0, 1), grads, {"s": u})


def test_an_answer_is_correctly_rounded():
    """1/3 and e, and softmax of two scores, to the last bit."""
    results, _ = evaluate.evaluate(ar.ops["normalize.softmax"], {"s": np.array([[0.0, 1.0]])})
    assert results["alpha"].tolist() == [[0.2689414213699951, 0.7310585786300049]]
    results, _ = evaluate.evaluate(ar.ops["normalize.softmax"], {"s": np.zeros((1, 3))})
    assert results["alpha"].tolist() == [[1 / 3] * 3]


@pytest.mark.parametrize(
    "x", [0.0, 1.5, -(2.0**-1074), 2.0**-1074 * 3, 1.7976931348623157e308, float("inf"), -float("inf")]
)
def test_floats_round_to_themselves(x):
    assert nearest(arb(x)) == x


def test_rounding_is_to_nearest_and_even():
    with precision(200):
        half = arb(2) ** -53
        assert nearest(1 + half) == 1
        assert nearest(1 + half + arb(2) ** -150) == 1 + 2.0**-52
        assert nearest(1 + 3 * half) == 1 + 2.0**-51
        assert nearest(arb(2) ** -1075) == 0
        assert nearest(arb(2) ** -1075 * 3) == 2.0**-1073
        assert nearest(arb(2) ** 1024) == np.inf
        assert decided(arb(0, "1e-400")) == 0
        with pytest.raises(Undecided):
            decided(1 + half + arb(0, "1e-40"))


def test_what_balls_cannot_decide_is_not_guessed():
    wide = Ball(arb(1, 0.5))
    for ask in (
        lambda: wide < 1.2,
        lambda: wide >= 1.2,
        lambda: wide == 1,
        lambda: (wide - 1).sqrt(),
        lambda: 1 / (wide - 1),
    ):
        with pytest.raises(Undecided):
            ask()
    assert wide < 2
    assert wide != 3
    assert not Ball(arb.nan()) < 1


def test_more_precision_is_taken_until_all_is_decided():
    """1 + 2^-53 + e^-300 needs more than the first precision to leave the middle between two floats."""
    op = ar.ops["layer.logsumexp"]
    seen = []

    def run():
        from flint import ctx

        seen.append(ctx.prec)
        return rounded(balls(Ball(1 + arb(2) ** -53 + arb(-300).exp())))

    assert evaluate.risen(run) == 1 + 2.0**-52
    assert len(seen) > 1
    assert op.name == "layer.logsumexp"


def test_derivatives_by_two_ways():
    x = np.array([0.5, -1.25, 2.0])
    u = np.array([1.0, 0.5, -0.25])
    with precision(128):
        v = variables(x)
        y = np.tanh(v * v) / (1 + np.exp(-v)) - np.sqrt(v * v + 1) * np.log(v * v)
        grad = gradient([y], [np.ones(3)], {"x": v})["x"]
        along = tangent([y], {"x": u}, {"x": v})[0]
        grad, along = rounded(grad), rounded(along)
    step = x + 1e-200j
    z = np.tanh(step * step) / (1 + np.exp(-step)) - np.sqrt(step * step + 1) * np.log(step * step)
    np.testing.assert_allclose(grad, z.imag / 1e-200, rtol=1e-14)
    np.testing.assert_allclose(along, z.imag / 1e-200 * u, rtol=1e-14)


def test_numpy_runs_on_balls():
    x = exact(np.array([[3.0, -np.inf, 1.0], [2.0, 5.0, 4.0]]))
    assert np.isneginf(x).tolist() == [[False, True, False], [False] * 3]
    assert rounded(np.max(x, axis=-1, initial=-np.inf)).tolist() == [3, 5]
    assert rounded(np.exp(x[:1, 1])).tolist() == [0]
    assert np.argsort(-x, axis=-1).tolist() == [[0, 2, 1], [1, 2, 0]]
    assert rounded(np.where(np.isneginf(x), 0, x)).tolist() == [[3, 0, 1], [2, 5, 4]]
    assert (x > 2).tolist() == [[True, False, False], [False, True, True]]


@pytest.mark.parametrize("name", ["invalid", "large"])
def test_files_are_made_anew_to_the_byte(name):
    for file, raw in files(name).items():
        assert raw == (encoding.DATA / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ar.rules))
def test_all_files_are_made_anew_to_the_byte(name):
    assert files(name)[f"{name}.json"] == (encoding.DATA / f"{name}.json").read_bytes()


MACHINES = {
    "one thread": {"OPENBLAS_NUM_THREADS": "1"},
    "two threads, another kernel": {"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Haswell"},
    "no vector units": {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F"},
}
REMADE = """
from attention_ref.vectors.encoding import digest
from attention_ref.vectors.write import files
from benchmarks import certify
print(*(digest(raw) for name in ("large", "scaled_dot") for raw in files(name).values()))
"""


@pytest.mark.slow
def test_no_machine_makes_other_bytes():
    """BLAS's threads and kernels and NumPy's vector units change float64 results, and not the files."""
    want = [
        encoding.digest((encoding.DATA / name).read_bytes())
        for name in ("large.json", encoding.LARGE, "scaled_dot.json")
    ]
    for environment in MACHINES.values():
        command = [sys.executable, "-W", "ignore", "-c", REMADE]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == want


def test_the_writer_refuses_what_the_passes_do_not_agree_on(monkeypatch):
    softmax = ar.ops["normalize.softmax"].module
    right = softmax.backward
    monkeypatch.setattr(softmax, "backward", lambda d, *, alpha: {"s": right(d, alpha=alpha)["s"] * (1 + 2.0**-40)})
    with pytest.raises(ar.OptionError, match="definition and hand-written passes differ in"):
        files("large")


def test_the_page_has_every_op():
    page = (Path(__file__).parents[3] / "docs" / "accuracy.md").read_text()
    rows = [line.split() for line in page.splitlines() if line.endswith("dual")]
    assert [row[0] for row in rows] == list(SUBJECTS)


def test_the_command(capsys):
    assert certify.main(["normalize.softmax"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) == 5
    assert all(line.endswith("hand, dual") for line in lines[2:])
    with pytest.raises(SystemExit, match="2"):
        certify.main(["normalise"])
    assert "there is no op or rule 'normalise'" in capsys.readouterr().err
