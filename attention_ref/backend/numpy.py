"""NumPy: arrays go in and come back as they are; the backward is the candidate's own or none."""

from attention_ref.backend.adapter import Adapter


class NumPy(Adapter):
    """NumPy."""


ADAPTER = NumPy
