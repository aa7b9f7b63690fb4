"""The report: one page that stands alone, says what the predictions say, and trusts no name."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from edge.bundle import Bundle
from edge.dataset import read_dataset
from edge.record import Verdict
from edge_convert import export, network
from edge_convert.backbones import find_backbone
from edge_convert.data.certificate import CERTIFICATE, certify, write_certificate
from edge_convert.data.check import check_dataset
from edge_convert.keras import keras
from edge_convert.prepare import load_prepared, prepare
from edge_convert.progress import finish
from edge_convert.prune.magnitude import LayerSparsity, sparsity_by_layer
from edge_convert.quantize.record import record_of
from edge_convert.recipe import DecisionRecipe, GateRecipe, NetworkRecipe, QuantizeRecipe, Recipe
from edge_convert.reference import load_reference, make_reference
from edge_convert.report import ReportInputs, numbers, write_report
from edge_convert.report.gallery import KINDS, MISSES_SHOWN, SHOWN, gallery, with_boxes
from edge_convert.report.inline import PALETTE
from edge_convert.report.numbers import Scored
from edge_convert.report.tradeoff import Beside, own_spots
from edge_convert.saliency.readout import fit_readout
from edge_convert.train.last_layer import fit_last_layer
from edge_convert.verify import Gate, Verification, draft_bundle, verify
from edge_runtime.evaluate import Prediction, measure
from edge_runtime.pipeline import Screener

RING, LATE, CLEAR = "<script>ring</script>", "late & large", "clear"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = "<script>alert('val')&.png"
PICTURES = {"train": 12, "val": 20, "test": 12}
SECTIONS = [
    "summary",
    "gates",
    "operating",
    "curves",
    "decisions",
    "declining",
    "probabilities",
    "training",
    "size",
    "agreement",
    "maps",
    "gallery",
    "data",
    "doubt",
]
SERIES = ("network", "calibrated")
BLOCKS = ("td", "th", "p", "h1", "h2", "h3", "caption", "figcaption", "dt", "dd", "li")
RECIPE = Recipe(
    name="dots <script>",
    classes=(CLEAR, RING, LATE),
    positive=(RING, LATE),
    network=NetworkRecipe(backbone="mobilenetv2", side_px=96, width=0.35, weights="none"),
    quantize=QuantizeRecipe(calibration_pictures=8),
    # Low, so that some of the findings are certain to be missed.
    decision=DecisionRecipe(profile="sensitivity >= 0.7", rule="point", prevalence=0.02),
    gates=GateRecipe(
        min_auc=0.0,
        max_auc_drop=1.0,
        max_accuracy_drop=1.0,
        max_flips=1.0,
        min_saliency_agreement=-1.0,
        max_randomised_agreement=1.0,
    ),
)


def draw(path: Path, label: str, random: np.random.Generator) -> str:
    """A dot in noise; no dot where the label is CLEAR. Returns its box as the manifest writes it."""
    picture = random.normal(170, 12, (100, 120, 3)).clip(0, 255).astype(np.uint8)
    boxes = []
    if label != CLEAR:
        x, y, radius = int(random.integers(30, 90)), int(random.integers(30, 70)), 12 if label == RING else 22
        cv2.circle(picture, (x, y), radius, (120, 40, 90), -1)
        boxes = [[x - radius, y - radius, 2 * radius, 2 * radius]]
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return json.dumps(boxes)


def write_dataset(folder: Path) -> None:
    random = np.random.default_rng(5)
    rows = []
    for split, count in PICTURES.items():
        for index in range(count):
            label = (CLEAR, RING, CLEAR, LATE)[index % 4]
            name = HOSTILE if (split, index) == ("val", 1) else f"{split}_{index:02d}.png"
            rows.append([name, label, f"patient <i>{split}{index // 2}", split, draw(folder / name, label, random)])
    (folder / "train_broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows.append(["train_broken.png", CLEAR, "nobody", "train", "[]"])
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["path", "label", "group", "split", "boxes_xywh"], *rows])
    (folder / "dataset.json").write_text(json.dumps({"name": "<b>dots", "synthetic": True}), encoding="utf-8")


def settle(model: Any, pictures: NDArray[np.uint8]) -> None:
    """Give the batch normalisations these pictures' statistics: random weights without them end in zeros."""
    for layer in model.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.0
    model(network.scaled(pictures, find_backbone("mobilenetv2")), training=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ReportInputs:
    """A small network on drawn dots, exported and verified for real: only its training is short."""
    folder, stage = tmp_path_factory.mktemp("dots"), tmp_path_factory.mktemp("stage")
    write_dataset(folder)
    dataset = read_dataset(folder)
    finish(prepare(RECIPE, dataset, dataset.fingerprint(), (), stage))
    certificate = certify(dataset, finish(check_dataset(dataset)), dataset.identity())
    write_certificate(stage / CERTIFICATE, certificate)
    prepared = load_prepared(stage)
    keras().utils.set_random_seed(1)
    # TensorFlow takes no such name for a model; the page must take any.
    model = network.build_classifier(replace(RECIPE, name="dots"))
    settle(model, prepared.pictures[prepared.rows("train")])
    first = finish(fit_last_layer(model, RECIPE, prepared))
    rows = export.choose_calibration(RECIPE, prepared)
    readout = finish(fit_readout(RECIPE, model, prepared))
    models = {
        "int8": export.export_int8(RECIPE, model, readout, prepared.pictures[rows]),
        "float32": export.export_float(RECIPE, model, readout),
    }
    bundle = stage / "dots.edge"
    bundle.write_bytes(b"a bundle")
    later = [replace(first, phase="fine-tune", epoch=epoch, loss=0.5 / epoch) for epoch in (1, 2)]
    return ReportInputs(
        recipe=RECIPE,
        prepared=prepared,
        models=models,
        verification=finish(verify(RECIPE, prepared, models, models["float32"], model, readout)),
        history=(first, *later),
        sparsity=tuple(sparsity_by_layer(model)),
        calibration=tuple(prepared.samples[row].name for row in rows),
        bundle=bundle,
    )


@dataclass
class Page(HTMLParser):
    """A parsed page: its elements, ids, and text by section."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    styles: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._section, self._open = "header", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = dict(attrs)
        self.elements.append((tag, fields))
        self._open = tag
        if tag == "section":
            self._section = fields["id"] or ""

    def handle_data(self, data: str) -> None:
        if self._open == "style":
            self.styles += data
        else:
            self.texts[self._section] = self.texts.get(self._section, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        if tag in BLOCKS:
            self.handle_data(" ")

    def text(self, section: str) -> str:
        """The section's words with every run of spaces, of any width, as one space."""
        return re.sub(r"\s+", " ", self.texts[section])

    def values(self, *names: str) -> list[str]:
        return [value for _, fields in self.elements for name, value in fields.items() if name in names and value]


def parse(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def path(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, inputs)
    return path


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return parse(path)


def written(tmp_path: Path, inputs: ReportInputs) -> Page:
    write_report(tmp_path / "report.html", inputs)
    return parse(tmp_path / "report.html")


def answers(inputs: ReportInputs) -> list[tuple[Prediction, Verdict]]:
    """All int8 predictions, each with what the device says of the file."""
    v = inputs.verification
    draft = draft_bundle(
        inputs.recipe, inputs.prepared, inputs.models, v.decision, acceptance=v.acceptance, parts=v.parts
    )
    device = Screener(draft)
    files = {sample.name: sample.path for sample in inputs.prepared.samples}
    found = [p for split in ("val", "test") for p in v.predictions[f"{split}/int8"]]
    return [(p, device.screen_file(files[p.name]).verdict) for p in found]


def dark(inputs: ReportInputs, names: set[str]) -> ReportInputs:
    """The same build where these pictures were measured to be too dark."""
    v = inputs.verification
    found = tuple(
        replace(p, measures={**p.measures, "brightness": 0.0}) if p.name in names else p
        for p in v.predictions["val/int8"]
    )
    return replace(inputs, verification=replace(v, predictions={**v.predictions, "val/int8": found}))


def answering_all(inputs: ReportInputs) -> ReportInputs:
    """The same build with a bundle that declines nothing."""
    v = inputs.verification
    evaluations = {key: replace(e, declined=None) for key, e in v.evaluations.items()}
    v = replace(v, acceptance=None, refusals=None, parts={}, evaluations=evaluations)
    return replace(inputs, verification=v)


def tally(inputs: ReportInputs, split: str) -> dict[tuple[bool, bool], int]:
    """Pictures by (has the finding, was referred), counted by hand."""
    counts = {(finding, referred): 0 for finding in (True, False) for referred in (True, False)}
    for prediction in inputs.verification.predictions[f"{split}/int8"]:
        finding = prediction.label in (RING, LATE)
        counts[finding, prediction.probability >= inputs.verification.decision.threshold] += 1
    return counts


def without_test_split(inputs: ReportInputs) -> Verification:
    v = inputs.verification
    return replace(
        v,
        predictions={key: found for key, found in v.predictions.items() if not key.startswith("test")},
        evaluations={key: found for key, found in v.evaluations.items() if not key.startswith("test")},
    )


def test_the_page_loads_nothing_from_anywhere(page: Page) -> None:
    assert {"script", "link", "iframe", "object", "embed", "base"}.isdisjoint(tag for tag, _ in page.elements)
    for value in page.values("src", "srcset", "poster", "data"):
        assert value.startswith("data:image/jpeg;base64,")
    for value in page.values("href", "xlink:href"):
        assert value.startswith(("#", "report_data/"))
    assert not re.search(r"@import|url\((?!#)", page.styles + " ".join(page.values("style", "clip-path")))


def test_every_section_is_there_in_order_and_has_a_heading(page: Page) -> None:
    assert [fields["id"] for tag, fields in page.elements if tag == "section"] == SECTIONS
    assert sum(tag == "h2" for tag, _ in page.elements) == len(SECTIONS) - 1
    assert sum(tag == "h1" for tag, _ in page.elements) == 1


def test_every_id_is_unique_and_every_inner_link_leads_somewhere(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.values("href", "xlink:href") if value.startswith("#")} <= set(ids)


@pytest.fixture(scope="module")
def full(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report with every section that a build may have: with known cases and a record of the quantization."""
    folder = tmp_path_factory.mktemp("full")
    v = inputs.verification
    draft = draft_bundle(inputs.recipe, inputs.prepared, inputs.models, v.decision)
    finish(make_reference(inputs.recipe, inputs.prepared, draft, folder))
    quantized = record_of(8, "random", "from end to end", None, ())
    write_report(folder / "report.html", replace(inputs, reference=load_reference(folder)[0], quantized=quantized))
    return folder / "report.html"


def test_every_part_that_a_reader_looks_for_is_reached_from_the_top(full: Path) -> None:
    page = parse(full)
    linked = {value[1:] for value in page.values("href") if value.startswith("#")}
    parts = [fields["id"] for tag, fields in page.elements if tag == "section"]
    parts += [fields["id"] for tag, fields in page.elements if tag == "h3" and fields.get("id")]
    wanted = {part for part in parts if part and not part.startswith("kind-")} - {"summary"}
    assert {"quantization", "maps", "known", "recipe", "versions"} <= wanted
    assert wanted <= linked


def test_no_words_run_together_and_none_is_left_in_backticks(full: Path) -> None:
    page = parse(full)
    for section in page.texts:
        said = page.text(section)
        assert "`" not in said
        assert not re.search(r"[\])]?\.[A-Z]", said)
    assert "edge evaluate on local pictures" in page.text("doubt")


@pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed here")
@pytest.mark.parametrize(("width", "fits"), [(1200, ".scroll"), (400, "html")], ids=["desk", "telephone"])
def test_nothing_is_cut_off_in_a_browser(full: Path, tmp_path: Path, width: int, fits: str) -> None:
    """At a desk's width every table fits; on a telephone wide tables scroll by themselves and the page does not."""
    script = (
        f"<script>document.title = [...document.querySelectorAll('{fits}')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText.slice(0, 40)).join('|')</script>"
    )
    (tmp_path / "page.html").write_text(full.read_text(encoding="utf-8") + script, encoding="utf-8")
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    words += [f"--window-size={width},1000", "--dump-dom", (tmp_path / "page.html").as_uri()]
    done = subprocess.run([str(CHROMIUM), *words], capture_output=True, text=True, check=True, timeout=120)
    assert "<title></title>" in done.stdout


def test_every_picture_and_plot_has_words_and_every_table_a_caption(page: Page) -> None:
    assert all(fields.get("alt") for tag, fields in page.elements if tag == "img")
    drawings = [fields for _, fields in page.elements if fields.get("role") == "img"]
    assert len(drawings) == sum(tag == "svg" for tag, _ in page.elements) == 14
    assert all(fields.get("aria-label") for fields in drawings)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption")


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_first_page_counts_what_the_predictions_say(inputs: ReportInputs, page: Page, split: str) -> None:
    counts = tally(inputs, split)
    hits, misses = counts[True, True], counts[True, False]
    alarms, cleared = counts[False, True], counts[False, False]
    said = page.text("summary")
    assert (
        f"of {hits + misses} pictures with the finding {hits} would be referred: {100 * hits / (hits + misses):.1f} %"
        in said
    )
    assert (
        f"Of {alarms + cleared} without it {cleared} would be cleared: {100 * cleared / (alarms + cleared):.1f} %"
        in said
    )
    answered = inputs.verification.evaluations[f"{split}/int8"].declined.answered.value
    assert f"Answered: {100 * answered:.1f} % [" in said


def test_the_first_sentence_says_when_the_bundle_declines(inputs: ReportInputs, page: Page, tmp_path: Path) -> None:
    assert (
        "It declines to answer with retake where the picture is too poor and with uncertain where it is unlike the "
        "pictures that the model knows or where its probability is just below the threshold." in page.text("summary")
    )
    said = written(tmp_path, answering_all(inputs)).text("summary")
    assert "otherwise clear. It supports" in said
    for words in ("retake", "declined", "Answered"):
        assert words not in said


def test_all_four_answers_are_counted_by_truth_and_once(inputs: ReportInputs, page: Page) -> None:
    """One table, and beside each row what the threshold alone would have got right."""
    v = inputs.verification
    said = page.text("decisions")
    device = answers(inputs)
    for split in ("val", "test"):
        of_split = {p.name for p in v.predictions[f"{split}/int8"]}
        for truth, labels in (("with the finding", (RING, LATE)), ("without", (CLEAR,))):
            found = [verdict for p, verdict in device if p.name in of_split and p.label in labels]
            counts = Counter(verdict.decision for verdict in found)
            finding = truth != "without"
            right = sum((verdict.probability >= v.decision.threshold) == finding for verdict in found)
            row = " ".join(str(counts[kind]) for kind in ("refer", "clear", "uncertain", "retake"))
            assert f"{truth} {len(found)} {row} {100 * right / len(found):.1f} %" in said
    assert "Right, if nothing were declined" in said
    assert sum(fields.get("href") == "#declining" for _, fields in page.elements) > 2
    assert "Answers by label" not in page.text("declining")


def test_a_bundle_that_declines_nothing_has_no_columns_for_it(inputs: ReportInputs, tmp_path: Path) -> None:
    page = written(tmp_path, answering_all(inputs))
    assert "Uncertain" not in page.text("decisions")
    assert "declined" not in page.text("decisions") + page.text("gallery")


def test_few_findings_are_called_few(page: Page) -> None:
    assert "Only 10 pictures have the finding." in page.text("summary")


def test_a_profile_that_is_not_shown_is_called_out(inputs: ReportInputs, page: Page) -> None:
    for split in ("val", "test"):
        standing = inputs.verification.evaluations[f"{split}/int8"].standing
        assert not standing.met
        assert f"sensitivity >= 0.7: {standing.words}." in page.text("summary")
    assert inputs.verification.decision.standing in page.text("operating")
    assert inputs.verification.decision.standing in page.text("gates")
    assert "not met, not required" in page.text("gates")


def test_the_operating_point_shows_both_rules_and_both_levels(inputs: ReportInputs, page: Page) -> None:
    said = page.text("operating")
    for words in ("lower-bound 0.", "point (used) 0.", "validation picture 10", "validation group 10", "rounds:"):
        assert words in said
    referred = inputs.verification.by_rule["point"].referred
    assert f"{10 * referred:.1f} %" in said


def test_where_every_group_has_the_finding_no_specificity_is_claimed(
    inputs: ReportInputs, page: Page, tmp_path: Path
) -> None:
    """Each patient of this set has a picture with the finding."""
    v = inputs.verification
    assert "validation group 10" in page.text("operating")
    assert re.search(r"group 10 [^%]*% \[[^]]*\] [^%]*% 0 none to measure", page.text("operating"))
    decision = replace(v.decision, level="group")
    judged = {
        key: measure(found, labels=RECIPE.classes, decision=decision, prevalence=0.02, acceptance=v.acceptance)
        for key, found in v.predictions.items()
    }
    by_group = replace(v, decision=decision, evaluations=judged, by_rule={"point": judged["val/int8"].judged})
    grouped = written(tmp_path, replace(inputs, verification=by_group))
    assert "Specificity none to measure: every group has the finding" in grouped.text("summary")
    for section in ("summary", "operating"):
        assert "0.0 % [0.0, 100.0]" not in page.text(section) + grouped.text(section)
    assert "validation none to measure: every group has the finding" in grouped.text("operating")


def test_predictive_values_are_those_of_the_prevalence(inputs: ReportInputs, page: Page) -> None:
    judged = inputs.verification.evaluations["test/int8"].judged
    hits, alarms = 0.02 * judged.sensitivity.value, 0.98 * (1 - judged.specificity.value)
    assert "where 2.0 % of those screened have the finding" in page.text("operating")
    expected = 100 * hits / (hits + alarms) if hits else 0.0
    assert re.search(rf"test {expected:.1f} % \[", page.text("operating"))


def test_the_gallery_counts_what_the_device_answers(inputs: ReportInputs, page: Page) -> None:
    counts = Counter((p.label != CLEAR, verdict.decision) for p, verdict in answers(inputs))
    said = page.text("gallery")
    expected = {
        "Misses": counts[True, "clear"],
        "False alarms": counts[False, "refer"],
        "Findings declined": counts[True, "uncertain"] + counts[True, "retake"],
        "Others declined": counts[False, "uncertain"] + counts[False, "retake"],
        "Hits": counts[True, "refer"],
        "Correctly cleared": counts[False, "clear"],
    }
    places = [said.index(f"{title}: {count} ") for title, count in expected.items()]
    assert places == sorted(places)
    assert sum(expected.values()) == PICTURES["val"] + PICTURES["test"]


def test_every_missed_finding_is_shown(inputs: ReportInputs, page: Page) -> None:
    missed = [p.name for p, verdict in answers(inputs) if p.label != CLEAR and verdict.decision == "clear"]
    assert missed
    shown = page.text("gallery").split("False alarms:")[0]
    assert all(name in shown for name in missed)


def test_a_picture_that_the_device_declines_is_shown_as_declined_with_the_reason(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    v = inputs.verification
    found = v.predictions["val/int8"]
    cleared = next(p for p in found if p.label == CLEAR and p.probability < v.decision.threshold)
    referred = next(p for p in found if p.label != CLEAR and p.probability >= v.decision.threshold)
    said = written(tmp_path, dark(inputs, {cleared.name, referred.name})).text("gallery")
    titles = "|".join(title for title, *_ in KINDS)
    parts = re.split(rf"({titles}): \d+ \(", said)
    by_kind = dict(zip(parts[1::2], parts[2::2], strict=True))
    for title, other, name in (
        ("Others declined", "Correctly cleared", cleared.name),
        ("Findings declined", "Hits", referred.name),
    ):
        assert name in by_kind[title]
        assert name not in by_kind[other]
        assert "retake · too dark: give more light and take it again" in by_kind[title]


def test_of_many_declined_pictures_each_reason_is_shown(inputs: ReportInputs) -> None:
    v = inputs.verification
    clear = [p for p in v.predictions["val/int8"] if p.label == CLEAR]
    frequent = [replace(p, measures={**p.measures, "brightness": 0.0}, probability=0.9) for p in clear * 2]
    rare = replace(clear[0], measures={**clear[0].measures, "size_px": 1.0}, probability=0.01)
    kinds = gallery(screener(inputs, declining=True), {"val": [*frequent, rare]}, inputs.prepared.samples)
    kind = next(kind for kind in kinds if kind.title == "Others declined")
    assert kind.total == 21
    assert len(kind.shown) == SHOWN
    assert {each.answer.reasons[0] for each in kind.shown} == {"too_dark", "too_small"}


def test_the_gates_are_shown_as_measured(inputs: ReportInputs, page: Page) -> None:
    said = page.text("gates")
    for gate in inputs.verification.gates:
        name = f"{gate.name} {gate.note}" if gate.note else gate.name
        result = "passed" if gate.required else "not met, not required"
        wanted = f"{'at most' if gate.at_most else 'at least'} {gate.limit:g}"
        assert f"{name} {gate.measured:.4f} {wanted} {result}" in said


def test_a_build_that_meets_its_gates_names_its_bundle(page: Page) -> None:
    assert "All 7 gates passed. The bundle dots.edge (0.00 MB) was written." in page.text("header")
    assert re.search(r"sha256 of dots\.edge: [0-9a-f]{64} ", page.text("data"))


def test_a_missed_gate_is_the_first_thing_said(inputs: ReportInputs, tmp_path: Path) -> None:
    gates = (*inputs.verification.gates, Gate(name="beauty <1>", measured=0.5, limit=0.9, at_most=False))
    page = written(tmp_path, replace(inputs, verification=replace(inputs.verification, gates=gates), bundle=None))
    assert "1 of 8 gates missed. No bundle was made. Missed: beauty <1>." in page.text("header")
    assert "beauty <1> 0.5000 at least 0.9 MISSED" in page.text("gates")


@pytest.mark.parametrize("synthetic", [True, False], ids=["synthetic", "photographed"])
def test_the_banner_is_there_exactly_for_synthetic_data(inputs: ReportInputs, tmp_path: Path, synthetic: bool) -> None:
    page = written(tmp_path, replace(inputs, prepared=replace(inputs.prepared, synthetic=synthetic)))
    assert ("Synthetic: rendered pictures, not for patients" in page.text("header")) == synthetic


def test_hostile_names_and_labels_stay_text(page: Page) -> None:
    everything = " ".join(map(page.text, page.texts))
    for text in (RING, LATE, "<b>dots", "dots <script>"):
        assert text in everything
    assert {"script", "i"}.isdisjoint(tag for tag, _ in page.elements)
    assert not [name for _, fields in page.elements for name in fields if name.startswith("on")]


def test_a_hostile_file_name_stays_text_wherever_its_picture_is_shown(inputs: ReportInputs, tmp_path: Path) -> None:
    v = inputs.verification
    lowest = {
        key: tuple(replace(p, probability=0.0) if p.name == HOSTILE else p for p in found)
        for key, found in v.predictions.items()
    }
    page = written(tmp_path, replace(inputs, verification=replace(v, predictions=lowest)))
    assert HOSTILE in page.text("gallery")
    assert any(alt.startswith(HOSTILE) for alt in page.values("alt"))
    assert "script" not in {tag for tag, _ in page.elements}


def test_the_data_section_names_the_unreadable_picture_and_counts_the_rest(inputs: ReportInputs, page: Page) -> None:
    said = page.text("data")
    assert "Unreadable pictures, left out: 1" in said
    assert f"train_broken.png {inputs.prepared.unreadable[0][1]}" in said
    assert "training 6 3 3 12 validation 10 5 5 20 test 6 3 3 12" in said
    assert "8 training pictures (3 clear, 3 <script>ring</script>, 2 late & large)" in said


def test_the_calibration_pictures_are_those_that_were_used_and_not_drawn_again(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    used = ("train_00.png", "train_01.png", "train_05.png")
    said = written(tmp_path, replace(inputs, calibration=used)).text("data")
    assert "3 training pictures (1 clear, 2 <script>ring</script>, 0 late & large)" in said


def test_calibration_pictures_of_a_folder_are_said_to_be_of_that_folder(inputs: ReportInputs, tmp_path: Path) -> None:
    recipe = replace(inputs.recipe, quantize=replace(inputs.recipe.quantize, calibration="shipped <set>"))
    said = written(tmp_path, replace(inputs, recipe=recipe, calibration=("a.png", "b.png"))).text("data")
    assert "Quantization ranges were set by 2 pictures of the folder shipped <set>." in said


def test_known_groups_are_counted(page: Page) -> None:
    assert "22 groups (patients, slides or fields), none in two splits." in page.text("data")
    assert "10 groups." in page.text("summary")
    assert "not known" not in page.text("data")


def test_unknown_groups_are_said_to_be_unknown(inputs: ReportInputs, tmp_path: Path) -> None:
    page = written(tmp_path, replace(inputs, prepared=replace(inputs.prepared, has_groups=False)))
    assert "Groups are not known: pictures of one patient may be in several splits." in page.text("data")
    assert "none in two splits" not in page.text("data")
    assert "groups not known." in page.text("summary")


def test_pictures_dropped_because_they_leak_are_counted_and_named(inputs: ReportInputs, tmp_path: Path) -> None:
    prepared = replace(inputs.prepared, dropped=("copy <1>.png", "copy 2.png"))
    said = written(tmp_path, replace(inputs, prepared=prepared)).text("data")
    assert "2 pictures were dropped" in said
    assert "copy <1>.png copy 2.png" in said


def test_the_recipe_and_the_versions_are_complete(page: Page) -> None:
    said = page.text("data")
    for words in (
        "network.width 0.35",
        "decision.profile sensitivity >= 0.7",
        "classes clear, <script>ring",
        "tf-keras",
    ):
        assert words in said


def test_each_plot_links_to_its_numbers(path: Path, page: Page) -> None:
    linked = {value for value in page.values("href") if value.startswith("report_data/")}
    assert linked == {f"report_data/{file.name}" for file in (path.parent / "report_data").iterdir()}
    assert len(linked) == 14


def rows_of(path: Path, name: str) -> list[dict[str, str]]:
    with (path.parent / "report_data" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(("split", "n", "findings"), [("val", 20, 10), ("test", 12, 6)])
def test_the_numbers_behind_the_plots_add_up(path: Path, split: str, n: int, findings: int) -> None:
    curve = [row for row in rows_of(path, f"roc_{split}") if row["series"] == "int8"]
    assert (curve[0]["false_alarm_share"], curve[0]["sensitivity"]) == ("0", "0")
    assert (curve[-1]["false_alarm_share"], curve[-1]["sensitivity"]) == ("1", "1")
    bins = rows_of(path, f"histogram_{split}")
    assert sum(int(row["with_finding"]) for row in bins) == findings
    assert sum(int(row["without"]) for row in bins) == n - findings
    by_series = {
        name: [row for row in rows_of(path, f"calibration_{split}") if row["series"] == name] for name in SERIES
    }
    assert sum(int(row["pictures"]) for row in by_series["network"]) == n
    calibration = by_series["calibrated"]
    assert sum(int(row["pictures"]) for row in calibration) == n
    observed = sum(int(row["pictures"]) * float(row["share_with_finding"]) for row in calibration)
    assert observed == pytest.approx(findings, abs=1e-6)


def test_plots_follow_the_page_in_light_and_dark(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    for name, (by_day, by_night) in PALETTE.items():
        assert f"--{name}: {by_day};" in text
        assert f"--{name}: {by_night};" in text
    for drawing in drawings:
        # A colour that is no variable would vanish on one of the two backgrounds.
        assert not re.search(r"#[0-9a-f]{6}\b", drawing, flags=re.IGNORECASE)


def test_the_page_is_light_enough_to_send(path: Path) -> None:
    assert path.stat().st_size < 6e6


def test_the_same_inputs_give_the_same_bytes(inputs: ReportInputs, path: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", inputs)
    assert (tmp_path / "report.html").read_bytes() == path.read_bytes()


def test_numbers_of_an_earlier_report_do_not_stay(inputs: ReportInputs, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", inputs)
    assert (tmp_path / "report_data" / "roc_test.csv").exists()
    write_report(tmp_path / "report.html", replace(inputs, verification=without_test_split(inputs)))
    assert not (tmp_path / "report_data" / "roc_test.csv").exists()
    assert (tmp_path / "report_data" / "roc_val.csv").exists()


def test_a_report_cut_short_leaves_the_old_one(
    inputs: ReportInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("old", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_report(tmp_path / "report.html", inputs)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["report.html"]


def test_without_a_test_split_the_page_says_that_nothing_is_unseen(inputs: ReportInputs, tmp_path: Path) -> None:
    page = written(tmp_path, replace(inputs, verification=without_test_split(inputs)))
    assert "This data set has no test split." in page.text("summary")
    assert "Test pictures" not in page.text("summary")


@pytest.mark.parametrize("epochs", [0, 1], ids=["no epochs", "one epoch"])
def test_a_short_history_is_drawn_or_said_to_be_empty(inputs: ReportInputs, tmp_path: Path, epochs: int) -> None:
    page = written(tmp_path, replace(inputs, history=inputs.history[:epochs]))
    assert ("No epochs were recorded." in page.text("training")) == (epochs == 0)


def test_the_builds_own_files_are_drawn_with_what_they_reach_and_cost(inputs: ReportInputs, path: Path) -> None:
    rows = list(csv.DictReader((path.with_name("report_data") / "tradeoff.csv").read_text().splitlines()))
    assert [(row["file"], row["kind"]) for row in rows] == [
        ("this build, float32, not pruned", "narrower"),
        ("this build, float32, pruned", "magnitude"),
        ("this build, int8, pruned", "magnitude"),
    ]
    v = inputs.verification
    for row, variant in zip(rows, ("float32", "float32", "int8"), strict=True):
        evaluation = v.evaluations[f"val/{variant}"]
        assert float(row["auc"]) == pytest.approx(evaluation.auc.value)
        assert float(row["specificity"]) == pytest.approx(evaluation.specificity_at_target.value)
        assert float(row["latency_ms"]) > 0


def test_a_sweep_on_other_pictures_is_not_drawn_beside_the_build_and_the_page_says_so(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    own = own_spots(inputs.recipe, inputs.verification)
    int8 = inputs.verification.evaluations["val/int8"]
    other = replace(own[-1], label="1", name="<b>a case")
    same = Beside(spots=(other,), n=int8.n, n_positive=int8.n_positive, target=0.7, machine="a machine")
    page = written(tmp_path, replace(inputs, beside=same))
    assert "<b>a case" in page.text("size")
    page = written(tmp_path, replace(inputs, beside=replace(same, n=int8.n + 1)))
    assert "<b>a case" not in page.text("size")
    assert "do not compare with this build and are not shown" in page.text("size")


def test_without_pruning_the_page_promises_nothing_of_it(inputs: ReportInputs, tmp_path: Path) -> None:
    recipe = replace(inputs.recipe, prune=replace(inputs.recipe.prune, sparsity=0.0))
    page = written(tmp_path, replace(inputs, recipe=recipe))
    assert "This recipe prunes nothing." in page.text("size")
    assert "Magnitude pruning" not in page.text("size")


def screener(
    inputs: ReportInputs,
    *,
    threshold: float | None = None,
    declining: bool = False,
    roles: tuple[str, ...] = export.roles(RECIPE),
) -> Screener:
    v = inputs.verification
    decision = v.decision if threshold is None else replace(v.decision, threshold=threshold)
    acceptance, parts = (v.acceptance, v.parts) if declining else (None, None)
    draft = draft_bundle(inputs.recipe, inputs.prepared, inputs.models, decision, acceptance=acceptance, parts=parts)
    entries = {
        name: replace(entry, outputs={role: role for role in roles}) for name, entry in draft.manifest.models.items()
    }
    shown = v.saliency if "fine_activation" in roles else None
    manifest = replace(draft.manifest, saliency=shown, models=entries)
    return Screener(Bundle(manifest=manifest, parts=draft.parts, sha256=""))


def as_kinds(inputs: ReportInputs, found: tuple[Prediction, ...], threshold: float, **options: Any) -> Any:
    return gallery(screener(inputs, threshold=threshold, **options), {"val": found}, inputs.prepared.samples)


def test_a_picture_that_is_gone_is_said_to_be_gone_in_its_place(inputs: ReportInputs, tmp_path: Path) -> None:
    found = inputs.verification.predictions["val/int8"][:1]
    samples = [replace(sample, path=tmp_path / "gone.png") for sample in inputs.prepared.samples]
    kinds = gallery(screener(inputs), {"val": found}, samples)
    (shown,) = next(kind for kind in kinds if kind.total).shown
    assert shown.original is None
    assert shown.note == "The picture could not be read for this report: there is no such file."


def test_a_picture_that_was_changed_since_is_said_to_be_changed(inputs: ReportInputs) -> None:
    (found,) = inputs.verification.predictions["val/int8"][:1]
    kinds = as_kinds(inputs, (replace(found, probability=found.probability + 0.02),), 1.0)
    (shown,) = next(kind for kind in kinds if kind.total).shown
    assert shown.note.startswith("The file has changed since it was measured: its probability is now ")


def test_a_model_without_maps_shows_the_pictures_alone(inputs: ReportInputs) -> None:
    kinds = as_kinds(inputs, inputs.verification.predictions["val/int8"], 0.5, roles=("probabilities",))
    shown = [each for kind in kinds for each in kind.shown]
    assert shown
    assert all(each.original is not None and each.overlay is None for each in shown)
    assert {each.note for each in shown} == {"This model gives no map."}


@pytest.mark.parametrize(
    ("threshold", "title", "limit"),
    [
        (0.99, "Misses", MISSES_SHOWN),
        (0.99, "Correctly cleared", SHOWN),
        (0.0, "Hits", SHOWN),
        (0.0, "False alarms", SHOWN),
    ],
)
def test_of_many_pictures_the_gallery_shows_a_capped_choice(
    inputs: ReportInputs, threshold: float, title: str, limit: int
) -> None:
    found = tuple(p for p in inputs.verification.predictions["val/int8"] for _ in range(4))
    kind = next(kind for kind in as_kinds(inputs, found, threshold) if kind.title == title)
    assert kind.total == 40
    assert len(kind.shown) == limit


def test_both_sides_of_a_pair_have_one_scale(inputs: ReportInputs) -> None:
    kinds = as_kinds(inputs, inputs.verification.predictions["val/int8"][:4], 0.5)
    for shown in (each for kind in kinds for each in kind.shown):
        # The colour bar is to the right of the picture, the caption below it.
        assert shown.original.height < shown.overlay.height < 1.2 * shown.original.height
        assert shown.original.width < shown.overlay.width < 1.4 * shown.original.width


def test_a_box_is_outlined_on_a_copy() -> None:
    picture = np.full((100, 100, 3), 128, np.uint8)
    marked = with_boxes(picture, [(20, 30, 40, 10)])
    assert (picture == 128).all()
    assert (marked[30, 20:61] == 255).all()
    assert (marked[29, 20:61] == 0).all()
    assert (marked[31:40, 21:60] == 128).all()


def some_scores(n: int = 300) -> Scored:
    random = np.random.default_rng(2)
    truth = random.random(n) < 0.3
    # Rounded, so that there are ties.
    scores = np.round((random.random(n) + truth) / 2, 2)
    return Scored(scores=scores, truth=truth, groups=tuple(f"g{i // 3}" for i in range(n)))


def test_the_roc_curve_is_that_of_scikit_learn() -> None:
    data = some_scores()
    curve = numbers.roc(data)
    x, y, thresholds = roc_curve(data.truth, data.scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.x, x)
    np.testing.assert_allclose(curve.y, y)
    np.testing.assert_allclose(curve.thresholds, thresholds)


def test_the_precision_recall_curve_is_that_of_scikit_learn() -> None:
    data = some_scores()
    curve = numbers.precision_recall(data)
    precision, recall, thresholds = precision_recall_curve(data.truth, data.scores)
    np.testing.assert_allclose(curve.x, recall[-2::-1])
    np.testing.assert_allclose(curve.y, precision[-2::-1])
    np.testing.assert_allclose(curve.thresholds, thresholds[::-1])


def test_the_bands_enclose_the_curves_they_belong_to() -> None:
    data = some_scores()
    curve, band = numbers.roc(data), numbers.roc_band(data)
    drawn = np.interp(band.x, curve.x, curve.y)
    assert ((band.low <= drawn + 1e-9) & (drawn <= band.high + 1e-9)).all()
    assert (band.high - band.low).max() < 0.3


def test_the_operating_point_counts_a_score_at_the_threshold_as_referred() -> None:
    data = Scored(scores=np.array([0.2, 0.5, 0.5, 0.9]), truth=np.array([False, False, True, True]), groups=("a",) * 4)
    point = numbers.operating_point(data, 0.5)
    assert (point.sensitivity.value, point.specificity.value, point.precision.value) == (1.0, 0.5, pytest.approx(2 / 3))


@pytest.mark.parametrize(("n", "bins"), [(3, 1), (25, 2), (458, 10)])
def test_calibration_bins_are_filled_alike_and_fewer_where_pictures_are_few(n: int, bins: int) -> None:
    found = numbers.calibration(some_scores(n))
    assert len(found) == bins
    # Scores are tied: a bin may hold a tie more or less than its share.
    assert max(each.n for each in found) - min(each.n for each in found) <= 0.3 * n / bins + 1
    assert sum(each.n for each in found) == n


def test_pictures_of_one_score_are_one_bin_of_the_calibration_in_whatever_order() -> None:
    data = Scored(scores=np.full(100, 0.5), truth=np.arange(100) < 50, groups=tuple(map(str, range(100))))
    (found,) = numbers.calibration(data)
    assert (found.n, found.mean_score, found.observed.value) == (100, 0.5, 0.5)


def test_of_few_groups_the_bands_claim_nothing() -> None:
    data = replace(some_scores(), groups=tuple(f"g{i % 4}" for i in range(300)))
    for band in (numbers.roc_band(data), numbers.precision_recall_band(data)):
        assert (band.low.max(), band.high.min()) == (0.0, 1.0)


@pytest.mark.parametrize("n", [2, 3])
def test_a_tiny_split_still_has_curves(n: int) -> None:
    data = Scored(scores=np.linspace(0, 1, n), truth=np.arange(n) > 0, groups=tuple(map(str, range(n))))
    for band in (numbers.roc_band(data), numbers.precision_recall_band(data)):
        assert np.isfinite([band.low, band.high]).all()


def test_importing_the_report_loads_nothing_heavy() -> None:
    code = "import sys, edge_convert.report; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"matplotlib", "jinja2", "tensorflow"}.isdisjoint(done.stdout.split())


def test_layers_of_any_number_are_drawn(inputs: ReportInputs, tmp_path: Path) -> None:
    one = (LayerSparsity(layer="only", weights=10, sparsity=0.5),)
    epochs = tuple(replace(inputs.history[-1], phase="prune", epoch=i) for i in range(1, 61))
    page = written(tmp_path, replace(inputs, sparsity=one, history=epochs))
    assert "50.0 % of the kernels’ weights are zero" in page.text("size")
