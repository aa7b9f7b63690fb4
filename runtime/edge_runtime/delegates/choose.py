"""From what `--delegate` asks for to what runs the network: an admitted delegate, or the CPU and the reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from edge.bundle import Bundle
from edge.errors import EdgeError
from edge.frozen import dataclass
from edge.record import DelegateUse
from edge_runtime.delegates import CPU, DelegateFailure, Job, Kind, Request, verdicts
from edge_runtime.delegates.guard import Guard, Outputs
from edge_runtime.delegates.isolated import Isolated
from edge_runtime.delegates.trial import (
    CPU_TIMES,
    MIN_GAIN,
    MIN_PICTURE_LIMIT_S,
    TRIAL_LIMIT_S,
    Trial,
    compare_golden,
    golden_cases,
    open_isolated,
    try_delegate,
)
from edge_runtime.interpreter import Network, default_threads


@dataclass(frozen=True, kw_only=True)
class TrialRules:
    """limit_s: for one trial. min_gain: the share by which it must beat the CPU. again: whether kept verdicts count."""

    limit_s: float = TRIAL_LIMIT_S
    min_gain: float = MIN_GAIN
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What runs the network. guard: the delegate under guard; None is the CPU. trial: the verdict on the delegate.

    not_kept: why that could not be kept for the next run, else "".
    """

    use: DelegateUse
    guard: Guard | None
    trial: Trial
    not_kept: str


def make_job(request: Request, bundle: Bundle, variant: str, network: Network, threads: int | None) -> Job:
    """What a child process needs to open that delegate. `auto` stands for the GPU, the only one to be found unnamed."""
    entry, model = bundle.model(variant)
    kind: Kind = "gpu" if request.kind == "auto" else request.kind
    assert kind in get_args(Kind)
    return Job(
        kind=kind,
        library=request.library,
        options=request.options,
        interpreter=network.package,
        entry=entry,
        model=model,
        side_px=bundle.manifest.preprocessing.side_px,
        channels=bundle.manifest.preprocessing.channels,
        classes=len(bundle.manifest.labels),
        threads=threads or default_threads(),
    )


def choose(
    request: Request,
    bundle: Bundle,
    variant: str,
    network: Network,
    *,
    near: Callable[[Outputs, float], bool],
    apart: Callable[[Outputs, Outputs], str | None] = lambda *_: None,
    threads: int | None = None,
    rules: TrialRules | None = None,
) -> Choice:
    """What runs the network for a request that is not for the CPU. network: the CPU, already loaded. near, apart: see
    Guard.

    A kept verdict is taken for what it says; an admitted delegate must still give the golden pictures right at every
    start. Raises nothing for a delegate that fails: that is the CPU, and the reason.
    """
    rules = rules or TrialRules()
    job = make_job(request, bundle, variant, network, threads)
    promised = variant == bundle.manifest.main_model
    name = verdicts.key(job, bundle)
    trial = None if rules.again else verdicts.kept(name)
    engine: Isolated | None = None
    not_kept = ""
    if trial is None:
        trial, engine = try_delegate(
            job, _name(request), bundle, network, promised=promised, limit_s=rules.limit_s, min_gain=rules.min_gain
        )
        not_kept = verdicts.keep(name, trial)
    elif trial.admitted:
        engine, doubt = _open_again(job, bundle, network, trial, promised, rules.limit_s)
        if doubt:
            trial = replace(trial, admitted=False, reason=doubt)
            not_kept = verdicts.keep(name, trial)
    if engine is None:
        use = DelegateUse(requested=request.text, used=CPU, why=f"{_title(job)}: {trial.reason}")
        return Choice(use=use, guard=None, trial=trial, not_kept=not_kept)

    def doubted(reason: str) -> None:
        verdicts.keep(name, replace(trial, admitted=False, reason=f"admitted once, but {reason}"))

    guard = Guard(engine, network, tolerances=bundle.manifest.tolerances, near=near, doubted=doubted, apart=apart)
    use = DelegateUse(requested=request.text, used=_title(job), why=trial.reason)
    return Choice(use=use, guard=guard, trial=trial, not_kept=not_kept)


def _open_again(
    job: Job, bundle: Bundle, network: Network, trial: Trial, promised: bool, limit_s: float
) -> tuple[Isolated | None, str]:
    """An admitted delegate, opened and held against the golden pictures; or None and why not."""
    engine = None
    try:
        cases = golden_cases(bundle, network, list(job.entry.outputs), promised=promised)
        engine = open_isolated(job, cases, limit_s=limit_s)
        compare_golden(engine, job, cases, bundle.manifest.tolerances, {}, time.monotonic() + limit_s)
    except (DelegateFailure, EdgeError) as failure:
        if engine is not None:
            engine.close()
        return None, f"admitted once, but at a later start {failure}"
    engine.picture_limit_s = max(MIN_PICTURE_LIMIT_S, CPU_TIMES * (trial.cpu_ms or 0.0) / 1e3)
    return engine, ""


def _name(request: Request) -> str:
    """What the user would type to get this delegate and no other."""
    return request.text.replace("auto", "gpu", 1) if request.kind == "auto" else request.text


def _title(job: Job) -> str:
    return Path(job.library).name if job.kind == "external" else job.kind
