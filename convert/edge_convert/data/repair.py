"""Leaks mended at the price of training pictures, where the one who builds asks for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from edge.dataset import SPLITS, Dataset
from edge_convert.data.check import DataReport


def drop_leaks(dataset: Dataset, report: DataReport) -> tuple[Dataset, tuple[str, ...]]:
    """The data set, which has splits, without the pictures that leak, and their names.

    Of a group or a set of copies that is in several splits, the pictures of the last one stay (test before val before
    train), so what is measured on stays whole and training loses what it must not see.
    """
    families = _families(dataset, report)
    last: dict[str, int] = defaultdict(int)
    for sample in dataset.samples:
        family = families[sample.name]
        last[family] = max(last[family], SPLITS.index(sample.its_split))
    kept = [s for s in dataset.samples if SPLITS.index(s.its_split) == last[families[s.name]]]
    names = {sample.name for sample in kept}
    dropped = tuple(sample.name for sample in dataset.samples if sample.name not in names)
    return replace(dataset, samples=tuple(kept)), dropped


def _families(dataset: Dataset, report: DataReport) -> dict[str, str]:
    """For each picture, the name of one that stands for all that are of its leaking group or copies of it."""
    parent = {sample.name: sample.name for sample in dataset.samples}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first_of_group: dict[str, str] = {}
    leaking = {leak.group for leak in report.group_leaks}
    for sample in dataset.samples:
        if sample.group in leaking:
            parent[find(sample.name)] = find(first_of_group.setdefault(sample.group, sample.name))
    for pair in report.copies:
        parent[find(pair.names[0])] = find(pair.names[1])
    return {name: find(name) for name in parent}
