"""From the bytes of a picture to a verdict, on a real bundle and the real interpreter."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import EDGE, TinyBuild, edge
from numpy.typing import NDArray

from edge.acceptance import answer
from edge.bundle import Bundle, read_bundle
from edge.decision import Calibration, Decision
from edge.errors import BundleError, InterpreterError, PictureError
from edge.fields import build, plain
from edge.preprocess import Placement, Preprocessing, shrink
from edge.profile import parse_profile
from edge.saliency import MapScale
from edge_runtime import saliency
from edge_runtime.commands import _write_overlay
from edge_runtime.evaluate import Prediction, calibrated, measure, predict, render_text
from edge_runtime.pipeline import Screener
from edge_runtime.selftest import self_test


def test_the_verdict_is_what_the_bare_interpreter_says(bundle: Bundle, pictures: list[Path]) -> None:
    """The same numbers by hand: OpenCV, the interpreter package, the file and Platt's formula, nothing of ours."""
    _, model = bundle.model("int8")
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_content=model)
    runner = interpreter.get_signature_runner()
    scale, zero = runner.get_output_details()["probabilities"]["quantization"]
    screener = Screener(bundle)
    for path in pictures[:10]:
        # 224 to 96: halved by the JPEG decoder, then one exact bilinear step.
        halved = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_2), cv2.COLOR_BGR2RGB)
        assert halved.shape == (112, 112, 3)
        small = cv2.resize(halved, (96, 96), interpolation=cv2.INTER_LINEAR_EXACT)
        raw = runner(picture=small[np.newaxis])["probabilities"][0]
        expected = (raw.astype(np.float64) - zero) * scale
        screening = screener.screen_file(path)
        assert screening.outputs.tolist() == pytest.approx(expected.tolist(), abs=1e-7)
        verdict, platt = screening.verdict, bundle.manifest.decision.calibration
        assert platt.slope is not None
        assert platt.intercept is not None
        score = min(max(expected[1], 1 / 512), 511 / 512)
        odds = (score / (1 - score)) ** platt.slope * np.exp(platt.intercept)
        assert verdict.probability == pytest.approx(odds / (1 + odds))
        assert verdict.probabilities["no_parasite"] == pytest.approx(1 - verdict.probability)
        assert verdict.probability == verdict.probabilities["parasite"]
        assert verdict.decision == ("refer" if verdict.probability >= verdict.threshold else "clear")


def test_the_int8_file_has_no_float_tensor_and_takes_raw_pixels(bundle: Bundle) -> None:
    entry, model = bundle.model("int8")
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_content=model)
    assert not [t["name"] for t in interpreter.get_tensor_details() if t["dtype"] == np.float32]
    details = interpreter.get_input_details()[0]
    assert details["dtype"] == np.uint8
    assert details["quantization"] == pytest.approx((entry.input_scale, entry.input_zero_point))


def test_one_signature_names_probabilities_map_and_embedding(bundle: Bundle) -> None:
    for variant in ("int8", "float32"):
        _, model = bundle.model(variant)
        interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_content=model)
        (signature,) = interpreter.get_signature_list().values()
        assert sorted(signature["outputs"]) == [
            "class_activation",
            "earlier_embedding",
            "embedding",
            "fine_activation",
            "probabilities",
        ]


def test_the_mean_of_a_class_map_is_its_logit(bundle: Bundle, pictures: list[Path]) -> None:
    screener = Screener(bundle, variant="float32")
    screening = screener.screen_file(pictures[0], explain=True)
    maps = screener.network.output("class_activation")
    logits = maps.mean(axis=(0, 1))
    expected = np.exp(logits) / np.exp(logits).sum()
    assert screening.outputs.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_threads_do_not_change_the_answer(bundle: Bundle, pictures: list[Path]) -> None:
    one, two = Screener(bundle, threads=1), Screener(bundle, threads=2)
    for path in pictures[:5]:
        assert one.screen_file(path).verdict.probabilities == two.screen_file(path).verdict.probabilities


def test_latency_adds_up(bundle: Bundle, pictures: list[Path]) -> None:
    latency = Screener(bundle).screen_file(pictures[0]).verdict.latency_ms
    parts = latency.decode + latency.preprocess + latency.infer + latency.checks + latency.saliency
    assert latency.total == pytest.approx(parts, rel=0.01)
    assert latency.infer > 0


