"""What the device's commands say alike: lines on stdout, talk on stderr, and a picture that has no verdict."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from edge.errors import StreamError

if TYPE_CHECKING:
    from edge.record import Failure
    from edge_runtime.pipeline import Screener


def tell(text: str) -> None:
    """Talk on stderr. Nobody listening there is no reason to lose a verdict."""
    if not text:
        return
    try:
        click.echo(text, err=True)
    except OSError:
        # What is left in its buffer would fail again, at the latest when Python ends (3.11.2 keeps it).
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def print_line(line: str) -> None:
    """A line on standard output. Raises StreamError where nobody reads it any more; later lines then go nowhere."""
    try:
        click.echo(line)
    except BrokenPipeError:
        # Python writes once more when it ends, and would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StreamError(
            "nobody reads the lines any more: standard output was closed",
            remedy="keep its reader running, or send it to a file",
        ) from None


def warn(screener: Screener) -> None:
    """Say what a user must know before the first verdict: synthetic, another model than the main one, an interpreter
    that is held against nothing, no delegate.
    """
    if screener.manifest.synthetic:
        tell(f"{screener.manifest.name} was trained on SYNTHETIC pictures: not for patients")
    main = screener.manifest.main_model
    if screener.variant != main:
        tell(f"calibration, threshold and limits were fitted on the {main} model, not on {screener.variant}")
    tell(screener.note)
    tell_delegate(screener)


def tell_delegate(screener: Screener, before: Any = None) -> None:
    """Say that the CPU runs what a delegate was asked for. before: what ran it then, where that was said."""
    use = screener.delegate
    if use != before and use.used == "cpu" != use.requested:
        tell(f"the CPU runs the network, not {use.requested}: {use.why}")


def print_failure(failure: Failure, as_json: bool) -> None:
    """Print the line of a picture that could not be screened, or its JSON record."""
    from edge.names import printable

    if as_json:
        print_line(json.dumps(failure.to_json()))
    else:
        name = printable(failure.picture)
        print_line(f"error     -----  {'':>10}  {name}: {failure.error}; {failure.remedy}")
