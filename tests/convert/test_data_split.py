"""`edge data split`: manifests that read back as what was asked for."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from edge.cli import edge, run
from edge.dataset import read_dataset


def call(*arguments: str | Path) -> int:
    return run(lambda **keywords: edge([str(a) for a in arguments], **keywords))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures of twenty patients, two classes, with a column of the user's own. Splitting opens no picture."""
    folder = tmp_path / "set"
    folder.mkdir()
    lines = ["path,label,group,stage"]
    for i in range(40):
        (folder / f"{i}.png").write_bytes(b"")
        lines.append(f"{i}.png,{'ab'[i // 2 % 2]},P{i // 2},ring")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_manifest_reads_back_with_whole_groups_in_each_split_and_its_own_columns(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = folder.parent / "new.csv"
    assert call("data", "split", folder, "--out", new, "--fractions", "0.6,0.2,0.2") == 0
    assert capsys.readouterr().out == "train: 12 a, 12 b\nval: 4 a, 4 b\ntest: 4 a, 4 b\n"
    assert list(rows_of(new)[0]) == ["path", "label", "group", "stage", "split"]
    assert {row["stage"] for row in rows_of(new)} == {"ring"}
    new.replace(folder / "manifest.csv")
    dataset = read_dataset(folder)
    assert dataset.has_splits
    assert len({(s.group, s.split) for s in dataset.samples}) == 20


def test_folds_keep_the_splits_and_leave_the_test_split_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", "split", folder, "--out", folder / "split.csv", "--fractions", "0.6,0.2,0.2") == 0
    (folder / "split.csv").replace(folder / "manifest.csv")
    before = read_dataset(folder).fingerprint()
    assert call("data", "split", folder, "--out", folder / "manifest.csv", "--folds", "4", "--again") == 0
    assert read_dataset(folder).fingerprint() == before
    rows = rows_of(folder / "manifest.csv")
    assert {row["fold"] for row in rows if row["split"] == "test"} == {"0"}
    held = Counter((row["fold"], row["label"]) for row in rows if row["split"] != "test")
    assert held == {(fold, label): 4 for fold in "1234" for label in "ab"}
    assert "kept out (test): 4 a, 4 b\nfold 1: 4 a, 4 b" in capsys.readouterr().out


def test_a_set_without_splits_is_folded_whole(folder: Path) -> None:
    assert call("data", "split", folder, "--out", folder.parent / "f.csv", "--folds", "5") == 0
    rows = rows_of(folder.parent / "f.csv")
    assert "split" not in rows[0]
    assert Counter(row["fold"] for row in rows) == dict.fromkeys("12345", 8)


def test_class_folders_become_a_manifest_with_the_groups_of_the_pattern(tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "set" / "ab"[i % 2] / f"P{i}_x.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    manifest = tmp_path / "set/manifest.csv"
    assert call("data", "split", tmp_path / "set", "--out", manifest, "--group-pattern", r"(P\d+)_") == 0
    dataset = read_dataset(tmp_path / "set")
    assert (dataset.has_groups, dataset.has_splits) == (True, True)
    assert {s.group for s in dataset.samples} == {f"P{i}" for i in range(12)}


def test_splits_that_are_there_are_not_replaced_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = folder / "manifest.csv"
    assert call("data", "split", folder, "--out", manifest) == 1
    assert "manifest.csv exists" in capsys.readouterr().err
    assert call("data", "split", folder, "--out", manifest, "--again") == 0
    first = manifest.read_text()
    assert call("data", "split", folder, "--out", folder.parent / "x.csv", "--seed", "2") == 1
    assert "set has splits of its own" in capsys.readouterr().err
    assert call("data", "split", folder, "--out", manifest, "--seed", "2", "--again") == 0
    assert manifest.read_text() != first


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--fractions", "half"], 2, "is not three numbers"),
        (["--fractions", "0.5,0.5,0.5"], 1, "do not add up to 1"),
        (["--folds", "1"], 2, "not in the range"),
        (["--folds", "11"], 1, "class 'a' has 10 groups, but 11 folds need one each"),
    ],
    ids=["no numbers", "too much", "one fold", "too many folds"],
)
def test_what_cannot_be_split_is_a_sentence(
    folder: Path, words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "split", folder, "--out", folder.parent / "x.csv", *words) == status
    assert said in capsys.readouterr().err
    assert not (folder.parent / "x.csv").exists()
