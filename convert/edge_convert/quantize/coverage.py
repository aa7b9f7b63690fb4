"""Calibration pictures chosen for coverage: none of the pool lies far from a chosen one, as the network sees them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_convert import export
from edge_convert.prepare import Prepared
from edge_convert.progress import Steps
from edge_convert.quantize.embed import embeddings_of
from edge_convert.recipe import Recipe


def k_centres(embeddings: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows of the embeddings that cover the others, in the order of their choice.

    embeddings: (n, channels). The first is the one nearest to the mean, each further one that which is furthest from
    all chosen so far (k-centre greedy: Sener and Savarese 2018, algorithm 1): the largest distance to a chosen row is
    then at most twice the least possible. Of equals the first, so the same rows give the same choice. Returns
    (min(count, n),).
    """
    rows = embeddings.astype(np.float64)
    chosen = [int(np.argmin(((rows - rows.mean(axis=0)) ** 2).sum(axis=1)))]
    nearest = ((rows - rows[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(rows)):
        # A chosen row is at distance 0, and so is a copy of it: where only copies are left, any of them will do.
        nearest[chosen] = -1
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen, np.int64)


def covering_rows(
    recipe: Recipe, prepared: Prepared, embeddings: NDArray[np.float32], count: int | None = None
) -> NDArray[np.int64]:
    """Rows of training pictures that set the ranges: every class alike, each covered by k-centre greedy.

    embeddings: (n of the training split, channels), in the order of `prepared.rows("train")`. count: None takes the
    recipe's. Returns ascending rows of `prepared`.
    """
    count = count or recipe.quantize.calibration_pictures
    train = prepared.rows("train")
    share = -(-count // len(prepared.classes))
    chosen = []
    for index in range(len(prepared.classes)):
        of_class = np.flatnonzero(prepared.targets[train] == index)
        if len(of_class):
            chosen.append(train[of_class[k_centres(embeddings[of_class], share)]])
    # One of each class in turn, so that a number that the classes do not divide cuts the last class by one, not more.
    turns = [rows[place] for place in range(share) for rows in chosen if place < len(rows)]
    return np.sort(np.array(turns[:count], np.int64))


def chosen_pictures(recipe: Recipe, prepared: Prepared, float32: bytes) -> Steps[tuple[list[str], NDArray[np.uint8]]]:
    """Names and inputs of the pictures that set the ranges, chosen as the recipe says: (n, side, side, channels)."""
    if recipe.quantize.coverage == "random":
        return export.calibration_pictures(recipe, prepared)
    embeddings = yield from embeddings_of(recipe, prepared, float32, prepared.rows("train"))
    rows = covering_rows(recipe, prepared, embeddings)
    return [prepared.samples[row].name for row in rows], prepared.pictures[rows]
