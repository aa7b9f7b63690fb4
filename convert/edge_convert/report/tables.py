"""What the report says in numbers: rows for its tables and the sentences of its first page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from edge.acceptance import QUALITY, UNLIKE, Acceptance, answer
from edge.fields import plain
from edge_convert.recipe import Recipe
from edge_convert.reference import OwnClass, ReferenceSet
from edge_runtime.evaluate import Evaluation, Prediction
from edge_runtime.judgement import Judged, Standing
from edge_runtime.metrics import Interval, wilson

SPLIT_WORDS = {"val": "validation", "test": "test"}
FEW_FINDINGS = 30


@dataclass(frozen=True, kw_only=True)
class Headline:
    """Sensitivity and specificity on one split, with the counts they stand on.

    unit: picture or group. judged: the same with its bounds. answered: share of the pictures that are not declined;
    None where the bundle declines none.
    """

    split: str
    unit: str
    findings: int
    referred: int
    others: int
    cleared: int
    groups: int
    sensitivity: Interval
    specificity: Interval
    judged: Judged
    answered: Interval | None
    standing: Standing

    @property
    def few(self) -> bool:
        """Whether the findings are too few to lean on."""
        return self.findings < FEW_FINDINGS


@dataclass(frozen=True, kw_only=True)
class DecisionRow:
    """How the pictures of one truth are answered.

    right: the share on the right side of the threshold, answered or not; None where there is no such picture.
    """

    truth: str
    n: int
    refer: int
    clear: int
    uncertain: int
    retake: int
    right: Interval | None


def known_rows(reference: ReferenceSet | None, evaluation: Evaluation) -> list[tuple[str, OwnClass, Interval]]:
    """Validation pictures by truth, then all: how their nearest known cases agree, and how often the network's most
    probable label is right.
    """
    if reference is None:
        return []
    every, *each = reference.agreement
    rights = {}
    for index, label in enumerate(evaluation.labels):
        row = evaluation.confusion[index]
        rights[label] = (row[index], sum(row))
    rows = [(one.label, one, wilson(*rights[one.label])) for one in each]
    return [*rows, ("all", every, evaluation.accuracy)]


def threshold_words(threshold: float) -> str:
    """A threshold with four places, or in full where these would be zeros."""
    return f"{threshold:.4f}" if threshold >= 0.001 else f"{threshold:.2g}"


def headline(evaluation: Evaluation, split: str) -> Headline:
    """The first page's numbers, at the level that is decided on."""
    judged = evaluation.judged
    return Headline(
        split=SPLIT_WORDS[split],
        unit=judged.level,
        findings=judged.positives,
        referred=judged.referred,
        others=judged.negatives,
        cleared=judged.cleared,
        groups=evaluation.n_groups,
        sensitivity=judged.sensitivity,
        specificity=judged.specificity,
        judged=judged,
        answered=None if evaluation.declined is None else evaluation.declined.answered,
        standing=evaluation.standing,
    )


def decision_rows(
    predictions: Sequence[Prediction],
    positive: Sequence[str],
    threshold: float,
    acceptance: Acceptance | None,
    *,
    labels: Sequence[str],
) -> list[DecisionRow]:
    """A row for the findings and a row for the others; before them, where labels are more than two, a row a label."""
    each = [(label, label in positive, (label,)) for label in labels] if len(labels) > 2 else []
    others = tuple({p.label for p in predictions} - set(positive))
    rows = []
    for truth, finding, members in [*each, ("with the finding", True, positive), ("without", False, others)]:
        found = [p for p in predictions if p.label in members]
        said = Counter(answer(acceptance, p.measures, p.probability, threshold).decision for p in found)
        right = sum((p.probability >= threshold) == finding for p in found)
        rows.append(
            DecisionRow(
                truth=truth,
                n=len(found),
                refer=said["refer"],
                clear=said["clear"],
                uncertain=said["uncertain"],
                retake=said["retake"],
                right=wilson(right, len(found)) if found else None,
            )
        )
    return rows


def declines(acceptance: Acceptance | None) -> tuple[str, str]:
    """Where the bundle answers `retake`, and where `uncertain`: the ends of a sentence, "" for never."""
    if acceptance is None:
        return "", ""
    poor = "where the picture is too poor" if acceptance.limits.keys() & {name for name, _, _ in QUALITY} else ""
    doubts = ["where it is unlike the pictures that the model knows"] if acceptance.limits.keys() & set(UNLIKE) else []
    doubts += ["where its probability is just below the threshold"] if acceptance.clear_below is not None else []
    return poor, " or ".join(doubts)


def words(name: str) -> str:
    """A sentence, or the name of a measure or a reason, as one says it."""
    return name.replace("_px", " in pixels").replace("_", " ")


def with_code(sentence: str) -> Markup:
    """A sentence for the page: what stands between backticks, as in Markdown, becomes code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))


def confusion_rows(evaluation: Evaluation) -> list[tuple[str, int, list[tuple[int, float]]]]:
    """True label, its pictures, and for each label the count and the share of the row."""
    rows = []
    for label, counts in zip(evaluation.labels, evaluation.confusion, strict=True):
        n = sum(counts)
        rows.append((label, n, [(count, count / max(1, n)) for count in counts]))
    return rows


def limit_rows(acceptance: Acceptance | None) -> list[tuple[str, str, str]]:
    """Each measure of a picture with its lower and upper limit, "" where that side is open."""
    limits = {} if acceptance is None else acceptance.limits
    return [(words(name), _limit(each.low), _limit(each.high)) for name, each in limits.items()]


def _limit(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def flipped(
    int8: Sequence[Prediction], float32: Sequence[Prediction], threshold: float
) -> list[tuple[Prediction, Prediction]]:
    """Pictures that the two models decide differently, the largest difference first."""
    pairs = [
        (a, b)
        for a, b in zip(int8, float32, strict=True)
        if (a.probability >= threshold) != (b.probability >= threshold)
    ]
    return sorted(pairs, key=lambda pair: (-abs(pair[0].probability - pair[1].probability), pair[0].name))


def recipe_rows(recipe: Recipe) -> list[tuple[str, str]]:
    """Every key with its value."""
    return _flat(plain(recipe), "")


def _flat(fields: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in fields.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows
