"""One build: its stages as methods, each of which runs or finds that an earlier build's artefacts still hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from edge.dataset import Dataset
from edge.fields import plain
from edge.identity import Identity
from edge.split import assign_folds, assign_splits
from edge_convert import export, network
from edge_convert.data.certificate import CERTIFICATE, SCHEMA, certify, write_certificate
from edge_convert.data.check import check_dataset, raise_on_leak
from edge_convert.data.repair import drop_leaks
from edge_convert.operating_point import too_few
from edge_convert.pack import pack, versions
from edge_convert.prepare import FORMAT, Prepared, load_prepared, prepare
from edge_convert.progress import Progress, Steps, finish, translate
from edge_convert.prune.channels import STEPS, prune_channels
from edge_convert.prune.clock import Clock
from edge_convert.prune.magnitude import LayerSparsity, prune, sparsity_by_layer
from edge_convert.prune.plan_file import PLAN, ChannelRecord, load_record, save_record
from edge_convert.quantize.choose_ranges import Ranged, export_ranged, kind_of_ranges
from edge_convert.quantize.coverage import chosen_pictures
from edge_convert.quantize.ranges import END_TO_END, kind_of
from edge_convert.quantize.record import QuantizeRecord, load_quantization, save_quantization
from edge_convert.quantize.repair import First
from edge_convert.quantize.steps import mended, sixteen_bits
from edge_convert.recipe import Recipe
from edge_convert.reference import ReferenceSet, load_reference, make_reference
from edge_convert.report import ReportInputs, write_report
from edge_convert.report.tradeoff import Beside
from edge_convert.run_folder import RunFolder, key_of
from edge_convert.saliency.readout import Readout, fit_readout
from edge_convert.train.checkpoint import Checkpoint
from edge_convert.train.devices import devices
from edge_convert.train.epoch import Epoch
from edge_convert.train.finetune import finetune, teachers_recipe
from edge_convert.train.logs import Logs
from edge_convert.train.trainer import Keeping, Teacher
from edge_convert.verify import Verification, draft_bundle, load_verification, save_verification, verify

T = TypeVar("T")
Leaks = Literal["refuse", "drop"]
STAGES = ("data", "teacher", "finetune", "prune", "quantize", "verify", "reference", "pack", "report")
WEIGHTS = "weights.npz"
HISTORY = "history.json"
SPARSITY = "sparsity.json"
CALIBRATION = "calibration.json"
QUANTIZATION = "quantization.json"
RECIPE = "recipe.json"
CHECKPOINT = "training.npz"
DENSE = "dense.float32.tflite"
SCRATCH = (CHECKPOINT, "*.partial", *STEPS)
"""What the stages that train go on from after a kill."""
REPORT = "report.html"
READOUT = "readout.npz"
LATENCY = "latency.json"
PLACES = (*STAGES[: STAGES.index("pack")], LATENCY, REPORT)
"""What a build writes into its folder, besides its bundle."""


@dataclass(frozen=True, kw_only=True)
class StageEvent:
    """What a build is doing. run: which of several builds, for example `fold 2 of 5`; empty for a single one.

    reused: an earlier build's artefacts of this stage still hold.
    """

    stage: str
    run: str = ""
    reused: bool = False
    progress: Progress | None = None


Events = Generator[StageEvent, None, None]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The labelled pictures of one build or of several. seed: of the splits, where the data set has none."""

    dataset: Dataset
    identity: Identity
    leaks: Leaks
    seed: int


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Number `number` of `of` folds: it is what is measured on; the next one chooses, and the other ones train."""

    number: int
    of: int


class Builder:
    """The stages of one build, to be called in the order of STAGES."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        source: Source,
        *,
        start: str | None = None,
        logs: Path | None = None,
        data_folder: RunFolder | None = None,
        fold: Fold | None = None,
        beside: Beside | None = None,
        clock: Clock | None = None,
    ) -> None:
        """start: this stage and those after it run in any case. data_folder: where the data stage is, if elsewhere.

        beside: cases of a sweep for the report. clock: says what files cost where channels are removed; None: this
        machine, unless the prune stage is done already.
        """
        self.beside, self.clock = beside, clock
        self.recipe, self.folder, self.source, self.fold = recipe, folder, source, fold
        self.data_folder = data_folder or folder
        self.start, self.logs = start, logs
        self._forced = STAGES[STAGES.index(start) :] if start else ()
        self._key = ""

    @property
    def key(self) -> str:
        """What the stages so far were made from, as one digest."""
        return self._key

    def data(self) -> Events:
        """Check, split and preprocess the pictures."""
        r, source = self.recipe, self.source
        # The fingerprint is of pictures, labels and groups; what else the later stages read of the set is here.
        d = source.dataset
        described = [d.name, d.synthetic, d.has_groups, d.group_pattern, str(d.folder.resolve())]
        wanted = [plain(r.preprocessing), r.classes, r.positive, source.seed, source.leaks, SCHEMA, FORMAT]
        # Another version of a library may train, convert or infer otherwise, and the bundle says what made it.
        if self._enter("data", versions(), described, wanted, source.identity.fingerprint):
            with self._writing("data") as stage:
                yield StageEvent(stage="data")
                dataset, dropped = yield from _report_steps("data", _certified(source, stage))
                yield from _report_steps("data", prepare(r, dataset, source.identity.fingerprint, dropped, stage))
        else:
            yield StageEvent(stage="data", reused=True)
        if self.data_folder is self.folder:
            self.folder.own(r.name, d.folder)
        if few := too_few(r, self.prepared):
            yield StageEvent(stage="data", progress=Progress(done=1, total=1, note=few))
        if self.fold is not None:
            self._key = key_of(self._key, asdict(self.fold))

    def teacher(self) -> Events:
        """Train the larger network that the recipe's learns from, where it has one."""
        r = self.recipe
        if r.teacher == "none":
            return
        its = teachers_recipe(r)
        yield from self._train(
            "teacher", its, None, plain(its.network), weights_key(its.network.weights), plain(its.train), r.seed
        )

    def finetune(self) -> Events:
        """Train the network."""
        r = self.recipe
        taught = plain(r.distill) if r.teacher != "none" else None
        made_from = [{**plain(r.network), "weights": weights_key(r.network.weights)}, plain(r.train), r.seed, taught]
        yield from self._train("finetune", r, self._teacher, *made_from)

    def prune(self) -> Events:
        """Zero the small weights, or remove whole channels, while training on."""
        taught = plain(self.recipe.distill) if self.recipe.prune.removes_channels else None
        if not self._enter("prune", plain(self.recipe.prune), taught) and not self._pruned_by_another_clock():
            yield StageEvent(stage="prune", reused=True)
            return
        with self._writing("prune") as stage:
            if self.recipe.prune.removes_channels:
                model, history = yield from self._remove_channels(stage)
                sparsity = sparsity_by_layer(model)
            else:
                keeping, teacher = self._keeping(stage), self._teacher() if self.recipe.prune.makes_zeros else None
                steps = prune(self.recipe, self._load("finetune"), self.prepared, keeping=keeping, teacher=teacher)
                model, history, sparsity = yield from _report_steps("prune", steps)
            _save_network(stage, model, history)
            rows = [asdict(row) for row in sparsity]
            (stage / SPARSITY).write_text(json.dumps(rows, indent=1), encoding="utf-8")

    def quantize(self) -> Events:
        """Export the float32 and the int8 file."""
        r = self.recipe
        made_from = [plain(r.quantize), plain(r.saliency), export.calibration_source(r), plain(export.description(r))]
        if r.quantize.is_measured:
            made_from += [plain(r.gates.of_search), plain(r.decision)]
        if not self._enter("quantize", *made_from):
            yield StageEvent(stage="quantize", reused=True)
            return
        with self._writing("quantize") as stage:
            yield from _report_steps("quantize", self._export(stage))

    def verify(self) -> Events:
        """Measure the files through the runtime."""
        r = self.recipe
        if not self._enter("verify", plain(r.decision), plain(r.acceptance), plain(r.gates)):
            yield StageEvent(stage="verify", reused=True)
            return
        with self._writing("verify") as stage:
            dense = (self.folder.stage("quantize") / DENSE).read_bytes()
            steps = verify(r, self.prepared, self._models(), dense, self._load("prune"), self._readout())
            save_verification(stage, (yield from _report_steps("verify", steps)))

    def reference(self) -> Events:
        """Embed the known cases that the bundle carries, where the recipe wants any."""
        r = self.recipe
        if not r.reference.pictures:
            return
        if not self._enter("reference", plain(r.reference)):
            yield StageEvent(stage="reference", reused=True)
            return
        with self._writing("reference") as stage:
            draft = draft_bundle(r, self.prepared, self._models(), self.verification.decision)
            yield from _report_steps("reference", make_reference(r, self.prepared, draft, stage))

    def pack(self) -> Generator[StageEvent, None, Path | None]:
        """Write the bundle, where every gate is met; else an older one, which is not this build's, is set aside."""
        path = self.folder.path / f"{self.recipe.name}.edge"
        verification = self.verification
        if not verification.passed:
            self.folder.set_aside(self.recipe.name)
            return None
        yield StageEvent(stage="pack")
        manifest = pack(
            self.recipe,
            self.prepared,
            self._models(),
            verification,
            self._sparsity(),
            path,
            self._reference(),
            channels=self._channels(),
            quantized=self._quantized(),
        )
        note = f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(manifest.golden)} golden pictures"
        yield StageEvent(stage="pack", progress=Progress(done=1, total=1, note=note))
        return path

    def report(self, bundle: Path | None) -> Generator[StageEvent, None, Path]:
        """Write the report, whether or not the gates are met."""
        yield StageEvent(stage="report")
        path = self.folder.path / REPORT
        inputs = ReportInputs(
            recipe=self.recipe,
            prepared=self.prepared,
            models=self._models(),
            verification=self.verification,
            history=tuple(epoch for stage in self._trained() for epoch in self._history(stage)),
            sparsity=tuple(self._sparsity()),
            channels=self._channels(),
            calibration=tuple(self._calibration()),
            quantized=self._quantized(),
            bundle=bundle,
            reference=self._known(bundle),
            beside=self.beside,
        )
        write_report(path, inputs)
        yield StageEvent(stage="report", progress=Progress(done=1, total=1, note=str(path)))
        return path

    @cached_property
    def prepared(self) -> Prepared:
        """The data stage's pictures, mapped from disk, in the splits of this build."""
        prepared = load_prepared(self.data_folder.stage("data"))
        return prepared if self.fold is None else in_fold(prepared, self.source, self.fold)

    @cached_property
    def verification(self) -> Verification:
        """The verify stage's result."""
        return load_verification(self.folder.stage("verify"))

    def _enter(self, stage: str, *made_from: Any) -> bool:
        """Whether a stage must run. Its key holds all the stages before it, so a change runs all that follow."""
        self._key = key_of(self._key, stage, *made_from)
        return stage in self._forced or not self._folder_of(stage).is_done(stage, self._key)

    def _folder_of(self, stage: str) -> RunFolder:
        return self.data_folder if stage == "data" else self.folder

    @contextmanager
    def _writing(self, stage: str) -> Iterator[Path]:
        """A stage's folder to write into. What was made of the old stage must not be taken for made of this one.

        Nothing is given up before the new stage is whole: one that is refused or killed has cost nothing.
        """
        afresh, folder = stage in self._forced, self._folder_of(stage)
        with folder.writing(stage, self._key, afresh=afresh, scratch=SCRATCH) as place:
            yield place
            for later in STAGES[STAGES.index(stage) + 1 :]:
                self.folder.forget(later)

    def _keeping(self, stage: Path) -> Keeping:
        return Keeping(checkpoint=Checkpoint(stage / CHECKPOINT), logs=Logs(self.logs) if self.logs else None)

    def _train(
        self, name: str, recipe: Recipe, teacher: Callable[[], Teacher | None] | None, *made_from: Any
    ) -> Events:
        """Train a network into the stage `name`."""
        if not self._enter(name, *made_from):
            yield StageEvent(stage=name, reused=True)
            return
        with self._writing(name) as stage:
            taught_by = teacher() if teacher is not None else None
            whose = "teacher: " if name == "teacher" else ""
            steps = finetune(recipe, self.prepared, keeping=self._keeping(stage), teacher=taught_by, whose=whose)
            model, history = yield from _report_steps(name, steps)
            _save_network(stage, model, history)

    def _teacher(self) -> Teacher | None:
        """The trained teacher, on the devices that train; None where the recipe has none."""
        if self.recipe.teacher == "none":
            return None
        its = teachers_recipe(self.recipe)
        with devices(its.train.strategy).building(its.train.precision):
            model = network.load_classifier(its, self.folder.stage("teacher") / WEIGHTS)
        return Teacher(model=model, backbone=its.network.backbone)

    def _trained(self) -> tuple[str, ...]:
        """The stages that train, of this recipe."""
        return ("finetune", "prune") if self.recipe.teacher == "none" else ("teacher", "finetune", "prune")

    def _remove_channels(self, stage: Path) -> Generator[StageEvent, None, tuple[Any, list[Epoch]]]:
        steps = prune_channels(
            self.recipe,
            self._load("finetune"),
            self.prepared,
            folder=stage,
            table=self.folder.path / LATENCY,
            clock=self.clock,
            keeping=self._keeping(stage),
        )
        model, history, record = yield from _report_steps("prune", steps)
        save_record(stage / PLAN, record)
        return model, history

    def _pruned_by_another_clock(self) -> bool:
        """Whether a clock is asked for, and the finished stage's was another one."""
        record = self._channels()
        if self.clock is None or record is None:
            return False
        return finish(self.clock.measure([])).scale != (record.machine, record.unit)

    def _channels(self) -> ChannelRecord | None:
        return load_record(self.folder.stage("prune") / PLAN)

    def _export(self, stage: Path) -> Steps[None]:
        r, total = self.recipe, 3
        pruned = self._load("prune")
        readout = None
        if "fine_activation" in export.roles(r):
            readout = yield from fit_readout(r, pruned, self.prepared)
            readout.save(stage / READOUT)
        files = {"float32": export.export_float(r, pruned, readout)}
        yield Progress(done=1, total=total)
        names, pictures = yield from chosen_pictures(r, self.prepared, files["float32"])
        if kind_of_ranges(r) == "min-max":
            ranged = Ranged(model=export.export_int8(r, pruned, readout, pictures), how=END_TO_END[0])
        else:
            ranged = yield from export_ranged(r, self.prepared, files["float32"], names, pictures)
        yield Progress(done=2, total=total)
        files["int8"], record = yield from mended(
            *(r, self.prepared, files["float32"], First(model=ranged.model, kind=kind_of(ranged.how)), len(names)),
            ranges=ranged.how,
            keeping=self._keeping(stage),
        )
        for said in record.of_search():
            yield Progress(done=2, total=total, note=said)
        save_quantization(stage / QUANTIZATION, record)
        for variant in r.quantize.also:
            if variant == "int16":
                files[variant] = sixteen_bits(r, files["float32"], pictures)
            else:
                files[variant] = export.export_also(r, pruned, readout, variant)
        dense = (yield from self._dense_file(readout)) if r.prune.changes else files["float32"]
        export.write_models(stage, files)
        (stage / RECIPE).write_text(json.dumps(plain(r), indent=1), encoding="utf-8")
        (stage / DENSE).write_bytes(dense)
        (stage / CALIBRATION).write_text(json.dumps(names, indent=1), encoding="utf-8")
        sizes = ", ".join(f"{name} {len(data) / 1e6:.2f} MB" for name, data in files.items())
        yield Progress(done=total, total=total, note=f"{sizes}, calibrated on {len(names)} pictures")

    def _dense_file(self, readout: Readout | None) -> Steps[bytes]:
        """The float32 file before pruning. readout: of the pruned network; with other channels it needs its own."""
        model = self._load("finetune")
        if readout is not None and self.recipe.prune.removes_channels:
            readout = yield from fit_readout(self.recipe, model, self.prepared)
        return export.export_float(self.recipe, model, readout)

    def _load(self, stage: str) -> Any:
        return network.load_classifier(self.recipe, self.folder.stage(stage) / WEIGHTS)

    def _models(self) -> dict[str, bytes]:
        return export.read_models(self.folder.stage("quantize"))

    def _readout(self) -> Readout | None:
        path = self.folder.stage("quantize") / READOUT
        return Readout.load(path) if path.exists() else None

    def _calibration(self) -> list[str]:
        names: list[str] = json.loads((self.folder.stage("quantize") / CALIBRATION).read_text(encoding="utf-8"))
        return names

    def _reference(self) -> tuple[ReferenceSet, dict[str, bytes]] | None:
        """The reference set and its parts; None where the recipe wants none."""
        return load_reference(self.folder.stage("reference")) if self.recipe.reference.pictures else None

    def _known(self, bundle: Path | None) -> ReferenceSet | None:
        """The record of the reference set. A build that missed a gate has made none."""
        found = None if bundle is None else self._reference()
        return None if found is None else found[0]

    def _history(self, stage: str) -> list[Epoch]:
        rows = json.loads((self.folder.stage(stage) / HISTORY).read_text(encoding="utf-8"))
        return [Epoch(**row) for row in rows]

    def _quantized(self) -> QuantizeRecord:
        return load_quantization(self.folder.stage("quantize") / QUANTIZATION)

    def _sparsity(self) -> list[LayerSparsity]:
        rows = json.loads((self.folder.stage("prune") / SPARSITY).read_text(encoding="utf-8"))
        return [LayerSparsity(**row) for row in rows]


