"""Limits: learned where training pictures are, set where validation pictures are, and counted on others."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import TinyBuild

from edge.acceptance import Acceptance, Limits, answer
from edge.bundle import read_bundle
from edge_convert.acceptance.fit import fit_limits
from edge_convert.acceptance.learn import Learned, focus_weights
from edge_convert.acceptance.limits import lower_limit, upper_limit
from edge_convert.acceptance.refusals import describe_refusals
from edge_convert.recipe import AcceptanceRecipe
from edge_convert.report.coverage import risk_curves
from edge_convert.verify import load_verification
from edge_runtime.declined import count_declined
from edge_runtime.evaluate import Prediction, tried
from edge_runtime.quality import GREY_FEATURES

DRAFT = Acceptance(
    features=("contrast",),
    focus_weights=(0.0,),
    limits={"focus": Limits(low=-2.0)},
    familiar="familiar.npz",
    clear_below=None,
    fitted_on="drawn numbers",
)
THRESHOLD = 0.5


def predictions(n: int = 400, seed: int = 0) -> list[Prediction]:
    """Drawn ones: a fifth with the finding, four to a group."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(n):
        finding = index % 5 == 0
        probability = float(random.beta(6, 2) if finding else random.beta(2, 6))
        measures = {
            "focus": float(random.normal()),
            "picture_distance": float(random.chisquare(9)),
            "embedding_distance": float(random.chisquare(9)),
        }
        found.append(
            Prediction(
                name=f"{index}",
                label="yes" if finding else "no",
                group=f"{index // 4}",
                outputs=(1 - probability, probability),
                probabilities=(1 - probability, probability),
                probability=probability,
                heat=None,
                points=None,
                infer_ms=1.0,
                measures=measures,
            )
        )
    return found


@pytest.mark.parametrize("n", [30, 200, 20_000])
def test_a_limit_leaves_about_its_share_of_further_values_outside(n: int) -> None:
    random = np.random.default_rng(1)
    outside = [float(np.mean(random.normal(size=5000) < lower_limit(random.normal(size=n), 0.01))) for _ in range(40)]
    assert np.mean(outside) < 0.025
    assert np.mean(outside) > 0.001


def test_upper_and_lower_limits_mirror_each_other() -> None:
    values = np.random.default_rng(2).normal(size=300)
    assert upper_limit(values, 0.01) == -lower_limit(-values, 0.01)
    assert lower_limit(np.full(50, 7.0), 0.01) == 7.0


def test_focus_is_what_blurring_takes_away() -> None:
    random = np.random.default_rng(3)
    sharp = random.normal(size=(200, len(GREY_FEATURES)))
    blurred = random.normal(size=(200, len(GREY_FEATURES)))
    blurred[:, 4] -= 3
    weights = focus_weights(sharp, blurred)
    assert weights[4] > 0.7
    assert weights[:4].tolist() == [0, 0, 0, 0]
    assert np.abs(weights).sum() == pytest.approx(1)


def test_validation_pictures_are_refused_as_often_as_asked() -> None:
    found = predictions()
    acceptance, refusals = fit_limits(
        AcceptanceRecipe(novelty=0.1, uncertain=0.05), Learned(acceptance=DRAFT, familiar=b""), found, THRESHOLD
    )
    assert 0.08 <= refusals.refused.value <= 0.1
    assert refusals.refused_held_out == pytest.approx(0.1, abs=0.03)
    assert refusals.reasons == {"blurred": round(refusals.poor.value * 400)}
    assert 0.04 <= refusals.close.value <= 0.05
    others = predictions(seed=9)
    rate = np.mean([set(answer(acceptance, p.measures, 1.0, THRESHOLD).reasons) != set() for p in others])
    assert rate == pytest.approx(0.1, abs=0.04)
    assert any("taken again" in line for line in describe_refusals(refusals))


def test_the_band_holds_the_pictures_nearest_below_the_threshold() -> None:
    found = predictions()
    acceptance, _ = fit_limits(
        AcceptanceRecipe(novelty=0.0, uncertain=0.05), Learned(acceptance=DRAFT, familiar=b""), found, THRESHOLD
    )
    assert acceptance.clear_below is not None
    close = [p for p in found if "close" in answer(acceptance, p.measures, p.probability, THRESHOLD).reasons]
    assert len(close) == 20
    cleared = [
        p.probability for p in found if answer(acceptance, p.measures, p.probability, THRESHOLD).decision == "clear"
    ]
    assert max(cleared) < min(p.probability for p in close)
    assert acceptance.limits.keys() == {"focus"}
    assert acceptance.familiar == ""


def test_scores_that_are_all_alike_make_no_band() -> None:
    found = [replace(p, probability=0.1) for p in predictions(100)]
    acceptance, _ = fit_limits(AcceptanceRecipe(), Learned(acceptance=DRAFT, familiar=b""), found, THRESHOLD)
    assert acceptance.clear_below is None


def test_declining_is_counted_by_hand() -> None:
    acceptance = replace(DRAFT, limits={"focus": Limits(low=0.0)}, familiar="", clear_below=0.4)
    base = predictions(5)[0]

    def one(label: str, probability: float, focus: float) -> Prediction:
        return replace(base, label=label, probability=probability, measures={"focus": focus})

    rows = [one("yes", 0.9, 1), one("yes", 0.45, 1), one("yes", 0.1, 1), one("yes", 0.9, -1), one("no", 0.1, 1)]
    found = count_declined(tried(rows, ("yes",)), acceptance, THRESHOLD, labels=("no", "yes"))
    yes = found.answers[1]
    assert (yes.refer, yes.uncertain, yes.clear, yes.retake) == (1, 1, 1, 1)
    assert found.reasons == {"close": 1, "blurred": 1}
    assert (found.missed, found.missed_unasked) == (1, 2)
    assert found.sensitivity is not None
    assert found.sensitivity.value == 0.5
    assert found.answered.value == pytest.approx(3 / 5)


def test_risk_falls_as_the_doubtful_are_declined_first() -> None:
    found = predictions()
    acceptance = replace(DRAFT, limits={"picture_distance": Limits(high=20.0)})
    curves = risk_curves(found, acceptance, THRESHOLD, ("yes",))
    assert curves.keys() == {"nearest", "unlike"}
    wrong = np.mean([(p.probability >= THRESHOLD) != (p.label == "yes") for p in found])
    for risk in curves.values():
        assert risk.coverage[0] == 1
        assert risk.errors[0] == pytest.approx(wrong)
        assert (np.diff(risk.coverage) < 0).all()
        assert (np.diff(risk.missed) <= 0).all()
    half = np.searchsorted(-curves["nearest"].coverage, -0.5)
    assert curves["nearest"].errors[half] < wrong / 2


def test_a_build_states_what_its_limits_refuse(tiny_build: TinyBuild) -> None:
    verification = load_verification(tiny_build.run / "verify")
    manifest = read_bundle(tiny_build.bundle).manifest
    assert verification.acceptance == manifest.acceptance
    assert verification.refusals is not None
    assert manifest.metrics["refusals"]["n"] == verification.refusals.n
    assert verification.evaluations["val/int8"].declined is not None
    card = read_bundle(tiny_build.bundle).parts["card.md"].decode()
    assert "When it does not answer" in card
    assert (tiny_build.run / "report_data/risk_val.csv").read_text().startswith("series,coverage,")
    sizes = json.loads((tiny_build.run / "data/samples.json").read_text())["sizes"]
    assert set(map(tuple, sizes)) == {(224, 224)}
