"""A bundle that declines: through the runtime and the commands, with a real build."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import TinyBuild, edge
from numpy.typing import NDArray

from edge.acceptance import ADVICE, Limits, Reason
from edge.bundle import Bundle, read_bundle, write_bundle
from edge.dataset import read_dataset
from edge.errors import BundleError
from edge.preprocess import decode
from edge_runtime.acceptance import DISTANCE_TOLERANCE, NOTHING_CHECKED
from edge_runtime.pipeline import Screener
from edge_runtime.saliency import shown_zoom

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def own(tiny_build: TinyBuild) -> list[Picture]:
    """All the rendered tiles, decoded."""
    return [decode(sample.path.read_bytes()) for sample in read_dataset(tiny_build.data).samples]


@pytest.fixture(scope="module")
def screener(bundle: Bundle) -> Screener:
    return Screener(bundle)


def other(bundle: Bundle, **changes: object) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, **changes))  # type: ignore[arg-type]


def without_limits(bundle: Bundle) -> Bundle:
    return other(bundle, acceptance=None)


def drawn(kind: str) -> Picture:
    random = np.random.default_rng(3)
    if kind == "noise":
        return random.integers(0, 256, (200, 200, 3)).astype(np.uint8)
    if kind == "wall":
        return np.asarray(random.normal(228, 1.5, (200, 200, 3)).clip(0, 255), np.uint8)
    if kind == "thumb":
        return np.asarray(random.normal((110, 40, 30), 2, (200, 200, 3)).clip(0, 255), np.uint8)
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::9] = (20, 90, 230)
    return stripes


def test_most_of_the_pictures_it_was_built_from_are_answered(screener: Screener, own: list[Picture]) -> None:
    verdicts = [screener.screen_frame(picture, name="own").verdict for picture in own]
    refused = [v for v in verdicts if set(v.reasons) - {"close"}]
    assert len(refused) <= 0.1 * len(verdicts)
    assert all(v.advice == "" for v in verdicts if v.decision in ("refer", "clear"))


@pytest.mark.parametrize("kind", ["noise", "wall", "thumb", "stripes"])
def test_a_picture_of_another_kind_is_never_clear(screener: Screener, kind: str) -> None:
    verdict = screener.screen_frame(drawn(kind), name=kind).verdict
    assert verdict.decision in ("retake", "uncertain")
    assert verdict.reasons
    assert verdict.advice


@pytest.mark.parametrize("size", [2, 4, 8])
def test_spots_in_the_colours_of_its_own_pictures_are_not_clear(
    screener: Screener, own: list[Picture], size: int
) -> None:
    random, decisions = np.random.default_rng(size), []
    for tile in own[:30]:
        plane = cv2.GaussianBlur(random.normal(size=tile.shape[:2]), (0, 0), size)
        ranks = np.argsort(np.argsort(plane.ravel()))
        by_luma = np.argsort(cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).ravel())
        spots = np.ascontiguousarray(tile.reshape(-1, 3)[by_luma][ranks].reshape(tile.shape))
        decisions.append(screener.screen_frame(spots, name="spots").verdict.decision)
    assert set(decisions) <= {"retake", "uncertain"}


@pytest.mark.parametrize(
    ("reason", "worse"),
    [
        ("blurred", lambda p: cv2.GaussianBlur(p, (0, 0), 4 * p.shape[0] / 224)),
        ("too_dark", lambda p: (p * 0.3).astype(np.uint8)),
        ("over_exposed", lambda p: (p * 1.9).clip(0, 255).astype(np.uint8)),
        ("too_small", lambda p: cv2.resize(p, (48, 48), interpolation=cv2.INTER_AREA)),
    ],
)
def test_a_spoilt_picture_is_to_be_taken_again_and_the_sentence_says_how(
    screener: Screener, own: list[Picture], reason: Reason, worse: object
) -> None:
    assert callable(worse)
    verdicts = [screener.screen_frame(np.asarray(worse(picture), np.uint8), name="own").verdict for picture in own[:40]]
    told = [v.decision == "retake" and v.advice == ADVICE[reason] for v in verdicts]
    assert np.mean(told) >= 0.9


def test_the_record_of_a_refused_picture_has_what_an_auditor_needs(screener: Screener) -> None:
    verdict = screener.screen_frame(drawn("thumb"), name="thumb").verdict
    assert 0 <= verdict.probability <= 1
    assert verdict.checks.keys() == screener.manifest.acceptance.limits.keys()  # type: ignore[union-attr]
    outside = [
        name
        for name, check in verdict.checks.items()
        if check.value is not None and Limits(low=check.low, high=check.high).failed(check.value)
    ]
    assert outside
    assert verdict.latency_ms.checks > 0


def test_a_bundle_without_limits_answers_everything_as_before(bundle: Bundle, own: list[Picture]) -> None:
    plain, limited = Screener(without_limits(bundle)), Screener(bundle)
    for picture in (*own[:5], drawn("noise")):
        before, after = (s.screen_frame(picture, name="x").verdict for s in (plain, limited))
        assert before.decision in ("refer", "clear")
        assert (before.checks, before.reasons, before.advice) == ({}, (), "")
        assert before.probability == after.probability


def test_limits_of_features_that_this_version_does_not_take_are_refused(bundle: Bundle) -> None:
    acceptance = bundle.manifest.acceptance
    assert acceptance is not None
    named = tuple(reversed(acceptance.features))
    with pytest.raises(BundleError, match="does not take"):
        Screener(other(bundle, acceptance=replace(acceptance, features=named)))


def test_a_delegate_near_a_limit_or_far_from_the_cpu_is_not_believed(bundle: Bundle, own: list[Picture]) -> None:
    screener = Screener(bundle)
    screening = screener.screen_frame(own[0], name="own")
    right = {role: screener.network.output(role) for role in ("probabilities", "earlier_embedding")}
    acceptance = bundle.manifest.acceptance
    assert acceptance is not None
    distance = screening.measures["embedding_distance"]

    def limited(limit: float) -> Screener:
        limits = {**acceptance.limits, "embedding_distance": Limits(high=limit)}
        return Screener(other(bundle, acceptance=replace(acceptance, limits=limits, clear_below=None)))

    assert limited(distance * (1 + DISTANCE_TOLERANCE / 2))._near_a_limit(right, 0.0)
    assert not limited(distance * 3)._near_a_limit(right, 0.0)
    off = {**right, "earlier_embedding": np.asarray(right["earlier_embedding"][::-1], np.float32)}
    assert screener._apart(right, right) is None
    assert "embedding" in (screener._apart(off, right) or "")
    assert screener._apart({**right, "earlier_embedding": right["earlier_embedding"] * np.nan}, right)


def test_a_line_says_what_to_do_and_the_exit_status_stays_0(tiny_build: TinyBuild, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "thumb.png"), drawn("thumb")[..., ::-1])
    done = edge("screen", tiny_build.bundle, tmp_path / "thumb.png")
    assert done.returncode == 0
    assert done.stdout.startswith("retake    -----")
    assert any(done.stdout.rstrip().endswith(sentence) for sentence in ADVICE.values())
    record = json.loads(edge("screen", tiny_build.bundle, tmp_path / "thumb.png", "--json").stdout)
    assert record["decision"] == "retake"
    assert record["advice"] == ADVICE[record["reasons"][0]]
    assert set(record["checks"]["brightness"]) == {"value", "low", "high"}


def test_show_and_doctor_say_what_is_checked_or_that_nothing_is(tiny_build: TinyBuild, tmp_path: Path) -> None:
    shown = edge("show", tiny_build.bundle).stdout
    assert "retake where size_px, brightness, white, contrast, focus, colour" in shown
    assert "uncertain where the picture distance or the embedding distance" in shown
    opened = read_bundle(tiny_build.bundle)
    write_bundle(tmp_path / "old.edge", replace(opened.manifest, acceptance=None), _members(opened))
    assert NOTHING_CHECKED in edge("show", tmp_path / "old.edge").stdout
    assert NOTHING_CHECKED in edge("doctor", tmp_path / "old.edge").stdout


def test_evaluate_counts_what_was_not_answered(tiny_build: TinyBuild) -> None:
    done = edge("evaluate", tiny_build.bundle, "--data", tiny_build.data, "--split", "val", "--json")
    found = json.loads(done.stdout)
    declined = found["declined"]
    rows = declined["answers"]
    assert sum(row["n"] for row in rows) == found["n"]
    assert all(row["n"] == row["refer"] + row["clear"] + row["uncertain"] + row["retake"] for row in rows)
    answered = sum(row["refer"] + row["clear"] for row in rows)
    assert declined["answered"]["value"] == pytest.approx(answered / found["n"])
    assert declined["missed"] <= declined["missed_unasked"]
    # The threshold's own measures are of all pictures.
    assert found["levels"][0]["positives"] == found["n_positive"]
    assert "answered, or declined" in edge("evaluate", tiny_build.bundle, "--data", tiny_build.data).stdout


def _members(bundle: Bundle) -> dict[str, bytes]:
    acceptance = bundle.manifest.acceptance
    return {name: data for name, data in bundle.parts.items() if acceptance and name != acceptance.familiar}


def test_a_wide_picture_says_how_much_of_it_was_looked_at_and_its_map_dims_the_rest(
    screener: Screener, tiny_build: TinyBuild, own: list[Picture], tmp_path: Path
) -> None:
    tile = own[0]
    height, width = tile.shape[:2]
    wide = np.ascontiguousarray(np.concatenate([tile, tile, tile], axis=1))
    screening = screener.screen_frame(wide, name="wide", explain=True)
    assert screening.verdict.picture_px == (3 * width, height)
    assert screening.verdict.remark.endswith("only the middle 33% was looked at")
    assert screener.screen_frame(tile, name="tile").verdict.remark == ""
    shown = screener.overlay(screening)
    assert shown is not None
    thirds = np.split(
        shown[: height * shown_zoom(height, 3 * width), : 3 * width * shown_zoom(height, 3 * width)], 3, 1
    )
    assert thirds[0].mean() < 0.5 * thirds[1].mean()
    assert thirds[2].mean() < 0.5 * thirds[1].mean()
    cv2.imwrite(str(tmp_path / "wide.png"), wide[..., ::-1])
    assert "only the middle 33% was looked at" in edge("screen", tiny_build.bundle, tmp_path / "wide.png").stdout
