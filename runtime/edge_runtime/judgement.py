"""What a threshold gives, over pictures or over groups, and whether that shows a target profile to be met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.decision import Level
from edge.errors import DataError
from edge.frozen import dataclass
from edge.profile import Profile
from edge_runtime.bounds import Sampling, cases_needed, clopper_pearson_lower
from edge_runtime.metrics import RESAMPLES, Interval, wilson

Share = Literal["sensitivity", "specificity"]

UNITS: dict[Level, str] = {"picture": "pictures", "group": "groups"}


@dataclass(frozen=True, kw_only=True)
class Cases:
    """What is decided on: pictures, or groups, each array (n,).

    scores: calibrated probabilities. odds: log-odds of the network's own outputs, for how alike the cases of a group
    are. groups: whose cases are not independent.
    """

    level: Level
    scores: NDArray[np.float64] = field(repr=False)
    truth: NDArray[np.bool_] = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)
    odds: NDArray[np.float64] = field(repr=False)

    @classmethod
    def at(
        cls,
        level: Level,
        scores: NDArray[np.float64],
        truth: NDArray[np.bool_],
        groups: Sequence[str],
        odds: NDArray[np.float64],
    ) -> Cases:
        """From pictures. A group has the score of its most suspect picture, and the finding where a picture has it."""
        if level == "picture":
            return cls(level=level, scores=scores, truth=truth, groups=tuple(groups), odds=odds)
        names, place = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
        highest, highest_odds = np.full(len(names), -np.inf), np.full(len(names), -np.inf)
        np.maximum.at(highest, place, scores)
        np.maximum.at(highest_odds, place, odds)
        with_finding = np.bincount(place, truth, len(names)) > 0
        return cls(level=level, scores=highest, truth=with_finding, groups=tuple(names.tolist()), odds=highest_odds)

    def sampling(self, of: bool, *, resamples: int = RESAMPLES) -> Sampling:
        """How far the cases with the finding (`of` True), or those without, speak for one another."""
        chosen = np.flatnonzero(self.truth == of)
        return Sampling(self.odds[chosen], [self.groups[index] for index in chosen], resamples=resamples)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a threshold gives. Intervals are Wilson's at 95 %; `_bound`: one-sided lower 95 % bounds, see `bounds`.

    positives, negatives: cases with the finding and without. positive_deff, negative_deff: how many of each are worth
    one independent case.
    """

    level: Level
    threshold: float
    positives: int
    referred: int
    negatives: int
    cleared: int
    sensitivity: Interval
    sensitivity_bound: float
    positive_deff: float
    specificity: Interval
    specificity_bound: float
    negative_deff: float

    def nothing_to_measure(self, share: Share) -> str:
        """Why a share stands on no case, in words; "" where there are some. Its interval is then no measurement."""
        if self.positives if share == "sensitivity" else self.negatives:
            return ""
        return f"none to measure: {'no' if share == 'sensitivity' else 'every'} {self.level} has the finding"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A profile against what was measured. met: by the lower bounds. words: the same as a sentence's end."""

    profile: Profile
    met: bool
    words: str


@dataclass(frozen=True, kw_only=True)
class Predictive:
    """What a referral and a clearance mean at a prevalence. ppv: share of the referred who have the finding; npv: of
    the cleared who have it not. Their intervals are those of sensitivity and specificity carried through."""

    prevalence: float
    ppv: Interval
    npv: Interval


def judge(cases: Cases, threshold: float) -> Judged:
    """What a threshold gives on these cases. A score at the threshold is referred."""
    refer = cases.scores >= threshold
    ones, zeros = refer[cases.truth], refer[~cases.truth]
    of_ones, of_zeros = cases.sampling(True), cases.sampling(False)
    return Judged(
        level=cases.level,
        threshold=threshold,
        positives=len(ones),
        referred=int(ones.sum()),
        negatives=len(zeros),
        cleared=int((~zeros).sum()),
        sensitivity=wilson(int(ones.sum()), len(ones)),
        sensitivity_bound=of_ones.lower(ones),
        positive_deff=of_ones.deff,
        specificity=wilson(int((~zeros).sum()), len(zeros)),
        specificity_bound=of_zeros.lower(~zeros),
        negative_deff=of_zeros.deff,
    )


