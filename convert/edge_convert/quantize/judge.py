"""What a quantized file costs, on the pictures that the build's gates are measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.decision import Decision
from edge.errors import GateError
from edge_convert.agreement import map_agreement
from edge_convert.calibrate import Outputs
from edge_convert.export import open_network
from edge_convert.operating_point import fit_decision
from edge_convert.prepare import Prepared
from edge_convert.recipe import GateRecipe, Recipe
from edge_runtime import saliency
from edge_runtime.calibration import calibrate, positive_score
from edge_runtime.metrics import Ranking


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A file against the float32 file, on n pictures.

    error: root mean square difference of the finding's probability. auc, accuracy: of the file itself; accuracy of the
    most probable label. auc_drop, accuracy_drop: float32's less the file's. flips: share of decisions that differ at
    the threshold fitted on this file. saliency: median rank correlation of the maps over the positive pictures; None
    where there is no map. bytes: its size.
    """

    n: int
    error: float
    auc: float
    accuracy: float
    auc_drop: float
    accuracy_drop: float
    flips: float
    saliency: float | None
    bytes: int

    def misses(self, gates: GateRecipe) -> tuple[str, ...]:
        """The gates on quantization that this file misses, by name."""
        found = []
        if self.auc_drop > gates.max_auc_drop:
            found.append("AUC")
        if self.accuracy_drop > gates.max_accuracy_drop:
            found.append("accuracy")
        if self.flips > gates.max_flips:
            found.append("flips")
        if self.saliency is not None and self.saliency < gates.min_saliency_agreement:
            found.append("maps")
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a file says of the pictures: (n, classes) probabilities, and (n, rows, columns) maps or None."""

    outputs: NDArray[np.float64]
    maps: NDArray[np.float32] | None


class Judge:
    """Holds a build's validation pictures and what float32 says of them."""

    def __init__(self, recipe: Recipe, prepared: Prepared, float32: bytes, *, split: str = "val") -> None:
        self.recipe, self._prepared = recipe, prepared
        self._rows = prepared.rows(split)
        self._positive = [recipe.classes.index(label) for label in recipe.positive]
        self._targets = prepared.targets[self._rows]
        self._float = self._ask(float32, "float32")
        self.auc_float, self._accuracy_float = self._quality(self._float)

    def measure(self, model: bytes, variant: str = "int8") -> Cost:
        """What a file costs. variant: how it is spoken to."""
        said, real = self._ask(model, variant), self._float
        decision = self._decision(said.outputs)
        decided = [
            calibrate(decision.calibration, x.outputs, self._positive)[0] >= decision.threshold for x in (said, real)
        ]
        scores = [positive_score(x.outputs, self._positive) for x in (said, real)]
        agreement = None
        if said.maps is not None and real.maps is not None:
            found = np.isin(self._targets, self._positive)
            pairs = zip(said.maps[found], real.maps[found], strict=True)
            agreement = float(np.median([map_agreement(a, b) for a, b in pairs]))
        auc, accuracy = self._quality(said)
        return Cost(
            n=len(self._rows),
            error=float(np.sqrt(((scores[0] - scores[1]) ** 2).mean())),
            auc=auc,
            accuracy=accuracy,
            auc_drop=self.auc_float - auc,
            accuracy_drop=self._accuracy_float - accuracy,
            flips=float((decided[0] != decided[1]).mean()),
            saliency=agreement,
            bytes=len(model),
        )

    def _ask(self, model: bytes, variant: str) -> _Said:
        recipe, network = self.recipe, open_network(self.recipe, variant, model)
        method = recipe.saliency.method if recipe.network.head == "pool" else None
        outputs, maps = [], []
        for row in self._rows:
            network.run(np.ascontiguousarray(self._prepared.pictures[row]))
            said = network.output("probabilities")
            outputs.append(said)
            if method is not None:
                maps.append(saliency.FROM_OUTPUTS[method][0](network.output, said, self._positive))
        return _Said(outputs=np.array(outputs, np.float64), maps=np.array(maps) if maps else None)

    def _quality(self, said: _Said) -> tuple[float, float]:
        """AUC and accuracy."""
        truth = np.isin(self._targets, self._positive)
        auc = Ranking(positive_score(said.outputs, self._positive), truth).auc()
        return auc, float((said.outputs.argmax(axis=1) == self._targets).mean())

    def _decision(self, outputs: NDArray[np.float64]) -> Decision:
        """As the build fits it; uncalibrated where the file ranks findings below the rest."""
        data = Outputs(
            outputs=outputs,
            targets=self._targets,
            groups=tuple(self._prepared.samples[row].group for row in self._rows),
            positive=tuple(self._positive),
        )
        wanted = self.recipe.decision
        try:
            return fit_decision(wanted, self.recipe.positive, data).decision
        except GateError:
            return fit_decision(replace(wanted, calibration="none"), self.recipe.positive, data).decision
