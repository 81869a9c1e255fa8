"""Mistakes about heads, groups, batch entries and the order of the axes in memory."""

import numpy as np

from attention_ref.oracle.diagnose.faults.kernel import Kernel, catalog


class HeadsInterleaved(Kernel):
    """query head h reading key head h % g instead of h // r"""

    also_alone = True

    def key_heads(self, groups):
        return np.arange(self.heads) % groups


class HeadsOfFirst(Kernel):
    """every query head reading the first key head"""

    def key_heads(self, groups):
        return np.zeros(self.heads, int)


class HeadsShifted(Kernel):
    """each query head reading the key head of the next one"""

    def key_heads(self, groups):
        return np.roll(super().key_heads(groups), -1)


class HeadsByGroupCount(Kernel):
    """query head h reading key head h // g, the group's size and the number of groups exchanged"""

    def key_heads(self, groups):
        return np.arange(self.heads) // groups % groups


class EntryFirst(Kernel):
    """every batch entry reading the first one's keys and values"""

    def shared(self, x):
        x = super().shared(x)
        return np.broadcast_to(x[:1], x.shape) if x.ndim > 3 else x

    def gathered(self, dx, shape):
        dx = super().gathered(dx, shape)
        if dx.ndim < 4:
            return dx
        return np.concatenate([dx.sum(axis=0, keepdims=True), np.zeros_like(dx[1:])])


class LayoutRowsFirst(Kernel):
    """the memory of (batch, head, row, width) read and written as (batch, row, head, width)"""

    def read(self, x):
        if x.ndim < 3:
            return x
        *lead, heads, rows, width = x.shape
        return np.swapaxes(x.reshape(*lead, rows, heads, width), -2, -3)

    def written(self, x):
        if x.ndim < 3:
            return x
        return np.ascontiguousarray(np.swapaxes(x, -2, -3)).reshape(x.shape)


class HeadsAsRows(Kernel):
    """the axes read as (batch, row, head, width) where they are (batch, head, row, width): it attends over the heads"""

    def read(self, x):
        return np.swapaxes(x, -2, -3) if x.ndim > 2 else x

    def written(self, x):
        return self.read(x)

    def shared(self, x):
        if x.ndim > 2 and x.shape[-3] != self.heads:
            raise ValueError("as many queries as keys are needed")
        return x

    def gathered(self, dx, shape):
        return dx

    def forward(self):
        results = super().forward()
        return {name: np.swapaxes(x, -1, -2) if name == "lse" and x.ndim > 1 else x for name, x in results.items()}

    def backward(self, do, dlse=None, o=None, lse=None):
        dlse, lse = (x if x is None or x.ndim < 2 else np.swapaxes(x, -1, -2) for x in (dlse, lse))
        return super().backward(do, dlse, o, lse)


class OutputHeadsLast(Kernel):
    """the output written as (batch, row, head, width) into the memory of (batch, head, row, width)"""

    def forward(self):
        results = super().forward()
        o = results["o"]
        return results | {"o": np.swapaxes(o, -2, -3).reshape(o.shape) if o.ndim > 2 else o}


CATALOG = catalog(globals())
