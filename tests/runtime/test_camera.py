"""The camera loop on real video files, real streams from a process of their own, and the real interpreter."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import table_delegate
from conftest import EDGE, TinyBuild, edge
from numpy.typing import NDArray

from edge.bundle import read_bundle
from edge.errors import CameraError, PictureError
from edge_runtime.camera import Frame, Wanted, open_source, parse_camera
from edge_runtime.camera.grabber import Back, Grabber, Limits, Lost
from edge_runtime.camera.keep import NOT_KEPT, Keeper
from edge_runtime.camera.newest import Newest
from edge_runtime.camera.opencv import to_rgb
from edge_runtime.camera.watch import Changes, Seen, Tally, watch
from edge_runtime.camera.window import Window
from edge_runtime.delegates.choose import TrialRules
from edge_runtime.pipeline import Screener, Screening
from edge_runtime.watch_output import Output

LOSSLESS = "FFV1"
LOSSY = "MJPG"
SERVER = Path(__file__).with_name("mjpeg_server.py")


def write_video(path: Path, frames: list[NDArray[np.uint8]], *, fps: float = 30, codec: str = LOSSLESS) -> Path:
    """A video file from RGB frames, by OpenCV's own writer, which takes BGR."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def numbered(count: int) -> list[NDArray[np.uint8]]:
    """Frames whose brightness is their number, from 1."""
    return [np.full((64, 64, 3), number, np.uint8) for number in range(1, count + 1)]


@pytest.fixture(scope="module")
def screener(tiny_build: TinyBuild) -> Screener:
    return Screener.open(tiny_build.bundle, threads=1)


@pytest.fixture(scope="module")
def referred(screener: Screener, pictures: list[Path]) -> Path:
    """A picture that the briefly trained network refers."""
    return next(path for path in pictures if screener.screen_file(path).verdict.decision == "refer")


@pytest.fixture(scope="module")
def cleared(screener: Screener, pictures: list[Path]) -> Path:
    """One that it clears."""
    return next(path for path in pictures if screener.screen_file(path).verdict.decision == "clear")


def rgb(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)


def as_png(path: Path, folder: Path) -> Path:
    """The picture with every pixel as a frame has it: the JPEG itself is scaled while it is decoded."""
    png = folder / f"{path.stem}.png"
    assert cv2.imwrite(str(png), cv2.imread(str(path)))
    return png


def first_seen(screener: Screener, camera: str) -> Seen:
    grabber = Grabber(parse_camera(camera))
    try:
        seen = next(watch(screener, grabber, name="test", stop=lambda: False))
    finally:
        grabber.close()
    assert isinstance(seen, Seen)
    return seen


# Colour: OpenCV gives blue first, the network takes red first.


def test_a_lossless_video_of_a_picture_gives_the_picture_s_own_input_and_verdict(
    screener: Screener, referred: Path, tmp_path: Path
) -> None:
    picture = screener.screen_file(as_png(referred, tmp_path))
    seen = first_seen(screener, str(write_video(tmp_path / "x.avi", [rgb(referred)] * 3)))
    assert isinstance(seen.result, Screening)
    assert seen.result.tensor.tobytes() == picture.tensor.tobytes()
    assert seen.result.verdict.probabilities == picture.verdict.probabilities
    # The tile is no grey one: with red and blue exchanged this test would fail.
    assert np.abs(picture.tensor.astype(int) - picture.tensor[..., ::-1]).mean() > 3


