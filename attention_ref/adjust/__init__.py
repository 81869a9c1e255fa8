"""Adjustments of the scores between the score and the normalizer, one stage a file."""

from attention_ref.op.registry import discover

ops = discover(__name__, __path__)
