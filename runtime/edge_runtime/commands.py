"""The device's commands: parse, call one function, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import FILE, loading
from edge.errors import DataError, EdgeError, PictureError
from edge.progress_bar import progress_bar
from edge_runtime.talk import print_failure, print_line, tell, tell_delegate, warn

if TYPE_CHECKING:
    from edge.bundle import Bundle, Manifest
    from edge_runtime.pipeline import Screener, Screening

threads_option = click.option(
    "--threads", type=click.IntRange(1, 64), help="Threads. Default: the physical cores, at most 4."
)
interpreter_option = click.option(
    "--interpreter",
    metavar="NAME[,unverified=yes]",
    help="ai-edge-litert, tflite-runtime or tensorflow. Default: the first that is here (docs/devices.md).",
)
delegate_option = click.option(
    "--delegate",
    default="cpu",
    show_default=True,
    metavar="auto|cpu|gpu|PATH[,KEY=VALUE...]",
    help="What runs the network, where it passes its trial (docs/devices.md).",
)
map_option = click.option(
    "--map",
    "method",
    metavar="KIND",
    help="Heat map: fine, cam, or what the bundle gives on request (docs/saliency.md). Default: the bundle's.",
)
variant_option = click.option(
    "--model", "variant", help="Which model of the bundle. Default: int8, or the only one of an adopted bundle."
)


@click.command()
@click.argument("bundle", type=FILE)
@click.argument("pictures", type=FILE, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON record a line.")
@click.option("--overlay", "overlay_folder", type=FILE, help="Write each picture with its heat map into this folder.")
@map_option
@variant_option
@threads_option
@interpreter_option
@delegate_option
def screen(
    bundle: Path,
    pictures: tuple[Path, ...],
    as_json: bool,
    overlay_folder: Path | None,
    method: str | None,
    variant: str | None,
    threads: int | None,
    interpreter: str | None,
    delegate: str,
) -> int:
    """Screen PICTURES (files or folders) with BUNDLE: a line each.

    The decision is `refer` or `clear`; or `retake` or `uncertain`, with what to do about it. A picture
    that cannot be read, or whose heat map cannot be written, costs its own line; the others go on, and the exit status
    is 1.
    """
    if method and overlay_folder is None:
        raise click.UsageError("--map says what --overlay shows; name a folder with --overlay")
    with loading():
        from edge.record import Failure
        from edge_runtime.pictures import expand
        from edge_runtime.pipeline import Screener

        screener = Screener.open(
            bundle, variant=variant, threads=threads, interpreter=interpreter, delegate=delegate, method=method
        )
    if overlay_folder is not None:
        if screener.manifest.saliency is None:
            raise EdgeError("this bundle's model gives no heat map", remedy="screen without --overlay")
        _make_overlay_folder(overlay_folder, pictures)
    warn(screener)
    before = screener.delegate
    failed = 0
    found = expand(pictures)
    tell(found.passed_over())
    found.require_some()
    for path, screening in screener.screen_files(found, explain=overlay_folder is not None):
        if isinstance(screening, PictureError):
            failed += 1
            failure = Failure(picture=str(path), error=screening.message, remedy=screening.remedy)
            print_failure(failure, as_json)
            continue
        _print_verdict(screening, as_json)
        if overlay_folder is not None:
            failed += not _write_overlay(screener, screening, overlay_folder)
    tell_delegate(screener, before)
    if failed:
        tell(f"{failed} of {len(found)} pictures could not be screened or shown")
    return 1 if failed or not found.complete else 0


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--data", "folder", type=FILE, required=True, help="Labelled pictures: manifest.csv or a folder a class.")
@click.option("--split", help="Only this split: train, val or test.")
@click.option("--group-pattern", metavar="RE", help="Finds the patient in each name. Default: as in the build.")
@click.option("--profile", "profile_text", help="Judge by this target profile. Default: the bundle's.")
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share with the finding where it will screen: gives predictive values.",
)
@click.option("--rename", multiple=True, metavar="THEIRS=OURS", help="A label of the data set as the bundle calls it.")
@click.option("--saliency", "judge_maps", is_flag=True, help="Judge the heat maps of referred findings too.")
@map_option
@click.option("--json", "as_json", is_flag=True, help="The measures as one JSON object.")
@variant_option
@threads_option
@interpreter_option
@delegate_option
def evaluate(
    bundle: Path,
    folder: Path,
    split: str | None,
    group_pattern: str | None,
    profile_text: str | None,
    prevalence: float | None,
    rename: tuple[str, ...],
    judge_maps: bool,
    method: str | None,
    as_json: bool,
    variant: str | None,
    threads: int | None,
    interpreter: str | None,
    delegate: str,
) -> int:
    """Measure BUNDLE on labelled pictures: AUC, sensitivity, specificity with 95 % intervals, and its profile."""
    from edge.dataset import read_dataset
    from edge.fields import plain
    from edge.profile import parse_profile
    from edge_runtime.evaluate import measure, predict, render_text
    from edge_runtime.judgement import require_groups
    from edge_runtime.pipeline import Screener
    from edge_runtime.provenance import flattery, in_the_builds_splits

    if method and not judge_maps:
        raise click.UsageError("--map says which maps --saliency judges; add --saliency")
    profile = None if profile_text is None else parse_profile(profile_text)
    dataset = read_dataset(folder, group_pattern=group_pattern)
    screener = Screener.open(
        bundle, variant=variant, threads=threads, interpreter=interpreter, delegate=delegate, method=method
    )
    if judge_maps and screener.method is None:
        raise EdgeError("this bundle's model gives no heat map", remedy="evaluate without --saliency")
    before = screener.delegate
    tell(screener.note)
    tell_delegate(screener)
    manifest = screener.manifest
    if not dataset.has_groups and (pattern := _pattern_of_build(dataset.folder, manifest.data)):
        dataset = read_dataset(folder, group_pattern=pattern)
    require_groups(manifest.decision.level, dataset.has_groups)
    if split:
        dataset = in_the_builds_splits(dataset, manifest)
    tell(flattery(dataset, manifest, split) or "")
    samples = dataset.of_split(split) if split else dataset.samples
    if not samples:
        raise DataError(f"the data set has no picture in split {split!r}", remedy="name another split, or none")
    samples = _rename(samples, rename, manifest.labels)
    results = []
    with progress_bar() as bar:
        for result in predict(screener, samples):
            results.append(result)
            bar.show("screening", len(results), len(samples))
    lines, judged = _judged_maps(screener, samples) if judge_maps else ([], {})
    tell_delegate(screener, before)
    evaluation = measure(
        results,
        labels=manifest.labels,
        decision=manifest.decision,
        profile=profile,
        acceptance=manifest.acceptance,
        prevalence=_prevalence_of_recipe(manifest.recipe) if prevalence is None else prevalence,
    )
    synthetic = dataset.synthetic or manifest.synthetic
    if as_json:
        data = {"name": dataset.name, "split": split, "synthetic": synthetic}
        ran = {
            "model": screener.variant,
            "interpreter": screener.interpreter,
            "delegate": plain(screener.delegate),
        }
        click.echo(json.dumps({"data": data, **ran, **plain(evaluation), **judged}))
    else:
        text = render_text(evaluation, title=_evaluation_title(screener, dataset.name, split, synthetic))
        click.echo("\n".join([text, *lines]))
    return 1 if evaluation.unreadable else 0


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="The whole manifest as JSON.")
@click.option("--card", is_flag=True, help="Print the model card.")
@click.option(
    "--self-test", "test", is_flag=True, help="Run the golden pictures on this machine; exit 1 on a difference."
)
@interpreter_option
def show(bundle: Path, as_json: bool, card: bool, test: bool, interpreter: str | None) -> int:
    """Say what BUNDLE is: labels, input, decision, measures, parts."""
    from edge.bundle import CARD, read_bundle
    from edge.fields import plain

    if sum((as_json, card, test)) > 1:
        raise click.UsageError("--json, --card and --self-test are asked for one at a time")
    opened = read_bundle(bundle)
    if card:
        click.echo(opened.parts.get(CARD, b"this bundle has no card").decode("utf-8", "replace"))
    elif as_json:
        click.echo(json.dumps({"sha256": opened.sha256, **plain(opened.manifest)}, indent=1, ensure_ascii=False))
    elif not test:
        click.echo(_describe(opened))
    return _self_test(opened, interpreter) if test else 0


def _judged_maps(screener: Screener, samples: Any) -> tuple[list[str], dict[str, Any]]:
    """What the maps are worth, as lines and as the record's fields: measured here on referred findings, and by the
    build, where it did.
    """
    from edge.fields import plain
    from edge_runtime.faithfulness import describe, describe_built, measure_faithfulness, summarise

    judged = []
    with progress_bar() as bar:
        for done, one in enumerate(measure_faithfulness(screener, samples), 1):
            if one is not None:
                judged.append(one)
            bar.show("judging the maps", done, len(samples))
    here = summarise(judged)
    known = screener.manifest.metrics.get("saliency")
    built = known.get(screener.method) if isinstance(known, dict) else None
    lines = ["", f"  heat maps ({screener.method}), {here.n if here else 0} referred findings", *describe(here)]
    if from_build := describe_built(built):
        lines += ["  from the build, on its validation pictures", *from_build]
    return lines, {"saliency": {"method": screener.method, "here": plain(here), "build": built}}


def _self_test(bundle: Bundle, interpreter: str | None) -> int:
    from edge_runtime.selftest import self_test

    results = self_test(bundle, interpreter=interpreter)
    for result in results:
        worst = ", ".join(f"{role} {difference:.2g}" for role, difference in result.differences.items())
        state = "ok  " if result.passed else "FAIL"
        exact = "input exact" if result.input_exact else "INPUT DIFFERS"
        click.echo(f"{state}  {result.picture}  {exact}" + (f"; largest difference: {worst}" if worst else ""))
    failed = sum(not result.passed for result in results)
    if failed:
        raise EdgeError(
            f"this machine gives other outputs on {failed} of {len(results)} golden pictures",
            remedy="do not screen with it; install the locked versions of edge-screen's dependencies",
        )
    click.echo(f"all {len(results)} golden pictures come out as in the build: this machine may screen with the bundle")
    return 0


def _print_verdict(screening: Screening, as_json: bool) -> None:
    from edge.names import printable

    verdict = screening.verdict
    if as_json:
        print_line(json.dumps(verdict.to_json()))
    else:
        mark = "  SYNTHETIC" if verdict.synthetic else ""
        name = printable(verdict.picture)
        advice = f"  {verdict.remark}" if verdict.remark else ""
        print_line(f"{verdict.decision:<9} {verdict.stated}  {verdict.latency_ms.total:7.1f} ms  {name}{mark}{advice}")


def _make_overlay_folder(folder: Path, pictures: tuple[Path, ...]) -> None:
    """Make the folder for heat maps. Raises EdgeError inside a folder of pictures: they would be screened next time."""
    from edge_runtime.pictures import require_elsewhere

    require_elsewhere(folder, pictures, "the heat maps", remedy="name a folder elsewhere with --overlay")
    if folder.exists() and not folder.is_dir():
        raise EdgeError(f"{folder} is a file", remedy="name a folder with --overlay")
    folder.mkdir(parents=True, exist_ok=True)


def _write_overlay(screener: Screener, screening: Screening, folder: Path) -> bool:
    """Write the heat map's picture; a failure is a line on stderr, since the verdict stands without it."""
    import cv2

    from edge.files import write_atomically
    from edge.names import printable

    # The digest keeps apart pictures of the same name from different folders; a file name has 255 bytes at most.
    picture = os.fsencode(screening.verdict.picture)
    stem = os.fsencode(Path(screening.verdict.picture).stem)[:200].decode("utf-8", "ignore")
    target = folder / f"{stem}-{hashlib.sha256(picture).hexdigest()[:8]}.png"
    try:
        shown = screener.overlay(screening)
        assert shown is not None
        write_atomically(target, cv2.imencode(".png", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))[1].tobytes())
    except PictureError as error:
        # Decoded for the network it was smaller.
        tell(f"no heat map for {printable(screening.verdict.picture)}: {error.message}; {error.remedy}")
        return False
    except (OSError, cv2.error) as error:
        reason = error.strerror if isinstance(error, OSError) else "OpenCV refuses its size"
        tell(f"no heat map for {printable(screening.verdict.picture)}: {reason}; check {folder} and screen it again")
        return False
    return True


