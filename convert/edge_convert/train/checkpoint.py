"""Where training stands, on disk: a run that is killed at any moment goes on from here to the same weights."""

from __future__ import annotations

import json
import os
import time
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.train.epoch import Epoch

Arrays = list[NDArray[Any]]

SHARE_OF_TIME = 0.02
SHORTEST_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a phase of training stands, before step `step` of `epoch`.

    losses: of this epoch's steps so far. history: the epochs that are over. stale: how many of the last ones brought
    nothing. weights, optimizer: the values of all variables. kept: the best weights so far, None where there are none
    yet, and best: the epoch that they are of.
    """

    phase: str
    epoch: int
    step: int
    stale: int
    losses: tuple[float, ...]
    history: tuple[Epoch, ...]
    best: Epoch | None
    weights: Arrays
    optimizer: Arrays
    kept: Arrays | None


class Checkpoint:
    """One file that holds the latest standing of a stage, written so that it is never half of one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_damaged = False
        self._due = time.monotonic() + SHORTEST_S

    def is_due(self) -> bool:
        """Whether to write again, so that writing takes at most SHARE_OF_TIME of the whole."""
        return time.monotonic() >= self._due

    def save(self, standing: Standing) -> None:
        """Write the standing."""
        start = time.monotonic()
        facts = asdict(replace(standing, weights=[], optimizer=[], kept=None)) | {"has_kept": standing.kept is not None}
        groups = {"weights": standing.weights, "optimizer": standing.optimizer, "kept": standing.kept or []}
        arrays: dict[str, Any] = {
            f"{name}-{index:05d}": array for name, group in groups.items() for index, array in enumerate(group)
        }
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.path)
        now = time.monotonic()
        self._due = now + max(SHORTEST_S, (now - start) / SHARE_OF_TIME)

    def load(self) -> Standing | None:
        """The latest standing; None where there is none, or where the disk lost part of it: `is_damaged` then."""
        try:
            with np.load(self.path) as file:
                facts = json.loads(file["facts"].tobytes())
                groups: dict[str, Arrays] = {"weights": [], "optimizer": [], "kept": []}
                for key in sorted(set(file.files) - {"facts"}):
                    groups[key.split("-")[0]].append(file[key])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            self.is_damaged = True
            return None
        has_kept = facts.pop("has_kept")
        return Standing(
            **facts
            | {
                "losses": tuple(facts["losses"]),
                "history": tuple(Epoch(**row) for row in facts["history"]),
                "best": Epoch(**facts["best"]) if facts["best"] else None,
                "weights": groups["weights"],
                "optimizer": groups["optimizer"],
                "kept": groups["kept"] if has_kept else None,
            }
        )
