"""What a verdict costs on this machine: step by step, model by model, in turns, beside the bare engines.

Everything that is compared runs in turns in one process, each first in every other round, so that a machine that
slows down meanwhile slows all of them. Peak memory is that of a process of its own that only screens.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edge.bundle import Bundle, read_bundle
from edge.errors import EdgeError
from edge.frozen import dataclass
from edge_runtime import rivals
from edge_runtime.delegates import CPU
from edge_runtime.interpreter import Network, default_threads
from edge_runtime.interpreters import UNVERIFIED
from edge_runtime.pictures import naming
from edge_runtime.pipeline import Screener
from edge_runtime.thermal import Thermal, read_thermal

STEPS = ("decode", "preprocess", "infer", "checks", "saliency", "total")
WARM_UP = 5
# Timing is not screening: an interpreter of other numbers takes its time all the same.
ANY_INTERPRETER = f",{UNVERIFIED}"
# Everything that is run in turns: its name, and what one round of it takes in milliseconds, step by step.
Contestant = Callable[[bytes], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Wall-clock milliseconds over the rounds: the median, the 5th and the 95th percentile."""

    median: float
    p5: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one of the bundle's models costs with one delegate.

    requested, delegate, why: what was asked for, what ran the last round, and the reason. steps: by name, of STEPS; a
    delegate's hold what it takes to hold it against the CPU. peak_mb: largest resident memory (10^6 bytes) of a process
    that only screens the same pictures, from its start; None where the machine does not tell.
    """

    model: str
    requested: str
    delegate: str
    why: str
    interpreter: str
    steps: dict[str, Spread]
    peak_mb: float | None


@dataclass(frozen=True, kw_only=True)
class Rival:
    """What a bare engine takes for the same network's inference, on the same inputs.

    difference: of its probabilities from the interpreter's, the largest over the pictures.
    """

    engine: str
    model: str
    infer: Spread
    difference: float


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The whole measurement. not_compared: by engine and model, why it was not. before, after: the machine's heat."""

    name: str
    sha256: str
    pictures: int
    rounds: int
    threads: int
    costs: tuple[Cost, ...]
    rivals: tuple[Rival, ...]
    not_compared: dict[str, str]
    before: Thermal
    after: Thermal


def bench(
    path: Path,
    pictures: Sequence[tuple[str, bytes]] = (),
    *,
    rounds: int = 100,
    threads: int | None = None,
    delegates: Sequence[str] = (CPU,),
    compare: bool = False,
) -> Iterator[int | Bench]:
    """Measure a bundle. Yields the rounds done, then the measurement.

    pictures: names and bytes of picture files, taken in turn; the bundle's golden ones where none are given. delegates:
    each as `--delegate` takes it. compare: run the bare engines that are installed beside it. Raises BundleError,
    InterpreterError, DelegateError and PictureError.
    """
    bundle = read_bundle(path)
    taken = list(pictures) or [(golden.picture, bundle.parts[golden.picture]) for golden in bundle.manifest.golden]
    if not taken:
        raise EdgeError("this bundle has no golden pictures", remedy="name some pictures after it")
    used = threads or default_threads()
    screeners = {
        (delegate, model): Screener(bundle, variant=model, threads=used, delegate=delegate, interpreter=ANY_INTERPRETER)
        for model in bundle.manifest.models
        for delegate in dict.fromkeys(delegates)
    }
    entries: dict[tuple[str, str], Contestant] = {key: _screening(screener) for key, screener in screeners.items()}
    engines, missing = _engines(bundle, taken, used) if compare else ({}, {})
    entries |= engines
    before = read_thermal()
    times: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in entries}
    for number in range(WARM_UP + rounds):
        # Each goes first in every other round, so that none always finds the other's cache.
        for key in list(entries)[:: -1 if number % 2 else 1]:
            name, picture = taken[number % len(taken)]
            with naming(name):
                times[key].append(entries[key](picture))
        yield number + 1
    after = read_thermal()
    for screener in screeners.values():
        screener.close()
    kept = {key: _spreads(found[WARM_UP:]) for key, found in times.items()}
    yield Bench(
        name=bundle.manifest.name,
        sha256=bundle.sha256,
        pictures=len(taken),
        rounds=rounds,
        threads=used,
        costs=tuple(
            Cost(
                model=model,
                requested=delegate,
                delegate=screener.delegate.used,
                why=screener.delegate.why,
                interpreter=screener.network.package,
                steps=kept[delegate, model],
                peak_mb=peak_mb(path, [data for _, data in taken], model=model, threads=used, delegate=delegate),
            )
            for (delegate, model), screener in screeners.items()
        ),
        rivals=tuple(
            Rival(engine=engine, model=model, infer=kept[engine, model]["infer"], difference=one.difference)
            for (engine, model), one in engines.items()
        ),
        not_compared=missing,
        before=before,
        after=after,
    )


