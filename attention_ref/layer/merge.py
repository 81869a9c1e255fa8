"""Merge the outputs of attention over parts of the keys into attention over all of them, by their lse.

Part p saw its own keys only and returned o_p and lse_p; its share of the whole is e^lse_p over their sum. A part that
saw nothing (lse = -inf) has no share, whatever its o is.
"""

import numpy as np

from attention_ref.layer import logsumexp

SIGNATURE = "o[... p i e] lse[... p i] -> merged[... i e] merged_lse[... i]"
FORMULA = r"o_i = \sum_p e^{\ell_{pi} - \ell_i} o_{pi}, \quad \ell_i = \log \sum_p e^{\ell_{pi}}"
SOURCE = "Dao, Fu, Ermon, Rudra & Ré 2022 (FlashAttention)"


def definition(xp, o, lse):
    weight = xp.exp(lse)
    z = xp.sum(weight, axis=-2)
    some = z != 0
    total = xp.where(some, z, 1)
    merged = xp.sum(xp.where((weight != 0)[..., None], weight[..., None] * o, 0), axis=-3) / total[..., None]
    return merged, xp.where(some, xp.log(total), -np.inf)


def forward(o, lse):
    merged_lse, tape = logsumexp.forward(np.swapaxes(lse, -1, -2))
    share = np.swapaxes(tape["alpha"], -1, -2)
    seen = ~np.isneginf(lse.real)[..., None]
    o = np.where(seen, o, 0).astype(o.dtype, copy=False)
    merged = np.sum(share[..., None] * o, axis=-3)
    return (merged, merged_lse), {"o": o, "share": share, "merged": merged}


def backward(cotangents, *, o, share, merged):
    dmerged, dmerged_lse = cotangents
    do = share[..., None] * dmerged[..., None, :, :]
    through_o = np.sum(dmerged[..., None, :, :] * (o - merged[..., None, :, :]), axis=-1)
    return {"o": do, "lse": share * (through_o + dmerged_lse[..., None, :])}
