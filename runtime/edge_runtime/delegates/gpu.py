"""The GPU through LiteRT's `CompiledModel` (WebGPU on Vulkan; Metal on a Mac).

`CompiledModel` loads a library that ends the process with SIGILL on a processor without its instructions, a Raspberry
Pi 4's among them (LiteRT issues 5675 and 6083). It is imported in `open_network` alone, which runs in a child process.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.delegates import DelegateFailure, Job, cpu
from edge_runtime.interpreter import Network
from edge_runtime.interpreters import version_of
from edge_runtime.machine import cpu_features, graphics_driver, machine_kind

# What the 2.3.0 library was compiled for; without one of these it dies of SIGILL when it is loaded.
NEEDED_FEATURES = {
    "aarch64": {"aes", "crc32", "asimddp", "asimdhp", "atomics"},
    "x86_64": {"aes", "avx", "cx16", "pclmulqdq", "popcnt", "sse4_1", "sse4_2", "ssse3"},
}
FIRST_WITH_GPU = (2, 3)
SOFTWARE = re.compile(r"software|llvmpipe|lavapipe|swiftshader|\bcpu\b", re.IGNORECASE)


def refusal(job: Job) -> str | None:
    """Why `CompiledModel` must not even be tried: another package, too old a version, missing instructions."""
    if job.interpreter != "ai-edge-litert":
        return f"{job.interpreter} has no GPU engine; ai-edge-litert 2.3 has"
    version = tuple(int(part) for part in re.findall(r"\d+", version_of("ai-edge-litert") or "0")[:2])
    if version < FIRST_WITH_GPU:
        return "ai-edge-litert before 2.3 brings no GPU library"
    return lacking_instructions()


def lacking_instructions() -> str | None:
    """Which instructions of the GPU library this processor lacks, in words; None where it has them all."""
    needed = NEEDED_FEATURES.get(machine_kind())
    if needed is None:
        return f"there is no GPU library for {machine_kind()}"
    missing = sorted(needed - cpu_features())
    if missing:
        return f"this CPU lacks {', '.join(missing)}, without which the GPU library ends the process (SIGILL)"
    return None


def driver(_: Job) -> str:
    """The graphics drivers of this machine."""
    return graphics_driver()


def proof(job: Job, lines: Sequence[str]) -> str:
    """The adapter that the library says it selected. Raises DelegateFailure for none, or one of software.

    `is_fully_accelerated()` proves nothing: it is true without any accelerator.
    """
    selected = [line.split("Selected adapter:", 1)[1].strip() for line in lines if "Selected adapter:" in line]
    if not selected:
        raise DelegateFailure("no GPU adapter was selected")
    if SOFTWARE.search(selected[-1]) and dict(job.options).get("software") != "yes":
        raise DelegateFailure(f"the adapter is software, not a GPU: {selected[-1]}")
    return selected[-1]


class CompiledNetwork:
    """A model in `CompiledModel`: uint8 pictures in, real-valued outputs by role."""

    def __init__(self, cpu: Network, model: Any) -> None:
        """cpu: the same model on the CPU, which knows how its tensors are written and read."""
        self._cpu, self._model = cpu, model
        signatures = model.get_signature_list()
        key = cpu.entry.signature or next(iter(signatures))
        signature, self._index = signatures[key], model.get_signature_index(key)
        self._inputs = model.create_input_buffers(self._index)
        self._outputs = model.create_output_buffers(self._index)
        details = model.get_output_tensor_details(key)
        self._places = {}
        for role, name in cpu.entry.outputs.items():
            shape = tuple(int(size) for size in details[name]["shape"])
            self._places[role] = (signature["outputs"].index(name), shape, np.dtype(details[name]["dtype"]).type)

    def run(self, picture: NDArray[np.uint8]) -> None:
        """Run the network; returns before the GPU is done, which `output` waits for."""
        self._inputs[0].write(np.ascontiguousarray(self._cpu.encode(picture)))
        self._model.run_by_index(self._index, self._inputs, self._outputs)

    def output(self, role: str) -> NDArray[np.float32]:
        """The output of the last run, real-valued float32, without the batch axis."""
        index, shape, kind = self._places[role]
        return self._cpu.decode(role, self._outputs[index].read(int(np.prod(shape)), kind).reshape(shape)[0])


def open_network(job: Job) -> CompiledNetwork:
    """The network on the GPU, in full float32: its default, float16, changes classes. Raises DelegateFailure."""
    reference = cpu.open_network(job)
    litert = importlib.import_module("ai_edge_litert.compiled_model")
    options = litert.Options(
        hardware_accelerators=litert.HardwareAccelerator.GPU, gpu_options=litert.GpuOptions(enforce_f32=True)
    )
    try:
        return CompiledNetwork(reference, litert.CompiledModel.from_buffer(job.model, options=options))
    except (RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines()
        raise DelegateFailure(f"the GPU engine refuses ({lines[-1][:200] if lines else 'without a reason'})") from None
