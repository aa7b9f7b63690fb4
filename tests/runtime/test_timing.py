"""`edge time`: what TFLite files cost here, named or as an archive that came through a pipe."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from conftest import EDGE, TinyBuild, edge

from edge.bundle import read_bundle
from edge.errors import EdgeError
from edge_runtime.timing import MICROSECONDS, pack_models, read_models


@pytest.fixture
def files(tiny_build: TinyBuild, tmp_path: Path) -> list[Path]:
    """The build's int8 and its float32 file."""
    bundle = read_bundle(tiny_build.bundle)
    paths = [tmp_path / f"{variant}.tflite" for variant in ("int8", "float32")]
    for path in paths:
        path.write_bytes(bundle.model(path.stem)[1])
    return paths


def piped(data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*EDGE, "time", "-", "--json"], input=data, capture_output=True, check=False)


def test_named_files_are_timed_in_turns_with_machine_and_unit(files: list[Path]) -> None:
    done = edge("time", *files, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["unit"] == MICROSECONDS
    assert "edge-screen" in found["machine"]
    assert len(found["costs"]) == 2
    assert all(cost > 0 for cost in found["costs"])
    shown = edge("time", *files).stdout.splitlines()
    assert shown[1].split()[1:5] == ["1.000", "of", "the", "first"]
    assert [line.split()[-1] for line in shown[1:]] == [str(path) for path in files]


def test_an_archive_from_a_pipe_is_timed_in_its_order_and_an_empty_one_names_the_machine(files: list[Path]) -> None:
    models = [path.read_bytes() for path in files]
    assert [model for _, model in read_models(io.BytesIO(pack_models(models)))] == models
    done = piped(pack_models(models))
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["costs"]) == 2
    nothing = json.loads(piped(pack_models([])).stdout)
    assert nothing["costs"] == []
    assert nothing["machine"] == json.loads(done.stdout)["machine"]


def test_folders_and_links_in_an_archive_are_passed_over() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    assert read_models(io.BytesIO(stream.getvalue())) == []


@pytest.mark.parametrize("damage", [b"no archive at all", b""], ids=["junk", "nothing"])
def test_what_is_no_archive_is_a_sentence(damage: bytes) -> None:
    with pytest.raises(EdgeError, match="no tar archive"):
        read_models(io.BytesIO(damage))


def test_an_archive_that_was_cut_short_is_a_sentence(files: list[Path]) -> None:
    done = piped(pack_models([files[0].read_bytes()])[:5000])
    assert done.returncode == 1
    assert b"cut short" in done.stderr


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.tflite").write_text("no network")
    done = edge("time", tmp_path / "text.tflite")
    assert done.returncode == 1
    assert "does not run" in done.stderr
    assert "text.tflite" in done.stderr
    assert edge("time", tmp_path / "gone.tflite").returncode == 1


def test_standard_input_is_named_alone(files: list[Path]) -> None:
    done = edge("time", "-", files[0])
    assert done.returncode == 2
    assert "named alone" in done.stderr
