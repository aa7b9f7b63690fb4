"""A bundle measured on labelled pictures, by the code that screens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace

import numpy as np
from numpy.typing import NDArray

from edge.acceptance import Acceptance
from edge.dataset import Box, Sample
from edge.decision import Calibration, Decision, Level
from edge.errors import DataError, PictureError
from edge.frozen import dataclass
from edge.profile import Profile
from edge.record import Failure
from edge_runtime import saliency
from edge_runtime.calibration import calibrate, logit, positive_score
from edge_runtime.declined import Declined, Tried, count_declined, render_declined
from edge_runtime.judgement import Cases, Judged, Predictive, Share, Standing, judge, predictive, standing
from edge_runtime.metrics import (
    Interval,
    expected_calibration_error,
    fit_threshold,
    ranking_intervals,
    wilson,
)
from edge_runtime.pipeline import Screener


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One labelled picture and what the network said of it.

    outputs: the network's own probabilities, in the order of the bundle's labels. probabilities: the same, calibrated.
    probability: calibrated, of the positive labels together. heat: (rows,
    columns) evidence in logits, or None. points: whether the map's peak lies in a marked box; None without a map
    or boxes. infer_ms: wall-clock time of the network. measures: what the bundle's limits are held against, by name.
    """

    name: str
    label: str
    group: str
    outputs: tuple[float, ...]
    probabilities: tuple[float, ...]
    probability: float
    heat: NDArray[np.float32] | None = field(repr=False)
    points: bool | None
    infer_ms: float
    measures: dict[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured. Intervals are 95 %: by group bootstrap, widened where groups are few, for AUC and
    average precision, which are of the network's outputs, before calibration; Wilson for shares.

    sensitivity and specificity are of the decision's level, pictures or groups; `levels` holds them for pictures and,
    where groups are known and hold several pictures, for groups, with their one-sided lower 95 % bounds.
    specificity_at_target: where these very cases' sensitivity reaches the profile's (no threshold carried over).
    output_error, calibration_error: expected calibration error of the network's outputs, and of the probabilities.
    confusion: rows are true labels, columns the most probable label, in the order of `labels`.
    pointing_game: share of positive pictures with boxes whose map peaks inside one; `_detected`: of the referred ones.
    declined: what was not answered; None where the bundle answers everything. All other measures are of all pictures.
    """

    labels: tuple[str, ...]
    positive: tuple[str, ...]
    n: int
    n_positive: int
    n_groups: int
    threshold: float
    level: Level
    levels: tuple[Judged, ...]
    standing: Standing
    predictive: Predictive | None
    auc: Interval
    average_precision: Interval
    sensitivity: Interval
    specificity: Interval
    specificity_at_target: Interval
    accuracy: Interval
    output_error: float
    calibration_error: float
    confusion: tuple[tuple[int, ...], ...]
    pointing_game: Interval | None
    pointing_game_n: int
    pointing_game_detected: Interval | None
    infer_ms_median: float
    unreadable: tuple[Failure, ...]
    declined: Declined | None = None

    @property
    def judged(self) -> Judged:
        """What the threshold gives at the decision's level."""
        return next(judged for judged in self.levels if judged.level == self.level)


def predict(screener: Screener, samples: Iterable[Sample]) -> Iterator[Prediction | Failure]:
    """Screen labelled pictures one by one; a picture that cannot be read gives a Failure.

    Raises DataError for boxes that lie outside their picture.
    """
    side_px = screener.manifest.preprocessing.side_px
    listed = list(samples)
    results = screener.screen_files((sample.path for sample in listed), explain=True)
    for sample, (_, screening) in zip(listed, results, strict=True):
        if isinstance(screening, PictureError):
            yield Failure(picture=sample.name, error=screening.message, remedy=screening.remedy)
            continue
        sample.require_boxes_inside(*screening.verdict.picture_px)
        points = None
        if screening.heat is not None and sample.boxes:
            points = _inside(saliency.peak(screening.heat, screening.placement, side_px), sample.boxes)
        yield Prediction(
            name=sample.name,
            label=sample.label,
            group=sample.group,
            outputs=tuple(map(float, screening.outputs)),
            probabilities=tuple(screening.verdict.probabilities.values()),
            probability=screening.verdict.probability,
            heat=screening.heat,
            points=points,
            infer_ms=screening.verdict.latency_ms.infer,
            measures=screening.measures,
        )


def positive_scores(
    predictions: Sequence[Prediction], positive: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability of the finding and whether it is there, each (pictures,)."""
    return (
        np.array([p.probability for p in predictions], np.float64),
        np.array([p.label in positive for p in predictions], np.bool_),
    )


def output_scores(
    predictions: Sequence[Prediction], labels: tuple[str, ...], positive: tuple[str, ...]
) -> NDArray[np.float64]:
    """The network's own outputs of the positive labels together, before calibration, (pictures,)."""
    return positive_score(np.array([p.outputs for p in predictions]), [labels.index(label) for label in positive])


def calibrated(
    predictions: Sequence[Prediction], calibration: Calibration, positive: list[int]
) -> tuple[Prediction, ...]:
    """The predictions as another calibration of the same network has them. positive: indices of the labels."""
    if not predictions:
        return ()
    together, each = calibrate(calibration, np.array([p.outputs for p in predictions]), positive)
    return tuple(
        replace(p, probability=float(probability), probabilities=tuple(map(float, probabilities)))
        for p, probability, probabilities in zip(predictions, together, each, strict=True)
    )


def measure(
    results: Sequence[Prediction | Failure],
    *,
    labels: tuple[str, ...],
    decision: Decision,
    profile: Profile | None = None,
    prevalence: float | None = None,
    acceptance: Acceptance | None = None,
) -> Evaluation:
    """The measures of a set of predictions. Raises DataError where a class that they need is absent.

    profile: to judge by; the decision's own where it is None. prevalence: for predictive values; None for none.
    acceptance: the limits that the predictions' measures are held against; None: everything is answered.
    """
    found = [result for result in results if isinstance(result, Prediction)]
    positive, wanted = decision.positive, profile or decision.profile
    scores, truth = positive_scores(found, positive)
    if not found:
        raise DataError("none of the pictures can be read", remedy="run `edge data check DIR` for the reasons")
    if not truth.any() or truth.all():
        raise DataError(
            "the readable pictures are all positive or all negative, so nothing can be measured",
            remedy="evaluate on a set with both",
        )
    groups = [p.group for p in found]
    outputs = output_scores(found, labels, positive)
    auc, average_precision = ranking_intervals(outputs, truth, groups)
    shown: list[Level] = ["picture"]
    # Groups too, where they hold more than one picture on average.
    if len(set(groups)) < len(groups) or decision.level == "group":
        shown.append("group")
    cases = {level: Cases.at(level, scores, truth, groups, logit(outputs)) for level in shown}
    levels = tuple(judge(each, decision.threshold) for each in cases.values())
    judged = next(each for each in levels if each.level == decision.level)
    confusion = _confusion(found, labels)
    pointed = [p for p in found if p.points is not None and p.label in positive]
    return Evaluation(
        labels=labels,
        positive=positive,
        n=len(found),
        n_positive=int(truth.sum()),
        n_groups=len(set(groups)),
        threshold=decision.threshold,
        level=decision.level,
        levels=levels,
        standing=standing(wanted, judged),
        predictive=None if prevalence is None else predictive(judged, prevalence),
        auc=auc,
        average_precision=average_precision,
        sensitivity=judged.sensitivity,
        specificity=judged.specificity,
        specificity_at_target=_at_target(cases[decision.level], wanted),
        accuracy=wilson(int(np.trace(confusion)), len(found)),
        output_error=expected_calibration_error(outputs, truth),
        calibration_error=expected_calibration_error(scores, truth),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        pointing_game=_share(pointed),
        pointing_game_n=len(pointed),
        pointing_game_detected=_share([p for p in pointed if p.probability >= decision.threshold]),
        infer_ms_median=float(np.median([p.infer_ms for p in found])),
        unreadable=tuple(result for result in results if isinstance(result, Failure)),
        declined=None
        if acceptance is None
        else count_declined(tried(found, positive), acceptance, decision.threshold, labels=labels),
    )


def tried(predictions: Sequence[Prediction], positive: tuple[str, ...]) -> list[Tried]:
    """The predictions as they are decided on."""
    return [
        Tried(label=p.label, finding=p.label in positive, probability=p.probability, measures=p.measures)
        for p in predictions
    ]


def _at_target(cases: Cases, profile: Profile) -> Interval:
    at_target = fit_threshold(cases.scores, cases.truth, profile.sensitivity)
    return wilson(int(((cases.scores < at_target) & ~cases.truth).sum()), int((~cases.truth).sum()))


def render_text(evaluation: Evaluation, *, title: str, timed: bool = True) -> str:
    """The measures as a table for people. timed: with the time of an inference."""
    e = evaluation
    rows: list[tuple[str, Interval | str | None]] = [
        ("AUC", e.auc),
        ("average precision", e.average_precision),
        (
            f"specificity at {100 * e.standing.profile.sensitivity:g}% sensitivity",
            e.judged.nothing_to_measure("specificity") or e.specificity_at_target,
        ),
        ("accuracy of the most probable label", e.accuracy),
        (f"pointing game, {e.pointing_game_n} pictures with boxes", e.pointing_game),
        ("pointing game, referred ones", e.pointing_game_detected),
    ]
    lines = [
        title,
        f"{e.n} pictures, {e.n_positive} positive ({', '.join(e.positive)}), {e.n_groups} groups"
        + (f", {len(e.unreadable)} UNREADABLE and left out" if e.unreadable else ""),
        "",
        *(f"  {name:<42} {interval}" for name, interval in rows if interval is not None),
        f"  {'expected calibration error':<42} {e.calibration_error:.4f} (of the network alone {e.output_error:.4f})",
        *([f"  {'median inference, ms':<42} {e.infer_ms_median:.2f}"] if timed else []),
        "",
        *(line for judged in e.levels for line in _judged_lines(judged, decides=judged.level == e.level)),
        f"  {e.standing.profile.name}: {e.standing.words}",
        *_predictive_lines(e.predictive, e.judged),
        *(["", *render_declined(e.declined)] if e.declined is not None else []),
        "",
        "  confusion (rows: truth, columns: most probable)",
        *_confusion_lines(e),
    ]
    lines += [f"  unreadable: {failure.picture}: {failure.error}" for failure in e.unreadable]
    return "\n".join(lines)


def _judged_lines(judged: Judged, *, decides: bool) -> list[str]:
    by = f"  at threshold {judged.threshold:.4f}, by {judged.level}" + ("" if decides else " (not what is decided on)")
    shares: tuple[tuple[Share, int, int, Interval, float], ...] = (
        ("sensitivity", judged.referred, judged.positives, judged.sensitivity, judged.sensitivity_bound),
        ("specificity", judged.cleared, judged.negatives, judged.specificity, judged.specificity_bound),
    )
    return [by, *(f"    {_share_line(judged, *share)}" for share in shares)]


def _share_line(judged: Judged, share: Share, right: int, n: int, interval: Interval, bound: float) -> str:
    if nothing := judged.nothing_to_measure(share):
        return f"{share:<40} {nothing}"
    return f"{f'{share}, {right} of {n}':<40} {interval}, lower bound {bound:.4f}"


def _predictive_lines(found: Predictive | None, judged: Judged) -> list[str]:
    if found is None:
        return []
    # Both values need both shares.
    nothing = judged.nothing_to_measure("sensitivity") or judged.nothing_to_measure("specificity")
    return [
        f"  where {found.prevalence:.4g} of those screened have the finding",
        f"    {'of the referred, with it (PPV)':<40} {nothing or found.ppv}",
        f"    {'of the cleared, without it (NPV)':<40} {nothing or found.npv}",
    ]


def _confusion_lines(evaluation: Evaluation) -> list[str]:
    width = max(8, *(len(label) for label in evaluation.labels)) + 2
    head = " " * (width + 2) + "".join(f"{label:>{width}}" for label in evaluation.labels)
    body = [
        f"  {label:<{width}}" + "".join(f"{count:>{width}}" for count in row)
        for label, row in zip(evaluation.labels, evaluation.confusion, strict=True)
    ]
    return [head, *body]


def _confusion(found: Sequence[Prediction], labels: tuple[str, ...]) -> NDArray[np.int64]:
    table = np.zeros((len(labels), len(labels)), np.int64)
    for prediction in found:
        table[labels.index(prediction.label), int(np.argmax(prediction.probabilities))] += 1
    return table


def _share(predictions: Sequence[Prediction]) -> Interval | None:
    if not predictions:
        return None
    return wilson(sum(bool(p.points) for p in predictions), len(predictions))


def _inside(point: tuple[float, float], boxes: Sequence[Box]) -> bool:
    x, y = point
    if not (math.isfinite(x) and math.isfinite(y)):
        return False
    return any(left <= x < left + width and top <= y < top + height for left, top, width, height in boxes)
