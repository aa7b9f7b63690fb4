"""`edge sweep`: parse, call the sweep, draw a line a case, print the table."""

from __future__ import annotations

import json as json_format
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edge.cli import FILE

if TYPE_CHECKING:
    from edge_convert.sweep.compare import Comparison
    from edge_convert.sweep.run import Events, Plan, Sweep, SweepEvent


def _jobs(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """A number above 0, or None for `auto`."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number above 0 nor auto", ctx, param)
    return int(value)


@click.command()
@click.argument("recipe", type=FILE)
@click.option("--data", type=FILE, required=True, help="Labelled pictures: manifest.csv or a folder a class.")
@click.option("--out", type=FILE, required=True, help="A folder below it a case; an interrupted sweep in it goes on.")
@click.option(
    "--grid",
    "words",
    multiple=True,
    required=True,
    metavar="KEY=V,V|FILE",
    help="Values of a recipe's key; several --grid are crossed. 'KEY,KEY=[V,V],[V,V]' for keys that go together; or a "
    "TOML file.",
)
@click.option("--skip-impossible", is_flag=True, help="Leave combinations out that cannot be built, and say which.")
@click.option(
    "--jobs",
    callback=_jobs,
    default="1",
    metavar="N|auto",
    help="Builds at a time; auto: as memory and cores allow. Default 1.",
)
@click.option(
    "--budget", "budget_text", metavar="KEY=N,...", help="latency_ms, model_mb, compressed_mb, auc, specificity."
)
@click.option("--by", type=click.Choice(["specificity", "auc"]), default="specificity", help="The measure of quality.")
@click.option(
    "--latency-factor",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    help="How much longer the device takes than this machine, for the budget; compare `edge bench` on both.",
)
@click.option("--replace", is_flag=True, help="Replace a sweep of another name, or from other data, in --out.")
@click.option("--clock", metavar="COMMAND", help="Of the cases that remove channels: see edge convert.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Overrides a key in every case.")
@click.option("--weights", type=str, help="Overrides network.weights in every case.")
@click.option("--group-pattern", metavar="RE", help="Finds the patient or slide in each name, by one capture group.")
@click.option("--drop-leaks", is_flag=True, help="Leave pictures that leak into a later split out, and say which.")
@click.option("--dry-run", is_flag=True, help="Check every case, list them, and train nothing.")
@click.option("--json", is_flag=True, help="Print the results as JSON.")
def sweep(
    recipe: Path,
    data: Path,
    out: Path,
    words: tuple[str, ...],
    skip_impossible: bool,
    jobs: int | None,
    budget_text: str | None,
    by: Literal["specificity", "auc"],
    latency_factor: float,
    replace: bool,
    clock: str | None,
    changes: tuple[str, ...],
    weights: str | None,
    group_pattern: str | None,
    drop_leaks: bool,
    dry_run: bool,
    json: bool,
) -> int:
    """Build variants of RECIPE, time them together, and say which are worth it.

    Each case is an ordinary build in a process of its own. A case that misses a gate, fails or is killed costs its own
    row. Writes sweep.csv, sweep.json and sweep.svg into the folder. Exit status 1 where a case failed, or where a
    budget was given and none fits it; a missed gate is a result.
    """
    from edge_convert.sweep.pareto import parse_budget

    budget = parse_budget(budget_text) if budget_text is not None else None
    from edge_convert.recipe import read_recipe
    from edge_convert.sweep.grid import parse_grid

    if weights is not None:
        changes = (*changes, f"network.weights={weights}")
    parsed, axes = read_recipe(recipe, changes=changes), parse_grid(words)
    from edge_convert.sweep import run
    from edge_convert.sweep.compare import compare
    from edge_convert.sweep.table import as_json, render

    plan = run.plan_sweep(
        parsed,
        axes,
        data,
        leaks="drop" if drop_leaks else "refuse",
        group_pattern=group_pattern,
        skip_impossible=skip_impossible,
        clock=clock,
    )
    for case in plan.impossible:
        click.echo(f"left out: {case.name}: {case.reason}", err=True)
    if dry_run:
        _list(plan)
        return 0
    with closing(run.sweep(plan, out, jobs=jobs, replace_others=replace)) as events:
        found = _draw(events)
    comparison = compare(found, budget, by=by, latency_factor=latency_factor)
    # Said before it is written: where nothing can be, there is the table.
    click.echo(json_format.dumps(as_json(found, comparison), indent=1) if json else render(found, comparison))
    _write(out, found, comparison)
    if not json:
        click.echo(f"table {out / 'sweep.csv'}\nfigure {out / 'sweep.svg'}")
    failed = any(row.state == "failed" for row in found.rows)
    return 1 if failed or (budget is not None and comparison.choice is None) else 0


def _list(plan: Plan) -> None:
    for number, case in enumerate(plan.cases, start=1):
        settings = " ".join(f"{key}={value}" for key, value in case.settings.items())
        click.echo(f"{number}  {case.name}  {settings}")


def _write(out: Path, found: Sweep, comparison: Comparison) -> None:
    """The results beside the cases."""
    import io

    from edge.files import write_atomically
    from edge_convert.sweep.table import as_csv, as_json

    write_atomically(out / "sweep.csv", as_csv(found, comparison).encode())
    write_atomically(out / "sweep.json", json_format.dumps(as_json(found, comparison), indent=1).encode())
    if any(row.point is not None for row in found.rows):
        from edge_convert.sweep.figure import plot_sweep

        stream = io.BytesIO()
        plot_sweep(found, comparison).savefig(stream, format="svg", metadata={"Date": None})
        write_atomically(out / "sweep.svg", stream.getvalue())


def _draw(events: Events) -> Sweep:
    """On a terminal the running cases are lines that change, below those that ended; else a line a stage."""
    from edge_convert.progress import finish

    board = _Board() if sys.stderr.isatty() else None
    stages: dict[str, str] = {}

    def show(event: SweepEvent) -> None:
        line = f"[{event.number}/{event.of}] {event.case or 'all cases'}: {event.stage}"
        if event.ended:
            stages.pop(event.case, None)
            board.end(event.case, line) if board else click.echo(line, err=True)
            return
        if board:
            board.show(event.case, line + _share(event))
        elif stages.get(event.case) != event.stage:
            click.echo(line, err=True)
        stages[event.case] = event.stage

    try:
        return finish(events, show)
    finally:
        if board:
            board.close()


def _share(event: SweepEvent) -> str:
    progress = event.progress
    return f" {progress.done}/{progress.total}" if progress and progress.total else ""


class _Board:
    """Lines on a terminal that are written over in place."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._drawn = 0

    def show(self, case: str, line: str) -> None:
        """Write a running case's line, over its old one."""
        self._lines[case] = line
        self._redraw("")

    def end(self, case: str, line: str) -> None:
        """Write a case's last line, which stays."""
        self._lines.pop(case, None)
        self._redraw(f"{line}\n")

    def close(self) -> None:
        """Leave nothing that changes."""
        self._lines.clear()
        self._redraw("")

    def _redraw(self, above: str) -> None:
        import shutil

        width = shutil.get_terminal_size().columns - 1
        back = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        # A line that wraps would be two, and the next redraw one short.
        body = "".join(f"{line[:width]}\n" for line in self._lines.values())
        click.echo(f"{back}{above}{body}", nl=False, err=True)
        self._drawn = len(self._lines)
