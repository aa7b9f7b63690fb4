"""Whole channels removed until the int8 network is as quick as the recipe wants, in steps, with training between them.

Each step: how much is each channel missed (importance.py), what does it cost (latency.py, clock.py), which go
(choose.py), the smaller network (cut.py), measured as it will ship; then its weights are fitted to the unpruned
network's layers (refit.py), and it learns again from the labels and that network. What a step decided is on disk before
its training begins, so a killed build goes on with the same network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.fields import build, plain
from edge.files import write_atomically
from edge_convert import export
from edge_convert.keras import keras
from edge_convert.network import freeze, load_weights, save_weights
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.prune.choose import CHOOSERS, Chooser, composed
from edge_convert.prune.clock import Clock, OwnClock
from edge_convert.prune.cut import Plan, cut
from edge_convert.prune.graph import ChannelGraph
from edge_convert.prune.importance import importance
from edge_convert.prune.latency import measure_table
from edge_convert.prune.plan_file import ChannelRecord, GroupCut, StepRecord
from edge_convert.prune.refit import refit
from edge_convert.recipe import Recipe
from edge_convert.saliency.readout import random_readout
from edge_convert.train.devices import devices
from edge_convert.train.epoch import Epoch, validated
from edge_convert.train.finetune import set_seeds
from edge_convert.train.trainer import Keeping, Teacher, Trainer
from edge_runtime.timing import Costs

UNPRUNED = "unpruned.int8.tflite"
STEPS = ("step-*", UNPRUNED)
"""Patterns of the files that only an interrupted run needs."""
TRIES = 4
"""How often a step plans anew where the whole network is slower or quicker than its layers promised."""

SPARED = 0.97
"""A network that is quicker than this share of what is wanted has lost channels for nothing."""

BOUGHT = 0.99
"""A step must leave at most this share of the cost before it, or it is undone."""

CALIBRATION_PICTURES = 8


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a step decided. cut: of the network before it. record: what that promised and gave. costs: an int8
    inference of the unpruned network and of the one after the step, by the clock.
    """

    cut: Plan
    record: StepRecord
    costs: Costs


def prune_channels(
    recipe: Recipe,
    model: Any,
    prepared: Prepared,
    *,
    folder: Path,
    table: Path,
    clock: Clock | None = None,
    keeping: Keeping | None = None,
) -> Steps[tuple[Any, list[Epoch], ChannelRecord]]:
    """Remove channels from a trained classifier, and train on. Returns the smaller model, the history and what went.

    model: is not changed. folder: keeps what is decided and trained; an interrupted run goes on from it.
    table: the file of the latency table. clock: says what files cost; None: this machine. keeping: see `finetune`.
    """
    set_seeds(recipe.seed)
    on = devices(recipe.train.strategy)
    with on.building(recipe.train.precision):
        # Copies that live where training does.
        unpruned, smaller = cut(model, Plan()), cut(model, Plan())
    pruner = _Pruner(recipe, unpruned, prepared, folder, table, clock or OwnClock())
    plan, decisions, history = Plan(), list[Decision](), list[Epoch]()
    for step in range(1, recipe.prune.steps + 1):
        decision = yield from pruner.decide(step, smaller, decisions)
        decisions.append(decision)
        yield Progress(done=1, total=1, note=_sentence(decision.record))
        fitted = None
        if not decision.record.undone:
            with on.building(recipe.train.precision):
                candidate = cut(smaller, decision.cut)
            fitted = yield from pruner.fit(step, candidate, composed(plan, decision.cut))
            lost = pruner.before.validation_auc - fitted.validation_auc
            if lost <= recipe.prune.most_auc_lost:
                smaller, plan = candidate, composed(plan, decision.cut)
            else:
                decisions[-1] = decision = pruner.undo(decision, decisions[:-1], lost)
                yield Progress(done=1, total=1, note=_sentence(decision.record))
        undone = bool(decision.record.undone)
        if plan != Plan():
            passes = recipe.prune.epochs if undone or step == recipe.prune.steps else recipe.prune.between_epochs
            history += yield from pruner.train(step, smaller, passes, None if undone else fitted, keeping)
        if undone:
            break
    return smaller, history, _record(recipe, unpruned, smaller, plan, decisions)


