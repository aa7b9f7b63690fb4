"""What earlier sweeps left: which cases are finished, and where each one's folder is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from edge.errors import EdgeError
from edge.fields import plain
from edge.files import sha256_of, write_atomically
from edge_convert.builder import weights_key
from edge_convert.export import calibration_source
from edge_convert.pipeline import places_of
from edge_convert.recipe import Recipe
from edge_convert.run_folder import RunFolder, key_of
from edge_convert.sweep.grid import Case, recipe_digest, to_toml
from edge_convert.sweep.process import LOG
from edge_convert.train.finetune import teachers_recipe

MARK = "case.json"
RECIPE = "recipe.toml"
State = Literal["built", "gate missed", "failed"]
"""How a case ended. One that missed a gate has its measures and no bundle; one that failed has neither."""


def require_own_case(case: Case, folder: Path, data: Path) -> None:
    """Raise EdgeError where a case's folder holds what neither a sweep nor a build of this name and data has made."""
    by_sweep = "recipe" in _mark(folder)
    places = places_of(case.recipe) if by_sweep else (*places_of(case.recipe), RECIPE, MARK, LOG)
    RunFolder(folder).require_own(case.recipe.name, data, places, replace=by_sweep)


def mark_begun(case: Case, folder: Path) -> None:
    """Make a case's folder, with its recipe, and mark whose it is. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RECIPE, to_toml(case.recipe).encode())
    write_atomically(folder / MARK, json.dumps({"recipe": recipe_digest(case.recipe)}).encode())


def mark_finished(case: Case, folder: Path, key: str, state: State) -> None:
    """Mark a case as finished. key: what it was made from, see `case_key`. Raises OSError."""
    mark = {
        "recipe": recipe_digest(case.recipe),
        "key": key,
        "verify": RunFolder(folder).key("verify"),
        "state": state,
        "bundle": _bundle_digest(folder),
    }
    write_atomically(folder / MARK, json.dumps(mark).encode())


def case_key(recipe: Recipe, described: tuple[Any, ...]) -> str:
    """What a case is made from: its recipe, the files that this names, and `described`, the data set and versions."""
    files = [weights_key(recipe.network.weights), weights_key(recipe.distill.weights), calibration_source(recipe)]
    return key_of(plain(recipe), described, files)


def finished_state(folder: Path, key: str) -> State | None:
    """How an earlier sweep's build of exactly this ended; None where there is none, or where it has been changed."""
    mark = _mark(folder)
    build = RunFolder(folder)
    if mark.get("key") != key or mark.get("verify") != build.key("verify"):
        return None
    try:
        for stage in ("quantize", "verify"):
            build.require_whole(stage)
    except EdgeError:
        # Started again, it says so itself in its row.
        return None
    bundle = _bundle_digest(folder)
    state: State = "built" if bundle else "gate missed"
    return state if (mark.get("state"), mark.get("bundle")) == (state, bundle) else None


def _bundle_digest(folder: Path) -> str | None:
    """The sha256 of the bundle that a build has made; None where it has made none."""
    return next((sha256_of(bundle) for bundle in sorted(folder.glob("*.edge"))), None)


def find_folders(cases: Sequence[Case], out: Path) -> dict[str, Path]:
    """Where each case is built: a folder that an earlier sweep began for the very same recipe, or one of its name.

    So a grid with one more axis finds the cases that it had already, whatever they were called then.
    """
    begun: dict[str, Path] = {}
    for mark in sorted(out.glob(f"*/{MARK}")):
        begun.setdefault(str(_mark(mark.parent).get("recipe")), mark.parent)
    digests = {case.name: recipe_digest(case.recipe) for case in cases}
    taken = {begun[digest] for digest in digests.values() if digest in begun}
    found = {}
    for name, digest in digests.items():
        folder = out / name
        found[name] = begun.get(digest) or (folder.with_name(f"{name}-{digest[:8]}") if folder in taken else folder)
    return found


def _mark(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def shared_keys(recipe: Recipe) -> dict[str, str]:
    """By stage, what a recipe says of it and of those before it: cases that agree in one take it from one another.

    They are stages that cases often agree in and that take long. In the order of a build.
    """
    data = key_of(plain(recipe.preprocessing), recipe.classes, recipe.positive, recipe.seed)
    found = {"data": data}
    taught = None
    if recipe.teacher != "none":
        its = teachers_recipe(recipe)
        found["teacher"] = key_of(data, plain(its.network), weights_key(its.network.weights), plain(its.train))
        taught = found["teacher"], plain(recipe.distill)
    network = plain(recipe.network), weights_key(recipe.network.weights)
    return {**found, "finetune": key_of(data, *network, plain(recipe.train), taught)}
