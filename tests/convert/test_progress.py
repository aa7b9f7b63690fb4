"""Long steps: run to their end, or made part of another one."""

from __future__ import annotations

import pytest

from edge_convert.progress import Progress, Steps, finish, translate


def count_to(total: int) -> Steps[str]:
    for done in range(total):
        yield Progress(done=done, total=total)
    return f"counted to {total}"


@pytest.mark.parametrize("total", [0, 3])
def test_a_finished_step_gives_its_result_and_each_thing_it_yields(total: int) -> None:
    seen: list[Progress] = []
    assert finish(count_to(total), seen.append) == f"counted to {total}"
    assert [step.done for step in seen] == list(range(total))
    assert finish(count_to(total)) == f"counted to {total}"


def test_a_translated_step_yields_in_other_words_and_keeps_its_result() -> None:
    seen: list[str] = []
    assert finish(translate(count_to(2), lambda step: f"{step.done} of {step.total}"), seen.append) == "counted to 2"
    assert seen == ["0 of 2", "1 of 2"]


def test_an_error_in_a_step_passes_through() -> None:
    def fail() -> Steps[None]:
        yield Progress(done=0, total=1)
        raise ValueError("a broken picture")

    with pytest.raises(ValueError, match="broken picture"):
        finish(translate(fail(), lambda step: step))
