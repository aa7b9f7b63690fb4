"""The evidence that a bundle's heat maps are worth looking at: scales, measures, agreement, and the sanity check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle
from edge.dataset import Sample
from edge.saliency import MapScale, Method, Saliency
from edge_convert import export
from edge_convert.agreement import map_agreement
from edge_convert.backbones import find_backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.network import EMBEDDING, HEAD_FLAT, LOGITS, feature_maps, scaled
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_convert.saliency.cut import require_finer_layer
from edge_convert.saliency.readout import Readout
from edge_convert.saliency.score import finding_score, sides
from edge_runtime import saliency
from edge_runtime.evaluate import Prediction
from edge_runtime.faithfulness import Faithfulness, OneMap, Removal, judge_map, summarise
from edge_runtime.pipeline import Screener

FINDINGS = 64
NEGATIVES = 128
"""At most so many validation pictures, spread over the scores."""
BACKGROUND_SHARE = 0.99
"""Of the places in pictures without the finding: what they reach is background."""
DRAWS, RUNS = 8, 3
"""Of random last layers, for the sanity check; fewer where each is a graph of its own."""


@dataclass(frozen=True, kw_only=True)
class MapEvidence:
    """One kind of map, on referred findings of the validation pictures.

    faithfulness: of the int8 file; None where no finding was referred. to_float: median Spearman correlation with the
    float32 file's maps. to_grad_cam: with Grad-CAM by Keras in float32, at the layer the map is of. randomised: the
    size of the correlation with the maps of the same network under random last layers (Adebayo et al. 2018): a map that
    stays the same shows the picture, not the decision. Its size, since a random layer is as often for as against.
    """

    faithfulness: Faithfulness | None
    to_float: float | None
    to_grad_cam: float | None
    randomised: float | None


@dataclass(frozen=True, kw_only=True)
class SaliencyEvidence:
    """saliency: what goes into the bundle; None where the network gives no map. maps: by method."""

    saliency: Saliency | None
    maps: dict[str, MapEvidence]


def measure_saliency(
    recipe: Recipe,
    prepared: Prepared,
    draft: Bundle,
    predictions: Sequence[Prediction],
    model: Any,
    readout: Readout | None,
) -> Steps[SaliencyEvidence]:
    """Fit the scales of every kind of map and measure each.

    draft: with models and decision. predictions: the int8 file's, on validation. model: the Keras network exported.
    """
    methods = saliency.methods(draft.manifest.models["int8"])
    if not methods:
        return SaliencyEvidence(saliency=None, maps={})
    findings, negatives = _chosen(predictions, recipe, draft.manifest.decision.threshold)
    places = {sample.name: row for row, sample in enumerate(prepared.samples)}
    shown = [prepared.samples[places[p.name]] for p in findings]
    plain = [prepared.samples[places[p.name]] for p in negatives]
    tensors = [np.array(prepared.pictures[places[p.name]]) for p in findings]
    by_keras = KerasMaps(recipe, model, readout)
    score = Screener(draft, variant="int8").score
    removals = [Removal(score, tensor) for tensor in tensors]
    total, done = len(methods) * (2 * len(shown) + len(plain)), 0
    scales: dict[str, MapScale] = {}
    maps: dict[str, MapEvidence] = {}
    for method in methods:
        int8 = Screener(draft, variant="int8", method=method)
        quiet = []
        for heat in _heats(int8, plain):
            quiet.append(heat)
            yield Progress(done=(done := done + 1), total=total)
        judged: list[OneMap] = []
        heats = []
        for sample, removal in zip(shown, removals, strict=True):
            screening = int8.screen_file(sample.path, explain=True)
            judged.append(judge_map(screening, removal, sample.boxes))
            assert screening.heat is not None
            heats.append(screening.heat)
            yield Progress(done=(done := done + 1), total=total)
        float32 = list(_heats(Screener(draft, variant="float32", method=method), shown))
        randomised, to_grad_cam = [], []
        for tensor, heat in zip(tensors, heats, strict=True):
            to_grad_cam.append(map_agreement(heat, by_keras.grad_cam(tensor, method)))
            randomised += by_keras.against_random(tensor, method)
            yield Progress(done=(done := done + 1), total=total)
        scales[method] = _scale(quiet, heats)
        maps[method] = MapEvidence(
            faithfulness=summarise(judged),
            to_float=_median([map_agreement(a, b) for a, b in zip(heats, float32, strict=True)]),
            to_grad_cam=_median(to_grad_cam),
            randomised=_median([abs(value) for value in randomised]),
        )
    given = draft.manifest.saliency
    assert given is not None
    return SaliencyEvidence(saliency=replace(given, scales=scales), maps=maps)


class KerasMaps:
    """The same maps by Keras in float32, of the trained network and under random last layers."""

    def __init__(self, recipe: Recipe, model: Any, readout: Readout | None) -> None:
        self._recipe, self._model, self._readout = recipe, model, readout
        self._positive, _ = sides(recipe)
        self._backbone = find_backbone(recipe.network.backbone)
        trained: tuple[Any, Any] = tuple(model.get_layer(LOGITS).get_weights())
        kernel, bias = trained
        random = np.random.default_rng(recipe.seed)
        self._trained = trained
        self._drawn = [
            (random.normal(0, kernel.std() or 1.0, kernel.shape).astype(np.float32), np.zeros_like(bias))
            for _ in range(DRAWS)
        ]
        self._grad_cam = {place: self._tape(place) for place in self._places()}
        self._features = None if recipe.network.head == "dense" else self._forward()
        asked = recipe.on_request is not None
        self._explain = [self._on_request(*last) for last in (trained, *self._drawn[:RUNS])] if asked else []
        model.get_layer(LOGITS).set_weights(trained)

    def grad_cam(self, tensor: NDArray[np.uint8], method: Method) -> NDArray[np.float32]:
        """Grad-CAM by the gradient tape, at the layer that the method's map is of."""
        return self._grad_cam["finer" if method in ("grad-cam", "hires-cam") else "last"](self._input(tensor))

    def against_random(self, tensor: NDArray[np.uint8], method: Method) -> list[float]:
        """Spearman correlation of the trained network's map with each random last layer's."""
        x = self._input(tensor)
        if method in saliency.FROM_OUTPUTS:
            assert self._features is not None
            features = [value.numpy()[0] for value in self._features(x)]
            own, *drawn = (self._linear(features, method, *last) for last in (self._trained, *self._drawn))
        else:
            own, *drawn = (explain(x) for explain in self._explain)
        return [map_agreement(own, heat) for heat in drawn]

    def _input(self, tensor: NDArray[np.uint8]) -> Any:
        return tensorflow().constant(scaled(tensor[np.newaxis], self._backbone))

    def _forward(self) -> Any:
        """The features that the maps of the outputs are linear in."""
        wanted = [feature_maps(self._model)]
        if self._readout is not None:
            wanted.append(self._model.get_layer(self._readout.layer).output)
        trunk = keras().Model(self._model.input, wanted)
        return tensorflow().function(lambda x: tensorflow().nest.flatten(trunk(x, training=False)), autograph=False)

    def _linear(
        self,
        features: list[NDArray[np.float32]],
        method: Method,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        found = {"class_activation": features[0] @ kernel + bias}
        if self._readout is not None:
            # As in the exported file: two linear layers are one, and it has as few outputs as there are classes.
            fine, offset = self._readout.kernel @ kernel, self._readout.bias @ kernel + bias
            found["fine_activation"] = features[1] @ fine + offset
        make, _ = saliency.FROM_OUTPUTS[method]
        return make(found.__getitem__, found["class_activation"].mean((0, 1)), self._positive)

    def _on_request(self, kernel: Any, bias: Any) -> Callable[[Any], NDArray[np.float32]]:
        """The map on request under a last layer."""
        layer = self._model.get_layer(LOGITS)
        layer.set_weights([kernel, bias])
        # Traced here: what it reads of the layer is a copy, and the rest of it is set for each run.
        explain = tensorflow().function(export.explanation_of(self._recipe, self._model), autograph=False)

        def run(x: Any) -> NDArray[np.float32]:
            before = layer.get_weights()
            layer.set_weights([kernel, bias])
            heat: NDArray[np.float32] = explain(x).numpy()[0]
            layer.set_weights(before)
            return heat

        return run

    def _places(self) -> dict[str, str]:
        """`last`, and `finer` where a gradient is compiled for it."""
        if self._recipe.on_request in ("grad-cam", "hires-cam"):
            return {"last": "", "finer": require_finer_layer(self._model)}
        return {"last": ""}

    def _tape(self, place: str) -> Callable[[Any], NDArray[np.float32]]:
        tf = tensorflow()
        dense = self._recipe.network.head == "dense"
        last = self._model.get_layer(HEAD_FLAT if dense else EMBEDDING).input
        tensor = last if place == "last" else self._model.get_layer(self._places()[place]).output
        both = keras().Model(self._model.input, [tensor, self._model.output])
        score_of = finding_score(self._recipe)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def run(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                maps, logits = both(x, training=False)
                score = score_of(logits)
            gradient = tape.gradient(score, maps)
            weights = tf.reduce_mean(gradient, axis=[1, 2], keepdims=True)
            # Not clipped at zero: ranks of the places that speak against it count too.
            return tf.reduce_sum(maps * weights, axis=-1)

        return lambda x: run(x).numpy()[0]


def _chosen(
    predictions: Sequence[Prediction], recipe: Recipe, threshold: float
) -> tuple[list[Prediction], list[Prediction]]:
    """Referred findings and cleared pictures without one."""
    findings = [p for p in predictions if p.label in recipe.positive and p.probability >= threshold]
    negatives = [p for p in predictions if p.label not in recipe.positive and p.probability < threshold]
    return _spread(findings, FINDINGS), _spread(negatives, NEGATIVES)


def _spread(predictions: list[Prediction], most: int) -> list[Prediction]:
    ranked = sorted(predictions, key=lambda p: (p.probability, p.name))
    if len(ranked) <= most:
        return ranked
    return [ranked[place] for place in np.linspace(0, len(ranked) - 1, most).round().astype(int)]


def _heats(screener: Screener, samples: Sequence[Sample]) -> Iterator[Any]:
    for sample in samples:
        yield screener.screen_file(sample.path, explain=True).heat


def _scale(quiet: Sequence[NDArray[np.float32]], heats: Sequence[NDArray[np.float32]]) -> MapScale:
    """Background: what nearly all places without a finding stay below. Full: the median peak of referred findings."""
    reached = float(np.quantile(np.concatenate([heat.ravel() for heat in quiet]), BACKGROUND_SHARE)) if quiet else 0.0
    background = max(reached, 0.0)
    peak = float(np.median([heat.max() for heat in heats])) if heats else 1.0
    # Where findings hardly stand out, the colours say so: they stay cold.
    return MapScale(background=background, full_scale=max(peak, 1.2 * background, background + 0.1))


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
