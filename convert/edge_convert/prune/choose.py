"""Which channels to remove: always those whose loss is least for what they cost; or of every group the same share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_convert.prune.cut import Plan
from edge_convert.prune.graph import Branch, ChannelGraph
from edge_convert.prune.importance import Scores
from edge_convert.prune.latency import MULTIPLE, CostlyLayer, LatencyTable

STRIDES = (1, 2, 3, 4)
"""How many times MULTIPLE channels one move may take: where a kernel works on 32 at a time, 8 alone buy nothing."""

LEAST_SAVED = 1e-6
"""Of what all layers cost at first: less is no saving, whatever the clock's unit."""


@dataclass(frozen=True, kw_only=True)
class _Move:
    """Leave `left` channels of a group, or drop a branch. price: importance lost for each unit of cost saved."""

    price: float
    group: str = ""
    left: int = 0
    branch: str = ""


class Chooser:
    """Removes from a network by the table until it is quick enough."""

    def __init__(self, graph: ChannelGraph, table: LatencyTable, scores: Scores) -> None:
        self._graph, self._table = graph, table
        # Layers of branches that were dropped, and their sums.
        self._gone: set[str] = set()
        # By importance, the least first; the sort is stable, so equal ones go in their own order.
        self._ranked = {name: np.argsort(found, kind="stable") for name, found in scores.items()}
        self._lost = {
            name: np.concatenate([[0.0], np.cumsum(found[self._ranked[name]])]) for name, found in scores.items()
        }
        self._left = {name: group.size for name, group in graph.groups.items()}
        self._of_group: dict[str, list[CostlyLayer]] = {}
        for layer in table.layers:
            for name in {*layer.takes, *layer.gives}:
                self._of_group.setdefault(name, []).append(layer)
        self._least_saved = LEAST_SAVED * self.cost()

    def cost(self) -> float:
        """What all layers of the table cost, with what is left."""
        return sum(self._layer_cost(layer) for layer in self._table.layers)

    def reach(self, cost: float) -> Plan:
        """Remove until the predicted cost is `cost` or less, or nothing more can be removed. Returns what is left."""
        now = self.cost()
        while now > cost:
            best = min(self._moves(), key=lambda move: move.price, default=None)
            if best is None:
                break
            if best.branch:
                self._drop(best.branch)
            else:
                self._left[best.group] = best.left
            now = self.cost()
        return self._plan()

    def _moves(self) -> Iterator[_Move]:
        for name, group in self._graph.groups.items():
            if not set(group.makers) <= self._gone:
                yield from self._narrower(name)
        for branch in self._graph.branches:
            if branch.name not in self._gone:
                yield from self._without(branch)

    def _narrower(self, name: str) -> Iterator[_Move]:
        """Ways to leave fewer channels of a group, at least MULTIPLE."""
        left = self._left[name]
        for stride in STRIDES:
            # To a multiple first, where a group's own width is none.
            fewer = (-(-left // MULTIPLE) - stride) * MULTIPLE
            if fewer < MULTIPLE:
                return
            layers = self._of_group.get(name, ())
            saved = sum(self._layer_cost(layer) - self._layer_cost(layer, {name: fewer}) for layer in layers)
            if saved > self._least_saved:
                yield _Move(
                    price=(self._lost_at(name, fewer) - self._lost_at(name, left)) / saved, group=name, left=fewer
                )

    def _without(self, branch: Branch) -> Iterator[_Move]:
        """To drop a branch. All channels that are made in it are counted as lost, though it would die with fewer."""
        own = [name for name, group in self._graph.groups.items() if set(group.makers) <= set(branch.layers)]
        within = {*branch.layers, branch.name} - self._gone
        saved = sum(self._layer_cost(layer) for layer in self._table.layers if layer.name in within)
        if own and saved > self._least_saved:
            lost = sum(self._lost_at(name, 0) - self._lost_at(name, self._left[name]) for name in own)
            yield _Move(price=lost / saved, branch=branch.name)

    def _lost_at(self, name: str, left: int) -> float:
        """The importance that is lost of a group with so many channels left."""
        return float(self._lost[name][self._graph.groups[name].size - left])

    def _drop(self, name: str) -> None:
        branch = next(branch for branch in self._graph.branches if branch.name == name)
        self._gone |= {*branch.layers, name}

    def _layer_cost(self, layer: CostlyLayer, change: dict[str, int] | None = None) -> float:
        if layer.name in self._gone:
            return 0.0
        return self._table.layer_cost(layer, self._width(layer.takes, change), self._width(layer.gives, change))

    def _width(self, names: Sequence[str], change: dict[str, int] | None) -> int:
        return sum((change or {}).get(name, self._left.get(name, self._graph.size(name))) for name in names)

    def _plan(self) -> Plan:
        kept = {}
        for name, group in self._graph.groups.items():
            if self._left[name] < group.size and not set(group.makers) <= self._gone:
                kept[name] = tuple(sorted(int(c) for c in self._ranked[name][group.size - self._left[name] :]))
        return Plan(kept=kept, dropped=tuple(b.name for b in self._graph.branches if b.name in self._gone))


class UniformChooser(Chooser):
    """Leaves the same share of every group, as a narrower network would: what any choice must beat. Blocks stay."""

    def reach(self, cost: float) -> Plan:
        """The largest share whose predicted cost is `cost` or less. Returns what is left."""
        for percent in range(100, -1, -1):
            for name, group in self._graph.groups.items():
                wanted = round(percent / 100 * group.size / MULTIPLE) * MULTIPLE
                self._left[name] = min(group.size, max(MULTIPLE, wanted))
            if self.cost() <= cost:
                break
        return self._plan()


CHOOSERS: dict[str, type[Chooser]] = {"global": Chooser, "uniform": UniformChooser}
"""By `prune.allocation`."""


def composed(first: Plan, then: Plan) -> Plan:
    """One plan for the network that `first` was made for, that does what both do one after the other."""
    kept = dict(first.kept)
    for name, places in then.kept.items():
        old = first.kept.get(name)
        kept[name] = tuple(old[p] for p in places) if old is not None else places
    return Plan(kept=kept, dropped=(*first.dropped, *then.dropped))