def standing(profile: Profile, judged: Judged) -> Standing:
    """Whether the lower bounds reach the profile; where they cannot with so few cases, how many are needed."""
    demands = [
        _Demand("sensitivity", profile.sensitivity, judged.sensitivity_bound, judged.positives, judged.positive_deff)
    ]
    if profile.specificity is not None:
        demands.append(
            _Demand(
                "specificity", profile.specificity, judged.specificity_bound, judged.negatives, judged.negative_deff
            )
        )
    short = [demand for demand in demands if not demand.met]
    if not short:
        shown = " and ".join(f"{demand.share} is at least {demand.bound:.4f}" for demand in demands)
        return Standing(profile=profile, met=True, words=f"profile met: {shown}")
    head = "profile NOT met" if any(demand.enough for demand in short) else "profile cannot be shown"
    reasons = "; ".join(demand.why_not(judged.level) for demand in short)
    return Standing(profile=profile, met=False, words=f"{head}: {reasons}")


class _Demand(NamedTuple):
    """One share of a profile: what is wanted, the lower bound reached, on how many cases, and their design effect."""

    share: str
    wanted: float
    bound: float
    n: int
    deff: float

    @property
    def met(self) -> bool:
        return self.bound >= self.wanted

    @property
    def enough(self) -> bool:
        """Whether so many cases could show it at all, were every one of them right."""
        return self.n > 0 and clopper_pearson_lower(self.n / self.deff, self.n / self.deff) >= self.wanted

    def why_not(self, level: Level) -> str:
        if self.enough:
            return f"the lower bound of {self.share} is {self.bound:.4f}, {self.wanted:g} is wanted"
        kind = "positive" if self.share == "sensitivity" else "negative"
        needed = cases_needed(self.wanted, self.deff)
        alike = ", as alike within their groups as these," if self.deff > 1 else ""
        have = f"1 {kind} {level} is" if self.n == 1 else f"{self.n} {kind} {UNITS[level]} are"
        return f"{have} too few: {needed}{alike} are needed to show {self.share} {self.wanted:g}"


def predictive(judged: Judged, prevalence: float) -> Predictive:
    """Predictive values by Bayes' rule. prevalence: share with the finding among those who will be screened."""
    corners = [
        _predictive(sensitivity, specificity, prevalence)
        for sensitivity, specificity in (
            (judged.sensitivity.value, judged.specificity.value),
            (judged.sensitivity.low, judged.specificity.low),
            (judged.sensitivity.high, judged.specificity.high),
        )
    ]
    # Both values rise with either share, so the corners are the extremes.
    ppv, npv = (Interval(value=value, low=low, high=high) for value, low, high in zip(*corners, strict=True))
    return Predictive(prevalence=prevalence, ppv=ppv, npv=npv)


def require_groups(level: Level, has_groups: bool) -> None:
    """Raise DataError where decisions are about groups and the data set does not say which they are."""
    if level == "group" and not has_groups:
        raise DataError(
            "the decision is about groups (decision.level = group), and this data set has no groups",
            remedy="give manifest.csv a group column, or find the groups in the names with --group-pattern",
        )


def _predictive(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    hits, misses = prevalence * sensitivity, prevalence * (1 - sensitivity)
    alarms, cleared = (1 - prevalence) * (1 - specificity), (1 - prevalence) * specificity
    # Where nothing is referred, or nothing cleared, nothing is promised of it.
    return hits / (hits + alarms) if hits else 0.0, cleared / (cleared + misses) if cleared else 0.0
