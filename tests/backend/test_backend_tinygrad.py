"""tinygrad without clang: what is said, which assembler is chosen, and all of tests/backend/test_backend.py."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from attention_ref.backend import tinygrad

ROOT = Path(__file__).parents[2]
SUITE = "tests/backend/test_backend.py"
WHOLE = "tinygrad and not not_installed"

WITHOUT_CLANG = [("x86_64", "0.13.0", True), ("AMD64", "0.13.0", True), ("aarch64", "0.13.0", False)]
WITHOUT_CLANG += [("x86_64", "0.14.0", False), ("x86_64", "0.12.0", False)]


@pytest.mark.parametrize(("machine", "version", "usable"), WITHOUT_CLANG)
def test_without_clang_it_is_usable_where_it_has_an_assembler(machine, version, usable, monkeypatch):
    monkeypatch.delenv("DEV", raising=False)
    monkeypatch.setattr(tinygrad.TinyGrad, "installed", classmethod(lambda cls: True))
    monkeypatch.setattr(tinygrad, "which", lambda program: None)
    monkeypatch.setattr(tinygrad, "version", lambda package: version)
    monkeypatch.setattr(tinygrad.platform, "machine", lambda: machine)
    lacking = tinygrad.TinyGrad.lacking()
    assert usable == (lacking == "")
    assert usable or "install clang, or on x86-64 pip install 'tinygrad==0.13.0'" in lacking
    assert tinygrad.TinyGrad.lacking("cuda") == ""
    monkeypatch.setenv("DEV", "cpu")
    assert tinygrad.TinyGrad.lacking() == lacking
    monkeypatch.setenv("DEV", "PYTHON")
    assert tinygrad.TinyGrad.lacking() == ""


if find_spec("tinygrad") and tinygrad.assembles():

    @pytest.mark.backends
    @pytest.mark.parametrize(
        ("chosen", "default", "renderer"),
        [
            ("CPU", "CPU", "X86"),
            ("PYTHON", "PYTHON", "X86"),
            ("CPU:LLVM", "CPU", "LLVM"),
            ("PYTHON;CPU", "PYTHON", "X86"),
        ],
    )
    def test_the_assembler_is_chosen_where_no_way_is_named_and_the_device_stays(chosen, default, renderer, monkeypatch):
        from tinygrad import Context, Device
        from tinygrad.helpers import DEV

        monkeypatch.setattr(tinygrad, "which", lambda program: None)
        with Context(DEV=chosen):
            tinygrad.TinyGrad()
            assert default == Device.DEFAULT
            assert DEV.target("CPU").renderer == renderer

    @pytest.mark.backends
    def test_without_clang_the_whole_contract_holds(tmp_path):
        """In a process that finds no program at all, and nothing that was compiled before."""
        environment = {name: x for name, x in os.environ.items() if name not in ("CC", "DEV")}
        environment |= {"PATH": "", "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-k", WHOLE, SUITE]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=900)
        assert done.returncode == 0, done.stdout
        assert re.search(r"\b8 passed", done.stdout), done.stdout
