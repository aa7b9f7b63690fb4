"""The bundle: models, decision, evidence, golden pictures and the model card in one sealed file."""

from __future__ import annotations

import io
import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edge import __version__
from edge.bundle import CARD, Bundle, Golden, Manifest, write_bundle
from edge.fields import plain
from edge_convert.card import model_card
from edge_convert.prepare import Prepared
from edge_convert.prune import LayerSparsity
from edge_convert.recipe import Recipe
from edge_convert.verify import Verification, draft_bundle
from edge_runtime.evaluate import Prediction
from edge_runtime.pipeline import Screener
from edge_runtime.selftest import golden_outputs

GOLDEN_PICTURES = 8
MAX_GOLDEN_BYTES = 4 << 20
VERSIONS_OF = (
    "ai-edge-litert",
    "numpy",
    "opencv-python-headless",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf-keras",
)
# Three rounding steps of int8 for probabilities; the other outputs are allowed as much relative to their range.
PROBABILITY_TOLERANCE = 3 / 256
RELATIVE_TOLERANCE = 0.05


def pack(
    recipe: Recipe,
    prepared: Prepared,
    models: dict[str, bytes],
    verification: Verification,
    sparsity: list[LayerSparsity],
    path: Path,
) -> Manifest:
    """Write the bundle. Returns its manifest."""
    draft = draft_bundle(recipe, prepared, models, verification.decision)
    golden, parts, tolerances = _golden(draft, prepared, verification)
    zeros = sum(row.weights * row.sparsity for row in sparsity) / max(1, sum(row.weights for row in sparsity))
    manifest = replace(
        draft.manifest,
        saliency=verification.saliency_scale,
        golden=golden,
        tolerances=tolerances,
        metrics=_metrics(verification, zeros),
        recipe=plain(recipe),
        data=prepared.summary(),
        versions=versions(),
    )
    parts |= draft.parts
    parts[CARD] = model_card(manifest, verification).encode()
    return write_bundle(path, manifest, parts)


def versions() -> dict[str, str]:
    """What made this bundle."""
    found = {"edge-screen": __version__, "python": platform.python_version()}
    for package in VERSIONS_OF:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def _metrics(verification: Verification, zeros: float) -> dict[str, Any]:
    evaluations = {}
    for key, evaluation in verification.evaluations.items():
        fields = plain(evaluation)
        for known_elsewhere in ("labels", "positive"):
            del fields[known_elsewhere]
        evaluations[key] = fields
    return {
        "evaluations": evaluations,
        "agreement": plain(verification.agreement),
        "sizes": plain(verification.sizes),
        "sparsity": zeros,
        "gates": [{**plain(gate), "passed": gate.passed} for gate in verification.gates],
    }


def _golden(
    draft: Bundle, prepared: Prepared, verification: Verification
) -> tuple[tuple[Golden, ...], dict[str, bytes], dict[str, float]]:
    """Validation pictures spread over the range of scores, as their files' bytes, with the int8 outputs."""
    screener = Screener(draft)
    paths = {sample.name: sample.path for sample in prepared.samples}
    golden: list[Golden] = []
    parts: dict[str, bytes] = {}
    ranges: dict[str, list[float]] = {}
    for index, prediction in enumerate(_spread(verification.predictions["val/int8"], GOLDEN_PICTURES)):
        data = paths[prediction.name].read_bytes()
        if len(data) > MAX_GOLDEN_BYTES:
            continue
        sha256, outputs = golden_outputs(screener, data)
        picture = f"golden/{index:02d}{paths[prediction.name].suffix.lower()}"
        arrays = io.BytesIO()
        np.savez_compressed(arrays, **outputs)  # type: ignore[arg-type]
        parts[picture], parts[f"golden/{index:02d}.npz"] = data, arrays.getvalue()
        for role, output in outputs.items():
            ranges.setdefault(role, []).append(float(np.ptp(output)))
        golden.append(
            Golden(
                picture=picture,
                input_sha256=sha256,
                probabilities=tuple(float(p) for p in outputs["probabilities"]),
                outputs=f"golden/{index:02d}.npz",
            )
        )
    tolerances = {
        role: PROBABILITY_TOLERANCE if role == "probabilities" else RELATIVE_TOLERANCE * max(spans)
        for role, spans in ranges.items()
    }
    return tuple(golden), parts, tolerances


def _spread(predictions: tuple[Prediction, ...], count: int) -> list[Prediction]:
    """Predictions at even steps of the ranking, lowest and highest score among them."""
    ranked = sorted(predictions, key=lambda p: (p.probability, p.name))
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return [ranked[place] for place in places]