def _pattern_of_build(folder: Path, data: dict[str, Any]) -> str | None:
    """The group pattern that the bundle was built with, where it was built from this very data set."""
    from edge.dataset import read_dataset

    pattern = data.get("group_pattern")
    if not isinstance(pattern, str):
        return None
    try:
        grouped = read_dataset(folder, group_pattern=pattern)
    except DataError:
        return None
    return pattern if grouped.fingerprint() == data.get("fingerprint") else None


def _prevalence_of_recipe(recipe: dict[str, Any]) -> float | None:
    """The prevalence that the build's recipe gave, where it did."""
    decision = recipe.get("decision")
    found = decision.get("prevalence") if isinstance(decision, dict) else None
    return found if isinstance(found, float) and 0 < found < 1 else None


def _rename(samples: Any, pairs: tuple[str, ...], labels: tuple[str, ...]) -> Any:
    """The samples with the bundle's names for their labels. Raises DataError for a label it does not have."""
    from dataclasses import replace

    if any("=" not in pair for pair in pairs):
        raise click.BadParameter("use THEIRS=OURS", param_hint="--rename")
    names = dict(pair.split("=", 1) for pair in pairs)
    theirs = {sample.label for sample in samples}
    for old, new in names.items():
        if old not in theirs or new not in labels:
            raise DataError(
                f"--rename {old}={new}: the data set has {', '.join(sorted(theirs))}; "
                f"the bundle has {', '.join(labels)}",
                remedy="write a label of the data set, then one of the bundle",
            )
    renamed = tuple(replace(sample, label=names.get(sample.label, sample.label)) for sample in samples)
    for unknown in sorted({sample.label for sample in renamed} - set(labels)):
        raise DataError(
            f"the data set has the label {unknown!r}; the bundle has {', '.join(labels)}",
            remedy=_remedy_for(unknown, labels),
        )
    return renamed


