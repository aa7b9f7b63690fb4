"""Splits and folds: by group, stratified by label, the same on every machine.

In the contract and not on the workstation, because a device that evaluates a bundle must find the same
test pictures from the same seed. scikit-learn's StratifiedGroupKFold is not used: it lives only on the
workstation, and does not promise every class in every fold.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge.dataset import SPLITS, Dataset
from edge.errors import DataError
from edge.frozen import dataclass

FRACTIONS = (0.70, 0.15, 0.15)
"""Of train, val and test."""

ATTEMPTS = 20
"""Orders that are tried before a data set is said to have no split with every class in every part."""

Counts = tuple[int, ...]
"""Pictures by class, in the order of `Dataset.classes`."""


@dataclass(frozen=True, kw_only=True)
class _Goal:
    """What the splits should hold. fractions: by split, of those in use. totals: pictures by class."""

    fractions: tuple[float, ...]
    totals: Counts

    def cost(self, split: int, held: Sequence[int]) -> float:
        """How far a split is from its share: squared relative deviations, summed over the classes.

        Divided by the fraction, so that the splits fill up side by side and the large groups, which come
        first, are shared out as well. fsum is exact: the same number on every machine and Python.
        """
        share = self.fractions[split]
        return math.fsum((n / total - share) ** 2 for n, total in zip(held, self.totals, strict=True)) / share


def assign_splits(dataset: Dataset, *, seed: int, fractions: tuple[float, float, float] = FRACTIONS) -> Dataset:
    """Give every sample a split; samples of one group get the same.

    fractions: of train, val and test, by class, as near as the groups allow; 0 leaves a split out. The
    result depends on the seed, the groups and the labels only, not on the order of the samples, the
    machine or the version of Python. A data set that has splits is returned as it is. Raises DataError
    where a class has fewer groups than there are splits, or cannot be in every split.
    """
    if dataset.has_splits:
        return dataset
    names = _splits_in_use(fractions)
    placed = _share_out(
        dataset,
        tuple(f for f in fractions if f > 0),
        salt=f"{seed}",
        parts=names,
        wanted=", ".join(names),
        remedy="write the split column of manifest.csv yourself",
    )
    samples = tuple(replace(s, split=names[placed[s.group]]) for s in dataset.samples)
    return replace(dataset, samples=samples, has_splits=True)


def assign_folds(dataset: Dataset, *, folds: int, seed: int = 0) -> tuple[int, ...]:
    """A fold for every sample, in the order of `dataset.samples`: 1 to `folds`, 0 for those of the test split.

    Samples of one group get the same fold, and the classes are shared out as evenly as the groups allow. The train and
    val splits, where there are any, are folded together; the test split is kept out, to be measured on once. The
    result depends on the seed, the groups and the labels only, as with `assign_splits`. Raises DataError where a class
    has fewer groups than there are folds, or a group is in the test split and outside of it.
    """
    if folds < 2:
        raise DataError(f"{folds} folds leave nothing to compare", remedy="use 2 or more; 5 is usual")
    inside = tuple(s for s in dataset.samples if s.split != "test")
    straddling = {s.group for s in inside} & {s.group for s in dataset.samples if s.split == "test"}
    if straddling:
        raise DataError(
            f"group {min(straddling)} is in the test split and outside of it",
            remedy="move each group to one split; `edge data check` lists them",
        )
    placed = _share_out(
        replace(dataset, samples=inside),
        (1 / folds,) * folds,
        salt=f"folds:{folds}:{seed}",
        parts=[f"fold {k}" for k in range(1, folds + 1)],
        wanted=f"{folds} folds",
        remedy="use fewer folds",
    )
    return tuple(0 if s.split == "test" else placed[s.group] + 1 for s in dataset.samples)


def _share_out(
    dataset: Dataset, fractions: tuple[float, ...], *, salt: str, parts: Sequence[str], wanted: str, remedy: str
) -> dict[str, int]:
    """The part of each group, so that every class is in every part. wanted, remedy: for the errors' sentences."""
    groups = _count_by_group(dataset)
    _require_enough_groups(dataset, groups, len(fractions), wanted, remedy)
    goal = _Goal(fractions=fractions, totals=tuple(sum(column) for column in zip(*groups.values(), strict=True)))
    for attempt in range(ATTEMPTS):
        placed = _repair(_place(_order(groups, f"{salt}:{attempt}"), groups, goal), groups, goal)
        if not _missing(_held(placed, groups, goal)):
            return placed
    part, index = _missing(_held(placed, groups, goal))[0]
    raise DataError(
        f"no split by group puts every class into {wanted}: {parts[part]} lacks {dataset.classes[index]!r}",
        remedy=f"add groups of that class, or {remedy}",
    )


