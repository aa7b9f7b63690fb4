"""The wheel on emulated boards: the runtime's own tests, and the answers of x86-64. Run by `make device-test`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TinyBuild, edge

from edge_convert.progress import finish
from edge_convert.prune.clock import ProgramClock
from edge_convert.prune.piece import Piece, as_tflite

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
DEVICE = ROOT / "build/device"
BOARDS = ["pi4", "pi5"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DEVICE / "root/site/.done").exists(), reason="no emulated device: make device-test"),
]


def on_board(board: str, work: Path, *words: str | Path, path: str = "", **environment: str) -> Any:
    """A command on the board, in `work`; what it printed and its exit status."""
    guest = " ".join(f"{name}={value}" for name, value in environment.items())
    return subprocess.run(
        [HERE / "board", "-d", DEVICE, "-w", work, board, *map(str, words)],
        env={**os.environ, "GUEST_PYTHONPATH": path, "GUEST_ENV": guest},
        capture_output=True,
        text=True,
        check=False,
    )


def edge_on(board: str, work: Path, *words: str | Path) -> Any:
    """The `edge` command of the wheel that the board installed."""
    return on_board(board, work, "/site/bin/edge", *words)


@pytest.fixture(scope="module")
def stage(tiny_build: TinyBuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a stick carries to the board: the tests, the shipped pictures and a build made here. No package of ours."""
    stage = tmp_path_factory.mktemp("device")
    for name in ("tests", "calibration_data"):
        shutil.copytree(ROOT / name, stage / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, stage)
    builds = tiny_build.recipe.parent.parent
    for name in ("tiny-build", "tiny-data"):
        shutil.copytree(builds / name, stage / "builds" / name)
    shutil.copy(tiny_build.bundle, stage / "tiny.edge")
    return stage


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_board_is_the_one_that_is_asked_for(board: str, stage: Path) -> None:
    said = on_board(board, stage, "cat", "/proc/cpuinfo").stdout
    assert ("asimddp" in said) == (board == "pi5")
    assert on_board(board, stage, "uname", "-m").stdout.strip() == "aarch64"


def test_the_tests_of_the_runtime_pass_on_the_board(board: str, stage: Path) -> None:
    """From the installed wheel: -P keeps the working folder out of the path, and no package of ours lies in it."""
    words = ["python3.11", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not native"]
    # Those two make environments and compile delegates; the second board runs what computes.
    left_out = [f"--ignore=tests/runtime/{name}.py" for name in ("test_interpreters", "test_delegates")]
    all_of_it = ["tests/edge", "tests/runtime", *left_out]
    folders = all_of_it if board == "pi4" else ["tests/edge/test_preprocess.py", "tests/runtime/test_pipeline.py"]
    done = on_board(board, stage, *words, *folders, path="/tests-site", EDGE_TEST_BUILDS="/work/builds")
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_int8_outputs_are_those_of_x86_to_the_last_bit(board: str, stage: Path) -> None:
    words = ["tests/device/raw_outputs.py", "tiny.edge", "calibration_data/images"]
    done = on_board(board, stage, "python3.11", *words, f"{board}.npz")
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, *words, "here.npz"], cwd=stage, check=True, capture_output=True)
    there, here = np.load(stage / f"{board}.npz"), np.load(stage / "here.npz")
    assert (
        set(there.files)
        == set(here.files)
        == {"input", "probabilities", "class_activation", "fine_activation", "embedding", "earlier_embedding"}
    )
    for name in here.files:
        assert len(here[name]) == 100
        assert there[name].dtype == np.uint8
        assert np.array_equal(there[name], here[name]), name


