"""One TFLite file in an interpreter, spoken to by the roles that the bundle names."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle, ModelFile
from edge.errors import InterpreterError
from edge.frozen import dataclass
from edge.native_stderr import without_chatter
from edge.reference import Coding
from edge_runtime.interpreters import Package, find
from edge_runtime.tensors import InputEncoder, to_probabilities

MAX_THREADS = 4
TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """Where a tensor is and how its integers become real numbers: (q - zero_point) * scale."""

    name: str
    index: int
    scale: float
    zero_point: int
    dtype: np.dtype[Any]


def default_threads() -> int:
    """The physical cores this process may use, at most 4: more threads cost a small network more than they give."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    # Two threads of one core share its multipliers: the second only waits. A machine that does not tell has one each.
    cores = {_core(cpu) or str(cpu) for cpu in allowed}
    return max(1, min(MAX_THREADS, len(cores)))


def _core(cpu: int) -> str | None:
    """Which core a logical processor belongs to, as Linux tells it; None where it does not."""
    try:
        return (TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip() or None
    except OSError:
        return None


def find_interpreter(name: str | None = None) -> tuple[str, Any]:
    """The interpreter package that is used: its name and its `Interpreter` class. Raises InterpreterError."""
    package = find(name)
    return package.name, package.interpreter


class Network:
    """A loaded model: uint8 pictures in, real-valued outputs by role.

    Not safe to share between threads: an interpreter has one set of tensors.
    """

    def __init__(
        self,
        entry: ModelFile,
        model: bytes,
        *,
        side_px: int,
        classes: int,
        channels: int = 3,
        threads: int | None = None,
        package: Package | None = None,
        delegates: Sequence[Any] = (),
    ) -> None:
        """entry: how to talk to it. model: the TFLite file. package: None takes the first of the table.

        delegates: loaded by that package; none means the CPU. Raises InterpreterError where model and entry disagree.
        """
        self.entry = entry
        package = package or find()
        self.package = package.name
        try:
            with without_chatter():
                self._interpreter = package.interpreter(
                    model_content=model,
                    num_threads=threads or default_threads(),
                    experimental_delegates=list(delegates) or None,
                )
                self._interpreter.allocate_tensors()
            signatures = self._interpreter.get_signature_list()
        except (ValueError, RuntimeError, SystemError) as error:
            reason = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
            raise InterpreterError(
                f"{self.package} refuses the model {entry.file}: {reason}",
                remedy="make the bundle again, or update the package",
            ) from None
        self._classes = classes
        self._input, self.encode = self._find_input(side_px, channels)
        self._outputs = self._find_outputs(signatures, classes)

    @classmethod
    def of(
        cls, bundle: Bundle, variant: str | None = None, *, threads: int | None = None, package: Package | None = None
    ) -> Network:
        """One of a bundle's models on the CPU; None: the main one. Raises BundleError and InterpreterError."""
        entry, model = bundle.model(variant)
        manifest = bundle.manifest
        return cls(
            entry,
            model,
            side_px=manifest.preprocessing.side_px,
            classes=len(manifest.labels),
            channels=manifest.preprocessing.channels,
            threads=threads,
            package=package,
        )

    def run(self, picture: NDArray[np.uint8]) -> None:
        """Run the network. picture: (side_px, side_px, channels) uint8. Read the outputs with `output`."""
        self._interpreter.set_tensor(self._input, self.encode(picture))
        self._interpreter.invoke()

    def has(self, role: str) -> bool:
        """Whether this model gives that role."""
        return role in self._outputs

    def tensor_name(self, role: str) -> str:
        """What the file itself calls the tensor of an output."""
        return self._outputs[role].name

    def explain(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The map that the model gives on request, by a run of its own: (rows, columns) float32, evidence in logits.

        picture: (side_px, side_px, channels) uint8. Raises InterpreterError where the model has no such signature.
        """
        wanted = self.entry.explanation
        if wanted is None or wanted.signature not in self._interpreter.get_signature_list():
            raise InterpreterError(
                f"the model {self.entry.file} has no map to be asked for", remedy="make the bundle again"
            )
        # Not kept: while a runner lives, the interpreter refuses to run the main graph.
        runner = self._interpreter.get_signature_runner(wanted.signature)
        (name,) = runner.get_input_details()
        raw = runner(**{name: self.encode(picture)})[wanted.output][0]
        scale, zero_point = runner.get_output_details()[wanted.output]["quantization"]
        return to_real(raw, float(scale), int(zero_point))

    def output(self, role: str) -> NDArray[np.float32]:
        """The output of the last run, real-valued float32, without the batch axis."""
        return self.decode(role, self._interpreter.get_tensor(self._outputs[role].index)[0])

    def coding(self, role: str) -> Coding | None:
        """How an output's 8 bits, counted from 0, stand for real numbers; None where it has others."""
        tensor = self._outputs[role]
        if tensor.dtype.itemsize != 1 or tensor.scale == 0:
            return None
        return Coding(scale=tensor.scale, zero_point=tensor.zero_point + (128 if tensor.dtype == np.int8 else 0))

    def decode(self, role: str, raw: NDArray[Any]) -> NDArray[np.float32]:
        """What the numbers of an output tensor stand for, real-valued float32. raw: without the batch axis."""
        tensor = self._outputs[role]
        real = to_real(raw, tensor.scale, tensor.zero_point)
        if role != "probabilities":
            return real
        return to_probabilities(real.reshape(-1), self.entry.output_activation, self._classes)

    def _find_input(self, side_px: int, channels: int) -> tuple[int, InputEncoder]:
        inputs = self._interpreter.get_input_details()
        entry = self.entry
        wanted = [1, side_px, side_px, channels] if entry.input_layout == "nhwc" else [1, channels, side_px, side_px]
        if len(inputs) != 1 or list(inputs[0]["shape"]) != wanted or inputs[0]["dtype"] != np.dtype(entry.input_dtype):
            found = ", ".join(f"{i['shape'].tolist()} {np.dtype(i['dtype'])}" for i in inputs)
            raise InterpreterError(
                f"the model {entry.file} takes {found}, and its bundle promises {wanted} {entry.input_dtype}",
                remedy="make the bundle again",
            )
        scale, zero_point = inputs[0]["quantization"]
        encode = InputEncoder(entry, channels=channels, scale=float(scale), zero_point=int(zero_point))
        return int(inputs[0]["index"]), encode

    def _find_outputs(self, signatures: Mapping[str, Any], classes: int) -> dict[str, _Tensor]:
        entry = self.entry
        wrong = InterpreterError(
            f"the model {entry.file} lacks an output its bundle promises", remedy="make the bundle again"
        )
        named = entry.signature or (next(iter(signatures)) if len(signatures) == 1 else "")
        if named and named not in signatures:
            raise wrong
        if named:
            details = self._interpreter.get_signature_runner(named).get_output_details()
        else:
            details = {tensor["name"]: tensor for tensor in self._interpreter.get_output_details()}
        if not set(entry.outputs.values()) <= set(details):
            raise wrong
        found = {}
        for role, name in entry.outputs.items():
            shape = details[name]["shape"]
            if not _fits(role, tuple(map(int, shape)), classes):
                raise InterpreterError(
                    f"the output {role} of {entry.file} has the shape {list(shape)}", remedy="make the bundle again"
                )
            scale, zero_point = details[name]["quantization"]
            found[role] = _Tensor(
                name=str(details[name]["name"]),
                index=int(details[name]["index"]),
                scale=float(scale),
                zero_point=int(zero_point),
                dtype=np.dtype(details[name]["dtype"]),
            )
        return found


def to_real(raw: NDArray[Any], scale: float, zero_point: int) -> NDArray[np.float32]:
    """What a tensor's numbers stand for; a scale of 0 means that they are real already."""
    if scale == 0:
        return np.asarray(raw, np.float32)
    # Widen first: in int8, -100 - 50 wraps to +106 and a sure "no" becomes a sure "yes".
    return np.asarray((raw.astype(np.int32) - zero_point) * np.float32(scale), np.float32)


def _fits(role: str, shape: tuple[int, ...], classes: int) -> bool:
    """Whether an output of this shape can play the role."""
    if shape[:1] != (1,):
        return False
    if role == "probabilities":
        # Older files write (1, 1, 1, classes); one score may stand for two classes.
        return math.prod(shape) == classes or (math.prod(shape) == 1 and classes == 2)
    if role in ("class_activation", "fine_activation"):
        return len(shape) == 4 and shape[-1] == classes
    return len(shape) == 2
