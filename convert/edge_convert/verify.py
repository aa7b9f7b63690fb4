"""The proof: the exported files measured through the device's own code, and the recipe's gates."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import SCHEMA, Bundle, Decision, Manifest, Part, SaliencyScale
from edge.dataset import Sample
from edge.errors import DataError
from edge.fields import build, plain
from edge.record import Failure
from edge_convert.export import MODEL_FILES, model_entry
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_runtime import saliency
from edge_runtime.evaluate import Evaluation, Prediction, measure, positive_scores, predict
from edge_runtime.metrics import fit_threshold
from edge_runtime.pipeline import Screener

TIMED_RUNS = 40
ENLARGED = 32


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """int8 against float32 on the same pictures.

    auc_drop: float32 less int8. flips: pictures whose decision differs at the int8 threshold. largest_difference: of
    a positive probability. saliency: median Spearman correlation of the enlarged maps, over all and over the positive
    pictures; None where the network gives no map.
    """

    n: int
    auc_drop: float
    flips: int
    largest_difference: float
    saliency: float | None
    saliency_positive: float | None


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """One exported file: bytes as they are, bytes after gzip, and median milliseconds of its inference."""

    name: str
    bytes: int
    compressed_bytes: int
    infer_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One demand of the recipe and what was measured. limit is a bound from below or, where `at_most`, from above.

    measured: None where the demand does not apply: there is nothing in this network to measure.
    """

    name: str
    measured: float | None
    limit: float
    at_most: bool

    @property
    def passed(self) -> bool:
        """Whether the demand is met, or does not apply."""
        if self.measured is None:
            return True
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What the build is worth. evaluations: by split and model, for example `val/int8`."""

    decision: Decision
    saliency_scale: SaliencyScale | None
    evaluations: dict[str, Evaluation]
    agreement: Agreement
    sizes: tuple[ModelSize, ...]
    gates: tuple[Gate, ...]
    predictions: dict[str, tuple[Prediction, ...]] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether every gate is met."""
        return all(gate.passed for gate in self.gates)


def draft_bundle(recipe: Recipe, prepared: Prepared, models: dict[str, bytes], decision: Decision) -> Bundle:
    """A bundle in memory that holds no more than screening needs."""
    return Bundle(
        manifest=Manifest(
            schema=SCHEMA,
            name=recipe.name,
            synthetic=prepared.synthetic,
            labels=recipe.classes,
            preprocessing=recipe.preprocessing,
            models={variant: model_entry(recipe, variant) for variant in models},
            decision=decision,
            saliency=None,
            golden=(),
            tolerances={},
            metrics={},
            recipe={},
            data={},
            versions={},
            parts={MODEL_FILES[variant]: Part(bytes=len(data), sha256="") for variant, data in models.items()},
        ),
        parts={MODEL_FILES[variant]: data for variant, data in models.items()},
        sha256="",
    )


def verify(recipe: Recipe, prepared: Prepared, models: dict[str, bytes], dense: bytes) -> Steps[Verification]:
    """Measure the models on the validation split, and on the test split where there is one.

    The threshold is fitted on the int8 model's validation scores. models: `int8` and `float32`. dense: the float32
    file before pruning, for the table of sizes.
    """
    positive = recipe.positive
    target = recipe.decision.target_sensitivity
    bundle = draft_bundle(recipe, prepared, models, _decision(recipe, prepared, 0.5))
    splits = [split for split in ("val", "test") if len(prepared.rows(split))]
    results: dict[str, list[Prediction | Failure]] = {}
    total, done = 2 * sum(len(prepared.rows(split)) for split in splits), 0
    for variant in ("int8", "float32"):
        screener = Screener(bundle, variant=variant)
        for split in splits:
            results[f"{split}/{variant}"] = found = []
            for result in predict(screener, _samples(prepared, split)):
                found.append(result)
                done += 1
                yield Progress(done=done, total=total)
    predictions = {key: _predictions(found) for key, found in results.items()}
    scores, truth = positive_scores(predictions["val/int8"], positive)
    decision = _decision(recipe, prepared, fit_threshold(scores, truth, target))
    evaluations = {
        key: measure(
            found, labels=recipe.classes, positive=positive, threshold=decision.threshold, target_sensitivity=target
        )
        for key, found in results.items()
    }
    agreement = _agree(predictions["val/int8"], predictions["val/float32"], positive, decision, evaluations)
    verification = Verification(
        decision=decision,
        saliency_scale=_saliency_scale(predictions["val/int8"], positive, decision),
        evaluations=evaluations,
        agreement=agreement,
        sizes=_sizes(recipe, bundle, models, dense, prepared),
        gates=_gates(recipe, evaluations["val/int8"], agreement),
        predictions=predictions,
    )
    yield Progress(done=total, total=total, note=_headline(verification))
    return verification


