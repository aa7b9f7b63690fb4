"""`edge adopt`: parse, call the steps, print. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import FILE
from edge.errors import DataError, EdgeError, PictureError
from edge.progress_bar import progress_bar

if TYPE_CHECKING:
    from edge.bundle import Bundle
    from edge_convert.adopt.model import Options
    from edge_convert.adopt.scaling import Scaling


@click.command()
@click.argument("model", type=FILE)
@click.option("--labels", type=FILE, help="A label a line, in the order of the scores. Default: the file's metadata.")
@click.option("--positive", multiple=True, required=True, metavar="NAME", help="A label to refer for.")
@click.option("--out", type=FILE, required=True, metavar="NAME.edge", help="The bundle.")
@click.option("--name", help="What the bundle is called. Default: as the model's file.")
@click.option(
    "--input-range", metavar="LOW,HIGH", help="What pixels 0 and 255 become; `pixels` for integers as they are."
)
@click.option("--mean", metavar="R,G,B", help="Subtracted from pixels of 0 to 255, in place of --input-range.")
@click.option("--std", metavar="R,G,B", help="What that is then divided by.")
@click.option("--order", type=click.Choice(["rgb", "bgr"]), default="rgb", show_default=True, help="Of the channels.")
@click.option("--layout", type=click.Choice(["nhwc", "nchw"]), default="nhwc", show_default=True, help="Of the input.")
@click.option(
    "--fit",
    type=click.Choice(["crop", "letterbox", "squash"]),
    default="crop",
    show_default=True,
    help="How a picture becomes a square: as in the network's training.",
)
@click.option("--output", metavar="NAME|NUMBER", help="The output with the scores, where there are several.")
@click.option(
    "--scores",
    type=click.Choice(["auto", "probabilities", "softmax", "sigmoid"]),
    default="auto",
    show_default=True,
    help="What the output holds: probabilities, or what softmax or sigmoid is to be applied to.",
)
@click.option("--threshold", type=click.FloatRange(0, 1), help="Refer from this score on. Default: 0.5, or by --data.")
@click.option("--data", type=FILE, help="Labelled pictures that fit the threshold: manifest.csv or a folder a class.")
@click.option("--split", help="Only this split of --data: train, val or test.")
@click.option("--profile", default="sensitivity >= 0.95", show_default=True, help="What the threshold is to reach.")
@click.option(
    "--calibration",
    type=click.Choice(["none", "temperature", "platt", "isotonic"]),
    default="none",
    show_default=True,
    help="Fitted on --data.",
)
@click.option(
    "--pictures", type=FILE, help="A folder whose pictures go into the self-test. Default: of --data, or drawn."
)
def adopt(model: Path, labels: Path | None, out: Path, **said: Any) -> None:
    """Make a bundle of somebody else's TFLite classifier.

    Nothing is guessed: what neither the file's metadata nor an option says ends in a sentence that asks for it. The
    bundle has no heat map, and no calibration but what --data fits. docs/adopt.md has examples.
    """
    from edge.bundle import read_bundle
    from edge.files import read_ordinary
    from edge_convert.adopt import pack
    from edge_convert.adopt.model import open_model

    if said["threshold"] is not None and said["data"] is not None:
        raise click.UsageError("--threshold gives it and --data fits it: one of them")
    if said["data"] is None and (said["split"] or said["calibration"] != "none"):
        raise click.UsageError("--split and --calibration need --data")
    if out.resolve() == model.resolve():
        raise click.UsageError("--out would overwrite the model")
    options = _options(model, labels, said)
    try:
        data = read_ordinary(model)
    except FileNotFoundError:
        raise EdgeError(f"there is no model at {model}", remedy="check the path") from None
    adopted = pack.adopt(open_model(data), options)
    for note in adopted.notes:
        click.echo(note, err=True)
    bundle, pictures = adopted.bundle, _pictures(said["pictures"])
    if said["data"] is not None:
        bundle, named = _fit(bundle, options, said["data"], said["split"])
        pictures = pictures or named
    pack.pack_adopted(pack.Adopted(bundle=bundle, notes=adopted.notes), [p.read_bytes() for p in pictures], out)
    written = read_bundle(out).manifest
    decision = written.decision
    click.echo(f"refer     when the score of {' + '.join(decision.positive)} >= {decision.threshold:.4f}")
    click.echo(f"standing  {decision.standing}")
    click.echo(
        "unknown   heat map; what it was trained on" + ("; calibration" if decision.calibration.kind == "none" else "")
    )
    click.echo(f"bundle    {out}")


def _options(model: Path, labels: Path | None, said: dict[str, Any]) -> Options:
    from edge_convert.adopt.model import Options

    threshold = said["threshold"]
    return Options(
        name=said["name"] or model.stem,
        positive=tuple(dict.fromkeys(said["positive"])),
        labels=None if labels is None else _labels(labels),
        scaling=_scaling(said["input_range"], said["mean"], said["std"]),
        order=said["order"],
        layout=said["layout"],
        fit=said["fit"],
        output=said["output"],
        scores=said["scores"],
        threshold=0.5 if threshold is None else threshold,
        profile=said["profile"],
        calibration=said["calibration"],
    )


def _labels(path: Path) -> tuple[str, ...]:
    from edge.files import read_ordinary
    from edge_convert.tflite_file import parse_labels

    try:
        return parse_labels(read_ordinary(path))
    except FileNotFoundError:
        raise DataError(f"there is no file of labels at {path}", remedy="check the path") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8", remedy="save it as UTF-8, a label a line") from None


def _scaling(input_range: str | None, mean: str | None, std: str | None) -> Scaling | None:
    from edge_convert.adopt.scaling import Scaling, from_mean, from_range

    if (mean is None) != (std is None) or (mean is not None and input_range is not None):
        raise click.UsageError("give --input-range, or --mean and --std")
    if mean is not None and std is not None:
        return from_mean(_numbers(mean, "--mean"), _numbers(std, "--std"))
    if input_range is None:
        return None
    if input_range == "pixels":
        return Scaling()
    ends = _numbers(input_range, "--input-range")
    if len(ends) != 2:
        raise click.BadParameter("use LOW,HIGH, such as -1,1", param_hint="--input-range")
    return from_range(*ends)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    import math

    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise click.BadParameter(f"{text!r} is no list of numbers with commas between", param_hint=option)
    return numbers


def _pictures(folder: Path | None) -> list[Path]:
    """Pictures of the folder, spread over it. Raises PictureError where there is none."""
    from edge_runtime.pictures import expand

    if folder is None:
        return []
    found = list(expand([folder]))
    if not found:
        raise PictureError(f"there is no picture in {folder}", remedy="name a folder with JPEG or PNG files")
    return _spread(found)


def _spread(paths: list[Path]) -> list[Path]:
    from edge_convert.golden import PICTURES

    step = max(1, len(paths) // PICTURES)
    return paths[::step][:PICTURES]


def _fit(bundle: Bundle, options: Options, folder: Path, split: str | None) -> tuple[Bundle, list[Path]]:
    """The bundle with a fitted threshold, and pictures for the self-test."""
    from edge.dataset import read_dataset
    from edge.record import Failure
    from edge_convert.adopt.pack import fit_threshold_on, screen_samples

    dataset = read_dataset(folder)
    samples = dataset.of_split(split) if split else dataset.samples
    if not samples:
        raise DataError(f"the data set has no picture in split {split!r}", remedy="name another split, or none")
    with progress_bar() as bar:
        results = []
        for result in screen_samples(bundle, samples):
            results.append(result)
            bar.show("screening", len(results), len(samples))
    failed = {result.picture for result in results if isinstance(result, Failure)}
    if failed:
        click.echo(f"{len(failed)} of {len(samples)} pictures could not be read and have no say", err=True)
    fitted = fit_threshold_on(bundle, results, options, dataset)
    return fitted, _spread([sample.path for sample in samples if sample.name not in failed])
