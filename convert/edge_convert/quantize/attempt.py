"""One int8 file that was tried, what it costs, and how far it is from the gates."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_convert.quantize.judge import Cost
from edge_convert.recipe import GateRecipe


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One file that was tried. remedy: what was done. cost: None where it could not be made, and `why`.

    misses: gates that it misses. float_layers: names of the layers that stayed float32. seconds: to make and measure.
    ships: whether it may stand for the int8 file; one with 16-bit activations is made to be told of alone.
    """

    remedy: str
    cost: Cost | None
    misses: tuple[str, ...]
    seconds: float
    float_layers: tuple[str, ...] = ()
    why: str = ""
    ships: bool = True

    @property
    def passed(self) -> bool:
        """Whether it was made and meets the gates."""
        return self.cost is not None and not self.misses


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What was tried, in order. kept: the number of the best; see `repair`. model: its file."""

    attempts: tuple[Attempt, ...]
    kept: int
    model: bytes = field(repr=False)

    @property
    def chosen(self) -> Attempt:
        """The file that was kept."""
        return self.attempts[self.kept]


def excess(cost: Cost | None, gates: GateRecipe) -> float:
    """How far a file is from its gates: the largest share of a limit that it uses up; 1 or less passes."""
    if cost is None:
        return float("inf")
    used = [
        (cost.auc_drop, gates.max_auc_drop),
        (cost.accuracy_drop, gates.max_accuracy_drop),
        (cost.flips, gates.max_flips),
    ]
    if cost.saliency is not None:
        used.append((1 - cost.saliency, 1 - gates.min_saliency_agreement))
    return max(lost / limit if limit > 0 else lost * 1e6 for lost, limit in used)


def line(attempt: Attempt) -> str:
    """An attempt for people, in one line."""
    if attempt.cost is None:
        return f"{attempt.remedy}: not possible ({attempt.why})"
    c = attempt.cost
    maps = "" if c.saliency is None else f", maps {c.saliency:.3f}"
    state = "passes" if attempt.passed else f"misses {', '.join(attempt.misses)}"
    return (
        f"{attempt.remedy}: AUC {c.auc:.4f} ({-c.auc_drop:+.4f}), top-1 accuracy {c.accuracy:.4f} "
        f"({-c.accuracy_drop:+.4f}), flips {c.flips:.4f}, rms {c.error:.4f}{maps}, {c.bytes / 1e6:.2f} MB, "
        f"{attempt.seconds:.0f} s: {state}"
    )