def in_fold(prepared: Prepared, source: Source, fold: Fold) -> Prepared:
    """The pictures with the fold as `test`, the next one as `val` and the others as `train`.

    The val split chooses the epoch, the calibration and the threshold, so it cannot be what is measured on. The data
    set's own test split is left out altogether.
    """
    folds = assign_folds(replace(source.dataset, samples=prepared.samples), folds=fold.of, seed=source.seed)
    split = {0: None, fold.number: "test", fold.number % fold.of + 1: "val"}
    samples = tuple(replace(s, split=split.get(n, "train")) for s, n in zip(prepared.samples, folds, strict=True))
    return replace(prepared, samples=samples)


def weights_key(weights: str) -> str:
    """What a network starts from: a word of the recipe, or the digest of the file that it names."""
    path = Path(weights)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else weights


def _save_network(stage: Path, model: Any, history: list[Epoch]) -> None:
    network.save_weights(model, stage / WEIGHTS)
    (stage / HISTORY).write_text(json.dumps([asdict(epoch) for epoch in history], indent=1), encoding="utf-8")


def _certified(source: Source, stage: Path) -> Steps[tuple[Dataset, tuple[str, ...]]]:
    """The data set in splits; where they leak, refused in the words of `edge data check`, or less what leaks.

    The certificate in the stage's folder is of the data set as it was given.
    """
    report = yield from check_dataset(source.dataset, seed=source.seed)
    if source.leaks == "refuse":
        raise_on_leak(report)
    write_certificate(stage / CERTIFICATE, certify(source.dataset, report, source.identity))
    return drop_leaks(assign_splits(source.dataset, seed=source.seed), report)


def _report_steps(stage: str, steps: Steps[T]) -> Generator[StageEvent, None, T]:
    """A stage's own steps as events of the build."""
    return (yield from translate(steps, lambda progress: StageEvent(stage=stage, progress=progress)))
