"""What a map on request is of: how much more the findings weigh than the rest, as the other kinds count evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_convert.keras import tensorflow
from edge_convert.recipe import Recipe


def sides(recipe: Recipe) -> tuple[list[int], list[int]]:
    """The places of the positive classes among the outputs, and of the negative ones."""
    positive = [recipe.classes.index(label) for label in recipe.positive]
    return positive, [index for index in range(len(recipe.classes)) if index not in positive]


def finding_score(recipe: Recipe) -> Callable[[Any], Any]:
    """From logits (n, classes) to (n,): the largest of the findings less the mean of the rest, as a tensor."""
    tf = tensorflow()
    positive, negative = sides(recipe)

    def score(logits: Any) -> Any:
        found = tf.reduce_max(tf.gather(logits, positive, axis=1), axis=1)
        return found - tf.reduce_mean(tf.gather(logits, negative, axis=1), axis=1)

    return score
