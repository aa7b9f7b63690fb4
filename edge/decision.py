"""When a bundle says `refer`: how its scores are calibrated, the threshold, and what that was shown to reach."""

from __future__ import annotations

import itertools
from typing import Literal

from edge.fields import FieldError
from edge.frozen import dataclass
from edge.profile import Profile

CalibrationKind = Literal["none", "temperature", "platt", "isotonic"]
Level = Literal["picture", "group"]
Rule = Literal["lower-bound", "point"]
GIVEN: Literal["given"] = "given"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the network's outputs become probabilities. Only the parameters of its kind are set.

    temperature: softmax(log p / temperature) over the classes. slope, intercept: Platt's
    sigmoid(slope * logit(score) + intercept) of the positive labels' summed score. knots: (score, probability) pairs
    of a piecewise linear map of that score, constant outside them. Each is non-decreasing: a map that turns the
    ranking round is refused.
    """

    kind: CalibrationKind
    temperature: float | None = None
    slope: float | None = None
    intercept: float | None = None
    knots: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        wanted: dict[CalibrationKind, set[str]] = {
            "none": set(),
            "temperature": {"temperature"},
            "platt": {"slope", "intercept"},
            "isotonic": {"knots"},
        }
        given = {name for name in ("temperature", "slope", "intercept") if getattr(self, name) is not None}
        given |= {"knots"} if self.knots else set()
        if given != wanted[self.kind]:
            needs, has = (", ".join(sorted(names)) or "nothing" for names in (wanted[self.kind], given))
            raise FieldError(f"'calibration' of kind {self.kind!r} takes {needs}, and has {has}")
        for name in ("temperature", "slope"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise FieldError(f"'calibration.{name}' is {value}; above 0 is needed, or the ranking turns round")
        for (x0, y0), (x1, y1) in itertools.pairwise(self.knots):
            if not (x0 < x1 and y0 <= y1):
                raise FieldError("'calibration.knots' must rise in the score and never fall in the probability")
        if not all(0 <= value <= 1 for knot in self.knots for value in knot):
            raise FieldError("'calibration.knots' must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """When to refer: the calibrated probability of the positive labels together is at least the threshold.

    level: what one decision is about: a picture, or a group (patient, slide), which is referred where any of its
    pictures is. rule: how the threshold was chosen for the profile; `given`: it was fitted to nothing.
    sensitivity_bound, specificity_bound: one-sided lower 95 % bounds at the threshold, on what it was fitted on. met:
    whether they reach the profile. standing: the same in words. fitted_on: which pictures, in words.
    """

    positive: tuple[str, ...]
    level: Level
    calibration: Calibration
    profile: Profile
    rule: Rule | Literal["given"]
    threshold: float
    sensitivity_bound: float
    specificity_bound: float
    met: bool
    standing: str
    fitted_on: str

    def __post_init__(self) -> None:
        for name in ("threshold", "sensitivity_bound", "specificity_bound"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise FieldError(f"'decision.{name}' is {value}; it must be in [0, 1]")
