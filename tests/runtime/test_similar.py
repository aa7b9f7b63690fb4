"""The known cases nearest to a picture: exactly, from the bundle and from the site, as a user asks for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import EDGE, TinyBuild, edge

from edge.bundle import Bundle, read_bundle, write_bundle
from edge.errors import BundleError
from edge.reference import Cases, Coding
from edge_runtime.pipeline import Screener
from edge_runtime.sheet import Row, draw_sheet
from edge_runtime.similar import KnownCases, Source, known_cases, nearest_codes


@pytest.mark.parametrize("n", [1, 3, 700], ids=str)
def test_the_nearest_are_those_that_arithmetic_by_hand_finds(n: int) -> None:
    random = np.random.default_rng(n)
    # Few levels, so that many distances are equal.
    codes = (random.integers(0, 3, (n, 40)) * 100).astype(np.uint8)
    for query in (random.integers(0, 3, (10, 40)) * 100).astype(np.uint8):
        by_hand = np.sqrt(((codes.astype(np.int64) - query) ** 2).sum(axis=1))
        order = np.argsort(by_hand, kind="stable")[:5]
        distances, rows = nearest_codes(codes, query, 5)
        assert rows.tolist() == order.tolist()
        np.testing.assert_allclose(distances, by_hand[order], rtol=1e-6)


def two_sets() -> KnownCases:
    def cases(rows: list[list[int]], ids: tuple[str, ...], labels: tuple[str, ...]) -> Cases:
        return Cases(codes=np.array(rows, np.uint8), ids=ids, labels=labels, groups=("",) * len(ids))

    sets: dict[Source, Cases] = {
        "bundle": cases([[0, 0], [10, 0], [30, 0]], ("1", "2", "3"), ("a", "b", "b")),
        "site": cases([[10, 0], [20, 0]], ("site-1", "site-2"), ("c", "b")),
    }
    return KnownCases(Coding(scale=0.5, zero_point=0), sets)


def test_both_sets_are_ranked_together_by_distances_in_the_embeddings_units() -> None:
    found = two_sets().nearest(np.array([4.0, 0.0], np.float32), 4).found
    ranked = [(one.rank, one.id, one.source, one.distance) for one in found]
    assert ranked == [
        (1, "2", "bundle", 1.0),
        (2, "site-1", "site", 1.0),
        (3, "1", "bundle", 4.0),
        (4, "site-2", "site", 6.0),
    ]


def test_shares_come_largest_first_and_of_few_cases_all_are_given() -> None:
    neighbours = two_sets().nearest(np.array([4.0, 0.0], np.float32), 50)
    assert len(neighbours.found) == 5
    assert list(neighbours.shares.items()) == [("b", 0.6), ("a", 0.2), ("c", 0.2)]


def test_an_embedding_of_another_length_is_a_sentence() -> None:
    with pytest.raises(BundleError, match="another network"):
        two_sets().nearest(np.zeros(3, np.float32))


def test_a_training_picture_is_its_own_nearest_case(tiny_build: TinyBuild, bundle: Bundle) -> None:
    """From the picture's file through decoding, resizing and the network to the very codes in the bundle."""
    screener = Screener(bundle)
    known = known_cases(bundle, screener.network, thumbnails=True)
    rows = (tiny_build.run / "reference/names.csv").read_text().splitlines()[1:]
    assert len(rows) == len(known) == 72
    for row in rows[:12]:
        id_, group, name, _, label = row.split(",")
        screening = screener.screen_file(tiny_build.data / name)
        assert screening.embedding is not None
        first = known.nearest(screening.embedding, 1).found[0]
        assert (first.id, first.group, first.label, first.distance) == (id_, group, label, 0.0)
        small = known.thumbnail(first)
        assert small is not None
        shown = cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR)
        assert shown is not None
        assert shown.shape == (96, 96, 3)
        assert abs(shown[..., ::-1].astype(int) - screening.tensor).mean() < 5


