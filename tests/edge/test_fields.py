"""Mappings become records strictly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
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
    evidence: dict[str, Any] | None = None
    magnification: Literal[1, 10] = 10


def nested(depth: int) -> dict[str, Any]:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return {"a": value}


GOOD: dict[str, Any] = {"name": "m", "lenses": [{"power": 40}, {"power": 100.0, "kind": "oil"}], "notes": {"a": 1}}


def test_a_record_is_built_and_written_back() -> None:
    record = build(Microscope, GOOD)
    assert record.lenses == (Lens(power=40.0), Lens(power=100.0, kind="oil"))
    assert plain(record) == {
        "name": "m",
        "lenses": [{"power": 40.0, "kind": "dry"}, {"power": 100.0, "kind": "oil"}],
        "size_px": [1280, 960],
        "notes": {"a": 1},
        "evidence": None,
        "magnification": 10,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nmae": "x"}, "unknown key 'nmae'; known here: name, lenses, size_px, notes, evidence, magnification"),
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
        ({"notes": {True: 1}}, "'notes' has the key True; keys must be text"),
        ({"notes": {"a": float("nan")}}, "'notes.a' must be a whole number, not a number"),
        ({"notes": {"a": 10**400}}, "'notes.a' is a whole number of more than 64 bits"),
        ({"lenses": [{"power": 10**400}]}, r"'lenses\[0\].power' is a whole number of more than 64 bits"),
        ({"lenses": [{"power": float("nan")}]}, "a finite number is needed"),
        ({"magnification": True}, "use one of 1, 10"),
        ({"magnification": 10.0}, "use one of 1, 10"),
        ({"evidence": {"a": [{"b": float("inf")}]}}, r"'evidence.a\[0\].b' is inf; a finite number is needed"),
        ({"evidence": {"a": {2: "b"}}}, "'evidence.a' has the key 2"),
        ({"evidence": {"a": 10**400}}, "more than 64 bits"),
        ({"evidence": {"a": date(2024, 1, 31)}}, "'evidence.a' must be text, a number"),
        ({"evidence": nested(33)}, "is nested more than 32 deep"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(FieldError, match=words):
        build(Microscope, {**GOOD, **change})


def test_a_value_nested_beyond_pythons_own_limit_is_refused_too() -> None:
    with pytest.raises(FieldError, match="is nested more than 32 deep"):
        build(Microscope, {**GOOD, "evidence": nested(100_000)})


def test_evidence_of_any_shape_is_kept_as_it_is() -> None:
    evidence = {"a": [1, 2.5, None, True, "x", {"b": []}], "deep": nested(31)["a"]}
    assert build(Microscope, {**GOOD, "evidence": evidence}).evidence == evidence
