"""Every interpreter package on the same bundle, each in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyBuild, edge
from environments import ENVIRONMENTS, environment
from numpy.typing import NDArray

from edge.errors import InterpreterError
from edge_runtime import interpreter
from edge_runtime.interpreters import INTERPRETERS, find
from edge_runtime.pipeline import Screener

ROOT = Path(__file__).parents[2]
STEP = 1 / 256
PROGRAM = """
import json, sys
from pathlib import Path
from edge_runtime.pipeline import Screener

screener = Screener.open(Path(sys.argv[1]), interpreter=sys.argv[2])
print(json.dumps([screener.screen_file(Path(line.strip())).outputs.tolist() for line in sys.stdin]))
"""


def outputs_in(python: Path | str, package: str, bundle: Path, pictures: list[Path]) -> NDArray[np.float64]:
    """What the network gives for the pictures, (pictures, classes), by that package in that environment."""
    done = subprocess.run(
        [str(python), "-c", PROGRAM, str(bundle), package],
        input="\n".join(map(str, pictures)),
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """200 tiles that the network was not trained on."""
    folder = tmp_path_factory.mktemp("tiles")
    done = edge("data", "render", folder / "set", "--tiles", "200", "--seed", "11")
    assert done.returncode == 0, done.stderr
    return sorted((folder / "set/images").glob("*.jpg"))


@pytest.fixture(scope="module")
def expected(tiny_build: TinyBuild, pictures: list[Path]) -> NDArray[np.float64]:
    screener = Screener.open(tiny_build.bundle)
    assert screener.network.package == "ai-edge-litert"
    return np.array([screener.screen_file(path).outputs for path in pictures], np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert-1.4.0", "litert-2.3.0", "tensorflow"])
def test_packages_with_the_same_kernels_give_the_same_outputs_to_the_last_bit(
    name: str, tiny_build: TinyBuild, pictures: list[Path], expected: NDArray[np.float64]
) -> None:
    package, python = name, Path(sys.executable)
    if name in ENVIRONMENTS:
        package, python = ENVIRONMENTS[name][0], environment(name)
    assert outputs_in(python, package, tiny_build.bundle, pictures).tolist() == expected.tolist()


@pytest.mark.slow
def test_the_older_kernels_of_tflite_runtime_agree_on_every_class_that_is_not_a_tie(
    tiny_build: TinyBuild, pictures: list[Path], expected: NDArray[np.float64]
) -> None:
    """They round otherwise. Two classes that are closer than twice the largest difference are a tie."""
    given = outputs_in(environment("tflite-2.14.0"), "tflite-runtime", tiny_build.bundle, pictures)
    differences = np.abs(given - expected).max(1)
    tie = np.abs(expected[:, 0] - expected[:, 1]) <= 2 * differences.max()
    flips = given.argmax(1) != expected.argmax(1)
    print(
        f"{len(pictures)} pictures: largest difference {differences.max() / STEP:.0f} of 256 steps, {flips.sum()} flips"
    )
    assert differences.max() <= 8 * STEP
    assert not (flips & ~tie).any()
    assert tie.mean() < 0.5


def test_the_first_package_that_is_here_is_used_and_a_named_one_is_used_or_refused(tiny_build: TinyBuild) -> None:
    assert find().name == next(iter(INTERPRETERS)) == "ai-edge-litert"
    picture = next((tiny_build.data / "images").glob("*.jpg"))
    done = edge("screen", tiny_build.bundle, picture, "--json", "--interpreter", "ai-edge-litert")
    assert json.loads(done.stdout)["interpreter"] == "ai-edge-litert", done.stderr
    done = edge("screen", tiny_build.bundle, picture, "--interpreter", "tflite-runtime")
    assert done.returncode == 1
    assert "No module named 'tflite_runtime'" in done.stderr
    assert "remedy: install it (pip install tflite-runtime)" in done.stderr
    done = edge("show", tiny_build.bundle, "--self-test", "--interpreter", "torch")
    assert "there is no interpreter 'torch'" in done.stderr
    assert "ai-edge-litert, tflite-runtime, tensorflow" in done.stderr


def test_tflite_runtime_beside_numpy_2_is_refused_before_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InterpreterError, match="needs numpy below 2"):
        find("tflite-runtime")


@pytest.mark.parametrize(
    ("siblings", "threads"),
    [(["0", "1"], 2), (["0-1", "0-1"], 1), ([f"{i % 6},{i % 6 + 6}" for i in range(12)], 4), ([None, None, None], 3)],
    ids=["two cores", "one core of two threads", "six cores", "not told"],
)
def test_threads_are_the_physical_cores_and_at_most_four(
    siblings: list[str | None], threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu, text in enumerate(siblings):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        if text is not None:
            (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{text}\n")
    monkeypatch.setattr(interpreter, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(len(siblings))), raising=False)
    assert interpreter.default_threads() == threads
