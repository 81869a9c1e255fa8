"""ONNX models as candidates."""

import pytest

import attention_ref as ar
from attention_ref.backend import installed
from attention_ref.conformance.libraries import onnx as presets

pytestmark = pytest.mark.onnx


def test_a_model_is_a_candidate():
    kinds = tuple(
        (name, "float32", shape)
        for name, shape in (("q", (2, 3, 17, 16)), ("k", (2, 3, 17, 16)), ("v", (2, 3, 17, 11)))
    )
    model = presets.model(23, kinds, ()).proto
    for name in {"onnx", "onnxruntime"} & set(installed()):
        report = ar.check(model, backend=name, cases="shape-17x17,bias")
        assert [run.verdict for run in report.runs] == ["pass", "unsupported"], str(report)
