"""`edge.frozen.dataclass` makes what the standard library makes, and all that a device loads is made by it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from dataclasses import field
from typing import Any

import pytest

from edge import frozen

DECORATORS = {"edge": frozen.dataclass, "standard library": dataclasses.dataclass}


@frozen.dataclass(frozen=True, kw_only=True)
class Kept:
    """At the top level, so that it can be pickled."""

    side_px: int
    names: tuple[str, ...] = ()


def make(decorator: Any) -> Any:
    """A class with all that the records of this project use."""

    @decorator(frozen=True, kw_only=True)
    class Record:
        """A record."""

        side_px: int
        name: str = "smear"
        parts: dict[str, int] = field(default_factory=dict)
        pixels: bytes = field(default=b"", repr=False)

        def __post_init__(self) -> None:
            if self.side_px <= 0:
                raise ValueError("side_px")

        @property
        def area_px(self) -> int:
            return self.side_px**2

    return Record


@pytest.fixture(params=DECORATORS.values(), ids=DECORATORS)
def record(request: pytest.FixtureRequest) -> Any:
    return make(request.param)


def test_values_are_held_in_the_order_of_the_fields_whatever_the_call_says(record: Any) -> None:
    made = record(pixels=b"x", parts={"a": 1}, side_px=3)
    assert list(vars(made).items()) == [("side_px", 3), ("name", "smear"), ("parts", {"a": 1}), ("pixels", b"x")]
    assert made.area_px == 9


def test_each_instance_has_a_default_of_its_own(record: Any) -> None:
    record(side_px=1).parts["a"] = 1
    assert record(side_px=1).parts == {}


@pytest.mark.parametrize(
    ("values", "named"), [({}, "side_px"), ({"side_px": 1, "sides": 2}, "sides")], ids=["missing", "unknown"]
)
def test_a_missing_or_unknown_field_is_refused_by_name(record: Any, values: dict[str, int], named: str) -> None:
    with pytest.raises(TypeError, match=named):
        record(**values)


def test_fields_are_given_by_name_only(record: Any) -> None:
    with pytest.raises(TypeError):
        record(1)


def test_a_record_is_checked_when_it_is_made_and_when_it_is_changed(record: Any) -> None:
    with pytest.raises(ValueError, match="side_px"):
        record(side_px=0)
    made = record(side_px=2)
    assert dataclasses.replace(made, name="film") == record(side_px=2, name="film")
    with pytest.raises(ValueError, match="side_px"):
        dataclasses.replace(made, side_px=-1)


def test_nothing_of_a_record_can_be_set_or_deleted(record: Any) -> None:
    made = record(side_px=2)
    for name in ("side_px", "other"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.side_px
    assert made.side_px == 2


def test_records_are_equal_by_their_values_and_their_class(record: Any) -> None:
    assert record(side_px=2) == record(side_px=2)
    assert record(side_px=2) != record(side_px=2, pixels=b"x")
    assert record(side_px=2) != make(frozen.dataclass)(side_px=2)
    assert (record(side_px=2) == 2) is False


def test_a_record_of_hashable_values_is_a_key_and_another_is_not(record: Any) -> None:
    assert len({record(side_px=2, parts=None), record(side_px=2, parts=None), record(side_px=3, parts=None)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(record(side_px=2))


def test_what_a_record_says_of_itself_leaves_out_what_it_should(record: Any) -> None:
    assert repr(record(side_px=2, pixels=b"x")).endswith("Record(side_px=2, name='smear', parts={})")


def test_the_standard_library_takes_it_for_a_dataclass(record: Any) -> None:
    assert dataclasses.is_dataclass(record)
    assert [one.name for one in dataclasses.fields(record)] == ["side_px", "name", "parts", "pixels"]
    assert dataclasses.asdict(record(side_px=2)) == {"side_px": 2, "name": "smear", "parts": {}, "pixels": b""}


def test_a_record_survives_pickling_and_copying() -> None:
    made = Kept(side_px=2, names=("a",))
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == copy.deepcopy(made) == made


def test_no_class_that_screening_loads_is_compiled_when_it_starts() -> None:
    """Fifty of them at 0.5 ms each were a sixth of a cold start."""
    program = (
        "import sys, dataclasses, edge.cli, edge_runtime.commands, edge_runtime.pictures, edge_runtime.pipeline\n"
        "found = {one for module in list(sys.modules.values()) if module.__name__.startswith('edge')\n"
        "         for one in vars(module).values() if isinstance(one, type) and dataclasses.is_dataclass(one)}\n"
        "print(len(found), [one.__name__ for one in found if one.__init__.__module__ != 'edge.frozen'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, others = done.stdout.split(maxsplit=1)
    assert int(count) > 20
    assert others.strip() == "[]"