def test_a_hundred_pictures_are_decided_as_on_x86(board: str, stage: Path) -> None:
    words = ["screen", "tiny.edge", "calibration_data/images", "--json"]
    there = edge_on(board, stage, *words)
    assert there.returncode == 0, there.stderr
    here = edge("screen", stage / "tiny.edge", stage / "calibration_data/images", "--json")
    told = [[json.loads(line) for line in done.stdout.splitlines()] for done in (there, here)]
    assert len(told[0]) == 100
    same = ("decision", "label", "used_xywh", "delegate", "interpreter", "model")
    assert [[line[key] for key in same] for line in told[0]] == [[line[key] for key in same] for line in told[1]]
    # The outputs are the same to the last bit; of their logarithm two processors' numpy may differ in the 17th digit.
    for there_line, here_line in zip(*told, strict=True):
        assert there_line["probabilities"] == pytest.approx(here_line["probabilities"], rel=1e-12)


def test_the_self_test_and_the_evaluation_agree(board: str, stage: Path) -> None:
    assert edge_on(board, stage, "show", "tiny.edge", "--self-test").stdout.count("input exact") == 13
    words = ["--data", "builds/tiny-data/set", "--split", "test", "--json"]
    there = edge_on(board, stage, "evaluate", "tiny.edge", *words)
    assert there.returncode == 0, there.stderr
    here = edge("evaluate", stage / "tiny.edge", "--data", stage / words[1], *words[2:])
    assert _measures(there.stdout) == pytest.approx(_measures(here.stdout))


UNGATED = """
import sys
from pathlib import Path
from edge.bundle import read_bundle
from edge_runtime.delegates import gpu
from edge_runtime.delegates.choose import TrialRules
from edge_runtime.pipeline import Screener

gpu.refusal = lambda job: None
screener = Screener(read_bundle(Path("tiny.edge")), delegate="auto", rules=TrialRules(again=True))
print(screener.screen_file(Path(sys.argv[1])).verdict.decision, screener.delegate.why)
"""


def test_auto_screens_on_the_cpu_and_says_why(board: str, stage: Path) -> None:
    """The GPU library ends the process on a Cortex-A72; on an A76 it loads, and finds no GPU."""
    picture = min((stage / "calibration_data/images").glob("*.jpg")).relative_to(stage)
    there = edge_on(board, stage, "screen", "tiny.edge", picture, "--json", "--delegate", "auto")
    assert there.returncode == 0, there.stderr
    record = json.loads(there.stdout)
    here = json.loads(edge("screen", stage / "tiny.edge", stage / picture, "--json").stdout)
    assert (record["decision"], record["probability"]) == (here["decision"], here["probability"])
    assert (record["delegate"]["requested"], record["delegate"]["used"]) == ("auto", "cpu")
    assert ("this CPU lacks aes, asimddp, asimdhp, atomics" in record["delegate"]["why"]) == (board == "pi4")


def test_the_gpu_library_kills_the_child_alone(stage: Path) -> None:
    """With the gate taken out: SIGILL in the child process, and the CPU's verdict."""
    picture = min((stage / "calibration_data/images").glob("*.jpg")).relative_to(stage)
    done = on_board("pi4", stage, "python3.11", "-P", "-c", UNGATED, picture)
    assert done.returncode == 0, done.stderr
    here = json.loads(edge("screen", stage / "tiny.edge", stage / picture, "--json").stdout)
    assert done.stdout.strip() == f"{here['decision']} gpu: it crashed (SIGILL)"


def _measures(text: str) -> dict[str, float]:
    found = json.loads(text)
    return {name: found[name]["value"] for name in ("auc", "sensitivity", "specificity")}


def test_the_clock_counts_the_same_whenever_it_is_asked_and_less_where_the_processor_has_more() -> None:
    """A convolution's instructions: with dot products (Cortex-A76) about half of those without."""
    model = as_tflite(Piece(kind="conv", rows=14, columns=14, taken=64, given=96))
    counted = {}
    for board in BOARDS:
        clock = ProgramClock(shlex.join([sys.executable, str(HERE / "clock.py"), board]))
        found = finish(clock.measure([model, model]))
        assert found.unit == "instructions"
        assert found.costs[0] == pytest.approx(found.costs[1], rel=2e-3)
        counted[board] = found.costs[0]
    assert 0.3 < counted["pi5"] / counted["pi4"] < 0.8
