"""Pictures that a bundle should not answer, and ones that it should: drawn, or made of its own and of others.

All functions take and give RGB, (height, width, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.acceptance import Reason

Picture = NDArray[np.uint8]
Change = Callable[[Picture], Picture]
CROPS = 3
LEAST_CROP_PX = 180


def blur(sigma: float) -> Change:
    """Out of focus: Gaussian, in pixels of an input of 224."""
    return lambda p: np.asarray(cv2.GaussianBlur(p, (0, 0), sigma * min(p.shape[:2]) / 224), np.uint8)


def blur_with_noise(sigma: float) -> Change:
    """The same before the sensor's noise (2 grey levels) and JPEG (quality 90)."""
    random = np.random.default_rng(0)

    def change(picture: Picture) -> Picture:
        grain = random.normal(0, 2, picture.shape[:2])[..., np.newaxis]
        return _jpeg((blur(sigma)(picture) + grain).clip(0, 255).astype(np.uint8), 90)

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


def channels_of(picture: Picture, own: Picture) -> Picture:
    """Each channel with the histogram that it has in another picture, of its own size then."""
    picture = np.asarray(cv2.resize(picture, own.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
    made = np.empty_like(own)
    for channel in range(3):
        made[..., channel] = np.sort(own[..., channel].ravel())[_ranks(picture[..., channel])]
    return made


def colours_of(picture: Picture, own: Picture) -> Picture:
    """The colours that another picture has, darkest to brightest, in the order of this one's brightness."""
    picture = np.asarray(cv2.resize(picture, own.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
    by_luma = own.reshape(-1, 3)[np.argsort(_luma(own).ravel(), kind="stable")]
    smooth = cv2.blur(by_luma.reshape(-1, 1, 3), (1, 201)).reshape(-1, 3)
    return np.asarray(smooth[_ranks(_luma(picture))], np.uint8)


def scrambled(own: Picture, random: np.random.Generator) -> Picture:
    """Its spectrum, channel by channel, with other phases: its colours and grain, and nothing in their place."""
    phases = np.exp(1j * np.angle(np.fft.fft2(random.normal(size=own.shape[:2]))))
    planes = [np.real(np.fft.ifft2(np.fft.fft2(own[..., c].astype(float)) * phases)) for c in range(3)]
    return np.asarray(np.stack(planes, axis=-1).clip(0, 255), np.uint8)


def patterned(own: Picture, size: float, random: np.random.Generator) -> Picture:
    """Noise of spots of a size, in pixels of an input of 224, in a picture's colours."""
    side = min(own.shape[:2])
    plane = cv2.GaussianBlur(random.normal(size=own.shape[:2]), (0, 0), size * side / 224)
    level = (128 + 40 * plane / plane.std()).clip(0, 255).astype(np.uint8)
    return colours_of(np.dstack([level] * 3), own)


def crops(picture: Picture, random: np.random.Generator) -> Iterable[Picture]:
    """The middle square, and squares of half and quarter size from anywhere."""
    side = min(picture.shape[:2])
    for part, count in ((1, 1), (2, CROPS), (4, CROPS)):
        size = side // part
        for _ in range(count if size >= LEAST_CROP_PX or part == 1 else 0):
            y, x = (int(random.integers(0, length - size + 1)) for length in picture.shape[:2])
            yield np.ascontiguousarray(picture[y : y + size, x : x + size])


def _luma(picture: Picture) -> Picture:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def _ranks(plane: Picture) -> NDArray[np.int64]:
    """The place of each pixel among all, by value."""
    order = np.argsort(plane.ravel(), kind="stable")
    ranks = np.empty(plane.size, np.int64)
    ranks[order] = np.arange(plane.size)
    return ranks.reshape(plane.shape)


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
