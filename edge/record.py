"""What the device says about one picture: a verdict, or why there is none."""

from __future__ import annotations

from edge.acceptance import Answer, Check, Reason
from edge.fields import plain
from edge.frozen import dataclass


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Wall-clock milliseconds of each step; saliency is 0 where no map was asked for.

    checks: of the picture's quality and of its likeness to what the model knows; 0 where the bundle checks nothing.
    """

    decode: float
    preprocess: float
    infer: float
    checks: float
    saliency: float
    total: float


@dataclass(frozen=True, kw_only=True)
class BundleId:
    """Which bundle answered. sha256: of the whole .edge file."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class DelegateUse:
    """What was asked to run the network, what ran it (`cpu`, `gpu` or a library's name), and why that."""

    requested: str
    used: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One screened picture.

    decision: as `edge.acceptance.answer`: `refer` or `clear`, or `retake` or `uncertain` with their reasons and one
    sentence of advice. checks: what was measured of the picture, beside its limits. label: the most probable one.
    probability: of the positive labels together, calibrated as the bundle says, as are the probabilities. picture_px:
    width and height of the upright picture. used_xywh: the part of it that the network saw, in its pixels.
    delegate, interpreter, model: what ran the network, and which of the bundle's models. synthetic: the bundle was
    trained on rendered pictures and says nothing of a patient.
    """

    picture: str
    decision: Answer
    advice: str
    reasons: tuple[Reason, ...]
    label: str
    probability: float
    probabilities: dict[str, float]
    threshold: float
    checks: dict[str, Check]
    picture_px: tuple[int, int]
    used_xywh: tuple[int, int, int, int]
    latency_ms: Latency
    delegate: DelegateUse
    interpreter: str
    model: str
    synthetic: bool
    bundle: BundleId

    @property
    def stated(self) -> str:
        """The probability for people: `-----` where the picture is refused, for it then says nothing."""
        return "-----" if set(self.reasons) - {"close"} else f"{self.probability:.3f}"

    @property
    def remark(self) -> str:
        """One line for people: what to do, and how much of the picture was not looked at; "" for neither."""
        width, height = self.picture_px
        *_, w, h = self.used_xywh
        part = "" if (w, h) == (width, height) else f"only the middle {w * h / (width * height):.0%} was looked at"
        return "; ".join(filter(None, (self.advice, part)))

    def to_json(self) -> dict[str, object]:
        """The JSON Lines record; see docs/bundle.md."""
        fields = plain(self)
        assert isinstance(fields, dict)
        return fields


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A picture that could not be screened: the fact and the remedy."""

    picture: str
    error: str
    remedy: str

    def to_json(self) -> dict[str, object]:
        """The JSON Lines record of a failure."""
        return {"picture": self.picture, "error": self.error, "remedy": self.remedy}
