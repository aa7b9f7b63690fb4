"""Sweeps: the grid and the front as pure functions, and real builds that are killed, fail and go on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EDGE, RECIPE, TinyBuild, edge
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import EdgeError, RecipeError
from edge.profile import parse_profile
from edge_convert.backbones import find_backbone
from edge_convert.recipe import Recipe, read_recipe
from edge_convert.report.tradeoff import kind_of, read_beside
from edge_convert.run_folder import RunFolder
from edge_convert.sweep.choice import Sample, choose, sample_of
from edge_convert.sweep.grid import Case, lay_over, make_cases, parse_grid, recipe_digest, to_toml
from edge_convert.sweep.kept import finished_state, mark_begun, require_own_case, shared_keys
from edge_convert.sweep.memory import room_for_another
from edge_convert.sweep.pareto import Point, best, dominates, front, parse_budget
from edge_convert.verify import Verification, load_verification
from edge_runtime.evaluate import measure
from edge_runtime.metrics import fit_threshold

ROOT = Path(__file__).parents[2]
MINIMAL = """
name = "spots"
classes = ["clean", "spotted"]
positive = ["spotted"]
[network]
backbone = "mobilenetv2"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(MINIMAL)
    return read_recipe(path)


def anything_goes(recipe: Recipe) -> None:
    pass


def test_axes_are_crossed_and_the_last_changes_fastest(recipe: Recipe) -> None:
    axes = parse_grid(["network.side_px=160,224", "prune.sparsity=0,0.5"])
    cases, impossible = make_cases(recipe, axes, anything_goes)
    assert [(c.recipe.network.side_px, c.recipe.prune.sparsity) for c in cases] == [
        (160, 0.0),
        (160, 0.5),
        (224, 0.0),
        (224, 0.5),
    ]
    assert cases[1].name == "side_px=160,prune.sparsity=0.5"
    assert not impossible


@pytest.mark.parametrize(
    ("word", "choices"),
    [
        ("network.width=1.0,0.5", [{"network.width": 1.0}, {"network.width": 0.5}]),
        ("network.weights=a/b.h5,none", [{"network.weights": "a/b.h5"}, {"network.weights": "none"}]),
        ('network.weights="a,b.h5",none', [{"network.weights": "a,b.h5"}, {"network.weights": "none"}]),
        ("positive=['a'],['a','b']", [{"positive": ["a"]}, {"positive": ["a", "b"]}]),
        ("decision.profile=sensitivity >= 0.9", [{"decision.profile": "sensitivity >= 0.9"}]),
        (
            "network.backbone,network.weights=[mobilenetv2,m.h5],[efficientnet-lite0, package]",
            [
                {"network.backbone": "mobilenetv2", "network.weights": "m.h5"},
                {"network.backbone": "efficientnet-lite0", "network.weights": "package"},
            ],
        ),
    ],
    ids=["numbers", "bare words", "a quoted comma", "lists", "spaces and signs", "keys that go together"],
)
def test_a_word_of_the_grid_is_one_axis(word: str, choices: list[dict[str, object]]) -> None:
    assert parse_grid([word]) == [tuple(choices)]


