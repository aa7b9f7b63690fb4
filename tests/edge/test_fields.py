"""Mappings become records strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from edge.fields import FieldError, build, plain


@dataclass(frozen=True, kw_only=True)
class Lens:
    power: float
    kind: Literal["dry", "oil"] = "dry"


@dataclass(frozen=True, kw_only=True)
class Microscope:
    name: str
    lenses: tuple[Lens, ...]
    size_px: tuple[int, int] = (1280, 960)
    notes: dict[str, int] | None = None


GOOD: dict[str, Any] = {"name": "m", "lenses": [{"power": 40}, {"power": 100.0, "kind": "oil"}], "notes": {"a": 1}}


def test_a_record_is_built_and_written_back() -> None:
    record = build(Microscope, GOOD)
    assert record.lenses == (Lens(power=40.0), Lens(power=100.0, kind="oil"))
    assert plain(record) == {
        "name": "m",
        "lenses": [{"power": 40.0, "kind": "dry"}, {"power": 100.0, "kind": "oil"}],
        "size_px": [1280, 960],
        "notes": {"a": 1},
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nmae": "x"}, "unknown key 'nmae'; known here: name, lenses, size_px, notes"),
        ({"lenses": [{"power": 1, "colour": 2}]}, r"unknown key 'lenses\[0\].colour'"),
        ({"lenses": [{}]}, r"'lenses\[0\].power' is missing"),
        ({"lenses": [{"power": "40"}]}, "must be a number, not text"),
        ({"lenses": [{"power": True}]}, "must be a number, not true or false"),
        ({"lenses": [{"power": float("inf")}]}, "finite"),
        ({"lenses": [{"power": 1, "kind": "wet"}]}, "use one of 'dry', 'oil'"),
        ({"lenses": {"power": 1}}, "must be a list"),
        ({"size_px": [1]}, "must have 2 entries"),
        ({"size_px": [1, True]}, "whole number"),
        ({"name": None}, "must be text, not nothing"),
        ({"notes": {"a": "b"}}, "'notes.a' must be a whole number"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(FieldError, match=words):
        build(Microscope, {**GOOD, **change})
