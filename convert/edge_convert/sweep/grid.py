"""What a sweep varies: axes of settings, crossed into cases, each a whole recipe that has been checked."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.errors import EdgeError, RecipeError
from edge.fields import FieldError, build, plain
from edge.files import read_ordinary
from edge_convert.backbones import find_backbone
from edge_convert.recipe import Recipe, describe_keys, parse_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = dict[str, Any]
"""Values as TOML has them, by recipe key, such as `network.width`."""

Axis = tuple[Settings, ...]
"""The choices that a sweep makes one of: each sets the same keys, or several keys that belong together."""

LONGEST_NAME = 120
MOST_CASES = 1000
MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recipe of a sweep. name: of its folder, from its settings alone."""

    name: str
    settings: Settings
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class Impossible:
    """A combination that no build can be made of, and why."""

    name: str
    settings: Settings
    reason: str
    remedy: str


def parse_grid(words: Sequence[str]) -> list[Axis]:
    """The axes of the command's `--grid`s: `KEY=VALUE,...`, `KEY,KEY=[VALUE,VALUE],...` or a TOML file each.

    Raises RecipeError naming the word.
    """
    axes: list[Axis] = []
    for word in words:
        axes += [_parse_axis(word)] if "=" in word else read_grid(Path(word))
    seen: set[str] = set()
    for axis in axes:
        keys = {key for settings in axis for key in settings}
        if twice := seen & keys:
            raise RecipeError(
                f"{', '.join(sorted(twice))} is set by two parts of the grid",
                remedy="give all its values in one --grid, or in the [[case]] tables alone",
            )
        seen |= keys
    if not axes:
        raise RecipeError("the grid is empty", remedy="write for example --grid network.width=1.0,0.5")
    return axes


def _parse_axis(word: str) -> Axis:
    """`KEY=VALUE,...`, or `KEY,KEY=[VALUE,VALUE],...` for keys that go together."""
    left, _, right = word.partition("=")
    keys = [key.strip() for key in left.split(",")]
    _require_known(keys)
    entries = _split(right)
    if not all(entries) or not entries:
        raise RecipeError(f"{word!r} has an empty value", remedy="write for example --grid network.width=1.0,0.5")
    if len(keys) == 1:
        return tuple({keys[0]: parse_value(entry)} for entry in entries)
    axis = []
    for entry in entries:
        values = _split(entry[1:-1]) if entry[:1] == "[" and entry[-1:] == "]" else []
        if len(values) != len(keys) or not all(values):
            raise RecipeError(
                f"{entry!r} is not one value for each of {', '.join(keys)}",
                remedy=f"write {left}=[{','.join('VALUE' for _ in keys)}],... with the brackets",
            )
        axis.append(dict(zip(keys, map(parse_value, values), strict=True)))
    return tuple(axis)