def test_a_camera_s_motion_jpeg_keeps_red_red(screener: Screener, referred: Path, tmp_path: Path) -> None:
    tensor = screener.screen_file(referred).tensor.astype(int)
    seen = first_seen(screener, str(write_video(tmp_path / "x.avi", [rgb(referred)] * 3, codec=LOSSY)))
    assert isinstance(seen.result, Screening)
    off = np.abs(seen.result.tensor - tensor).mean()
    assert off < 5
    assert off < np.abs(seen.result.tensor - tensor[..., ::-1]).mean() / 3


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (np.full((4, 6, 3), (10, 20, 200), np.uint8), (200, 20, 10)),
        (np.full((4, 6, 4), (10, 20, 200, 7), np.uint8), (200, 20, 10)),
        (np.full((4, 6), 90, np.uint8), (90, 90, 90)),
        (np.full((4, 6, 1), 90, np.uint8), (90, 90, 90)),
    ],
    ids=["bgr", "bgra", "grey", "grey-with-an-axis"],
)
def test_every_kind_of_frame_becomes_rgb(frame: NDArray[np.uint8], expected: tuple[int, int, int]) -> None:
    turned = to_rgb(frame)
    assert turned.shape == (4, 6, 3)
    assert turned[2, 3].tolist() == list(expected)
    assert not np.shares_memory(turned, frame)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 6, 2), np.uint8), np.zeros((4, 6), np.uint16), np.zeros((0, 0, 3), np.uint8)],
    ids=["yuyv", "16-bit", "empty"],
)
def test_raw_frames_are_refused(frame: NDArray[np.generic]) -> None:
    with pytest.raises(CameraError, match="the camera gives frames of uint"):
        to_rgb(frame)


# The newest frame first.


def test_the_box_holds_the_newest_and_news_go_first() -> None:
    box: Newest[int, str] = Newest()
    for number in range(1000):
        box.put(number)
    box.tell("news")
    assert [box.take(0), box.take(0), box.take(0)] == ["news", 999, None]
    box.put(1)
    box.tell("lost", clear=True)
    assert [box.take(0), box.take(0)] == ["lost", None]
    box.put(2)
    box.close()
    assert not box.done
    assert [box.take(5), box.take(5), box.done] == [2, None, True]


def test_a_slow_screener_gets_the_newest_frame_and_the_rest_are_counted(tmp_path: Path) -> None:
    count, fps = 120, 200
    grabber = Grabber(parse_camera(str(write_video(tmp_path / "x.avi", numbered(count), fps=fps))))
    taken = []
    while not grabber.ended:
        before = grabber.given
        found = grabber.take(1)
        if isinstance(found, Frame):
            taken.append(found.number)
            assert int(found.pixels[0, 0, 0]) == found.number
            assert found.number >= before
            time.sleep(0.05)
    assert grabber.close()
    assert taken == sorted(set(taken))
    assert taken[-1] == count
    assert len(taken) < count / 2


def test_every_frame_of_a_file_can_be_asked_for(tmp_path: Path) -> None:
    grabber = Grabber(parse_camera(str(write_video(tmp_path / "x.avi", numbered(40), fps=5))), every_frame=True)
    taken = []
    while not grabber.ended:
        if isinstance(found := grabber.take(1), Frame):
            taken.append(int(found.pixels[0, 0, 0]))
            time.sleep(0.005)
    assert taken == list(range(1, 41))
    assert grabber.note == ""


def test_a_file_plays_at_its_own_pace_and_again_where_asked(tmp_path: Path) -> None:
    video = write_video(tmp_path / "x.avi", numbered(5), fps=50)
    grabber = Grabber(parse_camera(str(video), repeat=True))
    began = time.monotonic()
    frames = [found for found in (grabber.take(1) for _ in range(25)) if isinstance(found, Frame)]
    assert time.monotonic() - began > 0.4
    assert frames[-1].number >= 25
    assert {int(frame.pixels[0, 0, 0]) for frame in frames} <= {1, 2, 3, 4, 5}
    assert grabber.close()


