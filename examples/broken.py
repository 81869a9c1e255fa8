"""A PyTorch attention with a bug that a Gaussian test at equal lengths does not see.

attention-ref check examples/broken.py:attention
"""

import torch


def attention(q, k, v, *, causal=False, align="top_left", scale=None):
    if q.shape[:-2] != k.shape[:-2]:
        raise NotImplementedError("a key head for every query head only")
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        # Aligned at the bottom right, whatever was asked for.
        keep = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(scores.shape[-1] - scores.shape[-2])
        scores = scores.masked_fill(~keep, float("-inf"))
    return scores.softmax(-1) @ v
