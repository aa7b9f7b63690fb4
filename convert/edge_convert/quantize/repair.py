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
from edge_convert.prepare import Prepared, share_out
from edge_convert.progress import Progress, Steps
from edge_convert.quantize.attempt import Attempt, Repair, excess, line
from edge_convert.quantize.aware import train_aware
from edge_convert.quantize.correct import correct_biases
from edge_convert.quantize.coverage import chosen_pictures, covering_rows
from edge_convert.quantize.debug import layer_errors
from edge_convert.quantize.embed import embeddings_of
from edge_convert.quantize.equalise import equalise
from edge_convert.quantize.int16 import quantize_int16
from edge_convert.quantize.judge import Judge
from edge_convert.quantize.ranges import CLIPPINGS, END_TO_END, Kind, Ranges, Seen, observe, quantize, set_ranges
from edge_convert.recipe import Recipe
from edge_convert.train.trainer import Keeping

MOST_PICTURES = 512
FEW_PICTURES = 16
TRAINED_EPOCHS, TRAINED_PICTURES = 12, 512
"""Of the search's own training with rounding: 384 steps of 16 pictures, the dearest remedy of all. A quarter of that
left EfficientNetB0 outside the gates."""
LARGE_PX = 128
"""Above that side half of both, for a search must end in 20 minutes."""
FLOAT_LAYERS = (0, 1, 2, 4, 8, 16, 32)
LAST_OPERATIONS = ("FULLY_CONNECTED", "SOFTMAX")
"""Of the dense layers. A probability in 256 steps makes ties of scores that lie close together."""


def repair(
    recipe: Recipe,
    prepared: Prepared,
    float32: bytes,
    first: First,
    *,
    judge: Judge | None = None,
    keeping: Keeping | None = None,
) -> Steps[Repair]:
    """Look for an int8 file that meets the gates on quantization, on validation pictures.

    float32: the exported file. first: the int8 file that there is. The order of the search is that of what a remedy
    costs on the device, and of those that cost nothing there, of what it costs here: first other ranges and pictures,
    then other weights of the same network, then layers that stay float32, few before many. Where the recipe wants a
    file trained with rounding, all ranges are tried and it comes next. The search stops at the first file that passes;
    where none does, that which is nearest is kept and its misses are told. Of several that pass, the nearest to float32
    is kept. Where float32 itself misses `gates.min_auc`, no file can pass, and none is looked for. Files in the result
    have no metadata yet. keeping: of the training; see `finetune`.
    """
    search = _Search(recipe, prepared, float32, first.kind, judge or Judge(recipe, prepared, float32), keeping)
    yield from search.measure(first.called, lambda: first.model, first.float_layers)
    asked = [search.clipping, search.aware] if recipe.quantize.aware_epochs else []
    for stage in asked:
        yield from stage()
    left = [search.clipping, search.covering, search.biases, search.equalised, search.aware]
    if recipe.prune.shares_values:
        # These two give every weight a value of its own again.
        left = [stage for stage in left if stage not in (search.equalised, search.aware)]
    left = [stage for stage in [*left, search.float_layers, search.sixteen_bits] if stage not in asked]
    searches = recipe.quantize.repair and not search.passed
    if searches and search.judge.auc_float < recipe.gates.min_auc:
        why = f"float32 itself reaches an AUC of {search.judge.auc_float:.4f}, less than gates.min_auc: not searched"
        yield Progress(done=1, total=1, note=why)
        searches = False
    for stage in left if searches else ():
        yield from stage()
        if search.passed:
            break
    kept = search.best()
    return Repair(attempts=tuple(search.attempts), kept=kept, model=search.models[kept])


@dataclass(frozen=True, kw_only=True)
class First:
    """The int8 file that a search begins with. model: maybe with metadata. called: in the table of what was tried.

    kind: of its ranges, where the recipe's pictures set them and nothing else was done; it is not tried again.
    float_layers: names of those that stayed float32.
    """

    model: bytes = field(repr=False)
    kind: Kind | None = None
    float_layers: tuple[str, ...] = ()
    called: str = "as exported"


@dataclass(frozen=True, kw_only=True)
class _MadeOf:
    """What an int8 file was made of: the float32 file, what its calibration pictures put into it, the kind of range."""

    float32: bytes
    seen: Seen
    pictures: NDArray[np.uint8]
    kind: Kind

    @property
    def said(self) -> str:
        """The kind in words: "ranges from end to end", "ranges of least squared error", "ranges without ..."."""
        name, clipping, _ = self.kind
        return f"ranges {'of ' if clipping == 'mse' else ''}{name}"

    def ranges(self, backbone: Backbone) -> Ranges:
        """The range of each tensor."""
        _, clipping, percentile = self.kind
        return set_ranges(self.seen, backbone, clipping=clipping, percentile=percentile)


