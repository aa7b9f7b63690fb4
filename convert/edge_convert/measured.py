"""What the networks cost on this machine: exported with random weights, timed in turns, and kept for the next listing.

Weights decide what an inference gives and not how long it takes, so random ones will do.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge.fields import FieldError, build, plain
from edge.files import read_ordinary, write_atomically
from edge_convert.backbones import find_backbone
from edge_convert.export import MODEL_FILES, export_float, export_int8, open_network
from edge_convert.keras import keras
from edge_convert.network import build_classifier
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import NetworkRecipe, Recipe, SaliencyRecipe
from edge_runtime.interpreter import Network
from edge_runtime.timing import Machine

ROUNDS = 40
CALIBRATION_PICTURES = 8
CLASSES = ("no", "yes")
# A machine that does other work stretches the wall clock and not the processor's.
BUSY = 1.25


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One network's exported files on one machine, one thread.

    int8_bytes, float32_bytes: of the files. int8_ms, float32_ms: median of an inference by the clock on the wall.
    int8_cpu_ms, float32_cpu_ms: by the processor's, which does not count what other programs did meanwhile.
    """

    backbone: str
    side_px: int
    width: float
    rounds: int
    int8_bytes: int
    float32_bytes: int
    int8_ms: float
    float32_ms: float
    int8_cpu_ms: float
    float32_cpu_ms: float

    @property
    def busy(self) -> bool:
        """Whether the machine did other work meanwhile."""
        return self.int8_ms > BUSY * self.int8_cpu_ms or self.float32_ms > BUSY * self.float32_cpu_ms


def measure(names: Sequence[str], *, side_px: int, width: float, rounds: int = ROUNDS) -> Steps[list[Measured]]:
    """Export each network and time its files, in turns: a busy moment falls on all of them alike.

    Raises RecipeError for a side or width that a network does not have, before anything is exported.
    """
    recipes = [_recipe(name, side_px, width) for name in names]
    exported: list[dict[str, bytes]] = []
    for done, recipe in enumerate(recipes):
        yield Progress(done=done, total=len(recipes), note=f"exporting {recipe.network.backbone}")
        exported.append(_export(recipe))
    networks = [
        {v: open_network(r, v, files[v], threads=1) for v in MODEL_FILES}
        for r, files in zip(recipes, exported, strict=True)
    ]
    picture = _pictures(side_px, 1)[0]
    times: list[dict[str, list[tuple[float, float]]]] = [{v: [] for v in MODEL_FILES} for _ in recipes]
    for done in range(rounds + 1):
        for files, found in zip(networks, times, strict=True):
            for variant, network in files.items():
                taken = timed(network, picture)
                if done:  # the first round allocates and warms
                    found[variant].append(taken)
        yield Progress(done=done, total=rounds)
    return [_measured(recipe, files, found) for recipe, files, found in zip(recipes, exported, times, strict=True)]


def _recipe(name: str, side_px: int, width: float) -> Recipe:
    find_backbone(name).check(side_px, width, "none")
    network = NetworkRecipe(backbone=name, side_px=side_px, width=width, weights="none")
    # The finer map is fitted to training pictures, and there are none; it costs next to nothing.
    maps = SaliencyRecipe(method="cam")
    return Recipe(name="measured", classes=CLASSES, positive=CLASSES[1:], network=network, saliency=maps)


def _export(recipe: Recipe) -> dict[str, bytes]:
    keras().utils.set_random_seed(recipe.seed)
    model = build_classifier(recipe)
    pictures = _pictures(recipe.network.side_px, CALIBRATION_PICTURES)
    files = {"int8": export_int8(recipe, model, None, pictures), "float32": export_float(recipe, model)}
    keras().backend.clear_session()
    return files


def _pictures(side_px: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, side_px, side_px, 3), np.uint8)


def timed(network: Network, picture: NDArray[np.uint8]) -> tuple[float, float]:
    """Milliseconds of one inference, by the wall's and by the thread's clock."""
    wall, processor = time.perf_counter(), time.thread_time()
    network.run(picture)
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - processor)


def _measured(recipe: Recipe, files: dict[str, bytes], times: dict[str, list[tuple[float, float]]]) -> Measured:
    medians = {variant: np.median(np.array(found), axis=0) for variant, found in times.items()}
    network = recipe.network
    return Measured(
        backbone=network.backbone,
        side_px=network.side_px,
        width=network.width,
        rounds=len(times["int8"]),
        int8_bytes=len(files["int8"]),
        float32_bytes=len(files["float32"]),
        int8_ms=float(medians["int8"][0]),
        float32_ms=float(medians["float32"][0]),
        int8_cpu_ms=float(medians["int8"][1]),
        float32_cpu_ms=float(medians["float32"][1]),
    )


def cache_path() -> Path:
    """Where measurements are kept: below XDG_CACHE_HOME, or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    # An address that is not absolute is to be ignored, says the XDG base directory specification.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    return base / "edge-screen" / "backbones.json"


def keep(path: Path, machine: Machine, rows: Sequence[Measured]) -> None:
    """Add measurements to the file, in the place of older ones of the same network, side and width."""
    kept = _read(path)
    of_machine = {_place(row): row for row in (*_rows(path, kept.get(machine.key, [])), *rows)}
    kept[machine.key] = [plain(row) for row in of_machine.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(kept, indent=1).encode())


def kept_of(path: Path, machine: Machine) -> dict[tuple[str, int, float], Measured]:
    """The measurements of this machine and these versions, by network, side and width; empty where there are none.

    Raises EdgeError where the file is damaged.
    """
    return {_place(row): row for row in _rows(path, _read(path).get(machine.key, []))}


def _place(row: Measured) -> tuple[str, int, float]:
    return row.backbone, row.side_px, row.width


def _damaged(path: Path) -> EdgeError:
    return EdgeError(f"the measurements kept in {path} cannot be read", remedy="delete that file and measure again")


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(read_ordinary(path))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(kept, dict):
        raise _damaged(path)
    return kept


def _rows(path: Path, found: object) -> list[Measured]:
    try:
        return [build(Measured, row) for row in found]  # type: ignore[attr-defined]
    except (FieldError, TypeError):
        raise _damaged(path) from None
