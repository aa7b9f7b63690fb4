"""`edge reference`: a site's own confirmed cases. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import FILE
from edge.errors import EdgeError, PictureError, StreamError
from edge_runtime.commands import interpreter_option, threads_option
from edge_runtime.similar_commands import store_option
from edge_runtime.talk import print_failure, print_line, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.bundle import Bundle
    from edge_runtime.pipeline import Screener, Screening
    from edge_runtime.site_store import SiteCase, SiteStore

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
@click.option("--anyway", is_flag=True, help="Add those too that this bundle would not answer (retake, unlike).")
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
    anyway: bool,
    store: Path | None,
    threads: int | None,
    interpreter: str | None,
) -> int:
    """Add PICTURES (files or folders) as confirmed cases of one label.

    Each is on the disk when its line is printed. A picture that was added before is said, and not added again. One that
    the bundle would not answer, or that a known case of another label equals, costs a line `error`; the others go on.
    """
    from edge.bundle import read_bundle
    from edge.names import printable
    from edge.record import Failure
    from edge_runtime.pictures import expand
    from edge_runtime.pipeline import Screener
    from edge_runtime.site_store import store_of

    if len(note) > LONGEST_NOTE:
        raise click.BadParameter(f"a note has at most {LONGEST_NOTE} characters", param_hint="--note")
    opened = read_bundle(bundle, whole=False)
    kept = store_of(opened, bundle, store, may_be_new=True)
    screener = Screener(opened, threads=threads, interpreter=interpreter)
    tell(screener.note)
    adder = _Adder(
        screener,
        opened,
        kept,
        label=_checked_label(opened, kept, label, new_label),
        note=printable(note),
        no_thumbnail=no_thumbnail,
        anyway=anyway,
    )
    found = expand(pictures)
    tell(found.passed_over())
    found.require_some()
    failed = 0
    for path in found:
        try:
            line, done = adder.add(path)
        except PictureError as error:
            failed += 1
            print_failure(Failure(picture=str(path), error=error.message, remedy=error.remedy), False)
            continue
        with _even_unsaid(done, "; the pictures after it were not added"):
            print_line(line)
    return 1 if failed or not found.complete else 0


@reference.command()
@click.argument("bundle", type=FILE)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@store_option
def remove(bundle: Path, ids: tuple[str, ...], store: Path | None) -> None:
    """Remove the site's cases with these ids, or none of them where one is not there."""
    from edge.bundle import read_bundle
    from edge.names import first_few
    from edge_runtime.site_store import store_of

    opened = read_bundle(bundle, whole=False)
    wanted = tuple(dict.fromkeys(ids))
    store_of(opened, bundle, store).remove(wanted)
    with _even_unsaid(f"removed {first_few(wanted)}", ""):
        for id_ in wanted:
            print_line(f"removed {id_}")