def test_a_bundle_without_cases_or_embedding_says_so(bundle: Bundle) -> None:
    screener = Screener(bundle)
    bare = replace(bundle, manifest=replace(bundle.manifest, reference=None))
    with pytest.raises(BundleError, match="tiny carries no known cases, and this site has added none"):
        known_cases(bare, screener.network)
    entry = bundle.manifest.models["int8"]
    blind = replace(entry, outputs={"probabilities": entry.outputs["probabilities"]})
    with pytest.raises(BundleError, match="gives no embedding"):
        known_cases(replace(bundle, manifest=replace(bundle.manifest, models={"int8": blind})), screener.network)
    assert bundle.manifest.reference is not None
    other = replace(bundle.manifest.reference, scale=1.0)
    with pytest.raises(BundleError, match="of another network than its model"):
        known_cases(replace(bundle, manifest=replace(bundle.manifest, reference=other)), screener.network)


def test_the_command_gives_the_same_as_the_library(tiny_build: TinyBuild, bundle: Bundle, pictures: list[Path]) -> None:
    before = tiny_build.bundle.read_bytes()
    done = edge("similar", tiny_build.bundle, pictures[0], "nowhere.jpg", "-k", "3", "--json")
    assert done.returncode == 1
    record, failure = map(json.loads, done.stdout.splitlines())
    assert failure["error"] == "there is no such file"
    screener = Screener(bundle)
    screening = screener.screen_file(pictures[0])
    assert screening.embedding is not None
    expected = known_cases(bundle, screener.network).nearest(screening.embedding, 3)
    assert [one["id"] for one in record["neighbours"]] == [one.id for one in expected.found]
    assert record["shares"] == expected.shares
    verdict = screening.verdict
    assert (record["decision"], record["advice"]) == (verdict.decision, verdict.advice)
    assert record["bundle"] == {"name": "tiny", "sha256": bundle.sha256}
    assert record["synthetic"]
    assert tiny_build.bundle.read_bytes() == before


