"""Mechanisms: attention rules inside the layers and networks of the documents, one file each."""

import inspect

from attention_ref.op.op import Op
from attention_ref.op.registry import Lazy, discover, where_written
from attention_ref.pipeline.rule import OpWithOptions


def make_op(name, module):
    """An op; one whose forward ends with **options takes every option of attention."""
    options = inspect.signature(module.forward).parameters.get("options")
    takes_options = options is not None and options.kind is inspect.Parameter.VAR_KEYWORD
    return OpWithOptions(name, module) if takes_options else Op(name, module)


ops = discover(__name__, __path__, make_op)
mechanisms = Lazy(
    lambda: {op.name.rpartition(".")[2]: op for op in sorted(ops.values(), key=where_written)},
)
