"""The layers that the mechanisms are built of, one file each."""

from attention_ref.op.registry import discover

ops = discover(__name__, __path__)