def _split(text: str) -> list[str]:
    """The parts between commas that lie in no brackets and no quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and not depth:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()] if text.strip() else []


def read_grid(path: Path) -> list[Axis]:
    """The axes of a TOML file: every list below `[grid]` is one, and all `[[case]]` tables together are one."""
    try:
        tables = tomllib.loads(read_ordinary(path).decode("utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"{str(path)!r} is neither KEY=VALUE,... nor a file", remedy="write for example network.width=1.0,0.5"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}", remedy="mend that line") from None
    grid, cases = tables.pop("grid", {}), tables.pop("case", [])
    if tables or not isinstance(grid, dict) or not isinstance(cases, list) or not (grid or cases):
        raise RecipeError(
            f"{path} has {', '.join(tables) or 'nothing to vary'}; a grid has lists below [grid], and [[case]] tables",
            remedy="see docs/sweep.md",
        )
    axes: list[Axis] = []
    for key, values in _flat(grid).items():
        _require_known([key])
        if not isinstance(values, list) or not values:
            raise RecipeError(f"{path}: grid.{key} must be a list of values", remedy=f"write {key} = [VALUE, ...]")
        axes.append(tuple({key: value} for value in values))
    if cases:
        if not all(isinstance(case, dict) and case for case in cases):
            raise RecipeError(f"{path}: a [[case]] sets nothing", remedy="set a recipe's keys in it, or remove it")
        choices = tuple(_flat(case) for case in cases)
        _require_known([key for choice in choices for key in choice])
        axes.append(choices)
    return axes


def _flat(table: Mapping[str, Any], prefix: str = "") -> Settings:
    """Tables in tables as `table.key`."""
    found: Settings = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _require_known(keys: Sequence[str]) -> None:
    known = [key for key, _ in describe_keys()]
    for key in keys:
        if key == "name":
            raise RecipeError("a sweep's cases share the recipe's name", remedy="leave 'name' out of the grid")
        if key not in known:
            table = key.rpartition(".")[0]
            near = [name for name in known if table and name.startswith(f"{table}.")] or known
            raise RecipeError(
                f"unknown key {key!r} in the grid; known here: {', '.join(near)}", remedy="docs/recipes.md lists them"
            )


def make_cases(
    recipe: Recipe, axes: Sequence[Axis], check: Callable[[Recipe], None], *, skip_impossible: bool = False
) -> tuple[list[Case], list[Impossible]]:
    """Every combination of the axes as a recipe, the last axis changing fastest, and those that cannot be.

    check: raises EdgeError for a recipe that cannot be built. Raises RecipeError where a combination cannot be, unless
    they are to be skipped; and in any case for a value that no recipe can have, and for two equal recipes.
    """
    if math.prod(map(len, axes)) > MOST_CASES:
        raise RecipeError(
            f"the grid has {math.prod(map(len, axes))} cases", remedy=f"give fewer values; {MOST_CASES} are allowed"
        )
    cases: list[Case] = []
    impossible: list[Impossible] = []
    made: dict[str, str] = {}
    valid: set[tuple[int, int]] = set()
    for places in itertools.product(*(range(len(axis)) for axis in axes)):
        settings = {key: value for axis, place in zip(axes, places, strict=True) for key, value in axis[place].items()}
        name = name_of(settings)
        try:
            changed = lay_over(recipe, settings)
            find_backbone(changed.network.backbone)
            valid |= set(enumerate(places))
            check(changed)
        except EdgeError as error:
            impossible.append(Impossible(name=name, settings=settings, reason=error.message, remedy=error.remedy))
            continue
        digest = recipe_digest(replace(changed, prune=changed.prune.heeded()))
        if digest in made:
            raise RecipeError(
                f"the cases {made[digest]} and {name} are the same recipe, or differ in what their prune.method does "
                "not read",
                remedy="give one of them; with prune.method beside what it reads: docs/sweep.md",
            )
        made[digest] = name
        cases.append(Case(name=name, settings=settings, recipe=changed))
    _require_valid(axes, valid, impossible)
    if impossible and not (skip_impossible and cases):
        of = len(impossible) + len(cases)
        raise RecipeError(
            f"{len(impossible)} of the grid's {of} cases cannot be built\n{_listed(impossible)}",
            remedy=f"{impossible[0].remedy}; couple the keys that go together, --grid 'KEY,KEY=[V,V],[V,V]' "
            "(docs/sweep.md), or leave these cases out with --skip-impossible"
            if cases
            else impossible[0].remedy,
        )
    return _with_own_names(cases), impossible


def _require_valid(axes: Sequence[Axis], valid: set[tuple[int, int]], impossible: Sequence[Impossible]) -> None:
    """A value that no recipe can have, such as a misspelt name, is a mistake, and never skipped."""
    for number, axis in enumerate(axes):
        for place, choice in enumerate(axis):
            if (number, place) not in valid:
                raise RecipeError(
                    f"{name_of(choice)} is possible in no case\n{_listed(impossible)}", remedy=impossible[0].remedy
                )


def _listed(impossible: Sequence[Impossible]) -> str:
    lines = [f"  {case.name}: {case.reason}" for case in impossible[:MOST_LISTED]]
    more = len(impossible) - len(lines)
    return "\n".join([*lines, *([f"  and {more} more"] if more else [])])


def lay_over(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with some keys changed. Raises RecipeError for a value that it cannot have."""
    fields = plain(recipe)
    for key, value in settings.items():
        *tables, last = key.split(".")
        table = fields
        for name in tables:
            table = table[name]
        table[last] = value
    try:
        return build(Recipe, fields)
    except FieldError as error:
        raise RecipeError(str(error), remedy="mend that key; docs/recipes.md lists them all") from None


def recipe_digest(recipe: Recipe) -> str:
    """A name for what the recipe says, whatever file it is in."""
    return hashlib.sha256(json.dumps(plain(recipe), sort_keys=True).encode()).hexdigest()


def name_of(settings: Settings) -> str:
    """A folder's name from the settings: `backbone=mobilenetv2,width=0.5`."""
    parts = []
    for key, value in settings.items():
        table, _, last = key.rpartition(".")
        # `epochs` and the like are in several tables: those keep theirs.
        shown = last if table in ("", "network") else key
        parts.append(f"{shown}={_word(value)}")
    name = ",".join(parts)
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_word, value))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # Of a file its name: the way to it is in the recipe.
    text = text.rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._+-]", "_", text) or "empty"


def _with_own_names(cases: Sequence[Case]) -> list[Case]:
    """The cases, those of one name told apart by what their recipes say: two files of one name in two folders."""
    names = [case.name for case in cases]
    return [
        case
        if names.count(case.name) == 1
        else Case(
            name=f"{case.name}-{recipe_digest(case.recipe)[:8]}",
            settings=case.settings,
            recipe=case.recipe,
        )
        for case in cases
    ]


def to_toml(recipe: Recipe) -> str:
    """The recipe as a TOML file that `edge convert` reads, every key written out."""
    fields = plain(recipe)
    lines = [f"{key} = {_literal(value)}" for key, value in fields.items() if not isinstance(value, dict)]
    for table, entries in fields.items():
        if isinstance(entries, dict):
            lines += ["", f"[{table}]"]
            lines += [f"{key} = {_literal(value)}" for key, value in entries.items() if value is not None]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML does not take as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
