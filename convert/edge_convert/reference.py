"""The reference set: training pictures as known cases, embedded by the int8 file through the runtime.

It is of the training split alone, so what is measured on validation and test pictures stays honest.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle
from edge.fields import build, plain
from edge.reference import Cases, Reference, pack_cases, thumbnail
from edge_convert.prepare import Prepared, share_out
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_runtime.metrics import Interval, wilson
from edge_runtime.pipeline import Screener
from edge_runtime.similar import embedding_coding, nearest_codes

NEIGHBOURS = 5
CANDIDATES = 10
"""A class of which few are taken gives that many times as many to choose from; embedding all would only cost time."""
ROUNDS = 20
RECORD = "reference.json"
NAMES = "names.csv"


@dataclass(frozen=True, kw_only=True)
class OwnClass:
    """Validation pictures of one label, or of all (`label` empty), against the reference set.

    share: of their nearest cases, those with the picture's own label. majority: pictures most of whose nearest cases
    have it, with Wilson's interval.
    """

    label: str
    n: int
    share: float
    majority: Interval


@dataclass(frozen=True, kw_only=True)
class ReferenceSet:
    """What a build knows of its reference set. agreement: all validation pictures, then those of each label."""

    record: Reference
    neighbours: int
    agreement: tuple[OwnClass, ...]


def make_reference(recipe: Recipe, prepared: Prepared, draft: Bundle, folder: Path) -> Steps[None]:
    """Choose, embed and measure the reference set, into `folder`. draft: a bundle that can screen.

    What was chosen is named in `names.csv` there, which stays at the workstation. Raises EdgeError.
    """
    screener = Screener(draft)
    coding = embedding_coding(draft, screener.network)
    quotas = share_out(_counts(prepared), recipe.reference.pictures)
    candidates = _candidates(recipe, prepared, quotas)
    validation = prepared.rows("val")
    total = len(candidates) + len(validation)
    codes: list[NDArray[np.uint8]] = []
    for row in (*candidates, *validation):
        screener.network.run(np.ascontiguousarray(prepared.pictures[row]))
        codes.append(coding.codes(screener.network.output("embedding")))
        yield Progress(done=len(codes), total=total)
    known, asked = np.stack(codes[: len(candidates)]), np.stack(codes[len(candidates) :])
    kept = _choose(prepared.targets[candidates], known, quotas, recipe.seed)
    rows = candidates[kept]
    cases = _cases(recipe, prepared, rows, np.ascontiguousarray(known[kept]))
    record, parts = pack_cases(
        cases,
        recipe.classes,
        coding,
        chosen_from=len(prepared.rows("train")),
        thumbnail_px=recipe.reference.thumbnail_px,
    )
    truth = [recipe.classes[target] for target in prepared.targets[validation]]
    agreement = own_class(cases, asked, truth, recipe.classes)
    made = ReferenceSet(record=record, neighbours=NEIGHBOURS, agreement=agreement)
    _save(folder, made, parts, _named(prepared, rows, cases))
    yield Progress(done=total, total=total, note=_headline(made, sum(map(len, parts.values()))))


def load_reference(folder: Path) -> tuple[ReferenceSet, dict[str, bytes]]:
    """What `make_reference` wrote: the record and the bundle's parts."""
    made = build(ReferenceSet, json.loads((folder / RECORD).read_text(encoding="utf-8")))
    return made, {member: (folder / Path(member).name).read_bytes() for member in made.record.members}


def own_class(
    cases: Cases, asked: NDArray[np.uint8], labels: Sequence[str], order: Sequence[str]
) -> tuple[OwnClass, ...]:
    """How often pictures' nearest cases have their own label: of all, then of each label in that order.

    asked: (n, channels) codes. labels: of these n pictures.
    """
    known = np.array(cases.labels)
    own = np.array(
        [known[nearest_codes(cases.codes, q, NEIGHBOURS)[1]] == b for q, b in zip(asked, labels, strict=True)]
    )
    truth = np.array(labels)
    groups = {"": np.ones(len(truth), bool), **{label: truth == label for label in order}}
    return tuple(
        OwnClass(
            label=label,
            n=int(chosen.sum()),
            share=float(own[chosen].mean()),
            majority=wilson(int((own[chosen].mean(axis=1) > 0.5).sum()), int(chosen.sum())),
        )
        for label, chosen in groups.items()
        if chosen.any()
    )


