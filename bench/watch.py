"""The camera loop for minutes on end: does its memory stay flat, is the frame it shows new, does it keep its pace?

Usage: python bench/watch.py BUNDLE [PICTURE...] [--minutes 10] [--fps 30] [--codec MJPG] [--size 640x480] [--out FILE]
Makes a video of the pictures (default: the shipped calibration tiles), and lets `edge watch --repeat --threads 1
--print all --json` play it at that rate. Beside it: the time of one `screen_frame` on the same frames with nothing else
going on. At a rate above what the machine screens, frames are dropped; say `--codec I420` then, which costs next to
nothing to decode, as a fast camera's own frames do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
EDGE = [sys.executable, "-c", "from edge.cli import main; main()"]
WARM_UP_S = 60
SAMPLE_S = 5
HELD_FRAMES = 15
# glibc's own behaviour, as on a device: the Makefile's settings for TensorFlow would hide growth.
SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")
PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


def make_video(path: Path, pictures: list[Path], codec: str, fps: float, size: tuple[int, int]) -> None:
    """Each picture fills the frame's middle for a while."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
    for picture in pictures:
        frame = np.zeros((size[1], size[0], 3), np.uint8)
        side, left = size[1], (size[0] - size[1]) // 2
        frame[:, left : left + side] = cv2.resize(cv2.imread(str(picture)), (side, side), interpolation=cv2.INTER_CUBIC)
        for _ in range(HELD_FRAMES):
            writer.write(frame)
    writer.release()


def own_ms(bundle: Path, video: Path) -> tuple[float, float]:
    """Median and 95th percentile of one `screen_frame` on the video's frames, one thread, nothing else."""
    from edge_runtime.camera.opencv import to_rgb
    from edge_runtime.pipeline import Screener

    screener = Screener.open(bundle, threads=1)
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    frames = [to_rgb(capture.read()[1]) for _ in range(150)]
    times = []
    for number in range(900):
        start = time.perf_counter()
        screener.screen_frame(frames[number % len(frames)], name="x")
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[150:]), float(np.percentile(times[150:], 95))


def run(bundle: Path, video: Path, seconds: float) -> tuple[list[dict[str, Any]], list[tuple[float, float]], str]:
    """The loop's records, its memory as (seconds, MB), and what it said at the end."""
    words = ["watch", bundle, "--camera", video, "--repeat", "--threads", "1", "--print", "all", "--json"]
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    command = [*EDGE, *map(str, words), "--seconds", str(seconds)]
    memory: list[tuple[float, float]] = []
    records = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        begun = time.monotonic()
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(SAMPLE_S):
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                memory.append((time.monotonic() - begun, pages * PAGE_KB / 1024))

        sampler = threading.Thread(target=sample)
        sampler.start()
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            record = json.loads(line)
            records.append({**record["camera"], "at_s": time.monotonic() - begun})
        ended.set()
        sampler.join()
        said = process.stderr.read()
    return records, memory, said


def judge(
    records: list[dict[str, Any]], memory: list[tuple[float, float]], own: tuple[float, float], fps: float
) -> dict[str, Any]:
    """The run in numbers."""
    steady = [(at, mb) for at, mb in memory if at > WARM_UP_S] or memory
    at_s, mb = (np.array(values) for values in zip(*steady, strict=True))
    ages = np.array([record["age_ms"] for record in records])
    expected = 1e3 / fps + own[1]
    rate = (len(records) - 1) / (records[-1]["at_s"] - records[0]["at_s"])
    return {
        "fps": fps,
        "verdicts": len(records),
        "seconds": records[-1]["at_s"],
        "dropped": sum(record["dropped"] for record in records),
        "camera_frames_a_second": (records[-1]["frame"] - 1) / (records[-1]["at_s"] - records[0]["at_s"]),
        "verdicts_a_second": rate,
        "own_ms": {"median": own[0], "p95": own[1]},
        "pace_of_possible": rate / min(fps, 1e3 / own[0]),
        "age_ms": {
            "median": float(np.median(ages)),
            "p95": float(np.percentile(ages, 95)),
            "p99": float(np.percentile(ages, 99)),
            "max": float(ages.max()),
        },
        "share_older_than_interval_and_screening": float((ages > expected).mean()),
        "interval_and_screening_ms": expected,
        "memory_mb": {
            "samples": len(steady),
            "first": float(mb[0]),
            "last": float(mb[-1]),
            "max_less_min": float(mb.max() - mb.min()),
            "slope_kb_a_minute": float(np.polyfit(at_s, mb, 1)[0] * 60 * 1024) if len(mb) > 2 else None,
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path, nargs="*")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--codec", default="MJPG")
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    pictures = options.pictures or sorted((ROOT / "calibration_data/images").glob("*.jpg"))[:20]
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.avi"
        make_video(video, pictures, options.codec, options.fps, (width, height))
        own = own_ms(options.bundle, video)
        records, memory, said = run(options.bundle, video, 60 * options.minutes)
    result = {**judge(records, memory, own, options.fps), "said": said.strip()}
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps({**result, "memory": memory}))


if __name__ == "__main__":
    main()
