"""Cosine: the inner product of the directions, whatever the lengths; 0, with gradient 0, at a zero vector."""

import numpy as np

SIGNATURE = "q[... i d] k[... j d] -> s[... i j]"
FORMULA = r"s_{ij} = q_i \cdot k_j / (\|q_i\| \, \|k_j\|)"
SOURCE = "Graves, Wayne & Danihelka 2014 (Neural Turing Machines), completes the family"


def definition(xp, q, k):
    def direction(x):
        squares = xp.sum(x * x, axis=-1, keepdims=True)
        return xp.where(squares == 0, 0, x / xp.sqrt(xp.where(squares == 0, 1, squares)))

    return xp.einsum("...id,...jd->...ij", direction(q), direction(k))


def forward(q, k):
    q_unit, q_norm = normalized(q)
    k_unit, k_norm = normalized(k)
    s = q_unit @ np.swapaxes(k_unit, -1, -2)
    return s, {"q_unit": q_unit, "q_norm": q_norm, "k_unit": k_unit, "k_norm": k_norm}


def backward(ds, *, q_unit, q_norm, k_unit, k_norm):
    dq_unit = ds @ k_unit
    dk_unit = np.swapaxes(ds, -1, -2) @ q_unit
    return {"q": normalized_backward(dq_unit, q_unit, q_norm), "k": normalized_backward(dk_unit, k_unit, k_norm)}


def normalized(x):
    """(x divided by its length, the length); the largest entry is taken out first, so that no square overflows."""
    largest = np.max(np.abs(x.real), axis=-1, keepdims=True, initial=0)
    largest = np.where(largest == 0, 1, largest)
    x = x / largest
    norm = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
    return x / np.where(norm == 0, 1, norm), norm * largest


def normalized_backward(dunit, unit, norm):
    """The part of dunit across the direction; along it, a unit vector cannot change."""
    across = dunit - unit * np.sum(unit * dunit, axis=-1, keepdims=True)
    return np.where(norm == 0, 0, across / np.where(norm == 0, 1, norm))