def _splits_in_use(fractions: tuple[float, float, float]) -> tuple[str, ...]:
    if len(fractions) != 3 or not all(f >= 0 for f in fractions) or abs(math.fsum(fractions) - 1) > 1e-6:
        raise DataError(
            f"the fractions {fractions} of {', '.join(SPLITS)} do not add up to 1",
            remedy="use for example 0.70, 0.15, 0.15",
        )
    return tuple(name for name, f in zip(SPLITS, fractions, strict=True) if f > 0)


def _count_by_group(dataset: Dataset) -> dict[str, Counts]:
    index = {label: i for i, label in enumerate(dataset.classes)}
    table: dict[str, list[int]] = {}
    for sample in dataset.samples:
        table.setdefault(sample.group, [0] * len(index))[index[sample.label]] += 1
    return {group: tuple(table[group]) for group in sorted(table)}


def _require_enough_groups(
    dataset: Dataset, groups: Mapping[str, Counts], parts: int, wanted: str, remedy: str
) -> None:
    unit = "group" if dataset.has_groups else "picture"
    for i, label in enumerate(dataset.classes):
        having = sum(1 for counts in groups.values() if counts[i])
        if having < parts:
            raise DataError(
                f"class {label!r} has {having} {unit}{'' if having == 1 else 's'}, but {wanted} need one each",
                remedy=f"add {unit}s of that class, or {remedy}",
            )


def _order(groups: Mapping[str, Counts], salt: str) -> list[str]:
    """Groups of the rarest class first, of these the largest first, then as the seed has it."""
    having = [sum(1 for n in column if n) for column in zip(*groups.values(), strict=True)]

    def key(group: str) -> tuple[int, int, bytes]:
        counts = groups[group]
        rarest = min(having[i] for i, n in enumerate(counts) if n)
        # Not hash(), which differs between runs, and not random, whose shuffle may differ between versions.
        return rarest, -sum(counts), hashlib.sha256(f"{salt}:{group}".encode()).digest()

    return sorted(groups, key=key)


def _place(order: Sequence[str], groups: Mapping[str, Counts], goal: _Goal) -> dict[str, int]:
    """Each group in turn into the split that it brings nearest to its share."""
    held = [[0] * len(goal.totals) for _ in goal.fractions]
    placed: dict[str, int] = {}
    for group in order:
        gains = [
            goal.cost(split, _added(held[split], groups[group], 1)) - goal.cost(split, held[split])
            for split in range(len(held))
        ]
        best = gains.index(min(gains))
        held[best] = _added(held[best], groups[group], 1)
        placed[group] = best
    return placed


def _repair(placed: dict[str, int], groups: Mapping[str, Counts], goal: _Goal) -> dict[str, int]:
    """Move groups into splits that lack a class, the cheapest move first, while that helps."""
    placed = dict(placed)
    held = _held(placed, groups, goal)
    while lacking := _missing(held):
        best: tuple[int, float, str, int] | None = None
        for target, label in lacking:
            for group, source in placed.items():
                if not groups[group][label] or source == target:
                    continue
                after = list(held)
                after[source] = _added(held[source], groups[group], -1)
                after[target] = _added(held[target], groups[group], 1)
                cost = math.fsum(goal.cost(split, counts) for split, counts in enumerate(after))
                move = (len(_missing(after)), cost, group, target)
                best = move if best is None else min(best, move)
        if best is None or best[0] >= len(lacking):
            break
        placed[best[2]] = best[3]
        held = _held(placed, groups, goal)
    return placed


def _held(placed: Mapping[str, int], groups: Mapping[str, Counts], goal: _Goal) -> list[list[int]]:
    held = [[0] * len(goal.totals) for _ in goal.fractions]
    for group, split in placed.items():
        held[split] = _added(held[split], groups[group], 1)
    return held


def _added(held: Sequence[int], counts: Sequence[int], sign: int) -> list[int]:
    return [n + sign * more for n, more in zip(held, counts, strict=True)]


def _missing(held: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Split and class of everything that is lacking."""
    return [(split, label) for split, counts in enumerate(held) for label, n in enumerate(counts) if not n]
