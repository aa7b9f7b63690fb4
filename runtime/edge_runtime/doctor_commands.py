"""`edge doctor`: parse, call one function, print."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.cli import FILE


@click.command()
@click.argument("bundle", type=FILE, required=False)
@click.option("--delegate", "delegates", multiple=True, metavar="gpu|PATH[,KEY=VALUE...]", help="Try this one, too.")
@click.option("--again", is_flag=True, help="Try again what was tried before.")
@click.option(
    "--limit", "limit_s", type=click.FloatRange(1, 3600), default=180.0, show_default=True, help="Seconds for a trial."
)
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def doctor(bundle: Path | None, delegates: tuple[str, ...], again: bool, limit_s: float, as_json: bool) -> int:
    """Say what this machine is, what is missing on it, and which delegates pass their trial on BUNDLE.

    The exit status is 1 where this machine cannot screen, or not as the bundle promises.
    """
    from edge.bundle import read_bundle
    from edge.errors import DelegateError
    from edge.fields import plain
    from edge_runtime.delegates.choose import TrialRules
    from edge_runtime.doctor import examine, render

    if delegates and bundle is None:
        raise DelegateError("a delegate is tried on a bundle's pictures", remedy="name one: edge doctor BUNDLE")
    opened = None if bundle is None else read_bundle(bundle)
    report = examine(opened, delegates=delegates, rules=TrialRules(limit_s=limit_s, again=again))
    if as_json:
        click.echo(json.dumps({**plain(report), "can_screen": report.can_screen}))
    else:
        click.echo(render(report))
    return 0 if report.can_screen else 1
