"""Heatmaps of alpha that do not lie. Matplotlib is imported here and nowhere else; pyplot nowhere.

Functions for one matrix take `ax` and return it; functions for several take `figure` and return (figure, axes).
Without one, they make a figure. Nothing is shown or set globally; `save` writes a figure.
"""

from attention_ref.plot.figures import save
from attention_ref.plot.heatmap import gradient, heatmap, mask
from attention_ref.plot.words import describe, text

__all__ = ["describe", "gradient", "heatmap", "mask", "save", "text"]
