"""TensorFlow: tensors are copied; the backward is GradientTape.gradient with output_gradients.

Not by DLPack: TensorFlow takes memory over that its own kernels then abort on, aligned to less than 64 bytes.
"""

import numpy as np

from attention_ref.backend.adapter import Adapter


class TensorFlow(Adapter):
    """TensorFlow."""

    name = package = pip = "tensorflow"
    roots = ("tensorflow",)
    differentiates = True

    def has_device(self, device):
        kind = "GPU" if device.startswith("cuda") else device.upper()
        return bool(self.xp.config.list_logical_devices(kind))

    def owns(self, x):
        return self.xp.is_tensor(x)

    def array(self, x):
        tf = self.xp
        where = "CPU:0" if self.device in (None, "cpu") else "GPU:0"
        with tf.device(where):
            return tf.constant(np.asarray(x, order="C"))

    def numpy(self, x):
        return np.array(x.numpy()) if self.owns(x) else x

    def vjp(self, function, primals, cotangents):
        tf = self.xp
        with tf.GradientTape() as tape:
            tape.watch(list(primals))
            results = function(list(primals))
        cotangents = [tf.cast(d, x.dtype) for d, x in zip(cotangents, results, strict=True)]
        zero = tf.UnconnectedGradients.ZERO
        return tape.gradient(results, list(primals), output_gradients=cotangents, unconnected_gradients=zero)


ADAPTER = TensorFlow
