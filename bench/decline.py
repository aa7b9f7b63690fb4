"""What a bundle declines: pictures of other kinds, and its own validation pictures made worse, step by step.

Usage: python bench/decline.py BUNDLE --data FOLDER [--other FOLDER ...] [--photos FOLDER] [--out FILE.csv]
FOLDER of --data and --other: labelled data sets with a split `val`; of --photos: photographs, of which squares of
whole, half and quarter size are cut. Prints tables in Markdown: false alarms, what was caught (not `clear`), the curves
by strength, and what the checks cost in time, in turns with the network. Screens through the runtime, from pixels on.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.acceptance import ADVICE, Reason
from edge.dataset import read_dataset
from edge.record import Verdict
from edge_runtime.acceptance import Inspector
from edge_runtime.pipeline import Screener

Picture = NDArray[np.uint8]
Change = Callable[[Picture], Picture]
CROPS = 3
LEAST_CROP_PX = 180
TIMED = 300


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


def blur(sigma: float) -> Change:
    """Out of focus: Gaussian, in pixels of an input of 224."""
    return lambda p: np.asarray(cv2.GaussianBlur(p, (0, 0), sigma * min(p.shape[:2]) / 224), np.uint8)


def blur_with_noise(sigma: float) -> Change:
    """The same before the sensor's noise (2 grey levels) and JPEG (quality 90)."""
    random = np.random.default_rng(0)

    def change(picture: Picture) -> Picture:
        grain = random.normal(0, 2, picture.shape[:2])[..., np.newaxis]
        noisy = (blur(sigma)(picture) + grain).clip(0, 255).astype(np.uint8)
        jpeg = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        return np.ascontiguousarray(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])

    return change


def brightness(factor: float) -> Change:
    """All pixels times a factor, clipped."""
    return lambda p: np.asarray((p * factor).clip(0, 255), np.uint8)


def haze(share: float) -> Change:
    """Contrast shrunk to a share, about the mean."""
    return lambda p: np.asarray((p * share + (1 - share) * p.mean()).clip(0, 255), np.uint8)


