"""The networks that can be trained: one table, one file a family.

A backbone is everything up to the last feature maps. Adding one is a file with a `Backbone` and a line in the table.
"""

from __future__ import annotations

from edge.errors import RecipeError
from edge_convert.backbones.contract import Backbone
from edge_convert.backbones.efficientnet_lite import EFFICIENTNET_LITE0
from edge_convert.backbones.mobilenet_v2 import MOBILENET_V2

BACKBONES = {backbone.name: backbone for backbone in (MOBILENET_V2, EFFICIENTNET_LITE0)}


def find_backbone(name: str) -> Backbone:
    """The table's entry. Raises RecipeError listing the table."""
    if name not in BACKBONES:
        raise RecipeError(f"there is no backbone {name!r}", remedy=f"use one of {', '.join(BACKBONES)}")
    return BACKBONES[name]