class _Pruner:
    """The steps of one run: decided and trained, or read from where an interrupted run left them."""

    def __init__(
        self, recipe: Recipe, unpruned: Any, prepared: Prepared, folder: Path, table: Path, clock: Clock
    ) -> None:
        self.recipe, self.unpruned, self.prepared = recipe, unpruned, prepared
        self.folder, self.table, self.clock = folder, table, clock

    @cached_property
    def before(self) -> Epoch:
        """What the unpruned network reaches on validation."""
        return validated("before pruning", self.recipe, self.prepared, self.unpruned)

    def decide(self, step: int, model: Any, before: Sequence[Decision]) -> Steps[Decision]:
        """What the step removes from the model as the steps before left it."""
        path = self.folder / f"step-{step}.json"
        if path.exists():
            decided = build(Decision, json.loads(path.read_text(encoding="utf-8")))
            now = yield from self.clock.measure([])
            if now.scale != decided.costs.scale:
                raise EdgeError(
                    f"step {step} was decided by {decided.costs.machine}, and the clock now is {now.machine}",
                    remedy="go on with the clock that it began with, or begin again with --from prune",
                )
            return decided
        decision = yield from self._decide(step, model, before)
        self._write(decision)
        return decision

    def undo(self, decision: Decision, before: Sequence[Decision], lost: float) -> Decision:
        """Take a step back that broke the network, on disk too. lost: of validation AUC."""
        undone = _undone(decision, before, f"it would have lost {lost:.4f} of validation AUC")
        self._write(undone)
        return undone

    def _write(self, decision: Decision) -> None:
        write_atomically(
            self.folder / f"step-{decision.record.step}.json", json.dumps(plain(decision), indent=1).encode()
        )

    def _decide(self, step: int, model: Any, before: Sequence[Decision]) -> Steps[Decision]:
        prune = self.recipe.prune
        wanted = prune.target_latency ** (step / prune.steps)
        # The table's file is written whole or not at all; a second step finds it there.
        full = yield from measure_table(ChannelGraph(self.unpruned), self.table, self.clock)
        whole = Chooser(ChannelGraph(self.unpruned), full, {}).cost()
        graph = ChannelGraph(model)
        table = yield from measure_table(graph, self.table, self.clock)
        scores = yield from importance(self.recipe, graph, self.prepared)
        share_before = _share(before[-1].costs) if before else 1.0
        # The whole network has costs that no layer has: they were seen in the step before.
        aim = wanted * (before[-1].record.predicted / before[-1].record.measured if before else 1.0)
        tried = list[Decision]()
        for _ in range(TRIES):
            chooser = CHOOSERS[prune.allocation](graph, table, scores)
            plan = chooser.reach(aim * whole)
            if tried and plan == tried[-1].cut:
                break
            costs = yield from self._measured(cut(model, plan))
            share = _share(costs)
            record = StepRecord(step=step, wanted=wanted, predicted=chooser.cost() / whole, measured=share)
            tried.append(Decision(cut=plan, record=record, costs=costs))
            if SPARED * wanted <= share <= wanted:
                break
            aim *= wanted / share
        best = nearest(tried)
        return _undone(best, before, "it bought nothing") if best.record.measured > BOUGHT * share_before else best

    def _measured(self, model: Any) -> Steps[Costs]:
        """What the unpruned and this network cost as int8 files. Weights do not decide it."""
        path = self.folder / UNPRUNED
        if not path.exists():
            write_atomically(path, self._int8(self.unpruned))
        return (yield from self.clock.measure([path.read_bytes(), self._int8(model)]))

    def _int8(self, model: Any) -> bytes:
        rows = export.choose_calibration(self.recipe, self.prepared)[:CALIBRATION_PICTURES]
        # Random weights cost the same; those that a cut leaves behind may give ranges that no interpreter accepts.
        model = keras().models.clone_model(model)
        # As it ships, but for weights that are not fitted yet and for what is only run on request.
        recipe = replace(self.recipe, saliency=replace(self.recipe.saliency, on_request="none"))
        readout = random_readout(model) if "fine_activation" in export.roles(recipe) else None
        return export.export_int8(recipe, model, readout, self.prepared.pictures[rows])

    def fit(self, step: int, model: Any, removed: Plan) -> Steps[Epoch]:
        """Fit a cut network's weights to the unpruned network's layers, or read what an interrupted run fitted.

        removed: what the model is of the unpruned network. Where fitting brings nothing, the weights stay as they were.
        """
        weights, measure = self.folder / f"step-{step}.fitted.npz", self.folder / f"step-{step}.fitted.json"
        if weights.exists():
            load_weights(model, weights)
            return Epoch(**json.loads(measure.read_text(encoding="utf-8")))
        phase = f"prune, step {step}"
        as_cut = validated(phase, self.recipe, self.prepared, model)
        yield Progress(done=0, total=1, note=f"{as_cut}, as cut")
        before = model.get_weights()
        yield from refit(self.recipe, self.unpruned, model, removed, self.prepared)
        best = validated(phase, self.recipe, self.prepared, model)
        yield Progress(done=0, total=1, note=f"{best}, fitted to the unpruned network's layers")
        if not best.better_than(as_cut):
            model.set_weights(before)
            best = as_cut
        write_atomically(measure, json.dumps(asdict(best)).encode())
        _save(model, weights)
        return best

    def train(
        self, step: int, model: Any, passes: int, fitted: Epoch | None, keeping: Keeping | None
    ) -> Steps[list[Epoch]]:
        """Train all layers of the model, or read the weights that an interrupted run left. Returns the epochs.

        fitted: what the model reaches now, where that was measured.
        """
        weights, epochs = self.folder / f"step-{step}.npz", self.folder / f"step-{step}.history.json"
        if weights.exists():
            load_weights(model, weights)
            return [Epoch(**row) for row in json.loads(epochs.read_text(encoding="utf-8"))]
        phase = f"prune, step {step}"
        # Everything learns but batch normalisation, which keeps its statistics; see `freeze`.
        freeze(model, model.layers[0].name)
        # Each step sees changed copies of the pictures that no step before it saw.
        recipe = replace(self.recipe, seed=(self.recipe.seed + 7919 * step) % 2**31)
        teacher = Teacher(model=self.unpruned, backbone=self.recipe.network.backbone)
        trainer = Trainer(
            model,
            recipe,
            self.prepared,
            phase=phase,
            # What was there before counts too: where training brings nothing, it stays.
            best=fitted or validated(phase, self.recipe, self.prepared, model),
            on=devices(recipe.train.strategy),
            keeping=keeping,
            teacher=teacher,
        )
        history = yield from trainer.run(passes, recipe.prune.learning_rate)
        write_atomically(epochs, json.dumps([asdict(epoch) for epoch in history]).encode())
        _save(model, weights)
        return history


