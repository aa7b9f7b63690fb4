"""The trial of a delegate: gate, load, proof of an adapter, golden pictures, time. In a child process, with a limit.

What is tried is what would be used: the very child process, spoken to in the very way. docs/decisions/006-delegates.md.
"""

from __future__ import annotations

import hashlib
import importlib
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle
from edge.errors import EdgeError
from edge.frozen import dataclass
from edge_runtime.delegates import CHECKED, DELEGATES, HELD, DelegateFailure, Engine, Job
from edge_runtime.delegates.isolated import Isolated
from edge_runtime.golden import load_outputs

TRIAL_LIMIT_S = 180.0
"""For the whole trial: WebGPU compiled its shaders for 114 s on a software GPU, the slowest that was seen."""

MIN_GAIN = 0.10
"""A delegate must be this much faster than the CPU, its checks against the CPU included."""

MIN_PICTURE_LIMIT_S = 2.0
CPU_TIMES = 10
"""An admitted delegate is faster than the CPU: one that takes ten times as long, and 2 s at least, hangs."""

ROUNDS = 30
TIMING_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The verdict on a delegate. differences: by role, the largest from the promised and from the CPU's outputs.

    adapter: what it says it runs on. pictures: golden ones that it was given. cpu_ms, delegate_ms: median of running
    the network and reading its outputs, None where it did not come so far. when: UTC.
    """

    delegate: str
    admitted: bool
    reason: str
    adapter: str = ""
    pictures: int = 0
    differences: dict[str, float]
    cpu_ms: float | None = None
    delegate_ms: float | None = None
    when: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """A golden picture: its input (side_px, side_px, channels) uint8, and the outputs that are right, by role.

    references: what the bundle promises, where it does, and what the CPU gives here.
    """

    name: str
    tensor: NDArray[np.uint8]
    references: tuple[Mapping[str, NDArray[np.float32]], ...]


def golden_cases(bundle: Bundle, cpu: Engine, roles: Sequence[str], *, promised: bool) -> tuple[Case, ...]:
    """The golden pictures from file bytes to the CPU's outputs. promised: the bundle's outputs are of this model.

    Raises DelegateFailure where there are too few, or where this machine's CPU does not give what is promised: with
    nothing to hold it against, no delegate is tried.
    """
    cases, exact = [], True
    preprocessing = bundle.manifest.preprocessing
    for golden in bundle.manifest.golden:
        tensor = preprocessing.to_input(preprocessing.decode(bundle.parts[golden.picture]))
        exact &= hashlib.sha256(tensor.tobytes()).hexdigest() == golden.input_sha256
        cpu.run(tensor)
        references = [{role: cpu.output(role) for role in roles}]
        if promised and golden.outputs is not None:
            stored = load_outputs(bundle.parts[golden.outputs], golden.outputs)
            references.append({role: stored[role] for role in roles})
            if excess(references[0], references[1], bundle.manifest.tolerances):
                raise DelegateFailure("the CPU itself differs here from what the bundle promises (--self-test)")
        cases.append(Case(name=golden.picture, tensor=tensor, references=tuple(references)))
    if not exact:
        raise DelegateFailure("the preprocessing differs here from what the bundle promises (--self-test)")
    if len({case.references[0]["probabilities"].tobytes() for case in cases}) < 2:
        # One answer for all: a delegate that repeats itself could not be told from one that works.
        raise DelegateFailure("the bundle has no golden pictures that tell a right delegate from a wrong one")
    return tuple(cases)


def differences(given: Mapping[str, NDArray[np.float32]], right: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
    """By role, the largest absolute difference."""
    return {role: float(np.max(np.abs(given[role] - right[role]))) for role in right}


def excess(
    given: Mapping[str, NDArray[np.float32]],
    right: Mapping[str, NDArray[np.float32]],
    tolerances: Mapping[str, float],
) -> str | None:
    """The first role whose difference is above its tolerance, in words; None where all are within."""
    for role, found in differences(given, right).items():
        # Not `found > tolerance`: a NaN is never within.
        if not found <= tolerances.get(role, 0.0):
            return f"{role} differs by {found:.3g}, and {tolerances.get(role, 0.0):.3g} is allowed"
    return None


def try_delegate(
    job: Job,
    name: str,
    bundle: Bundle,
    cpu: Engine,
    *,
    promised: bool,
    limit_s: float = TRIAL_LIMIT_S,
    min_gain: float = MIN_GAIN,
) -> tuple[Trial, Isolated | None]:
    """Try a delegate. name: as the user calls it. Returns the verdict and, where it is admitted, the open delegate."""
    deadline = time.monotonic() + limit_s
    found: dict[str, float] = {}
    facts: dict[str, object] = {}
    engine: Isolated | None = None
    try:
        if refusal := importlib.import_module(DELEGATES[job.kind]).refusal(job):
            raise DelegateFailure(refusal)
        cases = golden_cases(bundle, cpu, list(job.entry.outputs), promised=promised)
        engine = open_isolated(job, cases, limit_s=limit_s)
        facts["adapter"] = compare_golden(engine, job, cases, bundle.manifest.tolerances, found, deadline)
        facts["pictures"] = len(cases)
        cpu_ms, delegate_ms = time_both(cpu, engine, cases, deadline)
        facts |= {"cpu_ms": cpu_ms, "delegate_ms": delegate_ms}
        require_gain(cpu_ms, delegate_ms, min_gain)
        engine.picture_limit_s = max(MIN_PICTURE_LIMIT_S, CPU_TIMES * cpu_ms / 1e3)
        worst = ", ".join(f"{role} {value:.2g}" for role, value in found.items())
        reason = f"{len(cases)} golden pictures agree (largest difference: {worst}); {_speed(cpu_ms, delegate_ms)}"
        return _verdict(name, True, reason, found, facts), engine
    except (DelegateFailure, EdgeError) as failure:
        if engine is not None:
            engine.close()
        return _verdict(name, False, str(failure), found, facts), None


def open_isolated(job: Job, cases: Sequence[Case], *, limit_s: float) -> Isolated:
    """The delegate in its child process. Raises DelegateFailure."""
    shapes = {role: output.shape for role, output in cases[0].references[0].items()}
    return Isolated(job, shapes, start_limit_s=limit_s, picture_limit_s=limit_s)


def compare_golden(
    engine: Isolated,
    job: Job,
    cases: Sequence[Case],
    tolerances: Mapping[str, float],
    found: dict[str, float],
    deadline: float,
) -> str:
    """Every golden picture on the delegate, against every reference. Returns the adapter; fills `found`.

    found: by role, the largest difference so far. Raises DelegateFailure at the end where any is above its tolerance.
    """
    wrong = []
    for case in cases:
        engine.picture_limit_s = max(0.0, deadline - time.monotonic())
        engine.run(case.tensor)
        given = engine.outputs()
        for right in case.references:
            for role, value in differences(given, right).items():
                found[role] = max(found.get(role, 0.0), value)
        reasons = [reason for right in case.references if (reason := excess(given, right, tolerances))]
        wrong += reasons[:1]
    # Which adapter was taken is said when the model is compiled, at the latest at its first run.
    adapter = str(importlib.import_module(DELEGATES[job.kind]).proof(job, engine.said()))
    if wrong:
        raise DelegateFailure(f"wrong outputs on {len(wrong)} of {len(cases)} golden pictures: {wrong[0]}")
    return adapter


def time_both(cpu: Engine, engine: Isolated, cases: Sequence[Case], deadline: float) -> tuple[float, float]:
    """Median milliseconds of run and read, in turns: of the CPU and of the delegate."""
    times: tuple[list[float], list[float]] = ([], [])
    end = min(deadline, time.monotonic() + TIMING_S)
    for number in range(ROUNDS):
        case = cases[number % len(cases)]
        for runner, taken in zip((cpu, engine), times, strict=True):
            start = time.perf_counter()
            runner.run(case.tensor)
            for role in case.references[0]:
                runner.output(role)
            taken.append(1e3 * (time.perf_counter() - start))
        if time.monotonic() > end and number >= 2:
            break
    return statistics.median(times[0]), statistics.median(times[1])


def require_gain(cpu_ms: float, delegate_ms: float, min_gain: float) -> None:
    """Raise DelegateFailure unless the delegate, checked as it will be, is that much faster than the CPU."""
    whole = delegate_ms + cpu_ms * CHECKED / HELD
    if whole > (1 - min_gain) * cpu_ms:
        raise DelegateFailure(
            f"not faster than the CPU by {min_gain:.0%}: {_speed(cpu_ms, delegate_ms)}, and its checks cost "
            f"{CHECKED} CPU runs in {HELD}"
        )


def _speed(cpu_ms: float, delegate_ms: float) -> str:
    return f"{delegate_ms:.2f} ms a picture against the CPU's {cpu_ms:.2f} ms"


def _verdict(name: str, admitted: bool, reason: str, found: dict[str, float], facts: Mapping[str, object]) -> Trial:
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Trial(delegate=name, admitted=admitted, reason=reason, differences=found, when=when, **facts)  # type: ignore[arg-type]
