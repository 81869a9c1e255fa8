"""Stages between score and normalizer whose backward pass a kernel may compute less well than this package does."""

import numpy as np


class Softcap:
    """κ tanh(s/κ). Kernels take the slope from the tanh that they have, 1 − t², which is off by u where it is 0."""

    @staticmethod
    def forward(s, softcap):
        ratio = s / softcap
        t = np.tanh(ratio)
        return softcap * t, {"ratio": ratio, "t": t}

    @staticmethod
    def backward(dcapped, *, ratio, t):
        slope = (1 - t * t).settled()
        return {"s": dcapped * slope, "softcap": dcapped * (t - ratio * slope).settled()}


class Relative:
    """A number for each bucket: its gradient is one sum over all pairs in the bucket."""

    @staticmethod
    def forward(s, relative_table, bucket):
        table = relative_table
        bucket = np.broadcast_to(bucket, s.shape[-2:] if bucket.ndim < 3 else bucket.shape)
        leading = np.broadcast_shapes(table.shape[:-1], bucket.shape[:-2])
        every = np.broadcast_to(table, (*leading, table.shape[-1]))
        at = *(n[..., None, None] for n in np.indices(leading, sparse=True)), bucket
        return s + every[at], {"bucket": bucket, "n": table.shape[-1]}

    @staticmethod
    def backward(dbiased, *, bucket, n):
        chosen = bucket[..., None] == np.arange(n)
        return {"s": dbiased, "relative_table": np.sum(np.where(chosen, dbiased[..., None], 0), axis=(-3, -2))}


SUBSTITUTES = {"capped": Softcap, "relative": Relative}
