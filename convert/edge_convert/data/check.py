"""Whether a data set can be trusted: what is in it, what cannot be read, what is in two splits at once."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from edge.dataset import SPLITS, Dataset, Sample
from edge.errors import DataError, PictureError
from edge.split import assign_splits
from edge_convert.data.embed import COARSE_WHOLE_AND_CENTRE, embed
from edge_convert.data.pairs import Opened, Pair, find_pairs, find_shared, open_sample
from edge_convert.progress import Progress, Steps, translate

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A sample that is no picture, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class GroupLeak:
    """A group with pictures in several splits. pictures: how many by split."""

    group: str
    pictures: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Width and height in pixels of the readable pictures, each taken by itself."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What `check_dataset` found.

    seed: of the splits that were made for the check, None where the data set has its own. group_pattern: what found the
    groups in the names, None where nothing had to. pictures: by split and class. groups: by split, None where groups
    are not known. imbalance: the largest class over the smallest. grey, colour: readable pictures. boxes_outside:
    samples with a box that does not lie in the picture. copies: exact and near ones, within a split and across.
    embeddings: whether shared parts were looked for as well, which are among the copies then, and look_alikes: the
    closest pairs in different splits that share nothing, for a person to look at.
    """

    folder: str
    name: str
    synthetic: bool
    seed: int | None
    group_pattern: str | None
    pictures: dict[str, dict[str, int]]
    groups: dict[str, int] | None
    imbalance: float
    sizes: Sizes | None
    grey: int
    colour: int
    unreadable: tuple[Unreadable, ...]
    ignored: tuple[str, ...]
    boxes_outside: tuple[str, ...]
    group_leaks: tuple[GroupLeak, ...]
    copies: tuple[Pair, ...]
    embeddings: bool = False
    look_alikes: tuple[Pair, ...] = ()

    @property
    def leaking_copies(self) -> tuple[Pair, ...]:
        """One picture in two splits."""
        return tuple(pair for pair in self.copies if pair.leaks)

    @property
    def label_conflicts(self) -> tuple[Pair, ...]:
        """One picture with two labels."""
        return tuple(pair for pair in self.copies if pair.conflicts)

    @property
    def leaks(self) -> bool:
        """Whether anything is in more than one split."""
        return bool(self.group_leaks or self.leaking_copies)

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for `json.dumps`."""
        return asdict(self) | {
            "leaks": self.leaks,
            "leaking_copies": len(self.leaking_copies),
            "label_conflicts": len(self.label_conflicts),
        }


def check_dataset(dataset: Dataset, *, seed: int = 0, embeddings: bool = False) -> Steps[DataReport]:
    """Open every picture and compare all with all; yields how far it is, in pictures.

    embeddings: look for pictures that share a part, too; this needs TensorFlow and takes several times as long.

    A data set without splits is checked with the ones that `assign_splits` makes from the seed. Raises
    DataError where they cannot be made. A picture that cannot be read is listed, not raised.
    """
    made = not dataset.has_splits
    dataset = assign_splits(dataset, seed=seed)
    count = len(dataset.samples)
    parts = 4 if embeddings else 2
    readable: list[Opened] = []
    unreadable: list[Unreadable] = []
    for done, sample in enumerate(dataset.samples):
        yield Progress(done=done, total=parts * count)
        try:
            readable.append(open_sample(sample))
        except (PictureError, OSError) as error:
            reason = error.message if isinstance(error, PictureError) else error.strerror or str(error)
            unreadable.append(Unreadable(name=sample.name, reason=reason))
    copies = yield from _part_of(find_pairs(readable), 1, parts, count)
    look_alikes: tuple[Pair, ...] = ()
    if embeddings and readable:
        samples = [picture.sample for picture in readable]
        seen = yield from _part_of(embed(samples, COARSE_WHOLE_AND_CENTRE), 2, parts, count)
        shared, look_alikes = yield from _part_of(find_shared(seen, copies), 3, parts, count)
        copies += shared
    class_sizes = [sum(by[label] for by in dataset.counts().values()) for label in dataset.classes]
    return DataReport(
        folder=str(dataset.folder),
        name=dataset.name,
        synthetic=dataset.synthetic,
        seed=seed if made else None,
        group_pattern=dataset.group_pattern,
        pictures=dataset.counts(),
        groups=_count_groups(dataset) if dataset.has_groups else None,
        imbalance=round(max(class_sizes) / min(class_sizes), 2),
        sizes=_sizes([picture.size for picture in readable]),
        grey=sum(picture.grey for picture in readable),
        colour=sum(not picture.grey for picture in readable),
        unreadable=tuple(unreadable),
        ignored=dataset.ignored,
        boxes_outside=tuple(picture.sample.name for picture in readable if picture.box_outside),
        group_leaks=_group_leaks(dataset.samples),
        copies=copies,
        embeddings=embeddings,
        look_alikes=look_alikes,
    )


def missing_splits(splits: Collection[str]) -> list[str]:
    """The splits that a build needs and that are not among these."""
    return [split for split in ("train", "val") if split not in splits]


def _part_of(steps: Steps[T], before: int, parts: int, count: int) -> Steps[T]:
    """One of several parts of a long step, each of `count` units; `before` are done."""

    def shifted(step: Progress) -> Progress:
        return Progress(done=before * count + step.done * count // max(1, step.total), total=parts * count)

    return translate(steps, shifted)


def describe_leak(report: DataReport) -> str:
    """One sentence: how many groups and pictures are in more than one split, and the first of them."""
    groups, pairs = report.group_leaks, report.leaking_copies
    pictures = len({pair.names[0] for pair in pairs})
    counts = [_count(len(groups), "group")] * bool(groups) + [_count(pictures, "picture")] * bool(pairs)
    if groups:
        example = f"group {groups[0].group} ({', '.join(groups[0].pictures)})"
    else:
        example = " and ".join(f"{n} ({s})" for n, s in zip(pairs[0].names, pairs[0].splits, strict=True))
    verb = "is" if len(groups) + pictures == 1 else "are"
    return f"{' and '.join(counts)} {verb} in more than one split, for example {example}"


def raise_on_leak(report: DataReport) -> None:
    """Raise DataError where a group or a picture is in more than one split."""
    if not report.leaks:
        return
    cure = ["move each group to one split"] * bool(report.group_leaks)
    # Splits that are made from groups follow them; those of the data set itself do not.
    place = "one group" if report.seed is not None else "one group and one split"
    cure += [f"give the copies of a picture {place}"] * bool(report.leaking_copies)
    raise DataError(
        describe_leak(report),
        remedy=f"run `{_check_command(report)}` for the list, {' and '.join(cure)}, "
        "or convert with --drop-leaks, which leaves them out of training",
    )


def _check_command(report: DataReport) -> str:
    """What to type to see this very report."""
    words = ["edge", "data", "check", report.folder]
    words += ["--seed", str(report.seed)] * (report.seed is not None)
    # With `=`, because a pattern may begin with a dash.
    words += ["--embeddings"] * report.embeddings
    words += [f"--group-pattern={report.group_pattern}"] * (report.group_pattern is not None)
    return shlex.join(words)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _splits_by_group(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Pictures by group and split, splits in the order train, val, test."""
    table: dict[str, dict[str, int]] = {}
    for sample in sorted(samples, key=lambda s: SPLITS.index(s.its_split)):
        by_split = table.setdefault(sample.group, {})
        by_split[sample.its_split] = by_split.get(sample.its_split, 0) + 1
    return table


def _group_leaks(samples: Sequence[Sample]) -> tuple[GroupLeak, ...]:
    groups = _splits_by_group(samples)
    return tuple(GroupLeak(group=g, pictures=groups[g]) for g in sorted(groups) if len(groups[g]) > 1)


def _count_groups(dataset: Dataset) -> dict[str, int]:
    return {split: len({s.group for s in dataset.of_split(split)}) for split in dataset.counts()}


def _sizes(sizes: Sequence[tuple[int, int]]) -> Sizes | None:
    if not sizes:
        return None
    low, middle, high = (
        (int(w), int(h)) for w, h in (np.min(sizes, axis=0), np.median(sizes, axis=0), np.max(sizes, axis=0))
    )
    return Sizes(smallest=low, median=middle, largest=high)
