"""Where a limit lies: beyond all but a share of what was measured, or of what is to come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.acceptance import UNLIKE, Acceptance, Limits, poor_quality
from edge_runtime.evaluate import Prediction

Floats = NDArray[np.float64]

TAIL_FROM = 0.10
FEWEST_IN_TAIL = 5


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


def distance_limits(draft: Acceptance, budget: float, predictions: Sequence[Prediction]) -> dict[str, Limits]:
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
