"""The bundle: models, decision, evidence, golden pictures and the model card in one sealed file."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from edge import __version__
from edge.bundle import CARD, Manifest, write_bundle
from edge.fields import plain
from edge_convert.card import model_card
from edge_convert.data.certificate import CERTIFICATE, to_bytes
from edge_convert.golden import make_golden
from edge_convert.prepare import Prepared
from edge_convert.prune.magnitude import LayerSparsity, total_sparsity
from edge_convert.prune.plan_file import ChannelRecord
from edge_convert.quantize.record import QuantizeRecord
from edge_convert.recipe import Recipe
from edge_convert.reference import ReferenceSet
from edge_convert.verify import Verification, draft_bundle

VERSIONS_OF = (
    "ai-edge-litert",
    "numpy",
    "opencv-python-headless",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf-keras",
)


def pack(
    recipe: Recipe,
    prepared: Prepared,
    models: dict[str, bytes],
    verification: Verification,
    sparsity: list[LayerSparsity],
    path: Path,
    reference: tuple[ReferenceSet, dict[str, bytes]] | None = None,
    *,
    channels: ChannelRecord | None = None,
    quantized: QuantizeRecord | None = None,
) -> Manifest:
    """Write the bundle. reference: the known cases and their parts. Returns its manifest."""
    known, known_parts = reference or (None, {})
    draft = draft_bundle(
        recipe,
        prepared,
        models,
        verification.decision,
        acceptance=verification.acceptance,
        parts=verification.parts,
    )
    golden = make_golden(draft, prepared, verification.predictions["val/int8"])
    manifest = replace(
        draft.manifest,
        saliency=verification.saliency,
        golden=golden.golden,
        tolerances=golden.tolerances,
        metrics={
            **_metrics(verification, total_sparsity(sparsity), known, channels),
            "quantization": quantized.summary() if quantized is not None else None,
        },
        recipe=plain(recipe),
        data=prepared.summary(),
        versions=versions(),
        reference=None if known is None else known.record,
    )
    parts = {**golden.parts, **draft.parts, **known_parts, CERTIFICATE: to_bytes(prepared.certificate)}
    parts[CARD] = model_card(manifest, verification, quantized).encode()
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


def _metrics(
    verification: Verification, zeros: float, known: ReferenceSet | None, channels: ChannelRecord | None
) -> dict[str, Any]:
    evaluations = {}
    for key, evaluation in verification.evaluations.items():
        fields = plain(evaluation)
        # Times are of one run: the report has them. Without them the same build is the same file.
        for left_out in ("labels", "positive", "infer_ms_median"):
            del fields[left_out]
        evaluations[key] = fields
    return {
        "evaluations": evaluations,
        "agreement": plain(verification.agreement),
        "sizes": [{key: of for key, of in plain(size).items() if key != "infer_ms"} for size in verification.sizes],
        "sparsity": zeros,
        "channels": channels.summary() if channels is not None else None,
        "gates": [{**plain(gate), "passed": gate.passed} for gate in verification.gates],
        "by_rule": plain(verification.by_rule),
        "held_out": plain(verification.held_out),
        "saliency": plain(verification.maps),
        "known_cases": None if known is None else {"neighbours": known.neighbours, "own_class": plain(known.agreement)},
        "refusals": plain(verification.refusals),
    }
