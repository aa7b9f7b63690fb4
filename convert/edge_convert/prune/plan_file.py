"""What channel pruning did, as JSON beside the weights: a network is built again from its recipe and this file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.fields import FieldError, build, plain
from edge.files import write_atomically
from edge_convert.prune.cut import Plan

PLAN = "channels.json"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One step of channel pruning, in shares of what the unpruned int8 network costs, by the build's clock.

    wanted: what the step was to reach. predicted: by the latency table. measured: of the whole exported int8 file,
    beside the unpruned one. undone: why the step was taken back; empty where it was not.
    """

    step: int
    wanted: float
    predicted: float
    measured: float
    undone: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupCut:
    """A group of channels: how many there were and are; 0 where its residual branch is gone. layers: that make them."""

    group: str
    layers: tuple[str, ...]
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class ChannelRecord:
    """What is left of a network and what that bought. dropped: see `Plan`, with their layers, as are `kept` channels.

    unpruned_cost, pruned_cost: of an int8 inference, one thread, beside one another. unit, machine: in what and where
    that was measured. importance, target: of the recipe.
    """

    plan: Plan
    groups: tuple[GroupCut, ...]
    steps: tuple[StepRecord, ...]
    parameters_before: int
    parameters_after: int
    unpruned_cost: float
    pruned_cost: float
    unit: str
    machine: str
    importance: str
    target: float

    @property
    def predicted(self) -> float:
        """The predicted share of what the unpruned network costs; 1 where no step held."""
        return next((step.predicted for step in reversed(self.steps) if not step.undone), 1.0)

    @property
    def measured(self) -> float:
        """The measured share of what the unpruned network costs."""
        return self.pruned_cost / self.unpruned_cost

    def summary(self) -> dict[str, Any]:
        """What the bundle says of it: all but the numbers of the channels."""
        fields: dict[str, Any] = plain(self)
        del fields["plan"]["kept"]
        return {**fields, "predicted": self.predicted, "measured": self.measured, "sentences": self.sentences()}

    def sentences(self) -> list[str]:
        """The record for people."""
        cuts = [cut for cut in self.groups if cut.after != cut.before]
        lines = [
            f"channels removed from {len(cuts)} of {len(self.groups)} groups, {len(self.plan.dropped)} residual "
            f"blocks removed whole; parameters {self.parameters_before:,} before, {self.parameters_after:,} after",
            f"int8 inference, share of what the unpruned network's costs: {self.target:.2f} wanted, "
            f"{self.predicted:.3f} predicted by the table of layers, {self.measured:.3f} measured "
            f"({self.pruned_cost:,.6g} against {self.unpruned_cost:,.6g} {self.unit}, by {self.machine})",
        ]
        lines += [
            f"step {step.step} was undone: {step.undone} (it took {step.measured:.3f} of the unpruned network's)"
            for step in self.steps
            if step.undone
        ]
        return lines + [self.shortfall] * bool(self.shortfall)

    @property
    def shortfall(self) -> str:
        """By how much the wanted share was missed; empty where it was reached."""
        if self.measured <= self.target:
            return ""
        return f"the wanted share was not reached: {self.measured:.3f} instead of {self.target:.2f}"


def save_record(path: Path, record: ChannelRecord) -> None:
    """Write the record."""
    write_atomically(path, json.dumps(plain(record), indent=1).encode())


def load_record(path: Path) -> ChannelRecord | None:
    """The record; None where there is none. Raises EdgeError where it is damaged."""
    try:
        return build(ChannelRecord, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, FieldError, TypeError) as error:
        raise EdgeError(
            f"{path} cannot be read as a channel plan ({error})", remedy="run the prune stage again"
        ) from None
