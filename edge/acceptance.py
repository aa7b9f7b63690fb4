"""When not to answer: what a picture must be like before its probability may count, and what to tell the health worker.

Frozen records of the contract; fitted by the build, acted on by the device. docs/decline.md explains them to people.
"""

from __future__ import annotations

import functools
import math
from typing import Literal, get_args

from edge.fields import FieldError
from edge.frozen import dataclass

Answer = Literal["refer", "clear", "retake", "uncertain"]
Reason = Literal["too_small", "too_dark", "over_exposed", "flat", "blurred", "colour", "unlike", "close"]

ADVICE: dict[Reason, str] = {
    "too_small": "too small: go closer, or give the picture as the camera made it; take it again",
    "too_dark": "too dark: give more light and take it again",
    "over_exposed": "over-exposed: give less light or a shorter exposure and take it again",
    "flat": "nothing stands out in it: check light and focus and that the specimen is in view, and take it again",
    "blurred": "out of focus: hold still, focus and take it again",
    "colour": "colours unlike those this model knows: check that it is the right kind of picture, "
    "the stain and the white balance, and take it again",
    "unlike": "unlike the pictures this model knows: check that it is the right kind of picture; "
    "a trained person must read it",
    "close": "too close to call: a trained person must read it",
}
"""One sentence a reason. Where there are several reasons, the first of them in this order is told."""

QUALITY: tuple[tuple[str, Literal["low", "high"], Reason], ...] = (
    ("size_px", "low", "too_small"),
    ("brightness", "low", "too_dark"),
    ("brightness", "high", "over_exposed"),
    ("white", "high", "over_exposed"),
    ("contrast", "low", "flat"),
    ("focus", "low", "blurred"),
    ("colour", "high", "colour"),
)
"""Each measure of quality, the side on which it fails, and the reason that it fails for."""

UNLIKE = ("picture_distance", "embedding_distance")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A measure may be from `low` to `high`; None where that side is open."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise FieldError(f"limits from {self.low} to {self.high} let nothing through")

    def failed(self, value: float) -> Literal["low", "high"] | None:
        """The side on which a value is outside, None where it is within. What is no number is outside."""
        if self.low is not None and not value >= self.low:
            return "low"
        if self.high is not None and not value <= self.high:
            return "high"
        return None


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """What the device holds every picture against. Limits are of the measures that `edge_runtime` takes.

    features: the numbers that describe a picture, by name, in the order of the weights. focus_weights: of `focus`, one
    a feature. limits: of each measure; a measure that is not there is not checked. Those of quality (see QUALITY) are
    learned from the training pictures; `picture_distance` and `embedding_distance` from the validation pictures.
    familiar: the part that holds what distances are measured from, "" for none. clear_below: a probability from here
    up to the threshold is `uncertain`; None: there is no such band. fitted_on: which pictures, in words.
    """

    features: tuple[str, ...]
    focus_weights: tuple[float, ...]
    limits: dict[str, Limits]
    familiar: str
    clear_below: float | None
    fitted_on: str

    def __post_init__(self) -> None:
        if len(self.features) != len(self.focus_weights):
            raise FieldError("'acceptance.focus_weights' must have one entry a feature")
        names = {name for name, _, _ in QUALITY} | set(UNLIKE)
        unknown = self.limits.keys() - names
        if unknown:
            raise FieldError(f"'acceptance.limits' has {min(unknown)!r}; known: {', '.join(sorted(names))}")
        if not self.familiar and self.limits.keys() & {"colour", *UNLIKE}:
            raise FieldError("'acceptance.familiar' must name the part that distances are measured from")
        if self.clear_below is not None and not 0 <= self.clear_below <= 1:
            raise FieldError(f"'acceptance.clear_below' is {self.clear_below}; it must be in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One measure of one picture, and its limits as in the bundle. value: None where it is no number."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A decision and why. reasons: none for `refer` and `clear`. advice: one sentence for the health worker, or ""."""

    decision: Answer
    reasons: tuple[Reason, ...]

    @property
    def advice(self) -> str:
        """What to do; empty for `refer` and `clear`."""
        return ADVICE[self.reasons[0]] if self.reasons else ""


def answer(acceptance: Acceptance | None, measures: dict[str, float], probability: float, threshold: float) -> Answered:
    """The decision on one picture. measures: by name; one that has limits and is missing counts as failed.

    A picture of poor quality is `retake` and one unlike those the model knows is `uncertain`, whatever its probability:
    the number has no standing. Else at the threshold and above it is `refer`, so that the threshold's promise holds for
    every picture that is answered; just below it, from `clear_below` on, `uncertain`; else `clear`.
    """
    if acceptance is not None:
        poor = poor_quality(acceptance, measures)
        if poor:
            return Answered(decision="retake", reasons=poor + unlike(acceptance, measures))
        strange = unlike(acceptance, measures)
        if strange:
            return Answered(decision="uncertain", reasons=strange)
    if probability >= threshold:
        return Answered(decision="refer", reasons=())
    if acceptance is not None and acceptance.clear_below is not None and probability >= acceptance.clear_below:
        return Answered(decision="uncertain", reasons=("close",))
    return Answered(decision="clear", reasons=())


def poor_quality(acceptance: Acceptance, measures: dict[str, float]) -> tuple[Reason, ...]:
    """Why a picture should be taken again, in the order of QUALITY; empty where it need not."""
    found = [
        reason
        for name, side, reason in QUALITY
        if name in acceptance.limits and acceptance.limits[name].failed(measures.get(name, math.nan)) == side
    ]
    return tuple(dict.fromkeys(found))


def unlike(acceptance: Acceptance, measures: dict[str, float]) -> tuple[Reason, ...]:
    """`("unlike",)` where a distance from what the model knows is beyond its limit, else empty."""
    far = any(
        name in acceptance.limits and acceptance.limits[name].failed(measures.get(name, math.nan)) for name in UNLIKE
    )
    return ("unlike",) if far else ()


def checks(acceptance: Acceptance | None, measures: dict[str, float]) -> dict[str, Check]:
    """What was measured beside its limits, for the record. Six digits of a value."""
    if acceptance is None:
        return {}
    return {
        name: Check(value=_short(measures.get(name, math.nan)), low=_shown(limits.low), high=_shown(limits.high))
        for name, limits in acceptance.limits.items()
    }


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


# Of limits, which are the same for every picture.
_shown = functools.lru_cache(maxsize=64)(_short)


assert set(ADVICE) == set(get_args(Reason))
