"""Whole channels removed until the int8 network is as quick as the recipe wants, in steps, with training between them.

Each step: how much is each channel missed (importance.py), what does it cost here (latency.py), which go (choose.py),
the smaller network (cut.py), measured as it will ship; then its weights are fitted to the unpruned network's layers
(refit.py), and it learns again from the labels and that network. What a step decided is on disk before its training
begins, so a killed build goes on with the same network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge.fields import build, plain
from edge.files import write_atomically
from edge_convert import export
from edge_convert.measured import this_machine
from edge_convert.network import freeze, load_weights, save_weights
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.prune.choose import Chooser, composed
from edge_convert.prune.cut import Plan, cut
from edge_convert.prune.graph import ChannelGraph
from edge_convert.prune.importance import importance
from edge_convert.prune.latency import compare, measure_table
from edge_convert.prune.plan_file import ChannelRecord, GroupCut, StepRecord
from edge_convert.prune.refit import refit
from edge_convert.recipe import Recipe
from edge_convert.saliency.readout import random_readout
from edge_convert.train.devices import devices
from edge_convert.train.epoch import Epoch, validated
from edge_convert.train.finetune import set_seeds
from edge_convert.train.trainer import Keeping, Teacher, Trainer

UNPRUNED = "unpruned.int8.tflite"
TRIES = 4
"""How often a step plans anew where the whole network is slower or quicker than its layers promised."""

SPARED = 0.97
"""A network that is quicker than this share of what is wanted has lost channels for nothing."""

BOUGHT = 0.99
"""A step must leave at most this share of the time before it, or it is undone."""

CALIBRATION_PICTURES = 8


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a step decided. cut: of the network before it. record: what that promised and gave. us: an int8 inference of
    the unpruned network and of the one after the step, median microseconds, measured in turns.
    """

    cut: Plan
    record: StepRecord
    us: tuple[float, float]


def prune_channels(
    recipe: Recipe, model: Any, prepared: Prepared, *, folder: Path, table: Path, keeping: Keeping | None = None
) -> Steps[tuple[Any, list[Epoch], ChannelRecord]]:
    """Remove channels from a trained classifier, and train on. Returns the smaller model, the history and what went.

    model: is not changed. folder: keeps what is decided and trained; an interrupted run goes on from it.
    table: the file of the latency table. keeping: see `finetune`.
    """
    set_seeds(recipe.seed)
    on = devices(recipe.train.strategy)
    with on.building(recipe.train.precision):
        # Copies that live where training does.
        unpruned, smaller = cut(model, Plan()), cut(model, Plan())
    pruner = _Pruner(recipe, unpruned, prepared, folder, table)
    plan, decisions, history = Plan(), list[Decision](), list[Epoch]()
    for step in range(1, recipe.prune.steps + 1):
        decision = yield from pruner.decide(step, smaller, decisions)
        decisions.append(decision)
        yield Progress(done=1, total=1, note=_sentence(decision.record))
        with on.building(recipe.train.precision):
            smaller = cut(smaller, decision.cut)
        plan = composed(plan, decision.cut)
        is_last = step == recipe.prune.steps or decision.record.undone
        if plan != Plan():
            passes = recipe.prune.epochs if is_last else recipe.prune.between_epochs
            removed = plan if decision.cut != Plan() else None
            history += yield from pruner.train(step, smaller, removed, passes, keeping)
        if decision.record.undone:
            break
    return smaller, history, _record(recipe, unpruned, smaller, plan, decisions)


