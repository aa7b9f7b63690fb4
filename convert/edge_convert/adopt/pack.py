"""Somebody else's TFLite classifier as a bundle: how to feed it, what it gives, when to refer. Needs no TensorFlow.

Steps, in order: `open_model`, `adopt` (scores and labels, how pixels become the input), `screen_samples` and
`fit_threshold_on` where there are labelled pictures, `pack_adopted`. What neither file nor user says is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle import CARD, SCHEMA, Bundle, Manifest, ModelFile, Part, write_bundle
from edge.dataset import Dataset, Sample
from edge.decision import GIVEN, Calibration, Decision
from edge.errors import BundleError, DataError
from edge.fields import plain
from edge.names import first_few
from edge.preprocess import Preprocessing
from edge.profile import parse_profile
from edge.record import Failure
from edge_convert.adopt.model import Opened, Options, picture_shape
from edge_convert.adopt.scaling import find_scaling
from edge_convert.adopt.scores import check_positive, each_by_itself, find_activation, labels_and_output
from edge_convert.calibrate import Outputs
from edge_convert.golden import PICTURES, drawn_pictures, golden_set
from edge_convert.operating_point import fit_decision
from edge_convert.pack import versions
from edge_convert.recipe import DecisionRecipe
from edge_runtime.evaluate import Prediction, predict
from edge_runtime.pipeline import Screener

VARIANT = "adopted"
MODEL_FILE = "model.adopted.tflite"
# TensorFlow has no part in this.
MADE_WITH = {"ai-edge-litert", "edge-screen", "numpy", "opencv-python-headless", "python"}
# Rounding alone takes a probability no further than this out of 0 to 1.
OUTSIDE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A bundle in memory that can screen, and what was found out on the way, a sentence each."""

    bundle: Bundle
    notes: tuple[str, ...]


def adopt(opened: Opened, options: Options) -> Adopted:
    """The file with what is needed to screen with it, at the given threshold. Raises EdgeError."""
    notes: list[str] = []
    side_px, channels = picture_shape(opened, options)
    labels, output = labels_and_output(opened, options, notes)
    activation = find_activation(opened, output, options, notes)
    check_positive(options.positive, labels, alone=each_by_itself(opened, output, activation) and output.size > 1)
    scaling = find_scaling(opened.inputs[0], opened.metadata, options.scaling, channels, notes)
    if opened.metadata is not None and opened.metadata.score_calibration:
        notes.append("the file's metadata asks for a calibration of the scores: it is not applied")
    dtype = opened.inputs[0].dtype
    entry = ModelFile(
        file=MODEL_FILE,
        input_dtype=dtype,  # type: ignore[arg-type]
        outputs={"probabilities": output.name},
        input_mean=scaling.mean,
        input_std=scaling.std,
        input_order=options.order,
        input_layout=options.layout,
        output_activation=activation,
    )
    manifest = Manifest(
        schema=SCHEMA,
        name=options.name,
        synthetic=False,
        labels=labels,
        preprocessing=Preprocessing(
            side_px=side_px,
            fit=options.fit,
            colour="grey" if channels == 1 else "rgb",
            wide_range="full",
            # Its training resized whole pictures, and nothing here can measure what another way does to its answers.
            jpeg="whole",
        ),
        models={VARIANT: entry},
        decision=_given(options),
        saliency=None,
        golden=(),
        tolerances={},
        metrics={},
        recipe={"adopted": _evidence(opened, options)},
        data={},
        versions={package: version for package, version in versions().items() if package in MADE_WITH},
        parts={MODEL_FILE: Part(bytes=len(opened.model), sha256="")},
    )
    bundle = Bundle(manifest=manifest, parts={MODEL_FILE: opened.model}, sha256="")
    return Adopted(bundle=bundle, notes=tuple(notes))


