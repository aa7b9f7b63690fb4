"""A program as the clock: it is asked through a pipe, believed only where it answers, and named where it does not."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from channel_networks import a_recipe, a_set, with_statistics
from conftest import EDGE

from edge.errors import EdgeError
from edge_convert.network import build_classifier
from edge_convert.pipeline import check_clock
from edge_convert.progress import Steps, finish
from edge_convert.prune.channels import prune_channels
from edge_convert.prune.clock import ProgramClock
from edge_convert.prune.piece import Piece, as_tflite
from edge_convert.prune.plan_file import ChannelRecord
from edge_convert.recipe import PruneRecipe
from edge_convert.train.epoch import Epoch
from edge_runtime.timing import MICROSECONDS, this_machine

PIECES = [as_tflite(Piece(kind="dense", rows=1, columns=1, taken=taken, given=16)) for taken in (16, 512)]
BY_SIZE = """
import json, sys
from edge_runtime.timing import read_models
costs = [len(model) for _, model in read_models(sys.stdin.buffer)]
print(json.dumps({"machine": "a scale", "unit": "bytes", "costs": costs}))
"""


def program(folder: Path, text: str) -> str:
    """A clock that runs this text."""
    path = folder / "clock.py"
    path.write_text(text)
    return shlex.join([sys.executable, str(path)])


def test_the_runtimes_own_command_is_a_clock() -> None:
    found = finish(ProgramClock(shlex.join([*EDGE, "time", "-", "--json"])).measure(PIECES))
    assert (found.machine, found.unit) == (this_machine().key, MICROSECONDS)
    assert len(found.costs) == 2


def test_channels_go_by_what_the_clock_says_and_by_no_other_clock_from_then_on(tmp_path: Path) -> None:
    """By a clock that weighs files, the pruned one weighs what was wanted; another scale's answer is refused."""
    place = tmp_path / "machine"
    place.write_text("a scale")
    command = program(tmp_path, BY_SIZE.replace('"a scale"', f"open({str(place)!r}).read()"))
    clock = ProgramClock(command)
    recipe = a_recipe(side_px=32)
    recipe = replace(recipe, prune=replace(recipe.prune, steps=1))
    prepared, model = a_set(24, 32), with_statistics(build_classifier(recipe))

    def pruned(clock: ProgramClock) -> Steps[tuple[Any, list[Epoch], ChannelRecord]]:
        return prune_channels(recipe, model, prepared, folder=tmp_path, table=tmp_path / "latency.json", clock=clock)

    _, _, record = finish(pruned(clock))
    assert (record.machine, record.unit) == ("a scale", "bytes")
    assert record.unpruned_cost == (tmp_path / "unpruned.int8.tflite").stat().st_size
    assert record.measured <= 0.5
    assert json.loads((tmp_path / "latency.json").read_text())["machine"] == "a scale, bytes"
    assert any("bytes, by a scale" in line for line in record.sentences())
    place.write_text("another")
    with pytest.raises(EdgeError, match="it was a scale at first, and is another now"):
        finish(clock.measure(PIECES))
    with pytest.raises(EdgeError, match="step 1 was decided by a scale, and the clock now is another"):
        finish(pruned(ProgramClock(command)))


def test_the_fact_that_the_runtimes_command_gives_is_told_and_not_its_remedy() -> None:
    clock = ProgramClock(shlex.join([*EDGE, "time", "-", "--json"]))
    with pytest.raises(EdgeError, match=r"does not run 00001\.tflite") as raised:
        finish(clock.measure([PIECES[0], b"no network"]))
    assert "error:" not in raised.value.message


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a process with its parent")
def test_a_clock_does_not_outlive_the_build_that_asked_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    clock = program(tmp_path, f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    asking = (
        "import sys\nfrom edge_convert.prune.clock import ProgramClock\nlist(ProgramClock(sys.argv[1]).measure([]))"
    )
    build = subprocess.Popen([sys.executable, "-c", asking, clock])
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    build.kill()
    build.wait()
    while Path(f"/proc/{told.read_text()}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{told.read_text()}").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import sys; sys.exit('no route to the board')", "no route to the board"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("print('ready')", "it printed no costs but 'ready"),
        ("print('{}')", "'machine' is missing"),
        ('print(\'{"machine": "m", "unit": "u", "costs": [1.0]}\')', "1 costs for 2 files"),
        ('print(\'{"machine": "m", "unit": "u", "costs": [1.0, 0]}\')', "a file that costs nothing"),
        ('print(\'{"machine": "m", "unit": "u", "costs": [1.0, NaN]}\')', "a finite number is needed"),
    ],
    ids=["fails", "fails-silently", "chatter", "no-machine", "too-few", "nothing", "no-number"],
)
def test_a_clock_that_does_not_answer_is_a_sentence_with_its_own_words(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(EdgeError, match=why):
        finish(ProgramClock(program(tmp_path, text)).measure(PIECES))


@pytest.mark.parametrize("command", ["gone-program --json", "'open", "  "])
def test_a_clock_that_cannot_be_run_is_found_before_anything_is_trained(command: str) -> None:
    with pytest.raises(EdgeError, match="the clock"):
        check_clock(a_recipe(), command)


def test_a_clock_that_nothing_would_ask_is_a_sentence(tmp_path: Path) -> None:
    recipe = replace(a_recipe(), prune=PruneRecipe())
    with pytest.raises(EdgeError, match="only asked where channels are removed"):
        check_clock(recipe, program(tmp_path, BY_SIZE))
