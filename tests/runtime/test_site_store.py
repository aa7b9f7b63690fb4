"""A site's own cases: kept beside the sealed bundle, whole after a kill, and a sentence for whatever goes wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import EDGE, TinyBuild, edge

from edge.bundle import Bundle, read_bundle, write_bundle
from edge.dataset import read_dataset
from edge.errors import BundleError, PictureError, StoreError
from edge_runtime import site_store
from edge_runtime.pipeline import Screener
from edge_runtime.similar import known_cases
from edge_runtime.site_store import SiteStore, default_store

# Some of the rendered tiles are blurred on purpose.
HEALTHY = ["--label", "no_parasite", "--anyway"]


@pytest.fixture
def path(tiny_build: TinyBuild, tmp_path: Path) -> Path:
    """A bundle in a folder of one's own."""
    path = tmp_path / "tiny.edge"
    path.write_bytes(tiny_build.bundle.read_bytes())
    return path


@pytest.fixture(scope="module")
def healthy(tiny_build: TinyBuild) -> list[Path]:
    """Training pictures that the bundle too calls no_parasite."""
    samples = read_dataset(tiny_build.data).of_split("train")
    return [sample.path for sample in samples if sample.label == "no_parasite"]


@pytest.fixture(scope="module")
def unseen(tiny_build: TinyBuild) -> list[Path]:
    """Pictures that are no case of the bundle's."""
    return [sample.path for sample in read_dataset(tiny_build.data).of_split("test")]


def a_case(store: SiteStore, number: int, label: str = "parasite", channels: int = 1280) -> str:
    """Adds one; returns its id."""
    codes = np.full(channels, number % 256, np.uint8).tobytes()
    case, is_new = store.add(f"{number:064x}", codes, picture=f"{number}.jpg", label=label, note="", thumbnail=b"")
    assert is_new
    assert case.label == label
    return case.id


def test_added_cases_are_found_beside_the_bundles_and_the_bundle_is_not_touched(
    path: Path, healthy: list[Path], tmp_path: Path
) -> None:
    before = path.read_bytes()
    done = edge("reference", "add", path, *healthy[:2], *HEALTHY, "--note", "seen at 1000x")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["added", "site-1", "no_parasite"],
        ["added", "site-2", "no_parasite"],
    ]
    found = json.loads(edge("similar", path, healthy[1], "--json", "-k", "1").stdout)["neighbours"]
    # Where the picture is a training picture too, the bundle's own case comes first.
    ranked = json.loads(edge("similar", path, healthy[1], "--json", "-k", "100").stdout)["neighbours"]
    (own,) = [one for one in ranked if one["id"] == "site-2"]
    assert (own["source"], own["label"], own["distance"]) == ("site", "no_parasite", 0.0)
    assert found[0]["distance"] == 0.0
    assert "this site's" in edge("similar", path, healthy[1], "-k", "100").stdout
    listed = [json.loads(line) for line in edge("reference", "list", path, "--json").stdout.splitlines()]
    assert [case["note"] for case in listed] == ["seen at 1000x"] * 2
    assert {case["bundle_sha256"] for case in listed} == {read_bundle(path).sha256}
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tiny.edge", "tiny.edge.cases.db"]


def test_the_same_picture_twice_is_said_and_another_label_for_it_is_refused(path: Path, healthy: list[Path]) -> None:
    copy = path.parent / "copy.jpg"
    copy.write_bytes(healthy[0].read_bytes())
    edge("reference", "add", path, healthy[0], *HEALTHY)
    again = edge("reference", "add", path, copy, *HEALTHY)
    assert again.returncode == 0
    assert again.stdout.startswith("there   site-1")
    other = edge("reference", "add", path, copy, "--label", "parasite")
    assert other.returncode == 1
    assert "there already as site-1, and as no_parasite" in other.stdout
    assert len(edge("reference", "list", path).stdout.splitlines()) == 1


