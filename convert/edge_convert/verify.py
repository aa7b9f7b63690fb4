"""The proof: the exported files measured through the device's own code, and the recipe's gates."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.acceptance import Acceptance
from edge.bundle import SCHEMA, Bundle, Manifest, Part
from edge.dataset import Sample
from edge.decision import Calibration, Decision, Rule
from edge.errors import DataError, GateError
from edge.fields import build, plain
from edge.profile import parse_profile
from edge.record import Failure
from edge.saliency import MapScale, Saliency
from edge_convert.acceptance.fit import fit_limits
from edge_convert.acceptance.learn import FAMILIAR, Learned, learn
from edge_convert.acceptance.refusals import Refusals
from edge_convert.agreement import Agreement, agree
from edge_convert.calibrate import Outputs, fit_calibration
from edge_convert.export import MODEL_FILES, file_of, model_entry, open_network
from edge_convert.operating_point import HeldOut, cross_fit, fit_decision
from edge_convert.prepare import Prepared
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import DecisionRecipe, Recipe
from edge_convert.saliency.evidence import MapEvidence, SaliencyEvidence, measure_saliency
from edge_convert.saliency.readout import Readout
from edge_runtime.evaluate import Evaluation, Prediction, calibrated, measure, predict
from edge_runtime.judgement import Judged, require_groups
from edge_runtime.metrics import Interval
from edge_runtime.pipeline import Screener
from edge_runtime.saliency import methods

TIMED_RUNS = 40


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """One exported file: bytes as they are, bytes after gzip, and median milliseconds of its inference.

    auc, specificity: on validation, the latter at the target sensitivity; None from builds that did not measure them.
    """

    name: str
    bytes: int
    compressed_bytes: int
    infer_ms: float | None
    auc: Interval | None = None
    specificity: Interval | None = None


AUC_LOST, ACCURACY_LOST = "AUC lost by int8", "top-1 accuracy lost by int8"
FLIPPED, MAPS_AGREE = "decisions flipped by int8, share", "saliency agreement on positives, median rank corr."
LOST_BY_INT8 = {AUC_LOST, ACCURACY_LOST, FLIPPED, MAPS_AGREE}
"""Names of the gates that another int8 file of the same network may meet."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One demand of the recipe and what was measured. limit is a bound from below or, where `at_most`, from above.

    measured: None where the demand does not apply: there is nothing in this network to measure. required: whether
    missing it fails the build; else it is shown alone. note: what to know about it.
    """

    name: str
    measured: float | None
    limit: float
    at_most: bool
    required: bool = True
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the build may go on."""
        return self.met or not self.required

    @property
    def met(self) -> bool:
        """Whether the demand is met, or does not apply."""
        if self.measured is None:
            return True
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What the build is worth. evaluations: by split and model, for example `val/int8`.

    by_rule: what each rule's threshold gives on validation, int8. held_out: calibration and threshold on pictures that
    did not fit them; None where groups are too few to hold any out. saliency, maps: of the heat maps, None and empty
    where the network gives none. acceptance: when not to answer, None where the recipe asks for no limit; refusals:
    what it refuses of validation; parts: members of the bundle that it names.
    """

    decision: Decision
    by_rule: dict[Rule, Judged]
    held_out: HeldOut | None
    saliency: Saliency | None
    maps: dict[str, MapEvidence]
    evaluations: dict[str, Evaluation]
    agreement: Agreement
    sizes: tuple[ModelSize, ...]
    gates: tuple[Gate, ...]
    predictions: dict[str, tuple[Prediction, ...]] = field(repr=False)
    acceptance: Acceptance | None = None
    refusals: Refusals | None = None
    parts: dict[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def passed(self) -> bool:
        """Whether every gate is met."""
        return all(gate.passed for gate in self.gates)


def draft_bundle(
    recipe: Recipe,
    prepared: Prepared,
    models: dict[str, bytes],
    decision: Decision,
    *,
    acceptance: Acceptance | None = None,
    parts: dict[str, bytes] | None = None,
) -> Bundle:
    """A bundle in memory that holds no more than screening needs. parts: further members, which acceptance names."""
    members = {**{file_of(variant): data for variant, data in models.items()}, **(parts or {})}
    return Bundle(
        manifest=Manifest(
            schema=SCHEMA,
            name=recipe.name,
            synthetic=prepared.synthetic,
            labels=recipe.classes,
            preprocessing=recipe.preprocessing,
            models={variant: model_entry(recipe, variant) for variant in models},
            decision=decision,
            saliency=_unscaled(recipe),
            golden=(),
            tolerances={},
            metrics={},
            recipe={},
            data={},
            versions={},
            parts={name: Part(bytes=len(data), sha256="") for name, data in members.items()},
            acceptance=acceptance,
        ),
        parts=members,
        sha256="",
    )


def verify(
    recipe: Recipe,
    prepared: Prepared,
    models: dict[str, bytes],
    dense: bytes,
    network: Any,
    readout: Readout | None = None,
) -> Steps[Verification]:
    """Measure the models on the validation split, and on the test split where there is one.

    Calibration and threshold are fitted on the int8 model's validation outputs. models: `int8`, `float32` and further
    ones, which are held to the same gates. dense: the float32 file before pruning, for what pruning cost. network,
    readout: what the models were exported from.
    """
    positive = recipe.positive
    require_groups(recipe.decision.level, prepared.has_groups)
    bundle = draft_bundle(recipe, prepared, models, _undecided(recipe))
    learned = yield from learn(recipe, prepared, Screener(bundle).network)
    if learned is not None:
        bundle = draft_bundle(
            recipe,
            prepared,
            models,
            _undecided(recipe),
            acceptance=learned.acceptance,
            parts={FAMILIAR: learned.familiar},
        )
    splits = [split for split in ("val", "test") if len(prepared.rows(split))]
    results: dict[str, list[Prediction | Failure]] = {}
    unpruned = len(prepared.rows("val")) if recipe.prune.changes else 0
    total, done = len(models) * sum(len(prepared.rows(split)) for split in splits) + unpruned, 0
    for variant in models:
        screener = Screener(bundle, variant=variant)
        for split in splits:
            results[f"{split}/{variant}"] = found = []
            for result in predict(screener, _samples(prepared, split)):
                found.append(result)
                done += 1
                yield Progress(done=done, total=total)
    raw = {key: _predictions(found) for key, found in results.items()}
    outputs = _outputs(raw["val/int8"], recipe)
    asked, rising = _calibratable(recipe.decision, outputs)
    point = fit_decision(asked, positive, outputs)
    decision = point.decision
    predictions = {key: calibrated(found, decision.calibration, list(outputs.positive)) for key, found in raw.items()}
    acceptance, refusals = _accepted(recipe, learned, predictions["val/int8"], decision)
    evaluations = {
        key: measure(
            found,
            labels=recipe.classes,
            decision=decision,
            prevalence=recipe.decision.prevalence,
            acceptance=acceptance,
        )
        for key, found in predictions.items()
    }
    agreement = agree(predictions["val/int8"], predictions["val/float32"], positive, decision, evaluations)
    decided = draft_bundle(recipe, prepared, models, decision)
    before: list[Prediction | Failure] = []
    if recipe.prune.changes:
        screener = Screener(draft_bundle(recipe, prepared, {**models, "float32": dense}, decision), variant="float32")
        for result in predict(screener, _samples(prepared, "val")):
            before.append(result)
            yield Progress(done=done + len(before), total=total)
    looked = yield from measure_saliency(recipe, prepared, decided, predictions["val/int8"], network, readout)
    verification = Verification(
        decision=decision,
        by_rule=point.by_rule,
        held_out=cross_fit(asked, outputs),
        saliency=looked.saliency,
        maps=looked.maps,
        evaluations=evaluations,
        agreement=agreement,
        sizes=_sizes(
            recipe,
            bundle,
            models,
            prepared,
            evaluations,
            (dense, measure(_predictions(before), labels=recipe.classes, decision=decision)) if before else None,
        ),
        gates=(
            *rising,
            *_gates(recipe, decision, evaluations["val/int8"], agreement, looked),
            *_further_gates(recipe, decision, evaluations, predictions),
        ),
        predictions=predictions,
        acceptance=acceptance,
        refusals=refusals,
        parts={FAMILIAR: learned.familiar}
        if learned is not None and acceptance is not None and acceptance.familiar
        else {},
    )
    yield Progress(done=total, total=total, note=_headline(verification))
    return verification


def _accepted(
    recipe: Recipe, learned: Learned | None, predictions: tuple[Prediction, ...], decision: Decision
) -> tuple[Acceptance | None, Refusals | None]:
    if learned is None:
        return None, None
    return fit_limits(recipe.acceptance, learned, predictions, decision.threshold)


def _calibratable(recipe: DecisionRecipe, outputs: Outputs) -> tuple[DecisionRecipe, tuple[Gate, ...]]:
    """The decision as asked for; or, where the network ranks findings below the rest, uncalibrated, and a missed gate.

    A calibration would turn the ranking round. The build goes on to its report, and makes no bundle.
    """
    try:
        fit_calibration(recipe.calibration, outputs)
    except GateError as error:
        name = "calibration rises with the output: 1, or 0"
        missed = Gate(name=name, measured=0.0, limit=1.0, at_most=False, note=error.message)
        return replace(recipe, calibration="none"), (missed,)
    return recipe, ()


def gate_table(gates: tuple[Gate, ...]) -> str:
    """The gates for people: one a line."""
    lines = []
    for gate in gates:
        sign = "<=" if gate.at_most else ">="
        if gate.measured is None:
            lines.append(f"  n/a   {gate.name:<44}      n/a  (wanted {sign} {gate.limit:g}; this network gives no map)")
            continue
        state = "ok  " if gate.met else "MISS" if gate.required else "note"
        lines.append(f"  {state}  {gate.name:<44} {gate.measured:8.4f}  (wanted {sign} {gate.limit:g})")
        if gate.note:
            lines.append(f"        {gate.note}")
    return "\n".join(lines)


def _unscaled(recipe: Recipe) -> Saliency | None:
    """The maps that the recipe's files give, in logits as they are."""
    has = methods(model_entry(recipe, "int8"))
    if not has:
        return None
    unit = MapScale(background=0.0, full_scale=1.0)
    shown = recipe.saliency.method if recipe.saliency.method in has else has[0]
    return Saliency(method=shown, scales=dict.fromkeys(has, unit))


