"""Environments of their own for other interpreter packages, made with uv where they are not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import once_for_all_workers

ROOT = Path(__file__).parents[1]
# Kept between runs: making one takes half a minute and a download.
CACHE = ROOT / "build/interpreters"
LITERT = ["ai-edge-litert==2.3.0", "numpy", "opencv-python-headless", "click"]
# opencv-python-headless 4.12 and later want numpy 2; tflite-runtime 2.14 cannot use it.
ENVIRONMENTS = {
    "litert-1.4.0": ("ai-edge-litert", ["ai-edge-litert==1.4.0", "numpy", "opencv-python-headless", "click"]),
    "litert-2.3.0": ("ai-edge-litert", LITERT),
    "tflite-2.14.0": ("tflite-runtime", ["tflite-runtime==2.14.0", "numpy<2", "opencv-python-headless<4.12", "click"]),
}
"""By name: an interpreter package, and what is installed to run it."""

# tf2onnx translates a TFLite file with TensorFlow.
RIVALS = [*LITERT, "onnxruntime==1.32.0", "openvino==2026.4.1", "tf2onnx==1.17.0", "tensorflow-cpu==2.21.0"]
INSTALLED = {name: packages for name, (_, packages) in ENVIRONMENTS.items()} | {"rivals": RIVALS}


def environment(name: str) -> Path:
    """The Python of the named environment, made where it is not there. Skips without uv, Python 3.11 or a network."""
    python = CACHE / name / "bin/python"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with once_for_all_workers(CACHE / f"{name}.lock"):
        if python.exists() and (CACHE / name / ".complete").exists():
            return python
        if uv is None:
            pytest.skip("there is no uv to make environments with")
        for words in (
            ["venv", "--quiet", "--clear", "--python", "3.11", str(CACHE / name)],
            ["pip", "install", "--quiet", "--python", str(python), *INSTALLED[name]],
        ):
            done = subprocess.run([uv, *words], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"the environment cannot be made: {done.stderr.strip().splitlines()[-1]}")
        (CACHE / name / ".complete").touch()
    return python
