"""The page: what stands in it, in order, and how it reaches the disk."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

from edge.files import write_atomically
from edge_convert.acceptance.refusals import describe_refusals
from edge_convert.card import limits
from edge_convert.data.certificate import describe_certificate
from edge_convert.operating_point import describe
from edge_convert.pack import versions
from edge_convert.prune.magnitude import total_sparsity
from edge_convert.report import ReportInputs, tables
from edge_convert.report.figures import Plot, agreement_plot, sparsity_plot, split_plots, tradeoff_plot, training_plot
from edge_convert.report.gallery import Kind, gallery
from edge_convert.report.inline import css_variables
from edge_convert.report.tradeoff import LETTERS, Spot, own_spots
from edge_convert.verify import draft_bundle
from edge_runtime.acceptance import describe as describe_limits
from edge_runtime.metrics import Interval
from edge_runtime.pipeline import Screener

TEMPLATE = "template.html.j2"
DATA_FOLDER = "report_data"
FLIPS_LISTED = 12
NAMES_LISTED = 200
NO_BREAK = "\u00a0"
THIN_SPACE = "\u202f"


def write(path: Path, inputs: ReportInputs) -> None:
    """Write the report and, beside it, the numbers behind its plots."""
    v = inputs.verification
    splits = [split for split in tables.SPLIT_WORDS if f"{split}/int8" in v.predictions]
    curves = {split: split_plots(v, split) for split in splits}
    training = training_plot(inputs.history, n_validation=v.evaluations["val/int8"].n) if inputs.history else None
    sparsity = sparsity_plot(inputs.sparsity) if inputs.recipe.prune.makes_zeros and inputs.sparsity else None
    agreement = agreement_plot(v)
    tradeoff = _tradeoff(inputs)
    text = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            **_evidence(inputs, splits),
            curves=curves,
            training=training,
            sparsity=sparsity,
            agreement=agreement,
            tradeoff=tradeoff,
            kinds=_gallery(inputs, splits),
            data_folder=DATA_FOLDER,
        )
    )
    drawn = [plot for kinds in curves.values() for plot in kinds.values()]
    drawn += [plot for plot in (training, sparsity, agreement, tradeoff) if plot is not None]
    _write_data(path.with_name(DATA_FOLDER), drawn)
    write_atomically(path, text.encode())


def _evidence(inputs: ReportInputs, splits: list[str]) -> dict[str, Any]:
    """All that the template prints in words and tables."""
    v, recipe = inputs.verification, inputs.recipe
    threshold = v.decision.threshold
    int8 = {split: v.predictions[f"{split}/int8"] for split in splits}
    return {
        "recipe": recipe,
        "v": v,
        "splits": splits,
        "split_words": tables.SPLIT_WORDS,
        "finding": " or ".join(v.decision.positive),
        # Pictures that had no say in the build come first.
        "headlines": [tables.headline(v.evaluations[f"{split}/int8"], split) for split in reversed(splits)],
        "confusion": {split: tables.confusion_rows(v.evaluations[f"{split}/int8"]) for split in splits},
        "decisions": {
            split: tables.decision_rows(
                int8[split], v.decision.positive, threshold, v.acceptance, labels=recipe.classes
            )
            for split in splits
        },
        "known": inputs.reference,
        "known_rows": tables.known_rows(inputs.reference, v.evaluations["val/int8"]),
        "operating": describe(v.decision, {}, v.held_out),
        "declines": tables.declines(v.acceptance),
        "answering": describe_limits(v.acceptance, threshold),
        "refusals": describe_refusals(v.refusals) if v.refusals is not None else [],
        "limit_rows": tables.limit_rows(v.acceptance),
        "others": _others(inputs),
        "beside": inputs.beside,
        "letters": LETTERS,
        "sizes": v.sizes,
        "quantized": inputs.quantized,
        "zeros": total_sparsity(inputs.sparsity),
        "layers": inputs.sparsity,
        "channels": inputs.channels,
        "flips": tables.flipped(int8["val"], v.predictions["val/float32"], threshold),
        "flips_listed": FLIPS_LISTED,
        "bundle": _bundle(inputs.bundle),
        "data": inputs.prepared.summary(),
        "certificate_lines": describe_certificate(inputs.prepared.summary()),
        "unreadable": inputs.prepared.unreadable,
        "dropped": inputs.prepared.dropped,
        "names_listed": NAMES_LISTED,
        "failures": {split: v.evaluations[f"{split}/int8"].unreadable for split in splits},
        "calibrated": _calibrated(inputs),
        "recipe_rows": tables.recipe_rows(recipe),
        "versions": versions(),
        "limits": limits(v.evaluations["val/int8"], inputs.quantized),
    }


def _others(inputs: ReportInputs) -> tuple[Spot, ...]:
    """The sweep's cases, where they were measured on this build's pictures."""
    beside = inputs.beside
    if beside is None or not beside.is_of(inputs.verification.evaluations["val/int8"]):
        return ()
    return beside.spots


def _tradeoff(inputs: ReportInputs) -> Plot | None:
    own = own_spots(inputs.recipe, inputs.verification)
    int8 = inputs.verification.evaluations["val/int8"]
    return tradeoff_plot(own, _others(inputs), n=int8.n, n_positive=int8.n_positive) if own else None


def _bundle(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    data = path.read_bytes()
    return {"name": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _calibrated(inputs: ReportInputs) -> str:
    """Which pictures set the quantization ranges, in words."""
    source, count = inputs.recipe.quantize.calibration, _count(len(inputs.calibration))
    if source != "train":
        return f"{count} pictures of the folder {source}"
    counts = dict.fromkeys(inputs.recipe.classes, 0)
    labels = {sample.name: sample.label for sample in inputs.prepared.samples}
    for name in inputs.calibration:
        counts[labels[name]] += 1
    return f"{count} training pictures ({', '.join(f'{_count(n)} {label}' for label, n in counts.items())})"


def _gallery(inputs: ReportInputs, splits: list[str]) -> tuple[Kind, ...]:
    v = inputs.verification
    draft = draft_bundle(
        inputs.recipe, inputs.prepared, inputs.models, v.decision, acceptance=v.acceptance, parts=v.parts
    )
    scaled = replace(draft, manifest=replace(draft.manifest, saliency=v.saliency))
    found = {split: v.predictions[f"{split}/int8"] for split in splits}
    return gallery(Screener(scaled), found, inputs.prepared.samples)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        # Names, labels and reasons come from a data set: they are text, never markup.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, interval=_interval, megabytes=_megabytes, count=_count, four=_four)
    environment.filters.update(threshold=tables.threshold_words, with_code=tables.with_code, words=tables.words)
    environment.globals.update(by_day=css_variables(night=False), by_night=css_variables(night=True))
    return environment


def _percent(share: float) -> str:
    return f"{100 * share:.1f}{NO_BREAK}%"


def _interval(interval: Interval) -> str:
    """A share with its interval, as percent; a line may break before the bracket only."""
    return f"{_percent(interval.value)} [{100 * interval.low:.1f},{NO_BREAK}{100 * interval.high:.1f}]"


def _four(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f},{NO_BREAK}{interval.high:.4f}]"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f}{NO_BREAK}MB"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", THIN_SPACE)


def _write_data(folder: Path, plots: list[Plot]) -> None:
    """The CSV files of this report and of no earlier one."""
    folder.mkdir(exist_ok=True)
    written = {f"{plot.name}.csv" for plot in plots}
    for plot in plots:
        write_atomically(folder / f"{plot.name}.csv", plot.csv.encode())
    for stale in folder.glob("*.csv"):
        if stale.name not in written:
            stale.unlink()
