"""The networks that can be trained: one table, one file a family.

A backbone is everything up to the last feature maps. Adding one is a file with a `Backbone` and a line in the table.
"""

from __future__ import annotations

from edge.errors import RecipeError
from edge_convert.backbones.alexnet import ALEXNET
from edge_convert.backbones.contract import Backbone
from edge_convert.backbones.efficientnet_b0 import EFFICIENTNET_B0
from edge_convert.backbones.efficientnet_lite import EFFICIENTNET_LITE0
from edge_convert.backbones.inception_v3 import INCEPTION_V3
from edge_convert.backbones.mobilenet_v1 import MOBILENET_V1
from edge_convert.backbones.mobilenet_v2 import MOBILENET_V2
from edge_convert.backbones.mobilenet_v3 import MOBILENET_V3
from edge_convert.backbones.resnet50 import RESNET50
from edge_convert.backbones.vgg16 import VGG16

BACKBONES = {
    backbone.name: backbone
    for backbone in (
        MOBILENET_V1,
        MOBILENET_V2,
        *MOBILENET_V3,
        EFFICIENTNET_LITE0,
        EFFICIENTNET_B0,
        RESNET50,
        INCEPTION_V3,
        VGG16,
        ALEXNET,
    )
}


def find_backbone(name: str) -> Backbone:
    """The table's entry. Raises RecipeError listing the table."""
    if name not in BACKBONES:
        raise RecipeError(f"there is no backbone {name!r}", remedy=f"use one of {', '.join(BACKBONES)}")
    return BACKBONES[name]
