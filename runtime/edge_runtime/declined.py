"""What declining to answer costs and saves, counted on labelled pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edge.acceptance import Acceptance, Answered, answer
from edge.frozen import dataclass
from edge_runtime.metrics import Interval, wilson


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One labelled picture, as it is decided on. measures: by name, as the bundle's limits have them."""

    label: str
    finding: bool
    probability: float
    measures: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How the pictures of one label were answered."""

    label: str
    finding: bool
    n: int
    refer: int
    clear: int
    uncertain: int
    retake: int


@dataclass(frozen=True, kw_only=True)
class Declined:
    """What was answered, picture by picture. Intervals are Wilson's.

    answered: share of `refer` and `clear`. reasons: of what was declined, by its first reason. sensitivity: share of
    the answered findings that are referred; specificity: of the answered others, cleared; None where none was answered.
    missed: findings that were cleared; missed_unasked: findings below the threshold, which would be cleared if nothing
    were declined.
    """

    answers: tuple[Answers, ...]
    answered: Interval
    reasons: dict[str, int]
    sensitivity: Interval | None
    specificity: Interval | None
    missed: int
    missed_unasked: int


def count_declined(
    pictures: Sequence[Tried], acceptance: Acceptance, threshold: float, *, labels: Sequence[str]
) -> Declined:
    """The answers to labelled pictures, at least one. labels: in the order of the rows."""
    found = [(p, answer(acceptance, p.measures, p.probability, threshold)) for p in pictures]
    rows = tuple(_answers(label, [pair for pair in found if pair[0].label == label]) for label in labels)
    referred, missed = (sum(getattr(row, kind) for row in rows if row.finding) for kind in ("refer", "clear"))
    alarms, cleared = (sum(getattr(row, kind) for row in rows if not row.finding) for kind in ("refer", "clear"))
    return Declined(
        answers=tuple(row for row in rows if row.n),
        answered=wilson(referred + missed + alarms + cleared, len(found)),
        reasons=dict(Counter(answered.reasons[0] for _, answered in found if answered.reasons)),
        sensitivity=wilson(referred, referred + missed) if referred + missed else None,
        specificity=wilson(cleared, alarms + cleared) if alarms + cleared else None,
        missed=missed,
        missed_unasked=sum(p.finding and p.probability < threshold for p in pictures),
    )


def render_declined(found: Declined) -> list[str]:
    """The counts as lines of `edge evaluate`."""
    width = max(10, *(len(row.label) for row in found.answers)) + 2
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(found.reasons.items(), key=lambda r: -r[1]))
    lines = [
        "  answered, or declined (by picture)",
        " " * (width + 2) + "".join(f"{kind:>11}" for kind in ("refer", "clear", "uncertain", "retake")),
        *(
            f"  {row.label:<{width}}{row.refer:>11}{row.clear:>11}{row.uncertain:>11}{row.retake:>11}"
            for row in found.answers
        ),
        f"    {'answered (refer or clear)':<40} {found.answered}" + (f"; declined: {reasons}" if reasons else ""),
    ]
    if found.sensitivity is not None:
        lines.append(f"    {'sensitivity among the answered':<40} {found.sensitivity}")
    if found.specificity is not None:
        lines.append(f"    {'specificity among the answered':<40} {found.specificity}")
    lines.append(f"    findings cleared: {found.missed}; if nothing were declined: {found.missed_unasked}")
    return lines


def _answers(label: str, found: list[tuple[Tried, Answered]]) -> Answers:
    counts = Counter(answered.decision for _, answered in found)
    return Answers(
        label=label,
        finding=any(p.finding for p, _ in found),
        n=len(found),
        refer=counts["refer"],
        clear=counts["clear"],
        uncertain=counts["uncertain"],
        retake=counts["retake"],
    )