def render(found: Bench) -> str:
    """The measurement as a table."""
    lines = [
        f"{found.name} {found.sha256[:12]}: {found.pictures} pictures, {found.rounds} rounds in turns, "
        f"{found.threads} thread{'s' if found.threads > 1 else ''}",
        f"{'':<34}{'median':>9}{'5th':>9}{'95th':>9}  ms",
    ]
    for cost in found.costs:
        memory = f", peak memory {cost.peak_mb:.0f} MB" if cost.peak_mb is not None else ""
        lines.append(f"{cost.model} on {cost.delegate} ({cost.interpreter}){memory}")
        if cost.requested != cost.delegate:
            lines.append(f"  {cost.requested} was asked for: {cost.why}")
        lines += [_row(f"  {step}", cost.steps[step]) for step in STEPS]
    if found.rivals:
        lines.append("inference alone, bare")
        for rival in found.rivals:
            lines.append(f"{_row(f'  {rival.engine}, {rival.model}', rival.infer)}  {_apart(rival.difference)}")
    lines += [f"not compared: {name}: {reason}" for name, reason in found.not_compared.items()]
    return "\n".join([*lines, _heat(found.before, found.after)])


def peak_mb(path: Path, pictures: Sequence[bytes], *, model: str, threads: int, delegate: str = CPU) -> float | None:
    """Largest resident memory of a process that opens the bundle and screens the pictures once, in 10^6 bytes.

    What a delegate takes in a process of its own is not in it.
    """
    program = "from edge_runtime.bench import screen_only; screen_only()"
    request = json.dumps(
        {
            "path": str(path),
            "open": {"variant": model, "threads": threads, "delegate": delegate, "interpreter": ANY_INTERPRETER},
            "sizes": [len(picture) for picture in pictures],
        }
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        input=request.encode() + b"\n" + b"".join(pictures),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    said = child.stdout.decode().strip()
    return float(said) / 1e6 if child.returncode == 0 and said else None


def screen_only() -> None:
    """The child of `peak_mb`: screen what standard input holds, print this process's largest resident bytes."""
    request = json.loads(sys.stdin.buffer.readline())
    screener = Screener.open(Path(request["path"]), **request["open"])
    for size in request["sizes"]:
        screener.screen(sys.stdin.buffer.read(size), name="picture")
    screener.close()
    # Only now: nothing that screening does not need may be part of what is measured.
    from edge_runtime.machine import peak_bytes

    if (peak := peak_bytes()) is not None:
        print(peak)


def _screening(screener: Screener) -> Contestant:
    def one(picture: bytes) -> dict[str, float]:
        latency = screener.screen(picture, name="picture", explain=True).verdict.latency_ms
        return {step: getattr(latency, step) for step in STEPS}

    return one


def _engines(
    bundle: Bundle, pictures: Sequence[tuple[str, bytes]], threads: int
) -> tuple[dict[tuple[str, str], _Engine], dict[str, str]]:
    """The bare engines for each of the bundle's models, and why the others are not there."""
    found: dict[tuple[str, str], _Engine] = {}
    missing = {}
    for engine, make in rivals.ENGINES.items():
        for model in bundle.manifest.models:
            try:
                infer = make(bundle.model(model)[1], threads)
            except rivals.NotHere as error:
                missing[f"{engine}, {model}"] = str(error)
                continue
            found[engine, model] = _Engine(bundle, model, infer, threads)
    for one in found.values():
        for name, picture in pictures:
            with naming(name):
                one.compare(picture)
    return found, missing


class _Engine:
    """A bare engine with one of the bundle's models. difference: see Rival, over the pictures compared so far."""

    def __init__(self, bundle: Bundle, model: str, infer: rivals.Infer, threads: int) -> None:
        self._preprocessing, self._infer = bundle.manifest.preprocessing, infer
        self._network = Network.of(bundle, model, threads=threads)
        self.difference = 0.0

    def compare(self, picture: bytes) -> None:
        """Hold its probabilities against the interpreter's. picture: a file's bytes."""
        tensor = self._preprocessing.to_input(self._preprocessing.decode(picture))
        self._network.run(tensor)
        raw = self._infer(self._network.encode(tensor))[self._network.tensor_name("probabilities")]
        apart = self._network.decode("probabilities", raw[0]) - self._network.output("probabilities")
        self.difference = max(self.difference, float(np.max(np.abs(apart))))

    def __call__(self, picture: bytes) -> dict[str, float]:
        tensor = self._network.encode(self._preprocessing.to_input(self._preprocessing.decode(picture)))
        start = time.perf_counter()
        self._infer(tensor)
        return {"infer": 1e3 * (time.perf_counter() - start)}


def _spreads(rounds: Sequence[dict[str, float]]) -> dict[str, Spread]:
    return {step: spread([found[step] for found in rounds]) for step in rounds[0]}


def spread(values: Sequence[float]) -> Spread:
    """The median, the 5th and the 95th percentile (linear between neighbours) of at least two values."""
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return Spread(median=statistics.median(values), p5=cuts[0], p95=cuts[-1])


def _row(name: str, found: Spread) -> str:
    return f"{name:<34}{found.median:9.3f}{found.p5:9.3f}{found.p95:9.3f}"


def _apart(difference: float) -> str:
    return f"probabilities differ by up to {difference:.2g}" if difference else "the same probabilities"


def _heat(before: Thermal, after: Thermal) -> str:
    if before.hottest is None or after.hottest is None:
        heat = "temperature: this machine does not tell"
    else:
        heat = f"temperature: {before.hottest:.0f} C before, {after.hottest:.0f} C after"
    if after.limits is None:
        return f"{heat}; throttling: this machine does not tell"
    return f"{heat}; {', '.join(after.limits) or 'not throttled'}"
