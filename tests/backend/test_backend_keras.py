"""Keras on each of its backends that is installed: all of tests/backend/test_backend.py, in a process each."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BELOW = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow", "numpy": "scipy"}
SUITE = "tests/backend/test_backend.py"
WHOLE = "keras and not not_installed"


@pytest.mark.backends
@pytest.mark.parametrize("below", [name for name in BELOW if find_spec(BELOW[name])])
def test_keras_on_each_of_its_backends_keeps_the_whole_contract(below):
    environment = os.environ | {"KERAS_BACKEND": below, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-k", WHOLE, SUITE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert "8 passed" in done.stdout, done.stdout
