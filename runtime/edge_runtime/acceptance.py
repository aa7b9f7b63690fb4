"""Takes a bundle's measures of one picture after the other: of the picture before inference, of the embedding after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.acceptance import QUALITY, UNLIKE, Acceptance
from edge.bundle import Bundle
from edge.frozen import dataclass
from edge.preprocess import Placement
from edge_runtime import quality
from edge_runtime.novelty import Familiar, load_familiar

NOTHING_CHECKED = "nothing checks a picture's quality, or whether it is of a kind that the model knows"

DISTANCE_TOLERANCE = 0.1
"""Of the limit: how far a delegate's embedding distance may be off the CPU's. Nearer to the limit the CPU decides."""


@dataclass(frozen=True, kw_only=True)
class Inspector:
    """Measures by what a bundle holds. Measures only: `edge.acceptance.answer` decides."""

    acceptance: Acceptance
    familiar: Familiar | None

    @classmethod
    def of(cls, bundle: Bundle) -> Inspector | None:
        """The bundle's, None where it checks nothing. Raises BundleError where it cannot be acted on."""
        acceptance = bundle.manifest.acceptance
        if acceptance is None:
            return None
        quality.require_features(acceptance, bundle.manifest.preprocessing.channels)
        familiar = (
            load_familiar(bundle.parts[acceptance.familiar], acceptance.familiar) if acceptance.familiar else None
        )
        return cls(acceptance=acceptance, familiar=familiar)

    def picture(self, tensor: NDArray[np.uint8], placement: Placement) -> dict[str, float]:
        """What needs no network, by name. tensor: (side_px, side_px, channels) uint8, the network's input."""
        found = quality.features(tensor, placement)
        measures = quality.quality(self.acceptance, found, placement)
        if self.familiar is not None:
            measures["picture_distance"] = self.familiar.picture_distance(found)
            if self.familiar.colour_whitener.size:
                measures["colour"] = self.familiar.colour_distance(found)
        return measures

    def network(self, earlier: NDArray[np.float32]) -> dict[str, float]:
        """How far the earlier embedding, (channels,), is from what the model knows; empty where nothing is known."""
        if self.familiar is None or not self.familiar.directions.size:
            return {}
        return {"embedding_distance": self.familiar.embedding_distance(earlier)}

    def share_of_limit(self, earlier: NDArray[np.float32]) -> float | None:
        """The earlier embedding's distance as a share of its limit; None where there is no such limit."""
        limits = self.acceptance.limits.get("embedding_distance")
        if limits is None or limits.high is None:
            return None
        return self.network(earlier)["embedding_distance"] / limits.high


def describe(acceptance: Acceptance | None, threshold: float) -> tuple[str, ...]:
    """What is checked, for people: a sentence a line."""
    if acceptance is None:
        return (f"everything: {NOTHING_CHECKED}",)
    checked = [name for name, _, _ in QUALITY if name in acceptance.limits]
    lines = [f"retake where {', '.join(dict.fromkeys(checked))} is outside its limits"] if checked else []
    far = [name.replace("_", " ") for name in UNLIKE if name in acceptance.limits]
    lines += [f"uncertain where the {' or the '.join(far)} is beyond its limit"] if far else []
    if acceptance.clear_below is not None:
        lines.append(f"uncertain from p {acceptance.clear_below:.4f} up to the threshold {threshold:.4f}")
    return (*lines, f"limits fitted on {acceptance.fitted_on}") if lines else (f"everything: {NOTHING_CHECKED}",)
