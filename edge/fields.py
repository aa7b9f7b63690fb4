"""Frozen dataclasses from plain mappings (TOML, JSON), strictly: the only reader of recipes and manifests."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")


class FieldError(ValueError):
    """A mapping that does not fit its dataclass; the text names the place, e.g. `train.epochs`."""


def build(cls: type[T], mapping: object, where: str = "") -> T:
    """An instance of the dataclass `cls` from a mapping with its field names as keys.

    Unknown keys are refused with the known ones listed; values must have the annotated type (an int is
    taken for a float, a list for a tuple). Raises FieldError; what `__post_init__` raises passes through.
    """
    if not isinstance(mapping, Mapping):
        raise FieldError(f"{where or 'it'} must be a table of keys and values, not {_kind(mapping)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            known = ", ".join(fields)
            raise FieldError(f"unknown key {_join(where, str(key))!r}; known here: {known}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise FieldError(f"{_join(where, name)!r} is missing")
    return cls(**values)


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
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where)
    if origin is Literal:
        if value in get_args(hint) and not isinstance(value, bool):
            return value
        raise FieldError(f"{where!r} is {value!r}; use one of {', '.join(map(repr, get_args(hint)))}")
    if origin is tuple:
        return _convert_tuple(hint, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise FieldError(f"{where!r} must be a table, not {_kind(value)}")
        item = get_args(hint)[1]
        return {str(key): _convert(item, entry, _join(where, str(key))) for key, entry in value.items()}
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
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
        if not math.isfinite(number):
            raise FieldError(f"{where!r} is {number}; a finite number is needed")
        return number
    if hint is int and isinstance(value, bool):
        raise FieldError(f"{where!r} must be a whole number, not {_kind(value)}")
    if isinstance(value, hint):
        return value
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    raise FieldError(f"{where!r} must be {names.get(hint, hint)}, not {_kind(value)}")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _kind(value: object) -> str:
    kinds = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
    return "nothing" if value is None else kinds.get(type(value), "a table")
