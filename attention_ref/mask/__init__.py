"""Masks: which keys a query may attend to. Public as `attention_ref.masks`."""

from attention_ref.mask.band import causal, window
from attention_ref.mask.grid import blocks, dilated
from attention_ref.mask.packing import documents, segments
from attention_ref.mask.predicate import ALL, NONE, SOME, Mask, as_mask, dense
from attention_ref.mask.valid import lengths, prefix
from attention_ref.op import discover

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
    "ops",
    "prefix",
    "segments",
    "window",
]

ops = discover(__name__, __path__)
