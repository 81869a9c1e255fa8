"""`import attention_ref` costs little more than `import numpy`, which it needs."""

import os
import subprocess
import sys
from statistics import median

import pytest

SPENT = "import time; import {}; print(time.process_time())"
ROUNDS = 15


def spent(package, environment):
    """The processor time of a fresh interpreter that imports a package."""
    command = [sys.executable, "-c", SPENT.format(package)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.slow
def test_importing_takes_less_than_1_3_times_as_long_as_numpy(tmp_path):
    """Medians, in turns, with compiled files as an installation has them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    seconds = {"numpy": [], "attention_ref": []}
    for package in seconds:
        spent(package, environment)
    for _ in range(ROUNDS):
        for package, found in seconds.items():
            found.append(spent(package, environment))
    ratio = median(seconds["attention_ref"]) / median(seconds["numpy"])
    assert ratio < 1.3, f"{ratio:.2f}"