def gate_table(gates: tuple[Gate, ...]) -> str:
    """The gates for people: one a line."""
    lines = []
    for gate in gates:
        sign = "<=" if gate.at_most else ">="
        if gate.measured is None:
            lines.append(f"  n/a   {gate.name:<44}      n/a  (wanted {sign} {gate.limit:g}; this network gives no map)")
            continue
        state = "ok  " if gate.passed else "MISS"
        lines.append(f"  {state}  {gate.name:<44} {gate.measured:8.4f}  (wanted {sign} {gate.limit:g})")
    return "\n".join(lines)


def _samples(prepared: Prepared, split: str) -> list[Sample]:
    return [prepared.samples[row] for row in prepared.rows(split)]


def _decision(recipe: Recipe, prepared: Prepared, threshold: float) -> Decision:
    rows = prepared.rows("val")
    positive = sum(prepared.samples[row].label in recipe.positive for row in rows)
    return Decision(
        positive=recipe.positive,
        threshold=threshold,
        target_sensitivity=recipe.decision.target_sensitivity,
        fitted_on=f"{positive} positive of {len(rows)} validation pictures, int8",
    )


def _predictions(found: list[Prediction | Failure]) -> tuple[Prediction, ...]:
    """The predictions. Raises DataError for a picture that could be read when the data was prepared and now cannot."""
    lost = [result for result in found if isinstance(result, Failure)]
    if lost:
        raise DataError(
            f"{len(lost)} pictures have changed since the data stage, for example {lost[0].picture}: {lost[0].error}",
            remedy="put them back, or build with --from data",
        )
    return tuple(result for result in found if isinstance(result, Prediction))


def _agree(
    int8: tuple[Prediction, ...],
    float32: tuple[Prediction, ...],
    positive: tuple[str, ...],
    decision: Decision,
    evaluations: dict[str, Evaluation],
) -> Agreement:
    from scipy.stats import spearmanr

    a, truth = positive_scores(int8, positive)
    b, _ = positive_scores(float32, positive)
    correlations = np.array(
        [
            spearmanr(_enlarged(x), _enlarged(y)).statistic
            for x, y in zip(int8, float32, strict=True)
            if x.heat is not None and y.heat is not None
        ]
    )
    # A flat map has no ranks; it agrees with nothing.
    correlations = np.nan_to_num(correlations, nan=0.0)
    return Agreement(
        n=len(int8),
        auc_drop=evaluations["val/float32"].auc.value - evaluations["val/int8"].auc.value,
        flips=int(((a >= decision.threshold) != (b >= decision.threshold)).sum()),
        largest_difference=float(np.abs(a - b).max()),
        saliency=float(np.median(correlations)) if len(correlations) else None,
        saliency_positive=float(np.median(correlations[truth])) if len(correlations) else None,
    )


def _enlarged(prediction: Prediction) -> NDArray[np.float32]:
    """The map as it is shown, smooth: ranks of 49 coarse cells say less than the picture a person sees."""
    assert prediction.heat is not None
    return saliency.enlarge(prediction.heat, ENLARGED, ENLARGED).ravel()


