"""The int8 files of all cases timed together, in turns, one thread: only so can their times be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_convert.export import open_network
from edge_convert.measured import timed
from edge_convert.progress import Progress, Steps
from edge_convert.recipe import Recipe
from edge_runtime.bench import Spread, spread

ROUNDS = 60
WARM_UP = 3
# A machine that does other work stretches the wall clock and not the thread's.
BUSY = 1.25


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One file's inference, one thread.

    ratio: to the first file, median over the rounds of the two's processor times in the same round. ms: that ratio
    times the first file's median, so that equal files have equal times on a busy machine too, where medians of each
    by itself do not. wall_ms: the wall clock over the rounds. busy: whether the machine did other work meanwhile.
    """

    ms: float
    ratio: float
    wall_ms: Spread
    busy: bool


def time_together(files: Sequence[tuple[Recipe, bytes]]) -> Steps[list[Timing]]:
    """Time the int8 file of each recipe on noise: what a picture shows does not change how long it takes.

    Yields the rounds done. Raises InterpreterError.
    """
    random = np.random.default_rng(1)
    entries = []
    for recipe, data in files:
        network = open_network(recipe, "int8", data, threads=1)
        entries.append((network, random.integers(0, 256, recipe.preprocessing.input_shape, np.uint8)))
    times = np.zeros((ROUNDS, len(entries), 2))
    for number in range(-WARM_UP, ROUNDS):
        # Each goes first in every other round, so that none always finds the other's cache.
        for place in range(len(entries))[:: -1 if number % 2 else 1]:
            network, picture = entries[place]
            taken = timed(network, picture)
            if number >= 0:
                times[number, place] = taken
        yield Progress(done=max(0, number + 1), total=ROUNDS)
    ratios = np.median(times[:, :, 1] / times[:, :1, 1], axis=0)
    medians = np.median(times, axis=0)
    return [
        Timing(
            ms=float(medians[0, 1] * ratios[place]),
            ratio=float(ratios[place]),
            wall_ms=spread([float(value) for value in times[:, place, 0]]),
            busy=bool(medians[place, 0] > BUSY * medians[place, 1]),
        )
        for place in range(len(entries))
    ]
