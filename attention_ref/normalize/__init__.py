"""Normalizers: a row of scores becomes a row of weights."""

from attention_ref.op.registry import discover

ops = discover(__name__, __path__)