def _save(model: Any, path: Path) -> None:
    """Write the weights, whole or not at all."""
    partial = path.with_suffix(".partial.npz")
    save_weights(model, partial)
    partial.replace(path)


def _undone(decision: Decision, before: Sequence[Decision], why: str) -> Decision:
    """The decision to leave the network as the steps before left it."""
    unpruned = decision.costs.costs[0]
    costs = before[-1].costs if before else replace(decision.costs, costs=(unpruned, unpruned))
    return Decision(cut=Plan(), record=replace(decision.record, undone=why), costs=costs)


def nearest(tried: Sequence[Decision]) -> Decision:
    """The dearest of those that are as cheap as wanted; where none is, the cheapest."""
    reached = [decision for decision in tried if decision.record.measured <= decision.record.wanted]
    if reached:
        return max(reached, key=lambda decision: decision.record.measured)
    return min(tried, key=lambda decision: decision.record.measured)


def _share(costs: Costs) -> float:
    """What the second file costs, of the first."""
    return costs.costs[1] / costs.costs[0]


def _sentence(record: StepRecord) -> str:
    undone = f"; undone: {record.undone}" if record.undone else ""
    return (
        f"step {record.step}: {record.measured:.3f} of what the unpruned int8 network costs measured, "
        f"{record.predicted:.3f} predicted, {record.wanted:.3f} wanted{undone}"
    )


def _record(recipe: Recipe, unpruned: Any, smaller: Any, plan: Plan, decisions: Sequence[Decision]) -> ChannelRecord:
    graph = ChannelGraph(unpruned)
    left = {layer.name for layer in smaller.layers}
    groups = [
        GroupCut(
            group=name,
            layers=group.makers,
            before=group.size,
            after=len(plan.kept.get(name, range(group.size))) if left & set(group.makers) else 0,
        )
        for name, group in graph.groups.items()
    ]
    costs = decisions[-1].costs
    return ChannelRecord(
        plan=plan,
        groups=tuple(groups),
        steps=tuple(decision.record for decision in decisions),
        parameters_before=unpruned.count_params(),
        parameters_after=smaller.count_params(),
        unpruned_cost=costs.costs[0],
        pruned_cost=costs.costs[1],
        unit=costs.unit,
        machine=costs.machine,
        importance=recipe.prune.importance,
        target=recipe.prune.target_latency,
    )
