"""How hot the machine is and whether it holds itself back, as far as Linux or a Raspberry Pi's firmware tells."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from edge.frozen import dataclass

ZONES = Path("/sys/class/thermal")
# What `vcgencmd get_throttled` sets for now; the same 16 bits higher means since it was started (Raspberry Pi manual).
THROTTLED = {
    0: "voltage too low",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """One moment. celsius: by zone, empty where the machine does not tell.

    limits: what holds the processor back now, and `... earlier` for what did since it was started; None where the
    machine does not tell.
    """

    celsius: dict[str, float]
    limits: tuple[str, ...] | None

    @property
    def hottest(self) -> float | None:
        """The highest temperature, in degrees Celsius; None where none is known."""
        return max(self.celsius.values(), default=None)


def read_thermal(zones: Path = ZONES) -> Thermal:
    """The machine now. zones: where Linux keeps its thermal zones."""
    celsius = {}
    for zone in sorted(zones.glob("thermal_zone*")):
        # A zone may be there and refuse to be read: a sensor that is off.
        with suppress(OSError, ValueError):
            celsius[f"{zone.name[12:]} {(zone / 'type').read_text().strip()}"] = int((zone / "temp").read_text()) / 1000
    return Thermal(celsius=celsius, limits=_limits())


def limits_of(bits: int) -> tuple[str, ...]:
    """The bits of `vcgencmd get_throttled` in words."""
    now = [words for bit, words in THROTTLED.items() if bits >> bit & 1]
    return (*now, *(f"{words} earlier" for bit, words in THROTTLED.items() if bits >> (bit + 16) & 1))


def _limits() -> tuple[str, ...] | None:
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        said = subprocess.run([command, "get_throttled"], capture_output=True, text=True, check=True, timeout=5)
        return limits_of(int(said.stdout.strip().partition("=")[2], 16))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
