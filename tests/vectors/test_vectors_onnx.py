"""The exported vectors in onnx's own backend test runner: ONNX's reference evaluator and ONNX Runtime."""

import re
import shutil
import unittest
import warnings
from io import StringIO

import numpy as np
import onnx
import onnx.backend.test.runner as onnx_runner
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.backend.base import Backend, BackendRep
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

from attention_ref.cli.main import main
from attention_ref.vectors import encoding

pytestmark = [pytest.mark.onnx, pytest.mark.filterwarnings("ignore")]

COMMENTS = {f"test_{file}_{test['tcId']}": test["comment"] for file, _, test in encoding.vectors()}
LEAKS = {"NaN in a masked value", "infinity in a masked value", "NaN in a masked key"}
NO_KEYS = {"no keys at all"}
WINDOWS = {"a window over 96 keys", "causal and window", "window of one on each side"}
WINDOWS |= {"window of the query's own position only", "window to the bottom right"}
WINDOWS |= {"window unlimited to the left", "window unlimited to the right"}


class Evaluated(BackendRep):
    def __init__(self, model):
        self.evaluator = ReferenceEvaluator(model)

    def run(self, inputs, **kwargs):
        return self.evaluator.run(None, dict(zip(self.evaluator.input_names, inputs, strict=True)))


class Reference(Backend):
    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        return Evaluated(model)

    @classmethod
    def supports_device(cls, device):
        return device == "CPU"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "attention"
    assert main(["vectors", "export", "--onnx", str(folder)]) == 0
    return folder


def outcome(monkeypatch, folder, backend):
    """(how many ran, the comments of those that did not pass) in onnx's runner."""

    def ours(kind):
        return load_model_tests(str(folder.parent), folder.name) if kind == "real" else []

    monkeypatch.setattr(onnx_runner, "load_model_tests", ours)
    runner = onnx_runner.Runner(backend, __name__).exclude("_cuda")
    done = unittest.TextTestRunner(stream=StringIO()).run(runner.test_suite)
    bad = [re.search(r"test_\w+?(?=_cpu)", case.id().rpartition(".")[2])[0] for case, _ in done.failures + done.errors]
    return done.testsRun - len(done.skipped), {COMMENTS[name] for name in bad}


def test_many_vectors_are_expressed(exported):
    assert len(list(exported.iterdir())) == 95


def test_the_reference_evaluator(monkeypatch, exported):
    """What is masked leaks if it is NaN, as it multiplies; without keys there is no maximum."""
    assert outcome(monkeypatch, exported, Reference) == (95, LEAKS | NO_KEYS)


def test_onnx_runtime(monkeypatch, exported):
    """Beside that, it has no windows (opset 25) and refuses a scale of 0."""
    onnxruntime.set_default_logger_severity(4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "onnx.version is deprecated")
        from onnxruntime import backend
    assert outcome(monkeypatch, exported, backend) == (95, LEAKS | NO_KEYS | WINDOWS | {"a scale of zero"})


def test_a_wrong_output_is_seen(monkeypatch, exported, tmp_path):
    folder, name = tmp_path / "attention", "test_scaled_dot_1"
    shutil.copytree(exported / name, folder / name)
    assert outcome(monkeypatch, folder, Reference) == (1, set())
    place = folder / name / "test_data_set_0" / "output_0.pb"
    y = numpy_helper.to_array(onnx.load_tensor(place)) * np.float32(1 + 1e-4)
    place.write_bytes(numpy_helper.from_array(y, "Y").SerializeToString())
    assert outcome(monkeypatch, folder, Reference) == (1, {COMMENTS[name]})


def test_gradients_lie_beside(exported):
    file = exported / "test_scaled_dot_1" / "test_data_set_0"
    (group,) = (g for g in encoding.load("scaled_dot")["testGroups"] if g["type"] == "shapes")
    want = encoding.tree(group["tests"][0]["expected"]["gradients"])
    for name in "qkv":
        got = numpy_helper.to_array(onnx.load_tensor(file / f"gradient_{name}.pb"))
        assert np.array_equal(got, want[name].astype(np.float32))
