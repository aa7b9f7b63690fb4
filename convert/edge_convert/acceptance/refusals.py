"""What the limits refuse of legitimate pictures, and in which words that is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.acceptance import UNLIKE, Acceptance, answer
from edge_convert.acceptance.limits import distance_limits
from edge_convert.recipe import AcceptanceRecipe
from edge_runtime.evaluate import Prediction
from edge_runtime.metrics import Interval, wilson

FOLDS = 10
ROUNDS = 40


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """Validation pictures that are not answered, all of them legitimate: false alarms.

    poor: to be taken again; their limits are of other pictures. refused: poor or unlike what is known, on the pictures
    that the limits of likeness were fitted on; refused_held_out: the same where these were fitted on nine of ten parts
    and counted on the tenth, mean of ROUNDS rounds by group; None where groups are too few. close: just below the
    threshold. reasons: of the poor ones, by their first reason.
    """

    n: int
    poor: Interval
    reasons: dict[str, int]
    refused: Interval
    refused_held_out: float | None
    close: Interval


def count_refusals(
    acceptance: Acceptance, asked: AcceptanceRecipe, predictions: Sequence[Prediction], threshold: float
) -> Refusals:
    """What the limits refuse of these pictures, all of them legitimate. predictions: as `fit_limits` takes them."""
    answers = [answer(acceptance, p.measures, p.probability, threshold) for p in predictions]
    reasons = [a.reasons[0] for a in answers if a.decision == "retake"]
    close = sum("close" in a.reasons for a in answers)
    refused = sum(bool(a.reasons) for a in answers) - close
    n = len(predictions)
    return Refusals(
        n=n,
        poor=wilson(len(reasons), n),
        reasons={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        refused=wilson(refused, n),
        refused_held_out=_held_out(acceptance, asked.novelty, predictions),
        close=wilson(close, n),
    )


def describe_refusals(found: Refusals) -> list[str]:
    """How many legitimate pictures are not answered: a sentence a line."""
    why = ", ".join(f"{count} {reason}" for reason, count in found.reasons.items())
    held_out = (
        "groups are too few to hold any out"
        if found.refused_held_out is None
        else f"{found.refused_held_out:.1%} of pictures by limits that others fitted"
    )
    return [
        f"to be taken again, of {found.n} validation pictures: {_share(found.poor)}" + (f" ({why})" if why else ""),
        f"these, or unlike what the model knows: {_share(found.refused)}; {held_out}",
        f"uncertain, just below the threshold: {_share(found.close)}",
    ]


def _share(interval: Interval) -> str:
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _held_out(acceptance: Acceptance, budget: float, predictions: Sequence[Prediction]) -> float | None:
    """Share refused by limits of likeness that other groups fitted; None where groups are too few."""
    names, group = np.unique(np.array([p.group for p in predictions], dtype=object).astype(str), return_inverse=True)
    folds = min(FOLDS, len(names))
    if folds < 2:
        return None
    quality_only = replace(acceptance, limits={k: v for k, v in acceptance.limits.items() if k not in UNLIKE})
    random, shares = np.random.default_rng(0), []
    for _ in range(ROUNDS):
        part = (random.permutation(len(names)) % folds)[group]
        refused = 0
        for fold in range(folds):
            rest = [p for p, at in zip(predictions, part, strict=True) if at != fold]
            limits = {**quality_only.limits, **distance_limits(quality_only, budget, rest)}
            held = replace(quality_only, limits=limits)
            refused += sum(
                bool(answer(held, p.measures, 1.0, 0.0).reasons)
                for p, at in zip(predictions, part, strict=True)
                if at == fold
            )
        shares.append(refused / len(predictions))
    return float(np.mean(shares))