@reference.command(name="list")
@click.argument("bundle", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON record a case.")
@store_option
def list_cases(bundle: Path, as_json: bool, store: Path | None) -> None:
    """List the site's own cases."""
    from edge.bundle import read_bundle
    from edge.fields import plain
    from edge.names import printable
    from edge_runtime.site_store import store_of

    opened = read_bundle(bundle, whole=False)
    kept = store_of(opened, bundle, store)
    cases = kept.cases()
    for case in cases:
        if as_json:
            click.echo(json.dumps(plain(case)))
        else:
            note = f"  {case.note}" if case.note else ""
            # A file that came from elsewhere may hold what a terminal would obey.
            click.echo(printable(f"{case.id:<9} {case.label:<16} {case.added[:10]}  {case.picture}{note}"))
    carried = opened.manifest.reference
    own = f"{len(cases)} of this site in {kept.path}" if cases else "none of this site"
    tell(f"{own}; {carried.n if carried is not None else 'none'} in the bundle")
    if other := kept.embedded_by():
        tell(
            f"those of this site were embedded by another network (of the bundle {printable(other)}): to compare with "
            "them, add their pictures again to a new file, --store FILE"
        )


def _checked_label(bundle: Bundle, store: SiteStore, label: str, new_label: bool) -> str:
    """The label without white space around it. Raises EdgeError for one that neither the bundle nor the site's cases
    have, unless it is meant: it is more likely a slip. Another spelling of a known one is always a slip.
    """
    from edge.names import printable
    from edge_runtime.labels import spelled_otherwise

    label = label.strip()
    known = dict.fromkeys((*bundle.manifest.labels, *(case.label for case in store.cases())))
    if label in known and printable(label) == label:
        return label
    if not label or not label.isprintable():
        raise EdgeError(
            f"{label!r} is no label: it is empty, or has control characters in it", remedy=f"use {' or '.join(known)}"
        )
    meant = spelled_otherwise(label, known)
    if new_label and meant is None:
        return label
    raise EdgeError(
        f"{label!r} is not a label of this bundle or site: {', '.join(known)}",
        remedy="use one of them, or say with --new-label that this one is meant" if meant is None else f"write {meant}",
    )


class _Adder:
    """Adds pictures of one label, one by one."""

    def __init__(
        self,
        screener: Screener,
        bundle: Bundle,
        store: SiteStore,
        *,
        label: str,
        note: str,
        no_thumbnail: bool,
        anyway: bool,
    ) -> None:
        from edge_runtime.similar import carried_cases, embedding_coding

        self._screener, self._store, self._label, self._note, self._anyway = screener, store, label, note, anyway
        self._coding = embedding_coding(bundle, screener.network)
        self._carried = carried_cases(bundle, self._coding)
        reference = bundle.manifest.reference
        own = reference.thumbnail_px if reference is not None else 0
        self._thumbnail_px = 0 if no_thumbnail else own or THUMBNAIL_PX

    def add(self, path: Path) -> tuple[str, str]:
        """The line that says what became of a picture, and what was stored, "" for nothing.

        Raises PictureError, StoreError.
        """
        from edge.names import printable
        from edge.reference import thumbnail
        from edge_runtime.pipeline import read_picture

        data = read_picture(path)
        sha256, name = hashlib.sha256(data).hexdigest(), printable(str(path))
        there = self._store.find(sha256, self._label)
        if there is not None:
            return _there(there, name), ""
        screening = self._screener.screen(data, name=name)
        assert screening.embedding is not None
        codes = self._coding.codes(screening.embedding)
        self._store.require_no_contrary(codes.tobytes(), self._label)
        self._require_bundle_agrees(codes)
        self._require_answerable(screening)
        added, is_new = self._store.add(
            sha256,
            codes.tobytes(),
            picture=name,
            label=self._label,
            note=self._note,
            thumbnail=thumbnail(screening.tensor, self._thumbnail_px) if self._thumbnail_px else b"",
        )
        if not is_new:
            return _there(added, name), ""
        # A person has confirmed the finding; what the network makes of the picture is said, and changes nothing.
        advice = f": {screening.verdict.advice}" if screening.verdict.reasons else ""
        return f"added   {added.id:<9} {added.label:<16} {name}{advice}", f"{name} was stored as {added.id}"

    def _require_bundle_agrees(self, codes: NDArray[np.uint8]) -> None:
        """Raise PictureError where a case of the bundle's with another label has the very same embedding."""
        if self._carried is None:
            return
        for row in (self._carried.codes == codes).all(axis=1).nonzero()[0]:
            if self._carried.labels[row] != self._label:
                raise PictureError(
                    f"the network sees no difference to the bundle's case {self._carried.ids[row]}, which is "
                    f"{self._carried.labels[row]}",
                    remedy="have a trained person read it again; if the bundle is wrong, tell who made it",
                )

    def _require_answerable(self, screening: Screening) -> None:
        """Raise PictureError for one that the bundle's limits would not answer, unless it is meant all the same."""
        reasons = [reason for reason in screening.verdict.reasons if reason != "close"]
        if reasons and not self._anyway:
            raise PictureError(
                f"it would not be answered, so it is no case to compare with ({', '.join(reasons).replace('_', ' ')})",
                remedy="take it again; or, if it is good and of the right kind, add it with --anyway",
            )


def _there(case: SiteCase, name: str) -> str:
    return f"there   {case.id:<9} {case.label:<16} {name}: added on {case.added[:10]}, not again"


@contextmanager
def _even_unsaid(done: str, rest: str) -> Iterator[None]:
    """For lines about what was done already. done: what; "" for nothing. rest: what to do about the remaining ones.

    Raises StreamError where they cannot be written: who reads that nothing could be printed must not believe that
    nothing was done.
    """
    try:
        yield
    except (StreamError, OSError) as error:
        if not done:
            raise
        why = error.message if isinstance(error, StreamError) else f"its line could not be written ({error.strerror})"
        raise StreamError(f"{done}, but {why}", remedy=f"see `edge reference list`{rest}") from None
