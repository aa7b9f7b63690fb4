"""Embeddings of prepared pictures, as the exported network gives them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_convert.export import open_network
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe


def embeddings_of(
    recipe: Recipe, prepared: Prepared, float32: bytes, rows: NDArray[np.int64]
) -> Steps[NDArray[np.float32]]:
    """The pooled features of some prepared pictures, by the float32 file: (rows, channels)."""
    network = open_network(recipe, "float32", float32)
    found = []
    for done, row in enumerate(rows, start=1):
        network.run(np.ascontiguousarray(prepared.pictures[row]))
        found.append(network.output("embedding"))
        yield Progress(done=done, total=len(rows))
    return np.array(found, np.float32)
