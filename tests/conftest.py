"""One small real build, shared by all tests: rendered tiles -> the `edge convert` command -> a bundle."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.bundle import Bundle, read_bundle

EDGE = [sys.executable, "-c", "from edge.cli import main; main()"]

ANY_QUALITY = """
# A network that has learned little: these tests ask whether the way works, not how well it screens.
[gates]
min_auc = 0.0
max_auc_drop = 1.0
max_accuracy_drop = 1.0
max_flips = 1.0
min_saliency_agreement = -1.0
max_randomised_agreement = 1.0
"""
RECIPE = f"""
name = "tiny"
classes = ["no_parasite", "parasite"]
positive = ["parasite"]
seed = 3

[network]
backbone = "efficientnet-lite0"
side_px = 96
weights = "package"

[train]
epochs = 1
batch = 8
unfrozen_blocks = 2

[prune]
sparsity = 0.3
epochs = 2

# No gate can be missed: to measure the file for a search would only make every build longer.
[quantize]
calibration_pictures = 24
repair = false
{ANY_QUALITY}"""


@dataclass(frozen=True, kw_only=True)
class TinyBuild:
    """recipe: the TOML file. data: the rendered data set. run: the build's folder. log: the command's stderr."""

    recipe: Path
    data: Path
    run: Path
    log: str

    @property
    def bundle(self) -> Path:
        return self.run / "tiny.edge"


def edge(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The `edge` command as a process of its own."""
    return subprocess.run([*EDGE, *map(str, words)], capture_output=True, text=True, check=False)


@contextmanager
def once_for_all_workers(folder: Path) -> Iterator[bool]:
    """Hold a lock; yields whether the work in `folder` is still to be done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / ".done"
        yield not done.exists()
        done.touch()


def builds_root(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where the shared build lies. EDGE_TEST_BUILDS names one made elsewhere, for a device that cannot build."""
    if given := os.environ.get("EDGE_TEST_BUILDS"):
        return Path(given)
    return tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A rendered data set of 96 tiles."""
    root = builds_root(tmp_path_factory, worker_id)
    with once_for_all_workers(root / "tiny-data") as todo:
        if todo:
            done = edge("data", "render", root / "tiny-data/set", "--tiles", "96", "--seed", "7")
            assert done.returncode == 0, done.stderr
    return root / "tiny-data/set"


@pytest.fixture(scope="session")
def tiny_build(tmp_path_factory: pytest.TempPathFactory, worker_id: str, tiny_data: Path) -> TinyBuild:
    """A build of `RECIPE` on that data, by the command that a user types."""
    root = builds_root(tmp_path_factory, worker_id)
    folder = root / "tiny-build"
    recipe, run, log = folder / "tiny.toml", folder / "run", folder / "log.txt"
    with once_for_all_workers(folder) as todo:
        if todo:
            recipe.write_text(RECIPE)
            done = edge("convert", recipe, "--data", tiny_data, "--out", run)
            assert done.returncode == 0, done.stderr
            log.write_text(done.stderr)
    return TinyBuild(recipe=recipe, data=tiny_data, run=run, log=log.read_text())


@pytest.fixture
def copied(tiny_build: TinyBuild, tmp_path: Path) -> TinyBuild:
    """A build of one's own to change."""
    shutil.copytree(tiny_build.run, tmp_path / "run")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    return TinyBuild(recipe=recipe, data=tiny_build.data, run=tmp_path / "run", log="")


def convert(build: TinyBuild, *words: str) -> subprocess.CompletedProcess[str]:
    """`edge convert` on a build that is there, as a user goes on with it."""
    return edge("convert", build.recipe, "--data", build.data, "--out", build.run, *words)


@pytest.fixture(scope="module")
def bundle(tiny_build: TinyBuild) -> Bundle:
    """That build's bundle."""
    return read_bundle(tiny_build.bundle)


@pytest.fixture(scope="module")
def pictures(tiny_build: TinyBuild) -> list[Path]:
    """The files of its data set."""
    return sorted((tiny_build.data / "images").glob("*.jpg"))
