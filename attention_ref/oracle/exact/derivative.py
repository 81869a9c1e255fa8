"""Derivatives of balls, through the numbers that each was made of: backward, or forward along a direction.

Both know nothing of the hand-written passes: what they differentiate is the arithmetic of a definition.
"""

import heapq

import numpy as np
from flint import arb

from attention_ref.oracle.exact.arrays import array
from attention_ref.oracle.exact.ball import Ball, alive, plain


def gradient(results, cotangents, inputs):
    """Σ ⟨cotangent, result⟩ differentiated by every input, backward through what the results were made of."""
    found, heap = {}, []

    def add(node, amount):
        if node.serial in found:
            found[node.serial][1] += amount
        else:
            found[node.serial] = [node, amount]
            heapq.heappush(heap, -node.serial)

    for result, d in zip(results, cotangents, strict=True):
        for node, amount in zip(result.ravel().tolist(), np.asarray(d).ravel().tolist(), strict=True):
            if alive(node) and amount != 0:
                add(node, plain(amount))
    grads = {}
    while heap:
        node, amount = found.pop(-heapq.heappop(heap))
        if not node.parents:
            grads[node.serial] = amount
        for parent, derivative in node.parents:
            add(parent, derivative * amount)
    return {name: collected(x, grads) for name, x in inputs.items()}


def collected(x, grads):
    return array([Ball(grads.get(node.serial, arb(0))) for node in x.ravel().tolist()], x.shape)


def tangent(results, directions, inputs):
    """The derivative of every result along the directions: the same numbers as dual numbers, forward."""
    along = {}
    for name, x in inputs.items():
        for node, amount in zip(x.ravel().tolist(), np.asarray(directions[name]).ravel().tolist(), strict=True):
            along[node.serial] = plain(amount)
    return [dual(result, along) for result in results]


def dual(result, along):
    return array([Ball(moved(node, along)) for node in result.ravel().tolist()], result.shape)


def moved(node, along):
    """One number's dual part, from those of its parents, without recursion."""
    if not alive(node):
        return arb(0)
    stack = [node]
    while stack:
        top = stack[-1]
        if top.serial in along:
            stack.pop()
            continue
        missing = [parent for parent, _ in top.parents if parent.serial not in along]
        if missing:
            stack += missing
            continue
        along[top.serial] = sum((d * along[parent.serial] for parent, d in top.parents), arb(0))
        stack.pop()
    return along[node.serial]
