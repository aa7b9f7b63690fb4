"""`edge data` as it is called: exit status, stdout for results, stderr for talk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cli import edge, run


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
    large = cv2.resize(pixels, (96, 96), interpolation=cv2.INTER_CUBIC)
    path.write_bytes(cv2.imencode(".png", large)[1].tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        draw(tmp_path / "set" / ("sick", "well")[i % 2] / f"P{i // 2 * 2 + i % 2}_{i}.png", i)
    return tmp_path / "set"


def call(*arguments: str | Path) -> int:
    return run(lambda **keywords: edge([str(a) for a in arguments], **keywords))


def test_a_data_set_without_a_leak_exits_0_and_prints_the_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "check", folder, "--seed", "3") == 0
    printed = capsys.readouterr()
    assert "seed 3" in printed.out
    assert "no leak between splits was found" in printed.out
    assert printed.err == ""


def test_a_leak_exits_1_and_the_report_is_printed_all_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{p.relative_to(folder)},{p.parent.name},P{i // 3},{('train', 'val')[i % 2]}"
        for i, p in enumerate(sorted(folder.rglob("*.png")))
    ]
    (folder / "manifest.csv").write_text("path,label,group,split\n" + "\n".join(rows))
    assert call("data", "check", folder, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert [leak["group"] for leak in report["group_leaks"]] == ["P0", "P1", "P2", "P3"]


def test_a_group_pattern_is_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", "check", folder, "--group-pattern", r"/(P\d+)_", "--json") == 0
    assert sum(json.loads(capsys.readouterr().out)["groups"].values()) == 12


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["check", "nowhere"], 1, id="no such folder"),
        pytest.param(["check"], 2, id="no argument"),
        pytest.param(["check", "x", "--seed", "-1"], 2, id="seed below zero"),
        pytest.param(["render", "x", "--tiles", "0"], 2, id="no tiles"),
    ],
)
def test_a_wrong_call_says_so_on_stderr(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", *arguments) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "rror" in printed.err


def test_a_rendered_data_set_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", "render", tmp_path / "new", "--tiles", "36", "--seed", "2") == 0
    assert "rendered 36 tiles" in capsys.readouterr().out
    assert call("data", "check", tmp_path / "new") == 0
    assert "synthetic: not patient data" in capsys.readouterr().out
    assert call("data", "render", tmp_path / "new", "--tiles", "36") == 1
    assert "not empty" in capsys.readouterr().err


VERBS = ["check", "verify", "split", "gap", "review", "render"]


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_answers_without_loading_anything_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom edge.cli import edge, run\n"
        f"status = run(lambda **k: edge(['data', *{arguments!r}], **k))\n"
        "heavy = {'numpy', 'cv2', 'PIL', 'tensorflow'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout
