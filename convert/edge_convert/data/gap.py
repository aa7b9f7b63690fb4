"""How much better a random split would make a data set look than a split by group: the optimism gap.

Pictures of one patient or slide are alike. A random split puts some of them on both sides, and what is measured then is
partly how well the patient is known again. Kapoor and Narayanan 2023 (Patterns 4, 100804) collect what this has cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.dataset import Dataset
from edge.errors import DataError
from edge.split import assign_folds
from edge_convert.data.embed import Embeddings
from edge_convert.data.probes import PROBES, Probe, mean_auc, out_of_fold
from edge_convert.progress import Progress, Steps

FOLDS = 5
REPEATS = 5

LOWER_BOUND = (
    "The probes only read a frozen network's features; a network that is fine-tuned can learn a patient or a slide by "
    "heart. Take the gap as a lower bound of what a random split would hide."
)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """One probe's AUC, a value a repeat, each the mean over the folds.

    random: folds by picture. grouped: by group. sham: by groups of the same sizes and labels that mean nothing.
    """

    probe: Probe
    random: tuple[float, ...]
    grouped: tuple[float, ...]
    sham: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Random less grouped, mean over the repeats."""
        return float(np.mean(np.subtract(self.random, self.grouped)))

    @property
    def spread(self) -> float:
        """Standard deviation of that difference over the repeats."""
        return float(np.std(np.subtract(self.random, self.grouped), ddof=1))

    @property
    def noise(self) -> float:
        """Standard deviation that the same difference has over sham groups: what a set of this size shows by chance.

        The spread over repeats alone would not do: it leaves out which pictures happen to be in the set.
        """
        return float(np.std(np.subtract(self.random, self.sham), ddof=1))

    @property
    def stands_out(self) -> bool:
        """Whether the gap is more than twice both its spread over repeats and its noise."""
        return self.mean > 2 * max(self.spread, self.noise)

    @property
    def sentence(self) -> str:
        """What it means, for people."""
        by_picture, by_group = float(np.mean(self.random)), float(np.mean(self.grouped))
        what = f"{PROBES[self.probe]}: AUC {by_picture:.3f} split by picture, {by_group:.3f} split by group"
        spreads = f"(spread over repeats {self.spread:.3f}, by chance {self.noise:.3f})"
        if not self.stands_out:
            return f"{what}; the difference of {self.mean:+.3f} is no more than chance {spreads}"
        return f"{what}; a random split would flatter by {self.mean:.3f} {spreads}"


def measure_gap(
    dataset: Dataset, embeddings: Embeddings, *, folds: int = FOLDS, repeats: int = REPEATS, seed: int = 0
) -> Steps[tuple[Gap, ...]]:
    """The gap of each probe; yields how many cross-validations are done.

    Both ways have the same number of folds, so the probes see as many pictures. The test split is left alone where
    there is one. Raises DataError where groups are not known, are a picture each, or are too few for the folds.
    """
    require_groups(dataset)
    if repeats < 2:
        raise DataError(f"{repeats} repeats have no spread", remedy="use 2 or more")
    inside = {sample.name: sample for sample in dataset.samples if sample.split != "test"}
    rows = [i for i, sample in enumerate(embeddings.samples) if sample.name in inside]
    samples = tuple(embeddings.samples[i] for i in rows)
    vectors = embeddings.vectors[rows, 0]
    targets = np.array([dataset.classes.index(sample.label) for sample in samples], np.int64)
    readable = replace(dataset, samples=samples)
    found: dict[tuple[Probe, int], list[float]] = {(probe, scheme): [] for probe in PROBES for scheme in range(3)}
    total = repeats * len(found)
    done = 0
    for repeat in range(repeats):
        by_picture = _by_picture(targets, folds, seed + repeat)
        by_group = np.array(assign_folds(readable, folds=folds, seed=seed + repeat), np.int64)
        shuffled = _with_sham_groups(readable, targets, seed + repeat)
        by_sham = np.array(assign_folds(shuffled, folds=folds, seed=seed + repeat), np.int64)
        for scheme, placed in enumerate((by_picture, by_group, by_sham)):
            for probe in PROBES:
                yield Progress(done=done, total=total)
                done += 1
                probabilities = out_of_fold(probe, vectors, targets, placed)
                found[probe, scheme].append(mean_auc(targets, probabilities, placed))
    yield Progress(done=total, total=total)
    return tuple(
        Gap(probe=p, random=tuple(found[p, 0]), grouped=tuple(found[p, 1]), sham=tuple(found[p, 2])) for p in PROBES
    )


def require_groups(dataset: Dataset) -> None:
    """Raise DataError where groups are not known, or are a picture each."""
    remedy = "give a `group` column in manifest.csv, or --group-pattern where the names tell the patient or slide"
    if not dataset.has_groups:
        raise DataError("groups are not known, so there is no split by group to compare with", remedy=remedy)
    if len({sample.group for sample in dataset.samples}) == len(dataset.samples):
        raise DataError("every picture is a group of its own, so both splits are the same", remedy=remedy)


def _with_sham_groups(dataset: Dataset, targets: NDArray[np.int64], seed: int) -> Dataset:
    """The groups dealt out anew among the pictures of each class: as many, as large, and nothing in common."""
    draws = np.random.default_rng(seed)
    groups = [sample.group for sample in dataset.samples]
    for label in np.unique(targets):
        places = np.flatnonzero(targets == label)
        for place, source in zip(places, draws.permutation(places), strict=True):
            groups[place] = dataset.samples[source].group
    dealt = tuple(replace(s, group=group) for s, group in zip(dataset.samples, groups, strict=True))
    return replace(dataset, samples=dealt)


def _by_picture(targets: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedKFold

    placed = np.zeros(len(targets), np.int64)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, held) in enumerate(splitter.split(targets, targets), start=1):
        placed[held] = fold
    return placed
