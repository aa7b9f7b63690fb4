"""Frozen, keyword-only dataclasses that are made in no time: `from edge.frozen import dataclass`.

The standard library's writes six methods of each class as text and compiles them whenever a program starts: 0.5 ms a
class, and a device needs some fifty to screen a picture. These have the same methods, compiled once, which go by the
list of fields. To `dataclasses.fields`, `replace` and `is_dataclass` and to type checkers they are dataclasses as any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

__all__ = ["dataclass"]

T = TypeVar("T", bound=type)
Fields = tuple[dataclasses.Field[Any], ...]
Method = Callable[..., Any]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: Literal[True], kw_only: Literal[True]) -> Callable[[T], T]:
        """As `dataclasses.dataclass` with these two. Of a `field` it heeds default, default_factory and repr."""
        assert frozen
        assert kw_only
        return _make


def _make(cls: T) -> T:
    # With these three switched off it lists the fields and compiles nothing.
    dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)
    fields = dataclasses.fields(cls)
    for method in (_init(cls, fields), _repr(fields), *_comparison(fields), _refuse_set, _refuse_delete):
        if method.__name__ not in vars(cls):
            setattr(cls, method.__name__, method)
    return cls


def _init(cls: type, fields: Fields) -> Method:
    names = [field.name for field in fields]
    wanted = frozenset(names)
    checked = hasattr(cls, "__post_init__")

    def __init__(self: Any, **values: Any) -> None:
        if values.keys() != wanted:
            values = _completed(cls, fields, values)
        # In the fields' order, and past __setattr__, which refuses.
        own = vars(self)
        for name in names:
            own[name] = values[name]
        if checked:
            self.__post_init__()

    return __init__


def _completed(cls: type, fields: Fields, values: dict[str, Any]) -> dict[str, Any]:
    """The values with the defaults of those that are missing. Raises TypeError, as a function does."""
    unknown = values.keys() - {field.name for field in fields}
    if unknown:
        raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {min(unknown)!r}")
    found = dict(values)
    for field in fields:
        if field.name in found:
            continue
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        else:
            raise TypeError(f"{cls.__name__}() missing the keyword argument {field.name!r}")
    return found


def _repr(fields: Fields) -> Method:
    shown = [field.name for field in fields if field.repr]

    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    return __repr__


def _comparison(fields: Fields) -> tuple[Method, Method]:
    names = [field.name for field in fields]

    def values(self: Any) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in names)

    def __eq__(self: Any, other: object) -> bool:
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __eq__, __hash__


def _refuse_set(_self: Any, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(_self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


_refuse_set.__name__, _refuse_delete.__name__ = "__setattr__", "__delattr__"
