"""A recipe is read strictly; what is wrong with it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import RecipeError
from edge_convert.backbones import BACKBONES
from edge_convert.recipe import describe_keys, read_recipe
from edge_convert.train.augment import AUGMENTATIONS

ROOT = Path(__file__).parents[2]
MINIMAL = """
name = "spots"
classes = ["clean", "spotted"]
positive = ["spotted"]
[network]
backbone = "mobilenetv2"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_minimal_recipe_has_defaults_for_the_rest(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, MINIMAL))
    assert recipe.network.side_px == 224
    assert recipe.decision.profile == "sensitivity >= 0.95"
    assert recipe.preprocessing.fit == "crop"


@pytest.mark.parametrize("path", sorted((ROOT / "convert/recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid_and_names_things_that_exist(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.network.backbone in BACKBONES
    assert recipe.train.augmentation in AUGMENTATIONS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'name' is missing"),
        ("name = [", "not valid TOML"),
        (MINIMAL + "side = 3", "unknown key 'network.side'; known here: backbone, side_px"),
        (MINIMAL + "side_px = 8", "'network.side_px' is 8; it must be between 32 and 1024"),
        (MINIMAL + "side_px = 'big'", "'network.side_px' must be a whole number, not text"),
        (MINIMAL + "[train]\naugmentation = 'x'", "use one of 'microscopy', 'radiography', 'photograph', 'none'"),
        (MINIMAL + "[prune]\nweight_bits = 5\n[quantize]\naware_epochs = 1", "prune.weight_bits"),
        (MINIMAL + "[prune]\nweight_bits = 9", "between 2 and 8"),
        (MINIMAL + "[prune]\nsparsity = 1.0", "between 0.0 and 0.95"),
        (MINIMAL.replace('"spotted"]\n[', '"x"]\n['), "'positive' must be some of the classes"),
        (MINIMAL.replace('["spotted"]', '["clean", "spotted"]'), "not all of them"),
        (
            MINIMAL + "[decision]\nprofile = 'who-tb'",
            "known names: who-tb-screening-2014, who-tb-screening-2014-optimal",
        ),
        (MINIMAL + "[decision]\nprevalence = 1.0", "'decision.prevalence' is 1.0; it must lie between 0 and 1"),
        (MINIMAL + "[decision]\ntarget_sensitivity = 0.9", "unknown key 'decision.target_sensitivity'"),
        (MINIMAL.replace('"spots"', '"../spots"'), "becomes a file name"),
    ],
    ids=[
        "empty",
        "broken",
        "unknown",
        "range",
        "type",
        "choice",
        "shared-and-trained",
        "weight-bits",
        "sparsity",
        "positive",
        "all-positive",
        "profile",
        "prevalence",
        "old key",
        "name",
    ],
)
def test_a_wrong_recipe_is_refused_by_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(written(tmp_path, text))
    assert words in caught.value.message


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_a_recipe_that_is_not_there_is_a_sentence(tmp_path: Path, path: str) -> None:
    with pytest.raises(RecipeError, match=r"there is no recipe|is a folder"):
        read_recipe(tmp_path / path)


def test_changes_are_laid_over_the_file(tmp_path: Path) -> None:
    changes = ("train.epochs=2", "network.weights=some/file.h5", "prune.sparsity=0", 'positive=["clean"]')
    recipe = read_recipe(written(tmp_path, MINIMAL), changes=changes)
    assert recipe.train.epochs == 2
    assert recipe.network.weights == "some/file.h5"
    assert recipe.prune.sparsity == 0
    assert recipe.positive == ("clean",)


@pytest.mark.parametrize("change", ["train.epochs", "train.epoch=2", "name.x=2", "=2"])
def test_a_wrong_change_is_refused(tmp_path: Path, change: str) -> None:
    with pytest.raises(RecipeError):
        read_recipe(written(tmp_path, MINIMAL), changes=(change,))


def test_every_key_is_documented_with_its_default() -> None:
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    for key, default in describe_keys():
        assert f"| `{key}` | {default} |" in page
