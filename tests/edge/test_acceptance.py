"""What is answered, and what is said where it is not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edge.acceptance import ADVICE, QUALITY, Acceptance, Limits, answer, checks
from edge.fields import FieldError, build, plain

ACCEPTANCE = Acceptance(
    features=("contrast",),
    focus_weights=(1.0,),
    limits={
        "size_px": Limits(low=100.0),
        "brightness": Limits(low=50.0, high=200.0),
        "white": Limits(high=0.1),
        "contrast": Limits(low=10.0),
        "focus": Limits(low=-1.0),
        "colour": Limits(high=3.0),
        "picture_distance": Limits(high=4.0),
        "embedding_distance": Limits(high=2.0),
    },
    familiar="familiar.npz",
    clear_below=0.2,
    fitted_on="drawn numbers",
)
GOOD = {
    "size_px": 224.0,
    "brightness": 120.0,
    "white": 0.0,
    "contrast": 40.0,
    "focus": 0.0,
    "colour": 1.0,
    "picture_distance": 2.0,
    "embedding_distance": 1.0,
}


@pytest.mark.parametrize(
    ("measure", "value", "decision", "advice"),
    [
        ("size_px", 99, "retake", "too small"),
        ("brightness", 49, "retake", "too dark"),
        ("brightness", 201, "retake", "over-exposed"),
        ("white", 0.2, "retake", "over-exposed"),
        ("contrast", 9, "retake", "nothing stands out"),
        ("focus", -1.1, "retake", "out of focus"),
        ("colour", 3.1, "retake", "colours unlike"),
        ("picture_distance", 4.1, "uncertain", "unlike the pictures"),
        ("embedding_distance", 2.1, "uncertain", "unlike the pictures"),
    ],
)
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.9], ids=["sure no", "near", "sure yes"])
def test_a_picture_outside_a_limit_is_refused_whatever_its_probability(
    measure: str, value: float, decision: str, advice: str, probability: float
) -> None:
    found = answer(ACCEPTANCE, {**GOOD, measure: value}, probability, 0.5)
    assert found.decision == decision
    assert found.advice.startswith(advice)


@pytest.mark.parametrize("measure", GOOD)
@pytest.mark.parametrize("value", [math.nan, None], ids=["no number", "missing"])
def test_what_could_not_be_measured_is_never_clear(measure: str, value: float | None) -> None:
    measures = {name: each for name, each in {**GOOD, measure: value}.items() if each is not None}
    assert answer(ACCEPTANCE, measures, 0.0, 0.5).decision in ("retake", "uncertain")


@pytest.mark.parametrize(
    ("probability", "decision"), [(0.5, "refer"), (0.49, "uncertain"), (0.2, "uncertain"), (0.19, "clear")]
)
def test_the_band_takes_from_clear_and_never_from_refer(probability: float, decision: str) -> None:
    found = answer(ACCEPTANCE, GOOD, probability, 0.5)
    assert found.decision == decision
    assert found.advice == (ADVICE["close"] if decision == "uncertain" else "")


def test_of_several_reasons_the_first_is_told_and_all_are_kept() -> None:
    found = answer(ACCEPTANCE, {**GOOD, "focus": -2.0, "brightness": 10.0, "embedding_distance": 9.0}, 0.0, 0.5)
    assert found.decision == "retake"
    assert found.reasons == ("too_dark", "blurred", "unlike")
    assert found.advice == ADVICE["too_dark"]


def test_without_limits_everything_is_answered() -> None:
    assert [answer(None, {}, p, 0.5).decision for p in (0.5, 0.499)] == ["refer", "clear"]
    assert checks(None, GOOD) == {}


def test_the_record_has_every_measure_beside_its_limits() -> None:
    found = checks(ACCEPTANCE, {**GOOD, "focus": math.nan, "contrast": 1 / 3})
    assert found.keys() == ACCEPTANCE.limits.keys()
    assert plain(found["contrast"]) == {"value": 0.333333, "low": 10.0, "high": None}
    # JSON has no such number.
    assert found["focus"].value is None


def test_every_measure_of_quality_has_its_sentence() -> None:
    assert {reason for _, _, reason in QUALITY} | {"unlike", "close"} == set(ADVICE)
    assert all(";" in sentence or ":" in sentence for sentence in ADVICE.values())


def test_limits_survive_the_manifest() -> None:
    assert build(Acceptance, plain(ACCEPTANCE)) == ACCEPTANCE


@pytest.mark.parametrize(
    "change",
    [
        {"limits": {"sharpness": Limits(low=1.0)}},
        {"focus_weights": ()},
        {"familiar": ""},
        {"clear_below": 1.5},
    ],
    ids=["unknown measure", "weights", "no part", "band"],
)
def test_limits_that_cannot_be_acted_on_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(FieldError):
        replace(ACCEPTANCE, **change)  # type: ignore[arg-type]
    with pytest.raises(FieldError):
        Limits(low=2.0, high=1.0)
