"""Channel pruning as a user runs it: the command, killed in the middle, and what its bundle says."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import EDGE, TinyBuild, edge

from edge.bundle import read_bundle
from edge_convert.prune.plan_file import PLAN, load_record

WORDS = ["--set", "prune.method=channels", "--set", "prune.target_latency=0.6", "--set", "prune.steps=2"]


@pytest.mark.slow
def test_a_build_that_removes_channels_is_killed_goes_on_and_says_what_it_bought(
    tiny_build: TinyBuild, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_build.run, run)
    words = ["convert", tiny_build.recipe, "--data", tiny_build.data, "--out", run, *WORDS, "--set", "prune.epochs=1"]
    process = subprocess.Popen([*EDGE, *map(str, words)], stderr=subprocess.DEVNULL)
    decided = run / ".prune.partial/step-1.json"
    deadline = time.monotonic() + 900
    while not decided.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = decided.read_bytes()
    shutil.copytree(run, tmp_path / "twin")
    done = edge(*words)
    assert done.returncode == 0, done.stderr
    assert "finetune: unchanged, reused" in done.stderr
    record = load_record(run / "prune" / PLAN)
    assert record is not None
    assert f'"measured": {record.steps[0].measured}' in first.decode()
    assert record.measured < 0.9
    assert not list((run / "prune").glob("step-*"))
    manifest = read_bundle(run / "tiny.edge").manifest
    assert manifest.metrics["channels"]["measured"] == pytest.approx(record.measured)
    assert manifest.metrics["channels"]["predicted"] == pytest.approx(record.predicted)
    report = (run / "report.html").read_text()
    assert f"{record.measured:.3f} measured" in report
    assert (run / "quantize/model.int8.tflite").stat().st_size < (
        tiny_build.run / "quantize/model.int8.tflite"
    ).stat().st_size
    shown = edge("show", run / "tiny.edge", "--self-test")
    assert shown.returncode == 0, shown.stderr
    # Killed and gone on from the same decision, another time: the same weights.
    words[words.index(run)] = tmp_path / "twin"
    assert edge(*words).returncode == 0
    with np.load(run / "prune/weights.npz") as one, np.load(tmp_path / "twin/prune/weights.npz") as other:
        same_plan = load_record(tmp_path / "twin/prune" / PLAN).plan == record.plan  # type: ignore[union-attr]
        assert not same_plan or all(np.array_equal(one[name], other[name]) for name in one.files)
