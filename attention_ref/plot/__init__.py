"""Heatmaps of alpha that do not lie. Matplotlib is imported here and nowhere else, pyplot nowhere.

Functions for one matrix take `ax` and return it; functions for several take `figure` and return (figure, axes).
Without one, they make a figure. Nothing is shown or set globally; `save` writes a figure.
"""

from attention_ref.plot.describe import describe, text
from attention_ref.plot.difference import difference
from attention_ref.plot.drawing.figures import save
from attention_ref.plot.grids import heads, layers
from attention_ref.plot.heatmap import gradient, heatmap, mask
from attention_ref.plot.measures import flow_weights, rollout_weights, row_entropy
from attention_ref.plot.model import entropy, flow, rollout
from attention_ref.plot.overlay import overlay
from attention_ref.plot.rows import rows
from attention_ref.plot.stages import backward, pipeline
from attention_ref.plot.tokens import alignment, arcs
from attention_ref.plot.training import training

__all__ = [
    "alignment",
    "arcs",
    "backward",
    "describe",
    "difference",
    "entropy",
    "flow",
    "flow_weights",
    "gradient",
    "heads",
    "heatmap",
    "layers",
    "mask",
    "overlay",
    "pipeline",
    "rollout",
    "rollout_weights",
    "row_entropy",
    "rows",
    "save",
    "text",
    "training",
]
