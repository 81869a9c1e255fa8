"""Mechanisms: attention rules inside the layers and networks of the documents, one file each."""

from attention_ref.op import Lazy, discover

ops = discover(__name__, __path__)
mechanisms = Lazy(
    lambda: {op.name.rpartition(".")[2]: op for op in sorted(ops.values(), key=lambda op: op.source)},
)
