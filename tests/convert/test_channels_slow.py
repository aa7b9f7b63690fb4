"""Channel pruning as a user runs it: the command, killed in the middle, and what its bundle says."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ANY_QUALITY, EDGE, edge

from edge.bundle import read_bundle
from edge_convert.prune.plan_file import PLAN, load_record

RECIPE = f"""
name = "tiny"
classes = ["no_parasite", "parasite"]
positive = ["parasite"]
seed = 3

[network]
backbone = "mobilenet"
side_px = 64
width = 0.5
weights = "none"

[train]
epochs = 1
batch = 8

[prune]
method = "channels"
target_latency = 0.6
steps = 2
epochs = 1

[quantize]
calibration_pictures = 24

[decision]
calibration = "none"
{ANY_QUALITY}"""


@pytest.mark.slow
def test_a_build_that_removes_channels_is_killed_goes_on_and_says_what_it_bought(
    tiny_data: Path, tmp_path: Path
) -> None:
    run, recipe = tmp_path / "run", tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    words: list[str | Path] = ["convert", recipe, "--data", tiny_data, "--out", run]
    process = subprocess.Popen([*EDGE, *map(str, words)], stderr=subprocess.DEVNULL)
    decided = run / ".prune.partial/step-1.json"
    deadline = time.monotonic() + 900
    while not decided.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = decided.read_bytes()
    done = edge(*words)
    assert done.returncode == 0, done.stderr
    assert "finetune: unchanged, reused" in done.stderr
    record = load_record(run / "prune" / PLAN)
    assert record is not None
    assert f'"measured": {record.steps[0].measured}' in first.decode(), "what was decided before the kill stands"
    assert record.measured < 0.9
    assert not list((run / "prune").glob("step-*"))
    manifest = read_bundle(run / "tiny.edge").manifest
    assert manifest.metrics["channels"]["measured"] == pytest.approx(record.measured)
    assert manifest.metrics["channels"]["predicted"] == pytest.approx(record.predicted)
    assert f"{record.measured:.3f} measured" in (run / "report.html").read_text()
    shown = edge("show", run / "tiny.edge", "--self-test")
    assert shown.returncode == 0, shown.stderr
    again = edge(*words)
    assert "prune: unchanged, reused" in again.stderr
