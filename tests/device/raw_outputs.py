"""What the int8 network gives for pictures, as the interpreter leaves it: the integers, not the real numbers.

Usage: python raw_outputs.py BUNDLE FOLDER OUT.npz
Run on the device and on the workstation; the arrays must be the same. One array an output, (pictures, ...).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle import read_bundle

from ai_edge_litert.interpreter import Interpreter  # isort: skip


def raw_outputs(bundle_path: Path, folder: Path) -> dict[str, NDArray[np.generic]]:
    """The outputs of the signature by name, and `input`, for every .jpg of a folder in the order of their names."""
    bundle = read_bundle(bundle_path)
    preprocessing = bundle.manifest.preprocessing
    interpreter = Interpreter(model_content=bundle.model("int8")[1], num_threads=1)
    runner = interpreter.get_signature_runner()
    found: dict[str, list[NDArray[np.generic]]] = {}
    for path in sorted(folder.glob("*.jpg")):
        tensor = preprocessing.to_input(preprocessing.decode(path.read_bytes()))
        for name, value in {"input": tensor, **runner(picture=tensor[np.newaxis])}.items():
            found.setdefault(name, []).append(value.copy())
    return {name: np.stack(values) for name, values in found.items()}


if __name__ == "__main__":
    np.savez(sys.argv[3], **raw_outputs(Path(sys.argv[1]), Path(sys.argv[2])))  # type: ignore[arg-type]
