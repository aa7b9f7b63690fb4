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
from edge_convert.quantize.record import load_quantization

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
aware_epochs = 4

[decision]
calibration = "none"
{ANY_QUALITY}"""


def killed_when(exists: Path, *words: str | Path) -> None:
    """Start a command and kill it as soon as the file is there."""
    process = subprocess.Popen([*EDGE, *map(str, words)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while not exists.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, f"it ended before {exists.name} was there"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert exists.exists()


@pytest.mark.slow
def test_a_build_that_removes_channels_and_trains_with_rounding_is_killed_in_both_goes_on_and_says_what_it_bought(
    tiny_data: Path, tmp_path: Path
) -> None:
    run, recipe = tmp_path / "run", tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    words: list[str | Path] = ["convert", recipe, "--data", tiny_data, "--out", run]
    decided = run / ".prune.partial/step-1.json"
    killed_when(decided, *words)
    first = decided.read_bytes()
    rounding = run / ".quantize.partial/training.npz"
    killed_when(rounding, *words)
    done = edge(*words)
    assert done.returncode == 0, done.stderr
    assert "finetune: unchanged, reused" in done.stderr
    assert "prune: unchanged, reused" in done.stderr
    assert not list((run / "quantize").glob("training*"))
    tried = load_quantization(run / "quantize/quantization.json").tried
    assert any("rounding" in attempt.remedy and attempt.cost is not None for attempt in tried)
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
