"""What this machine is, as it tells: board, processor, memory, drivers. Linux; elsewhere little."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from functools import cache
from pathlib import Path

BOARD = (
    Path("/proc/device-tree/model"),
    Path("/sys/firmware/devicetree/base/model"),
    Path("/sys/class/dmi/id/product_name"),
)
CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
JETPACK = Path("/etc/nv_tegra_release")
DRIVERS = (Path("/proc/driver/nvidia/version"), JETPACK)
VULKAN_MANIFESTS = ("/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")


def machine_kind() -> str:
    """The architecture: `x86_64`, `aarch64`, `armv7l`; Windows' and Apple's names for the same are not told apart."""
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


def board_model() -> str | None:
    """What the firmware calls this machine, e.g. `Raspberry Pi 4 Model B Rev 1.4`."""
    for path in BOARD:
        if text := _text(path).replace("\0", "").strip():
            return text
    return None


def cpu_model() -> str:
    """The processor as Linux names it; on ARM its implementer and part number."""
    fields = _cpu_fields()
    if "model name" in fields:
        return fields["model name"]
    if "CPU part" in fields:
        return f"implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    return platform.processor() or "unknown"


@cache
def cpu_features() -> frozenset[str]:
    """The instructions of the processor, in Linux's words (`asimddp`, `avx2`)."""
    fields = _cpu_fields()
    return frozenset((fields.get("Features") or fields.get("flags") or "").split())


def memory_mb() -> tuple[int, int] | None:
    """Memory of the machine and what of it is free to use, in MB (10^6 bytes)."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", _text(MEMINFO), re.MULTILINE))
    if len(found) != 2:
        return None
    return int(found["MemTotal"]) * 1024 // 10**6, int(found["MemAvailable"]) * 1024 // 10**6


def peak_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the machine does not tell.

    Not ru_maxrss: that one begins with the size of the parent process.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", _text(STATUS), re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def graphics_driver() -> str:
    """What tells one set of drivers from another: the kernel, vendors' versions, Vulkan's list, in one digest."""
    facts = [platform.release(), os.environ.get("VK_DRIVER_FILES", ""), os.environ.get("VK_ICD_FILENAMES", "")]
    facts += [_text(path) for path in DRIVERS]
    named = [Path(name) for fact in facts[1:3] for name in fact.split(":") if name]
    for path in [*named, *(file for folder in VULKAN_MANIFESTS for file in sorted(Path(folder).glob("*.json")))]:
        # Packages renew the library with its manifest: both times tell.
        facts += [str(path), _text(path), *(_stamp(library) for library in [path, *_libraries(path)])]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def has_vulkan_driver() -> bool:
    """Whether a Vulkan driver is listed where the loader looks."""
    if os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES"):
        return True
    return any(any(Path(folder).glob("*.json")) for folder in VULKAN_MANIFESTS)


def system_facts() -> dict[str, str]:
    """System, C library, Python, JetPack: the versions that packages ask for."""
    libc = " ".join(platform.libc_ver()).strip()
    release = re.search(r'^PRETTY_NAME="?([^"\n]+)', _text(Path("/etc/os-release")), re.MULTILINE)
    facts = {
        "system": release.group(1) if release else platform.system(),
        "kernel": platform.release(),
        "architecture": machine_kind(),
        "C library": libc or "unknown",
        "Python": platform.python_version(),
    }
    if jetpack := _text(JETPACK).strip():
        facts["Jetson Linux"] = jetpack.splitlines()[0].lstrip("# ")
    return facts


def _libraries(manifest: Path) -> list[Path]:
    named = re.search(r'"library_path"\s*:\s*"([^"]+)"', _text(manifest))
    return [Path(named.group(1))] if named else []


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _cpu_fields() -> dict[str, str]:
    first = _text(CPUINFO).split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
