"""The build as a user runs it: the command, its artefacts, resuming, and refusals."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import EDGE, TinyBuild, convert, edge

from edge.bundle import read_bundle
from edge.dataset import read_dataset
from edge.errors import DataError, EdgeError
from edge_convert.builder import Builder, Source
from edge_convert.data.check import check_dataset
from edge_convert.data.repair import drop_leaks
from edge_convert.prepare import prepare
from edge_convert.progress import finish
from edge_convert.recipe import read_recipe
from edge_convert.run_folder import RunFolder
from edge_convert.verify import Gate, gate_table, load_verification

STAGES = ["data", "finetune", "prune", "quantize", "verify", "reference"]


def test_every_stage_leaves_its_artefacts(tiny_build: TinyBuild) -> None:
    for stage in STAGES:
        assert (tiny_build.run / stage / "stage.json").exists()
    assert tiny_build.bundle.exists()
    assert (tiny_build.run / "report.html").exists()
    assert not list(tiny_build.run.glob(".*.partial"))


def test_the_build_says_what_it_does_without_chatter(tiny_build: TinyBuild) -> None:
    for line in tiny_build.log.splitlines():
        assert line.split(":")[0].split(" ")[0] in ["reading", *STAGES, "pack", "report"], line


def test_the_bundle_carries_its_evidence(tiny_build: TinyBuild) -> None:
    manifest = read_bundle(tiny_build.bundle).manifest
    assert manifest.synthetic
    assert set(manifest.metrics["evaluations"]) == {"val/int8", "val/float32", "test/int8", "test/float32"}
    assert manifest.recipe["name"] == "tiny"
    assert manifest.data["fingerprint"] == read_dataset(tiny_build.data).fingerprint()
    assert manifest.versions["tensorflow"]
    assert len(manifest.golden) == 13


def test_calibration_pictures_are_training_pictures_of_both_classes(tiny_build: TinyBuild) -> None:
    names = json.loads((tiny_build.run / "quantize/calibration.json").read_text())
    samples = {s.name: s for s in read_dataset(tiny_build.data).samples}
    assert len(names) == len(set(names)) == 24
    assert {samples[name].split for name in names} == {"train"}
    assert {samples[name].label for name in names} == {"parasite", "no_parasite"}


def test_pruned_kernels_have_the_zeros_that_were_asked_for(tiny_build: TinyBuild) -> None:
    rows = json.loads((tiny_build.run / "prune/sparsity.json").read_text())
    pruned = [row for row in rows if row["sparsity"] > 0.2]
    assert len(pruned) > 10
    assert all(row["sparsity"] == pytest.approx(0.3, abs=0.01) for row in pruned)
    with np.load(tiny_build.run / "prune/weights.npz") as arrays:
        kernels = [arrays[name] for name in arrays.files if arrays[name].ndim == 4]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
    assert zeros == pytest.approx(sum(row["weights"] * row["sparsity"] for row in rows), rel=0.01)


def test_the_threshold_is_fitted_on_the_int8_models_validation_scores(tiny_build: TinyBuild) -> None:
    verification = load_verification(tiny_build.run / "verify")
    scores = [p.probability for p in verification.predictions["val/int8"] if p.label == "parasite"]
    threshold = read_bundle(tiny_build.bundle).manifest.decision.threshold
    assert threshold == verification.decision.threshold
    assert sum(score >= threshold for score in scores) >= 0.95 * len(scores)


def test_the_bundles_measures_are_what_edge_evaluate_finds(tiny_build: TinyBuild) -> None:
    done = edge("evaluate", tiny_build.bundle, "--data", tiny_build.data, "--split", "test", "--json")
    found = json.loads(done.stdout)
    packed = read_bundle(tiny_build.bundle).manifest.metrics["evaluations"]["test/int8"]
    for measure in ("n", "auc", "average_precision", "sensitivity", "specificity", "confusion", "pointing_game"):
        assert found[measure] == packed[measure]


def test_a_build_that_is_done_is_reused_whole_and_packs_the_same_bytes(copied: TinyBuild) -> None:
    before = copied.bundle.read_bytes()
    done = convert(copied)
    assert done.returncode == 0, done.stderr
    for stage in STAGES:
        assert f"{stage}: unchanged, reused" in done.stderr
    assert copied.bundle.read_bytes() == before


def test_a_changed_key_runs_its_stage_and_those_after_it(copied: TinyBuild) -> None:
    done = convert(copied, "--set", "decision.profile=sensitivity >= 0.8")
    assert done.returncode == 0, done.stderr
    assert "quantize: unchanged, reused" in done.stderr
    assert "verify: unchanged" not in done.stderr
    assert read_bundle(copied.bundle).manifest.decision.profile.sensitivity == 0.8


def test_a_profile_that_is_required_and_not_shown_fails_the_build_and_says_how_many_are_needed(
    copied: TinyBuild,
) -> None:
    done = convert(copied, "--set", "gates.require_profile=true")
    assert done.returncode == 1
    assert "MISS  sensitivity's lower bound, by picture" in done.stderr
    assert " too few: " in done.stderr
    assert "are needed to show sensitivity 0.95" in done.stderr
    assert not copied.bundle.exists()


def test_decisions_about_groups_need_groups_at_the_desk_and_in_the_clinic(copied: TinyBuild, tmp_path: Path) -> None:
    done = convert(copied, "--set", "decision.level=group", "--set", "decision.calibration=isotonic")
    assert done.returncode == 0, done.stderr
    decision = read_bundle(copied.bundle).manifest.decision
    assert (decision.level, decision.calibration.kind) == ("group", "isotonic")
    assert "validation groups (12 pictures)" in decision.fitted_on
    for label in ("parasite", "no_parasite"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for index in range(4):
            cv2.imwrite(str(tmp_path / "set" / label / f"{label}{index}.png"), np.zeros((96, 96, 3), np.uint8) + index)
    refused = edge("evaluate", copied.bundle, "--data", tmp_path / "set")
    assert refused.returncode == 1
    assert "this data set has no groups" in refused.stderr
    recipe = read_recipe(copied.recipe, changes=("decision.level=group",))
    with pytest.raises(DataError, match="has no groups"):
        finish(prepare(recipe, read_dataset(tmp_path / "set"), "", (), tmp_path))


def test_from_a_stage_on_everything_runs_again(copied: TinyBuild) -> None:
    done = convert(copied, "--from", "verify")
    assert "quantize: unchanged, reused" in done.stderr
    assert "verify: validation" in done.stderr


def test_a_missed_gate_fails_the_build_with_the_table_and_sets_the_bundle_aside(copied: TinyBuild) -> None:
    before = copied.bundle.read_bytes()
    done = convert(copied, "--set", "gates.max_auc_drop=-1")
    assert done.returncode == 1
    assert "MISS  AUC lost by int8" in done.stderr
    assert "tiny.edge.old is an earlier build's" in done.stderr
    assert "quantize.repair = true" in done.stderr
    assert not copied.bundle.exists()
    assert (copied.run / "tiny.edge.old").read_bytes() == before
    assert (copied.run / "report.html").exists()


def test_another_build_in_the_folder_is_refused_and_not_touched_unless_it_may_be_replaced(
    copied: TinyBuild, tmp_path: Path
) -> None:
    done = convert(copied, "--set", "name=other")
    assert done.returncode == 1
    assert f"{copied.run} holds another build: 'tiny', from {copied.data}" in done.stderr
    assert "--replace" in done.stderr
    before = copied.bundle.read_bytes()
    folder = RunFolder(copied.run)
    folder.require_own("tiny", copied.data, [], replace=False)
    with pytest.raises(EdgeError, match="holds another build"):
        folder.require_own("tiny", tmp_path, [], replace=False)
    assert copied.bundle.exists()
    # Taken over: what was there is set aside, and a second time beside the first.
    for data, old in ((tmp_path, "tiny.edge.old"), (copied.data, "tiny.edge.old.2")):
        copied.bundle.write_bytes(before)
        (copied.run / "elses.edge").write_bytes(before)
        folder.own("tiny", data)
        folder.require_own("tiny", data, [], replace=False)
        assert not copied.bundle.exists()
        assert (copied.run / old).read_bytes() == before
        assert (copied.run / "elses.edge").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "nowhere"], "there is no stage 'nowhere'"),
        (["--set", "train.epoch=1"], "did you mean 'epochs'?"),
        (["--set", "gates.min_auc=80"], "gates.min_auc"),
        (["--set", 'classes=["a","parasite"]'], "the recipe has a, parasite"),
        (["--set", "network.backbone=nonsense"], "there is no backbone 'nonsense'"),
        (["--weights", "nowhere.h5"], "there is no weight file"),
    ],
    ids=["stage", "key", "gate", "classes", "backbone", "weights"],
)
def test_what_cannot_be_built_is_a_sentence(copied: TinyBuild, words: list[str], message: str) -> None:
    done = convert(copied, *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("remedy: ")


def test_a_killed_build_goes_on_from_its_last_finished_stage_to_the_same_weights(copied: TinyBuild) -> None:
    with np.load(copied.run / "finetune/weights.npz") as arrays:
        before = {name: arrays[name] for name in arrays.files}
    shutil.rmtree(copied.run / "finetune")
    words = ["convert", str(copied.recipe), "--data", str(copied.data), "--out", str(copied.run)]
    process = subprocess.Popen([*EDGE, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (copied.run / ".finetune.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (copied.run / "finetune").exists()
    done = convert(copied)
    assert done.returncode == 0, done.stderr
    assert "data: unchanged, reused" in done.stderr
    assert "finetune: last layer" in done.stderr
    with np.load(copied.run / "finetune/weights.npz") as arrays:
        assert all(np.array_equal(before[name], arrays[name]) for name in before)
    # What was made of the lost stage is made again: nothing vouches that this one is the very same.
    assert "prune: unchanged" not in done.stderr


def test_two_builds_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with (
        RunFolder.opened(tmp_path / "run"),
        pytest.raises(EdgeError, match="another build"),
        RunFolder.opened(tmp_path / "run"),
    ):
        pass


def test_a_folder_that_is_a_file_is_a_sentence(copied: TinyBuild, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = edge("convert", copied.recipe, "--data", copied.data, "--out", tmp_path / "file")
    assert done.returncode == 1
    assert "is a file" in done.stderr


@pytest.fixture
def leaking(tiny_build: TinyBuild, tmp_path: Path) -> Path:
    """The data set with one slide in two splits."""
    folder = tmp_path / "leaking"
    shutil.copytree(tiny_build.data, folder)
    lines = (folder / "manifest.csv").read_text().splitlines()
    first_train = next(i for i, line in enumerate(lines) if ",train," in line)
    lines[first_train] = lines[first_train].replace(",train,", ",val,")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_training_refuses_a_leaking_set_in_the_words_of_the_check(copied: TinyBuild, leaking: Path) -> None:
    refused = edge("convert", copied.recipe, "--data", leaking, "--out", copied.run, "--replace")
    checked = edge("data", "check", leaking)
    assert refused.returncode == checked.returncode == 1
    sentence = refused.stderr.split("error: ")[1].splitlines()[0]
    assert "more than one split" in sentence
    assert sentence in checked.stdout


def test_dropping_leaks_keeps_what_is_measured_on(leaking: Path) -> None:
    dataset = read_dataset(leaking)
    report = finish(check_dataset(dataset))
    mended, dropped = drop_leaks(dataset, report)
    assert dropped
    assert len(mended.samples) + len(dropped) == len(dataset.samples)
    assert mended.of_split("val") == dataset.of_split("val")
    assert mended.of_split("test") == dataset.of_split("test")
    splits: dict[str, set[str | None]] = {}
    for sample in mended.samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    assert all(len(found) == 1 for found in splits.values())


def test_patients_named_in_the_file_names_stay_in_one_split(copied: TinyBuild, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    for patient in range(24):
        label = "parasite" if patient % 2 else "no_parasite"
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        for shot in "ab":
            picture = cv2.GaussianBlur(random.integers(0, 256, (96, 96, 3)).astype(np.uint8), (0, 0), 2)
            cv2.imwrite(str(tmp_path / "set" / label / f"p{patient}_{shot}.png"), picture)
    recipe = read_recipe(copied.recipe)
    for pattern, known in ((r"(p\d+)_", True), (None, False)):
        with RunFolder.opened(tmp_path / f"run-{known}") as folder:
            dataset = read_dataset(tmp_path / "set", group_pattern=pattern)
            source = Source(dataset=dataset, identity=dataset.identity(), leaks="refuse", seed=recipe.seed)
            build = Builder(recipe, folder, source)
            finish(build.data())
            prepared = build.prepared
        splits: dict[str, set[str | None]] = {}
        for sample in prepared.samples:
            splits.setdefault(sample.name.split("/")[1].split("_")[0], set()).add(sample.split)
        assert all(len(found) == 1 for found in splits.values()) == known
        assert prepared.summary()["has_groups"] == known


def test_a_build_inside_its_data_set_is_refused(copied: TinyBuild) -> None:
    done = edge("convert", copied.recipe, "--data", copied.data, "--out", copied.data / "out")
    assert done.returncode == 1
    assert "lies inside the data set" in done.stderr


def test_a_build_around_its_data_set_is_refused(copied: TinyBuild) -> None:
    out = copied.data.parent
    done = edge("convert", copied.recipe, "--data", copied.data, "--out", out)
    assert done.returncode == 1
    assert f"the data set {copied.data} lies inside the build's folder {out}" in done.stderr
    assert read_dataset(copied.data).samples


def test_what_no_build_has_written_is_never_replaced(copied: TinyBuild, tmp_path: Path) -> None:
    for number, place in enumerate(("data/important.txt", "report.html", "seeds.json", "tiny.edge")):
        out = tmp_path / str(number)
        path = out / place
        path.parent.mkdir(parents=True)
        path.write_text("precious")
        for replace in (False, True):
            with pytest.raises(EdgeError, match="is not a build's, and a build would replace it"):
                RunFolder(out).require_own("tiny", copied.data, [place.split("/")[0]], replace=replace)
    done = edge("convert", copied.recipe, "--data", copied.data, "--out", tmp_path / "0", "--replace")
    assert done.returncode == 1
    assert "is not a build's, and a build would replace it" in done.stderr
    assert (tmp_path / "0/data/important.txt").read_text() == "precious"


def test_a_refused_change_costs_nothing_that_was_built(copied: TinyBuild) -> None:
    before = {path: path.read_bytes() for path in copied.run.rglob("*") if path.is_file() and path.name != ".lock"}
    done = convert(copied, "--set", 'classes=["no_parasite","parasit"]', "--set", 'positive=["parasit"]')
    assert done.returncode == 1
    assert "the recipe has no_parasite, parasit" in done.stderr
    assert all(path.read_bytes() == data for path, data in before.items())
    again = convert(copied)
    assert again.stderr.count("unchanged, reused") == len(STAGES)


def test_a_file_that_is_not_as_the_build_left_it_is_not_packed(copied: TinyBuild) -> None:
    before, path = copied.bundle.read_bytes(), copied.run / "quantize/model.int8.tflite"
    data = path.read_bytes()
    path.write_bytes(data[:-1000] + bytes(1000))
    asked = edge("quantize", copied.run, "--debug", "--out", copied.run.parent / "found")
    for done in (convert(copied), asked):
        assert done.returncode == 1
        said, remedy = done.stderr.splitlines()[-2:]
        assert said == f"error: {path} was changed since the build made it"
        assert "--from quantize" in remedy
    assert copied.bundle.read_bytes() == before


def test_every_file_of_every_stage_is_held_to_its_digest(copied: TinyBuild) -> None:
    folder = RunFolder(copied.run)
    for stage in STAGES:
        folder.require_whole(stage)
        for path in folder.stage(stage).iterdir():
            if path.name == "stage.json":
                continue
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
            with pytest.raises(EdgeError, match=f"{path.name} was changed"):
                folder.require_whole(stage)
            path.unlink()
            with pytest.raises(EdgeError, match=f"{path.name} is missing"):
                folder.require_whole(stage)
            path.write_bytes(data)
        folder.require_whole(stage)


def test_a_mark_of_ownership_that_cannot_be_read_protects_the_build(copied: TinyBuild, tmp_path: Path) -> None:
    folder, owner = RunFolder(copied.run), copied.run / "build.json"
    for damaged in ("", "{gar", "[]"):
        owner.write_text(damaged)
        with pytest.raises(EdgeError, match="whose build is in"):
            folder.require_own("tiny", copied.data, [], replace=False)
    folder.require_own("tiny", copied.data, STAGES, replace=True)
    folder.own("other", tmp_path)
    assert (copied.run / "tiny.edge.old").exists()
    owner.unlink()
    owner.mkdir()
    with pytest.raises(EdgeError, match=r"build\.json is a folder"):
        folder.require_own("tiny", copied.data, [], replace=True)


def test_a_stage_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/stage.json").write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EdgeError, match=r"run/data is a link"):
        RunFolder(tmp_path / "run").require_own("tiny", tmp_path, STAGES, replace=True)


def test_gates_bound_from_both_sides() -> None:
    gates = (
        Gate(name="AUC", measured=0.9, limit=0.95, at_most=False),
        Gate(name="loss", measured=0.001, limit=0.003, at_most=True),
    )
    assert [gate.passed for gate in gates] == [False, True]
    assert gate_table(gates).splitlines()[0].split()[0] == "MISS"
