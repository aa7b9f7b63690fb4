"""`edge reference`: a site's own confirmed cases. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.errors import EdgeError, PictureError
from edge_runtime.commands import FILE, interpreter_option, threads_option
from edge_runtime.similar_commands import store_option
from edge_runtime.talk import print_failure, tell

if TYPE_CHECKING:
    from edge.bundle import Bundle
    from edge_runtime.pipeline import Screener
    from edge_runtime.site_store import SiteStore

LONGEST_NOTE = 1000
THUMBNAIL_PX = 96
"""Where the bundle has no thumbnails of its own to go by."""


@click.group()
def reference() -> None:
    """A site's own confirmed cases, for `edge similar`: add, remove, list. The bundle itself is never changed."""


@reference.command()
@click.argument("bundle", type=FILE)
@click.argument("pictures", type=FILE, nargs=-1, required=True)
@click.option("--label", required=True, help="What these pictures are confirmed to be: one of the bundle's labels.")
@click.option("--note", default="", help="A remark to keep with them, such as how they were confirmed.")
@click.option("--new-label", is_flag=True, help="The label is meant, though the bundle does not know it.")
@click.option("--no-thumbnail", is_flag=True, help="Keep no small picture of them; a sheet then shows none.")
@store_option
@threads_option
@interpreter_option
def add(
    bundle: Path,
    pictures: tuple[Path, ...],
    label: str,
    note: str,
    new_label: bool,
    no_thumbnail: bool,
    store: Path | None,
    threads: int | None,
    interpreter: str | None,
) -> int:
    """Add PICTURES (files or folders) as confirmed cases of one label.

    Each is on the disk when its line is printed. A picture that was added before is said, and not added again.
    """
    from edge.bundle import read_bundle
    from edge.dataset import printable
    from edge.record import Failure
    from edge_runtime.pictures import expand
    from edge_runtime.pipeline import Screener
    from edge_runtime.site_store import store_of

    if len(note) > LONGEST_NOTE:
        raise click.BadParameter(f"a note has at most {LONGEST_NOTE} characters", param_hint="--note")
    opened = read_bundle(bundle, whole=False)
    kept = store_of(opened, bundle, store, may_be_new=True)
    _check_label(opened, kept, label, new_label)
    adder = _Adder(
        Screener(opened, threads=threads, interpreter=interpreter), opened, kept, label, printable(note), no_thumbnail
    )
    found = expand(pictures)
    tell(found.passed_over())
    done = failed = 0
    for path in found:
        done += 1
        try:
            click.echo(adder.add(path))
        except PictureError as error:
            failed += 1
            print_failure(Failure(picture=str(path), error=error.message, remedy=error.remedy), False)
    if not done:
        raise PictureError("there is no picture in what was named", remedy="name JPEG, PNG, BMP or TIFF files")
    return 1 if failed or not found.complete else 0


@reference.command()
@click.argument("bundle", type=FILE)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@store_option
def remove(bundle: Path, ids: tuple[str, ...], store: Path | None) -> None:
    """Remove the site's cases with these ids, or none of them where one is not there."""
    from edge.bundle import read_bundle
    from edge_runtime.site_store import store_of

    opened = read_bundle(bundle, whole=False)
    wanted = tuple(dict.fromkeys(ids))
    store_of(opened, bundle, store).remove(wanted)
    for id_ in wanted:
        click.echo(f"removed {id_}")


@reference.command(name="list")
@click.argument("bundle", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON record a case.")
@store_option
def list_cases(bundle: Path, as_json: bool, store: Path | None) -> None:
    """List the site's own cases."""
    from edge.bundle import read_bundle
    from edge.fields import plain
    from edge_runtime.site_store import store_of

    opened = read_bundle(bundle, whole=False)
    kept = store_of(opened, bundle, store)
    cases = kept.cases()
    for case in cases:
        if as_json:
            click.echo(json.dumps(plain(case)))
        else:
            note = f"  {case.note}" if case.note else ""
            click.echo(f"{case.id:<9} {case.label:<16} {case.added[:10]}  {case.picture}{note}")
    carried = opened.manifest.reference
    own = f"{len(cases)} of this site in {kept.path}" if cases else "none of this site"
    tell(f"{own}; {carried.n if carried is not None else 'none'} in the bundle")


def _check_label(bundle: Bundle, store: SiteStore, label: str, new_label: bool) -> None:
    """Raise EdgeError for a label that neither the bundle nor the site's cases have: it is more likely a slip."""
    known = dict.fromkeys((*bundle.manifest.labels, *(case.label for case in store.cases())))
    if label in known or (new_label and label.strip() and label.isprintable()):
        return
    raise EdgeError(
        f"{label!r} is not a label of this bundle or site: {', '.join(known)}",
        remedy="use one of them, or say with --new-label that this one is meant",
    )


class _Adder:
    """Adds pictures of one label, one by one."""

    def __init__(
        self, screener: Screener, bundle: Bundle, store: SiteStore, label: str, note: str, no_thumbnail: bool
    ) -> None:
        from edge_runtime.similar import embedding_coding

        self._screener, self._store, self._label, self._note = screener, store, label, note
        self._coding = embedding_coding(bundle, screener.network)
        reference = bundle.manifest.reference
        own = reference.thumbnail_px if reference is not None else 0
        self._thumbnail_px = 0 if no_thumbnail else own or THUMBNAIL_PX

    def add(self, path: Path) -> str:
        """The line that says what became of a picture. Raises PictureError, StoreError."""
        from edge.dataset import printable
        from edge.reference import thumbnail
        from edge_runtime.pipeline import read_picture

        data = read_picture(path)
        sha256, name = hashlib.sha256(data).hexdigest(), printable(str(path))
        there = self._store.find(sha256)
        if there is not None:
            if there.label != self._label:
                raise PictureError(
                    f"it is there already as {there.id}, and as {there.label}",
                    remedy=f"if that was wrong, run `edge reference remove` for {there.id} first",
                )
            return f"there   {there.id:<9} {there.label:<16} {name}: added on {there.added[:10]}, not again"
        screening = self._screener.screen(data, name=name)
        assert screening.embedding is not None
        added = self._store.add(
            sha256,
            self._coding.codes(screening.embedding).tobytes(),
            picture=name,
            label=self._label,
            note=self._note,
            thumbnail=thumbnail(screening.tensor, self._thumbnail_px) if self._thumbnail_px else b"",
        )
        # A person has confirmed the finding; what the network makes of the picture is said, and changes nothing.
        advice = f": {screening.verdict.advice}" if screening.verdict.reasons else ""
        return f"added   {added.id:<9} {added.label:<16} {name}{advice}"