def test_a_label_that_is_not_known_is_refused_unless_it_is_meant(path: Path, unseen: list[Path]) -> None:
    refused = edge("reference", "add", path, unseen[0], "--label", "stain")
    assert refused.returncode == 1
    assert "'stain' is not a label of this bundle or site: no_parasite, parasite" in refused.stderr
    assert "--new-label" in refused.stderr
    assert not default_store(path).exists()
    meant = edge("reference", "add", path, unseen[0], "--label", "stain", "--new-label")
    assert meant.returncode == 0, meant.stderr
    later = edge("reference", "add", path, unseen[1], "--label", " stain ")
    assert later.returncode == 0, later.stderr
    assert later.stdout.split()[2] == "stain"


@pytest.mark.parametrize(
    ("label", "remedy"),
    [
        ("Parasite", "write parasite"),
        ("no parasite", "write no_parasite"),
        ("  ", "use no_parasite or parasite"),
        ("two\nlines", "use no_parasite or parasite"),
    ],
)
def test_a_slip_in_a_label_is_refused_also_where_a_new_one_was_announced(
    path: Path, unseen: list[Path], label: str, remedy: str
) -> None:
    done = edge("reference", "add", path, unseen[0], "--label", label, "--new-label")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"remedy: {remedy}"
    assert not default_store(path).exists()


def test_what_looks_the_same_to_the_network_cannot_have_two_labels(
    path: Path, healthy: list[Path], unseen: list[Path], bundle: Bundle
) -> None:
    """The same pixels in another file: its sha256 differs, its embedding does not."""
    # Neither is a JPEG, which is scaled while it is decoded: its pixels in another kind of file are not quite the same.
    saved, resaved = path.parent / "saved.bmp", path.parent / "resaved.png"
    for file in (saved, resaved):
        cv2.imwrite(str(file), np.asarray(cv2.imread(str(unseen[0]))))
    edge("reference", "add", path, saved, "--label", "parasite")
    done = edge("reference", "add", path, resaved, healthy[0], unseen[1], "--label", "no_parasite", "--anyway")
    refused, agreed, other = done.stdout.splitlines()
    assert done.returncode == 1
    assert "the network sees no difference to site-1, which is parasite; if that was wrong, run" in refused
    assert "`edge reference remove` for site-1 first" in refused
    assert (agreed.split()[0], other.split()[0]) == ("added", "added")
    edge("reference", "remove", path, "site-1", "site-2")
    assert edge("reference", "add", path, resaved, "--label", "no_parasite").returncode == 0
    contrary = edge("reference", "add", path, healthy[0], "--label", "parasite", "--anyway")
    assert contrary.returncode == 1
    assert "no difference to the bundle's case" in contrary.stdout
    assert "which is no_parasite; have a trained person read it again" in contrary.stdout
    assert {case.label for case in SiteStore(default_store(path), bundle).cases()} == {"no_parasite"}


def test_a_picture_that_would_not_be_answered_is_no_known_case_unless_it_is_meant(path: Path) -> None:
    flat, noise = path.parent / "flat.png", path.parent / "noise.png"
    cv2.imwrite(str(flat), np.full((200, 200, 3), 128, np.uint8))
    cv2.imwrite(str(noise), np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8))
    refused = edge("reference", "add", path, flat, noise, "--label", "parasite")
    assert refused.returncode == 1
    lines = refused.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["error", "error"]
    assert "no case to compare with (too dark, flat" in lines[0]
    assert all("add it with --anyway" in line for line in lines)
    assert not default_store(path).exists()
    meant = edge("reference", "add", path, flat, "--label", "parasite", "--anyway")
    assert meant.returncode == 0
    assert "added   site-1" in meant.stdout
    assert "take it again" in meant.stdout


def test_a_picture_that_cannot_be_read_costs_its_own_line(path: Path, healthy: list[Path]) -> None:
    broken = path.parent / "broken.jpg"
    broken.write_bytes(healthy[0].read_bytes()[:2000])
    done = edge("reference", "add", path, broken, path.parent / "none.jpg", healthy[0], *HEALTHY)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["error", "error", "added"]