def test_a_sheet_shows_a_row_a_picture_with_its_cases(
    tiny_build: TinyBuild, pictures: list[Path], tmp_path: Path
) -> None:
    done = edge("similar", tiny_build.bundle, *pictures[:2], "--sheet", tmp_path / "sheet.png")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * 7
    assert "SYNTHETIC" in lines[0]
    assert lines[1].split()[0] == "1"
    assert lines[6].split(":")[0].strip() == "of 5"
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    one = cv2.imdecode(np.frombuffer(pictures[0].read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert one is not None
    # The first tile is the picture itself.
    tile = cv2.resize(one, (156, 156), interpolation=cv2.INTER_AREA)
    assert abs(sheet[16:172, 16:172].astype(int) - tile).mean() < 12
    edge("similar", tiny_build.bundle, pictures[0], "--sheet", tmp_path / "one.jpg")
    single = cv2.imread(str(tmp_path / "one.jpg"))
    assert single is not None
    assert single.shape[1] == sheet.shape[1]
    assert single.shape[0] < 0.6 * sheet.shape[0]


def test_a_sheet_is_drawn_also_where_nobody_reads_the_lines(
    tiny_build: TinyBuild, pictures: list[Path], tmp_path: Path
) -> None:
    """As with `| head -1`: the reader is gone before the first line already, so that no line can slip through."""
    read, write = os.pipe()
    os.close(read)
    words = ["similar", tiny_build.bundle, *pictures[:2], "--sheet", tmp_path / "sheet.png"]
    done = subprocess.run([*EDGE, *map(str, words)], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1
    assert "error: nobody reads the lines any more" in done.stderr
    assert "Exception" not in done.stderr
    read_by_all = edge(*words[:-1], tmp_path / "all.png")
    assert read_by_all.returncode == 0
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "all.png").read_bytes()


def test_a_name_with_a_line_break_does_not_overprint_the_sheet(bundle: Bundle, pictures: list[Path]) -> None:
    screener = Screener(bundle)
    known = known_cases(bundle, screener.network)
    screening = screener.screen_file(pictures[0])
    assert screening.embedding is not None
    neighbours = known.nearest(screening.embedding, 2)
    drawn = [
        draw_sheet(
            [Row(tensor=screening.tensor, words=(name, "clear"), neighbours=neighbours)],
            known,
            positive=("parasite",),
            k=2,
            caption="x",
        )
        for name in ("a\nclear\x1b[2J.jpg", "a?clear?[2J.jpg")
    ]
    assert np.array_equal(*drawn)


def test_a_picture_that_is_to_be_taken_again_says_so_beside_its_neighbours(
    tiny_build: TinyBuild, pictures: list[Path], tmp_path: Path
) -> None:
    dark = tmp_path / "dark.png"
    picture = cv2.imread(str(pictures[0]))
    assert picture is not None
    cv2.imwrite(str(dark), (picture // 20).astype(np.uint8))
    done = edge("similar", tiny_build.bundle, dark, "--sheet", tmp_path / "sheet.jpg")
    first = done.stdout.splitlines()[0]
    assert first.startswith("retake    -----")
    assert "take it again" in first
    record = json.loads(edge("similar", tiny_build.bundle, dark, "--json").stdout)
    assert record["decision"] == "retake"
    assert "too_dark" in record["reasons"]
    store = tmp_path / "cases.db"
    added = edge("reference", "add", tiny_build.bundle, dark, "--label", "parasite", "--store", store, "--anyway")
    assert added.stdout.startswith("added   site-1")
    assert "take it again" in added.stdout


@pytest.mark.parametrize(
    ("sheet", "words"),
    [
        ("p.jpg", "would overwrite the picture"),
        ("sheet.txt", "does not end in"),
        ("set/sheet.jpg", "among the pictures"),
        ("other.jpg", "is there already"),
        ("none/sheet.jpg", "there is no folder"),
    ],
    ids=["the picture", "another kind", "among the pictures", "another picture", "no folder"],
)
def test_a_sheet_never_lands_on_or_among_the_pictures(
    tiny_build: TinyBuild, pictures: list[Path], tmp_path: Path, sheet: str, words: str
) -> None:
    picture = tmp_path / "p.jpg"
    picture.write_bytes(pictures[0].read_bytes())
    (tmp_path / "set").mkdir()
    (tmp_path / "other.jpg").write_bytes(pictures[1].read_bytes())
    done = edge("similar", tiny_build.bundle, picture, tmp_path / "set", "--sheet", tmp_path / sheet)
    assert done.returncode == 1
    assert words in done.stderr
    assert picture.read_bytes() == pictures[0].read_bytes()
    assert (tmp_path / "other.jpg").read_bytes() == pictures[1].read_bytes()


def test_a_bundle_that_carries_no_cases_is_a_sentence(bundle: Bundle, pictures: list[Path], tmp_path: Path) -> None:
    models = {"int8": bundle.manifest.models["int8"]}
    bare = replace(bundle.manifest, models=models, golden=(), reference=None, acceptance=None)
    write_bundle(tmp_path / "bare.edge", bare, {"model.int8.tflite": bundle.parts["model.int8.tflite"]})
    done = edge("similar", tmp_path / "bare.edge", pictures[0])
    assert done.returncode == 1
    assert done.stderr.startswith("error: tiny carries no known cases")
    assert "edge reference add" in done.stderr.splitlines()[1]


def test_screening_never_pays_for_known_cases(tiny_build: TinyBuild, pictures: list[Path]) -> None:
    program = (
        "import sys; from edge.cli import edge, run; status = run(lambda **k: edge.main(sys.argv[1:], **k));"
        "paid = {'sqlite3', 'edge_runtime.similar', 'edge_runtime.site_store'} & set(sys.modules);"
        "assert not paid, paid; sys.exit(status)"
    )
    words = [sys.executable, "-c", program, "screen", str(tiny_build.bundle), str(pictures[0])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened = read_bundle(tiny_build.bundle, whole=False)
    Screener(opened).screen_file(pictures[0])
    unpacked = vars(opened.parts)["_read"]
    assert not [name for name in unpacked if name.startswith("reference/")]