def test_a_grid_file_crosses_its_lists_with_its_cases(tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(
        "[grid]\nnetwork.side_px = [160, 224]\n[[case]]\nnetwork.width = 1.0\n"
        "[[case]]\nnetwork.width = 0.5\nnetwork.weights = 'none'\n"
    )
    axes = parse_grid([str(file)])
    assert axes[0] == ({"network.side_px": 160}, {"network.side_px": 224})
    assert axes[1] == ({"network.width": 1.0}, {"network.width": 0.5, "network.weights": "none"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the grid is empty"),
        (["network.width="], "has an empty value"),
        (["network.width=1,,2"], "has an empty value"),
        (["network.wdth=1"], "unknown key 'network.wdth' in the grid; known here: network.backbone, network.side_px"),
        (["nonsense=1"], "unknown key 'nonsense'"),
        (["name=a,b"], "share the recipe's name"),
        (["seed=1,2", "seed=3"], "seed is set by two parts of the grid"),
        (["network.width,seed=[1.0]"], "is not one value for each of network.width, seed"),
        (["network.width,seed=1.0,2"], "is not one value for each"),
        (["nowhere.toml"], "is neither KEY=VALUE,... nor a file"),
    ],
    ids=[
        "none",
        "no value",
        "a hole",
        "misspelt",
        "no such table",
        "the name",
        "twice",
        "one short",
        "no brackets",
        "no file",
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused_by_name(words: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_grid(words)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to vary"),
        ("[grid]\n", "nothing to vary"),
        ("[grid]\nseed = 1\n", "grid.seed must be a list"),
        ("[grid]\nseed = []\n", "grid.seed must be a list"),
        ("[[case]]\n", "sets nothing"),
        ("network.width = [1]\n", "has network"),
        ("[grid", "not valid TOML"),
    ],
    ids=["empty", "empty table", "no list", "empty list", "empty case", "loose key", "broken"],
)
def test_a_grid_file_that_varies_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(RecipeError, match=message.replace(".", r"\.")):
        parse_grid([str(tmp_path / "grid.toml")])


def only_narrow_ones_without_weights(recipe: Recipe) -> None:
    if recipe.network.width == 0.5 and recipe.network.weights != "none":
        raise RecipeError("no weights at 0.5", remedy="use none")


def test_the_ready_grid_has_every_kind_of_pruning_and_the_narrower_networks() -> None:
    def check(recipe: Recipe) -> None:
        network = recipe.network
        find_backbone(network.backbone).check(network.side_px, network.width, network.weights)

    recipe = read_recipe(ROOT / "convert/recipes/malaria.toml")
    cases, _ = make_cases(recipe, parse_grid([str(ROOT / "convert/grids/smaller.toml")]), check)
    assert [(kind_of(case.recipe), case.recipe.network.width) for case in cases] == [
        ("dense", 1.0),
        ("magnitude", 1.0),
        ("2:4", 1.0),
        ("channels", 1.0),
        ("narrower", 0.75),
        ("narrower", 0.5),
        ("narrower", 0.35),
    ]


def test_what_cannot_be_built_is_named_and_skipped_on_request_only(recipe: Recipe) -> None:
    axes = parse_grid(["network.width=1.0,0.5", "network.weights=imagenet,none"])
    with pytest.raises(RecipeError) as refused:
        make_cases(recipe, axes, only_narrow_ones_without_weights)
    assert "1 of the grid's 4 cases cannot be built" in refused.value.message
    assert "width=0.5,weights=imagenet: no weights at 0.5" in refused.value.message
    assert "--skip-impossible" in refused.value.remedy
    cases, impossible = make_cases(recipe, axes, only_narrow_ones_without_weights, skip_impossible=True)
    assert (len(cases), [case.name for case in impossible]) == (3, ["width=0.5,weights=imagenet"])


@pytest.mark.parametrize("word", ["network.backbone=mobilenetv2,mobilnetv2", "network.side_px=96,big", "seed=1,-1"])
def test_a_value_that_no_recipe_can_have_is_never_skipped(recipe: Recipe, word: str) -> None:
    with pytest.raises(RecipeError, match="is possible in no case"):
        make_cases(recipe, parse_grid([word]), anything_goes, skip_impossible=True)


def test_the_same_recipe_twice_is_refused(recipe: Recipe) -> None:
    idle = parse_grid(["prune.method=none", "prune.sparsity=0.2,0.5"])
    with pytest.raises(RecipeError, match=r"differ in what their prune.method does not read"):
        make_cases(recipe, idle, anything_goes)
    with pytest.raises(RecipeError, match="are the same recipe"):
        make_cases(recipe, parse_grid(["prune.sparsity=0,0.0"]), anything_goes)


def test_files_of_one_name_in_two_folders_are_two_cases(recipe: Recipe) -> None:
    cases, _ = make_cases(recipe, parse_grid(["network.weights=a/w.h5,b/w.h5"]), anything_goes)
    names = [case.name for case in cases]
    assert len(set(names)) == 2
    assert all(name.startswith("weights=w.h5-") and "/" not in name for name in names)


def test_a_recipe_written_as_toml_is_the_same_recipe(recipe: Recipe, tmp_path: Path) -> None:
    changed = lay_over(
        recipe,
        {
            "name": 'a "b" ä\x7f',
            "train.learning_rate": 1e-5,
            "decision.prevalence": 0.02,
            "gates.require_profile": True,
        },
    )
    (tmp_path / "written.toml").write_text(to_toml(changed), encoding="utf-8")
    assert read_recipe(tmp_path / "written.toml") == changed
    assert recipe_digest(changed) != recipe_digest(recipe)


points = st.builds(
    Point,
    auc=st.sampled_from([0.7, 0.8, 0.9]),
    specificity=st.sampled_from([0.5, 0.6, 0.7]),
    latency_ms=st.floats(1, 10),
    bytes=st.sampled_from([1_000_000, 1_000_400, 2_000_000]),
    compressed_bytes=st.sampled_from([500_000, 900_000]),
)


@given(st.lists(points, max_size=12))
def test_a_front_is_what_nothing_dominates_and_is_never_empty(found: list[Point]) -> None:
    marked = front(found)
    assert any(marked) == bool(found)
    for point, mark in zip(found, marked, strict=True):
        assert mark == (not any(dominates(other, point, "specificity") for other in found))


@given(points, points)
def test_no_two_cases_dominate_one_another_and_none_itself(one: Point, other: Point) -> None:
    assert not (dominates(one, other, "auc") and dominates(other, one, "auc"))
    assert not dominates(one, one, "auc")


def point(specificity: float, latency_ms: float, megabytes: float, auc: float = 0.9) -> Point:
    size = int(megabytes * 1e6)
    return Point(auc=auc, specificity=specificity, latency_ms=latency_ms, bytes=size, compressed_bytes=size)


def test_the_front_keeps_what_is_better_in_anything() -> None:
    found = [point(0.9, 10, 4), point(0.8, 5, 4), point(0.8, 10, 2), point(0.8, 10.1, 2), point(0.7, 6, 4)]
    assert front(found) == [True, True, True, True, False]


def test_the_best_is_the_faster_of_equals_and_none_of_none() -> None:
    assert best([point(0.8, 3, 1), point(0.9, 9, 1), point(0.9, 8, 1)]) == 2
    assert best([]) is None


def test_a_budget_names_what_a_case_misses() -> None:
    budget = parse_budget("latency_ms=30, model_mb=4,auc=0.95")
    assert str(budget) == "latency_ms <= 30, model_mb <= 4, auc >= 0.95"
    assert budget.misses(point(0.9, 30, 4, auc=0.95)) == ()
    assert budget.misses(point(0.9, 31, 4.1, auc=0.9)) == ("latency_ms", "model_mb", "auc")
    assert budget.misses(point(0.9, 11, 4, auc=0.95), latency_factor=3) == ("latency_ms",)


@pytest.mark.parametrize("text", ["", "latency=3", "latency_ms", "latency_ms=-1", "auc=nan", "auc=0.9,auc=0.8"])
def test_a_budget_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(EdgeError, match="in the budget"):
        parse_budget(text)


def test_another_build_starts_where_memory_is_left_for_it_and_for_those_that_still_grow() -> None:
    assert room_for_another([], 1)
    assert not room_for_another([0], 10**18)


def test_the_measure_that_is_drawn_again_is_the_one_that_was_reported(tiny_build: TinyBuild) -> None:
    verification = load_verification(tiny_build.run / "verify")
    int8 = verification.evaluations["val/int8"]
    assert sample_of(verification, "specificity").measure("specificity") == pytest.approx(
        int8.specificity_at_target.value
    )
    assert sample_of(verification, "auc").measure("auc") == pytest.approx(int8.auc.value)


@given(st.integers(0, 10_000))
def test_specificity_at_the_target_counts_a_picture_that_is_drawn_twice_as_two(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(1, 12, 30) / 13
    truth = np.arange(30) < random.integers(1, 29)
    times = random.integers(1, 4, 30)
    sample = Sample(scores=scores, truth=truth, groups=(), target=0.8, of=())
    drawn, found = np.repeat(scores, times), np.repeat(truth, times)
    wanted = (drawn[~found] < fit_threshold(drawn, found, 0.8)).mean()
    assert sample.measure("specificity", times.astype(np.float64)) == pytest.approx(wanted)


def with_scores(verification: Verification, scores: NDArray[np.float64]) -> Verification:
    """As many pictures as scores, two a group, every fourth group with the finding."""
    model = verification.predictions["val/int8"][0]
    pictures = tuple(
        replace(
            model,
            name=f"{place}.png",
            group=f"{place // 2}",
            label="parasite" if place // 2 % 4 == 0 else "no_parasite",
            outputs=(float(1 - score), float(score)),
            probabilities=(float(1 - score), float(score)),
            probability=float(score),
        )
        for place, score in enumerate(scores)
    )
    int8 = measure(pictures, labels=("no_parasite", "parasite"), decision=verification.decision)
    return replace(verification, predictions={"val/int8": pictures}, evaluations={"val/int8": int8})


def test_a_choice_is_held_against_each_rival_on_the_same_draws_of_groups(tiny_build: TinyBuild) -> None:
    verification = load_verification(tiny_build.run / "verify")
    found = np.arange(80) // 2 % 4 == 0
    random = np.random.default_rng(1)
    good = np.clip(0.3 + 0.3 * found + random.normal(0, 0.08, 80), 0.01, 0.99)
    cases = [
        ("good", with_scores(verification, good)),
        ("its twin", with_scores(verification, good)),
        ("bad", with_scores(verification, random.uniform(0.1, 0.9, 80))),
    ]
    choice = choose(0, cases, "auc", trained=5)
    twin, bad = choice.rivals
    assert (choice.case, choice.trained, choice.fitting, choice.not_resampled) == ("good", 5, 3, "")
    assert twin.difference is not None
    assert (twin.difference.low, twin.difference.high, twin.apart, twin.drawn) == (0, 0, False, 0)
    assert bad.difference is not None
    assert bad.apart
    assert bad.difference.low > 0
    assert choice.drawn == 1
    # Without a test split nothing is said of one.
    assert choice.test_auc is None
    other_target = replace(
        cases[1][1], decision=replace(verification.decision, profile=parse_profile("sensitivity >= 0.5"))
    )
    apples_and_pears = choose(0, [cases[0], ("other", other_target)], "specificity", trained=2)
    assert "same target" in apples_and_pears.not_resampled


def test_a_choice_by_few_groups_is_held_by_the_cases_own_intervals(tiny_build: TinyBuild) -> None:
    verification = load_verification(tiny_build.run / "verify")
    choice = choose(0, [("one", verification), ("two", verification)], "specificity", trained=3)
    assert "are only" in choice.not_resampled
    assert (choice.drawn, choice.rivals[0].difference, choice.rivals[0].apart) == (None, None, False)
    assert choice.test_auc is not None


def test_a_stage_that_another_build_made_is_shared_without_a_copy(tiny_build: TinyBuild, tmp_path: Path) -> None:
    with RunFolder.opened(tmp_path / "other") as other:
        other.adopt("data", RunFolder(tiny_build.run))
        ours, theirs = tmp_path / "other/data/pictures.npy", tiny_build.run / "data/pictures.npy"
        assert np.array_equal(np.load(ours), np.load(theirs))
        assert other.key("data") == RunFolder(tiny_build.run).key("data")
        # What replaces it here leaves the other build's alone.
        with other.writing("data", "else", afresh=True):
            pass
    assert theirs.exists()


def test_cases_share_the_stages_that_their_recipes_agree_in(recipe: Recipe) -> None:
    def keys(**changes: Any) -> dict[str, str]:
        return shared_keys(lay_over(recipe, {name.replace("__", "."): value for name, value in changes.items()}))

    own = keys()
    assert list(own) == ["data", "finetune"]
    assert keys(prune__method="channels", quantize__repair=True, distill__share=1.0) == own
    assert keys(train__epochs=7)["data"] == own["data"]
    for name, value in {"train__epochs": 7, "network__width": 0.5, "seed": 9, "network__side_px": 128}.items():
        assert keys(**{name: value})["finetune"] != own["finetune"], name
    assert keys(network__side_px=128)["data"] != own["data"]
    taught = keys(teacher="resnet50")
    assert list(taught) == ["data", "teacher", "finetune"]
    assert keys(teacher="resnet50", distill__share=0.3)["teacher"] == taught["teacher"]
    assert keys(teacher="resnet50", distill__share=0.3)["finetune"] != taught["finetune"]


# Both differ after the training, which they find done. No int8 file is better by 1.
GRID = ("--grid", "decision.calibration,gates.max_auc_drop=[platt,1.0],[none,-1.0]")
BUILT, MISSED = "decision.calibration=platt,gates.max_auc_drop=1.0", "decision.calibration=none,gates.max_auc_drop=-1.0"
# One worker makes the sweep that several tests look at.
together = pytest.mark.xdist_group("sweep")


@pytest.fixture(scope="module")
def swept(tiny_build: TinyBuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose first build is killed, then the sweep itself; then the same again, and once more."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "tiny.toml").write_text(RECIPE)
    shutil.copytree(tiny_build.run, folder / "out" / BUILT)
    # The second one has to find the prepared pictures and the trained network with the first.
    shutil.copytree(tiny_build.run, folder / "out" / MISSED, ignore=shutil.ignore_patterns("data", "finetune"))
    words = ["sweep", folder / "tiny.toml", "--data", tiny_build.data, "--out", folder / "out", *GRID]
    with (folder / "killed").open("w") as log:
        process = subprocess.Popen([*EDGE, *map(str, words)], stderr=log, stdout=log)
    first = child_of(process)
    os.kill(first, signal.SIGKILL)
    second = child_of(process, other_than=first)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while running(second) and time.monotonic() < deadline:
        time.sleep(0.05)
    (folder / "left").write_text("left running" if running(second) else "")
    done = edge(*words, "--jobs", "2", "--budget", "latency_ms=1000,model_mb=100")
    assert done.returncode == 0, done.stderr
    for name in ("sweep.csv", "sweep.json", "sweep.svg"):
        shutil.copy(folder / "out" / name, folder)
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def child_of(process: subprocess.Popen[bytes], *, other_than: int = 0) -> int:
    """The process that a sweep has started, waited for."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if found and int(found[0]) != other_than:
            return int(found[0])
        time.sleep(0.05)
    raise AssertionError("it started none")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@together
def test_a_build_that_is_killed_costs_its_row_and_the_sweep_goes_on(swept: Path) -> None:
    log = (swept / "killed").read_text()
    assert f"[1/2] {BUILT}: failed: it was killed (signal 9)" in log


@together
def test_a_killed_sweep_leaves_no_process_and_goes_on(swept: Path) -> None:
    assert not (swept / "left").read_text()
    log = (swept / "stderr").read_text()
    for case, end in ((BUILT, "built"), (MISSED, "gate missed")):
        assert f"] {case}: finetune, reused" in log
        assert f"] {case}: {end}" in log
        # What its build said.
        assert "report: " in (swept / "out" / case / "log.txt").read_text()
    assert "MISS  AUC lost by int8" in (swept / "out" / MISSED / "log.txt").read_text()


@together
def test_a_finished_sweep_is_kept_and_says_the_same(swept: Path, tiny_build: TinyBuild) -> None:
    out = swept / "out"
    done = edge("sweep", swept / "tiny.toml", "--data", tiny_build.data, "--out", out, *GRID, "--json")
    assert done.returncode == 0, done.stderr
    assert f"[1/2] {BUILT}: kept" in done.stderr
    assert f"[2/2] {MISSED}: kept" in done.stderr
    states = [case["state"] for case in json.loads(done.stdout)["cases"]]
    assert states == ["built", "gate missed"]
    # A grid with one more axis finds its cases by what their recipes say, and checks what it was made of.
    more = edge(
        *("sweep", swept / "tiny.toml", "--data", tiny_build.data, "--out", out, *GRID),
        *("--grid", "quantize.calibration_pictures=24", "--budget", "auc=0.9999999,model_mb=0.001"),
    )
    assert more.returncode == 1
    assert more.stderr.count(": kept") == 2
    assert "no case that met its gates fits it" in more.stdout
    # A damaged bundle is not taken for one; a damaged file costs its own row.
    bundle, key = out / BUILT / "tiny.edge", json.loads((out / BUILT / "case.json").read_text())["key"]
    whole = bundle.read_bytes()
    assert finished_state(out / BUILT, key) == "built"
    bundle.write_bytes(whole[:100])
    assert finished_state(out / BUILT, key) is None
    bundle.write_bytes(whole)
    measures = out / BUILT / "verify/verification.json"
    whole = measures.read_bytes()
    measures.write_bytes(whole[:100])
    damaged = edge("sweep", swept / "tiny.toml", "--data", tiny_build.data, "--out", out, *GRID)
    measures.write_bytes(whole)
    assert damaged.returncode == 1
    assert f"] {BUILT}: failed: {measures} was changed since the build made it" in damaged.stderr
    assert f"] {MISSED}: kept" in damaged.stderr


@together
def test_a_case_that_cannot_be_started_costs_its_own_row_and_nothing_else(
    swept: Path, tiny_build: TinyBuild, tmp_path: Path
) -> None:
    shutil.copytree(tiny_build.run, tmp_path / BUILT)
    owner = tmp_path / BUILT / "build.json"
    owner.write_text(owner.read_text().replace('"tiny"', '"precious"'))
    (tmp_path / MISSED).write_text("in its place")
    done = edge("sweep", swept / "tiny.toml", "--data", tiny_build.data, "--out", tmp_path, *GRID)
    assert done.returncode == 1
    assert f"] {BUILT}: failed: {tmp_path / BUILT} holds another build: 'precious'" in done.stderr
    assert f"] {MISSED}: failed: {tmp_path / MISSED}: File exists (check the free space and the rights)" in done.stderr
    assert not (tmp_path / BUILT / "log.txt").exists()
    assert (tmp_path / MISSED).read_text() == "in its place"
    assert (tmp_path / "sweep.csv").exists()


def test_somebodys_files_in_a_cases_folder_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    case = Case(name="case", settings={}, recipe=recipe)
    require_own_case(case, tmp_path / "case", tmp_path)
    (tmp_path / "case").mkdir()
    (tmp_path / "case/recipe.toml").write_text("mine")
    with pytest.raises(EdgeError, match=r"recipe\.toml is not a build's"):
        require_own_case(case, tmp_path / "case", tmp_path)
    # One that a sweep has begun, and was killed before the build wrote whose it is.
    mark_begun(case, tmp_path / "case")
    require_own_case(case, tmp_path / "case", tmp_path)


@together
@pytest.mark.slow
def test_each_case_is_an_ordinary_build_that_convert_finds_done(swept: Path, tiny_build: TinyBuild) -> None:
    case = swept / "out" / BUILT
    done = edge("convert", case / "recipe.toml", "--data", tiny_build.data, "--out", case)
    assert done.returncode == 0, done.stderr
    for stage in ("data", "finetune", "prune", "quantize", "verify"):
        assert f"{stage}: unchanged, reused" in done.stderr


@together
def test_the_table_has_measures_times_and_sizes_and_says_what_a_choice_is_worth(swept: Path) -> None:
    built, missed = csv.DictReader((swept / "sweep.csv").read_text().splitlines())
    for row in (built, missed):
        assert float(row["latency_ms"]) > 0
        assert float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"])
    # The same network twice: timed in turns they come out alike on a busy machine too.
    assert float(built["latency_ratio"]) == 1
    assert float(missed["latency_ratio"]) == pytest.approx(1, abs=0.2)
    assert built["bytes"] == missed["bytes"]
    # A case without a bundle cannot be taken.
    assert (built["front"], built["take"], missed["front"], missed["take"]) == ("True", "True", "False", "False")
    assert missed["reason"] == "AUC lost by int8"
    text = (swept / "stdout").read_text()
    assert "GATE MISSED: AUC lost by int8" in text
    assert "chosen among 1 of 2 cases by the very pictures that its measures are of, which flatters them" in text
    assert "on the test split, which had no say: AUC" in text
    assert "not against the device's own" in text
    assert json.loads((swept / "sweep.json").read_text())["choice"]["case"] == BUILT
    assert (swept / "sweep.svg").read_text().count("<svg") == 1
    assert [(row["kind"], row["width"]) for row in (built, missed)] == [("magnitude", "1.0")] * 2


@together
def test_a_builds_report_shows_the_cases_of_a_sweep_beside_its_own_files(swept: Path, tiny_build: TinyBuild) -> None:
    beside = read_beside(swept / "sweep.json")
    assert [spot.name for spot in beside.spots] == [BUILT, f"{MISSED}, GATE MISSED"]
    assert beside.is_of(load_verification(tiny_build.run / "verify").evaluations["val/int8"])
    case = swept / "out" / BUILT
    words = ["convert", case / "recipe.toml", "--data", tiny_build.data, "--out", case]
    done = edge(*words, "--beside", swept / "sweep.json")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((case / "report_data/tradeoff.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == [
        *(f"this build, {name}" for name in ("float32, not pruned", "float32, pruned", "int8, pruned")),
        *(BUILT, f"{MISSED}, GATE MISSED"),
    ]
    assert [row["kind"] for row in rows[:3]] == ["dense", "magnitude", "magnitude"]
    own, same = rows[2], rows[3]
    assert (own["auc"], own["bytes"], own["compressed_bytes"]) == (same["auc"], same["bytes"], same["compressed_bytes"])
    refused = edge(*words, "--beside", case / "recipe.toml")
    assert refused.returncode == 1
    assert "cannot be read as the results of a sweep" in refused.stderr
