"""What training minimises: weighted cross-entropy or focal loss, and the distance to a teacher's soft labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_convert.keras import tensorflow
from edge_convert.recipe import DistillRecipe, TrainRecipe

PictureLoss = Callable[[Any, Any], Any]
"""`loss(wanted, logits)`: a loss a picture, (n,), from two (n, classes) tensors; rows of `wanted` sum to 1."""


def picture_loss(recipe: TrainRecipe) -> PictureLoss:
    """The recipe's loss against the labels. Focal loss: Lin et al. 2017, eq. 5, over the classes of a softmax."""
    tf = tensorflow()

    def cross_entropy(wanted: Any, logits: Any) -> Any:
        return tf.nn.softmax_cross_entropy_with_logits(wanted, logits)

    def focal(wanted: Any, logits: Any) -> Any:
        log_p = tf.nn.log_softmax(logits)
        return -tf.reduce_sum(wanted * (1 - tf.exp(log_p)) ** recipe.focal_gamma * log_p, axis=-1)

    return focal if recipe.loss == "focal" else cross_entropy


def distillation_loss(recipe: DistillRecipe) -> PictureLoss:
    """`loss(teacher_logits, logits)`: Kullback-Leibler divergence of the softened probabilities, times T squared.

    The factor keeps the gradient's size when T changes (Hinton et al. 2015, section 2).
    """
    tf = tensorflow()
    t = recipe.temperature

    def loss(teacher_logits: Any, logits: Any) -> Any:
        log_p = tf.nn.log_softmax(teacher_logits / t)
        return t * t * tf.reduce_sum(tf.exp(log_p) * (log_p - tf.nn.log_softmax(logits / t)), axis=-1)

    return loss
