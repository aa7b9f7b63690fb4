"""Every interpreter package on the same bundle, each in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyBuild, edge
from environments import ENVIRONMENTS, environment
from numpy.typing import NDArray

from edge.bundle import Bundle, write_bundle
from edge.errors import InterpreterError
from edge_runtime import interpreter, interpreters, kept, pipeline
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


HELD = interpreters.VERIFIED_WITH


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The package that is here, as if bundles were verified with another one. Nothing is known of it yet."""
    monkeypatch.setattr(pipeline, "VERIFIED_WITH", "another")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return HELD


def promising(bundle: Bundle, **tolerances: float) -> Bundle:
    """The bundle with other tolerances."""
    return replace(bundle, manifest=replace(bundle.manifest, tolerances={**bundle.manifest.tolerances, **tolerances}))


def otherwise(bundle: Bundle) -> Bundle:
    """The bundle with promises that no interpreter keeps: each golden picture has the next one's outputs."""
    golden = [entry for entry in bundle.manifest.golden if entry.outputs]
    names = [entry.outputs for entry in golden]
    turned = [replace(entry, outputs=name) for entry, name in zip(golden, [*names[1:], names[0]], strict=True)]
    return replace(bundle, manifest=replace(bundle.manifest, golden=tuple(turned)))


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
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """200 tiles that the network was not trained on."""
    folder = tmp_path_factory.mktemp("tiles")
    done = edge("data", "render", folder / "set", "--tiles", "200", "--seed", "11")
    assert done.returncode == 0, done.stderr
    return sorted((folder / "set/images").glob("*.jpg"))


@pytest.fixture(scope="module")
def expected(tiny_build: TinyBuild, tiles: list[Path]) -> NDArray[np.float64]:
    screener = Screener.open(tiny_build.bundle)
    assert screener.network.package == "ai-edge-litert"
    return np.array([screener.screen_file(path).outputs for path in tiles], np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert-1.4.0", "litert-2.3.0", "tensorflow"])
def test_packages_with_the_same_kernels_give_the_same_outputs_to_the_last_bit(
    name: str, tiny_build: TinyBuild, tiles: list[Path], expected: NDArray[np.float64]
) -> None:
    package, python = name, Path(sys.executable)
    if name in ENVIRONMENTS:
        package, python = ENVIRONMENTS[name][0], environment(name)
    # No ",unverified=yes" here: what gives the promised outputs need not be let in.
    assert outputs_in(python, package, tiny_build.bundle, tiles).tolist() == expected.tolist()


@pytest.mark.slow
def test_the_older_kernels_of_tflite_runtime_agree_on_every_class_that_is_not_a_tie(
    tiny_build: TinyBuild, tiles: list[Path], expected: NDArray[np.float64]
) -> None:
    """They round otherwise. Two classes that are closer than twice the largest difference are a tie."""
    given = outputs_in(environment("tflite-2.14.0"), "tflite-runtime,unverified=yes", tiny_build.bundle, tiles)
    differences = np.abs(given - expected).max(1)
    tie = np.abs(expected[:, 0] - expected[:, 1]) <= 2 * differences.max()
    flips = given.argmax(1) != expected.argmax(1)
    print(f"{len(tiles)} pictures: largest difference {differences.max() / STEP:.0f} of 256 steps, {flips.sum()} flips")
    assert differences.max() <= 8 * STEP
    assert not (flips & ~tie).any()
    assert tie.mean() < 0.5


def test_the_package_that_bundles_are_verified_with_is_not_held_against_anything(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    screener = Screener(otherwise(bundle))
    assert (screener.interpreter, screener.note) == (HELD, "")
    assert list(tmp_path.iterdir()) == []


def test_another_package_that_gives_what_is_promised_screens_and_that_is_found_out_once(
    another: str, bundle: Bundle
) -> None:
    for _ in range(2):
        screener = Screener(bundle)
        assert (screener.interpreter, screener.note) == (another, "")
    (found,) = kept.folder("interpreters").glob("*.json")
    assert json.loads(found.read_text())["excess"] == ""
    found.write_text(found.read_text().replace('"excess": ""', '"excess": "as it was kept"'))
    with pytest.raises(InterpreterError, match="as it was kept"):
        Screener(bundle)


def test_another_package_that_gives_other_numbers_does_not_screen(another: str, bundle: Bundle) -> None:
    wrong = otherwise(bundle)
    for _ in range(2):
        with pytest.raises(InterpreterError) as refused:
            Screener(wrong)
        assert refused.value.message.startswith(f"{another} gives other numbers than this bundle promises (on ")
        assert f"of {len(wrong.manifest.golden)} golden pictures; " in refused.value.message
        assert f"--interpreter {another},unverified=yes" in refused.value.remedy
    # What was found out of these promises says nothing of others.
    assert Screener(bundle).note == ""
    assert Screener(promising(wrong, **dict.fromkeys(wrong.manifest.tolerances, 1e9))).note == ""


def test_whoever_insists_screens_unverified_and_every_record_says_so(
    another: str, bundle: Bundle, pictures: list[Path]
) -> None:
    screener = Screener(otherwise(bundle), interpreter=f"{another},unverified=yes")
    assert "may decide otherwise" in screener.note
    verdict = screener.screen_file(pictures[0]).verdict
    assert verdict.interpreter == f"{another},unverified=yes"
    assert verdict.probability == Screener(bundle).screen_file(pictures[0]).verdict.probability


def test_without_a_promise_another_package_screens_and_the_user_is_told(another: str, bundle: Bundle) -> None:
    silent = replace(bundle, manifest=replace(bundle.manifest, golden=()))
    said = f"this bundle promises no outputs of this model that {another} could be held against"
    assert Screener(silent).note == said
    # Of a model that is not the main one nothing is promised either.
    assert Screener(otherwise(bundle), variant="float32").note == said


def test_an_option_that_is_none_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InterpreterError, match="options in 'tflite-runtime,unverified=no' cannot be read"):
        Screener(bundle, interpreter="tflite-runtime,unverified=no")


@pytest.mark.slow
def test_tflite_runtime_screens_where_it_gives_what_is_promised_and_nowhere_else(
    bundle: Bundle, tiny_build: TinyBuild, tmp_path: Path
) -> None:
    python, picture = environment("tflite-2.14.0"), next((tiny_build.data / "images").glob("*.jpg"))

    def screen(name: str, tolerance: float, *words: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / f"{name}.edge"
        tolerances = dict.fromkeys(bundle.manifest.tolerances, tolerance)
        write_bundle(path, replace(bundle.manifest, tolerances=tolerances), bundle.parts)
        program = ["-c", "from edge.cli import main; main()", "screen", str(path), str(picture), "--json", *words]
        sources = f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"
        return subprocess.run(
            [str(python), *program],
            env={**os.environ, "PYTHONPATH": sources, "XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )

    wide = screen("wide", 1e9)
    assert json.loads(wide.stdout)["interpreter"] == "tflite-runtime", wide.stderr
    narrow = screen("narrow", 1e-6)
    assert narrow.returncode == 1
    assert narrow.stdout == ""
    assert narrow.stderr.startswith("error: tflite-runtime gives other numbers than this bundle promises (on ")
    assert "remedy: screen on a machine that has ai-edge-litert; " in narrow.stderr
    insisting = screen("narrow", 1e-6, "--interpreter", "tflite-runtime,unverified=yes")
    assert json.loads(insisting.stdout)["interpreter"] == "tflite-runtime,unverified=yes", insisting.stderr
    assert "tflite-runtime was asked for unverified" in insisting.stderr


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
