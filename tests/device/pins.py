"""The locked requirements as the emulated device would read them: one machine, no markers left, hashes kept.

Usage: python tests/device/pins.py LOCK [NAME...]
pip evaluates markers for the machine it runs on, even where it downloads for another; so they are evaluated here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

DEVICE = {
    "platform_machine": "aarch64",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "python_version": "3.11",
    "python_full_version": "3.11.2",
}


def pins(lock: str, names: set[str]) -> list[str]:
    """The entries of a lock file that hold on the device: `NAME==VERSION --hash=... --hash=...`.

    names: only these; all where it is empty.
    """
    found = []
    for entry in re.sub(r"\\\n\s*", " ", lock).splitlines():
        text, *hashes = entry.split(" --hash=")
        if not text.strip() or text.startswith("#"):
            continue
        wanted = Requirement(text.strip())
        if names and wanted.name not in names:
            continue
        if wanted.marker is None or wanted.marker.evaluate(DEVICE):
            found.append(" --hash=".join([f"{wanted.name}{wanted.specifier}", *(digest.strip() for digest in hashes)]))
    return found


if __name__ == "__main__":
    print("\n".join(pins(Path(sys.argv[1]).read_text(encoding="utf-8"), set(sys.argv[2:]))))