class _Pruner:
    """The steps of one run: decided and trained, or read from where an interrupted run left them."""

    def __init__(self, recipe: Recipe, unpruned: Any, prepared: Prepared, folder: Path, table: Path) -> None:
        self.recipe, self.unpruned, self.prepared, self.folder, self.table = recipe, unpruned, prepared, folder, table

    def decide(self, step: int, model: Any, before: Sequence[Decision]) -> Steps[Decision]:
        """What the step removes from the model as the steps before left it."""
        path = self.folder / f"step-{step}.json"
        if path.exists():
            return build(Decision, json.loads(path.read_text(encoding="utf-8")))
        decision = yield from self._decide(step, model, before)
        write_atomically(path, json.dumps(plain(decision)).encode())
        return decision

    def _decide(self, step: int, model: Any, before: Sequence[Decision]) -> Steps[Decision]:
        prune = self.recipe.prune
        wanted = prune.target_latency ** (step / prune.steps)
        # The table's file is written whole or not at all; a second step finds it there.
        full = yield from measure_table(ChannelGraph(self.unpruned), self.table)
        whole_us = Chooser(ChannelGraph(self.unpruned), full, {}).us()
        graph = ChannelGraph(model)
        table = yield from measure_table(graph, self.table)
        scores = yield from importance(self.recipe, graph, self.prepared)
        share_before = before[-1].us[1] / before[-1].us[0] if before else 1.0
        # The whole network has costs that no layer has: they were seen in the step before.
        aim = wanted * (before[-1].record.predicted / before[-1].record.measured if before else 1.0)
        tried = list[Decision]()
        for _ in range(TRIES):
            chooser = Chooser(graph, table, scores)
            plan = chooser.reach(aim * whole_us)
            us = self._measured(cut(model, plan))
            yield Progress(done=1, total=1)
            share = us[1] / us[0]
            record = StepRecord(step=step, wanted=wanted, predicted=chooser.us() / whole_us, measured=share)
            tried.append(Decision(cut=plan, record=record, us=us))
            if SPARED * wanted <= share <= wanted:
                break
            aim *= wanted / share
        best = nearest(tried)
        if best.record.measured > BOUGHT * share_before:
            us = before[-1].us if before else (best.us[0], best.us[0])
            return Decision(cut=Plan(), record=replace(best.record, undone=True), us=us)
        return best

    def _measured(self, model: Any) -> tuple[float, float]:
        """Microseconds of the unpruned and of this network as int8 files. Weights do not decide them."""
        path = self.folder / UNPRUNED
        if not path.exists():
            write_atomically(path, self._int8(self.unpruned))
        unpruned, own = compare([path.read_bytes(), self._int8(model)])
        return unpruned, own

    def _int8(self, model: Any) -> bytes:
        rows = export.choose_calibration(self.recipe, self.prepared)[:CALIBRATION_PICTURES]
        # As it ships, but for weights that are not fitted yet and for what is only run on request.
        recipe = replace(self.recipe, saliency=replace(self.recipe.saliency, on_request="none"))
        readout = random_readout(model) if "fine_activation" in export.roles(recipe) else None
        return export.export_int8(recipe, model, readout, self.prepared.pictures[rows])

    def train(
        self, step: int, model: Any, removed: Plan | None, passes: int, keeping: Keeping | None
    ) -> Steps[list[Epoch]]:
        """Fit and train all layers of the model, or read the weights that an interrupted run left. Returns the epochs.

        removed: what it is of the unpruned network; None where this step cut nothing, and so nothing is to be fitted.
        """
        weights, epochs = self.folder / f"step-{step}.npz", self.folder / f"step-{step}.history.json"
        if weights.exists():
            load_weights(model, weights)
            return [Epoch(**row) for row in json.loads(epochs.read_text(encoding="utf-8"))]
        phase = f"prune, step {step}"
        best = validated(phase, self.recipe, self.prepared, model)
        yield Progress(done=0, total=1, note=f"{best}, as cut")
        if removed is not None:
            best = yield from self._fitted(phase, model, removed, best)
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
            best=best,
            on=devices(recipe.train.strategy),
            keeping=keeping,
            teacher=teacher,
        )
        history = yield from trainer.run(passes, recipe.prune.learning_rate)
        write_atomically(epochs, json.dumps([asdict(epoch) for epoch in history]).encode())
        partial = weights.with_suffix(".partial.npz")
        save_weights(model, partial)
        partial.replace(weights)
        return history

    def _fitted(self, phase: str, model: Any, removed: Plan, before: Epoch) -> Steps[Epoch]:
        """Fit the weights to the unpruned network's layers. Where that brings nothing, they stay as they were."""
        weights = model.get_weights()
        yield from refit(self.recipe, self.unpruned, model, removed, self.prepared)
        after = validated(phase, self.recipe, self.prepared, model)
        yield Progress(done=0, total=1, note=f"{after}, fitted to the unpruned network's layers")
        if after.better_than(before):
            return after
        model.set_weights(weights)
        return before


def nearest(tried: Sequence[Decision]) -> Decision:
    """The slowest of those that are as quick as wanted; where none is, the quickest."""
    reached = [decision for decision in tried if decision.record.measured <= decision.record.wanted]
    if reached:
        return max(reached, key=lambda decision: decision.record.measured)
    return min(tried, key=lambda decision: decision.record.measured)


def forget_steps(folder: Path) -> None:
    """Remove what only an interrupted run would need."""
    for path in [*folder.glob("step-*"), folder / UNPRUNED]:
        path.unlink(missing_ok=True)


def _sentence(record: StepRecord) -> str:
    undone = "; undone, for it bought no time" if record.undone else ""
    return (
        f"step {record.step}: {record.measured:.3f} of the unpruned int8 network's time measured, "
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
    unpruned_us, pruned_us = decisions[-1].us
    return ChannelRecord(
        plan=plan,
        groups=tuple(groups),
        steps=tuple(decision.record for decision in decisions),
        parameters_before=unpruned.count_params(),
        parameters_after=smaller.count_params(),
        unpruned_us=unpruned_us,
        pruned_us=pruned_us,
        machine=this_machine().cpu,
        importance=recipe.prune.importance,
        target=recipe.prune.target_latency,
    )