def _saliency_scale(
    predictions: tuple[Prediction, ...], positive: tuple[str, ...], decision: Decision
) -> SaliencyScale | None:
    """The median peak among the findings that are referred is shown as the hottest colour. None without maps."""
    if all(p.heat is None for p in predictions):
        return None
    peaks = [
        float(p.heat.max())
        for p in predictions
        if p.heat is not None and p.label in positive and p.probability >= decision.threshold
    ]
    return SaliencyScale(full_scale=max(float(np.median(peaks)) if peaks else 1.0, 0.1))


def _sizes(
    recipe: Recipe, bundle: Bundle, models: dict[str, bytes], dense: bytes, prepared: Prepared
) -> tuple[ModelSize, ...]:
    """Sizes, and latencies taken in turns so that a busy moment falls on both models alike."""
    screeners = {variant: Screener(bundle, variant=variant, threads=1) for variant in models}
    picture = np.ascontiguousarray(prepared.pictures[prepared.rows("val")[0]])
    times: dict[str, list[float]] = {variant: [] for variant in models}
    for _ in range(TIMED_RUNS):
        for variant, screener in screeners.items():
            start = time.perf_counter()
            screener.network.run(picture)
            times[variant].append(1e3 * (time.perf_counter() - start))
    rows: list[tuple[str, bytes, float | None]] = (
        [("float32, not pruned", dense, None)] if recipe.prune.sparsity else []
    )
    pruned = ", pruned" if recipe.prune.sparsity else ""
    rows += [
        (f"{variant}{pruned}", models[variant], float(np.median(times[variant]))) for variant in ("float32", "int8")
    ]
    return tuple(
        ModelSize(name=name, bytes=len(data), compressed_bytes=len(gzip.compress(data, 9, mtime=0)), infer_ms=median)
        for name, data, median in rows
    )


def _gates(recipe: Recipe, int8: Evaluation, agreement: Agreement) -> tuple[Gate, ...]:
    g = recipe.gates
    target = f"specificity at {recipe.decision.target_sensitivity:.0%} sensitivity"
    return (
        Gate(name="AUC, int8", measured=int8.auc.value, limit=g.min_auc, at_most=False),
        Gate(
            name=f"{target}, int8",
            measured=int8.specificity_at_target.value,
            limit=g.min_specificity_at_target,
            at_most=False,
        ),
        Gate(name="AUC lost by int8", measured=agreement.auc_drop, limit=g.max_auc_drop, at_most=True),
        Gate(
            name="decisions flipped by int8, share",
            measured=agreement.flips / agreement.n,
            limit=g.max_flips,
            at_most=True,
        ),
        Gate(
            name="saliency agreement on positives, median rank corr.",
            measured=agreement.saliency_positive,
            limit=g.min_saliency_agreement,
            at_most=False,
        ),
    )


def _headline(verification: Verification) -> str:
    e = verification.evaluations["val/int8"]
    return (
        f"validation, int8: AUC {e.auc}, specificity {e.specificity_at_target.value:.4f} "
        f"at {e.target_sensitivity:.0%} sensitivity"
    )


def save_verification(folder: Path, verification: Verification) -> None:
    """Write `verification.json` and, a line each, the predictions."""
    fields = plain(replace(verification, predictions={}))
    (folder / "verification.json").write_text(json.dumps(fields, indent=1), encoding="utf-8")
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as stream:
        for key, predictions in verification.predictions.items():
            for p in predictions:
                heat = None if p.heat is None else [[round(float(v), 4) for v in row] for row in p.heat]
                stream.write(json.dumps({"of": key, **asdict(replace(p, heat=None)), "heat": heat}) + "\n")


def load_verification(folder: Path) -> Verification:
    """What `save_verification` wrote."""
    fields = json.loads((folder / "verification.json").read_text(encoding="utf-8"))
    predictions: dict[str, list[Prediction]] = {}
    for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        key, heat = row.pop("of"), row.pop("heat")
        row["probabilities"] = tuple(row["probabilities"])
        row["heat"] = None if heat is None else np.array(heat, np.float32)
        predictions.setdefault(key, []).append(Prediction(**row))
    loaded = build(Verification, {**fields, "predictions": {}})
    return replace(loaded, predictions={key: tuple(found) for key, found in predictions.items()})
