"""What this machine is, what runs on it, and what is missing: the facts, and the text of `edge doctor`."""

from __future__ import annotations

import ctypes.util
import importlib
import platform
import re
import sys
from collections.abc import Sequence

import cv2
import numpy as np

from edge import __version__
from edge.bundle import Bundle
from edge.errors import EdgeError
from edge.frozen import dataclass
from edge_runtime import machine
from edge_runtime.acceptance import describe
from edge_runtime.delegates import CPU, DELEGATES, parse_request
from edge_runtime.delegates.choose import Choice, TrialRules, choose
from edge_runtime.delegates.trial import Trial
from edge_runtime.interpreter import Network, default_threads
from edge_runtime.interpreters import INTERPRETERS, find, version_of
from edge_runtime.selftest import self_test
from edge_runtime.thermal import read_thermal

LITTLE_MEMORY_MB = 250
# Where a Raspberry Pi's processor starts to slow down.
HOT_C = 80.0
# What the library in the wheel of ai-edge-litert 2.3 asks for, whatever the wheel's name says.
GLIBC_OF_LITERT_2_3 = (2, 34)


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Something that stands in the way: the fact, and what to do about it."""

    fact: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the doctor found.

    libraries: version by distribution, None where it is not installed. interpreter: the one that is used, None where
    there is none. answers: what the bundle holds a picture against before it answers. golden: how many golden
    pictures pass on the CPU, of how many. trials: of each delegate. All three only with a bundle.
    """

    machine: dict[str, str]
    libraries: dict[str, str | None]
    interpreter: str | None
    threads: int
    bundle: str | None
    golden: tuple[int, int] | None
    answers: tuple[str, ...]
    trials: tuple[Trial, ...]
    missing: tuple[Missing, ...]

    @property
    def can_screen(self) -> bool:
        """Whether the CPU screens here, and right as far as could be seen."""
        return self.interpreter is not None and (self.golden is None or self.golden[0] == self.golden[1])


def examine(bundle: Bundle | None, *, delegates: Sequence[str] = (), rules: TrialRules | None = None) -> Report:
    """Look at this machine and, where there is a bundle, try it and the delegates. Raises DelegateError, BundleError.

    delegates: as `--delegate` takes them; the GPU is always among them.
    """
    interpreter, missing = None, list(_missing_here())
    try:
        interpreter = find().name
    except EdgeError as error:
        missing.insert(0, Missing(fact=error.message, remedy=error.remedy))
    golden: tuple[int, int] | None = None
    trials: tuple[Trial, ...] = ()
    if bundle is not None and interpreter is not None:
        results = self_test(bundle) if bundle.manifest.golden else []
        golden = (sum(result.passed for result in results), len(results))
        if golden[0] < golden[1]:
            missing.append(
                Missing(
                    fact=f"the CPU gives other outputs on {golden[1] - golden[0]} of {golden[1]} golden pictures",
                    remedy="see `edge show BUNDLE --self-test`; do not screen with this machine",
                )
            )
        choices = _choices(bundle, delegates, rules or TrialRules())
        trials = tuple(choice.trial for choice in choices)
        for reason in dict.fromkeys(choice.not_kept for choice in choices if choice.not_kept):
            missing.append(
                Missing(
                    fact=f"what was found of the delegates cannot be kept ({reason}), so each run tries them anew",
                    remedy="make that folder writable, or name another with XDG_CACHE_HOME",
                )
            )
    return Report(
        machine=_machine_facts(),
        libraries=_libraries(),
        interpreter=interpreter,
        threads=default_threads(),
        bundle=None if bundle is None else bundle.manifest.name,
        golden=golden,
        answers=() if bundle is None else describe(bundle.manifest.acceptance, bundle.manifest.decision.threshold),
        trials=trials,
        missing=tuple(missing),
    )


def render(report: Report) -> str:
    """The report as text."""
    lines = ["machine"]
    lines += [f"  {name:<14} {value}" for name, value in report.machine.items()]
    lines.append("libraries")
    lines += [f"  {name:<26} {version or '-'}" for name, version in report.libraries.items()]
    used = report.interpreter or "NONE"
    lines += ["screening", f"  interpreter    {used}, {report.threads} threads"]
    if report.golden is not None:
        lines.append(f"  {report.bundle}: {report.golden[0]} of {report.golden[1]} golden pictures right on the CPU")
    lines += [f"  {report.bundle}: {line}" for line in report.answers]
    lines.append("delegates")
    if not report.trials:
        lines.append("  none tried: name a bundle (edge doctor BUNDLE)")
    for trial in report.trials:
        lines.append(f"  {'admitted' if trial.admitted else 'refused '}  {trial.delegate}  ({trial.when})")
        lines += [f"            on {trial.adapter}"] * bool(trial.adapter)
        lines.append(f"            {trial.reason}")
    lines.append("missing" if report.missing else "missing: nothing")
    for item in report.missing:
        lines += [f"  {item.fact}", f"    -> {item.remedy}"]
    return "\n".join(lines)


