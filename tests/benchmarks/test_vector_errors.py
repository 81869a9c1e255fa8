"""The table of float64's error on every golden vector: what is above four units has a reason."""

import numpy as np

import attention_ref as ar
from benchmarks import certify
from benchmarks.vector_errors import judged, table


def test_every_error_above_four_has_a_reason():
    lines = list(table())
    assert not [line for line in lines if "WITHOUT" in line]
    assert len(lines) == 2 * (len(ar.rules) + 1) + 1


def test_an_error_without_a_reason_is_seen():
    right = np.array([1.0, 0.5])
    assert judged(right + np.array([0, 2e-15]), right, np.full(2, 1e-15), False)[0] == "none"
    assert judged(right + np.array([0, 2e-15]), right, np.full(2, 3e-15), False)[0] == "sensitive"
    assert judged(right + np.array([0, 2.0**-53]), right, np.full(2, 1e-15), False)[0] == "fine"


def test_the_command_prints_the_table(capsys):
    assert certify.main(["--vectors"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("error: max |got - exact|")
    assert page.count("\nscaled_dot ") == 2
