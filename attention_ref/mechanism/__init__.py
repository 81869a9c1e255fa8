"""Mechanisms: attention rules inside the layers and networks of the documents, one file each."""

from attention_ref.op.op import Lazy, discover, where_written

ops = discover(__name__, __path__)
mechanisms = Lazy(
    lambda: {op.name.rpartition(".")[2]: op for op in sorted(ops.values(), key=where_written)},
)
