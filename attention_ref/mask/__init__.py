"""Masks: which keys a query may attend to."""

from attention_ref.op import discover

ops = discover(__name__, __path__)
