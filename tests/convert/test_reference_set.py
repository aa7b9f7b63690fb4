"""The reference set of a build: training pictures alone, of every class, by the int8 file, without their names."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import EDGE, TinyBuild, convert, edge

from edge.bundle import read_bundle
from edge.dataset import read_dataset
from edge.reference import Cases, unpack_cases
from edge_convert.prepare import share_out
from edge_convert.reference import load_reference, medoids, own_class
from edge_runtime.pipeline import Screener


@pytest.mark.parametrize(
    ("counts", "pictures", "shares"),
    [
        ([1816, 355], 1000, [645, 355]),
        ([334, 329, 82], 400, [159, 159, 82]),
        ([10, 10, 10], 100, [10, 10, 10]),
        ([5, 500], 2, [1, 1]),
        ([5, 500], 1, [0, 1]),
        ([7, 0], 3, [3, 0]),
    ],
    ids=str,
)
def test_a_rare_class_is_kept_whole_and_the_others_share_alike(
    counts: list[int], pictures: int, shares: list[int]
) -> None:
    assert share_out(counts, pictures) == shares


def test_medoids_stand_for_each_cluster_however_small() -> None:
    random = np.random.default_rng(1)
    centres = np.array([[0, 0], [50, 0], [0, 50], [50, 50]], np.float32)
    sizes = [200, 200, 200, 4]
    vectors = np.concatenate([centre + random.normal(0, 1, (n, 2)) for centre, n in zip(centres, sizes, strict=True)])
    chosen = medoids(vectors.astype(np.float32), 4, seed=1)
    nearest = [int(((centres - vectors[row]) ** 2).sum(axis=1).argmin()) for row in chosen]
    assert sorted(nearest) == [0, 1, 2, 3]
    assert chosen.tolist() == medoids(vectors.astype(np.float32), 4, seed=1).tolist()


def test_of_pictures_that_are_all_the_same_as_many_are_kept_as_were_asked_for() -> None:
    chosen = medoids(np.zeros((20, 3), np.float32), 8, seed=1)
    assert len(set(chosen.tolist())) == 8


def test_agreement_counts_the_neighbours_of_the_pictures_own_class() -> None:
    rows = np.array([[0], [1], [2], [100], [101], [102], [103]], np.uint8)
    labels = ("a", "a", "b", "b", "b", "a", "b")
    cases = Cases(codes=rows, ids=labels, labels=labels, groups=labels)
    every, a, b = own_class(cases, np.array([[0], [102]], np.uint8), ["a", "b"], ("a", "b", "c"))
    # Of 0 the nearest five are a a b b b; of 102 b b b a and, 100 away, b.
    assert (a.label, a.n, a.share, a.majority.value) == ("a", 1, 0.4, 0.0)
    assert (b.label, b.n, b.share, b.majority.value) == ("b", 1, 0.8, 1.0)
    assert (every.label, every.n, every.share, every.majority.value) == ("", 2, pytest.approx(0.6), 0.5)


def named_in(run: Path) -> list[dict[str, str]]:
    with (run / "reference/names.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_bundle_carries_training_pictures_and_names_none_of_them(tiny_build: TinyBuild) -> None:
    samples = {sample.name: sample for sample in read_dataset(tiny_build.data).samples}
    rows = named_in(tiny_build.run)
    assert {samples[row["picture"]].split for row in rows} == {"train"}
    assert all(samples[row["picture"]].label == row["label"] for row in rows)
    bundle = read_bundle(tiny_build.bundle)
    record = bundle.manifest.reference
    assert record is not None
    cases = unpack_cases(record, bundle.manifest.labels, bundle.parts, thumbnails=True)
    assert list(cases.labels) == [row["label"] for row in rows]
    assert all(data.startswith(b"\xff\xd8") for data in cases.thumbnails)
    # Pictures of one slide have one number.
    slides = {samples[row["picture"]].group: row["group"] for row in rows}
    assert [slides[samples[row["picture"]].group] for row in rows] == list(cases.groups)
    assert len(set(slides.values())) == len(slides)
    for member in record.members:
        for row in rows:
            assert row["picture"].encode() not in bundle.parts[member]
            assert row["group_in_the_data_set"].encode() not in bundle.parts[member]


def test_its_embeddings_are_the_int8_files_through_the_runtime(tiny_build: TinyBuild) -> None:
    bundle = read_bundle(tiny_build.bundle)
    made, parts = load_reference(tiny_build.run / "reference")
    assert made.record == bundle.manifest.reference
    cases = unpack_cases(made.record, bundle.manifest.labels, parts, thumbnails=False)
    screener = Screener(bundle)
    coding = screener.network.coding("embedding")
    assert coding is not None
    for index, row in list(enumerate(named_in(tiny_build.run)))[::9]:
        embedding = screener.screen_file(tiny_build.data / row["picture"]).embedding
        assert embedding is not None
        np.testing.assert_array_equal(coding.embedding(cases.codes[index]), embedding)


def test_the_build_its_card_and_its_report_say_what_is_carried(tiny_build: TinyBuild) -> None:
    bundle = read_bundle(tiny_build.bundle)
    known = bundle.manifest.metrics["known_cases"]
    assert [row["label"] for row in known["own_class"]] == ["", "no_parasite", "parasite"]
    assert sum(row["n"] for row in known["own_class"][1:]) == known["own_class"][0]["n"] == 12
    assert "It carries 72 of the 72 training pictures as known cases" in bundle.parts["card.md"].decode()
    report = (tiny_build.run / "report.html").read_text(encoding="utf-8")
    assert "The 5 known cases nearest to each validation picture" in report
    shown = edge("show", tiny_build.bundle).stdout
    assert "known cases  72 (edge similar): 58 no_parasite, 14 parasite" in shown


def test_fewer_are_chosen_by_class_and_may_be_named(copied: TinyBuild) -> None:
    settings = ("reference.pictures=30", "reference.names=true", "reference.thumbnail_px=0")
    done = convert(copied, *(word for setting in settings for word in ("--set", setting)))
    assert done.returncode == 0, done.stderr
    assert "verify: unchanged, reused" in done.stderr
    bundle = read_bundle(copied.bundle)
    record = bundle.manifest.reference
    assert record is not None
    assert record.counts == {"no_parasite": 16, "parasite": 14}
    assert (record.chosen_from, record.thumbnails) == (72, None)
    cases = unpack_cases(record, bundle.manifest.labels, bundle.parts, thumbnails=True)
    assert list(cases.ids) == [row["picture"] for row in named_in(copied.run)]
    assert "no pictures, their names" in bundle.parts["card.md"].decode()


def test_a_recipe_that_wants_none_gets_none(copied: TinyBuild) -> None:
    done = convert(copied, "--set", "reference.pictures=0")
    assert done.returncode == 0, done.stderr
    bundle = read_bundle(copied.bundle)
    assert bundle.manifest.reference is None
    assert not [name for name in bundle.parts if name.startswith("reference/")]
    assert "known cases" not in bundle.parts["card.md"].decode()
    assert "Known cases" not in (copied.run / "report.html").read_text(encoding="utf-8")


def test_a_build_killed_at_this_stage_goes_on_to_the_same_bundle(copied: TinyBuild) -> None:
    before = copied.bundle.read_bytes()
    shutil.rmtree(copied.run / "reference")
    words = ["convert", str(copied.recipe), "--data", str(copied.data), "--out", str(copied.run)]
    process = subprocess.Popen([*EDGE, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (copied.run / ".reference.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (copied.run / "reference").exists()
    copied.bundle.unlink()
    done = convert(copied)
    assert done.returncode == 0, done.stderr
    assert "reference: 72 of 72" in done.stderr
    assert copied.bundle.read_bytes() == before
