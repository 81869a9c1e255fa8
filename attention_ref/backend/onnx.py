"""The ONNX reference evaluator: a candidate is a model with inputs q, k, v and options by name, outputs o and lse.

There is no backward.
"""

from attention_ref.backend.adapter import Adapter
from attention_ref.backend.declare import declaring

RESULTS = ("o", "lse", "alpha")


class Onnx(Adapter):
    """ONNX's reference evaluator; it takes NumPy arrays."""

    name = package = pip = "onnx"
    roots = ("onnx",)

    def function(self, candidate):
        if callable(candidate):
            return candidate
        evaluator = candidate
        if not hasattr(candidate, "run"):
            evaluator = self.load("onnx.reference").ReferenceEvaluator(candidate)
        return of_model(evaluator, list(evaluator.input_names), list(evaluator.output_names))


def of_model(runner, inputs, outputs):
    """The function that a model is: outputs named o, lse or alpha keep their names, otherwise the first is o."""

    def function(*arrays, **options):
        found = runner.run(None, dict(zip("qkv", arrays, strict=True)) | options)
        names = outputs if "o" in outputs else ["o"]
        return {name: x for name, x in zip(names, found, strict=False) if name in RESULTS}

    return declaring(function, [name for name in inputs if name not in ("q", "k", "v")], "model")


ADAPTER = Onnx
