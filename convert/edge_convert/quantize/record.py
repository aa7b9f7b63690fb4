"""What quantization did, for the card, the report and whoever asks later: nothing about the file is silent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.fields import build, plain
from edge.files import write_atomically
from edge_convert.quantize.attempt import Attempt, Repair, line
from edge_convert.quantize.ranges import END_TO_END


@dataclass(frozen=True, kw_only=True)
class QuantizeRecord:
    """How the int8 file came about.

    pictures: how many set the ranges of the first file; coverage: how they were chosen; ranges: of which kind. tried:
    the files that were measured: one where it met the gates, none where the recipe leaves the search out. kept: its
    number. float_operations: of the file that ships, as `OPERATION tensor`.
    """

    pictures: int
    coverage: str
    tried: tuple[Attempt, ...]
    kept: int
    float_operations: tuple[str, ...]
    ranges: str = END_TO_END[0]

    @property
    def measured(self) -> int:
        """How many int8 files were measured to choose one."""
        return sum(attempt.ships and attempt.cost is not None for attempt in self.tried)

    def sentences(self) -> list[str]:
        """For the card and the report."""
        which = "int8 ranges" if self.kept == 0 else "ranges of the int8 file as exported, which was not kept,"
        return [
            f"{which} set by {self.pictures} pictures, chosen by: {self.coverage}; {self.ranges}",
            *self.of_search(),
        ]

    def of_search(self) -> list[str]:
        """What was kept of several files, and what of it is not in integers. Empty where one was made and it is."""
        said = []
        if len(self.tried) > 1:
            kept = self.tried[self.kept]
            state = "which meets the gates" if kept.passed else "which MISSES " + ", ".join(kept.misses)
            said.append(f"int8 files tried on validation: {self.measured}; kept: {kept.remedy}, {state}")
        if self.float_operations:
            met = bool(self.tried) and self.tried[self.kept].passed
            why = ", because no file without them met the gates" if met else ""
            said.append(
                f"NOT integer only: {len(self.float_operations)} operations stayed float32{why}: "
                + "; ".join(self.float_operations)
            )
        return said

    def table(self) -> list[str]:
        """The search, a line an attempt, the kept one marked."""
        return [f"{'>' if n == self.kept else ' '} {line(tried)}" for n, tried in enumerate(self.tried)]

    def summary(self) -> dict[str, Any]:
        """For the manifest: without the times, which differ from build to build."""
        fields: dict[str, Any] = plain(self)
        for attempt in fields["tried"]:
            del attempt["seconds"]
        return {**fields, "sentences": self.sentences()}


def record_of(
    pictures: int, coverage: str, ranges: str, found: Repair | None, float_operations: tuple[str, ...]
) -> QuantizeRecord:
    """The record of a finished quantization. found: None where no repair was asked for."""
    return QuantizeRecord(
        pictures=pictures,
        coverage=coverage,
        ranges=ranges,
        tried=found.attempts if found is not None else (),
        kept=found.kept if found is not None else 0,
        float_operations=float_operations,
    )


def save_quantization(path: Path, record: QuantizeRecord) -> None:
    """Write the record as JSON."""
    write_atomically(path, json.dumps(plain(record), indent=1).encode())


def load_quantization(path: Path) -> QuantizeRecord:
    """What `save_quantization` wrote."""
    return build(QuantizeRecord, json.loads(path.read_text(encoding="utf-8")))
