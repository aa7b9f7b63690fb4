"""What TFLite files cost on this machine: an inference each, all of them in turns, on one thread.

The processor's clock counts and not the wall's: what other programs did meanwhile is not in it.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Generator, Sequence
from importlib import metadata
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edge import __version__
from edge.errors import EdgeError, InterpreterError
from edge.frozen import dataclass
from edge.native_stderr import without_chatter
from edge_runtime.interpreter import find_interpreter
from edge_runtime.machine import board_model, cpu_model, machine_kind

MICROSECONDS = "microseconds of processor time"

ROUNDS = 60
FEWEST_ROUNDS = 5
SECONDS = 60.0
"""What all of it may take, roughly; many files, or large ones, get fewer rounds."""

CALLS = 3
"""Of as many inferences in a row the quickest counts: an interrupted one says nothing of the network."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a time depends on besides the network: versions, and the processor by its type."""

    package: str
    interpreter: str
    cpu: str

    @property
    def key(self) -> str:
        """What measurements of it are kept under."""
        return f"edge-screen {self.package}, {self.interpreter}, {self.cpu}"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What an inference of each file costs, in the files' order. machine: where. unit: of the costs."""

    machine: str
    unit: str
    costs: tuple[float, ...]

    @property
    def scale(self) -> tuple[str, str]:
        """Machine and unit: only costs with the same ones can be compared."""
        return self.machine, self.unit


def this_machine() -> Machine:
    """The machine that this runs on."""
    name, _ = find_interpreter()
    # A PC's firmware calls it whatever its seller liked; a small board's is the name that people know it by.
    board = None if machine_kind() == "x86_64" else board_model()
    cpu = f"{board}, {cpu_model()}" if board else cpu_model()
    return Machine(package=__version__, interpreter=f"{name} {metadata.version(name)}", cpu=cpu)


def time_models(models: Sequence[tuple[str, bytes]]) -> Generator[tuple[int, int], None, list[float]]:
    """Median microseconds of an inference of each file on random numbers, by the thread's clock.

    models: names and TFLite files. Yields how far it is: units done, and of how many. Raises InterpreterError for a
    file that the interpreter refuses.
    """
    if not models:
        return []
    runs, of = [], 2 * len(models)
    for name, model in models:
        runs.append(inference_of(name, model))
        yield len(runs), of
    start = time.perf_counter()
    for run in runs:
        run()
    seconds = max(time.perf_counter() - start, 1e-3)
    rounds = int(np.clip(SECONDS / seconds / CALLS, FEWEST_ROUNDS, ROUNDS))
    found: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        # Each goes first in every other round, so that none always finds the other's cache.
        for place in range(len(runs))[:: -1 if number % 2 else 1]:
            found[place].append(min(runs[place]() for _ in range(CALLS)))
        yield len(models) + len(models) * (number + 1) // rounds, of
    return [float(np.median(taken)) for taken in found]


def inference_of(name: str, model: bytes) -> Callable[[], float]:
    """A call that infers once on random numbers, one thread, and gives its microseconds by the thread's clock.

    name, model: the TFLite file. Raises InterpreterError for one that the interpreter refuses.
    """
    try:
        with without_chatter():
            interpreter = find_interpreter()[1](model_content=model, num_threads=1)
            interpreter.allocate_tensors()
            for entry in interpreter.get_input_details():
                interpreter.set_tensor(entry["index"], _noise(entry["shape"], np.dtype(entry["dtype"])))
            # The first inference allocates, and is where a file fails that does not take random numbers.
            interpreter.invoke()
    except (ValueError, RuntimeError, SystemError) as error:
        said = str(error).strip().splitlines()
        raise InterpreterError(
            f"the interpreter does not run {name}: {said[-1][:200] if said else type(error).__name__}",
            remedy="time TFLite files of networks that take pictures and that this machine's interpreter can run",
        ) from None

    def run() -> float:
        before = time.thread_time_ns()
        interpreter.invoke()
        return (time.thread_time_ns() - before) / 1e3

    return run


def _noise(shape: NDArray[np.int32], kind: np.dtype[Any]) -> NDArray[Any]:
    random = np.random.default_rng(1)
    if kind.kind not in "iu":
        return random.random(shape).astype(kind)
    limits = np.iinfo(kind)
    return random.integers(limits.min, limits.max, shape, kind, endpoint=True)


def pack_models(models: Sequence[bytes]) -> bytes:
    """The files as one tar archive, in their order: how they go to another machine."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for number, model in enumerate(models):
            entry = tarfile.TarInfo(f"{number:05d}.tflite")
            entry.size = len(model)
            archive.addfile(entry, io.BytesIO(model))
    return stream.getvalue()


def read_models(stream: IO[bytes]) -> list[tuple[str, bytes]]:
    """Names and bytes of a tar archive's files, in its order. Raises EdgeError where it is none, or cut short."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            return [(entry.name, archive.extractfile(entry).read()) for entry in archive if entry.isreg()]  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError):
        raise EdgeError(
            "standard input is no tar archive of TFLite files, or was cut short", remedy="tar -c FILES | edge time -"
        ) from None
