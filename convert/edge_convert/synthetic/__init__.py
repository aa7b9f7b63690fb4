"""Rendered thin blood smears: a data set with ground truth, to try the tool with. Not patient data."""

from edge_convert.synthetic.render import render_dataset

__all__ = ["render_dataset"]
