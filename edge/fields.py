"""Frozen dataclasses from plain mappings (TOML, JSON), strictly: the only reader of recipes and manifests."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")

MAX_DEPTH = 32
"""Tables and lists inside one another in a value of any shape. More would end in Python's own limit, later."""

MAX_INTEGER = 2**63
"""Whole numbers lie below it and above its negative: what TOML promises and other languages' JSON can hold."""


class FieldError(ValueError):
    """A mapping that does not fit its dataclass; the text names the place, e.g. `train.epochs`."""


def build(cls: type[T], mapping: object, where: str = "") -> T:
    """An instance of the dataclass `cls` from a mapping with its field names as keys.

    Unknown keys are refused with the known ones listed; values must have the annotated type (an int is
    taken for a float, a list for a tuple). Raises FieldError; what `__post_init__` raises passes through.
    """
    if not isinstance(mapping, Mapping):
        raise FieldError(f"{where or 'it'} must be a table of keys and values, not {_kind(mapping)}")
    hints = _hints(typing.cast(type, cls))
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise FieldError(f"unknown key {_join(where, str(key))!r}; known here: {', '.join(fields)}{meant}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise FieldError(f"{_join(where, name)!r} is missing")
    return cls(**values)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """The fields' types. Kept: reading them takes longer than all else here, and a bundle has dozens of one class."""
    return typing.get_type_hints(cls)


def plain(value: Any) -> Any:
    """The JSON-ready form of a dataclass: mappings, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _convert(hint: Any, value: object, where: str) -> Any:
    """`value` as the annotated type, or FieldError."""
    origin = get_origin(hint)
    if hint is Any:
        _check_anything(value, where, MAX_DEPTH)
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where)
    if origin is Literal:
        # In Python 1 is True and 1.0: a value must also be of the option's type.
        if any(value == option and type(value) is type(option) for option in get_args(hint)):
            return value
        raise FieldError(f"{where!r} is {value!r}; use one of {', '.join(map(repr, get_args(hint)))}")
    if origin is tuple:
        return _convert_tuple(hint, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise FieldError(f"{where!r} must be a table, not {_kind(value)}")
        _require_text_keys(value, where)
        item = get_args(hint)[1]
        return {key: _convert(item, entry, _join(where, key)) for key, entry in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    return _convert_scalar(hint, value, where)


def _convert_union(hint: Any, value: object, where: str) -> Any:
    options = get_args(hint)
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value, where)
        except FieldError as error:
            errors.append(str(error))
    raise FieldError(errors[0])


def _convert_tuple(hint: Any, value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise FieldError(f"{where!r} must be a list, not {_kind(value)}")
    items = get_args(hint)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_convert(items[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if len(items) != len(value):
        raise FieldError(f"{where!r} must have {len(items)} entries, not {len(value)}")
    return tuple(
        _convert(item, entry, f"{where}[{i}]") for i, (item, entry) in enumerate(zip(items, value, strict=True))
    )


def _convert_scalar(hint: Any, value: object, where: str) -> Any:
    # In Python true and false are whole numbers, here they are not.
    kind = (int, float) if hint is float else hint
    if isinstance(value, kind) and isinstance(value, bool) == (hint is bool):
        if isinstance(value, (int, float)):
            _check_number(value, where)
        return float(value) if hint is float else value
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    raise FieldError(f"{where!r} must be {names.get(hint, hint)}, not {_kind(value)}")


def _check_anything(value: object, where: str, depth: int) -> None:
    """Refuse, in a value of any shape, what could not be written as JSON again."""
    # What there is most of comes first: a table costs three times as much to tell.
    if value is None or isinstance(value, str):
        return
    if isinstance(value, (int, float)):
        _check_number(value, where)
        return
    if not isinstance(value, (Mapping, list, tuple)):
        raise FieldError(f"{where!r} must be text, a number, true or false, a list or a table")
    if not depth:
        raise FieldError(f"{where!r} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        _require_text_keys(value, where)
        for key, entry in value.items():
            _check_anything(entry, _join(where, key), depth - 1)
    else:
        for i, entry in enumerate(value):
            _check_anything(entry, f"{where}[{i}]", depth - 1)


def _check_number(value: float, where: str) -> None:
    if isinstance(value, int):
        if abs(value) >= MAX_INTEGER:
            raise FieldError(f"{where!r} is a whole number of more than 64 bits")
    elif not math.isfinite(value):
        raise FieldError(f"{where!r} is {value}; a finite number is needed")


def _require_text_keys(mapping: Mapping[Any, object], where: str) -> None:
    wrong = next((key for key in mapping if not isinstance(key, str)), None)
    if wrong is not None:
        raise FieldError(f"{where!r} has the key {wrong!r}; keys must be text")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _kind(value: object) -> str:
    kinds = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
    if value is None:
        return "nothing"
    return "a table" if isinstance(value, Mapping) else kinds.get(type(value), f"a {type(value).__name__}")
