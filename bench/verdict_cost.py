"""What the runtime adds to the bare libraries: one verdict, a cold start, and instructions on emulated boards.

Usage: python bench/verdict_cost.py BUNDLE PICTURE... [--rounds 400] [--starts 20] [--boards pi4,pi5]
One verdict is decode to decision, no heat map, on one thread; its rival is OpenCV's decode and resize and the bare
`invoke` of the same int8 file, by hand. They run in turns in one process. A cold start is a process from its beginning
to its first verdict against HAND below, in turns. Instructions need `make device-test` before.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What an expert would write by hand, and no more: no seal, no threshold, no orientation, no damaged picture.
HAND = """
import sys
import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
runner = interpreter.get_signature_runner()
picture = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
side = interpreter.get_input_details()[0]["shape"][1]
print(runner(picture=cv2.resize(picture, (side, side))[np.newaxis])["probabilities"])
"""
EDGE = "from edge.cli import main; main()"
LIBRARY = """
import sys
from pathlib import Path
from edge_runtime.pipeline import Screener
print(Screener.open(Path(sys.argv[1]), threads=1).screen_file(Path(sys.argv[2])).verdict.decision)
"""
MARK = 0x51454D55


def cold_starts(bundle: Path, picture: Path, model: Path, starts: int) -> dict[str, list[tuple[float, float]]]:
    """CPU seconds and peak megabytes (10^6 bytes) of whole processes: `edge`, its library, by `hand`; in turns."""
    words = {
        "edge": [sys.executable, "-c", EDGE, "screen", str(bundle), str(picture), "--threads", "1"],
        "library": [sys.executable, "-c", LIBRARY, str(bundle), str(picture)],
        "hand": [sys.executable, "-c", HAND, str(model), str(picture)],
    }
    # An installed package is compiled; where this is set, every start compiles its sources anew.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in words}
    for number in range(starts + 2):
        for name in sorted(words, reverse=bool(number % 2)):
            child = subprocess.Popen(words[name], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            assert status == 0, name
            if number >= 2:  # the first two read the disk
                found[name].append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6))
    return found


def contestants(bundle: Path, data: bytes) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    """The whole verdict, the same by hand (decode, resize, invoke), and `invoke` alone; one thread, ready to run."""
    import cv2
    import numpy as np

    from edge.bundle import read_bundle
    from edge_runtime.interpreter import find_interpreter
    from edge_runtime.pipeline import Screener

    opened = read_bundle(bundle)
    screener = Screener(opened, threads=1)
    side = opened.manifest.preprocessing.side_px
    bare = find_interpreter()[1](model_content=opened.model("int8")[1], num_threads=1)
    bare.allocate_tensors()
    index = bare.get_input_details()[0]["index"]

    def by_hand() -> None:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        bare.set_tensor(index, cv2.resize(picture, (side, side))[np.newaxis])
        bare.invoke()

    by_hand()
    return (lambda: screener.screen(data, name="picture")), by_hand, bare.invoke


def in_turns(bundle: Path, data: bytes, rounds: int) -> tuple[list[float], list[float]]:
    """CPU milliseconds round by round: of the verdict, and of the same by hand."""
    verdict, by_hand, _ = contestants(bundle, data)
    times: dict[str, list[float]] = {"verdict": [], "hand": []}
    runs = {"verdict": verdict, "hand": by_hand}
    for number in range(rounds + 20):
        for name in sorted(runs, reverse=bool(number % 2)):
            # Processor time, not the clock's: other programs on the machine are not what is measured.
            start = time.process_time()
            runs[name]()
            times[name].append(1e3 * (time.process_time() - start))
    return times["verdict"][20:], times["hand"][20:]


def count_here(bundle: Path, data: bytes) -> None:
    """On an emulated board: mark the beginning and the end of each contestant's second run."""
    prctl = ctypes.CDLL(None).prctl
    for number, run in enumerate(contestants(bundle, data)):
        run()
        prctl(MARK, 2 * number, 0, 0, 0)
        run()
        prctl(MARK, 2 * number + 1, 0, 0, 0)


def counts(bundle: Path, picture: Path, board: str) -> list[float]:
    """Millions of instructions of one verdict, of the same by hand, and of one invoke, on a board."""
    words = [ROOT / "tests/device/count", board, __file__, bundle, picture, "--count-here"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    marks = {
        int(fields[1]): int(fields[3])
        for fields in (line.split() for line in done.stderr.splitlines() if line.startswith("ICOUNT "))
        if fields[1].isdigit()
    }
    return [(marks[2 * number + 1] - marks[2 * number]) / 1e6 for number in range(3)]


def report_cold_start(bundle: Path, picture: Path, starts: int) -> None:
    """Print the cold start's ratios."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(bundle) as archive:
        found = cold_starts(bundle, picture, Path(archive.extract("model.int8.tflite", folder)), starts)
    medians = {name: [statistics.median(values) for values in zip(*found[name], strict=True)] for name in found}
    hand_s, hand_mb = medians["hand"]
    print(
        f"cold start, medians of {starts} processes each in turns, against {hand_s:.3f} s CPU, {hand_mb:.0f} MB by hand"
    )
    for name in ("edge", "library"):
        cpu_s, peak_mb = medians[name]
        print(
            f"  {name} {cpu_s:.3f} s, {peak_mb:.0f} MB; ratio {cpu_s / hand_s:.3f} CPU, {peak_mb / hand_mb:.3f} memory"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--boards", default="")
    parser.add_argument("--count-here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count_here:
        count_here(options.bundle, options.pictures[0].read_bytes())
        return
    # First, while this process is still small: a child's peak memory begins with its parent's.
    if options.starts:
        report_cold_start(options.bundle, options.pictures[0], options.starts)
    for picture in options.pictures:
        verdict, hand = in_turns(options.bundle, picture.read_bytes(), options.rounds)
        ours, theirs = statistics.median(verdict), statistics.median(hand)
        print(f"{picture.name}, medians of {options.rounds} rounds: verdict {ours:.3f} ms CPU, by hand {theirs:.3f}")
        ratios = [one / other for one, other in zip(verdict, hand, strict=True)]
        print(f"  ratio of medians {ours / theirs:.3f}, median of ratios {statistics.median(ratios):.3f}")
    for board in filter(None, options.boards.split(",")):
        for picture in options.pictures:
            verdict, hand, invoke = counts(options.bundle.resolve(), picture.resolve(), board)
            print(
                f"{board}, {picture.name}: verdict {verdict:.2f} million instructions, by hand {hand:.2f}, "
                f"invoke {invoke:.2f}; ratio {verdict / hand:.3f}"
            )


if __name__ == "__main__":
    main()
