"""Imports point one way: edge <- edge_runtime <- edge_convert, and TensorFlow lives in one module of the last."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "edge": ROOT / "edge",
    "edge_runtime": ROOT / "runtime/edge_runtime",
    "edge_convert": ROOT / "convert/edge_convert",
}
DEVICE_LIBRARIES = {"click", "cv2", "numpy"}
MAY_IMPORT = {
    "edge": {"edge"} | DEVICE_LIBRARIES,
    "edge_runtime": {"edge", "edge_runtime"} | DEVICE_LIBRARIES,
}
COMMANDS = [
    "screen",
    "watch",
    "evaluate",
    "similar",
    "reference",
    "show",
    "doctor",
    "data",
    "adopt",
    "convert",
    "sweep",
]


def imported_packages(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_each_half_imports_only_what_is_below_it(package: str) -> None:
    for file in PACKAGES[package].rglob("*.py"):
        assert imported_packages(file) <= MAY_IMPORT[package], file


def test_tensorflow_is_imported_in_one_module_only() -> None:
    heavy = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization"}
    users = {file.name for file in PACKAGES["edge_convert"].rglob("*.py") if imported_packages(file) & heavy}
    assert users == {"keras.py"}


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS), ["data", "check"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys; from edge.cli import edge, run; status = run(lambda **k: edge.main(sys.argv[1:], **k));"
        "heavy = {'tensorflow', 'numpy', 'cv2', 'matplotlib', 'sklearn', 'ai_edge_litert'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_the_device_half_never_loads_the_workstation_half() -> None:
    program = (
        "import sys, edge_runtime.pipeline, edge_runtime.evaluate, edge_runtime.selftest, edge_runtime.commands;"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('edge_convert', 'tensorflow')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_screening_waits_for_no_module_that_it_does_not_need() -> None:
    """Each is 0.2 to 5 ms of a cold start: bench/verdict_cost.py."""
    program = (
        "import sys, edge.cli, edge_runtime.commands, edge_runtime.pictures, edge_runtime.pipeline;"
        "print(*{'csv', 'secrets', 'random', 'subprocess', 'multiprocessing', 'importlib.metadata', 'edge.dataset',"
        "'edge_runtime.delegates.choose', 'edge_runtime.interpreters.trial', 'edge_runtime.selftest',"
        "'edge_runtime.kept', 'edge_runtime.similar', 'edge_runtime.evaluate'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
