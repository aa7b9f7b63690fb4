"""The search for an int8 file that loses nothing: cheapest remedies first, each measured, until one meets the gates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge_convert import export
from edge_convert.backbones import find_backbone
from edge_convert.backbones.contract import Backbone
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.quantize.correct import correct_biases
from edge_convert.quantize.coverage import covering_rows
from edge_convert.quantize.debug import layer_errors
from edge_convert.quantize.embed import embeddings_of
from edge_convert.quantize.equalise import equalise
from edge_convert.quantize.judge import Cost, Judge
from edge_convert.quantize.ranges import Clipping, Ranges, Seen, observe, quantize, set_ranges
from edge_convert.recipe import GateRecipe, Recipe

MOST_PICTURES = 512
FEW_PICTURES = 16
CLIPPINGS: tuple[tuple[str, Clipping, float], ...] = (
    ("ranges of least squared error", "mse", 0.0),
    ("ranges without the outer 0.001 %", "percentile", 99.999),
    ("ranges without the outer 0.01 %", "percentile", 99.99),
    ("ranges without the outer 0.1 %", "percentile", 99.9),
)
FLOAT_LAYERS = (0, 1, 2, 4, 8, 16, 32)
LAST_OPERATIONS = ("FULLY_CONNECTED", "SOFTMAX")
"""Of the dense layers. A probability in 256 steps makes ties of scores that lie close together."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One file that was tried. remedy: what was done. cost: None where it could not be made, and `why`.

    misses: gates that it misses. float_layers: names of the layers that stayed float32. seconds: to make and measure.
    """

    remedy: str
    cost: Cost | None
    misses: tuple[str, ...]
    seconds: float
    float_layers: tuple[str, ...] = ()
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was made and meets the gates."""
        return self.cost is not None and not self.misses


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What was tried, in order. kept: the number of the first attempt that passed, or of the best. model: its file."""

    attempts: tuple[Attempt, ...]
    kept: int
    model: bytes = field(repr=False)

    @property
    def chosen(self) -> Attempt:
        """The file that was kept."""
        return self.attempts[self.kept]


def repair(
    recipe: Recipe, prepared: Prepared, float32: bytes, int8: bytes, *, judge: Judge | None = None
) -> Steps[Repair]:
    """Search for an int8 file that meets the gates on quantization, on validation pictures.

    float32, int8: the exported files. The order is that of what a remedy costs on the device: first other pictures and
    ranges, then other weights of the same network, then layers that stay float32, few before many. It stops at the
    first file that passes; where none does, that which is nearest is kept and its misses are told. Files in the result
    have no metadata yet.
    """
    search = _Search(recipe, prepared, float32, judge or Judge(recipe, prepared, float32))
    yield from search.measure("as exported", lambda: int8)
    for stage in (search.pictures, search.clipping, search.biases, search.equalised, search.float_layers):
        if search.attempts[-1].passed:
            break
        yield from stage()
    passed = [n for n, attempt in enumerate(search.attempts) if attempt.passed]
    kept = passed[0] if passed else search.best()
    return Repair(attempts=tuple(search.attempts), kept=kept, model=search.models[kept])


@dataclass(frozen=True, kw_only=True)
class _MadeOf:
    """What an int8 file was made of: the float32 file, what its calibration pictures put into it, the kind of range."""

    float32: bytes
    seen: Seen
    pictures: NDArray[np.uint8]
    clipping: Clipping = "none"
    percentile: float = 0.0

    def ranges(self, backbone: Backbone) -> Ranges:
        """The range of each tensor."""
        return set_ranges(self.seen, backbone, clipping=self.clipping, percentile=self.percentile)


class _Search:
    """The state of one search: the attempts so far, and what they were made of."""

    def __init__(self, recipe: Recipe, prepared: Prepared, float32: bytes, judge: Judge) -> None:
        self.recipe, self.prepared, self.float32, self.judge = recipe, prepared, float32, judge
        self.backbone: Backbone = find_backbone(recipe.network.backbone)
        self.attempts: list[Attempt] = []
        self.models: dict[int, bytes] = {}
        """By the number of the attempt, where it could be made."""
        self._made_of: dict[int, _MadeOf] = {}

    def measure(
        self,
        remedy: str,
        make: Callable[[], bytes],
        float_layers: tuple[str, ...] = (),
        *,
        begun: float | None = None,
    ) -> Steps[None]:
        """Make a file, measure it, and note it; one that cannot be made is noted too. begun: when work on it began."""
        start = time.monotonic() if begun is None else begun
        try:
            model = make()
            export.check_integer_only(self.recipe, model, float_layers)
            cost = self.judge.measure(model)
        except EdgeError as error:
            failed = Attempt(remedy=remedy, cost=None, misses=(), seconds=time.monotonic() - start, why=error.message)
            self.attempts.append(failed)
            yield Progress(done=len(self.attempts), total=len(self.attempts), note=f"{remedy}: {error.message}")
            return
        attempt = Attempt(
            remedy=remedy,
            cost=cost,
            misses=cost.misses(self.recipe.gates),
            seconds=time.monotonic() - start,
            float_layers=float_layers,
        )
        self.models[len(self.attempts)] = model
        self.attempts.append(attempt)
        yield Progress(done=len(self.attempts), total=len(self.attempts), note=line(attempt))

    def best(self) -> int:
        """The attempt that is nearest to the gates."""
        made = [n for n, attempt in enumerate(self.attempts) if attempt.cost is not None]
        return min(made, key=lambda n: excess(self.attempts[n].cost, self.recipe.gates))

    def pictures(self) -> Steps[None]:
        """Other calibration pictures, then more of them; the recipe's own are observed too, for the ranges."""
        train = self.prepared.rows("train")
        embeddings = yield from embeddings_of(self.recipe, self.prepared, self.float32, train)
        wanted = self.recipe.quantize.calibration_pictures
        for count in sorted({wanted, max(wanted, min(4 * wanted, MOST_PICTURES))}):
            rows = covering_rows(self.recipe, self.prepared, embeddings, count)
            yield from self._observe(f"{len(rows)} k-centre pictures", self.prepared.pictures[rows])
            if self.attempts[-1].passed or len(rows) < count or self._is_worse():
                # More of pictures that made it worse would make it worse still.
                break
        if not self.attempts[-1].passed:
            _, own = export.calibration_pictures(self.recipe, self.prepared)
            yield from self._observe(f"{len(own)} pictures of the recipe", own)

    def clipping(self) -> Steps[None]:
        """Give up the ends of the ranges, seen in the pictures that did best."""
        start = self._best_ranges()
        made = self._made_of[start]
        # Only here are the values between the ends asked for, and only of these pictures.
        seen = yield from observe(self.float32, made.pictures, self.backbone)
        for remedy, clipping, percentile in CLIPPINGS:
            ranges = replace(made, seen=seen, clipping=clipping, percentile=percentile)
            yield from self._try_ranges(f"{self.attempts[start].remedy}; {remedy}", ranges)
            if self.attempts[-1].passed:
                return

    def biases(self) -> Steps[None]:
        """Take what rounding moves the means by off the biases of the best file so far."""
        start = self._best_ranges()
        few = _spread(self._made_of[start].pictures)
        begun = time.monotonic()
        model = yield from correct_biases(self._made_of[start].float32, self.models[start], few, self.backbone)
        remedy = f"{self.attempts[start].remedy}; biases corrected on {len(few)} pictures"
        yield from self.measure(remedy, lambda: model, begun=begun)

    def equalised(self) -> Steps[None]:
        """Equalise channels, where the network has pairs of layers that allow it."""
        start = self._best_ranges()
        ranges, begun = self._made_of[start], time.monotonic()
        even, pairs = yield from equalise(self.float32, ranges.pictures, self.backbone)
        if not pairs:
            return
        seen = yield from observe(even, ranges.pictures, self.backbone, histograms=ranges.clipping != "none")
        remedy = f"{self.attempts[start].remedy}; {pairs} pairs of layers equalised"
        yield from self._try_ranges(remedy, replace(ranges, float32=even, seen=seen), begun=begun)

    def float_layers(self) -> Steps[None]:
        """Keep layers in float32: the dense ones, which costs next to nothing, then the worst, few first."""
        start = self._best_ranges()
        made = self._made_of[start]
        errors = yield from layer_errors(made.float32, self.models[start], _spread(made.pictures), self.backbone)
        last = tuple(error.name for error in errors if error.operation in LAST_OPERATIONS)
        first = min(error.order for error in errors if error.operation in ("CONV_2D", "DEPTHWISE_CONV_2D"))
        # The first convolution reads the picture, which is integers.
        worst = [e.name for e in errors if e.own_db is not None and e.order > first and e.name not in last]
        ranges = made.ranges(self.backbone)
        for count in FLOAT_LAYERS:
            kept = (*last, *worst[:count])
            also = f" and the worst {count}" if count else ""
            remedy = f"{self.attempts[start].remedy}; the dense layers{also} in float32"

            def make(kept: tuple[str, ...] = kept) -> bytes:
                return quantize(made.float32, ranges, float_nodes=kept)

            yield from self.measure(remedy, make, kept)
            if self.attempts[-1].passed or count >= len(worst):
                return

    def _is_worse(self) -> bool:
        """Whether the last file is further from float32 than the exported one."""
        first, last = self.attempts[0].cost, self.attempts[-1].cost
        return first is not None and last is not None and last.error > first.error

    def _observe(self, remedy: str, pictures: NDArray[np.uint8]) -> Steps[None]:
        begun = time.monotonic()
        seen = yield from observe(self.float32, pictures, self.backbone, histograms=False)
        yield from self._try_ranges(remedy, _MadeOf(float32=self.float32, seen=seen, pictures=pictures), begun=begun)

    def _try_ranges(self, remedy: str, made: _MadeOf, *, begun: float | None = None) -> Steps[None]:
        yield from self.measure(remedy, lambda: quantize(made.float32, made.ranges(self.backbone)), begun=begun)
        if self.attempts[-1].cost is not None:
            self._made_of[len(self.attempts) - 1] = made

    def _best_ranges(self) -> int:
        """Of the attempts that only set ranges, that whose probabilities are nearest to float32's.

        Not the one nearest to the gates: AUC and flips move by single pictures, and would choose by chance.
        """

        def error(number: int) -> float:
            cost = self.attempts[number].cost
            return float("inf") if cost is None else cost.error

        return min(self._made_of, key=error)


