"""One pass over the training pictures, and what the float network reaches after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.backbones import find_backbone
from edge_convert.network import run_batches, softmax
from edge_convert.prepare import Prepared
from edge_convert.recipe import Recipe
from edge_runtime.metrics import Ranking


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training pictures. Validation measures are of the float network after it.

    loss: mean over the steps of what was minimised, None where nothing was descended. validation_loss: mean
    cross-entropy, every class weighed as in training. validation_kept: the measure that `train.keep_best_by` names;
    more is better.
    """

    phase: str
    epoch: int
    loss: float | None
    validation_auc: float
    validation_average_precision: float
    validation_loss: float
    validation_kept: float

    def __str__(self) -> str:
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        return (
            f"{self.phase} {self.epoch}: {loss}validation AUC {self.validation_auc:.4f}, "
            f"average precision {self.validation_average_precision:.4f}"
        )

    def better_than(self, other: Epoch) -> bool:
        """Whether these weights are to be kept rather than the other's.

        By the kept measure; small validation sets often tie, then by average precision, then by the later, better
        fitted weights: the lower training loss.
        """
        mine = (self.validation_kept, self.validation_average_precision)
        its = (other.validation_kept, other.validation_average_precision)
        if mine != its or self.loss is None or other.loss is None:
            return mine > its or (mine == its and other.loss is None)
        return self.loss < other.loss


def measured(
    phase: str, epoch: int, loss: float | None, recipe: Recipe, prepared: Prepared, logits: NDArray[np.float32]
) -> Epoch:
    """An epoch from the logits (pictures, classes) of the validation pictures."""
    positive = [recipe.classes.index(label) for label in recipe.positive]
    targets = prepared.targets[prepared.rows("val")]
    probabilities = softmax(logits)
    scores, truth = probabilities[:, positive].sum(axis=1), np.isin(targets, positive)
    ranking = Ranking(scores, truth)
    weights = prepared.class_weights(recipe.train)[targets].astype(np.float64)
    losses = -np.log(np.maximum(probabilities[np.arange(len(targets)), targets], 1e-12))
    values = {
        "auc": ranking.auc(),
        "average_precision": ranking.average_precision(),
        "loss": -float((weights * losses).sum() / weights.sum()),
        "sensitivity_at_specificity": sensitivity_at(scores, truth, recipe.train.fixed_specificity),
    }
    return Epoch(
        phase=phase,
        epoch=epoch,
        loss=loss,
        validation_auc=values["auc"],
        validation_average_precision=values["average_precision"],
        validation_loss=-values["loss"],
        validation_kept=values[recipe.train.keep_best_by],
    )


def validated(phase: str, recipe: Recipe, prepared: Prepared, model: Any) -> Epoch:
    """What a network that was changed otherwise than by descent reaches, as epoch 0."""
    rows, backbone = prepared.rows("val"), find_backbone(recipe.network.backbone)
    logits = np.concatenate(list(run_batches(model, prepared.pictures, rows, backbone)))
    return measured(phase, 0, None, recipe, prepared, logits)


def sensitivity_at(scores: NDArray[np.float64], positive: NDArray[np.bool_], specificity: float) -> float:
    """The share of positives above a threshold that leaves at least `specificity` of the negatives below it.

    scores, positive: (pictures,). A picture is referred where its score is above the threshold.
    """
    negatives = np.sort(scores[~positive])
    cleared = max(1, int(np.ceil(specificity * len(negatives) - 1e-9)))
    return float((scores[positive] > negatives[cleared - 1]).mean())
