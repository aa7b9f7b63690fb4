"""A manifest with splits or folds written into it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, replace

from edge.dataset import Dataset
from edge.errors import DataError
from edge.manifest import MANIFEST, read_fields
from edge.split import FRACTIONS, assign_folds, assign_splits


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """A data set's new rows.

    dataset: with its splits, where it has some. folds: of each sample, 0 where kept out; empty where not asked for.
    """

    dataset: Dataset
    folds: tuple[int, ...]

    def to_csv(self) -> str:
        """The manifest: the columns of the data set's own one, the others it now needs after them."""
        rows = _own_columns(self.dataset)
        for row, sample in zip(rows, self.dataset.samples, strict=True):
            if self.dataset.has_groups:
                row["group"] = sample.group
            if sample.split is not None:
                row["split"] = sample.split
        for row, fold in zip(rows, self.folds, strict=False):
            row["fold"] = str(fold)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def describe(self) -> str:
        """Pictures by class and split or fold, a line each, for people."""
        lines = []
        if self.dataset.has_splits:
            for split, counts in self.dataset.counts().items():
                lines.append(f"{split}: " + ", ".join(f"{n:,} {label}" for label, n in counts.items()))
        for fold in sorted(set(self.folds)):
            held = Counter(s.label for s, f in zip(self.dataset.samples, self.folds, strict=True) if f == fold)
            name = f"fold {fold}" if fold else "kept out (test)"
            lines.append(f"{name}: " + ", ".join(f"{held[label]:,} {label}" for label in self.dataset.classes))
        return "\n".join(lines)


def make_split_table(
    dataset: Dataset,
    *,
    seed: int,
    fractions: tuple[float, float, float] | None,
    folds: int | None,
    again: bool,
) -> SplitTable:
    """Give a data set splits, folds or both.

    fractions: of train, val and test. Without folds, None stands for 0.70, 0.15, 0.15; with folds, for no new splits:
    the data set's own stay, and a set without splits is folded whole. again: make splits in the place of those that the
    set has. Raises DataError where it has splits and others are asked for without `again`, or none can be made.
    """
    wanted = fractions is not None or folds is None or again
    if wanted and dataset.has_splits and not again:
        raise DataError(
            f"{dataset.name} has splits of its own",
            remedy="keep them, or give --again to make others in their place; --folds alone keeps them",
        )
    if wanted:
        bare = replace(dataset, samples=tuple(replace(s, split=None) for s in dataset.samples), has_splits=False)
        dataset = assign_splits(bare, seed=seed, fractions=fractions or FRACTIONS)
    return SplitTable(dataset=dataset, folds=() if folds is None else assign_folds(dataset, folds=folds, seed=seed))


def _own_columns(dataset: Dataset) -> list[dict[str, str]]:
    """Path, label and whatever else the data set's own manifest says of each sample."""
    path = dataset.folder / MANIFEST
    if path.exists():
        return [dict(fields) for _, fields in read_fields(path)]
    return [{"path": sample.name, "label": sample.label} for sample in dataset.samples]