def test_the_golden_pictures_pass_on_this_machine(bundle: Bundle) -> None:
    results = self_test(bundle)
    assert len(results) == 13
    assert all(result.passed and result.input_exact for result in results)
    # On the machine that made the bundle the outputs are the same to the last bit.
    assert all(difference == 0 for result in results for difference in result.differences.values())


@pytest.mark.parametrize("change", [{"fit": "letterbox"}, {"wide_range": "stretch"}, {"jpeg": "whole"}], ids=str)
def test_the_self_test_sees_another_preprocessing(bundle: Bundle, change: dict[str, str]) -> None:
    other = replace(bundle.manifest.preprocessing, **change)  # type: ignore[arg-type]
    results = self_test(replace(bundle, manifest=replace(bundle.manifest, preprocessing=other)))
    assert not all(result.passed for result in results)


def test_the_self_test_sees_another_resizing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def nearest(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
        return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)

    monkeypatch.setattr("edge.preprocess.shrink", nearest)
    assert not any(result.input_exact for result in self_test(bundle))


def test_the_self_test_sees_another_network(bundle: Bundle) -> None:
    _, float_model = bundle.model("float32")
    entry = replace(bundle.manifest.models["float32"], file="model.int8.tflite")
    manifest = replace(bundle.manifest, models={"int8": entry}, tolerances=dict.fromkeys(entry.outputs, 1e-6))
    changed = Bundle(manifest=manifest, parts={**bundle.parts, "model.int8.tflite": float_model}, sha256="")
    assert not all(result.passed for result in self_test(changed))


def test_a_bundle_whose_model_is_no_model_is_a_sentence(bundle: Bundle) -> None:
    broken = Bundle(manifest=bundle.manifest, parts={**bundle.parts, "model.int8.tflite": b"no model"}, sha256="")
    with pytest.raises(InterpreterError, match="refuses the model"):
        Screener(broken)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ("a", "no_parasite", "parasite")}, "has the shape"),
        ({"preprocessing": Preprocessing(side_px=64)}, "its bundle promises"),
    ],
    ids=["labels", "side"],
)
def test_a_manifest_that_does_not_fit_its_model_is_a_sentence(
    bundle: Bundle, change: dict[str, object], words: str
) -> None:
    with pytest.raises(InterpreterError, match=words):
        Screener(replace(bundle, manifest=replace(bundle.manifest, **change)))  # type: ignore[arg-type]


def test_a_model_the_bundle_lacks_is_a_sentence(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no 'gpu' model"):
        Screener(bundle, variant="gpu")


def test_a_probability_at_the_threshold_is_referred() -> None:
    assert answer(None, {}, 0.5, 0.5).decision == "refer"
    assert answer(None, {}, np.nextafter(0.5, 0), 0.5).decision == "clear"


def test_evidence_is_for_the_most_probable_finding_against_the_rest() -> None:
    maps = np.zeros((2, 2, 3), np.float32)
    maps[0, 0] = [-1, 5, 2]
    heat = saliency.evidence(maps, np.array([0.1, 0.6, 0.3], np.float32), [1, 2])
    np.testing.assert_array_equal(heat, [[6, 0], [0, 0]])


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (6, 6)])
def test_the_peak_is_in_the_hottest_cell_of_the_picture(row: int, column: int) -> None:
    heat = np.zeros((7, 7), np.float32)
    heat[row, column] = 1
    placement = Preprocessing(side_px=224).place(640, 448)
    x, y = saliency.peak(heat, placement, 224)
    assert 96 + column * 64 <= x < 96 + (column + 1) * 64
    assert row * 64 <= y < (row + 1) * 64


def test_an_overlay_of_no_evidence_is_the_picture_itself_where_it_was_looked_at() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (500, 600, 3)).astype(np.uint8)
    placement = Placement(source_xywh=(50, 0, 500, 500), target_xywh=(0, 0, 96, 96))
    cold = np.full((3, 3), -4, np.float32)
    shown = saliency.overlay(
        picture, cold, placement, side_px=96, scale=MapScale(background=0.0, full_scale=3.0), caption="clear"
    )
    np.testing.assert_array_equal(shown[:500, 50:550], picture[:, 50:550])
    np.testing.assert_array_equal(shown[:500, :40], (picture[:, :40] * saliency.UNSEEN_LIGHT).astype(np.uint8))


