"""Scores: how well a query fits a key, one rule a file."""

from attention_ref.op.registry import discover

ops = discover(__name__, __path__)
