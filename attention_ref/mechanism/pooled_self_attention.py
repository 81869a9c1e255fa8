"""Self-attention and then one vector for the whole sequence: the mean, or feature by feature the maximum, over time.

Where the maximum is reached more than once, its gradient goes to those positions in equal shares.
"""

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.mechanism import self_attention
from attention_ref.op.arrays import shown

SIGNATURE = "x[... t m] w_q[m d] w_k[m d] w_v[m e] -> y[... e]"
FORMULA = r"y = \mathrm{mean}_t \, Z_t \text{ or } \max_t Z_t, \quad Z = \mathrm{SelfAttention}(X)"
SOURCE = "003 §3 form 1 step 4"
POOLS = ("mean", "max")
VARIANTS = tuple({"options": {"pool": pool}} for pool in POOLS)


def definition(xp, x, w_q, w_k, w_v, pool="mean"):
    z = self_attention.definition(xp, x, w_q, w_k, w_v)
    return {"mean": xp.mean, "max": xp.max}[pool](z, axis=-2)


def forward(x, w_q, w_k, w_v, pool="mean"):
    check_pool(pool, x.shape[-2])
    z, taped = self_attention.forward(x, w_q, w_k, w_v)
    if pool == "mean":
        y, share = np.mean(z, axis=-2), np.full(z.shape, 1 / z.shape[-2], z.real.dtype)
    else:
        y, share = maximum(z)
    return y, {"share": share, "taped": taped}


def backward(dy, *, share, taped):
    dz = share * dy[..., None, :]
    return self_attention.backward(dz, **taped)


def maximum(z):
    """(the maximum over the positions, the share of it that each position has)."""
    top = np.max(z.real, axis=-2, keepdims=True)
    tied = z.real == top
    share = tied / np.maximum(np.sum(tied, axis=-2, keepdims=True), 1).astype(z.real.dtype)
    return (top + np.sum(share * np.where(tied, z - top, 0), axis=-2, keepdims=True))[..., 0, :], share


def check_pool(pool, t):
    if not isinstance(pool, str) or pool not in POOLS:
        raise OptionError(f"pool={shown(pool)} must be 'mean' or 'max'")
    if t == 0:
        raise ShapeError("there is no position to pool over; axis t must be at least 1")