def _choices(bundle: Bundle, delegates: Sequence[str], rules: TrialRules) -> list[Choice]:
    requests = [parse_request(text) for text in ("gpu", *delegates)]
    # The GPU with another option is another request, and replaces the plain one.
    named = {request.kind for request in requests[1:]}
    wanted = requests[1:] if named & {"gpu", "auto"} else requests
    choices = []
    # No Screener: that one refuses to work with an interpreter whose numbers are not the promised ones.
    network = Network.of(bundle)
    for request in wanted:
        if request.kind == CPU:
            continue
        chosen = choose(request, bundle, bundle.manifest.main_model, network, near=lambda *_: False, rules=rules)
        if chosen.guard is not None:
            chosen.guard.close()
        choices.append(chosen)
    return choices


def _machine_facts() -> dict[str, str]:
    memory, heat = machine.memory_mb(), read_thermal()
    return {
        "board": machine.board_model() or "not told",
        **machine.system_facts(),
        "processor": machine.cpu_model(),
        "features": _features(),
        "memory": "not told" if memory is None else f"{memory[0]} MB, {memory[1]} MB free to use",
        "temperature": "not told" if heat.hottest is None else f"{heat.hottest:.1f} C",
        "held back by": "not told" if heat.limits is None else ", ".join(heat.limits) or "nothing",
    }


def _features() -> str:
    """Those that decide what runs and how fast: the GPU library's needs, and the dot products of int8."""
    gpu = importlib.import_module(DELEGATES["gpu"]).NEEDED_FEATURES.get(machine.machine_kind(), set())
    faster = {"asimddp", "i8mm", "sve", "avx2", "avx512_vnni", "avx_vnni", "neon", "asimd"}
    return " ".join(sorted(machine.cpu_features() & (gpu | faster))) or "not told"


def _libraries() -> dict[str, str | None]:
    found: dict[str, str | None] = {"edge-screen": __version__, "numpy": np.__version__, "opencv": cv2.__version__}
    found |= {name: version_of(name) for name in INTERPRETERS}
    vulkan = ctypes.util.find_library("vulkan") if sys.platform == "linux" else None
    return {**found, "Vulkan loader": vulkan}


def _missing_here() -> list[Missing]:
    missing = []
    version = version_of("ai-edge-litert")
    wheels = machine.machine_kind() in ("x86_64", "aarch64")
    libc = tuple(int(part) for part in re.findall(r"\d+", platform.libc_ver()[1])[:2])
    if wheels and (version is None or version < "2.3"):
        old = bool(libc) and libc < GLIBC_OF_LITERT_2_3
        missing.append(
            Missing(
                fact=f"ai-edge-litert is {version or 'not installed'}: the fast CPU engine is 2.3",
                remedy="this system's C library is too old for it; 1.4 runs: pip install 'ai-edge-litert==1.4.0'"
                if old
                else "pip install 'ai-edge-litert>=2.3,<3'",
            )
        )
    if version_of("tflite-runtime") and int(np.__version__.split(".")[0]) >= 2:
        missing.append(Missing(fact="tflite-runtime cannot work with numpy 2", remedy="pip install 'numpy<2'"))
    refused = importlib.import_module(DELEGATES["gpu"]).lacking_instructions()
    if refused:
        missing.append(Missing(fact=refused, remedy="nothing to install: the CPU screens"))
    elif sys.platform == "linux" and not (ctypes.util.find_library("vulkan") and machine.has_vulkan_driver()):
        missing.append(
            Missing(
                fact="there is no Vulkan driver, which the GPU delegate needs",
                remedy="with a GPU, install its driver (Debian: libvulkan1 mesa-vulkan-drivers); the CPU needs none",
            )
        )
    memory, heat = machine.memory_mb(), read_thermal()
    if memory is not None and memory[1] < LITTLE_MEMORY_MB:
        missing.append(Missing(fact=f"only {memory[1]} MB of memory are free", remedy="close other programs"))
    if heat.hottest is not None and heat.hottest >= HOT_C:
        missing.append(Missing(fact=f"the processor is at {heat.hottest:.0f} C", remedy="give it air or a heat sink"))
    if heat.limits:
        missing.append(
            Missing(fact=f"it is held back: {', '.join(heat.limits)}", remedy="better power supply, cooling")
        )
    return missing