def medoids(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """Rows that stand for all: the one nearest to the centre of each of `count` clusters (k-means), ascending.

    vectors: (n, channels), n above count. Where rows are the same and clusters come out empty, others fill up. Drawn at
    random, the rare kinds within a class would be missed; taking the outermost would keep mostly oddities.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # One thread: with several the sums, and so the choice, would depend on their order.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(count, n_init=1, max_iter=ROUNDS, random_state=seed).fit(vectors)
    distances = ((vectors - found.cluster_centers_[found.labels_]) ** 2).sum(axis=1)
    nearest_first = np.lexsort((distances, found.labels_))
    _, firsts = np.unique(found.labels_[nearest_first], return_index=True)
    chosen = nearest_first[firsts]
    others = np.setdiff1d(np.arange(len(vectors)), chosen)
    filling = np.random.default_rng(seed).permutation(others)[: count - len(chosen)]
    return np.sort(np.concatenate([chosen, filling]))


def _counts(prepared: Prepared) -> list[int]:
    """Training pictures by class."""
    counts = np.bincount(prepared.targets[prepared.rows("train")], minlength=len(prepared.classes))
    return [int(count) for count in counts]


def _candidates(recipe: Recipe, prepared: Prepared, quotas: Sequence[int]) -> NDArray[np.int64]:
    """Rows of training pictures to choose from, ascending: all of a class, or CANDIDATES times its quota at random."""
    random = np.random.default_rng(recipe.seed)
    train = prepared.rows("train")
    drawn = [
        random.permutation(train[prepared.targets[train] == index])[: CANDIDATES * quota]
        for index, quota in enumerate(quotas)
    ]
    return np.sort(np.concatenate(drawn))


def _choose(
    targets: NDArray[np.int64], codes: NDArray[np.uint8], quotas: Sequence[int], seed: int
) -> NDArray[np.int64]:
    """Which of the candidates are kept, ascending. targets, codes: theirs."""
    kept = []
    for index, quota in enumerate(quotas):
        rows = np.flatnonzero(targets == index)
        if 0 < quota < len(rows):
            rows = rows[medoids(codes[rows].astype(np.float32), quota, seed)]
        kept.append(rows)
    return np.sort(np.concatenate(kept))


def _cases(recipe: Recipe, prepared: Prepared, rows: NDArray[np.int64], codes: NDArray[np.uint8]) -> Cases:
    """The chosen pictures as cases, named by numbers where the recipe does not say that names may leave the house."""
    asked = recipe.reference
    samples = [prepared.samples[row] for row in rows]
    groups = list(dict.fromkeys(sample.group for sample in samples))
    numbers = {group: f"g{number:04d}" for number, group in enumerate(groups, start=1)}
    return Cases(
        codes=codes,
        ids=tuple(s.name if asked.names else f"{number:05d}" for number, s in enumerate(samples, start=1)),
        labels=tuple(sample.label for sample in samples),
        groups=tuple((s.group if asked.names else numbers[s.group]) if prepared.has_groups else "" for s in samples),
        thumbnails=[thumbnail(prepared.pictures[row], asked.thumbnail_px) for row in rows]
        if asked.thumbnail_px
        else (),
    )


def _named(prepared: Prepared, rows: NDArray[np.int64], cases: Cases) -> list[tuple[str, ...]]:
    samples = [prepared.samples[row] for row in rows]
    known = zip(cases.ids, cases.groups, samples, strict=True)
    return [(id_, group, sample.name, sample.group, sample.label) for id_, group, sample in known]


def _save(folder: Path, made: ReferenceSet, parts: dict[str, bytes], named: list[tuple[str, ...]]) -> None:
    (folder / RECORD).write_text(json.dumps(plain(made), indent=1), encoding="utf-8")
    for member, data in parts.items():
        (folder / Path(member).name).write_bytes(data)
    with (folder / NAMES).open("w", encoding="utf-8", newline="", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "group", "picture", "group_in_the_data_set", "label"))
        writer.writerows(named)


def _headline(made: ReferenceSet, size: int) -> str:
    every = made.agreement[0]
    of_each = ", ".join(f"{count} {label}" for label, count in made.record.counts.items())
    return (
        f"{made.record.n} of {made.record.chosen_from} training pictures ({of_each}), {size / 1e6:.2f} MB; of the "
        f"{made.neighbours} nearest to each of {every.n} validation pictures {every.share:.4f} have its label"
    )
