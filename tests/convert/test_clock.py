"""A program as the clock: it is asked through a pipe, believed only where it answers, and named where it does not."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from channel_networks import a_recipe, a_set, with_statistics
from conftest import EDGE

from edge.errors import EdgeError
from edge_convert.network import build_classifier
from edge_convert.pipeline import check_clock
from edge_convert.progress import finish
from edge_convert.prune.channels import prune_channels
from edge_convert.prune.clock import ProgramClock
from edge_convert.prune.piece import Piece, as_tflite
from edge_convert.recipe import PruneRecipe
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


def test_channels_go_by_what_the_clock_says_and_the_record_says_whose_word_it_was(tmp_path: Path) -> None:
    """By a clock that weighs files, the pruned one weighs what was wanted."""
    recipe = a_recipe(side_px=32, width=0.5)
    model = with_statistics(build_classifier(recipe))
    clock = ProgramClock(program(tmp_path, BY_SIZE))
    steps = prune_channels(recipe, model, a_set(24, 32), folder=tmp_path, table=tmp_path / "latency.json", clock=clock)
    _, _, record = finish(steps)
    assert (record.machine, record.unit) == ("a scale", "bytes")
    assert record.unpruned_cost == (tmp_path / "unpruned.int8.tflite").stat().st_size
    assert record.measured <= 0.5
    assert json.loads((tmp_path / "latency.json").read_text())["machine"] == "a scale, bytes"
    assert any("bytes, one thread, on a scale" in line for line in record.sentences())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import sys; sys.exit('no route to the board')", "no route to the board"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("print('ready')", "it printed no costs"),
        ("print('{}')", "'machine' is missing"),
        ('print(\'{"machine": "m", "unit": "u", "costs": [1.0]}\')', "2 files are to cost something"),
        ('print(\'{"machine": "m", "unit": "u", "costs": [1.0, 0]}\')', "2 files are to cost something"),
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
