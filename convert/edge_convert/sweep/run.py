"""A sweep: every case an ordinary build in a process and a folder of its own, then all int8 files timed together.

Killed at any moment it goes on: finished cases are kept, others go on at their stage. Read `sweep` first.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from edge.dataset import Dataset, read_dataset
from edge.errors import EdgeError
from edge_convert.builder import STAGES, Leaks
from edge_convert.export import file_of
from edge_convert.pack import versions
from edge_convert.pipeline import check_clock, check_early, require_outside
from edge_convert.prepare import require_classes
from edge_convert.progress import Progress, finish, translate
from edge_convert.prune.plan_file import PLAN, load_record
from edge_convert.recipe import Recipe
from edge_convert.report.tradeoff import Kind, kind_of
from edge_convert.run_folder import RunFolder
from edge_convert.sweep.grid import Axis, Case, Impossible, Settings, make_cases
from edge_convert.sweep.kept import (
    State,
    case_key,
    find_folders,
    finished_state,
    mark_begun,
    mark_finished,
    require_own_case,
    shared_keys,
)
from edge_convert.sweep.memory import most_builds, room_for_another
from edge_convert.sweep.pareto import Point
from edge_convert.sweep.process import CaseProcess, Heard
from edge_convert.sweep.timing import ROUNDS, Timing, time_together
from edge_convert.verify import ModelSize, Verification, load_verification
from edge_runtime.timing import Machine, this_machine

T = TypeVar("T")
FILES = ("sweep.csv", "sweep.json", "sweep.svg")
"""What is written beside the cases."""


@dataclass(frozen=True, kw_only=True)
class SweepEvent:
    """What a sweep is doing. case: empty while all are timed. number of `of` cases.

    stage: of the case's build, `kept` for one that an earlier sweep finished, or how it ended.
    """

    case: str
    number: int
    of: int
    stage: str
    ended: bool = False
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of a case. kind, width: how its network is made smaller. reason: why it failed, or which gates it
    missed. note: what else to know of it. verification, size, timing: of a case that was built or missed a gate.
    """

    case: str
    folder: Path
    settings: Settings
    kind: Kind
    width: float
    state: State
    reason: str = ""
    note: str = ""
    verification: Verification | None = None
    size: ModelSize | None = None
    timing: Timing | None = None

    @property
    def point(self) -> Point | None:
        """The case's numbers; None where it failed."""
        if self.verification is None or self.size is None or self.timing is None:
            return None
        int8 = self.verification.evaluations["val/int8"]
        return Point(
            auc=int8.auc.value,
            specificity=int8.specificity_at_target.value,
            latency_ms=self.timing.ms,
            bytes=self.size.bytes,
            compressed_bytes=self.size.compressed_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All cases, in the grid's order, and those left out because they cannot be built. rounds: of the timing."""

    rows: tuple[Row, ...]
    impossible: tuple[Impossible, ...]
    machine: Machine
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be built: checked, and nothing trained yet. dataset: of `data`, not fingerprinted yet.

    clock: of the cases that remove channels, see `ProgramClock`; None: this machine. clock_is: where and in what it
    measures.
    """

    cases: tuple[Case, ...]
    impossible: tuple[Impossible, ...]
    data: Path
    dataset: Dataset
    leaks: Leaks
    group_pattern: str | None
    clock: str | None = None
    clock_is: tuple[str, str] | None = None

    def described(self) -> tuple[Any, ...]:
        """Data set and versions, for the cases' keys. Reads every picture's file. Raises DataError."""
        d = self.dataset
        of_set = d.name, d.synthetic, d.has_groups, str(d.folder.resolve()), d.identity().fingerprint
        return (*of_set, versions(), self.leaks, self.group_pattern)


Events = Generator[SweepEvent, None, Sweep]


def plan_sweep(
    recipe: Recipe,
    axes: Sequence[Axis],
    data: Path,
    *,
    leaks: Leaks = "refuse",
    group_pattern: str | None = None,
    skip_impossible: bool = False,
    clock: str | None = None,
) -> Plan:
    """The cases, every one of them checked. Raises EdgeError as `make_cases` does and for a clock that does not answer,
    and DataError for the data set.
    """
    dataset = read_dataset(data, group_pattern=group_pattern)

    def check(changed: Recipe) -> None:
        check_early(changed, dataset)
        require_classes(changed, dataset)

    cases, impossible = make_cases(recipe, axes, check, skip_impossible=skip_impossible)
    asking = next((case.recipe for case in cases if case.recipe.prune.removes_channels), cases[0].recipe)
    asked = check_clock(asking, clock)
    return Plan(
        cases=tuple(cases),
        impossible=tuple(impossible),
        data=data,
        dataset=dataset,
        leaks=leaks,
        group_pattern=group_pattern,
        clock=clock,
        clock_is=finish(asked.measure([])).scale if asked else None,
    )


def sweep(plan: Plan, out: Path, *, jobs: int | None = 1, replace_others: bool = False) -> Events:
    """Build every case below `out` and time what they made. jobs: builds at a time, None for as many as fit.
    replace_others: whether a sweep of another recipe's name, or from other data, may be replaced there.

    Yields what it is doing; returns the rows. A case that fails, crashes or is killed costs its own row. Close the
    generator to end the builds that run. Raises EdgeError where another sweep writes to `out`.
    """
    require_outside(out, plan.data)
    with RunFolder.opened(out) as folder:
        name = plan.cases[0].recipe.name
        folder.require_own(name, plan.data, FILES, replace=replace_others)
        folder.own(name, plan.data)
        builds = _Builds(plan, out)
        yield from builds.run(jobs)
        rows = [_row(case, *builds.ended[case.name]) for case in plan.cases]
        measured = [place for place, row in enumerate(rows) if row.verification is not None]
        files = [
            (plan.cases[place].recipe, (rows[place].folder / "quantize" / file_of("int8")).read_bytes())
            for place in measured
        ]
        of = len(rows)
        timings = (
            (
                yield from translate(
                    time_together(files),
                    lambda progress: SweepEvent(case="", number=of, of=of, stage="timing", progress=progress),
                )
            )
            if files
            else []
        )
        for place, timing in zip(measured, timings, strict=True):
            rows[place] = replace(rows[place], timing=timing)
    return Sweep(rows=tuple(rows), impossible=plan.impossible, machine=this_machine(), rounds=ROUNDS)


class _Builds:
    """The cases as processes: which wait, run and have ended."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self._plan, self._out = plan, out
        self._folders = find_folders(plan.cases, out)
        described = plan.described()
        self._keys = {case.name: case_key(case.recipe, (*described, _asks(case, plan.clock_is))) for case in plan.cases}
        self._numbers = {case.name: number for number, case in enumerate(plan.cases, start=1)}
        self._heard: queue.Queue[Heard] = queue.Queue()
        self._running: dict[str, CaseProcess] = {}
        self._shared = {case.name: shared_keys(case.recipe) for case in plan.cases}
        self._made: dict[str, Path] = {}
        """By what a shared stage is made from, a build that has it."""
        self._largest: int | None = None
        self.ended: dict[str, tuple[Path, State, str]] = {}

    def run(self, jobs: int | None) -> Generator[SweepEvent, None, None]:
        """Build all cases that are not finished; ends every process that it started, whatever happens."""
        waiting: deque[Case] = deque()
        for case in self._plan.cases:
            folder = self._folders[case.name]
            if state := finished_state(folder, self._keys[case.name]):
                for stage, key in self._shared[case.name].items():
                    # It may have been deleted to save space.
                    if RunFolder(folder).key(stage) is not None:
                        self._made.setdefault(key, folder)
                yield self._end(case, state, "", stage="kept")
            else:
                waiting.append(case)
        try:
            while waiting or self._running:
                yield from self._start(waiting, jobs)
                try:
                    name, said = self._heard.get(timeout=1.0)
                except queue.Empty:
                    continue
                if event := self._take(name, said):
                    yield event
        finally:
            for process in self._running.values():
                process.end()

    def _start(self, waiting: deque[Case], jobs: int | None) -> Iterator[SweepEvent]:
        """Start what may start; a case that cannot be started has ended.

        Of cases with the same long stages the first goes ahead until it has made them.
        """
        for case in list(waiting):
            if not self._room(jobs):
                return
            keys = self._shared[case.name]
            making = {key for name in self._running for key in self._shared[name].values() if key not in self._made}
            if making & set(keys.values()):
                continue
            waiting.remove(case)
            folder = self._folders[case.name]
            try:
                require_own_case(case, folder, self._plan.data)
                mark_begun(case, folder)
                source = {
                    "data": str(self._plan.data),
                    "leaks": self._plan.leaks,
                    "group_pattern": self._plan.group_pattern,
                    "clock": _asks(case, self._plan.clock),
                }
                shared = {stage: self._made[key] for stage, key in keys.items() if key in self._made}
                self._running[case.name] = CaseProcess(case, folder, source, shared, self._heard)
            except EdgeError as error:
                yield self._end(case, "failed", f"{error.message} ({error.remedy})")
            except OSError as error:
                yield self._unwritten(case, error)

    def _room(self, jobs: int | None) -> bool:
        if jobs is not None:
            return len(self._running) < jobs
        if not self._running:
            return True
        held = [process.resident_bytes for process in self._running.values()]
        return len(held) < most_builds() and room_for_another(held, self._largest)

    def _take(self, name: str, said: dict[str, Any] | None) -> SweepEvent | None:
        """What a process said, as an event; at its end the case's outcome."""
        process = self._running[name]
        if said is None:
            del self._running[name]
            outcome = process.outcome
            if peak := outcome.get("peak_mb"):
                self._largest = max(self._largest or 0, int(1e6 * peak))
            if state := outcome.get("done"):
                return self._finish(process, state)
            reason = outcome.get("failed") or process.failure()
            process.end()
            remedy = f" ({outcome['remedy']})" if "remedy" in outcome else ""
            return self._end(process.case, "failed", f"{reason}{remedy}")
        if "stage" not in said:
            process.outcome = said
            return None
        for stage, key in self._shared[name].items():
            if said["stage"] in STAGES[STAGES.index(stage) + 1 :]:
                self._made.setdefault(key, process.folder)
        progress = Progress(done=said["done"], total=said["total"], note=said["note"])
        stage = f"{said['stage']}, reused" if said["reused"] else said["stage"]
        return self._event(process.case, stage, progress=progress)

    def _finish(self, process: CaseProcess, state: State) -> SweepEvent:
        process.end()
        try:
            mark_finished(process.case, process.folder, self._keys[process.case.name], state)
        except OSError as error:
            # It is there, and a sweep that goes on finds its stages; this one cannot say that it is finished.
            return self._unwritten(process.case, error)
        return self._end(process.case, state, "")

    def _end(self, case: Case, state: State, reason: str, *, stage: str = "") -> SweepEvent:
        self.ended[case.name] = self._folders[case.name], state, reason
        shown = f"{stage or state}: {reason}" if reason else stage or state
        return self._event(case, shown, ended=True)

    def _unwritten(self, case: Case, error: OSError) -> SweepEvent:
        reason = f"{self._folders[case.name]}: {error.strerror or error} (check the free space and the rights)"
        return self._end(case, "failed", reason)

    def _event(self, case: Case, stage: str, *, ended: bool = False, progress: Progress | None = None) -> SweepEvent:
        number, of = self._numbers[case.name], len(self._numbers)
        return SweepEvent(case=case.name, number=number, of=of, stage=stage, ended=ended, progress=progress)


def _asks(case: Case, clock: T) -> T | None:
    """The clock where the case asks one."""
    return clock if case.recipe.prune.removes_channels else None


def _row(case: Case, folder: Path, state: State, reason: str) -> Row:
    kind, width = kind_of(case.recipe), case.recipe.network.width
    row = Row(case=case.name, folder=folder, settings=case.settings, kind=kind, width=width, state=state, reason=reason)
    if state == "failed":
        return row
    verification = load_verification(folder / "verify")
    missed = ", ".join(gate.name for gate in verification.gates if not gate.passed)
    size = next(size for size in verification.sizes if size.name.startswith("int8"))
    return replace(row, reason=missed, note=_note(folder), verification=verification, size=size)


def _note(folder: Path) -> str:
    """By how much a case missed its share of the time; also where that can no longer be read."""
    try:
        channels = load_record(folder / "prune" / PLAN)
    except EdgeError as error:
        return error.message
    return channels.shortfall if channels is not None else ""