def _remedy_for(unknown: str, labels: tuple[str, ...]) -> str:
    """What to do about a label that the bundle does not have. Whoever copied a guess would call another disease by one
    of the bundle's classes, so there is a ready one only for another spelling.
    """
    import shlex

    from edge_runtime.labels import spelled_otherwise

    ours = spelled_otherwise(unknown, labels)
    if ours is not None:
        return f"if it is the same: --rename {shlex.quote(f'{unknown}={ours}')}"
    return f"take its pictures out; or, if it means one of those, say which: --rename {shlex.quote(unknown)}=LABEL"


def _evaluation_title(screener: Screener, data: str, split: str | None, synthetic: bool) -> str:
    where = f"{data}, split {split}" if split else f"{data}, all pictures"
    return f"{screener.manifest.name} ({screener.variant}) on {where}" + ("  [SYNTHETIC]" if synthetic else "")


def _describe(bundle: Bundle) -> str:
    from edge.decision import GIVEN

    m = bundle.manifest
    p = m.preprocessing
    decision = m.decision
    lines = [
        f"{m.name}" + ("  [SYNTHETIC: not for patients]" if m.synthetic else ""),
        f"  sha256       {bundle.sha256}",
        f"  schema       {m.schema}",
        f"  labels       {', '.join(m.labels)}",
        f"  refer        when p({' + '.join(decision.positive)}) >= {decision.threshold:.4f}",
        f"               by {decision.level}; probabilities calibrated: {decision.calibration.kind}",
        f"  profile      {decision.profile.title}",
        f"               {decision.standing}",
        "               threshold given, fitted to nothing"
        if decision.rule == GIVEN
        else f"               fitted ({decision.rule}) on {decision.fitted_on}",
        *(f"  {'answers' if first else '':<12} {line}" for first, line in _answering_lines(m)),
        f"  input        {p.side_px} x {p.side_px} px {p.colour}, {p.fit}, JPEG {p.jpeg}",
    ]
    for name, model in m.models.items():
        size = len(bundle.parts[model.file]) / 1e6
        lines.append(f"  model {name:<7}{size:6.2f} MB, {model.input_dtype} in, gives {', '.join(model.outputs)}")
    lines += [f"  measured     {line}" for line in _measured_lines(m.metrics)]
    lines.append(f"  data         {m.data.get('name', '?')}, fingerprint {str(m.data.get('fingerprint', '?'))[:16]}")
    lines += [f"  made with    {package} {version}" for package, version in sorted(m.versions.items())]
    lines.append(f"  golden       {len(m.golden)} pictures (edge show --self-test)")
    if m.reference is not None:
        counts = ", ".join(f"{count} {label}" for label, count in m.reference.counts.items())
        lines.append(f"  known cases  {m.reference.n} (edge similar): {counts}")
    return "\n".join(lines)


def _answering_lines(manifest: Manifest) -> Iterator[tuple[bool, str]]:
    """What a picture must be like to be answered, and whether it is the first line of that."""
    from edge_runtime.acceptance import describe

    for place, line in enumerate(describe(manifest.acceptance, manifest.decision.threshold)):
        yield place == 0, line


def _measured_lines(metrics: dict[str, Any]) -> Iterator[str]:
    """The int8 model's measures by split. Evidence is shown, never acted on: what does not read so is passed over."""
    evaluations = metrics.get("evaluations")
    for key, found in evaluations.items() if isinstance(evaluations, dict) else ():
        if not key.endswith("/int8") or not isinstance(found, dict):
            continue
        yield f"{key}: {found.get('n')} pictures, {found.get('n_positive')} positive"
        for name in ("auc", "sensitivity", "specificity"):
            value = found.get(name)
            if isinstance(value, dict) and all(isinstance(value.get(k), float) for k in ("value", "low", "high")):
                yield f"  {name:<12} {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
