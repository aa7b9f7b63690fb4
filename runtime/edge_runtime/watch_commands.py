"""`edge watch`: a camera, a loop, a line for each verdict that says something new."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from edge.cli import FILE
from edge.errors import CameraError, EdgeError
from edge_runtime.commands import (
    delegate_option,
    interpreter_option,
    threads_option,
    variant_option,
)
from edge_runtime.talk import tell, warn

if TYPE_CHECKING:
    from edge_runtime.camera.keep import Keeper
    from edge_runtime.camera.window import Window
    from edge_runtime.pipeline import Screener


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--camera", "camera_text", default="0", show_default=True, metavar="N|PATH|URL|picamera2")
@click.option("--wait", is_flag=True, help="Keep trying where the camera is not there at the start.")
@click.option("--every-frame", is_flag=True, help="Of a video file: each frame, not those a camera would give in time.")
@click.option("--repeat", is_flag=True, help="A video file begins again at its end.")
@click.option(
    "--print",
    "printed",
    type=click.Choice(["changes", "all"]),
    default="changes",
    show_default=True,
    help="A line when the decision changes and every 10 s, or for each verdict.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON record a line.")
@click.option(
    "--keep",
    "keep_folder",
    type=FILE,
    help="Write the frame of each line that is not clear, retake or error into this folder.",
)
@click.option("--overlay", "overlay_folder", type=FILE, help="Likewise, with its heat map.")
@click.option("--keep-last", type=click.IntRange(1), default=200, show_default=True, help="Pictures in each folder.")
@click.option("--window", "in_window", is_flag=True, help="Show the last verdict with its picture.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after this time.")
@click.option("--frames", type=click.IntRange(1), help="Stop after so many verdicts.")
@variant_option
@threads_option
@interpreter_option
@delegate_option
def watch(
    bundle: Path,
    camera_text: str,
    wait: bool,
    every_frame: bool,
    repeat: bool,
    printed: str,
    as_json: bool,
    keep_folder: Path | None,
    overlay_folder: Path | None,
    keep_last: int,
    in_window: bool,
    seconds: float | None,
    frames: int | None,
    variant: str | None,
    threads: int | None,
    interpreter: str | None,
    delegate: str,
) -> int:
    """Screen what a camera sees with BUNDLE, the newest frame first, until Ctrl-C.

    Frames that come while one is screened are dropped and counted, never queued. A camera that goes away costs a line
    `error`, and is opened again when it is back. A video file plays at its own pace. See docs/camera.md.
    """
    from edge_runtime.camera import parse_camera
    from edge_runtime.camera.grabber import Grabber
    from edge_runtime.camera.watch import Tally
    from edge_runtime.camera.watch import watch as verdicts
    from edge_runtime.pipeline import Screener
    from edge_runtime.watch_output import Output

    wanted = parse_camera(camera_text, repeat=repeat)
    if (every_frame or repeat) and wanted.kind != "file":
        raise click.UsageError("--every-frame and --repeat are for video files")
    screener = Screener.open(bundle, variant=variant, threads=threads, interpreter=interpreter, delegate=delegate)
    keeper = _keeper(screener, keep_folder, overlay_folder, keep_last)
    window = _window() if in_window else None
    warn(screener)
    output = Output(screener, wanted.shown, each=printed == "all", as_json=as_json, keeper=keeper, window=window)
    tally, cut_short = Tally(), ""
    with _until_told() as told:
        camera = Grabber(wanted, wait=wait, every_frame=every_frame)

        def stop() -> bool:
            late = seconds is not None and time.monotonic() - tally.began_s >= seconds
            enough = frames is not None and tally.screened + tally.failed >= frames
            return told() or late or enough or (window is not None and window.is_closed())

        try:
            for item in verdicts(screener, camera, name=wanted.shown, explain=output.explains, stop=stop):
                tally.add(item)
                output.show(item)
            # Of a file that was left before its end nothing is known.
            cut_short = "" if stop() else camera.note
        finally:
            released = camera.close()
            screener.close()
            if window is not None:
                window.close()
            if told() or tally.screened or tally.failed:
                tell(f"{wanted.shown}: {tally.sentence()}")
    if cut_short:
        raise CameraError(
            f"{wanted.shown}: {cut_short}", remedy="copy or record it again; the verdicts that were given stand"
        )
    if not tally.screened and not told():
        raise CameraError(f"no frame of {wanted.shown} was screened", remedy="check the camera, or give it more time")
    if not released:
        _leave()
    return 0


def _keeper(screener: Screener, keep: Path | None, overlay: Path | None, most: int) -> Keeper | None:
    from edge_runtime.camera.keep import Keeper

    if overlay is not None and screener.manifest.saliency is None:
        raise EdgeError("this bundle's model gives no heat map", remedy="watch without --overlay")
    if keep is not None and overlay is not None and keep.resolve() == overlay.resolve():
        raise EdgeError("--keep and --overlay name the same folder", remedy="name two")
    folders = {what: folder for what, folder in (("kept", keep), ("overlay", overlay)) if folder is not None}
    return Keeper(folders, most=most) if folders else None


def _window() -> Window:
    from edge_runtime.camera.window import Window

    return Window()


@contextmanager
def _until_told() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come. The second one ends the process at once."""
    came = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def remember(number: int, _: FrameType | None) -> None:
        came.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave() -> None:
    """End the process at once, all being well: a thread that wakes up in a library while Python ends would abort it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