def test_an_overlay_is_hot_where_the_evidence_is() -> None:
    picture = np.full((500, 500, 3), 128, np.uint8)
    heat = np.zeros((5, 5), np.float32)
    heat[1, 3] = 3
    shown = saliency.overlay(
        picture,
        heat,
        Preprocessing(side_px=100).place(500, 500),
        side_px=100,
        scale=MapScale(background=0.0, full_scale=3.0),
        caption="refer",
    )
    change = np.abs(shown[:500, :500].astype(int) - 128).sum(axis=2)
    row, column = np.unravel_index(int(change.argmax()), change.shape)
    assert (row // 100, column // 100) == (1, 3)
    assert change[400:, :100].max() == 0


def large_jpeg(folder: Path) -> Path:
    """A JPEG of four by five times the tiny network's input, and a bit."""
    small = np.random.default_rng(4).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    path = folder / "large.jpg"
    assert cv2.imwrite(str(path), cv2.resize(small, (501, 403), interpolation=cv2.INTER_CUBIC))
    return path


def test_a_large_jpeg_is_screened_reduced_and_shown_whole(bundle: Bundle, tmp_path: Path) -> None:
    path = large_jpeg(tmp_path)
    screener = Screener(bundle)
    screening = screener.screen_file(path, explain=True)
    assert screening.picture.reduction == 4
    assert screening.picture.pixels.shape == (101, 126, 3)
    assert screening.verdict.picture_px == (501, 403)
    assert screening.verdict.used_xywh == (49, 0, 403, 403)
    assert screening.held_bytes == 101 * 126 * 3 + path.stat().st_size
    whole = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(screening.whole(), whole)
    shown = screener.overlay(replace(screening, heat=np.full((3, 3), -100, np.float32)))
    assert shown is not None
    # Enlarged twice; without evidence what was looked at is the picture itself.
    zoom = saliency.shown_zoom(403, 501)
    large = cv2.resize(whole, (501 * zoom, 403 * zoom), interpolation=cv2.INTER_CUBIC)
    middle = slice(49 * zoom, 452 * zoom)
    np.testing.assert_array_equal(shown[: 403 * zoom, middle], large[:, middle])


def test_a_large_jpeg_is_decoded_whole_only_for_its_overlay(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, shapes, imdecode = large_jpeg(tmp_path), [], cv2.imdecode

    def seen(data: NDArray[np.uint8], flags: int) -> NDArray[np.generic]:
        pixels = imdecode(data, flags)
        shapes.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(cv2, "imdecode", seen)
    screener = Screener(bundle)
    screening = screener.screen_file(path, explain=True)
    assert shapes == [(101, 126)]
    screener.overlay(screening)
    assert shapes == [(101, 126), (403, 501)]


def test_a_bundle_from_before_decodes_whole_and_answers_as_then(bundle: Bundle, tmp_path: Path) -> None:
    """Its manifest says nothing of it."""
    fields = plain(replace(bundle.manifest.preprocessing, jpeg="whole"))
    del fields["jpeg"]
    steps = build(Preprocessing, fields)
    path = large_jpeg(tmp_path)
    screening = Screener(replace(bundle, manifest=replace(bundle.manifest, preprocessing=steps))).screen_file(path)
    assert (screening.picture.reduction, screening.source) == (1, b"")
    whole = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(screening.tensor, shrink(np.asarray(whole[:, 49:452], np.uint8), 96, 96))


@pytest.mark.parametrize("path", ["missing.jpg", "."])
def test_a_picture_that_is_not_there_is_a_sentence(bundle: Bundle, path: str) -> None:
    with pytest.raises(PictureError):
        Screener(bundle).screen_file(Path(path))


DECISION = Decision(
    positive=("yes",),
    level="picture",
    calibration=Calibration(kind="none"),
    profile=parse_profile("sensitivity >= 0.99"),
    rule="point",
    threshold=0.5,
    sensitivity_bound=0.0,
    specificity_bound=0.0,
    met=False,
    standing="",
    fitted_on="",
)


def prediction(label: str, probability: float, *, points: bool | None = None) -> Prediction:
    return Prediction(
        name="x",
        label=label,
        group="g",
        outputs=(1 - probability, probability),
        probabilities=(1 - probability, probability),
        probability=probability,
        heat=None,
        points=points,
        infer_ms=1.0,
    )


def test_measures_of_a_small_known_set() -> None:
    rows = [
        prediction("yes", 0.9, points=True),
        prediction("yes", 0.4, points=False),
        prediction("no", 0.6),
        prediction("no", 0.1),
        prediction("no", 0.2),
    ]
    found = measure(rows, labels=("no", "yes"), decision=DECISION)
    assert (found.n, found.n_positive) == (5, 2)
    assert found.auc.value == pytest.approx(5 / 6)
    assert found.sensitivity.value == 0.5
    assert found.standing.words.startswith("profile cannot be shown: 2 positive pictures are too few: ")
    assert found.predictive is None
    # All five are of one group, which a finding is in: it is referred.
    assert [(judged.level, judged.positives, judged.referred) for judged in found.levels] == [
        ("picture", 2, 1),
        ("group", 1, 1),
    ]
    assert found.specificity.value == pytest.approx(2 / 3)
    assert found.specificity_at_target.value == pytest.approx(2 / 3)
    assert found.confusion == ((2, 1), (1, 1))
    assert found.pointing_game is not None
    assert found.pointing_game.value == 0.5
    assert found.pointing_game_detected is not None
    assert found.pointing_game_detected.value == 1.0


def test_where_every_group_has_the_finding_the_text_says_that_there_is_no_specificity() -> None:
    rows = [prediction("yes", 0.9), prediction("no", 0.6)]
    by_picture = measure(rows, labels=("no", "yes"), decision=DECISION)
    by_group = measure(rows, labels=("no", "yes"), decision=replace(DECISION, level="group"), prevalence=0.1)
    nothing = "none to measure: every group has the finding"
    assert render_text(by_picture, title="").count(nothing) == 1
    said = render_text(by_group, title="")
    for name in ("specificity", "specificity at 99% sensitivity", "of the cleared, without it (NPV)"):
        assert re.search(rf"^ +{re.escape(name)} +{nothing}$", said, flags=re.MULTILINE)
    assert "0 of 0" not in said
    assert "1 positive group is too few: 299 are needed to show sensitivity 0.99" in said


def test_evaluation_screens_every_sample_once(tiny_build: TinyBuild, bundle: Bundle) -> None:
    from edge.dataset import read_dataset

    dataset = read_dataset(tiny_build.data)
    results = list(predict(Screener(bundle), dataset.of_split("test")))
    assert [r.name for r in results if isinstance(r, Prediction)] == [s.name for s in dataset.of_split("test")]
    assert all((r.points is not None) == (r.label == "parasite") for r in results if isinstance(r, Prediction))


def test_screen_prints_a_json_line_for_each_picture(tiny_build: TinyBuild, tmp_path: Path) -> None:
    good, bad = sorted((tiny_build.data / "images").glob("*.jpg"))[0], tmp_path / "bad.jpg"
    bad.write_bytes(good.read_bytes()[:900])
    done = edge("screen", tiny_build.bundle, good, bad, tmp_path / "none.png", "--json")
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert set(first) == {
        "picture",
        "decision",
        "label",
        "probability",
        "probabilities",
        "threshold",
        "advice",
        "reasons",
        "checks",
        "picture_px",
        "used_xywh",
        "latency_ms",
        "delegate",
        "interpreter",
        "model",
        "synthetic",
        "bundle",
    }
    assert (first["model"], first["interpreter"], first["synthetic"]) == ("int8", "ai-edge-litert", True)
    assert set(first["latency_ms"]) == {"decode", "preprocess", "infer", "checks", "saliency", "total"}
    assert first["bundle"] == {"name": "tiny", "sha256": read_bundle(tiny_build.bundle).sha256}
    assert set(second) == set(third) == {"picture", "error", "remedy"}
    assert "cut short" in second["error"]
    assert "no such file" in third["error"]
    assert "SYNTHETIC" in done.stderr
    assert "2 of 3 pictures could not be screened" in done.stderr


def test_a_heat_map_that_cannot_be_written_costs_no_verdict(tiny_build: TinyBuild, tmp_path: Path) -> None:
    good = sorted((tiny_build.data / "images").glob("*.jpg"))[:2]
    first, second = (
        tmp_path / "out" / f"{path.stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}.png" for path in good
    )
    first.mkdir(parents=True)
    done = edge("screen", tiny_build.bundle, *good, "--overlay", tmp_path / "out")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "no heat map for" in done.stderr
    assert second.is_file()


def test_heat_maps_are_not_written_among_the_pictures(tiny_build: TinyBuild, tmp_path: Path) -> None:
    done = edge("screen", tiny_build.bundle, tmp_path, "--overlay", tmp_path / "maps")
    assert done.returncode == 1
    assert "among the pictures" in done.stderr
    assert not (tmp_path / "maps").exists()


def test_a_pipe_or_a_device_is_a_sentence_and_not_a_wait(tiny_build: TinyBuild, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    picture = sorted((tiny_build.data / "images").glob("*.jpg"))[0]
    words = ["screen", tiny_build.bundle, tmp_path / "a.jpg", "/dev/zero", picture]
    done = subprocess.run([*EDGE, *map(str, words)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    first, second, third = done.stdout.splitlines()
    assert "a pipe or device, not a file" in first
    assert "a pipe or device, not a file" in second
    assert third.startswith(("refer", "clear"))
    assert "a pipe or device" in edge("screen", "/dev/zero", picture).stderr


def test_a_name_cannot_forge_a_line(tiny_build: TinyBuild, tmp_path: Path) -> None:
    source = sorted((tiny_build.data / "images").glob("*.jpg"))[0]
    (tmp_path / "a\nclear  0.001.jpg").write_bytes(source.read_bytes())
    assert len(edge("screen", tiny_build.bundle, tmp_path).stdout.splitlines()) == 1


def test_a_verdict_is_not_lost_with_the_error_stream_nor_given_to_nobody(tiny_build: TinyBuild) -> None:
    picture = sorted((tiny_build.data / "images").glob("*.jpg"))[0]
    words = f'"{sys.executable}" -c "from edge.cli import main; main()" screen "{tiny_build.bundle}" "{picture}"'
    deaf = subprocess.run(f"{words} --json 2>/dev/full", shell=True, capture_output=True, text=True, check=False)
    assert json.loads(deaf.stdout)["decision"] in ("refer", "clear")
    mute = subprocess.run(f"{words} >&-", shell=True, capture_output=True, text=True, check=False)
    assert mute.returncode == 1
    assert "standard output is closed" in mute.stderr


def test_a_very_long_or_odd_file_name_is_screened_and_shown(tiny_build: TinyBuild, tmp_path: Path) -> None:
    source = sorted((tiny_build.data / "images").glob("*.jpg"))[0]
    names = ["x" * 250 + ".jpg", "größe ☃ 1.jpg", "a\nb.jpg"]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(source.read_bytes())
    odd = os.fsencode(folder) + b"/\xff\xfe.jpg"
    Path(os.fsdecode(odd)).write_bytes(source.read_bytes())
    done = subprocess.run(
        [*EDGE, "screen", tiny_build.bundle, folder, "--overlay", tmp_path / "out", "--json"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == 0, done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 4


def test_another_model_than_int8_is_named_with_a_warning(tiny_build: TinyBuild) -> None:
    picture = sorted((tiny_build.data / "images").glob("*.jpg"))[0]
    done = edge("screen", tiny_build.bundle, picture, "--model", "float32", "--json")
    assert json.loads(done.stdout)["model"] == "float32"
    assert "fitted on the int8 model" in done.stderr


def test_screen_takes_folders_and_writes_overlays(tiny_build: TinyBuild, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for index, source in enumerate(sorted((tiny_build.data / "images").glob("*.jpg"))[:3]):
        (folder / ("deep" if index else ".") / "same name.JPG").with_stem(f"p{index}").write_bytes(source.read_bytes())
    (folder / "notes.txt").write_text("not a picture")
    done = edge("screen", tiny_build.bundle, folder, "--overlay", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    overlays = sorted((tmp_path / "out").glob("*.png"))
    assert len(overlays) == 3
    shown = cv2.imread(str(overlays[0]))
    assert shown is not None
    assert min(shown.shape[:2]) >= 448


def test_screen_of_an_empty_folder_is_a_sentence(tiny_build: TinyBuild, tmp_path: Path) -> None:
    done = edge("screen", tiny_build.bundle, tmp_path)
    assert done.returncode == 1
    assert "there is no picture" in done.stderr


def test_evaluate_measures_a_split(tiny_build: TinyBuild) -> None:
    done = edge("evaluate", tiny_build.bundle, "--data", tiny_build.data, "--split", "test", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["data"] == {"name": "synthetic-thin-smear", "split": "test", "synthetic": True}
    assert found["n"] == sum(map(sum, found["confusion"]))
    assert 0 <= found["auc"]["low"] <= found["auc"]["value"] <= found["auc"]["high"] <= 1


def test_evaluate_asks_which_label_is_which(tiny_build: TinyBuild, tmp_path: Path) -> None:
    pictures = sorted((tiny_build.data / "images").glob("*.jpg"))
    for label, source in zip(["sick", "sick", "well", "well"], pictures, strict=False):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / source.name).write_bytes(source.read_bytes())
    done = edge("evaluate", tiny_build.bundle, "--data", tmp_path)
    assert done.returncode == 1
    assert "--rename sick=LABEL" in done.stderr
    assert "sick=no_parasite" not in done.stderr
    (tmp_path / "well").rename(tmp_path / "No Parasite")
    assert (
        "--rename 'No Parasite=no_parasite'"
        in edge("evaluate", tiny_build.bundle, "--data", tmp_path, "--rename", "sick=parasite").stderr
    )
    (tmp_path / "No Parasite").rename(tmp_path / "well")
    named = ["--rename", "sick=parasite", "--rename", "well=no_parasite"]
    assert "--rename sick=ill" in edge("evaluate", tiny_build.bundle, "--data", tmp_path, "--rename", "sick=ill").stderr
    assert edge("evaluate", tiny_build.bundle, "--data", tmp_path, *named).returncode == 0


def test_a_kind_of_map_that_nothing_would_judge_is_misuse(tiny_build: TinyBuild) -> None:
    done = edge("evaluate", tiny_build.bundle, "--data", tiny_build.data, "--map", "cam")
    assert done.returncode == 2
    assert "--map says which maps --saliency judges; add --saliency" in done.stderr


AS_NOBODY = """
import os, sys
from edge.cli import edge, run
words = sys.argv[2:]
def screen(*words):
    return run(lambda **k: edge.main(["screen", sys.argv[1], *words], **k))
assert screen(words[-1]) == 0  # loads all that the superuser alone may be able to read
if not os.getuid():
    os.setuid(65534)
sys.exit(screen(*words))
"""


@pytest.mark.native
def test_a_picture_that_may_not_be_read_costs_its_own_line(tiny_build: TinyBuild) -> None:
    picture = sorted((tiny_build.data / "images").glob("*.jpg"))[0]
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        folder.chmod(0o755)
        for name in ("bundle.edge", "shut.jpg", "open.jpg"):
            source = tiny_build.bundle if name == "bundle.edge" else picture
            (folder / name).write_bytes(source.read_bytes())
        (folder / "shut.jpg").chmod(0)
        (folder / "closed").mkdir(mode=0)
        words = [str(folder / name) for name in ("bundle.edge", "shut.jpg", "closed/in.jpg", "open.jpg")]
        done = subprocess.run([sys.executable, "-c", AS_NOBODY, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    _, shut, closed, read = done.stdout.splitlines()
    assert "shut.jpg: it cannot be read (Permission denied); check its rights" in shut
    assert "in.jpg: it cannot be read (Permission denied); check its rights" in closed
    assert read.startswith(("refer", "clear"))


def test_evaluating_on_the_training_pictures_is_called_flattering(tiny_build: TinyBuild) -> None:
    assert "flatters" in edge("evaluate", tiny_build.bundle, "--data", tiny_build.data).stderr
    assert "flatters" not in edge("evaluate", tiny_build.bundle, "--data", tiny_build.data, "--split", "test").stderr


def test_show_says_what_the_bundle_is(tiny_build: TinyBuild) -> None:
    done = edge("show", tiny_build.bundle)
    assert done.returncode == 0
    for words in ("SYNTHETIC", "no_parasite, parasite", "p(parasite) >=", "96 x 96", "float32", "test/int8", "auc "):
        assert words in done.stdout
    assert "must not be used on patients" in edge("show", tiny_build.bundle, "--card").stdout
    assert edge("show", tiny_build.bundle, "--self-test").stdout.count("ok  ") == 13
    assert json.loads(edge("show", tiny_build.bundle, "--json").stdout)["schema"] == 4


@pytest.fixture(scope="module")
def by_class(tiny_build: TinyBuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test pictures as a folder per class: no manifest, groups in the names alone."""
    from edge.dataset import read_dataset

    folder = tmp_path_factory.mktemp("by-class")
    for sample in read_dataset(tiny_build.data).of_split("test"):
        (folder / sample.label).mkdir(exist_ok=True)
        shutil.copy(sample.path, folder / sample.label)
    return folder


def test_a_group_pattern_is_applied_without_a_split_too(tiny_build: TinyBuild, by_class: Path) -> None:
    words = ["evaluate", tiny_build.bundle, "--data", by_class, "--json"]
    alone, grouped = (json.loads(edge(*words, *more).stdout) for more in ([], ["--group-pattern", "(slide[0-9]+)_"]))
    assert alone["n_groups"] == alone["n"]
    assert grouped["n_groups"] < grouped["n"]
    assert [judged["level"] for judged in alone["levels"]] == ["picture"]
    assert [judged["level"] for judged in grouped["levels"]] == ["picture", "group"]


def test_a_group_pattern_beside_a_manifest_with_groups_is_refused(tiny_build: TinyBuild) -> None:
    done = edge("evaluate", tiny_build.bundle, "--data", tiny_build.data, "--group-pattern", "slide(.*)_")
    assert done.returncode == 1
    assert "a group pattern was given, but the manifest has groups" in done.stderr


def test_an_evaluation_is_judged_by_the_profile_and_the_prevalence_that_are_given(
    tiny_build: TinyBuild, by_class: Path
) -> None:
    words = ["evaluate", tiny_build.bundle, "--data", by_class]
    more = ["--profile", "who-tb-screening-2014", "--prevalence", "0.02"]
    said = edge(*words, *more).stdout
    assert "who-tb-screening-2014: profile cannot be shown: 4 positive pictures are too few: 29 are needed" in said
    assert "where 0.02 of those screened have the finding" in said
    assert "(of the network alone 0." in said
    found = json.loads(edge(*words, *more, "--json").stdout)
    judged, prevalence = found["levels"][0], found["predictive"]["prevalence"]
    hits, alarms = 0.02 * judged["sensitivity"]["value"], 0.98 * (1 - judged["specificity"]["value"])
    assert prevalence == 0.02
    assert found["predictive"]["ppv"]["value"] == pytest.approx(hits / (hits + alarms) if hits else 0)
    assert json.loads(edge(*words, "--json").stdout)["predictive"] is None
    refused = edge(*words, "--profile", "who")
    assert refused.returncode == 1
    assert "known names: who-tb-screening-2014, who-tb-screening-2014-optimal" in refused.stderr


@pytest.mark.parametrize("kind", ["none", "temperature", "platt", "isotonic"])
def test_two_findings_of_three_labels_are_decided_together(kind: str) -> None:
    calibration = {
        "none": Calibration(kind="none"),
        "temperature": Calibration(kind="temperature", temperature=2.0),
        "platt": Calibration(kind="platt", slope=2.0, intercept=0.5),
        "isotonic": Calibration(kind="isotonic", knots=((0.1, 0.05), (0.9, 0.95))),
    }[kind]
    labels, positive = ("clear", "pneumonia", "covid19"), ("pneumonia", "covid19")
    # A finding shared between two labels, each less probable than `clear`, is still a finding.
    rows = [("pneumonia", (0.4, 0.3, 0.3)), ("covid19", (0.1, 0.2, 0.7)), ("clear", (0.8, 0.1, 0.1))]
    raw = [replace(prediction(label, 0.0), outputs=outputs) for label, outputs in rows]
    found = calibrated(raw, calibration, [1, 2])
    assert [p.probability for p in found] == pytest.approx([sum(p.probabilities[1:]) for p in found])
    decision = replace(DECISION, positive=positive, calibration=calibration)
    evaluation = measure(found, labels=labels, decision=decision)
    assert evaluation.n_positive == 2
    assert (evaluation.judged.referred, evaluation.judged.cleared) == (2, 1)
    assert evaluation.auc.value == 1.0


def test_a_heat_map_that_cannot_be_drawn_is_told_of_and_ends_nothing(
    bundle: Bundle, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    screener = Screener(bundle)
    screening = screener.screen_file(pictures[0], explain=True)
    # As where a picture was small enough for the network when it was decoded, and is not for memory when it is shown.
    assert not _write_overlay(screener, replace(screening, source=b"\xff\xd8\xff"), tmp_path)
    assert "no heat map for" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
