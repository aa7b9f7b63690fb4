"""The `edge` command: a table of verbs, each loaded only when it is called.

The table names modules as text, so that `edge` imports neither half and `edge --help` stays instant.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edge import __version__
from edge.errors import EdgeError

# A path on the command line. Whether it can be read shows where it is read: click would end the whole run for one
# unreadable picture among many, before a single one was screened.
FILE = click.Path(path_type=Path, readable=False)

# verb: (module:attribute, the line `edge --help` shows)
VERBS = {
    "screen": ("edge_runtime.commands:screen", "Screen pictures with a bundle: one verdict a line."),
    "watch": ("edge_runtime.watch_commands:watch", "Screen what a camera sees, the newest frame first."),
    "evaluate": ("edge_runtime.commands:evaluate", "Measure a bundle on labelled pictures."),
    "similar": ("edge_runtime.similar_commands:similar", "The known cases nearest to a picture."),
    "reference": ("edge_runtime.reference_commands:reference", "A site's own known cases: add, remove, list."),
    "show": ("edge_runtime.commands:show", "Say what a bundle is, and test it on this machine."),
    "bench": ("edge_runtime.bench_commands:bench", "Time a bundle on this machine, step by step."),
    "time": ("edge_runtime.timing_commands:time", "What an inference of each of some TFLite files costs here."),
    "doctor": ("edge_runtime.doctor_commands:doctor", "What this machine is, what runs on it, what is missing."),
    "data": ("edge_convert.data_commands:data", "Check, certify, split and review a data set, or render one."),
    "backbones": (
        "edge_convert.backbone_commands:backbones",
        "List the networks that can be trained, with cost and source.",
    ),
    "adopt": ("edge_convert.adopt.commands:adopt", "Somebody else's TFLite classifier to a bundle."),
    "quantize": ("edge_convert.quantize.commands:quantize", "Where a build's int8 file loses, and what mends it."),
    "convert": ("edge_convert.commands:convert", "Labelled pictures to a verified bundle, by a recipe."),
    "sweep": ("edge_convert.sweep_commands:sweep", "Build variants of a recipe, and compare them for a device."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on first use (after Click's own 'lazily loading subcommands')."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, attribute = VERBS[cmd_name][0].split(":")
        if module.startswith("edge_runtime."):
            # numpy's BLAS starts a thread a core that waits by spinning: a fifth of a cold start, and nothing that a
            # device computes is large enough to be shared among threads. The network has threads of its own.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge")
def edge() -> None:
    """From labelled pictures to a screening model on a small device, with the evidence attached."""


@contextmanager
def loading() -> Iterator[None]:
    """What is loaded meanwhile stays to the end, so it is not looked through for garbage, now or later.

    Looking through the libraries again and again while they were loaded was a tenth of a cold start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def run(command: Callable[..., Any]) -> int:
    """Run a click command; return the exit status. 0 done, 1 failed (two lines on stderr), 2 misuse."""
    if sys.stdout is None:
        # Started with standard output closed: a verdict that nobody can read must not look like one that was given.
        click.echo("error: standard output is closed\nremedy: send it to a file or a terminal", err=True)
        return 1
    try:
        status = command(standalone_mode=False)
    except click.ClickException as misuse:
        misuse.show()
        return misuse.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped: finished work is kept", err=True)
        return 130
    except EdgeError as error:
        click.echo(f"error: {error.message}\nremedy: {error.remedy}", err=True)
        return 1
    except ImportError as error:
        click.echo(
            f"error: a library cannot be loaded ({error})\n"
            "remedy: install edge-screen's locked dependencies, and leave it at least 1 GB of memory",
            err=True,
        )
        return 1
    except MemoryError:
        click.echo("error: out of memory\nremedy: close other programs, or use smaller pictures", err=True)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(
            f"error: {where}{error.strerror or error}\nremedy: check the path, the free space and the rights",
            err=True,
        )
        return 1
    return status if isinstance(status, int) else 0


def main() -> None:
    """Entry point of the `edge` command."""
    sys.exit(run(edge))
