"""The standard metadata in exported files: as this reader, MediaPipe's reader and MediaPipe's classifier see it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import TinyBuild, edge, once_for_all_workers

from edge.bundle import read_bundle
from edge.errors import EdgeError
from edge.preprocess import decode
from edge_convert.tflite_file import last_operation, read_metadata
from edge_runtime.pipeline import Screener

ROOT = Path(__file__).parents[2]
# Kept between runs: making it takes a download of some hundred megabytes.
CACHE = ROOT / "build/mediapipe"
MEDIAPIPE = "mediapipe==1.2.2"
LABELS = ("no_parasite", "parasite")
STEP = 1 / 256


@pytest.mark.parametrize("variant", ["int8", "float32"])
def test_an_exported_file_says_how_to_feed_it_and_what_it_gives(tiny_build: TinyBuild, variant: str) -> None:
    _, model = read_bundle(tiny_build.bundle).model(variant)
    metadata = read_metadata(model)
    assert metadata is not None
    assert metadata.name == "tiny"
    assert metadata.description == "Screens a picture for: parasite. Not a diagnosis."
    # EfficientNet-Lite: (pixel - 127) / 128.
    assert (metadata.mean, metadata.std) == ((127.0,), (128.0,))
    assert metadata.labels == (LABELS, (), (), (), ())
    outputs = Interpreter(model_content=model).get_output_details()
    assert [last_operation(model, output["index"]) for output in outputs[:1]] == ["SOFTMAX"]
    assert [list(output["shape"])[-1] for output in outputs] == [2, 2, 2, 1280, 192]


def test_the_labels_lie_behind_the_file_with_no_date(tiny_build: TinyBuild) -> None:
    _, model = read_bundle(tiny_build.bundle).model("int8")
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        (member,) = archive.infolist()
        assert (member.filename, member.date_time) == ("labels.txt", (1980, 1, 1, 0, 0, 0))
        assert archive.read(member) == b"no_parasite\nparasite"


def test_our_own_file_is_adopted_without_a_word_and_says_the_same(tiny_build: TinyBuild, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_build.bundle)
    for variant in ("int8", "float32"):
        (tmp_path / "model.tflite").write_bytes(bundle.model(variant)[1])
        out = tmp_path / f"{variant}.edge"
        done = edge("adopt", tmp_path / "model.tflite", "--positive", "parasite", "--out", out)
        assert done.returncode == 0, done.stderr
        ours, adopted = Screener(bundle, variant=variant), Screener.open(out)
        for path in sorted((tiny_build.data / "images").iterdir())[:8]:
            # As pixels: a JPEG our bundles scale while it is decoded, and adopted ones do not.
            pixels = decode(path.read_bytes())
            expected = ours.screen_frame(pixels, name=path.name).outputs
            assert adopted.screen_frame(pixels, name=path.name).outputs == pytest.approx(
                expected, abs=1e-6 if variant == "float32" else 0
            )


def test_damaged_metadata_is_a_sentence_or_read_and_never_a_crash(tiny_build: TinyBuild) -> None:
    _, model = read_bundle(tiny_build.bundle).model("int8")
    start = model.index(b"M001") - 4
    end = model.rindex(b"PK\x03\x04")
    random = np.random.default_rng(2)
    refused = 0
    for _ in range(300):
        damaged = bytearray(model)
        for place in random.integers(start, min(start + 1000, end), 4):
            damaged[place] = random.integers(0, 256)
        try:
            read_metadata(bytes(damaged))
        except EdgeError:
            refused += 1
    assert refused > 10


PROGRAM = """
import json, sys
import mediapipe
import numpy
from mediapipe.tasks.python import BaseOptions, vision
from mediapipe.tasks.metadata.metadata_schema_py_generated import ModelMetadata, ModelMetadataT

model = open(sys.argv[1], "rb").read()
metadata = ModelMetadataT.InitFromObj(ModelMetadata.GetRootAs(model[model.index(b"M001") - 4 :], 0))
(graph,) = metadata.subgraphMetadata
(taken,) = graph.inputTensorMetadata
scaling = taken.processUnits[0].options
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
found = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for picture in numpy.load(sys.argv[2]):
        picture = numpy.ascontiguousarray(picture)
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
        heads = classifier.classify(image).classifications
        found.append([[h.head_name, {c.category_name or str(c.index): c.score for c in h.categories}] for h in heads])
print(json.dumps({
    "name": metadata.name.decode(),
    "outputs": [output.name.decode() for output in graph.outputTensorMetadata],
    "scaling": [*scaling.mean.tolist(), *scaling.std.tolist()],
    "size": [taken.content.contentProperties.defaultSize.width, taken.content.contentProperties.colorSpace],
    "found": found,
}))
"""


def mediapipe_python() -> Path:
    """The Python of an environment with MediaPipe, made where it is not there. Skips without uv or a network."""
    python = CACHE / "env/bin/python"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with once_for_all_workers(CACHE / "lock"):
        if python.exists() and (CACHE / ".complete").exists():
            return python
        if uv is None:
            pytest.skip("there is no uv to make an environment with")
        for words in (
            ["venv", "--quiet", "--clear", "--python", "3.11", str(CACHE / "env")],
            ["pip", "install", "--quiet", "--python", str(python), MEDIAPIPE],
        ):
            done = subprocess.run([uv, *words], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"the environment cannot be made: {done.stderr.strip().splitlines()[-1]}")
        (CACHE / ".complete").touch()
    return python


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["int8", "float32"])
def test_mediapipe_names_and_scores_as_the_runtime_does(tiny_build: TinyBuild, variant: str, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_build.bundle)
    model, tiles = tmp_path / "model.tflite", tmp_path / "tiles.npy"
    model.write_bytes(bundle.model(variant)[1])
    # Of the input's size: MediaPipe resizes otherwise than the runtime does.
    prepare = bundle.manifest.preprocessing
    files = sorted((tiny_build.data / "images").iterdir())
    pictures = [prepare.to_input(prepare.decode(path.read_bytes())) for path in files]
    np.save(tiles, np.stack(pictures))
    done = subprocess.run(
        [str(mediapipe_python()), "-c", PROGRAM, str(model), str(tiles)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert (said["name"], said["scaling"], said["size"]) == ("tiny", [127.0, 128.0], [96, 1])
    assert said["outputs"] == ["probabilities", "class_activation", "fine_activation", "embedding", "earlier_embedding"]
    screener = Screener(bundle, variant=variant)
    tolerance = 1e-6 if variant == "int8" else 1e-4
    for picture, heads in zip(pictures, said["found"], strict=True):
        png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        expected = screener.screen(png, name="").outputs
        name, scores = heads[0]
        assert name == "probabilities"
        assert max(scores, key=scores.__getitem__) == LABELS[int(np.argmax(expected))]
        assert [scores[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=tolerance)
