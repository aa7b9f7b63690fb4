"""Each plot of the report with what goes with it: the drawing, its words for those who cannot see it, its numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from edge_convert.prune.magnitude import LayerSparsity, total_sparsity
from edge_convert.report import numbers, plots
from edge_convert.report.coverage import risk_curves
from edge_convert.report.inline import svg
from edge_convert.report.numbers import Band, Curve, OperatingPoint, Scored
from edge_convert.report.tables import SPLIT_WORDS, threshold_words
from edge_convert.report.tradeoff import Spot, plot_tradeoff
from edge_convert.train.epoch import Epoch
from edge_convert.verify import Verification
from edge_runtime.metrics import Interval

Rows = Iterable[Sequence[object]]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """name: of its CSV file, without the suffix. words: what it shows, in a sentence. csv: the numbers drawn."""

    name: str
    words: str
    drawing: Markup = field(repr=False)
    csv: str = field(repr=False)


def split_plots(verification: Verification, split: str) -> dict[str, Plot]:
    """Curves, calibration and scores of one split, by kind."""
    positive = verification.decision.positive
    models = {
        variant: numbers.scored(verification.predictions[f"{split}/{variant}"], positive)
        for variant in ("int8", "float32")
        if f"{split}/{variant}" in verification.predictions
    }
    point = numbers.operating_point(models["int8"], verification.decision.threshold)
    return {
        "roc": _roc(verification, models, point, split),
        "precision_recall": _precision_recall(verification, models, point, split),
        "calibration": _calibration(verification, models["int8"], split),
        "histogram": _histogram(models["int8"], point.threshold, split),
        **_risk(verification, models["int8"], split),
    }


def training_plot(history: Sequence[Epoch], *, n_validation: int) -> Plot:
    """Training curves."""
    last = history[-1]
    return _plot(
        "training",
        f"Training loss, validation AUC and validation average precision over {len(history)} epochs; at the end "
        f"({last.phase} {last.epoch}) AUC {last.validation_auc:.4f}, average precision "
        f"{last.validation_average_precision:.4f}.",
        plots.plot_training(history, n_validation=n_validation),
        ("phase", "epoch", "loss_nats", "validation_auc", "validation_average_precision"),
        ((e.phase, e.epoch, e.loss, e.validation_auc, e.validation_average_precision) for e in history),
    )


def sparsity_plot(layers: Sequence[LayerSparsity]) -> Plot:
    """Zeros by kernel."""
    return _plot(
        "sparsity",
        f"Share of zeros in each of {len(layers)} kernels; {total_sparsity(layers):.1%} of all their weights.",
        plots.plot_sparsity(layers),
        ("kernel", "weights", "zeros_share"),
        ((layer.layer, layer.weights, layer.sparsity) for layer in layers),
    )


def agreement_plot(verification: Verification) -> Plot:
    """Validation probabilities of int8 against float32."""
    positive = verification.decision.positive
    int8 = numbers.scored(verification.predictions["val/int8"], positive)
    float32 = numbers.scored(verification.predictions["val/float32"], positive)
    return _plot(
        "agreement_val",
        f"Probabilities of {int8.n} pictures by int8 against float32; {verification.agreement.flips} decisions differ.",
        plots.plot_agreement(int8, float32, verification.decision.threshold),
        ("with_finding", "probability_float32", "probability_int8"),
        zip(int8.truth.astype(int), float32.scores, int8.scores, strict=True),
    )


def tradeoff_plot(own: Sequence[Spot], others: Sequence[Spot], *, n: int, n_positive: int) -> Plot:
    """What files are worth against what they cost. others: a sweep's cases."""
    words = f"n = {n}, {n_positive} with the finding; validation; bars: 95 % intervals; hollow: float32"
    best = "; ".join(
        f"{spot.name}: AUC {spot.auc}, {spot.latency_ms:.2f} ms, {spot.compressed_bytes / 1e6:.2f} MB compressed"
        for spot in own
    )
    return _plot(
        "tradeoff",
        f"AUC and specificity at the target sensitivity of {len(own)} files of this build"
        f"{f' and {len(others)} cases of a sweep' if others else ''}, over inference time, size and compressed size. "
        f"{best}.",
        plot_tradeoff([*others, *own], words),
        (
            *("file", "kind", "width", "auc", "auc_low", "auc_high", "specificity", "specificity_low"),
            *("specificity_high", "latency_ms", "bytes", "compressed_bytes"),
        ),
        (
            (s.name, s.kind, s.width, *_three(s.auc), *_three(s.specificity), s.latency_ms, s.bytes, s.compressed_bytes)
            for s in (*own, *others)
        ),
    )


def _roc(verification: Verification, models: dict[str, Scored], point: OperatingPoint, split: str) -> Plot:
    curves = {
        variant: (numbers.roc(data), verification.evaluations[f"{split}/{variant}"].auc)
        for variant, data in models.items()
    }
    band = numbers.roc_band(models["int8"])
    words = SPLIT_WORDS[split]
    alarms = plots.complement(point.specificity)
    return _plot(
        f"roc_{split}",
        f"ROC curves on the {words} pictures. {_areas('AUC', curves)} At the threshold "
        f"{threshold_words(point.threshold)} sensitivity is {point.sensitivity.value:.1%} and specificity "
        f"{point.specificity.value:.1%}.",
        plots.plot_roc(curves, band, point, data=models["int8"], split=words),
        ("series", "threshold", "false_alarm_share", "sensitivity", "sensitivity_low", "sensitivity_high"),
        [*_curve_rows(curves, band), ("operating point", point.threshold, alarms.value, *_three(point.sensitivity))],
    )


