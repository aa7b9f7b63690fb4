"""Mutated pictures and bundles: a verdict or a sentence, never a crash, a hang or a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from conftest import TinyBuild

from edge.acceptance import Answer

CHUNK = 1000


@pytest.mark.native
@pytest.mark.parametrize(
    "first",
    [0, 1000, *(pytest.param(first, marks=pytest.mark.slow) for first in range(2000, 10_000, CHUNK))],
)
def test_a_thousand_mutations_give_verdicts_or_sentences(tiny_build: TinyBuild, first: int) -> None:
    program = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [sys.executable, program, tiny_build.bundle, tiny_build.data / "images", str(first), str(CHUNK)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"PYTHONPATH": ""},
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"case {lines[-1] if lines else '?'}: {done.stderr[-2000:]}"
    outcomes = Counter(line.split()[1] for line in lines)
    assert sum(outcomes.values()) == CHUNK
    assert not outcomes["speechless"]
    # The mutations must be neither all harmless nor all hopeless, or nothing was tested.
    assert outcomes["PictureError"] > CHUNK * 0.1
    assert outcomes["BundleError"] > CHUNK * 0.1
    assert sum(outcomes[answer] for answer in get_args(Answer)) > CHUNK * 0.05
