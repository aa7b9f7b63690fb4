"""`edge data`: check, certify, split, review, or render a data set. Each parses, calls, prints."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from edge.cli import FILE
from edge.errors import DataError
from edge.progress_bar import progress_bar

if TYPE_CHECKING:
    from edge_convert.progress import Progress, Steps

T = TypeVar("T")
FOLDER = click.argument("folder", metavar="DIR", type=FILE)
GROUP_PATTERN = click.option(
    "--group-pattern", metavar="RE", help="Finds the patient or slide in each name, by one capture group."
)


def _fractions(context: click.Context, option: click.Parameter, value: str | None) -> tuple[float, float, float] | None:
    """Three numbers with commas between them; whether they add up is for the split to say."""
    if value is None:
        return None
    try:
        train, val, test = (float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not three numbers such as 0.7,0.15,0.15", context, option) from None
    return train, val, test


@click.group()
def data() -> None:
    """Check, certify, split and review a labelled data set, or render a synthetic one."""


@data.command()
@FOLDER
@GROUP_PATTERN
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Of the splits, where DIR has none. A recipe's own is 1 too, unless it says another.",
)
@click.option(
    "--embeddings", is_flag=True, help="Find crops, tilted copies and overlapping fields, too. Takes minutes."
)
@click.option("--certificate", metavar="FILE", type=FILE, help="Write what was found as a sealed JSON file.")
@click.option("--json", is_flag=True, help="Print the whole report as JSON.")
def check(
    folder: Path, group_pattern: str | None, seed: int, embeddings: bool, certificate: Path | None, json: bool
) -> int:
    """Say what is in DIR, what cannot be read, and what leaks between splits.

    DIR holds a manifest.csv (columns path,label and optionally group,split,boxes_xywh) or one folder per
    class. Without a split column, splits are made by group and these are checked. Exits 1 on a leak.
    """
    from edge.dataset import read_dataset
    from edge_convert.data.check import check_dataset
    from edge_convert.data.text import render_text

    dataset = read_dataset(folder, group_pattern=group_pattern)
    report = _drawn("checking", check_dataset(dataset, seed=seed, embeddings=embeddings))
    if certificate is not None:
        from edge_convert.data.certificate import certify, write_certificate

        write_certificate(certificate, certify(dataset, report, dataset.identity()))
        click.echo(f"certificate written to {certificate}", err=True)
    click.echo(json_format.dumps(report.to_json(), indent=2) if json else render_text(report))
    if not report.grey + report.colour:
        raise DataError(
            "no picture of the data set can be read", remedy="see the reasons above; copy the pictures again"
        )
    return 1 if report.leaks else 0


@data.command()
@click.argument("certificate", metavar="FILE", type=FILE)
@FOLDER
@click.option("--again", is_flag=True, help="Check every picture again, and compare what is found.")
def verify(certificate: Path, folder: Path, again: bool) -> int:
    """Say whether DIR is still the very data set that the certificate FILE is of.

    FILE is what `edge data check --certificate` wrote, or certificate.json out of a bundle. The seal must hold, and
    names, files, labels, groups, splits and boxes must be the same. Exits 1 where they are not.
    """
    from edge.dataset import read_dataset
    from edge_convert.data.certificate import certify, changed_findings, difference, read_certificate

    certified = read_certificate(certificate)
    dataset = read_dataset(folder)
    if not dataset.has_groups and certified["groups"]["pattern"]:
        dataset = read_dataset(folder, group_pattern=certified["groups"]["pattern"])
    differing = difference(certified, dataset)
    if differing is None and again:
        from edge_convert.data.check import check_dataset

        with_embeddings = certified["methods"]["shared_parts"] is not None
        seed = certified["splits"]["seed"] or 0
        report = _drawn("checking", check_dataset(dataset, seed=seed, embeddings=with_embeddings))
        changed = changed_findings(certified, certify(dataset, report, dataset.identity()))
        if changed:
            differing = f"the same data give another {' and '.join(changed)} now"
    if differing is not None:
        click.echo(f"{folder} is NOT the certified data set: {differing}")
        return 1
    click.echo(
        f"{folder} is the certified data set: {certified['data']['pictures']:,} pictures, fingerprint "
        f"{certified['data']['fingerprint'][:16]}, seal {certified['seal'][:16]}"
    )
    return 0


@data.command()
@FOLDER
@click.option("--out", metavar="FILE", type=FILE, required=True, help="The manifest to write, such as manifest.csv.")
@GROUP_PATTERN
@click.option(
    "--fractions", metavar="A,B,C", callback=_fractions, help="Of train, val and test.  [default: 0.7,0.15,0.15]"
)
@click.option(
    "--folds", type=click.IntRange(min=2), help="Write a column `fold`, 1 to this; the test split stays out: 0."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed, the same splits."
)
@click.option("--again", is_flag=True, help="Make new splits in the place of DIR's own; write over FILE.")
def split(
    folder: Path,
    out: Path,
    group_pattern: str | None,
    fractions: tuple[float, float, float] | None,
    folds: int | None,
    seed: int,
    again: bool,
) -> None:
    """Give the data set in DIR splits, or folds for cross-validation, and write them as a manifest.

    A group (patient, slide) is never in two of them, and each class is shared out as evenly as the groups allow. With
    --folds, a data set with splits keeps them. The manifest counts once it is DIR/manifest.csv.
    """
    from edge.dataset import read_dataset
    from edge.files import write_atomically
    from edge_convert.data.split_table import make_split_table

    if out.exists() and not again:
        raise DataError(f"{out} exists", remedy="name another file, or give --again to write over it")
    dataset = read_dataset(folder, group_pattern=group_pattern)
    table = make_split_table(
        dataset, seed=seed, fractions=fractions, folds=folds, again=again and (folds is None or fractions is not None)
    )
    write_atomically(out, table.to_csv().encode())
    if not dataset.has_groups:
        click.echo("groups are not known: pictures of one patient may be on both sides", err=True)
    click.echo(table.describe())


@data.command()
@FOLDER
@GROUP_PATTERN
@click.option(
    "--repeats", type=click.IntRange(min=2), default=5, show_default=True, help="Cross-validations of each kind."
)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Of the cross-validation.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed, the same folds.")
@click.option("--json", is_flag=True, help="Print the AUC of every repeat as JSON.")
def gap(folder: Path, group_pattern: str | None, repeats: int, folds: int, seed: int, json: bool) -> None:
    """Measure how much better a random split of DIR would look than a split by group.

    Two probes on a frozen network's embeddings, a linear one and nearest neighbours, are cross-validated both ways. The
    groups must be known. What is found is a lower bound: fine-tuning can learn a patient by heart.
    """
    from edge.dataset import read_dataset
    from edge.fields import plain
    from edge_convert.data.embed import embed
    from edge_convert.data.gap import LOWER_BOUND, measure_gap, require_groups

    dataset = read_dataset(folder, group_pattern=group_pattern)
    require_groups(dataset)
    embeddings = _drawn("embedding", embed(dataset.samples))
    gaps = _drawn("probing", measure_gap(dataset, embeddings, folds=folds, repeats=repeats, seed=seed))
    if json:
        rows = [plain(g) | {"mean": g.mean, "spread": g.spread, "noise": g.noise} for g in gaps]
        click.echo(json_format.dumps(rows, indent=2))
    else:
        click.echo("\n".join([*(g.sentence for g in gaps), LOWER_BOUND]))


@data.command()
@FOLDER
@click.option("--out", metavar="FILE", type=FILE, required=True, help="The page to write, such as review.html.")
@GROUP_PATTERN
@click.option("--shown", type=click.IntRange(min=1), default=100, show_default=True, help="Pictures in the page.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Of the cross-validation.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed, the same folds.")
def review(folder: Path, out: Path, group_pattern: str | None, shown: int, folds: int, seed: int) -> None:
    """List the pictures of DIR whose label is likely wrong, as a page to look through and a CSV beside it.

    Confident learning on a probe that has not seen a picture's group. It proposes; a trained person decides.
    """
    from edge.dataset import read_dataset
    from edge.files import write_atomically
    from edge_convert.data.embed import embed
    from edge_convert.data.review import find_doubts, to_csv
    from edge_convert.data.review_page import render_page

    dataset = read_dataset(folder, group_pattern=group_pattern)
    table = out.with_suffix(".csv")
    if table == out:
        raise DataError(f"{out} is the CSV's own name", remedy="name the page with .html")
    embeddings = _drawn("embedding", embed(dataset.samples))
    doubts = _drawn("probing", find_doubts(dataset, embeddings, folds=folds, seed=seed))
    write_atomically(out, render_page(dataset, doubts, shown=shown, beside=out.parent).encode())
    write_atomically(table, to_csv(doubts).encode())
    suspected = sum(doubt.suspected for doubt in doubts)
    click.echo(f"{suspected:,} of {len(doubts):,} labels are suspected: {out}, {table}")


@data.command()
@FOLDER
@click.option("--tiles", type=click.IntRange(min=1), default=1200, show_default=True, help="How many pictures.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed, the same pictures."
)
def render(folder: Path, tiles: int, seed: int) -> None:
    """Render a synthetic data set of blood smear tiles into DIR, with splits and marked parasites.

    It is for trying the tool out: nothing about patients follows from it.
    """
    from edge_convert.synthetic import render_dataset

    with progress_bar() as bar:
        for done in render_dataset(folder, tiles=tiles, seed=seed):
            bar.show("rendering", done, tiles)
    click.echo(f"rendered {tiles:,} tiles into {folder}")


def _drawn(label: str, steps: Steps[T]) -> T:
    """Run a long step under a bar."""
    from edge_convert.progress import finish

    with progress_bar() as bar:

        def draw(step: Progress) -> None:
            bar.show(label, step.done, step.total)

        return finish(steps, draw)
