"""A clock for `edge convert --clock "python tests/device/clock.py pi5"`: instructions of an inference on a board.

Standard input: a tar archive of TFLite files. Each is run twice on the emulated board, and the second run's
instructions are counted: the same whenever it is asked, however busy this machine is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CORES = {"pi4": "Cortex-A72", "pi5": "Cortex-A76"}


def main() -> None:
    """Print what `edge_runtime.timing.Costs` holds, as JSON."""
    board = sys.argv[1] if len(sys.argv) == 2 else ""
    if board not in CORES:
        sys.exit(f"usage: clock.py {'|'.join(CORES)} < ARCHIVE")
    done = subprocess.run(
        [HERE / "count", board, HERE / "count_files.py"],
        stdin=sys.stdin,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr.strip() or f"exit status {done.returncode}")
    totals = [int(total) for total in re.findall(r"^ICOUNT \d+ total (\d+)", done.stderr, re.MULTILINE)]
    costs = [after - before for before, after in zip(totals[::2], totals[1::2], strict=True)]
    machine = f"emulated Raspberry Pi {board[-1]} ({CORES[board]})"
    print(json.dumps({"machine": machine, "unit": "instructions", "costs": costs}))


if __name__ == "__main__":
    main()
