"""How much a choice among cases is worth: they were compared on the very pictures that they were chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert.sweep.pareto import By
from edge_convert.verify import Verification
from edge_runtime.calibration import logit
from edge_runtime.evaluate import output_scores, positive_scores
from edge_runtime.judgement import Cases
from edge_runtime.metrics import FEWEST_GROUPS, Interval, Ranking, group_resamples, groups_holding, tails

SPLIT = "val/int8"


@dataclass(frozen=True, kw_only=True)
class Rival:
    """Another case that fits, held against the chosen one.

    difference: the chosen one's measure less this one's, with its 95 % interval of a bootstrap over groups in which
    both are drawn alike. apart: whether that interval lies above 0; without it, whether the two own intervals do not
    overlap. drawn: share of the resamples in which this one would have been taken. None where nothing was resampled.
    """

    case: str
    difference: Interval | None
    apart: bool
    drawn: float | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The case to take. trained, fitting: how many were compared, and how many of them fit.

    drawn: share of the resamples in which this one is taken again. not_resampled: why nothing was, empty otherwise.
    test_auc, test_specificity: on the test split, which had no say; None without one.
    """

    case: str
    trained: int
    fitting: int
    drawn: float | None
    not_resampled: str
    rivals: tuple[Rival, ...]
    test_auc: Interval | None
    test_specificity: Interval | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a case said of the validation pictures or groups. of: which these are, and the target sensitivity."""

    scores: NDArray[np.float64]
    truth: NDArray[np.bool_]
    groups: tuple[str, ...]
    target: float
    of: tuple[object, ...]

    def measure(self, by: By, weights: NDArray[np.float64] | None = None) -> float:
        """AUC, or specificity at the target sensitivity, with each picture counted so often."""
        ranking = Ranking(self.scores, self.truth)
        return ranking.auc(weights) if by == "auc" else _at_target(ranking, self.target, weights)


def _at_target(ranking: Ranking, target: float, weights: NDArray[np.float64] | None) -> float:
    """Share of the negatives below the highest score that still refers the target's share of the positives."""
    ones, zeros = ranking.curves(weights)
    referred = np.cumsum(ones[::-1])
    last = int(np.searchsorted(referred, target * referred[-1] - 1e-9))
    return float(1 - np.cumsum(zeros[::-1])[last] / zeros.sum())


def sample_of(verification: Verification, by: By) -> Sample:
    """The validation pictures as a case saw them; for specificity at the decision's level."""
    evaluation, found = verification.evaluations[SPLIT], verification.predictions[SPLIT]
    profile = verification.decision.profile
    probabilities, truth = positive_scores(found, evaluation.positive)
    outputs = output_scores(found, evaluation.labels, evaluation.positive)
    groups = [p.group for p in found]
    if by == "auc":
        scores, kept, target = outputs, tuple(groups), 0.0
    else:
        cases = Cases.at(evaluation.level, probabilities, truth, groups, logit(outputs))
        scores, truth, kept, target = cases.scores, cases.truth, cases.groups, profile.sensitivity
    of = (tuple(p.name for p in found), tuple(truth.tolist()), kept, target)
    return Sample(scores=scores, truth=truth, groups=kept, target=target, of=of)


def choose(best: int, fitting: Sequence[tuple[str, Verification]], by: By, *, trained: int) -> Choice:
    """Hold the chosen case against the others that fit. best: its place among them."""
    name, chosen = fitting[best]
    samples = [sample_of(verification, by) for _, verification in fitting]
    why_not = _not_resampled(samples)
    table = np.zeros((0, len(samples))) if why_not else _resampled(samples, by)
    # Of several that are best in a resample it is the first's.
    wins = None if why_not else np.bincount(table.argmax(axis=1), minlength=len(samples)) / len(table)
    percents = tails(samples[best].groups, samples[best].truth)
    rivals = []
    for place, (other, verification) in enumerate(fitting):
        if place == best:
            continue
        if wins is None:
            apart = _own(chosen, by).low > _own(verification, by).high
            rivals.append(Rival(case=other, difference=None, apart=apart, drawn=None))
            continue
        low, high = np.percentile(table[:, best] - table[:, place], percents)
        value = samples[best].measure(by) - samples[place].measure(by)
        difference = Interval(value=value, low=float(min(low, value)), high=float(max(high, value)))
        rivals.append(Rival(case=other, difference=difference, apart=bool(low > 0), drawn=float(wins[place])))
    test = chosen.evaluations.get("test/int8")
    return Choice(
        case=name,
        trained=trained,
        fitting=len(fitting),
        drawn=None if wins is None else float(wins[best]),
        not_resampled=why_not,
        rivals=tuple(rivals),
        test_auc=test.auc if test else None,
        test_specificity=test.specificity_at_target if test else None,
    )


def _not_resampled(samples: Sequence[Sample]) -> str:
    """Why the cases cannot be drawn again together; empty where they can."""
    if any(sample.of != samples[0].of for sample in samples):
        return "they were not all measured on the same pictures at the same target"
    groups = min(groups_holding(samples[0].groups, samples[0].truth))
    if groups < FEWEST_GROUPS:
        return f"groups with the finding, or without it, are only {groups}"
    return ""


def _resampled(samples: Sequence[Sample], by: By) -> NDArray[np.float64]:
    """The measure in each bootstrap resample, (resamples, cases): the same groups are drawn for all of them."""
    first = samples[0]
    rankings = [Ranking(sample.scores, sample.truth) for sample in samples]
    return np.array(
        [
            [r.auc(weights) if by == "auc" else _at_target(r, first.target, weights) for r in rankings]
            for weights in group_resamples(first.groups, first.truth)
        ]
    ).reshape(-1, len(samples))


def _own(verification: Verification, by: By) -> Interval:
    evaluation = verification.evaluations[SPLIT]
    return evaluation.auc if by == "auc" else evaluation.specificity_at_target