def _precision_recall(verification: Verification, models: dict[str, Scored], point: OperatingPoint, split: str) -> Plot:
    curves = {
        variant: (numbers.precision_recall(data), verification.evaluations[f"{split}/{variant}"].average_precision)
        for variant, data in models.items()
    }
    band = numbers.precision_recall_band(models["int8"])
    words = SPLIT_WORDS[split]
    return _plot(
        f"precision_recall_{split}",
        f"Precision over recall on the {words} pictures. {_areas('Average precision', curves)} At the threshold "
        f"{threshold_words(point.threshold)} precision is {point.precision.value:.1%} and recall "
        f"{point.sensitivity.value:.1%}.",
        plots.plot_precision_recall(curves, band, point, data=models["int8"], split=words),
        ("series", "threshold", "recall", "precision", "precision_low", "precision_high"),
        [
            *_curve_rows(curves, band),
            ("operating point", point.threshold, point.sensitivity.value, *_three(point.precision)),
        ],
    )


def _calibration(verification: Verification, data: Scored, split: str) -> Plot:
    found, evaluation = verification.predictions[f"{split}/int8"], verification.evaluations[f"{split}/int8"]
    decision, words = verification.decision, SPLIT_WORDS[split]
    series = {"calibrated": numbers.calibration(data)}
    errors = f"Expected calibration error {evaluation.calibration_error:.4f}"
    if decision.calibration.kind != "none":
        outputs = numbers.scored_outputs(found, decision.positive, evaluation.labels)
        series = {"network": numbers.calibration(outputs), **series}
        errors += f", of the network alone {evaluation.output_error:.4f}"
    return _plot(
        f"calibration_{split}",
        f"Share with the finding over mean probability, bins of about equal count, on the {words} pictures. {errors}.",
        plots.plot_calibration(series, data=data, split=words),
        ("series", "pictures", "mean_probability", "share_with_finding", "low", "high"),
        ((name, b.n, b.mean_score, *_three(b.observed)) for name, bins in series.items() for b in bins),
    )


def _histogram(data: Scored, threshold: float, split: str) -> Plot:
    bins = numbers.histogram(data)
    return _plot(
        f"histogram_{split}",
        f"How many {SPLIT_WORDS[split]} pictures have which probability, with the finding and without, and the "
        f"threshold {threshold_words(threshold)}.",
        plots.plot_histogram(bins, threshold, data=data, split=SPLIT_WORDS[split]),
        ("from", "to", "with_finding", "without"),
        zip(bins.edges[:-1], bins.edges[1:], bins.positive, bins.negative, strict=True),
    )


def _risk(verification: Verification, data: Scored, split: str) -> dict[str, Plot]:
    """Errors over coverage, where the bundle declines at all."""
    acceptance, declined = verification.acceptance, verification.evaluations[f"{split}/int8"].declined
    if acceptance is None or declined is None:
        return {}
    threshold, words = verification.decision.threshold, SPLIT_WORDS[split]
    curves = risk_curves(
        verification.predictions[f"{split}/int8"], acceptance, threshold, verification.decision.positive
    )
    alarms = sum(row.refer for row in declined.answers if not row.finding)
    answered = sum(row.refer + row.clear for row in declined.answers)
    used = (
        declined.answered.value,
        (declined.missed + alarms) / max(1, answered),
        declined.missed / max(1, data.n_positive),
    )
    plot = _plot(
        f"risk_{split}",
        f"Share of wrong decisions among the answered, and share of findings cleared, over the share of {words} "
        f"pictures that is answered. This bundle answers {used[0]:.1%}; of these {used[1]:.1%} are wrong, and "
        f"{used[2]:.1%} of the findings are cleared.",
        plots.plot_risk(curves, used, data=data, split=words),
        ("series", "coverage", "error_share_of_answered", "cleared_share_of_findings"),
        [
            *(
                (name, *row)
                for name, risk in curves.items()
                for row in zip(risk.coverage, risk.errors, risk.missed, strict=True)
            ),
            ("this bundle's limits", *used),
        ],
    )
    return {"risk": plot}


def _curve_rows(curves: dict[str, tuple[Curve, Interval]], band: Band) -> Iterator[Sequence[object]]:
    for variant, (curve, _) in curves.items():
        for threshold, x, y in zip(curve.thresholds, curve.x, curve.y, strict=True):
            yield variant, threshold, x, y, None, None
    for x, low, high in zip(band.x, band.low, band.high, strict=True):
        yield "int8 band", None, x, None, low, high


def _areas(name: str, curves: dict[str, tuple[Curve, Interval]]) -> str:
    return " ".join(f"{name} of {variant}: {area}." for variant, (_, area) in curves.items())


def _three(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _plot(name: str, words: str, figure: object, columns: Sequence[str], rows: Rows) -> Plot:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return Plot(name=name, words=words, drawing=svg(figure, name), csv=stream.getvalue())


def _cell(value: object) -> object:
    return f"{value:.9g}" if isinstance(value, float) else value
