"""Suspected label errors, for a person to look at: confident learning (Northcutt, Jiang and Chuang 2021).

A probe that has never seen a picture's group gives its class probabilities; cleanlab estimates from them how labels are
confused, and which pictures are likely mislabelled. It proposes, a trained person decides: a hard picture with the
right label is found as well.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.dataset import Dataset
from edge.split import assign_folds
from edge_convert.data.embed import Embeddings
from edge_convert.data.probes import out_of_fold
from edge_convert.progress import Progress, Steps

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A picture with its label's quality: the probe's probability of the given label, 0 to 1.

    suggested: the probe's most probable label, perhaps the given one. suspected: whether confident learning counts the
    label among the errors.
    """

    name: str
    label: str
    suggested: str
    quality: float
    suspected: bool
    split: str | None
    group: str


def find_doubts(
    dataset: Dataset, embeddings: Embeddings, *, folds: int = FOLDS, seed: int = 0
) -> Steps[tuple[Doubt, ...]]:
    """Every readable picture, the suspected ones first, each kind by the quality of its label, the lowest first.

    Pictures of every split are judged, each by a probe trained on the other folds; where groups are known, its group is
    in none of them. Raises DataError where a class has fewer groups than there are folds.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    yield Progress(done=0, total=2)
    samples = tuple(replace(sample, split=None) for sample in embeddings.samples)
    placed = np.array(assign_folds(replace(dataset, samples=samples), folds=folds, seed=seed), np.int64)
    targets = np.array([dataset.classes.index(sample.label) for sample in samples], np.int64)
    probabilities = out_of_fold("linear", embeddings.vectors[:, 0], targets, placed)
    yield Progress(done=1, total=2)
    qualities = get_label_quality_scores(targets, probabilities, method="self_confidence")
    suspected = find_label_issues(targets, probabilities, n_jobs=1)
    doubts = [
        Doubt(
            name=sample.name,
            label=sample.label,
            suggested=dataset.classes[int(best)],
            quality=round(float(quality), 4),
            suspected=bool(issue),
            split=sample.split,
            group=sample.group,
        )
        for sample, best, quality, issue in zip(
            embeddings.samples, probabilities.argmax(axis=1), qualities, suspected, strict=True
        )
    ]
    yield Progress(done=2, total=2)
    return tuple(sorted(doubts, key=lambda d: (not d.suspected, d.quality, d.name)))


def to_csv(doubts: Sequence[Doubt]) -> str:
    """A row a picture, in the order given: path,label,suggested,quality,suspected,split,group."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "suggested", "quality", "suspected", "split", "group"])
    for d in doubts:
        writer.writerow(
            [d.name, d.label, d.suggested, f"{d.quality:.4f}", "yes" if d.suspected else "no", d.split or "", d.group]
        )
    return text.getvalue()
