"""The data stage: a checked data set becomes one array of network inputs, computed once by the device's own code."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.dataset import Dataset, Sample
from edge.errors import DataError, EdgeError, PictureError
from edge.names import first_few
from edge_convert.data.certificate import CERTIFICATE, read_certificate
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe, TrainRecipe
from edge_runtime.judgement import require_groups

PICTURES = "pictures.npy"
SAMPLES = "samples.json"
FORMAT = 2
"""Of what `prepare` leaves: a build's folder with an older one prepares the pictures again."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The readable pictures of a data set as the network sees them, before scaling.

    pictures: (n, side, side, channels) uint8, mapped from disk. samples: what they are, in that order. sizes: width and
    height of each upright picture, in pixels. targets: (n,) index of each label in the recipe's classes. unreadable:
    name and reason of each picture left out. dropped: names of those left out because they leaked between splits.
    certificate: of the data set as it was given, empty where no build made this.
    """

    name: str
    synthetic: bool
    has_groups: bool
    fingerprint: str
    classes: tuple[str, ...]
    pictures: NDArray[np.uint8] = field(repr=False)
    samples: tuple[Sample, ...] = field(repr=False)
    sizes: tuple[tuple[int, int], ...] = field(repr=False)
    targets: NDArray[np.int64] = field(repr=False)
    unreadable: tuple[tuple[str, str], ...]
    dropped: tuple[str, ...] = ()
    group_pattern: str | None = None
    certificate: dict[str, Any] = field(default_factory=dict, repr=False)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices of a split's pictures, ascending."""
        return np.array([i for i, sample in enumerate(self.samples) if sample.split == split], np.int64)

    def class_weights(self, recipe: TrainRecipe) -> NDArray[np.float32]:
        """A loss weight for each class, (classes,), mean 1 over the training pictures.

        `inverse` to its frequency, or to its effective number of pictures, (1 - beta^n) / (1 - beta) (Cui et al. 2019,
        eq. 2), or all 1.
        """
        counts = np.maximum(np.bincount(self.targets[self.rows("train")], minlength=len(self.classes)), 1)
        beta = recipe.effective_beta
        rarity = {
            "none": np.ones(len(counts)),
            "inverse": 1 / counts,
            "effective": (1 - beta) / (1 - beta**counts),
        }[recipe.class_weights]
        return np.asarray(rarity * counts.sum() / (rarity @ counts), np.float32)

    def summary(self) -> dict[str, Any]:
        """What the bundle and the report say of the data."""
        counts = {
            split: {c: int((self.targets[self.rows(split)] == i).sum()) for i, c in enumerate(self.classes)}
            for split in ("train", "val", "test")
            if len(self.rows(split))
        }
        return {
            "name": self.name,
            "synthetic": self.synthetic,
            "fingerprint": self.fingerprint,
            "counts": counts,
            "has_groups": self.has_groups,
            "group_pattern": self.group_pattern,
            "groups": len({sample.group for sample in self.samples}),
            "unreadable": len(self.unreadable),
            "dropped_leaks": len(self.dropped),
            "files": self.certificate.get("data", {}).get("fingerprint_of", {}).get("files"),
            "certificate": self.certificate.get("seal"),
            "findings": self.certificate.get("findings"),
        }