@pytest.mark.parametrize("words", [[], ["--no-thumbnail"]], ids=["with", "without"])
def test_a_sheet_shows_a_sites_picture_where_one_was_kept(
    path: Path, healthy: list[Path], bundle: Bundle, words: list[str]
) -> None:
    edge("reference", "add", path, healthy[0], *HEALTHY, *words)
    site = SiteStore(default_store(path), bundle).load(thumbnails=True)
    assert site is not None
    kept = [bool(data) for data in site.thumbnails]
    assert kept == [not words]
    done = edge("similar", path, healthy[0], "--sheet", path.parent / "sheet.jpg")
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(path.parent / "sheet.jpg")) is not None


def test_cases_are_removed_all_or_none_and_an_id_is_never_given_again(bundle: Bundle, tmp_path: Path) -> None:
    store = SiteStore(tmp_path / "cases.db", bundle)
    assert [a_case(store, number) for number in range(3)] == ["site-1", "site-2", "site-3"]
    for wrong in ("site-9", "00001", "site-", "site-1 OR 1", "site-99999999999999999999"):
        with pytest.raises(StoreError, match="none was removed"):
            store.remove(["site-3", wrong])
    assert len(store.cases()) == 3
    store.remove(["site-3", "site-1"])
    assert [case.id for case in store.cases()] == ["site-2"]
    assert a_case(store, 7) == "site-4"


def test_a_new_threshold_keeps_the_cases_and_another_network_is_refused(
    bundle: Bundle, tmp_path: Path, healthy: list[Path]
) -> None:
    store = SiteStore(tmp_path / "cases.db", bundle)
    a_case(store, 1)
    decision = replace(bundle.manifest.decision, threshold=0.5)
    moved = replace(bundle, manifest=replace(bundle.manifest, decision=decision), sha256="another")
    assert len(SiteStore(store.path, moved).cases()) == 1
    preprocessing = replace(bundle.manifest.preprocessing, fit="squash")
    models = {"int8": bundle.manifest.models["int8"]}
    without = {"golden": (), "reference": None, "acceptance": None}
    other = replace(bundle.manifest, preprocessing=preprocessing, models=models, **without)
    write_bundle(tmp_path / "other.edge", other, {"model.int8.tflite": bundle.parts["model.int8.tflite"]})
    for verb in (["similar"], ["reference", "add", "--label", "parasite"]):
        done = edge(*verb, tmp_path / "other.edge", healthy[0], "--store", store.path)
        assert done.returncode == 1
        assert "were embedded by another network (of the bundle tiny)" in done.stderr
        assert "add the pictures again" in done.stderr
    # They can still be listed: how else would one know which.
    listed = edge("reference", "list", tmp_path / "other.edge", "--store", store.path)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("site-1")
    assert "were embedded by another network (of the bundle tiny)" in listed.stderr


def test_a_bundle_without_embedding_has_no_store(bundle: Bundle, tmp_path: Path) -> None:
    entry = bundle.manifest.models["int8"]
    blind = replace(entry, outputs={"probabilities": entry.outputs["probabilities"]})
    with pytest.raises(BundleError, match="gives no embedding"):
        SiteStore(tmp_path / "cases.db", replace(bundle, manifest=replace(bundle.manifest, models={"int8": blind})))


def not_ours(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.commit()


def overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:12288] = os.urandom(8192)
    path.write_bytes(data)


def with_rows(change: str) -> Callable[[Path], None]:
    """Its rows changed by a statement."""

    def changed(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"UPDATE cases SET {change}")
            connection.commit()

    return changed


