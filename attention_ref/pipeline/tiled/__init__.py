"""Attention in tiles: one loop for every pairwise rule, in memory that grows with the length, not with its square."""

from attention_ref.pipeline.tiled.pipeline import Tiled

__all__ = ["Tiled"]
