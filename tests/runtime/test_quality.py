"""What a picture is like in numbers, and how far it is from others."""

from __future__ import annotations

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.acceptance import Acceptance
from edge.errors import BundleError
from edge.preprocess import Placement, Preprocessing
from edge_runtime.novelty import Familiar, load_familiar, to_bytes
from edge_runtime.quality import FEATURES, GREY_FEATURES, _peak, feature_names, features, quality, require_features

SIDE = 96
SQUARE = Preprocessing(side_px=SIDE).place(SIDE, SIDE)
PLAIN = Acceptance(
    features=FEATURES,
    focus_weights=(0.0,) * len(FEATURES),
    limits={},
    familiar="",
    clear_below=None,
    fitted_on="nothing",
)


def smear(seed: int, channels: int = 3) -> NDArray[np.uint8]:
    """Discs on a pale ground."""
    random = np.random.default_rng(seed)
    picture = np.full((SIDE, SIDE, channels), 200, np.uint8)
    for _ in range(12):
        colour = (170, 110, 140)[:channels]
        cv2.circle(picture, random.integers(0, SIDE, 2).tolist(), int(random.integers(6, 11)), colour, -1)
    return np.asarray((picture + random.normal(0, 2, picture.shape)).clip(0, 255), np.uint8)


def familiar(table: NDArray[np.float64], embeddings: NDArray[np.float32]) -> Familiar:
    from edge_convert.acceptance.learn import learn_familiar

    return learn_familiar(table, embeddings, np.arange(len(table)) % 2, channels=3)


@pytest.mark.parametrize("channels", [3, 1])
def test_features_are_those_that_are_named(channels: int) -> None:
    found = features(smear(1, channels), SQUARE)
    assert found.shape == (len(feature_names(channels)),)
    assert np.isfinite(found).all()


def test_measures_of_a_known_picture() -> None:
    half = np.zeros((SIDE, SIDE, 3), np.uint8)
    half[: SIDE // 2] = 255
    place = replace(SQUARE, source_xywh=(10, 0, 640, 480))
    found = quality(PLAIN, features(half, place), place)
    assert found["brightness"] == pytest.approx(127.5)
    assert found["contrast"] == pytest.approx(127.5, rel=1e-6)
    assert found["white"] == pytest.approx(0.5)
    assert found["size_px"] == 480


def test_letterbox_padding_is_no_part_of_the_picture() -> None:
    picture = smear(2)
    padded = np.zeros((SIDE * 2, SIDE * 2, 3), np.uint8)
    padded[40 : 40 + SIDE, 7 : 7 + SIDE] = picture
    place = Placement(source_xywh=(0, 0, SIDE, SIDE), target_xywh=(7, 40, SIDE, SIDE))
    np.testing.assert_array_equal(features(padded, place), features(picture, SQUARE))


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (90, 3)], ids=str)
def test_a_sliver_of_a_picture_has_numbers_too(size: tuple[int, int]) -> None:
    found = features(smear(3), Placement(source_xywh=(0, 0, *size), target_xywh=(0, 0, *size)))
    assert np.isfinite(found).all()


def test_detail_falls_as_a_picture_blurs_and_colour_does_not() -> None:
    sharp = features(smear(4), SQUARE)
    blurred = features(np.asarray(cv2.GaussianBlur(smear(4), (0, 0), 3), np.uint8), SQUARE)
    detail, colour = slice(4, 8), slice(10, 12)
    assert (blurred[detail] < sharp[detail] - 0.5).all()
    np.testing.assert_allclose(blurred[colour], sharp[colour], atol=0.05)


def test_other_features_than_this_version_takes_are_refused() -> None:
    require_features(PLAIN, 3)
    with pytest.raises(BundleError, match="does not take"):
        require_features(PLAIN, 1)
    with pytest.raises(BundleError, match="does not take"):
        require_features(replace(PLAIN, features=GREY_FEATURES, focus_weights=(0.0,) * len(GREY_FEATURES)), 3)