def from_the_future(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda p: p.write_text("no database at all"), "is no file of known cases"),
    "a picture": (lambda p: p.write_bytes(b"\xff\xd8\xff\xe0" * 5000), "is no file of known cases"),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:5000]), "is damaged"),
    "overwritten": (overwritten, "is damaged"),
    "an embedding cut short": (with_rows("codes = x'00'"), "is damaged"),
    "a thumbnail that is none": (with_rows("thumbnail = 'words'"), "is damaged"),
    "a thumbnail that is a number": (with_rows("thumbnail = 7"), "is damaged"),
    "a label with a line feed": (with_rows("label = 'one' || char(10) || 'two'"), "is damaged"),
    "a label with an escape": (with_rows("label = char(27) || '[2J'"), "is damaged"),
    "a label of bytes": (with_rows("label = x'70'"), "is damaged"),
    "another program's": (lambda p: (p.unlink(), not_ours(p)), "is not a file of known cases"),
    "a later schema": (from_the_future, "schema of .* is 9; this version reads schema 1"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
    "a device": (lambda p: (p.unlink(), p.symlink_to("/dev/null")), "is no ordinary file"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_store_that_is_none_is_a_sentence(
    bundle: Bundle, tmp_path: Path, damage: Callable[[Path], object], words: str
) -> None:
    store = SiteStore(tmp_path / "cases.db", bundle)
    for number in range(5):
        a_case(store, number)
    damage(store.path)
    for read in (store.load, lambda: store.load(thumbnails=True), store.cases):
        # An embedding is no part of a list.
        if damage is DAMAGES["an embedding cut short"][0] and read == store.cases:
            continue
        with pytest.raises(StoreError, match=words) as caught:
            read()
        assert caught.value.remedy


def test_a_store_that_cannot_be_written_is_a_sentence(path: Path, healthy: list[Path]) -> None:
    for place in ("/proc/cases.db", path.parent / "nowhere/cases.db", path.parent):
        done = edge("reference", "add", path, healthy[0], *HEALTHY, "--store", place)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 2
        assert str(place) in done.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("place", "words", "remedy"),
    [
        ("/dev/null", "is no ordinary file", "name another with --store"),
        ("tiny.edge", "is no file of known cases", "name another with --store"),
        ("nodir/x.db", "there is no folder", "make it, or check the path in --store"),
        ("", "is a folder", "name a file with --store"),
    ],
)
def test_adding_to_what_is_no_store_says_what_it_is(
    path: Path, unseen: list[Path], place: str, words: str, remedy: str
) -> None:
    before = path.read_bytes()
    done = edge("reference", "add", path, unseen[0], "--label", "parasite", "--store", path.parent / place)
    error, last = done.stderr.splitlines()
    assert (done.returncode, done.stdout, last) == (1, "", f"remedy: {remedy}")
    assert words in error
    assert "damaged" not in error
    assert path.read_bytes() == before


def test_a_list_sends_a_terminal_nothing_that_it_would_obey(path: Path, bundle: Bundle) -> None:
    a_case(SiteStore(default_store(path), bundle), 1)
    with_rows("picture = 'a' || char(27) || '[2J.jpg', note = 'one' || char(10) || 'two'")(default_store(path))
    done = edge("reference", "list", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("a?[2J.jpg  one?two\n")
    with_rows("label = char(27) || 'c'")(default_store(path))
    for words in (["reference", "list", path], ["reference", "list", path, "--json"]):
        done = edge(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "is damaged" in done.stderr


def test_a_sheet_of_a_store_with_a_thumbnail_that_is_none_is_a_sentence(path: Path, unseen: list[Path]) -> None:
    edge("reference", "add", path, unseen[0], "--label", "parasite")
    with_rows("thumbnail = 'words'")(default_store(path))
    done = edge("similar", path, unseen[0], "--sheet", path.parent / "sheet.jpg")
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_done_is_said_where_its_line_cannot_be_printed(path: Path, unseen: list[Path], bundle: Bundle) -> None:
    def unprinted(*words: str | Path) -> list[str]:
        with Path("/dev/full").open("w") as full:
            process = subprocess.run([*EDGE, *map(str, words)], stdout=full, stderr=subprocess.PIPE, text=True)
        assert process.returncode == 1, process.stderr
        return [line for line in process.stderr.splitlines() if line.startswith(("error", "remedy", "Exc"))]

    store = SiteStore(default_store(path), bundle)
    error, remedy = unprinted("reference", "add", path, unseen[0], unseen[1], "--label", "parasite")
    assert f"{unseen[0]} was stored as site-1, but its line could not be written (No space left" in error
    assert remedy == "remedy: see `edge reference list`; the pictures after it were not added"
    assert [case.id for case in store.cases()] == ["site-1"]
    error, remedy = unprinted("reference", "remove", path, "site-1")
    assert error.startswith("error: removed site-1, but its line could not be written (No space left")
    assert remedy == "remedy: see `edge reference list`"
    assert store.cases() == []
    a_case(store, 1)
    words = ["reference", "remove", str(path), "site-2"]
    with subprocess.Popen([*EDGE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read().startswith("error: removed site-2, but nobody reads the lines any more")
    assert store.cases() == []


def test_a_store_that_was_named_and_is_not_there_is_a_sentence(path: Path, healthy: list[Path]) -> None:
    for words in (["similar", path, healthy[0]], ["reference", "list", path], ["reference", "remove", path, "site-1"]):
        done = edge(*words, "--store", path.parent / "none.db")
        assert done.returncode == 1
        assert "there is no file of known cases at" in done.stderr


def test_a_full_disk_keeps_the_cases_before(path: Path, healthy: list[Path], bundle: Bundle) -> None:
    """A limit of file size stands for the disk: to SQLite both are writes that fail."""
    edge("reference", "add", path, healthy[0], *HEALTHY)
    words = [*EDGE, "reference", "add", str(path), *map(str, healthy[1:30]), *HEALTHY]

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=little_room)
    assert done.returncode == 1
    assert "the disk did not take the case" in done.stderr
    said = len(done.stdout.splitlines())
    kept = SiteStore(default_store(path), bundle).cases()
    assert 1 + said <= len(kept) <= 2 + said < 30


READ_ONLY = """
import os, sys
from pathlib import Path
from edge.bundle import read_bundle
from edge.errors import StoreError
from edge_runtime.site_store import SiteStore
store = SiteStore(Path(sys.argv[2]), read_bundle(Path(sys.argv[1]), whole=False))
if not os.getuid():
    os.setuid(65534)  # the superuser may write everywhere
assert len(store.cases()) == len(store.load()) == 1
try:
    store.remove(["site-1"])
except StoreError as error:
    print(error.message)
"""


@pytest.mark.native
def test_a_folder_that_may_only_be_read_still_shows_its_cases(path: Path, bundle: Bundle) -> None:
    """As on a write-protected stick: SQLite could not make its helper files there."""
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        store = SiteStore(folder / "cases.db", bundle)
        a_case(store, 1)
        folder.chmod(0o555)
        words = [sys.executable, "-c", READ_ONLY, str(path), str(store.path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "cannot be opened (attempt to write a readonly database)" in done.stdout


def test_a_writer_that_does_not_end_is_a_sentence_and_readers_do_not_wait(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SiteStore(tmp_path / "cases.db", bundle)
    a_case(store, 1)
    monkeypatch.setattr(site_store, "WAIT_S", 0.2)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM cases")
        with pytest.raises(StoreError, match="another program is writing"):
            a_case(store, 2)
        assert [case.id for case in store.cases()] == ["site-1"]
        other.execute("ROLLBACK")
    assert a_case(store, 2) == "site-2"


def test_two_processes_at_once_add_every_picture_once(path: Path, healthy: list[Path], bundle: Bundle) -> None:
    processes = [
        subprocess.Popen(
            [*EDGE, "reference", "add", str(path), *map(str, part), *HEALTHY],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for part in (healthy[:40], healthy[20:56], list(reversed(healthy[:56])))
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    cases = SiteStore(default_store(path), bundle).cases()
    assert len({case.picture_sha256 for case in cases}) == len(cases) == 56
    assert len({case.id for case in cases}) == 56


@pytest.mark.parametrize("same", ["picture", "embedding"])
def test_what_another_program_added_after_the_look_is_not_contradicted(
    bundle: Bundle, tmp_path: Path, same: str
) -> None:
    """Two programs that have both looked, and found nothing: the second is told what the first one stored."""
    first, second = (SiteStore(tmp_path / "cases.db", bundle) for _ in range(2))
    codes = [bytes([1]) * 1280, bytes([2]) * 1280]
    digests = ["a" * 64, "b" * 64]
    mine = (digests[0], codes[0 if same == "embedding" else 1])
    for store in (first, second):
        assert store.find(mine[0], "parasite") is None
        store.require_no_contrary(mine[1], "parasite")
    if same == "embedding":
        mine = (digests[1], codes[0])
    kept, is_new = first.add(digests[0], codes[0], picture="a.jpg", label="no_parasite", note="", thumbnail=b"")
    assert is_new
    words = {"picture": "there already as site-1, and as no_parasite", "embedding": "no difference to site-1, which is"}
    with pytest.raises(PictureError, match=words[same]) as caught:
        second.add(*mine, picture="b.jpg", label="parasite", note="", thumbnail=b"")
    assert caught.value.remedy == "if that was wrong, run `edge reference remove` for site-1 first"
    again, is_new = second.add(digests[0], codes[0], picture="a.jpg", label="no_parasite", note="mine", thumbnail=b"")
    assert (again, is_new) == (kept, False)
    assert second.cases() == [kept]


def test_two_processes_at_once_never_store_or_report_contradicting_labels(
    path: Path, unseen: list[Path], bundle: Bundle
) -> None:
    """The one adds pictures with a label, the other the same pixels or the same files with another label."""
    resaved = [path.parent / f"{picture.stem}.png" for picture in unseen[:6]]
    for picture, copy in zip(unseen, resaved, strict=False):
        cv2.imwrite(str(copy), np.asarray(cv2.imread(str(picture))))
    given = {"parasite": unseen, "no_parasite": [*resaved, *unseen[6:]]}
    processes = {
        label: subprocess.Popen(
            [*EDGE, "reference", "add", str(path), *map(str, part), "--label", label, "--anyway"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for label, part in given.items()
    }
    said = {label: process.communicate()[0].splitlines() for label, process in processes.items()}
    cases = {case.id: case.label for case in SiteStore(default_store(path), bundle).cases()}
    with closing(sqlite3.connect(default_store(path))) as connection:
        ((contrary,),) = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM cases GROUP BY codes HAVING count(DISTINCT label) > 1)"
        ).fetchall()
    assert contrary == 0
    reported: dict[str, str] = {}
    for label, lines in said.items():
        assert len(lines) == len(given[label])
        for what, id_, named, *_ in map(str.split, lines):
            if what != "error":
                assert named == label
                reported[id_] = label
    assert reported == cases


ADD_FOR_EVER = """
import sys
from pathlib import Path
import numpy as np
from edge.bundle import read_bundle
from edge_runtime.site_store import SiteStore
store = SiteStore(Path(sys.argv[2]), read_bundle(Path(sys.argv[1]), whole=False))
number = int(sys.argv[3])
while True:
    codes = np.full(1280, number % 256, np.uint8).tobytes()
    thumbnail = bytes([number % 256]) * 5000
    store.add(f"{number:064x}", codes, picture=f"{number}.jpg", label="parasite", note="", thumbnail=thumbnail)
    print(number, flush=True)
    number += 1
"""


def test_a_killed_add_leaves_whole_cases_and_all_that_it_said(path: Path, bundle: Bundle, tmp_path: Path) -> None:
    """A real process, killed at four moments; the next one goes on in what it left."""
    random, said = np.random.default_rng(5), 0
    store = SiteStore(tmp_path / "cases.db", bundle)
    for _ in range(4):
        words = [sys.executable, "-c", ADD_FOR_EVER, str(path), str(store.path), str(said)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            time.sleep(random.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
            printed = process.stdout.read().split()
        said += 1 + len(printed)
        cases = store.cases()
        assert said <= len(cases) <= said + 1
        said = len(cases)
        with closing(sqlite3.connect(store.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = connection.execute("SELECT number, picture_sha256, codes, thumbnail FROM cases").fetchall()
        for number, sha256, codes, thumbnail in rows:
            added = int(sha256, 16)
            assert (number, codes, thumbnail) == (added + 1, bytes([added % 256]) * 1280, bytes([added % 256]) * 5000)
    assert known_cases(bundle, Screener(bundle).network, store.load()).sets.keys() == {"bundle", "site"}


def test_a_program_killed_before_the_first_case_leaves_a_store_to_go_on_with(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "cases.db"
    path.touch()
    assert SiteStore(path, bundle).cases() == []
    assert SiteStore(path, bundle).load() is None
    assert a_case(SiteStore(path, bundle), 1) == "site-1"
