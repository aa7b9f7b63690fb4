"""What is collected from the error stream of this very process, written past Python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.native_stderr import collected_stderr, without_chatter


def test_each_block_has_its_own_lines_and_no_earlier_ones() -> None:
    with collected_stderr() as first:
        os.write(2, b"a long first line\n")
    with collected_stderr() as second:
        os.write(2, b"short\n")
    with collected_stderr() as third:
        pass
    assert (first, second, third) == (["a long first line"], ["short"], [])


def test_a_block_inside_another_keeps_its_lines_to_itself() -> None:
    with collected_stderr() as outer:
        os.write(2, b"before\n")
        with collected_stderr() as inner:
            os.write(2, b"inside\n")
        os.write(2, b"after\n")
    assert (outer, inner) == (["before", "after"], ["inside"])


def test_many_blocks_hold_no_more_files_open_than_one() -> None:
    with collected_stderr():
        pass
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        with collected_stderr():
            os.write(2, b"line\n")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_forked_process_does_not_write_into_its_parents_collection() -> None:
    with collected_stderr():
        pass
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with collected_stderr() as lines:
            os.write(2, b"of the child\n")
        os.write(writer, repr(lines).encode())
        os._exit(0)
    with collected_stderr() as lines:
        os.write(2, b"of the parent\n")
        os.waitpid(child, 0)
    assert lines == ["of the parent"]
    assert os.read(reader, 1000).decode() == "['of the child']"


def test_chatter_is_dropped_and_the_rest_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        os.write(2, b"INFO: Created a delegate\nsomething is wrong\n")
    assert capfd.readouterr().err == "something is wrong\n"
