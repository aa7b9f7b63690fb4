"""What a picture must be like to be answered: learned from the training pictures, limited on the validation pictures.

docs/decisions/008-declining.md has the reasons and what was compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.acceptance import UNLIKE, Acceptance, Limits, answer, poor_quality
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import AcceptanceRecipe, Recipe
from edge_runtime.evaluate import Prediction
from edge_runtime.interpreter import Network
from edge_runtime.metrics import Interval, half_way_down, wilson
from edge_runtime.novelty import Familiar, to_bytes
from edge_runtime.quality import COLOUR, DETAIL, feature_names, features, quality

Floats = NDArray[np.float64]

FAMILIAR = "familiar.npz"
MOST_PICTURES = 4000
"""Of the training pictures, drawn at random: more tell no more."""

BLURRED_COPIES = 500
BLUR_SHARES = (2 / 224, 4 / 224)
"""Of the input's side: the blur of the copies that focus is learned from; 2 and 4 px of 224."""

NOISE_LEVELS = (0.0, 2.0)
"""Of a blurred copy's grey levels: a lens blurs before the sensor adds its noise."""

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

TAIL_FROM = 0.10
FEWEST_IN_TAIL = 5
FOLDS = 10
ROUNDS = 40


@dataclass(frozen=True, kw_only=True)
class Learned:
    """From the training pictures. acceptance: limits of quality. familiar: the part distances are measured from."""

    acceptance: Acceptance
    familiar: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """Validation pictures that are not answered, all of them legitimate: false alarms.

    poor: to be taken again; their limits are of other pictures. refused: poor or unlike what is known, on the pictures
    that the limits of likeness were fitted on; refused_held_out: the same where these were fitted on nine of ten parts
    and counted on the tenth, mean of ROUNDS rounds by group; None where groups are too few. close: just below the
    threshold. reasons: of the poor ones, by their first reason.
    """

    n: int
    poor: Interval
    reasons: dict[str, int]
    refused: Interval
    refused_held_out: float | None
    close: Interval


def learn(recipe: Recipe, prepared: Prepared, network: Network) -> Steps[Learned | None]:
    """Limits of quality and what is known, from the training pictures. network: the int8 file's.

    None where the recipe asks for no limit. Yields a step a picture.
    """
    asked, rows = recipe.acceptance, _drawn(prepared, recipe.seed)
    if not (asked.quality or asked.novelty or asked.uncertain):
        return None
    found: list[Floats] = []
    sizes: list[int] = []
    embeddings: list[NDArray[np.float32]] = []
    for done, row in enumerate(rows, start=1):
        picture = np.ascontiguousarray(prepared.pictures[row])
        place = recipe.preprocessing.place(*prepared.sizes[row])
        found.append(features(picture, place))
        sizes.append(min(place.source_xywh[2:]))
        if network.has("embedding") and asked.novelty:
            network.run(picture)
            embeddings.append(network.output("embedding"))
        yield Progress(done=done, total=len(rows))
    table = np.array(found)
    familiar = learn_familiar(
        table, np.array(embeddings), prepared.targets[rows], channels=recipe.preprocessing.channels
    )
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


def fit_limits(
    asked: AcceptanceRecipe, learned: Learned, predictions: Sequence[Prediction], threshold: float
) -> tuple[Acceptance, Refusals]:
    """The limits of likeness and the band below the threshold, and what all limits refuse of these pictures.

    predictions: on the validation pictures, with their measures and calibrated probabilities.
    """
    draft = learned.acceptance
    limits = {**draft.limits, **_distance_limits(draft, asked.novelty, predictions)}
    accepted = replace(
        draft,
        limits=limits,
        familiar=draft.familiar if limits.keys() & {"colour", *UNLIKE} else "",
        fitted_on=f"{draft.fitted_on} (quality) and {len(predictions)} validation pictures, int8",
    )
    answered = [p for p in predictions if not answer(accepted, p.measures, p.probability, 0.0).reasons]
    band = _clear_below(asked.uncertain, answered, len(predictions), threshold)
    acceptance = replace(accepted, clear_below=band)
    return acceptance, _refusals(acceptance, asked, predictions, threshold)


def learn_familiar(
    table: Floats, embeddings: NDArray[np.float32], targets: NDArray[np.int64], *, channels: int
) -> Familiar:
    """What distances are measured from. table: (n, features). embeddings: (n, channels), or empty. targets: (n,)."""
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


def lower_limit(values: Floats, share: float) -> float:
    """The value below which about this share of further pictures will lie.

    The quantile where FEWEST_IN_TAIL values lie below it; else no higher than where an exponential tail through the
    lowest TAIL_FROM of the values leads (Weissman 1978): the lowest of a few pictures is no limit for others.
    """
    quantile = float(np.quantile(values, share))
    if share * len(values) >= FEWEST_IN_TAIL:
        return quantile
    start = float(np.quantile(values, TAIL_FROM))
    beyond = start - values[values < start]
    scale = float(beyond.mean()) if len(beyond) else 0.0
    return min(quantile, start - scale * max(0.0, float(np.log(TAIL_FROM / share))))


def upper_limit(values: Floats, share: float) -> float:
    """The same from above."""
    return -lower_limit(-values, share)