class _Search:
    """The state of one search: the attempts so far, and what they were made of."""

    def __init__(
        self,
        recipe: Recipe,
        prepared: Prepared,
        float32: bytes,
        exported: Kind | None,
        judge: Judge,
        keeping: Keeping | None,
    ) -> None:
        self.recipe, self.prepared, self.float32, self.judge = recipe, prepared, float32, judge
        self.exported = exported
        self.keeping = keeping
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
        ships: bool = True,
    ) -> Steps[None]:
        """Make a file, measure it, and note it; one that cannot be made is noted too. begun: when work on it began.

        ships: False for one that takes float32.
        """
        start = time.monotonic() if begun is None else begun
        try:
            model = make()
            if ships:
                export.check_integer_only(self.recipe, model, float_layers)
            cost = self.judge.measure(model, "int8" if ships else "float32")
        except EdgeError as error:
            yield self._failed(remedy, error, start)
            return
        attempt = Attempt(
            remedy=remedy,
            cost=cost,
            misses=cost.misses(self.recipe.gates),
            seconds=time.monotonic() - start,
            float_layers=float_layers,
            ships=ships,
        )
        self.models[len(self.attempts)] = model
        self.attempts.append(attempt)
        yield Progress(done=len(self.attempts), total=len(self.attempts), note=line(attempt))

    @property
    def passed(self) -> bool:
        """Whether a file meets the gates."""
        return any(attempt.passed for attempt in self.attempts)

    def best(self) -> int:
        """Of the files that pass, that whose probabilities are nearest to float32's; else the nearest to the gates."""

        def distance(number: int) -> tuple[bool, float, float]:
            cost = self.attempts[number].cost
            assert cost is not None
            passed = self.attempts[number].passed
            return not passed, 0.0 if passed else excess(cost, self.recipe.gates), cost.error

        return min((n for n in self.models if self.attempts[n].ships), key=distance)

    def clipping(self) -> Steps[None]:
        """The recipe's calibration pictures: from end to end, and without the ends; training wants the best of them."""
        begun = time.monotonic()
        _, own = yield from chosen_pictures(self.recipe, self.prepared, self.float32)
        seen = yield from observe(self.float32, own, self.backbone)
        for kind in (END_TO_END, *CLIPPINGS):
            made = _MadeOf(float32=self.float32, seen=seen, pictures=own, kind=kind)
            if kind == self.exported and 0 in self.models:
                self._made_of[0] = made
                continue
            yield from self._try_ranges(f"the recipe's {len(own)} pictures; {made.said}", made, begun=begun)
            begun = time.monotonic()
            if self.attempts[-1].passed and not self.recipe.quantize.aware_epochs:
                return

    def covering(self) -> Steps[None]:
        """Other calibration pictures, that cover the rest, and more of them; their ranges as did best so far."""
        best = self._made_of[self._best_ranges()]
        train = self.prepared.rows("train")
        embeddings = yield from embeddings_of(self.recipe, self.prepared, self.float32, train)
        wanted = self.recipe.quantize.calibration_pictures
        for count in sorted({wanted, max(wanted, min(4 * wanted, MOST_PICTURES))}):
            begun, before = time.monotonic(), self._error(self._best_ranges())
            rows = covering_rows(self.recipe, self.prepared, embeddings, count)
            pictures = self.prepared.pictures[rows]
            seen = yield from observe(self.float32, pictures, self.backbone, histograms=best.kind != END_TO_END)
            made = replace(best, seen=seen, pictures=pictures)
            yield from self._try_ranges(f"{len(rows)} k-centre pictures; {made.said}", made, begun=begun)
            if self.attempts[-1].passed or len(rows) < count or self._error(len(self.attempts) - 1) > before:
                # More of pictures that made it worse would make it worse still.
                return

    def biases(self) -> Steps[None]:
        """Take what rounding moves the means by off the biases of the best file so far."""
        start, begun = self._best_ranges(), time.monotonic()
        made = self._made_of[start]
        few, plain = _spread(made.pictures), quantize(made.float32, made.ranges(self.backbone))
        model = yield from correct_biases(made.float32, plain, few, self.backbone)
        remedy = f"{self.attempts[start].remedy}; biases corrected on {len(few)} pictures"
        yield from self.measure(remedy, lambda: model, begun=begun)

    def equalised(self) -> Steps[None]:
        """Equalise channels, where the network has pairs of layers that allow it."""
        start = self._best_ranges()
        ranges, begun = self._made_of[start], time.monotonic()
        even, pairs = yield from equalise(self.float32, ranges.pictures, self.backbone)
        if not pairs:
            return
        seen = yield from observe(even, ranges.pictures, self.backbone, histograms=ranges.kind != END_TO_END)
        remedy = f"{self.attempts[start].remedy}; {pairs} pairs of layers equalised"
        yield from self._try_ranges(remedy, replace(ranges, float32=even, seen=seen), begun=begun)

    def aware(self) -> Steps[None]:
        """Train with the rounding of the best file so far: its ranges stay as they are."""
        wanted, begun = self.recipe.quantize, time.monotonic()
        start = self._best_ranges()
        made = self._made_of[start]
        prepared, epochs = self.prepared, wanted.aware_epochs
        if not epochs:
            less = 2 if self.recipe.network.side_px > LARGE_PX else 1
            prepared, epochs = fewer(prepared, TRAINED_PICTURES // less), TRAINED_EPOCHS // less
        count = len(prepared.rows("train"))
        remedy = f"{self.attempts[start].remedy}; trained with rounding, {epochs} epochs of {count} pictures"
        try:
            trained = yield from train_aware(
                self.recipe,
                prepared,
                made.float32,
                quantize(made.float32, made.ranges(self.backbone)),
                epochs=epochs,
                learning_rate=wanted.aware_learning_rate,
                keeping=self.keeping,
            )
        except EdgeError as error:
            yield self._failed(remedy, error, begun)
            return
        # No start for what follows: without rounding these weights are not what the network was.
        ranges = made.ranges(self.backbone)
        yield from self.measure(remedy, lambda: quantize(trained, ranges), begun=begun)

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

    def sixteen_bits(self) -> Steps[None]:
        """Activations of 16 bits: too slow to ship for int8, but they show whether it is activations that lose."""
        _, own = yield from chosen_pictures(self.recipe, self.prepared, self.float32)
        remedy = 'activations of 16 bits, to compare (quantize.also = ["int16"])'
        yield from self.measure(remedy, lambda: quantize_int16(self.float32, own, self.backbone), ships=False)

    def _failed(self, remedy: str, error: EdgeError, begun: float) -> Progress:
        """Note an attempt that could not be made."""
        failed = Attempt(remedy=remedy, cost=None, misses=(), seconds=time.monotonic() - begun, why=error.message)
        self.attempts.append(failed)
        return Progress(done=len(self.attempts), total=len(self.attempts), note=line(failed))

    def _try_ranges(self, remedy: str, made: _MadeOf, *, begun: float | None = None) -> Steps[None]:
        yield from self.measure(remedy, lambda: quantize(made.float32, made.ranges(self.backbone)), begun=begun)
        if self.attempts[-1].cost is not None:
            self._made_of[len(self.attempts) - 1] = made

    def _best_ranges(self) -> int:
        """Of the attempts that only set ranges, that whose probabilities are nearest to float32's.

        Not the one nearest to the gates: AUC and flips move by single pictures, and would choose by chance.
        """

        return min(self._made_of, key=self._error)

    def _error(self, number: int) -> float:
        cost = self.attempts[number].cost
        return float("inf") if cost is None else cost.error


def fewer(prepared: Prepared, count: int) -> Prepared:
    """With at most so many training pictures, every class alike as far as it goes, evenly spread over each."""
    train = prepared.rows("train")
    by_class = [train[prepared.targets[train] == index] for index in range(len(prepared.classes))]
    kept: set[int] = set()
    for rows, share in zip(by_class, share_out([len(rows) for rows in by_class], count), strict=True):
        kept |= set(rows[np.linspace(0, len(rows) - 1, share).astype(np.int64)].tolist()) if share else set()
    left = set(train.tolist()) - kept
    samples = tuple(replace(s, split=None) if row in left else s for row, s in enumerate(prepared.samples))
    return replace(prepared, samples=samples)


def _spread(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A few of the pictures, evenly spread over them."""
    rows = np.unique(np.linspace(0, len(pictures) - 1, FEW_PICTURES).astype(np.int64))
    return np.ascontiguousarray(pictures[rows])