def prepare(recipe: Recipe, dataset: Dataset, fingerprint: str, dropped: tuple[str, ...], folder: Path) -> Steps[None]:
    """Preprocess every picture of a data set that has splits into `folder`. Raises DataError.

    dropped: names of pictures that were taken out of the data set before, because they leaked.
    """
    require_classes(recipe, dataset)
    require_groups(recipe.decision.level, dataset.has_groups)
    count = len(dataset.samples)
    shape = (count, *recipe.preprocessing.input_shape)
    pictures = np.lib.format.open_memmap(folder / PICTURES, mode="w+", dtype=np.uint8, shape=shape)
    with (folder / PICTURES).open("r+b") as file:
        # Claim the space now: a mapped file that finds the disk full later kills the process.
        size = file.seek(0, os.SEEK_END)
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise EdgeError(
                f"the {size / 1e6:,.0f} MB of prepared pictures do not fit below {folder.parent} ({error.strerror})",
                remedy="free space, or name another folder with --out",
            ) from None
    kept: list[Sample] = []
    sizes: list[tuple[int, int]] = []
    unreadable: list[tuple[str, str]] = []
    for done, sample in enumerate(dataset.samples, start=1):
        try:
            picture = recipe.preprocessing.decode(sample.path.read_bytes())
        except (PictureError, OSError) as error:
            unreadable.append((sample.name, str(error)))
        else:
            sample.require_boxes_inside(picture.width, picture.height)
            pictures[len(kept)] = recipe.preprocessing.to_input(picture)
            kept.append(sample)
            sizes.append((picture.width, picture.height))
        yield Progress(done=done, total=count)
    pictures.flush()
    _require_both(recipe, kept)
    fields = {
        "name": dataset.name,
        "synthetic": dataset.synthetic,
        "has_groups": dataset.has_groups,
        "group_pattern": dataset.group_pattern,
        "fingerprint": fingerprint,
        "folder": str(dataset.folder.resolve()),
        "classes": recipe.classes,
        "unreadable": unreadable,
        "dropped": dropped,
        "sizes": sizes,
        "samples": [[s.name, s.label, s.group, s.split, s.boxes] for s in kept],
    }
    (folder / SAMPLES).write_text(json.dumps(fields), encoding="utf-8")
    note = f"{len(kept)} pictures"
    if unreadable:
        note += f"; {len(unreadable)} UNREADABLE and left out: {first_few([name for name, _ in unreadable])}"
    if dropped:
        note += f"; {len(dropped)} dropped because they leak between splits: {first_few(dropped)}"
    yield Progress(done=count, total=count, note=note)


def load_prepared(folder: Path) -> Prepared:
    """What `prepare` wrote, and the certificate beside it."""
    fields = json.loads((folder / SAMPLES).read_text(encoding="utf-8"))
    root = Path(fields["folder"])
    samples = tuple(
        Sample(path=root / name, name=name, label=label, group=group, split=split, boxes=tuple(map(tuple, boxes)))
        for name, label, group, split, boxes in fields["samples"]
    )
    classes = tuple(fields["classes"])
    return Prepared(
        name=fields["name"],
        synthetic=fields["synthetic"],
        has_groups=fields["has_groups"],
        group_pattern=fields["group_pattern"],
        fingerprint=fields["fingerprint"],
        classes=classes,
        pictures=np.load(folder / PICTURES, mmap_mode="r")[: len(samples)],
        samples=samples,
        sizes=tuple((width, height) for width, height in fields["sizes"]),
        targets=np.array([classes.index(sample.label) for sample in samples], np.int64),
        unreadable=tuple((name, reason) for name, reason in fields["unreadable"]),
        dropped=tuple(fields["dropped"]),
        certificate=read_certificate(folder / CERTIFICATE),
    )


def require_classes(recipe: Recipe, dataset: Dataset) -> None:
    """Raise DataError where the recipe's classes are not the data set's labels."""
    if set(dataset.classes) != set(recipe.classes):
        raise DataError(
            f"the data set has the classes {', '.join(dataset.classes)}; the recipe has {', '.join(recipe.classes)}",
            remedy="make `classes` in the recipe name the data set's labels",
        )


def _require_both(recipe: Recipe, samples: list[Sample]) -> None:
    """Training needs every class; validation a positive and a negative picture."""
    trained = {sample.label for sample in samples if sample.split == "train"}
    absent = [label for label in recipe.classes if label not in trained]
    if absent:
        raise DataError(
            f"the split 'train' has no readable picture of {first_few(absent)}",
            remedy="add pictures, or change the split",
        )
    found = {sample.label in recipe.positive for sample in samples if sample.split == "val"}
    if found != {True, False}:
        kind = "positive" if True not in found else "negative"
        raise DataError(
            f"the split 'val' has no readable picture of a {kind} class", remedy="add pictures, or change the split"
        )


def share_out(counts: Sequence[int], pictures: int) -> list[int]:
    """How many of each class: equal shares, and what a rare class leaves of its share goes to the others.

    A class rarer than its share is kept whole. counts: pictures there are. Returns as many numbers, in their order.
    """
    shares = [0] * len(counts)
    left = pictures
    for place, index in enumerate(sorted(range(len(counts)), key=lambda i: (counts[i], i))):
        shares[index] = min(counts[index], left // (len(counts) - place))
        left -= shares[index]
    return shares
