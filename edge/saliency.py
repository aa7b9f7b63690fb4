"""How a bundle's heat maps are made and coloured: which kinds it can give, and what counts as nothing and as much."""

from __future__ import annotations

from typing import Literal

from edge.fields import FieldError
from edge.frozen import dataclass

OnRequest = Literal["grad-cam", "hires-cam", "occlusion"]
Method = Literal["fine", "cam", "grad-cam", "hires-cam", "occlusion"]


@dataclass(frozen=True, kw_only=True)
class MapScale:
    """What a kind of map gives, in logits of evidence for the finding.

    background: what pictures without a finding reach by themselves; it is shown as nothing. full_scale: shown as the
    hottest colour.
    """

    background: float
    full_scale: float

    def __post_init__(self) -> None:
        if not 0 <= self.background < self.full_scale:
            raise FieldError("'saliency.scales' must have 0 <= background < full_scale")


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """The maps of a bundle's models.

    method: the one shown where none is named. `cam`: the class activation map of the last layer. `fine`: the same held
    against a reading of the classes at a layer of twice its resolution. `grad-cam`, `hires-cam`: at that layer, by the
    score's gradient, compiled into the model. `occlusion`: how the score falls when a place of the last feature maps
    is blanked out.
    scales: by method, all that it has.
    """

    method: Method
    scales: dict[str, MapScale]

    def __post_init__(self) -> None:
        if self.method not in self.scales:
            raise FieldError("'saliency.scales' lacks the method that is shown")
