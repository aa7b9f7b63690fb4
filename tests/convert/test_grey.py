"""A network of one channel through the commands, with a heat map of its own pass or, for a dense head, of another."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import RECIPE, edge

from edge.bundle import read_bundle


@pytest.mark.slow
@pytest.mark.parametrize("head", ["pool", "dense"])
def test_a_grey_network_goes_through_every_command(head: str, tiny_data: Path, tmp_path: Path) -> None:
    recipe, run, maps = tmp_path / "grey.toml", tmp_path / "run", tmp_path / "maps"
    network = f'backbone = "alexnet"\nwidth = 0.1\nhead = "{head}"\ncolour = "grey"'
    text = RECIPE.replace('backbone = "efficientnet-lite0"', network).replace('"package"', '"none"')
    # From scratch on 96 tiles it learns nothing that a probability could be fitted to.
    recipe.write_text(text + '[decision]\ncalibration = "none"\n')
    built = edge("convert", recipe, "--data", tiny_data, "--out", run)
    assert built.returncode == 0, built.stderr
    manifest = read_bundle(run / "tiny.edge").manifest
    assert manifest.preprocessing.colour == "grey"
    tested = edge("show", run / "tiny.edge", "--self-test")
    assert tested.returncode == 0, tested.stdout
    screened = edge("screen", run / "tiny.edge", tiny_data / "images", "--overlay", maps)
    assert screened.returncode == 0, screened.stderr
    shown = cv2.imread(str(next(maps.iterdir())))
    assert shown is not None
    assert np.ptp(shown, axis=2).max() > 0, "the picture under the map is the coloured one"
    assert manifest.saliency is not None
    has_map = "class_activation" in manifest.models["int8"].outputs
    assert (manifest.saliency.method, has_map) == (("fine", True) if head == "pool" else ("occlusion", False))