def test_a_video_that_is_cut_short_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    video = write_video(tmp_path / "x.avi", [noise] * 40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    grabber = Grabber(parse_camera(str(video)), every_frame=True)
    given = 0
    while not grabber.ended:
        given += isinstance(grabber.take(1), Frame)
    assert grabber.note == f"it says that it holds 40 frames; {given} could be read"


@pytest.mark.parametrize(
    ("says", "given", "told"), [(36, 34, False), (36, 33, True), (900, 891, False), (900, 890, True)]
)
def test_a_length_that_is_only_an_estimate_is_borne(says: int, given: int, told: bool) -> None:
    class Estimated:
        interval_s = 0.001
        says_it_holds = says
        left = iter(numbered(1) * given)

        def read(self) -> NDArray[np.uint8] | None:
            return next(self.left, None)

        def close(self) -> None:
            pass

    grabber = Grabber(Wanted(text="x", kind="file"), every_frame=True, opener=lambda _: Estimated())
    while not grabber.ended:
        grabber.take(1)
    assert (grabber.note != "") is told


def test_a_video_that_is_cut_short_ends_with_status_1_and_one_that_is_left_early_does_not(
    tiny_build: TinyBuild, referred: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "x.avi", [rgb(referred)] * 36)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 4])
    done = edge("watch", tiny_build.bundle, "--camera", video, "--every-frame", "--json", "--print", "all")
    given = len(done.stdout.splitlines())
    assert 0 < given < 20
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        f"error: {video}: it says that it holds 36 frames; {given} could be read",
        "remedy: copy or record it again; the verdicts that were given stand",
    ]
    assert f"{given} frames screened" in done.stderr
    left = edge("watch", tiny_build.bundle, "--camera", video, "--every-frame", "--frames", "2")
    assert (left.returncode, "could be read" in left.stderr) == (0, False)


# Cameras that are not there, and those that go away.


@pytest.mark.parametrize(
    ("text", "kind", "shown"),
    [
        ("0", "device", "camera 0"),
        ("/dev/video2", "device", "/dev/video2"),
        ("http://user:secret@10.0.0.7:8080/stream.mjpg?key=secret", "url", "http://10.0.0.7:8080/stream.mjpg"),
        ("rtsp://10.0.0.7/1", "url", "rtsp://10.0.0.7/1"),
        ("HTTP://10.0.0.7/Stream", "url", "http://10.0.0.7/Stream"),
        ("Rtsp://10.0.0.7/1", "url", "rtsp://10.0.0.7/1"),
        ("picamera2", "picamera2", "picamera2"),
        ("picamera2:1", "picamera2", "picamera2:1"),
        ("slide.avi", "file", "slide.avi"),
    ],
    ids=lambda value: value,
)
def test_a_camera_s_kind_and_its_name_without_secrets(text: str, kind: str, shown: str) -> None:
    wanted = parse_camera(text)
    assert (wanted.kind, wanted.shown) == (kind, shown)


def test_what_is_no_video_is_a_sentence(tmp_path: Path, pictures: list[Path]) -> None:
    (tmp_path / "text.avi").write_text("not a video\n" * 100)
    (tmp_path / "empty.avi").touch()
    (tmp_path / "folder.avi").mkdir()
    os.mkfifo(tmp_path / "pipe.avi")
    expected = {
        str(tmp_path / "none.avi"): "there is no video",
        str(tmp_path / "text.avi"): "is no video that OpenCV can read",
        str(tmp_path / "empty.avi"): "is no video that OpenCV can read",
        str(tmp_path / "folder.avi"): "is a folder",
        str(tmp_path / "pipe.avi"): "is a pipe or a socket",
        str(pictures[0]): "is a picture",
        "99": "/dev/video99 is not there; ",
        "/dev/null": "/dev/null cannot be opened as a camera; ",
        "http://127.0.0.1:1/x": "http://127.0.0.1:1/x gives no video",
    }
    for text, words in expected.items():
        with pytest.raises(CameraError, match=words):
            open_source(parse_camera(text))


def test_a_camera_that_is_not_there_ends_the_command_in_two_lines_or_is_waited_for(tiny_build: TinyBuild) -> None:
    done = edge("watch", tiny_build.bundle, "--camera", "99")
    assert (done.returncode, done.stdout) == (1, "")
    fact, remedy = done.stderr.splitlines()[-2:]
    assert fact.startswith("error: /dev/video99 is not there; ")
    assert remedy == "remedy: plug the camera in (--wait waits for it), or name another with --camera"
    waited = edge("watch", tiny_build.bundle, "--camera", "99", "--wait", "--seconds", "0.8")
    assert waited.returncode == 1
    assert waited.stdout.count("error") == 1
    assert "error: no frame of camera 99 was screened\n" in waited.stderr


def test_no_camera_at_all_is_one_sentence(tiny_build: TinyBuild) -> None:
    done = edge("watch", tiny_build.bundle, "--camera", "")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: no camera is named",
        "remedy: give --camera a number, /dev/videoN, an address, picamera2 or a video file",
    ]


