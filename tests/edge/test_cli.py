"""The command's manners: exit statuses, two lines for what a user can mend, never a traceback."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

from edge.cli import VERBS, edge, loading, run
from edge.errors import EdgeError

EDGE = [sys.executable, "-c", "from edge.cli import main; main()"]


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EDGE, *words], capture_output=True, text=True, check=False)


def test_help_lists_every_verb() -> None:
    done = call("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_is_in_the_readme(verb: str) -> None:
    done = call(verb, "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 100
    assert f"edge {verb}" in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["nonsense"], ["screen"], ["screen", "x.edge", "--nonsense"]], ids=" ".join)
def test_misuse_exits_2_with_usage(words: list[str]) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_what_a_user_can_mend_exits_1_in_two_lines() -> None:
    done = call("screen", "missing.edge", "x.jpg")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: there is no bundle at missing.edge\nremedy: check the path\n"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (EdgeError("fact", remedy="mend"), 1, "error: fact\nremedy: mend\n"),
        (PermissionError(13, "Permission denied", "f"), 1, "error: f: Permission denied\n"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device\n"),
        (MemoryError(), 1, "error: out of memory\n"),
        (KeyboardInterrupt(), 130, "\nstopped"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_become_sentences(
    error: BaseException, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    assert run(lambda **options: failing.main([], **options)) == status
    assert capsys.readouterr().err.startswith(words)


@pytest.mark.native
def test_help_costs_less_than_300_ms_of_processor_time() -> None:
    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    costs = []
    for _ in range(5):
        before = spent()
        call("--help")
        costs.append(spent() - before)
    # The best of five: other work on the machine only ever adds.
    assert min(costs) < 0.3


@pytest.mark.parametrize(
    ("verb", "given", "expected"),
    [("screen", None, "1"), ("screen", "3", "3"), ("convert", None, None)],
    ids=["the device's", "as the user has it", "the workstation's"],
)
def test_a_devices_command_starts_no_threads_of_numpys_own(
    verb: str, given: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    assert edge.get_command(click.Context(edge), verb) is not None
    assert os.environ.get("OPENBLAS_NUM_THREADS") == expected


def test_garbage_is_collected_again_once_all_is_loaded_and_also_where_that_fails() -> None:
    try:
        with suppress(EdgeError), loading():
            assert not gc.isenabled()
            raise EdgeError("fact", remedy="mend")
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_the_command_is_a_click_group() -> None:
    assert isinstance(edge, click.Group)
