"""What a kernel is run on: cases, their inputs, and the suites that they belong to."""

from attention_ref.oracle.cases.case import Case, Size

__all__ = ["Case", "Size"]