def test_the_help_says_what_is_kept() -> None:
    told = " ".join(edge("watch", "--help").stdout.split())
    assert f"the frame of each line that is not {', '.join(sorted(NOT_KEPT))} or error into" in told


class Recorded(Window):
    """A window without a screen: what it would show, in order."""

    def __init__(self) -> None:
        self.pictures: list[NDArray[np.uint8]] = []

    def show(self, picture: NDArray[np.uint8]) -> None:
        self.pictures.append(picture)


def test_the_window_never_keeps_a_verdict_above_a_frame_that_has_none(
    screener: Screener, referred: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = Recorded()
    output = Output(screener, "x", each=False, as_json=False, keeper=None, window=window)
    good, small = rgb(referred), np.full((20, 30, 3), 200, np.uint8)
    for number, pixels in enumerate((good, small, small), start=1):
        frame = Frame(pixels=pixels, number=number, grabbed_s=0)
        result: Screening | PictureError
        try:
            result = screener.screen_frame(pixels, name="x", explain=True)
        except PictureError as error:
            result = error
        output.show(Seen(frame=frame, result=result, age_ms=1, dropped=0, at_s=number))
    verdict, first, second = window.pictures
    assert verdict.mean() > 60
    # Twenty rows, enlarged, and a caption below them.
    assert first.shape[0] > 20 * 16
    assert first[: 20 * 16].max() == 200 // 6
    assert first.min() < 30 < 200 < first[20 * 16 :].max()
    assert np.array_equal(first, second)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["refer", "error"]


def test_a_window_is_refused_where_opencv_has_none(tiny_build: TinyBuild) -> None:
    done = edge("watch", tiny_build.bundle, "--camera", "99", "--window")
    assert done.returncode == 1
    assert "error: this OpenCV has no windows" in done.stderr


class PipeCamera:
    """Gives a frame for each byte that comes through a pipe, and hangs in the system where none comes."""

    interval_s = None
    says_it_holds = 0

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def read(self) -> NDArray[np.uint8] | None:
        byte = os.read(self._pipe, 1)
        return np.full((64, 64, 3), byte[0], np.uint8) if byte else None

    def close(self) -> None:
        pass


@contextmanager
def pipes(count: int) -> Iterator[list[tuple[int, int]]]:
    """(read end, write end) of pipes, closed at the end so that no thread stays behind."""
    made = [os.pipe() for _ in range(count)]
    yield made
    for _, write in made:
        os.close(write)


def opener_of(made: list[tuple[int, int]]) -> Callable[[Wanted], PipeCamera]:
    ends = iter(made)
    return lambda _: PipeCamera(next(ends)[0])


QUICK = Limits(opening_s=0.5, reading_s=0.5, first_pause_s=0.05, longest_pause_s=0.2, ending_s=0.2, hung=2)


def test_a_read_that_never_returns_does_not_hang_the_loop() -> None:
    with pipes(2) as made:
        (_, first), (_, second) = made
        os.write(first, b"\x01")
        os.write(second, b"\x02\x03")
        grabber = Grabber(Wanted(text="0", kind="device"), limits=QUICK, opener=opener_of(made))
        found = [item for item in (grabber.take(2) for _ in range(4)) if item is not None]
        assert [type(item) for item in found[:3]] == [Frame, Lost, Back]
        assert isinstance(found[1], Lost)
        assert found[1].error.message == "camera 0 does not answer"
        assert isinstance(found[3], Frame)
        assert found[3].pixels[0, 0, 0] in (2, 3)
        # What the first thread would give now does not count any more.
        os.write(first, b"\x63")
        assert not any(isinstance(item, Frame) and item.pixels[0, 0, 0] == 0x63 for item in [grabber.take(0.1)])
        assert not grabber.close()


def test_a_library_that_hangs_again_and_again_ends_the_loop() -> None:
    with pipes(6) as made:
        os.write(made[0][1], b"\x01")
        grabber = Grabber(Wanted(text="0", kind="device"), limits=QUICK, opener=opener_of(made))
        assert isinstance(grabber.take(1), Frame)
        assert isinstance(grabber.take(1), Lost)
        before = threading.active_count()
        with pytest.raises(CameraError, match="camera 0 does not answer"):
            grabber.take(5)
        assert threading.active_count() - before < QUICK.hung
        grabber.close()


def test_an_error_of_the_thread_reaches_the_loop() -> None:
    def broken(_: Wanted) -> PipeCamera:
        raise ZeroDivisionError

    grabber = Grabber(Wanted(text="0", kind="device"), opener=broken)
    with pytest.raises(ZeroDivisionError):
        grabber.take(2)


@contextmanager
def network_camera(port: int, picture: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, str(SERVER), str(port), "20", str(picture)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        try:
            yield server
        finally:
            server.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_stream_that_is_killed_and_started_again_is_lost_once_and_found_again(
    tiny_build: TinyBuild, referred: Path, cleared: Path
) -> None:
    port = free_port()
    words = ["watch", str(tiny_build.bundle), "--camera", f"http://127.0.0.1:{port}/x", "--json", "--threads", "1"]
    with network_camera(port, referred):
        loop = subprocess.Popen([*EDGE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert loop.stdout is not None
        first = json.loads(loop.stdout.readline())
    lost = json.loads(loop.stdout.readline())
    with network_camera(port, cleared):
        second = json.loads(loop.stdout.readline())
        loop.send_signal(signal.SIGTERM)
        rest, talk = loop.communicate(timeout=10)
    assert (first["decision"], second["decision"], rest) == ("refer", "clear", "")
    assert lost["error"] == f"http://127.0.0.1:{port}/x gives no more frames"
    assert first["camera"]["frame"] < second["camera"]["frame"]
    assert 0 < second["camera"]["age_ms"] < 5000
    assert talk.count("is tried again until it is back") == 1
    assert "is back after" in talk
    assert ", 1 reconnection\n" in talk
    assert loop.returncode == 0


def test_an_address_in_capital_letters_is_opened_as_one(referred: Path) -> None:
    port = free_port()
    with network_camera(port, referred):
        grabber = Grabber(parse_camera(f"HTTP://127.0.0.1:{port}/x"), wait=True)
        until(grabber, Frame)
        grabber.close()


def test_a_stream_that_stands_still_is_lost_and_found_again(referred: Path) -> None:
    port = free_port()
    limits = Limits(opening_s=1, reading_s=1, first_pause_s=0.1, longest_pause_s=0.1, hung=9)
    with network_camera(port, referred) as server:
        grabber = Grabber(parse_camera(f"http://127.0.0.1:{port}/x"), wait=True, limits=limits)
        until(grabber, Frame)
        server.send_signal(signal.SIGSTOP)
        until(grabber, Lost)
        server.send_signal(signal.SIGCONT)
        until(grabber, Back)
        until(grabber, Frame)
        grabber.close()


def until(grabber: Grabber, kind: type[Frame] | type[Lost] | type[Back]) -> None:
    deadline = time.monotonic() + 10
    while not isinstance(grabber.take(0.1), kind):
        assert time.monotonic() < deadline


# What is printed and kept.


def test_a_change_has_a_line_and_so_has_every_ten_seconds() -> None:
    changes = Changes(heartbeat_s=10)
    seen = [("clear", 0), ("clear", 1), ("refer", 2), ("refer", 11), ("refer", 12), ("error", 13), ("refer", 13.1)]
    assert [changes.due(*one) for one in seen] == [True, False, True, False, True, True, True]
    each = Changes(heartbeat_s=0)
    assert all(each.due("clear", at_s) for at_s in (0, 0, 0.001))


def test_frames_of_changing_size_are_each_screened_and_too_small_ones_are_an_error(screener: Screener) -> None:
    sizes = [(240, 320), (100, 100), (20, 300), (480, 640)]

    class Changing:
        interval_s = 0.001
        says_it_holds = len(sizes)
        left = iter(sizes)

        def read(self) -> NDArray[np.uint8] | None:
            size = next(self.left, None)
            return None if size is None else np.full((*size, 3), 128, np.uint8)

        def close(self) -> None:
            pass

    grabber = Grabber(Wanted(text="x", kind="file"), every_frame=True, opener=lambda _: Changing())
    tally, items = Tally(), []
    for item in watch(screener, grabber, name="x", stop=lambda: False):
        tally.add(item)
        items.append(item)
    assert [item.decision == "error" for item in items if isinstance(item, Seen)] == [False, False, True, False]
    assert (tally.screened, tally.failed, tally.dropped) == (3, 1, 0)
    assert "3 frames screened" in tally.sentence()


def test_a_delegate_that_goes_wrong_in_the_loop_is_replaced_and_no_frame_is_wrong(
    tiny_build: TinyBuild, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if table_delegate.compiler() is None:
        pytest.skip("there is no C compiler to make the test's delegate with")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle, shown = read_bundle(tiny_build.bundle), [as_png(path, tmp_path) for path in pictures[:8]]
    delegate = table_delegate.make(tmp_path, bundle, [path.read_bytes() for path in shown])
    video = write_video(tmp_path / "x.avi", [rgb(path) for path in shown])
    # Right in its trial (13 golden pictures, 30 rounds of timing) and four times more, then wrong.
    request = delegate.request("corrupt", 13 + 30 + 4)
    screener = Screener(bundle, delegate=request, rules=TrialRules(limit_s=60, min_gain=-1e3))
    grabber = Grabber(parse_camera(str(video)), every_frame=True)
    seen = [item.result for item in watch(screener, grabber, name="x", stop=lambda: False) if isinstance(item, Seen)]
    screener.close()
    cpu = Screener(bundle)
    given = [result.outputs.tolist() for result in seen if isinstance(result, Screening)]
    assert given == [cpu.screen_file(path).outputs.tolist() for path in shown]
    used = [result.verdict.delegate.used for result in seen if isinstance(result, Screening)]
    assert used[0] == "libtable.so"
    assert used[-1] == "cpu"


def test_a_kept_frame_gives_the_verdict_that_it_was_kept_for(
    tiny_build: TinyBuild, referred: Path, cleared: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "x.avi", [rgb(path) for path in (referred, cleared) * 4])
    kept, maps = tmp_path / "kept", tmp_path / "maps"
    kept.mkdir()
    (kept / "theirs.png").touch()
    words = ["--camera", video, "--every-frame", "--json", "--keep", kept, "--overlay", maps, "--keep-last", "2"]
    for _ in range(2):
        done = edge("watch", tiny_build.bundle, *words)
        assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["decision"] for record in records] == ["refer", "clear"] * 4
    last = next(record for record in reversed(records) if record["decision"] == "refer")
    again = edge("screen", tiny_build.bundle, last["kept"], "--json")
    assert json.loads(again.stdout)["probabilities"] == last["probabilities"]
    assert [path.name.partition("-")[0] for path in sorted(kept.iterdir())] == ["000007", "000008", "theirs.png"]
    assert [path.name for path in maps.iterdir() if path.name in last["overlay"]]
    assert len(list(maps.iterdir())) == 2
    assert not any("kept" in record for record in records if record["decision"] == "clear")


def test_a_full_disk_costs_the_picture_and_a_sentence_never_the_verdict(
    tiny_build: TinyBuild, referred: Path, cleared: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "x.avi", [rgb(path) for path in (referred, cleared) * 3])
    words = ["watch", tiny_build.bundle, "--camera", video, "--every-frame", "--keep", tmp_path / "kept"]
    done = subprocess.run(
        [*EDGE, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        # The system then refuses to write more into a file, as a full disk does.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["refer", "clear"] * 3
    assert done.stderr.count("frames are not kept: File too large") == 1
    assert list((tmp_path / "kept").iterdir()) == []


def test_what_a_lost_run_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "000003-refer-20260101T000000.png.0123abcd.partial").touch()
    (tmp_path / "000009-refer-20260101T000000.png").touch()
    written = Keeper({"kept": tmp_path}, most=5).keep({"kept": np.zeros((8, 8, 3), np.uint8)}, "refer")
    assert written["kept"].name.startswith("000010-refer-")
    assert len(list(tmp_path.iterdir())) == 2


def test_two_loops_that_share_a_folder_never_replace_one_another_s_frames(
    tiny_build: TinyBuild, referred: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "x.avi", [rgb(referred)] * 30)
    words = ["watch", tiny_build.bundle, "--camera", video, "--every-frame", "--json", "--print", "all"]
    # The other way round in the second loop: one name is free in both folders, or it is not taken.
    folders = [("--keep", "a", "--overlay", "b"), ("--keep", "b", "--overlay", "a")]
    loops = [
        subprocess.Popen(
            [*EDGE, *map(str, words), *keep], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for keep in folders
    ]
    talk = [loop.communicate(timeout=120) for loop in loops]
    assert [loop.returncode for loop in loops] == [0, 0], talk
    records = [json.loads(line) for out, _ in talk for line in out.splitlines()]
    for folder in ("a", "b"):
        claimed = [record[what] for record in records for what in ("kept", "overlay") if record[what][0] == folder]
        assert len(claimed) == len(set(claimed)) == 60
        assert {str(path.relative_to(tmp_path)) for path in (tmp_path / folder).iterdir()} == set(claimed)


KEEPS = """
import sys
from pathlib import Path
import numpy as np
from edge_runtime.camera.keep import Keeper
folder, shade, count, most = Path(sys.argv[1]), *map(int, sys.argv[2:])
keeper = Keeper({"kept": folder}, most=most)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(count):
    print(keeper.keep({"kept": np.full((8, 8, 3), shade, np.uint8)}, "refer")["kept"].name)
"""


@pytest.mark.parametrize("most", [1000, 5])
def test_keepers_that_race_for_names_each_get_their_own_and_the_bound_holds(tmp_path: Path, most: int) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", KEEPS, str(tmp_path), str(shade), "100", str(most)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for shade in (50, 200)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    names = {shade: racer.communicate(timeout=60)[0].split() for shade, racer in zip((50, 200), racers, strict=True)}
    assert [racer.returncode for racer in racers] == [0, 0]
    assert [len(given) for given in names.values()] == [100, 100]
    assert not set(names[50]) & set(names[200])
    left = list(tmp_path.iterdir())
    assert len(left) == min(200, most)
    shade_of = {name: shade for shade, given in names.items() for name in given}
    assert all((rgb(path) == shade_of[path.name]).all() for path in left)


def test_a_loop_that_begins_while_another_writes_costs_no_frame(tmp_path: Path) -> None:
    keeper, began = Keeper({"kept": tmp_path}, most=1000), threading.Event()
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3)).astype(np.uint8)

    def begin_beside_one_that_writes() -> None:
        while not list(tmp_path.glob("*.partial")):
            pass
        Keeper({"kept": tmp_path}, most=1000)
        began.set()

    beginner = threading.Thread(target=begin_beside_one_that_writes, daemon=True)
    beginner.start()
    written: list[Path] = []
    while not began.is_set() and len(written) < 200:
        written.append(keeper.keep({"kept": noise}, "refer")["kept"])
    assert began.is_set()
    assert sorted(tmp_path.iterdir()) == written


def test_nobody_reading_the_verdicts_ends_the_loop(tiny_build: TinyBuild, referred: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "x.avi", [rgb(referred)] * 5, fps=50)
    words = ["watch", str(tiny_build.bundle), "--camera", str(video), "--repeat", "--print", "all"]
    loop = subprocess.Popen([*EDGE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert loop.stdout is not None
    assert loop.stdout.readline().startswith("refer ")
    loop.stdout.close()
    assert loop.stderr is not None
    talk = loop.stderr.read()
    assert loop.wait(10) == 1
    assert "error: nobody reads the lines any more: standard output was closed\n" in talk
    assert "Exception" not in talk


def test_ctrl_c_ends_it_with_a_summary(tiny_build: TinyBuild, referred: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "x.avi", [rgb(referred)] * 5)
    words = ["watch", str(tiny_build.bundle), "--camera", str(video), "--repeat", "--print", "all"]
    loop = subprocess.Popen([*EDGE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert loop.stdout is not None
    assert all(loop.stdout.readline().startswith("refer ") for _ in range(3))
    loop.send_signal(signal.SIGINT)
    _, talk = loop.communicate(timeout=10)
    assert loop.returncode == 0
    assert "frames screened in" in talk
    assert "median" in talk
