"""Batches of sequences of different lengths: padded to one length, with the real lengths beside them."""

import numpy as np

PAD = 0
END = 0
"""The last token of every target, and what the decoder starts from; padding is never looked at and may be the same."""


def padded(sequences, steps=None):
    """(tokens, lengths): integer arrays (sequence, step) and (sequence)."""
    lengths = np.array([len(sequence) for sequence in sequences])
    tokens = np.full((len(sequences), steps or lengths.max()), PAD)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = sequence
    return tokens, lengths


def batches(pairs, size, rng):
    """Lists of pairs in random order; pairs of like length share a batch, so that little of it is padding."""
    order = rng.permutation(len(pairs))
    order = order[np.argsort([len(pairs[n][0]) for n in order], kind="stable")]
    groups = [order[at : at + size] for at in range(0, len(order), size)]
    return [[pairs[n] for n in groups[g]] for g in rng.permutation(len(groups))]
