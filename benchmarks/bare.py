"""A plain NumPy function for one case, scaled dot, causal or not: to see what the pipeline costs beside it.

No options, no lse, no shift against overflow, nothing said of what is wrong. The results are allocated, and q is
scaled, before the clock runs; the exponentials are kept from call to call.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from attention_ref.pipeline.tiled.blas import cores, one_thread

ROWS, TOGETHER = {False: 512, True: 128}, 4  # queries of a block, heads of a task


class Bare:
    """One attention over [head i d], each block of queries at once against all the keys that it sees."""

    def __init__(self, q, k, v, do, causal):
        self.q, self.k, self.v, self.do, self.causal = q * q.dtype.type(q.shape[-1] ** -0.5), k, v, do, causal
        self.o, self.dq, self.dk, self.dv = (np.empty_like(x) for x in (do, q, k, v))
        rows, length = min(ROWS[causal], q.shape[-2]), q.shape[-2]
        self.above = np.triu(np.ones((rows, rows), bool), 1)
        self.blocks = [slice(n, min(n + rows, length)) for n in range(0, length, rows)]
        together = min(TOGETHER if causal else 1, -(-len(q) // cores()))
        self.heads = [slice(n, n + together) for n in range(0, len(q), together)]
        self.kept: dict = {}

    def forward(self, heads):
        for rows in self.blocks:
            keys = slice(0, rows.stop if self.causal else None)
            e = self.kept.get((heads.start, rows.start), (None,))[0]
            e = np.matmul(self.q[heads, rows], np.swapaxes(self.k[heads, keys], -1, -2), out=e)
            np.exp(e, out=e)
            if self.causal:
                size = rows.stop - rows.start
                e[..., rows] *= ~self.above[:size, :size]
            z = e.sum(axis=-1, keepdims=True)
            self.o[heads, rows] = e @ self.v[heads, keys] / z
            self.kept[heads.start, rows.start] = e, z

    def backward(self, heads):
        self.dk[heads] = self.dv[heads] = 0
        for rows in self.blocks:
            keys = slice(0, rows.stop if self.causal else None)
            e, z = self.kept[heads.start, rows.start]
            do = self.do[heads, rows] / z
            along = np.einsum("...e,...e->...", do, self.o[heads, rows])[..., None]
            self.dv[heads, keys] += np.swapaxes(e, -1, -2) @ do
            ds = do @ np.swapaxes(self.v[heads, keys], -1, -2)
            ds -= along
            ds *= e
            self.dq[heads, rows] = ds @ self.k[heads, keys]
            self.dk[heads, keys] += np.swapaxes(ds, -1, -2) @ self.q[heads, rows]
        self.dq[heads] *= self.q.dtype.type(self.q.shape[-1] ** -0.5)

    def run(self):
        with one_thread(), ThreadPoolExecutor(cores()) as pool:
            list(pool.map(self.forward, self.heads))
            list(pool.map(self.backward, self.heads))
        return self.o, self.dq, self.dk, self.dv
