"""`edge similar`: the known cases nearest to a picture. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli import FILE
from edge.errors import EdgeError, PictureError, StreamError
from edge_runtime.commands import interpreter_option, threads_option
from edge_runtime.talk import print_failure, print_line, tell, warn

if TYPE_CHECKING:
    from edge_runtime.pipeline import Screener, Screening
    from edge_runtime.similar import KnownCases, Neighbours

SHEETS = (".jpg", ".jpeg", ".png")
store_option = click.option(
    "--store", type=FILE, metavar="FILE", help="The site's own cases. Default: BUNDLE.cases.db, beside the bundle."
)


@click.command()
@click.argument("bundle", type=FILE)
@click.argument("pictures", type=FILE, nargs=-1, required=True)
@click.option("-k", "k", type=click.IntRange(1, 100), default=5, show_default=True, help="How many known cases.")
@click.option("--json", "as_json", is_flag=True, help="One JSON record a line.")
@click.option("--sheet", type=FILE, metavar="FILE.jpg", help="Draw the pictures beside their nearest cases.")
@store_option
@threads_option
@interpreter_option
def similar(
    bundle: Path,
    pictures: tuple[Path, ...],
    k: int,
    as_json: bool,
    sheet: Path | None,
    store: Path | None,
    threads: int | None,
    interpreter: str | None,
) -> int:
    """Show the known cases that are nearest to PICTURES (files or folders), by the network's embedding.

    They are the bundle's own (training pictures) and those that this site has added with `edge reference add`. They
    help a trained person to judge; the verdict is the network's alone, and they do not change it.
    """
    from edge.bundle import read_bundle
    from edge.record import Failure
    from edge_runtime.pictures import expand
    from edge_runtime.pipeline import Screener
    from edge_runtime.similar import known_cases
    from edge_runtime.site_store import store_of

    if sheet is not None:
        _check_sheet(sheet, pictures)
    opened = read_bundle(bundle, whole=False)
    screener = Screener(opened, threads=threads, interpreter=interpreter)
    site = store_of(opened, bundle, store).load(thumbnails=sheet is not None)
    known = known_cases(opened, screener.network, site, thumbnails=sheet is not None)
    found = expand(pictures)
    tell(found.passed_over())
    warn(screener)
    drawn = _Sheet(sheet, screener, known, k) if sheet is not None else None
    found.require_some()
    failed = 0
    unread: StreamError | None = None
    for path, screening in screener.screen_files(found):
        try:
            if isinstance(screening, PictureError):
                failed += 1
                print_failure(Failure(picture=str(path), error=screening.message, remedy=screening.remedy), as_json)
                continue
            assert screening.embedding is not None
            neighbours = known.nearest(screening.embedding, k)
            if drawn is not None:
                drawn.add(screening, neighbours)
            _print_neighbours(screening, neighbours, as_json)
        except StreamError as closed:
            # The sheet is a thing of its own: who reads the first line alone still asked for all of it.
            if drawn is None:
                raise
            unread = closed
    if drawn is not None:
        drawn.write()
    if unread is not None:
        raise unread
    if failed:
        tell(f"{failed} of {len(found)} pictures could not be screened")
    return 1 if failed or not found.complete else 0


class _Sheet:
    """Gathers the rows of a sheet and writes it."""

    def __init__(self, path: Path, screener: Screener, known: KnownCases, k: int) -> None:
        self._path, self._screener, self._known, self._k = path, screener, known, k
        self._rows: list[Any] = []
        self._left_out = 0

    def add(self, screening: Screening, neighbours: Neighbours) -> None:
        from edge_runtime.sheet import MOST_ROWS, Row

        if len(self._rows) == MOST_ROWS:
            self._left_out += 1
            return
        verdict = screening.verdict
        why = ", ".join(verdict.reasons).replace("_", " ") or "the picture"
        words = (verdict.picture, f"{verdict.decision}  p={verdict.stated}", why)
        self._rows.append(Row(tensor=screening.tensor, words=words, neighbours=neighbours))

    def write(self) -> None:
        """Write the file. Raises EdgeError where it cannot be."""
        import cv2

        from edge.files import write_atomically
        from edge_runtime.sheet import draw_sheet

        if not self._rows:
            tell("no sheet was drawn: no picture could be screened")
            return
        manifest = self._screener.manifest
        mark = "   SYNTHETIC: not for patients" if manifest.synthetic else ""
        caption = f"{manifest.name}: nearest known cases. They do not change the verdict.{mark}"
        drawn = draw_sheet(
            self._rows,
            self._known,
            positive=manifest.decision.positive,
            k=min(self._k, len(self._known)),
            caption=caption,
        )
        data = cv2.imencode(self._path.suffix.lower(), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1].tobytes()
        write_atomically(self._path, data)
        if self._left_out:
            tell(f"the sheet shows the first {len(self._rows)} pictures; {self._left_out} more have their lines alone")


def _check_sheet(sheet: Path, pictures: tuple[Path, ...]) -> None:
    """Raise EdgeError for a sheet that would overwrite a picture, or be screened next time."""
    from edge_runtime.pictures import require_elsewhere

    if sheet.suffix.lower() not in SHEETS:
        raise EdgeError(f"{sheet} does not end in .jpg or .png", remedy="name a picture file with --sheet")
    if sheet.is_dir():
        raise EdgeError(f"{sheet} is a folder", remedy="name a picture file with --sheet")
    for named in pictures:
        if named.resolve() == sheet.resolve():
            raise EdgeError(f"the sheet would overwrite the picture {named}", remedy="name another file with --sheet")
    require_elsewhere(sheet, pictures, "the sheet", remedy="name a file elsewhere with --sheet")
    if sheet.exists():
        # It may be somebody's picture: nothing tells it from an older sheet.
        raise EdgeError(f"{sheet} is there already", remedy="name a new file with --sheet, or remove that one")
    if not sheet.absolute().parent.is_dir():
        raise EdgeError(f"there is no folder {sheet.absolute().parent}", remedy="make it, or name another with --sheet")


def _print_neighbours(screening: Screening, neighbours: Neighbours, as_json: bool) -> None:
    from edge.fields import plain
    from edge.names import printable

    verdict = screening.verdict
    if as_json:
        record = {
            "picture": verdict.picture,
            "decision": verdict.decision,
            "advice": verdict.advice,
            "reasons": verdict.reasons,
            "probability": verdict.probability,
            "neighbours": plain(neighbours.found),
            "shares": neighbours.shares,
            "model": verdict.model,
            "synthetic": verdict.synthetic,
            "bundle": plain(verdict.bundle),
        }
        print_line(json.dumps(record))
        return
    mark = "  SYNTHETIC" if verdict.synthetic else ""
    advice = f"  {verdict.remark}" if verdict.remark else ""
    print_line(f"{verdict.decision:<9} {verdict.stated}  {printable(verdict.picture)}{mark}{advice}")
    for one in neighbours.found:
        whose = "  this site's" if one.source == "site" else ""
        group = f"  group {one.group}" if one.group else ""
        print_line(f"  {one.rank:>3}  {one.distance:8.3f}  {one.label:<16} {one.id}{group}{whose}")
    n = len(neighbours.found)
    shares = ", ".join(f"{round(share * n)} {label}" for label, share in neighbours.shares.items())
    print_line(f"       of {n}: {shares}")
