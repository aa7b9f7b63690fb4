"""Target profiles: what a screening test must reach, by a published name or written out."""

from __future__ import annotations

import re

from edge.errors import EdgeError
from edge.fields import FieldError
from edge.frozen import dataclass

WHO_TB_2014 = (
    "WHO 2014, High-priority target product profiles for new tuberculosis diagnostics, community-based triage test"
)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The least sensitivity and, where it is set, the least specificity; shares in [0.5, 1).

    name: as a recipe gives it. source: who asks for it, in words.
    """

    name: str
    sensitivity: float
    specificity: float | None
    source: str

    def __post_init__(self) -> None:
        shares = {"sensitivity": self.sensitivity, "specificity": self.specificity}
        for key, share in shares.items():
            # No number of pictures shows a share of exactly 1.
            if share is not None and not 0.5 <= share < 1:
                raise FieldError(f"the profile's {key} is {share:g}; it must be at least 0.5 and below 1")

    @property
    def demand(self) -> str:
        """What is wanted, in the form that a recipe takes."""
        text = f"sensitivity >= {self.sensitivity:g}"
        return text if self.specificity is None else f"{text} and specificity >= {self.specificity:g}"

    @property
    def title(self) -> str:
        """The name, and what it stands for where it is a published one."""
        return self.demand if self.name == self.demand else f"{self.name}: {self.demand}"


KNOWN = {
    profile.name: profile
    for profile in (
        Profile(name="who-tb-screening-2014", sensitivity=0.90, specificity=0.70, source=f"{WHO_TB_2014}, minimal"),
        Profile(
            name="who-tb-screening-2014-optimal", sensitivity=0.95, specificity=0.80, source=f"{WHO_TB_2014}, optimal"
        ),
    )
}
"""Published profiles by name."""

_EXPRESSION = r"\s*sensitivity\s*>=\s*([0-9.]+)\s*(?:and\s+specificity\s*>=\s*([0-9.]+)\s*)?"


def parse_profile(text: str) -> Profile:
    """A profile from its name, or from `sensitivity >= 0.95` or `sensitivity >= 0.95 and specificity >= 0.8`.

    Raises EdgeError, which lists the names.
    """
    if text in KNOWN:
        return KNOWN[text]
    found = re.fullmatch(_EXPRESSION, text)
    try:
        if found is None:
            raise FieldError("it is neither a name nor an expression")
        sensitivity, specificity = (None if share is None else float(share) for share in found.groups())
        assert sensitivity is not None
        profile = Profile(name="", sensitivity=sensitivity, specificity=specificity, source="the recipe's own")
    except ValueError as error:
        raise EdgeError(
            f"the profile {text!r} cannot be used: {error}; known names: {', '.join(KNOWN)}",
            remedy="use one of them, or write for example: sensitivity >= 0.95 and specificity >= 0.8",
        ) from None
    return Profile(name=profile.demand, sensitivity=sensitivity, specificity=specificity, source=profile.source)
