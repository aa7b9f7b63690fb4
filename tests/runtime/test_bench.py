"""`edge bench`: what it reports is in order, adds up, and says what it could not measure."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import TinyBuild, edge
from environments import environment

from edge_runtime.bench import spread
from edge_runtime.rivals import ENGINES
from edge_runtime.thermal import limits_of, read_thermal

ROOT = Path(__file__).parents[2]
ROUNDS = 12


@pytest.fixture(scope="module")
def found(tiny_build: TinyBuild) -> dict[str, object]:
    done = edge("bench", tiny_build.bundle, "--rounds", str(ROUNDS), "--threads", "1", "--compare", "--json")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert isinstance(measured, dict)
    return measured


def test_percentiles_are_those_of_a_known_row() -> None:
    found = spread([float(value) for value in range(100, -1, -1)])
    assert (found.median, found.p5, found.p95) == (50, 5, 95)


def test_every_model_is_timed_step_by_step_in_as_many_rounds(found: dict[str, object]) -> None:
    assert found["rounds"] == ROUNDS
    assert found["pictures"] == 13
    assert [cost["model"] for cost in found["costs"]] == ["float32", "int8"]  # type: ignore[attr-defined]
    for cost in found["costs"]:  # type: ignore[attr-defined]
        steps = cost["steps"]
        assert list(steps) == ["decode", "preprocess", "infer", "checks", "saliency", "total"]
        assert all(0 <= step["p5"] <= step["median"] <= step["p95"] for step in steps.values())
        assert steps["total"]["median"] >= steps["infer"]["median"]
        assert steps["total"]["p5"] >= steps["decode"]["p5"] + steps["infer"]["p5"] / 2


@pytest.mark.native
def test_peak_memory_is_that_of_a_small_process(found: dict[str, object]) -> None:
    """OpenCV, numpy and the interpreter alone are 40 to 150 MB; this process, with pytest and more, is larger."""
    assert all(40 < cost["peak_mb"] < 150 for cost in found["costs"])  # type: ignore[attr-defined]


def test_an_engine_that_is_not_installed_is_named_and_the_bare_interpreter_is_run(found: dict[str, object]) -> None:
    run = {(rival["engine"], rival["model"]) for rival in found["rivals"]}  # type: ignore[attr-defined]
    assert {("interpreter", "int8"), ("interpreter", "float32")} <= run
    assert {r["difference"] for r in found["rivals"] if r["engine"] == "interpreter"} == {0.0}  # type: ignore[attr-defined]
    for engine in ("onnxruntime", "openvino"):
        if find_spec(engine) is None:
            assert found["not_compared"][f"{engine}, int8"] == f"{engine} is not installed"  # type: ignore[index]


@pytest.mark.slow
def test_onnxruntime_and_openvino_are_run_on_the_same_file_and_give_its_numbers(tiny_build: TinyBuild) -> None:
    python = environment("rivals")
    program = "from edge.cli import main; main()"
    done = subprocess.run(
        [str(python), "-c", program, "bench", str(tiny_build.bundle), "--compare", "--rounds", "4", "--json"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'runtime'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["not_compared"] == {}
    found = {(rival["engine"], rival["model"]): rival for rival in measured["rivals"]}
    assert found.keys() == {(engine, model) for engine in ENGINES for model in ("float32", "int8")}
    assert all(rival["infer"]["median"] > 0 for rival in found.values())
    for (_, model), rival in found.items():
        # Steps of an int8 probability, which other kernels round otherwise; OpenVINO's bfloat16 was 0.018 off.
        assert rival["difference"] <= (1e-5 if model == "float32" else 8 / 256), rival


def test_the_table_has_the_same_pictures_as_were_named(tiny_build: TinyBuild) -> None:
    pictures = sorted((tiny_build.data / "images").glob("*.jpg"))[:3]
    done = edge("bench", tiny_build.bundle, *pictures, "--rounds", "3")
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert "3 pictures, 3 rounds in turns" in first
    assert "int8 on cpu (ai-edge-litert), peak memory" in done.stdout


def test_a_delegate_that_is_not_admitted_is_timed_as_the_cpu_and_the_reason_is_given(
    tiny_build: TinyBuild, tmp_path: Path
) -> None:
    nothing = tmp_path / "nothing.so"
    nothing.write_bytes(b"not a library")
    words = ["--delegate", "cpu", "--delegate", str(nothing), "--rounds", "2", "--json"]
    done = edge("bench", tiny_build.bundle, *words)
    assert done.returncode == 0, done.stderr
    costs = [cost for cost in json.loads(done.stdout)["costs"] if cost["model"] == "int8"]
    assert [cost["delegate"] for cost in costs] == ["cpu", "cpu"]
    assert [cost["requested"] for cost in costs] == ["cpu", str(nothing)]
    assert "nothing.so" in costs[1]["why"]


def test_a_picture_that_cannot_be_read_is_a_sentence_with_its_name(tiny_build: TinyBuild, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    done = edge("bench", tiny_build.bundle, tmp_path, "--rounds", "2")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/broken.jpg: this is not a JPEG, PNG, BMP or TIFF picture\n")
    gone = edge("bench", tiny_build.bundle, tmp_path / "gone.jpg", "--rounds", "2")
    assert gone.stderr == f"error: {tmp_path}/gone.jpg: there is no such file\nremedy: check the path\n"


def test_thermal_zones_are_read_in_degrees_and_a_sensor_that_is_off_is_left_out(tmp_path: Path) -> None:
    for number, (kind, text) in enumerate([("cpu-thermal", "48312\n"), ("gpu", "39000\n"), ("off", "")]):
        (tmp_path / f"thermal_zone{number}").mkdir()
        (tmp_path / f"thermal_zone{number}/type").write_text(f"{kind}\n")
        (tmp_path / f"thermal_zone{number}/temp").write_text(text)
    found = read_thermal(tmp_path)
    assert found.celsius == {"0 cpu-thermal": 48.312, "1 gpu": 39.0}
    assert found.hottest == 48.312
    assert read_thermal(tmp_path / "none").hottest is None


def test_the_firmware_of_a_raspberry_pi_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0x50005 is the Raspberry Pi manual's example: too little voltage and throttled, now and before."""
    expected = ("voltage too low", "throttled", "voltage too low earlier", "throttled earlier")
    assert limits_of(0x50005) == expected
    assert limits_of(0) == ()
    program = tmp_path / "vcgencmd"
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert read_thermal(tmp_path).limits == expected
    program.write_text("#!/bin/sh\nexit 1\n")
    assert read_thermal(tmp_path).limits is None