def describe_refusals(found: Refusals) -> list[str]:
    """How many legitimate pictures are not answered: a sentence a line."""
    why = ", ".join(f"{count} {reason}" for reason, count in found.reasons.items())
    held_out = (
        "groups are too few to hold any out"
        if found.refused_held_out is None
        else f"{found.refused_held_out:.1%} of pictures by limits that others fitted"
    )
    return [
        f"to be taken again, of {found.n} validation pictures: {_share(found.poor)}" + (f" ({why})" if why else ""),
        f"these, or unlike what the model knows: {_share(found.refused)}; {held_out}",
        f"uncertain, just below the threshold: {_share(found.close)}",
    ]


def _share(interval: Interval) -> str:
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _drawn(prepared: Prepared, seed: int) -> NDArray[np.int64]:
    rows = prepared.rows("train")
    if len(rows) <= MOST_PICTURES:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_PICTURES, replace=False))


def _blurred_features(recipe: Recipe, prepared: Prepared, rows: NDArray[np.int64]) -> Floats:
    """Features of blurred copies of training pictures, without and with a sensor's noise."""
    random = np.random.default_rng(recipe.seed)
    chosen = random.choice(rows, min(len(rows), BLURRED_COPIES), replace=False)
    found = []
    for row in chosen:
        place = recipe.preprocessing.place(*prepared.sizes[row])
        x, y, w, h = place.target_xywh
        for share in BLUR_SHARES:
            copy = np.array(prepared.pictures[row])
            inner = cv2.GaussianBlur(copy[y : y + h, x : x + w], (0, 0), share * recipe.preprocessing.side_px)
            for noise in NOISE_LEVELS:
                grain = random.normal(0, noise, (h, w, 1)) if noise else 0.0
                copy[y : y + h, x : x + w] = (np.asarray(inner).reshape(h, w, -1) + grain).clip(0, 255).astype(np.uint8)
                found.append(features(copy, place))
    return np.array(found)


def _of_embeddings(embeddings: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, Floats]:
    scaled = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-6)
    mean = scaled.mean(axis=0)
    away = np.asarray(scaled - mean, np.float64)
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
        "rest": np.array(max(rest, 1e-6)),
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


def _distance_limits(draft: Acceptance, budget: float, predictions: Sequence[Prediction]) -> dict[str, Limits]:
    """Limits of likeness with alike shares of pictures beyond them: with the poor ones, `budget` of all are refused."""
    distances = {
        name: np.array([p.measures[name] for p in predictions])
        for name in UNLIKE
        if all(name in p.measures for p in predictions)
    }
    if not budget or not distances:
        return {}
    poor = np.array([bool(poor_quality(draft, p.measures)) for p in predictions])
    chosen = {}
    for share in np.geomspace(budget, 1e-4, 60):
        chosen = {name: upper_limit(values, float(share)) for name, values in distances.items()}
        far = np.any([values > chosen[name] for name, values in distances.items()], axis=0)
        if (poor | far).mean() <= budget:
            break
    return {name: Limits(high=limit) for name, limit in chosen.items()}


def _clear_below(share: float, answered: Sequence[Prediction], n: int, threshold: float) -> float | None:
    """Where the band starts that holds at most this share of n pictures, those nearest below the threshold."""
    scores = np.array([p.probability for p in answered])
    below = np.sort(scores[scores < threshold])[::-1]
    place = int(share * n)
    # Pictures of one score are in the band together, or not at all.
    while 0 < place < len(below) and below[place - 1] - below[place] < 1e-9:
        place -= 1
    place = min(place, len(below))
    return half_way_down(scores, float(below[place - 1])) if place else None


def _refusals(
    acceptance: Acceptance, asked: AcceptanceRecipe, predictions: Sequence[Prediction], threshold: float
) -> Refusals:
    answers = [answer(acceptance, p.measures, p.probability, threshold) for p in predictions]
    reasons = [a.reasons[0] for a in answers if a.decision == "retake"]
    close = sum("close" in a.reasons for a in answers)
    refused = sum(bool(a.reasons) for a in answers) - close
    n = len(predictions)
    return Refusals(
        n=n,
        poor=wilson(len(reasons), n),
        reasons={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        refused=wilson(refused, n),
        refused_held_out=_held_out(acceptance, asked.novelty, predictions),
        close=wilson(close, n),
    )


def _held_out(acceptance: Acceptance, budget: float, predictions: Sequence[Prediction]) -> float | None:
    """Share refused by limits of likeness that other groups fitted; None where groups are too few."""
    names, group = np.unique(np.array([p.group for p in predictions], dtype=object).astype(str), return_inverse=True)
    folds = min(FOLDS, len(names))
    if folds < 2:
        return None
    quality_only = replace(acceptance, limits={k: v for k, v in acceptance.limits.items() if k not in UNLIKE})
    random, shares = np.random.default_rng(0), []
    for _ in range(ROUNDS):
        part = (random.permutation(len(names)) % folds)[group]
        refused = 0
        for fold in range(folds):
            rest = [p for p, at in zip(predictions, part, strict=True) if at != fold]
            limits = {**quality_only.limits, **_distance_limits(quality_only, budget, rest)}
            held = replace(quality_only, limits=limits)
            refused += sum(
                bool(answer(held, p.measures, 1.0, 0.0).reasons)
                for p, at in zip(predictions, part, strict=True)
                if at == fold
            )
        shares.append(refused / len(predictions))
    return float(np.mean(shares))
