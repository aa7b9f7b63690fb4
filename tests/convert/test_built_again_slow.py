"""The same recipe, pictures and versions give the same bundle, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import EDGE, TinyBuild

from edge.bundle import MANIFEST, read_bundle


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two bundles: members by name, and of the manifest the keys."""
    with zipfile.ZipFile(one) as a, zipfile.ZipFile(other) as b:
        names = {*a.namelist(), *b.namelist()}
        found = [
            f"{name} is in one alone" for name in sorted(names) if {name} - {*a.namelist()} or {name} - {*b.namelist()}
        ]
        for name in sorted({*a.namelist()} & {*b.namelist()}):
            if a.read(name) != b.read(name):
                found.append(name)
                if name == MANIFEST:
                    first, second = (dict(flat(json.loads(archive.read(name)))) for archive in (a, b))
                    found += [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    return found


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list)):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(inner, f"{key}.{name}")
    else:
        yield key, value


@pytest.mark.slow
@pytest.mark.parametrize("cores", ["as many cores", "one core"])
def test_the_same_build_elsewhere_gives_the_same_bundle_to_the_last_byte(
    cores: str, tiny_build: TinyBuild, tmp_path: Path
) -> None:
    """In another folder, of a copy of the pictures, by a process whose sets have another order."""
    shutil.copytree(tiny_build.data, tmp_path / tiny_build.data.name)
    bound = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if cores == "one core" else []
    if bound and shutil.which("taskset") is None:
        pytest.skip("there is no taskset here")
    words = ["convert", tiny_build.recipe, "--data", tmp_path / tiny_build.data.name, "--out", tmp_path / "run"]
    done = subprocess.run(
        [*bound, *EDGE, *map(str, words)],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = tmp_path / "run" / tiny_build.bundle.name
    found = differences(tiny_build.bundle, again)
    if bound:
        # Keras adds in another order there, for maps that are compared and go into no file.
        assert all(name == MANIFEST or name.endswith(".randomised") for name in found), found
    else:
        assert found == []
        assert again.read_bytes() == tiny_build.bundle.read_bytes()
    assert "byte for byte" in read_bundle(again).parts["card.md"].decode()
