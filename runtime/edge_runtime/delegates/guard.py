"""A delegate in use: held against the CPU again and again, and replaced by it for good at the first doubt.

A delegate that passed its trial can still lie later: a hot chip, a driver that is out of memory. So no verdict of a
delegate is given before a later one has been found right: HELD pictures wait together, of which the last and one
drawn at random are run on the CPU as well, and each that has the very outputs of an earlier one: an answer that was
read before it was there. A picture so near the threshold that the tolerance could decide is decided
by the CPU. docs/decisions/006-delegates.md has the reasons, the cost, and what is not caught.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edge_runtime.delegates import CHECKED, DelegateFailure, Engine
from edge_runtime.delegates.isolated import Isolated
from edge_runtime.delegates.trial import excess

Outputs = Mapping[str, NDArray[np.float32]]


class Guard:
    """A delegate and the CPU that it is held against. By one thread at a time."""

    def __init__(
        self,
        delegate: Isolated,
        cpu: Engine,
        *,
        tolerances: Mapping[str, float],
        near: Callable[[Outputs, float], bool],
        doubted: Callable[[str], None],
        apart: Callable[[Outputs, Outputs], str | None] = lambda *_: None,
    ) -> None:
        """near: whether outputs with probabilities that may be off by so much could decide otherwise. doubted: told why
        it ends. apart: why outputs that are within the tolerances are too far apart for what is made of them.
        """
        self._delegate = delegate
        self._cpu = cpu
        self._tolerances = tolerances
        self._near = near
        self._doubted = doubted
        self._apart = apart
        self._held: list[tuple[NDArray[np.uint8], Outputs]] = []
        self._stale: list[tuple[NDArray[np.uint8], Outputs]] = []
        self._seen: dict[bytes, bytes] = {}
        self.failed: str | None = None

    def run(self, picture: NDArray[np.uint8]) -> Outputs | None:
        """The delegate's outputs; None where the CPU must decide: it failed, or the picture is near the threshold."""
        if self.failed:
            return None
        try:
            self._delegate.run(picture)
        except DelegateFailure as failure:
            self._end(f"in use, {failure}")
            return None
        outputs = self._delegate.outputs()
        self._held.append((picture, outputs))
        answer, pixels = b"".join(output.tobytes() for output in outputs.values()), picture.tobytes()
        if self._seen.pop(answer, pixels) != pixels:
            self._stale.append((picture, outputs))
        self._seen[answer] = pixels
        tolerance = self._tolerances.get("probabilities", 0.0)
        return None if self._near(outputs, tolerance) else outputs

    def release(self) -> bool:
        """Hold what waits against the CPU: the last picture, others at random, and repeated answers. Whether all of it
        may be given.
        """
        held, self._held = self._held, []
        stale, self._stale = self._stale, []
        # The last answer stays: the next block may begin with it.
        self._seen = dict(list(self._seen.items())[-1:])
        if held and not self.failed:
            others = random.SystemRandom().sample(held[:-1], min(CHECKED - 1, len(held) - 1))
            for picture, outputs in (held[-1], *others, *stale):
                self._cpu.run(picture)
                right = {role: self._cpu.output(role) for role in outputs}
                if reason := excess(outputs, right, self._tolerances) or self._apart(outputs, right):
                    self._end(f"in use, it gave wrong outputs: {reason}")
                    break
        return not self.failed

    def close(self) -> None:
        """End the delegate's process."""
        self._delegate.close()

    def _end(self, reason: str) -> None:
        self.failed = reason
        self._delegate.close()
        self._doubted(reason)
