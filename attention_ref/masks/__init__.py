"""Masks: which keys a query may attend to. Public as `attention_ref.masks`."""

from attention_ref.masks.band import causal, window
from attention_ref.masks.grid import blocks, dilated
from attention_ref.masks.packing import documents, segments
from attention_ref.masks.predicate import ALL, NONE, SOME, Mask, as_mask, dense
from attention_ref.masks.valid import lengths, prefix

__all__ = [
    "ALL",
    "NONE",
    "SOME",
    "Mask",
    "as_mask",
    "blocks",
    "causal",
    "dense",
    "dilated",
    "documents",
    "lengths",
    "prefix",
    "segments",
    "window",
]