def _samples(prepared: Prepared, split: str) -> list[Sample]:
    return [prepared.samples[row] for row in prepared.rows(split)]


def _undecided(recipe: Recipe) -> Decision:
    """A stand-in under which the network's outputs are read as they are."""
    return Decision(
        positive=recipe.positive,
        level=recipe.decision.level,
        calibration=Calibration(kind="none"),
        profile=parse_profile(recipe.decision.profile),
        rule=recipe.decision.rule,
        threshold=0.5,
        sensitivity_bound=0.0,
        specificity_bound=0.0,
        met=False,
        standing="not fitted yet",
        fitted_on="nothing yet",
    )


def _outputs(predictions: tuple[Prediction, ...], recipe: Recipe) -> Outputs:
    return Outputs(
        outputs=np.array([p.outputs for p in predictions]),
        targets=np.array([recipe.classes.index(p.label) for p in predictions], np.int64),
        groups=tuple(p.group for p in predictions),
        positive=tuple(recipe.classes.index(label) for label in recipe.positive),
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


def _sizes(
    recipe: Recipe,
    bundle: Bundle,
    models: dict[str, bytes],
    prepared: Prepared,
    evaluations: dict[str, Evaluation],
    unpruned: tuple[bytes, Evaluation] | None,
) -> tuple[ModelSize, ...]:
    """Sizes, and latencies taken in turns so that a busy moment falls on all models alike.

    unpruned: the float32 file before pruning and what it reaches on validation, where the recipe prunes.
    """
    networks = {variant: Screener(bundle, variant=variant, threads=1).network for variant in models}
    pruned = "" if unpruned is None else ", pruned"
    rows = [
        (f"{variant}{pruned}", models[variant], networks[variant], evaluations[f"val/{variant}"])
        for variant in ("float32", "int8", *(v for v in models if v not in MODEL_FILES))
    ]
    if unpruned is not None:
        network = open_network(recipe, "float32", unpruned[0], threads=1)
        rows.insert(0, ("float32, not pruned", unpruned[0], network, unpruned[1]))
    picture = np.ascontiguousarray(prepared.pictures[prepared.rows("val")[0]])
    times: list[list[float]] = [[] for _ in rows]
    for _ in range(TIMED_RUNS):
        for (_, _, network, _), taken in zip(rows, times, strict=True):
            start = time.perf_counter()
            network.run(picture)
            taken.append(1e3 * (time.perf_counter() - start))
    return tuple(
        ModelSize(
            name=name,
            bytes=len(data),
            compressed_bytes=len(gzip.compress(data, 9, mtime=0)),
            infer_ms=float(np.median(taken)),
            auc=evaluation.auc,
            specificity=evaluation.specificity_at_target,
        )
        for (name, data, _, evaluation), taken in zip(rows, times, strict=True)
    )


def _gates(
    recipe: Recipe, decision: Decision, int8: Evaluation, agreement: Agreement, looked: SaliencyEvidence
) -> tuple[Gate, ...]:
    g = recipe.gates
    shown = looked.maps[looked.saliency.method] if looked.saliency is not None else None
    target = f"specificity at {100 * decision.profile.sensitivity:g}% sensitivity"
    return (
        Gate(name="AUC, int8", measured=int8.auc.value, limit=g.min_auc, at_most=False),
        Gate(
            name=f"{target}, int8",
            measured=int8.specificity_at_target.value,
            limit=g.min_specificity_at_target,
            at_most=False,
            note=int8.judged.nothing_to_measure("specificity"),
        ),
        Gate(name=AUC_LOST, measured=agreement.auc_drop, limit=g.max_auc_drop, at_most=True),
        Gate(
            name=ACCURACY_LOST,
            measured=agreement.accuracy_drop,
            limit=g.max_accuracy_drop,
            at_most=True,
        ),
        Gate(
            name=FLIPPED,
            measured=agreement.flips / agreement.n,
            limit=g.max_flips,
            at_most=True,
        ),
        Gate(
            name=MAPS_AGREE,
            measured=agreement.saliency_positive,
            limit=g.min_saliency_agreement,
            at_most=False,
        ),
        Gate(
            name="saliency agreement under a random last layer",
            measured=None if shown is None else shown.randomised,
            limit=g.max_randomised_agreement,
            at_most=True,
        ),
        *_profile_gates(recipe, decision),
    )


def _further_gates(
    recipe: Recipe,
    decision: Decision,
    evaluations: dict[str, Evaluation],
    predictions: dict[str, tuple[Prediction, ...]],
) -> tuple[Gate, ...]:
    """What the further files cost against float32, by the limits that int8 is held to."""
    gates = []
    for variant in recipe.quantize.also:
        found = agree(predictions[f"val/{variant}"], predictions["val/float32"], recipe.positive, decision, evaluations)
        drop = evaluations["val/float32"].auc.value - evaluations[f"val/{variant}"].auc.value
        for name, measured, limit in (
            (f"AUC lost by {variant}", drop, recipe.gates.max_auc_drop),
            (f"top-1 accuracy lost by {variant}", found.accuracy_drop, recipe.gates.max_accuracy_drop),
            (f"decisions flipped by {variant}, share", found.flips / found.n, recipe.gates.max_flips),
        ):
            gates.append(Gate(name=name, measured=measured, limit=limit, at_most=True))
    return tuple(gates)


def _profile_gates(recipe: Recipe, decision: Decision) -> tuple[Gate, ...]:
    """The profile by its lower bounds: always shown, a gate where the recipe says so."""
    profile, required = decision.profile, recipe.gates.require_profile
    gates = [
        Gate(
            name=f"sensitivity's lower bound, by {decision.level}",
            measured=decision.sensitivity_bound,
            limit=profile.sensitivity,
            at_most=False,
            required=required,
            note=decision.standing if profile.specificity is None else "",
        )
    ]
    if profile.specificity is not None:
        gates.append(
            Gate(
                name=f"specificity's lower bound, by {decision.level}",
                measured=decision.specificity_bound,
                limit=profile.specificity,
                at_most=False,
                required=required,
                note=decision.standing,
            )
        )
    return tuple(gates)


def _headline(verification: Verification) -> str:
    e = verification.evaluations["val/int8"]
    return (
        f"validation, int8: AUC {e.auc}, sensitivity {e.sensitivity.value:.4f}, specificity "
        f"{e.judged.nothing_to_measure('specificity') or f'{e.specificity.value:.4f}'}; "
        f"{verification.decision.standing}"
    )


def save_verification(folder: Path, verification: Verification) -> None:
    """Write `verification.json` and, a line each, the predictions."""
    fields = plain(replace(verification, predictions={}, parts={}))
    for name, data in verification.parts.items():
        (folder / name).write_bytes(data)
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
        row["outputs"], row["probabilities"] = tuple(row["outputs"]), tuple(row["probabilities"])
        row["heat"] = None if heat is None else np.array(heat, np.float32)
        predictions.setdefault(key, []).append(Prediction(**row))
    loaded = build(Verification, {**fields, "predictions": {}})
    parts = {loaded.acceptance.familiar} if loaded.acceptance and loaded.acceptance.familiar else set()
    return replace(
        loaded,
        predictions={key: tuple(found) for key, found in predictions.items()},
        parts={name: (folder / name).read_bytes() for name in parts},
    )
