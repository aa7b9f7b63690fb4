"""What may run the network instead of the CPU: one file a delegate, each tried before it is used, none ever trusted.

A table of kind -> module, as text. A module gives `open_network(job)`, called in a child process only; `refusal(job)`,
why it cannot work here, told without loading it; `driver(job)`, what its verdict depends on besides the package; and
`proof(lines)`, the adapter that its error stream names. The rules are in docs/decisions/006-delegates.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle import ModelFile
from edge.errors import DelegateError
from edge.frozen import dataclass

DELEGATES = {
    "cpu": "edge_runtime.delegates.cpu",
    "gpu": "edge_runtime.delegates.gpu",
    "external": "edge_runtime.delegates.external",
}

CPU = "cpu"

HELD = 16
CHECKED = 2
"""Of each HELD verdicts of a delegate, CHECKED are checked against the CPU before any is given: see guard.py."""

Kind = Literal["cpu", "gpu", "external"]


class Engine(Protocol):
    """What runs a network: uint8 pictures (side_px, side_px, channels) in, float32 outputs by role."""

    def run(self, picture: NDArray[np.uint8]) -> None:
        """Run the network."""

    def output(self, role: str) -> NDArray[np.float32]:
        """The output of the last run, without the batch axis."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `--delegate` asks for. text: as it was typed. kind: `auto` tries the GPU. library: of an external one."""

    text: str
    kind: Literal["auto", "cpu", "gpu", "external"]
    library: str = ""
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a child process needs to open a delegate on a model.

    options: of an external delegate, passed to its library; of the GPU, `software=yes` admits software adapters.
    """

    kind: Kind
    library: str
    options: tuple[tuple[str, str], ...]
    interpreter: str
    entry: ModelFile
    model: bytes
    side_px: int
    channels: int
    classes: int
    threads: int


class DelegateFailure(Exception):
    """A delegate that refused, crashed, hung or gave no numbers. Its text is the reason, for the record."""


def parse_request(text: str) -> Request:
    """`auto`, `cpu`, `gpu` or the path of a library, then `,key=value` for its options. Raises DelegateError."""
    name, *pairs = text.split(",")
    if any("=" not in pair or pair.startswith("=") for pair in pairs):
        raise DelegateError(
            f"the delegate's options in {text!r} cannot be read", remedy="write NAME,key=value,key=value"
        )
    options = tuple((key, value) for key, value in (pair.split("=", 1) for pair in pairs))
    if name in ("auto", "gpu"):
        if set(dict(options)) - {"software"} or any(value not in ("yes", "no") for _, value in options):
            raise DelegateError(f"{name} has one option, software", remedy=f"write {name},software=yes or {name}")
        return Request(text=text, kind="auto" if name == "auto" else "gpu", options=options)
    if name == "cpu":
        if options:
            raise DelegateError("the CPU takes no options", remedy="write --delegate cpu, and see --threads")
        return Request(text=text, kind="cpu")
    library = Path(name)
    if not library.is_file():
        raise DelegateError(
            f"there is no delegate {name!r}", remedy="use auto, cpu, gpu or the path of a delegate's library"
        )
    return Request(text=text, kind="external", library=str(library.resolve()), options=options)
