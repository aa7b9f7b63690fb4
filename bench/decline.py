"""What a bundle declines: pictures of other kinds, and its own validation pictures made worse, step by step.

Usage: python bench/decline.py BUNDLE --data FOLDER [--other FOLDER ...] [--photos FOLDER] [--out FILE.csv]
FOLDER of --data and --other: labelled data sets with a split `val`; of --photos: photographs, of which squares of
whole, half and quarter size are cut. All of these, and patterned noise, are also shown in the bundle's own colours.
Prints tables in Markdown: false alarms, what was caught (not `clear`), the curves by strength, and what the checks cost
in time, in turns with the network. Screens through the runtime, from pixels on.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from decline_pictures import HARMLESS, MADE, WORSE, Picture, channels_of, colours_of, crops, drawn, patterned, scrambled

from edge.acceptance import ADVICE, Reason
from edge.dataset import read_dataset
from edge.preprocess import Decoded, decode
from edge.record import Verdict
from edge_runtime.acceptance import Inspector
from edge_runtime.pipeline import Screener

TIMED = 300
DRAWN = 100
PATTERNS = (2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A set of pictures and what became of them.

    strength: of pictures made worse, else empty. reason: the right one.
    """

    name: str
    strength: str = ""
    reason: Reason | None = None
    sources: int
    verdicts: tuple[Verdict, ...]

    def share(self, *decisions: str) -> float:
        """Of the pictures, those decided so."""
        return float(np.mean([v.decision in decisions for v in self.verdicts]))

    @property
    def right(self) -> float | None:
        """Share that is `retake` with the right sentence."""
        if self.reason is None:
            return None
        return float(np.mean([v.decision == "retake" and v.advice == ADVICE[self.reason] for v in self.verdicts]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--other", type=Path, action="append", default=[])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path, help="the same numbers as CSV")
    given = parser.parse_args()
    screener = Screener.open(given.bundle, threads=1)
    own = _validation(screener, given.data)
    tried = [_try(screener, "own, as they are", own, len(own))]
    tried += [_try(screener, f"own, {name}", [change(p) for p in own], len(own)) for name, change in HARMLESS]
    _alarms(tried)
    random = np.random.default_rng(0)
    strange: list[tuple[str, Sequence[Picture]]] = [
        (folder.name, _validation(screener, folder)) for folder in given.other
    ]
    sources = {name: len(pictures) for name, pictures in strange}
    if given.photos:
        files = sorted(path for path in given.photos.iterdir() if path.is_file())
        strange.append(("photographs", [crop for path in files for crop in crops(_photo(path), random)]))
        sources["photographs"] = len(files)
    others = [_try(screener, name, pictures, sources[name]) for name, pictures in strange]
    others += [_try(screener, name, pictures, len(pictures)) for name, pictures in drawn(random).items()]
    others += [_try(screener, name, [change(p) for p in own], len(own)) for name, change in MADE]
    others += _disguised(screener, own, strange, random)
    _others(others)
    worse = [
        _try(screener, name, [make(step)(p) for p in own], len(own), strength=f"{step:g}", reason=reason)
        for name, reason, make, steps in WORSE
        for step in steps
    ]
    _curves(worse)
    _time(screener, own)
    if given.out:
        _write(given.out, [*tried, *others, *worse])


def _try(
    screener: Screener,
    name: str,
    pictures: Sequence[Picture],
    sources: int,
    *,
    strength: str = "",
    reason: Reason | None = None,
) -> Tried:
    verdicts = tuple(screener.screen_frame(picture, name=name).verdict for picture in pictures)
    return Tried(name=name, strength=strength, reason=reason, sources=sources, verdicts=verdicts)


def _disguised(
    screener: Screener,
    own: Sequence[Picture],
    others: Sequence[tuple[str, Sequence[Picture]]],
    random: np.random.Generator,
) -> list[Tried]:
    """Pictures of other kinds in the colours of own ones, each of one drawn at random."""

    def drawn_from(count: int) -> list[Picture]:
        return [own[i] for i in random.integers(0, len(own), count)]

    sets = {}
    for name, pictures in others:
        for words, change in (("each channel as in own", channels_of), ("own colours by brightness", colours_of)):
            sets[f"{name}, {words}"] = [
                change(picture, tile) for picture, tile in zip(pictures, drawn_from(len(pictures)), strict=True)
            ]
    for size in PATTERNS:
        sets[f"noise of {size} px in own colours"] = [patterned(tile, size, random) for tile in drawn_from(DRAWN)]
    sets["own, phases scrambled"] = [scrambled(tile, random) for tile in drawn_from(DRAWN)]
    return [_try(screener, name, pictures, len(pictures)) for name, pictures in sets.items()]


def _validation(screener: Screener, folder: Path) -> list[Picture]:
    samples = read_dataset(folder).of_split("val")
    wide_range = screener.manifest.preprocessing.wide_range
    return [decode(sample.path.read_bytes(), wide_range=wide_range) for sample in samples]


def _photo(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} is no picture")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _alarms(tried: Sequence[Tried]) -> None:
    print("| legitimate pictures | n | retake | unlike | too close | refer or clear |\n|---|---|---|---|---|---|")
    for t in tried:
        unlike, close = (
            np.mean([r in v.reasons and v.decision == "uncertain" for v in t.verdicts]) for r in _UNCERTAIN
        )
        print(
            f"| {t.name} | {len(t.verdicts)} | {t.share('retake'):.3f} | {unlike:.3f} | {close:.3f} "
            f"| {t.share('refer', 'clear'):.3f} |"
        )


def _others(tried: Sequence[Tried]) -> None:
    print("\n| other pictures | sources | n | not clear | retake | uncertain | refer |\n|---|---|---|---|---|---|---|")
    for t in tried:
        print(
            f"| {t.name} | {t.sources} | {len(t.verdicts)} | {1 - t.share('clear'):.3f} | {t.share('retake'):.3f} "
            f"| {t.share('uncertain'):.3f} | {t.share('refer'):.3f} |"
        )


def _curves(tried: Sequence[Tried]) -> None:
    print("\n| own, made worse | strength | retake, right sentence | retake | not answered | clear |")
    print("|---|---|---|---|---|---|")
    for t in tried:
        print(
            f"| {t.name} | {t.strength} | {t.right:.3f} | {t.share('retake'):.3f} "
            f"| {t.share('retake', 'uncertain'):.3f} | {t.share('clear'):.3f} |"
        )


def _time(screener: Screener, pictures: Sequence[Picture]) -> None:
    """Milliseconds of the checks and of the network, one thread, in turns, median."""
    inspector = screener._inspector
    assert isinstance(inspector, Inspector)
    preprocessing, network = screener.manifest.preprocessing, screener.network
    times: list[tuple[float, float, float]] = []
    for turn in range(TIMED):
        picture = pictures[turn % len(pictures)]
        tensor = preprocessing.to_input(Decoded.whole(picture))
        place = preprocessing.place(picture.shape[1], picture.shape[0])
        start = time.perf_counter()
        inspector.picture(tensor, place)
        looked = time.perf_counter()
        network.run(tensor)
        embedding = network.output("earlier_embedding")
        ran = time.perf_counter()
        inspector.network(embedding)
        times.append((looked - start, ran - looked, time.perf_counter() - ran))
    look, run, compare = np.median(np.array(times) * 1e3, axis=0)
    print(f"\nof the picture {look:.3f} ms, of the embedding {compare:.3f} ms; the network {run:.2f} ms; n = {TIMED}")


def _write(path: Path, tried: Sequence[Tried]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("set", "strength", "sources", "n", "refer", "clear", "uncertain", "retake", "right_sentence"))
        for t in tried:
            shares = [t.share(decision) for decision in ("refer", "clear", "uncertain", "retake")]
            writer.writerow((t.name, t.strength, t.sources, len(t.verdicts), *shares, t.right))


_UNCERTAIN = ("unlike", "close")

if __name__ == "__main__":
    main()