def excess(cost: Cost | None, gates: GateRecipe) -> float:
    """How far a file is from its gates: the largest share of a limit that it uses up; 1 or less passes."""
    if cost is None:
        return float("inf")
    used = [
        (cost.auc_drop, gates.max_auc_drop),
        (cost.accuracy_drop, gates.max_accuracy_drop),
        (cost.flips, gates.max_flips),
    ]
    if cost.saliency is not None:
        used.append((1 - cost.saliency, 1 - gates.min_saliency_agreement))
    return max(lost / limit if limit > 0 else lost * 1e6 for lost, limit in used)


def line(attempt: Attempt) -> str:
    """An attempt for people, in one line."""
    if attempt.cost is None:
        return f"{attempt.remedy}: not possible ({attempt.why})"
    c = attempt.cost
    maps = "" if c.saliency is None else f", maps {c.saliency:.3f}"
    state = "passes" if attempt.passed else f"misses {', '.join(attempt.misses)}"
    return (
        f"{attempt.remedy}: AUC {c.auc:.4f} ({-c.auc_drop:+.4f}), accuracy {c.accuracy:.4f} ({-c.accuracy_drop:+.4f}), "
        f"flips {c.flips:.4f}, rms {c.error:.4f}{maps}, {c.bytes / 1e6:.2f} MB, {attempt.seconds:.0f} s: {state}"
    )


def _spread(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A few of the pictures, evenly spread over them."""
    rows = np.unique(np.linspace(0, len(pictures) - 1, FEW_PICTURES).astype(np.int64))
    return np.ascontiguousarray(pictures[rows])