def monitor(picture: Picture) -> Picture:
    """A photograph of a screen: moire, a slant, a blue cast."""
    h, w = picture.shape[:2]
    wave = 1 + 0.12 * np.sin(np.arange(h) * 2.33)[:, None] * np.sin(np.arange(w) * 2.03)[None]
    tilted = cv2.warpAffine(
        (picture * wave[..., None]).clip(0, 255).astype(np.uint8),
        cv2.getRotationMatrix2D((w / 2, h / 2), 6, 1.05),
        (w, h),
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray((cv2.GaussianBlur(tilted, (0, 0), 0.7) * np.array([0.8, 0.95, 1.15])).clip(0, 255), np.uint8)


def grey(picture: Picture) -> Picture:
    """Without its colours."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


WORSE: tuple[tuple[str, Reason, Callable[[float], Change], tuple[float, ...]], ...] = (
    ("blurred, sigma in px of 224", "blurred", blur, (1, 1.5, 2, 2.5, 3, 4, 6)),
    ("blurred, then noise and JPEG", "blurred", blur_with_noise, (1, 1.5, 2, 2.5, 3, 4, 6)),
    ("darker, times", "too_dark", brightness, (0.8, 0.7, 0.6, 0.5, 0.35, 0.2)),
    ("over-exposed, times", "over_exposed", brightness, (1.1, 1.2, 1.3, 1.5, 1.8, 2.5)),
    ("less contrast, times", "flat", haze, (0.7, 0.5, 0.3, 0.15, 0.05)),
)
MADE: tuple[tuple[str, Change], ...] = (
    ("own, colours inverted", lambda p: np.asarray(255 - p, np.uint8)),
    ("own, red and blue swapped", lambda p: np.ascontiguousarray(p[..., ::-1])),
    ("own, without colours", grey),
    ("own, turned by 90 degrees", lambda p: np.ascontiguousarray(np.rot90(p))),
    ("own, photographed from a screen", monitor),
    ("own, the middle 16th enlarged", lambda p: np.ascontiguousarray(_middle(p, 4))),
)
HARMLESS: tuple[tuple[str, Change], ...] = (
    ("JPEG, quality 50", lambda p: _jpeg(p, 50)),
    ("a tenth brighter", brightness(1.1)),
    ("a tenth darker", brightness(0.9)),
    ("red and blue 5 % apart", lambda p: np.asarray((p * np.array([1.05, 1, 0.95])).clip(0, 255), np.uint8)),
    ("noise of 2 grey levels", lambda p: _noise(p, 2)),
)


def drawn(random: np.random.Generator) -> dict[str, list[Picture]]:
    """Noise, flat pictures, walls and a thumb over the lens, 480 x 640 pixels."""
    sets: dict[str, list[Picture]] = {"noise": [], "flat": [], "white wall": [], "thumb over the lens": []}
    for mean in (60, 128, 200):
        for spread in (10, 30, 60):
            for channels in (1, 3) * 3:
                noise = random.normal(mean, spread, (480, 640, channels)).clip(0, 255).astype(np.uint8)
                sets["noise"].append(np.ascontiguousarray(np.broadcast_to(noise, (480, 640, 3))))
    for level in range(0, 256, 15):
        sets["flat"].append(np.full((480, 640, 3), level, np.uint8))
        sets["flat"].append(np.full((480, 640, 3), random.integers(0, 256, 3), np.uint8))
    for _ in range(60):
        tint, level = random.uniform(0.93, 1.0, 3), random.uniform(190, 250)
        sets["white wall"].append(_shaded(random, level * tint, random.choice([0, 0.1, 0.25, 0.5])))
        skin = np.array([1, random.uniform(0.35, 0.55), random.uniform(0.25, 0.45)])
        sets["thumb over the lens"].append(_shaded(random, random.uniform(30, 140) * skin, random.uniform(0.1, 0.4)))
    return sets


def crops(picture: Picture, random: np.random.Generator) -> Iterable[Picture]:
    """The middle square, and squares of half and quarter size from anywhere."""
    side = min(picture.shape[:2])
    for part, count in ((1, 1), (2, CROPS), (4, CROPS)):
        size = side // part
        for _ in range(count if size >= LEAST_CROP_PX or part == 1 else 0):
            y, x = (int(random.integers(0, length - size + 1)) for length in picture.shape[:2])
            yield np.ascontiguousarray(picture[y : y + size, x : x + size])


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
    others: list[Tried] = []
    for folder in given.other:
        pictures = _validation(screener, folder)
        others.append(_try(screener, folder.name, pictures, len(pictures)))
    random = np.random.default_rng(0)
    others += [_try(screener, name, pictures, len(pictures)) for name, pictures in drawn(random).items()]
    if given.photos:
        files = sorted(path for path in given.photos.iterdir() if path.is_file())
        cut = [crop for path in files for crop in crops(_photo(path), random)]
        others.append(_try(screener, "photographs", cut, len(files)))
    others += [_try(screener, name, [change(p) for p in own], len(own)) for name, change in MADE]
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


def _validation(screener: Screener, folder: Path) -> list[Picture]:
    samples = read_dataset(folder).of_split("val")
    return [screener.manifest.preprocessing.decode(sample.path.read_bytes()) for sample in samples]


def _photo(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} is no picture")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _shaded(random: np.random.Generator, colour: NDArray[np.float64], depth: float) -> Picture:
    rows, columns = np.mgrid[0:480, 0:640]
    away = ((rows / 480 - random.random()) ** 2 + (columns / 640 - random.random()) ** 2)[..., np.newaxis]
    grain = random.normal(0, 1.5, (480, 640, 1))
    return np.asarray((colour * (1 - depth * away) + grain).clip(0, 255), np.uint8)


def _middle(picture: Picture, part: int) -> Picture:
    side = min(picture.shape[:2])
    size = side // part
    y, x = (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2
    return np.asarray(cv2.resize(picture[y : y + size, x : x + size], (side, side)), np.uint8)


def _jpeg(picture: Picture, level: int) -> Picture:
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, level])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])


def _noise(picture: Picture, spread: float) -> Picture:
    # The same in every channel: a grey picture's noise is grey.
    grain = np.random.default_rng(int(picture.sum()) % 2**32).normal(0, spread, (*picture.shape[:2], 1))
    return np.asarray((picture + grain).clip(0, 255), np.uint8)


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
        tensor = preprocessing.to_input(picture)
        place = preprocessing.place(picture.shape[1], picture.shape[0])
        start = time.perf_counter()
        inspector.picture(tensor, place)
        looked = time.perf_counter()
        network.run(tensor)
        embedding = network.output("embedding")
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
