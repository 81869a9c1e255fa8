"""ONNX Runtime: a candidate is a session, or a model or its path, with inputs q, k, v and options by name.

There is no backward.
"""

from attention_ref.backend.adapter import Adapter
from attention_ref.backend.onnx import of_model

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntime(Adapter):
    """ONNX Runtime; it takes NumPy arrays, which have no bfloat16."""

    name = package = pip = "onnxruntime"
    roots = ("onnxruntime",)
    dtypes = ("float64", "float32", "float16")

    def has_device(self, device):
        return PROVIDERS.get(device) in self.xp.get_available_providers()

    def session(self, model):
        """A session on a model, its bytes or its path."""
        quiet = self.xp.SessionOptions()
        quiet.log_severity_level = 4
        content = model.SerializeToString() if hasattr(model, "SerializeToString") else model
        return self.xp.InferenceSession(content, quiet, providers=[PROVIDERS[self.device or "cpu"]])

    def function(self, candidate):
        if callable(candidate):
            return candidate
        session = candidate if hasattr(candidate, "get_inputs") else self.session(candidate)
        inputs, outputs = ([x.name for x in found] for found in (session.get_inputs(), session.get_outputs()))
        return of_model(session, inputs, outputs)


ADAPTER = OnnxRuntime
