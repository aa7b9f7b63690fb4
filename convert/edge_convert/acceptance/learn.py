"""Limits of quality, and what distances are measured from: learned from the training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge.acceptance import Acceptance, Limits
from edge_convert.acceptance.copies import blurred, by_another_camera
from edge_convert.acceptance.limits import lower_limit, upper_limit
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_runtime.interpreter import Network
from edge_runtime.novelty import Familiar, to_bytes
from edge_runtime.quality import COLOUR, DETAIL, feature_names, features, quality

Floats = NDArray[np.float64]

FAMILIAR = "familiar.npz"
MOST_PICTURES = 4000
"""Of the training pictures, drawn at random: more tell no more."""

BLURRED = 500
"""Pictures that blurred copies are made of."""

COPIED = 1000
"""Pictures of which a copy by another camera is shown to the network too: its noise and JPEG are then no novelty."""

FEATURE_FLOOR = 0.5
"""Added to each feature's standard deviation, in its own units, so that another camera's slightly other noise, JPEG or
white balance is not what a picture is refused for, least of all in a set from one camera."""

GREY_COLOUR_FLOOR = 1.0
"""The same of the colours, where training has none: grey pictures say nothing of how far a cast may go."""

DIRECTIONS = 32
PICTURES_A_DIRECTION = 4
SIZE_MARGIN, CONTRAST_MARGIN, BRIGHTNESS_MARGIN, WHITE_MARGIN = 0.75, 0.75, 0.9, 0.05
"""How far beyond what training has a limit lies: shares of it; of white, five points of a hundred. Focus has none."""

LEAST_COLOUR_LIMIT = 2.0
"""A cast of about a tenth of a channel: grey pictures have one colour alone, and a limit of 0 would refuse others."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """From the training pictures. acceptance: limits of quality. familiar: the part distances are measured from."""

    acceptance: Acceptance
    familiar: bytes = field(repr=False)


def learn(recipe: Recipe, prepared: Prepared, network: Network) -> Steps[Learned | None]:
    """Limits of quality and what is known, from the training pictures. network: the int8 file's.

    None where the recipe asks for no limit. Yields a step a picture.
    """
    asked, rows = recipe.acceptance, _drawn(prepared, recipe.seed)
    if not (asked.quality or asked.novelty or asked.uncertain):
        return None
    found: list[Floats] = []
    sizes: list[int] = []
    for done, row in enumerate(rows, start=1):
        place = recipe.preprocessing.place(*prepared.sizes[row])
        found.append(features(np.ascontiguousarray(prepared.pictures[row]), place))
        sizes.append(min(place.source_xywh[2:]))
        yield Progress(done=done, total=len(rows))
    table = np.array(found)
    embeddings, targets = np.empty((0, 0), np.float32), np.empty(0, np.int64)
    if asked.novelty and network.has("earlier_embedding"):
        embeddings, targets = yield from _seen(recipe, prepared, network, rows)
    familiar = learn_familiar(table, embeddings, targets, channels=recipe.preprocessing.channels)
    weights = focus_weights(table, _blurred_features(recipe, prepared, rows))
    names = feature_names(recipe.preprocessing.channels)
    draft = Acceptance(
        features=names,
        focus_weights=tuple(map(float, weights)),
        limits={},
        familiar=FAMILIAR,
        clear_below=None,
        fitted_on=f"{len(rows)} training pictures",
    )
    limits = quality_limits(draft, familiar, table, sizes, recipe) if asked.quality else {}
    return Learned(acceptance=replace(draft, limits=limits), familiar=to_bytes(familiar))


def learn_familiar(
    table: Floats, embeddings: NDArray[np.float32], targets: NDArray[np.int64], *, channels: int
) -> Familiar:
    """What distances are measured from. table: (n, features). embeddings: (m, channels), or empty. targets: (m,)."""
    floors = np.full(table.shape[1], FEATURE_FLOOR)
    if channels == 3 and _all_grey(table[:, -len(COLOUR) :]):
        floors[-len(COLOUR) :] = GREY_COLOUR_FLOOR
    scatter = np.cov(table, rowvar=False) + np.diag(floors**2)
    colours = scatter[-len(COLOUR) :, -len(COLOUR) :] if channels == 3 else np.empty((0, 0))
    spread = _of_embeddings(embeddings, targets) if embeddings.size else {}
    nothing: dict[str, Floats] = {
        "embedding_mean": np.empty(0),
        "directions": np.empty((0, 0)),
        "centres": np.empty((0, 0)),
        "whitener": np.empty((0, 0)),
        "rest": np.array(1.0),
    }
    arrays = {
        "picture_mean": table.mean(axis=0),
        "picture_whitener": _whitener(scatter),
        "colour_whitener": _whitener(colours) if colours.size else colours,
        **(spread or nothing),
    }
    return Familiar(**{name: np.asarray(array, np.float32) for name, array in arrays.items()})


def focus_weights(sharp: Floats, blurred: Floats) -> Floats:
    """The combination of the features of detail that best tells pictures from blurred copies of them (Fisher 1936).

    sharp: (n, features). blurred: (m, features). Returns (features,), zero but for the detail; their sizes sum to 1.
    """
    first = len(feature_names(1)) - len(DETAIL)
    detail = slice(first, first + len(DETAIL))
    scatter = np.cov(sharp[:, detail], rowvar=False) + np.cov(blurred[:, detail], rowvar=False)
    scatter += 1e-3 * np.trace(scatter) / len(DETAIL) * np.eye(len(DETAIL))
    weights = np.zeros(sharp.shape[1])
    weights[detail] = np.linalg.solve(scatter, sharp[:, detail].mean(axis=0) - blurred[:, detail].mean(axis=0))
    return np.asarray(weights / max(np.abs(weights).sum(), 1e-12))


def quality_limits(
    draft: Acceptance, familiar: Familiar, table: Floats, sizes: Sequence[int], recipe: Recipe
) -> dict[str, Limits]:
    """What the training pictures leave room for. table: their features, (n, features). sizes: shorter sides, px."""
    share = recipe.acceptance.quality
    place = recipe.preprocessing.place(recipe.preprocessing.side_px, recipe.preprocessing.side_px)
    rows = [quality(draft, row, place) for row in table]
    measured = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    limits = {
        "size_px": Limits(low=_least_size(np.array(sizes, np.float64), recipe.preprocessing.side_px)),
        "brightness": Limits(
            low=BRIGHTNESS_MARGIN * max(0.0, lower_limit(measured["brightness"], share / 2)),
            high=upper_limit(measured["brightness"], share / 2) / BRIGHTNESS_MARGIN,
        ),
        "white": Limits(high=upper_limit(measured["white"], share) + WHITE_MARGIN),
        "contrast": Limits(low=CONTRAST_MARGIN * max(0.0, lower_limit(measured["contrast"], share))),
        "focus": Limits(low=lower_limit(measured["focus"], share)),
    }
    if familiar.colour_whitener.size:
        far = np.array([familiar.colour_distance(row) for row in table])
        limits["colour"] = Limits(high=max(upper_limit(far, share), LEAST_COLOUR_LIMIT))
    return limits


def _drawn(prepared: Prepared, seed: int) -> NDArray[np.int64]:
    rows = prepared.rows("train")
    if len(rows) <= MOST_PICTURES:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_PICTURES, replace=False))


def _blurred_features(recipe: Recipe, prepared: Prepared, rows: NDArray[np.int64]) -> Floats:
    """Features of blurred copies of training pictures."""
    random = np.random.default_rng(recipe.seed)
    found = []
    for row in random.choice(rows, min(len(rows), BLURRED), replace=False):
        place = recipe.preprocessing.place(*prepared.sizes[row])
        found += [features(copy, place) for copy in blurred(prepared.pictures[row], place, random)]
    return np.array(found)


def _seen(
    recipe: Recipe, prepared: Prepared, network: Network, rows: NDArray[np.int64]
) -> Steps[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """What the network makes of training pictures and of copies by another camera: (n, channels), and (n,) targets."""
    random = np.random.default_rng(recipe.seed)
    copied = random.choice(rows, min(len(rows), COPIED), replace=False)
    shown = [(row, False) for row in rows] + [(row, True) for row in copied]
    found = []
    for done, (row, changed) in enumerate(shown, start=1):
        picture = np.ascontiguousarray(prepared.pictures[row])
        if changed:
            picture = by_another_camera(picture, recipe.preprocessing.place(*prepared.sizes[row]), random)
        network.run(picture)
        found.append(network.output("earlier_embedding"))
        yield Progress(done=done, total=len(shown))
    return np.array(found), prepared.targets[[row for row, _ in shown]]


def _of_embeddings(embeddings: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, Floats]:
    mean = embeddings.mean(axis=0)
    away = np.asarray(embeddings - mean, np.float64)
    count = min(DIRECTIONS, max(1, len(away) // PICTURES_A_DIRECTION), away.shape[1])
    _, vectors = np.linalg.eigh(away.T @ away)
    # As the part has them, so that what was fitted is what is measured.
    directions = vectors[:, ::-1][:, :count].T.astype(np.float16).astype(np.float64)
    inside = away @ directions.T
    classes, which = np.unique(targets, return_inverse=True)
    centres = np.array([inside[which == index].mean(axis=0) for index in range(len(classes))])
    within = inside - centres[which]
    scatter = within.T @ within / len(within)
    scatter += (1e-3 * np.trace(scatter) / count + 1e-12) * np.eye(count)
    rest = float(((away**2).sum(axis=1) - (inside**2).sum(axis=1)).mean())
    return {
        "embedding_mean": mean,
        "directions": directions,
        "centres": centres,
        "whitener": _whitener(scatter),
        "rest": np.array(max(rest, 1e-9)),
    }


def _all_grey(colours: Floats) -> bool:
    """Whether the colour features of pictures, (n, 4), are those of grey ones: no cast of 3 %, and alike all over."""
    none_at_all = 2 * np.log(0.03)
    return bool(np.abs(colours[:, :2]).max() < 0.25 and colours[:, 2:].max() < none_at_all + 1)


def _whitener(scatter: Floats) -> Floats:
    """W with |x W|^2 the squared Mahalanobis distance of x."""
    return np.asarray(np.linalg.cholesky(np.linalg.inv(scatter)))


def _least_size(sizes: Floats, side_px: int) -> float:
    """The least shorter side, in pixels: three quarters of what training's pictures, or the network's input, have."""
    return float(round(SIZE_MARGIN * min(side_px, float(np.quantile(sizes, 0.01)))))
