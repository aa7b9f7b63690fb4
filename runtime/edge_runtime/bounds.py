"""How low a share may truly be: one-sided 95 % lower bounds, for independent pictures and for grouped ones.

In numpy alone, because a device judges a bundle on local pictures; agreement with SciPy is tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.metrics import FEWEST_GROUPS, RESAMPLES, student

ERROR = 0.05
"""A lower bound lies above the truth in one of twenty such measurements."""

Z_ONE_SIDED = 1.6448536269514722


class Sampling:
    """Pictures (or groups) of one truth: how far they speak for one another, and so what a share of them shows.

    deff is the design effect: how many of them are worth one independent picture. 1 where every group holds one.
    Else 1 + (m - 1) * ICC (Kish 1965), m being the size of the group that a picture is in, on average, and ICC the
    intraclass correlation of the network's log-odds by one-way analysis of variance (Donner 1986), in [0, 1]. Log-odds
    and not decisions, so that it is defined where nothing is missed. Of fewer than FEWEST_GROUPS groups nothing tells
    how much their pictures go together: each group then counts as one.
    """

    def __init__(
        self, odds: NDArray[np.float64], groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        """odds: (n,) log-odds. groups: (n,) what each belongs to. resamples: of the group bootstrap."""
        self.n = len(odds)
        _, self._group = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
        self._sizes = np.bincount(self._group).astype(np.float64)
        self._drawn: NDArray[np.float64] | None = None
        count = len(self._sizes)
        if count == self.n:
            self.deff = 1.0
        elif count < FEWEST_GROUPS:
            self.deff = self.n / count
        else:
            held = float((self._sizes**2).sum() / self.n)
            self.deff = 1 + (held - 1) * intraclass_correlation(odds, self._group)
            random = np.random.default_rng(seed)
            places = random.integers(0, count, (resamples, count)) + count * np.arange(resamples)[:, np.newaxis]
            times = np.bincount(places.ravel(), minlength=resamples * count)
            self._drawn = times.reshape(resamples, count).astype(np.float64)

    def lower(self, success: NDArray[np.bool_]) -> float:
        """The one-sided lower 95 % bound of the share of successes; 0 where there is nothing.

        The smaller of Clopper and Pearson's bound (1934) on n / deff pictures and, where groups hold several, the
        5th percentile of a bootstrap over groups, moved outwards for few groups as `metrics.tails` has it.
        """
        if not self.n:
            return 0.0
        exact = clopper_pearson_lower(float(success.sum()) / self.deff, self.n / self.deff)
        return exact if self._drawn is None else min(exact, self._drawn_lower(success))

    def reaches(self, success: NDArray[np.bool_], target: float) -> bool:
        """Whether the lower bound is at least `target`, quicker than by working it out."""
        hits, n = float(success.sum()) / self.deff, self.n / self.deff
        if hits <= 0 or beta_cumulative(target, hits, n - hits + 1) > ERROR + 1e-12:
            return False
        return self._drawn is None or self._drawn_lower(success) >= target

    def _drawn_lower(self, success: NDArray[np.bool_]) -> float:
        assert self._drawn is not None
        hits = np.bincount(self._group, success, len(self._sizes))
        shares = (self._drawn @ hits) / (self._drawn @ self._sizes)
        count = len(self._sizes)
        z = math.sqrt(count / (count - 1)) * student(count - 1, Z_ONE_SIDED)
        return float(np.percentile(shares, 50 * math.erfc(z / math.sqrt(2))))


def intraclass_correlation(values: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    """The share of the variance that lies between groups, by one-way analysis of variance, clipped to [0, 1].

    values: (n,). group: (n,) indices, fewer groups than values and at least two. 1 where all values are alike, which
    tells nothing.
    """
    sizes = np.bincount(group).astype(np.float64)
    n, count = len(values), len(sizes)
    means = np.bincount(group, values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum() / (count - 1))
    within = float(((values - means[group]) ** 2).sum() / (n - count))
    typical = (n - float((sizes**2).sum()) / n) / (count - 1)
    total = between + (typical - 1) * within
    return min(1.0, max(0.0, (between - within) / total)) if total > 1e-12 else 1.0


def pictures_needed(target: float) -> float:
    """How many independent pictures, all of them right, bring the lower bound to `target`: log 0.05 / log target."""
    return math.log(ERROR) / math.log(target)


def cases_needed(target: float, deff: float = 1.0) -> int:
    """The same in whole cases, of which `deff` are worth one independent one."""
    return math.ceil(pictures_needed(target) * deff - 1e-9)


def clopper_pearson_lower(successes: float, n: float) -> float:
    """Clopper and Pearson's one-sided lower 95 % bound of a proportion; the numbers need not be whole."""
    if successes <= 0:
        return 0.0
    if n - successes < 1e-9:
        return float(ERROR ** (1 / n))
    return beta_quantile(ERROR, successes, n - successes + 1)


def beta_quantile(share: float, a: float, b: float) -> float:
    """The value below which `share` of a beta distribution lies, by bisection, within 1e-12."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cumulative(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def beta_cumulative(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (Press et al. 2007, 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cumulative(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * fraction / a


def _away_from_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
