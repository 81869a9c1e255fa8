"""How well a model has learned: pairs it gets exactly right, and how often it looks at the right place."""

import numpy as np


def exact(model, task, pairs):
    """The share of pairs whose greedy decoding is the target, token for token."""
    decoded = model.decode([source for source, _ in pairs], task.longest)
    return float(np.mean([tokens == target for (tokens, _), (_, target) in zip(decoded, pairs, strict=True)]))


def longer(pairs, words):
    """The pairs whose source has so many words or more."""
    return [pair for pair in pairs if len(pair[0]) >= words]


def aligned(model, task):
    """Of a held-out word's letters, the share for which α is largest on the one that stands there backwards.

    A letter that was not put out at all counts as wrong.
    """
    right = total = 0
    decoded = model.decode([source for source, _ in task.held_out], task.longest)
    for (tokens, alpha), (source, _) in zip(decoded, task.held_out, strict=True):
        steps = min(len(tokens), len(source))
        right += int(np.sum(alpha[:steps].argmax(axis=1) == len(source) - 1 - np.arange(steps)))
        total += len(source)
    return right / total