def fit_threshold_on(
    bundle: Bundle, predictions: Sequence[Prediction | Failure], options: Options, dataset: Dataset
) -> Bundle:
    """The bundle with calibration and threshold fitted on labelled pictures. Raises DataError."""
    manifest = bundle.manifest
    found = [p for p in predictions if isinstance(p, Prediction)]
    truths = {p.label in options.positive for p in found}
    if truths != {True, False}:
        lacking = "with the finding" if True not in truths else "without it"
        raise DataError(f"no readable picture {lacking} is in the data", remedy="add some, or give --threshold instead")
    outputs = Outputs(
        outputs=np.array([p.outputs for p in found]),
        targets=np.array([manifest.labels.index(p.label) for p in found], np.int64),
        groups=tuple(p.group for p in found),
        positive=tuple(manifest.labels.index(label) for label in options.positive),
    )
    recipe = DecisionRecipe(profile=options.profile, calibration=options.calibration)
    decision = fit_decision(recipe, options.positive, outputs).decision
    positives = sum(p.label in options.positive for p in found)
    decision = replace(decision, fitted_on=f"{positives} positive of {len(found)} pictures of {dataset.name}")
    data = {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint(),
        "unreadable": len(predictions) - len(found),
        "group_pattern": dataset.group_pattern,
    }
    # A threshold from rendered pictures is for rendered pictures.
    synthetic = dataset.synthetic
    return replace(bundle, manifest=replace(manifest, decision=decision, data=data, synthetic=synthetic))


def screen_samples(bundle: Bundle, samples: Sequence[Sample]) -> Iterator[Prediction | Failure]:
    """What the adopted network gives for labelled pictures. Raises DataError for a label that it does not have."""
    labels = bundle.manifest.labels
    unknown = sorted({sample.label for sample in samples} - set(labels))
    if unknown:
        raise DataError(
            f"the data set has the label {unknown[0]!r}; the network has {first_few(labels)}",
            remedy="rename it in the data set, or write it so in the file of labels",
        )
    return predict(Screener(bundle), samples)


def pack_adopted(adopted: Adopted, pictures: Sequence[bytes], path: Path) -> Manifest:
    """Write the bundle. pictures: files for the self-test; without any, drawn ones. Raises EdgeError."""
    bundle = adopted.bundle
    drawn = drawn_pictures(bundle.manifest.preprocessing)
    golden = golden_set(bundle, list(pictures[:PICTURES]) or list(drawn.values()))
    _check_probabilities(bundle, [golden.parts[entry.picture] for entry in golden.golden if entry.outputs])
    manifest = replace(bundle.manifest, golden=golden.golden, tolerances=golden.tolerances)
    parts = {**golden.parts, **bundle.parts, CARD: _card(manifest, adopted.notes).encode()}
    return write_bundle(path, manifest, parts)


def _given(options: Options) -> Decision:
    return Decision(
        positive=options.positive,
        level="picture",
        calibration=Calibration(kind="none"),
        profile=parse_profile(options.profile),
        rule=GIVEN,
        threshold=options.threshold,
        sensitivity_bound=0.0,
        specificity_bound=0.0,
        met=False,
        standing="not shown: the threshold was given, and nothing was measured",
        fitted_on="nothing",
    )


def _check_probabilities(bundle: Bundle, pictures: Sequence[bytes]) -> None:
    """Raises BundleError where the scores of real pictures are no probabilities."""
    screener = Screener(bundle)
    for data in pictures:
        scores = screener.screen(data, name="golden").outputs
        if scores.min() < -OUTSIDE or scores.max() > 1 + OUTSIDE:
            worst = float(scores.min() if scores.min() < -OUTSIDE else scores.max())
            raise BundleError(
                f"the network gave {worst:.3g} for a label, which is no probability",
                remedy="say what its scores are: --scores softmax or sigmoid",
            )


def _evidence(opened: Opened, options: Options) -> dict[str, Any]:
    said = {key: value for key, value in plain(options).items() if key not in ("name", "labels")}
    metadata = None if opened.metadata is None else plain(replace(opened.metadata, labels=()))
    return {"sha256": hashlib.sha256(opened.model).hexdigest(), "options": said, "metadata": metadata}


def _card(manifest: Manifest, notes: Sequence[str]) -> str:
    decision = manifest.decision
    lines = [
        f"# {manifest.name}",
        "",
        "An adopted network: it was trained elsewhere, and this bundle holds no evidence of how. "
        f"It answers `refer` where the score of {' + '.join(decision.positive)} is at least {decision.threshold:.4f}. "
        "It supports a trained person's decision and does not replace it.",
        "",
        f"- threshold: {decision.standing}; fitted on {decision.fitted_on}",
        f"- calibration: {decision.calibration.kind}",
        "- heat map: none, the network gives no class activation",
        *(f"- {note}" for note in notes),
        "",
        "Measure it on local pictures with `edge evaluate` before use.",
        "",
    ]
    return "\n".join(lines)
