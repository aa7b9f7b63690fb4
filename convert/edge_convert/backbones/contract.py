"""What the pipeline needs to know of a backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import RecipeError

WEIGHT_SOURCES = ("imagenet", "package", "none")


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One network family.

    input_scale, input_zero_point: it is trained on `(pixel - input_zero_point) * input_scale`; both are exact
    quantization parameters, so that the int8 file takes the pixels as they are.
    block_starts: names of the layers that begin each block, from the input on; fine-tuning unfreezes from one of them.
    build: `build(side_px, width, weights)` gives a flat functional tf_keras model from (side, side, 3) to the last
    feature maps (rows, columns, channels). weights: a path, `imagenet`, `package` or `none`.
    """

    name: str
    input_scale: float
    input_zero_point: int
    block_starts: tuple[str, ...]
    build: Callable[[int, float, str], Any]

    def first_unfrozen(self, blocks: int) -> str:
        """The layer from which the last `blocks` blocks begin."""
        if not 1 <= blocks <= len(self.block_starts):
            raise RecipeError(
                f"train.unfrozen_blocks is {blocks}; {self.name} has {len(self.block_starts)} blocks",
                remedy=f"use 1 to {len(self.block_starts)}, or 0 to train the last layer only",
            )
        return self.block_starts[-blocks]


def weight_file(weights: str) -> Path:
    """The weight file that a recipe names by path. Raises RecipeError where it is not there."""
    path = Path(weights).expanduser()
    if not path.is_file():
        raise RecipeError(
            f"there is no weight file at {weights}",
            remedy=f"give a path, or one of {', '.join(WEIGHT_SOURCES)}, as network.weights",
        )
    return path


def load_weight_file(model: Any, path: Path) -> None:
    """Fill a tf_keras model from a weight file of the same architecture (legacy .h5 or .keras)."""
    try:
        model.load_weights(str(path))
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise RecipeError(
            f"the weight file {path} does not fit this network: {reason}",
            remedy="use weights of the same backbone and width, without the top layer",
        ) from None


def download_failed(name: str, error: Exception) -> RecipeError:
    """The sentence for a machine that cannot fetch Keras's ImageNet weights."""
    return RecipeError(
        f"the ImageNet weights of {name} could not be downloaded ({type(error).__name__}: this machine may be offline)",
        remedy="download them where there is a network and set network.weights to the .h5 file, "
        "use the backbone efficientnet-lite0 with weights = 'package', or weights = 'none'",
    )
