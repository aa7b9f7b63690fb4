"""The delegate of delegate.c, compiled, with a table of right answers for a bundle's pictures."""

from __future__ import annotations

import importlib
import shutil
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.bundle import Bundle

SOURCE = Path(__file__).parent / "delegate.c"


@dataclass(frozen=True, kw_only=True)
class TableDelegate:
    """library: the compiled delegate. answers: its table."""

    library: Path
    answers: Path

    def request(self, mode: str = "works", after: int = 0, *, times: int = -1) -> str:
        """What `--delegate` takes for it. after: right runs. times: wrong runs that follow; -1: all that follow."""
        return f"{self.library},answers={self.answers},mode={mode},after={after},times={times}"


def compiler() -> str | None:
    """The C compiler here, if any."""
    return shutil.which("cc") or shutil.which("gcc")


def make(folder: Path, bundle: Bundle, pictures: Iterable[bytes]) -> TableDelegate:
    """Compile it, and write what the CPU gives for the pictures and for the bundle's golden ones."""
    library, answers = folder / "libtable.so", folder / "answers.bin"
    command = [str(compiler()), "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    _, model = bundle.model("int8")
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_content=model)
    interpreter.allocate_tensors()
    source, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()
    cases = []
    for data in (*pictures, *(bundle.parts[golden.picture] for golden in bundle.manifest.golden)):
        tensor = bundle.manifest.preprocessing.to_input(bundle.manifest.preprocessing.decode(data))
        interpreter.set_tensor(source["index"], tensor[np.newaxis])
        interpreter.invoke()
        cases.append(tensor.tobytes() + b"".join(interpreter.get_tensor(o["index"]).tobytes() for o in outputs))
    head = struct.pack("<3i", len(cases), int(np.prod(source["shape"])), len(outputs))
    places = b"".join(struct.pack("<2i", o["index"], int(np.prod(o["shape"]))) for o in outputs)
    answers.write_bytes(head + places + b"".join(cases))
    return TableDelegate(library=library, answers=answers)
