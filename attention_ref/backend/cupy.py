"""CuPy: arrays are copied to the GPU; it has no autodiff, so the backward is the candidate's own or none."""

from attention_ref.backend.adapter import Adapter, narrow


class CuPy(Adapter):
    """CuPy. It has no bfloat16."""

    name = package = "cupy"
    pip = "cupy-cuda12x"
    roots = ("cupy",)
    dtypes = ("float64", "float32", "float16")

    def has_device(self, device):
        return device.partition(":")[0] == "cuda" and self.xp.cuda.is_available()

    def owns(self, x):
        return isinstance(x, self.xp.ndarray)

    def array(self, x):
        if narrow(x):
            raise NotImplementedError("CuPy has no bfloat16")
        return self.xp.asarray(x)

    def numpy(self, x):
        return self.xp.asnumpy(x) if self.owns(x) else x


ADAPTER = CuPy