def test_other_pictures_are_further_away_than_those_it_is_familiar_with() -> None:
    random = np.random.default_rng(0)
    table = np.array([features(smear(seed), SQUARE) for seed in range(60)])
    embeddings = random.normal(0, 0.05, (60, 40)).astype(np.float32)
    embeddings[np.arange(60), np.arange(60) % 2] += 1
    found = familiar(table, embeddings)
    own = [found.picture_distance(features(smear(seed), SQUARE)) for seed in range(100, 120)]
    noise = random.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    assert found.picture_distance(features(noise, SQUARE)) > 3 * max(own)
    assert found.colour_distance(features(smear(7)[..., ::-1].copy(), SQUARE)) > 2
    away = random.normal(0, 1, 40).astype(np.float32)
    assert found.embedding_distance(away) > 3 * found.embedding_distance(embeddings[3])


def test_grey_pictures_leave_room_for_a_slight_cast_and_none_for_colours() -> None:
    def grey(seed: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(np.broadcast_to(smear(seed, 1), (SIDE, SIDE, 3)))

    table = np.array([features(grey(seed), SQUARE) for seed in range(40)])
    found = familiar(table, np.empty((0, 0), np.float32))
    cast = np.asarray((grey(50) * np.array([1.05, 1.0, 0.95])).clip(0, 255), np.uint8)
    assert found.colour_distance(features(cast, SQUARE)) < 1
    assert found.colour_distance(features(smear(50), SQUARE)) > 3


def test_two_terms_of_mean_one_make_a_training_pictures_distance() -> None:
    random = np.random.default_rng(1)
    table = np.array([features(smear(seed), SQUARE) for seed in range(80)])
    embeddings = random.normal(1, 0.2, (80, 30)).astype(np.float32)
    found = familiar(table, embeddings)
    assert np.mean([found.embedding_distance(e) ** 2 for e in embeddings]) == pytest.approx(2, rel=0.15)


def test_what_it_is_familiar_with_survives_the_bundle() -> None:
    random = np.random.default_rng(2)
    table = np.array([features(smear(seed), SQUARE) for seed in range(40)])
    found = familiar(table, random.normal(1, 0.2, (40, 30)).astype(np.float32))
    again = load_familiar(to_bytes(found), "familiar.npz")
    for name, array in vars(found).items():
        np.testing.assert_array_equal(getattr(again, name), array, err_msg=name)


@pytest.mark.parametrize("damage", ["text", "shape", "number", "missing"])
def test_a_part_that_does_not_fit_is_a_sentence(damage: str) -> None:
    table = np.array([features(smear(seed), SQUARE) for seed in range(20)])
    arrays = dict(vars(familiar(table, np.empty((0, 0), np.float32))))
    if damage == "shape":
        arrays["picture_whitener"] = arrays["picture_whitener"][:3]
    elif damage == "number":
        arrays["picture_mean"] = arrays["picture_mean"] * np.nan
    elif damage == "missing":
        del arrays["rest"]
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    data = b"PK no" if damage == "text" else stream.getvalue()
    with pytest.raises(BundleError, match=r"familiar\.npz"):
        load_familiar(data, "familiar.npz")


@pytest.mark.parametrize(
    "fine",
    [
        np.zeros(1000, np.float32),
        np.ones(1000, np.float32),
        np.random.default_rng(0).exponential(size=12544).astype(np.float32),
        # So few stand out that what is far above the root mean square is less than the percentile needs.
        np.concatenate([np.arange(990), np.full(10, 1e6)]).astype(np.float32),
    ],
    ids=["nothing", "alike", "texture", "specks"],
)
def test_the_98th_percentile_does_not_depend_on_where_it_is_looked_for(fine: NDArray[np.float32]) -> None:
    place = int(0.98 * (fine.size - 1))
    for typical in (0.0, float(np.sqrt(fine @ fine / fine.size)), float(fine.max())):
        assert _peak(fine, typical) == np.sort(fine)[place]
