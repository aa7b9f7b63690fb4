"""The device's steps, in order: decode, preprocess, infer, calibrate, decide, explain, record. Read this file first."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle, read_bundle
from edge.errors import InterpreterError, PictureError
from edge.files import read_ordinary
from edge.preprocess import Placement
from edge.record import BundleId, Latency, Verdict
from edge_runtime import saliency
from edge_runtime.calibration import calibrate
from edge_runtime.interpreter import Network


@dataclass(frozen=True, kw_only=True)
class Screening:
    """One picture's verdict and what it stands on.

    outputs: (classes,) the network's own probabilities, before calibration.
    picture: (height, width, 3) uint8 RGB, upright. heat: (rows, columns) evidence in logits, None where the model
    gives no map or none was asked for.
    """

    verdict: Verdict
    outputs: NDArray[np.float32] = field(repr=False)
    picture: NDArray[np.uint8] = field(repr=False)
    placement: Placement
    heat: NDArray[np.float32] | None = field(repr=False)


class Screener:
    """A bundle ready to screen. Made once, used for many pictures, by one thread at a time."""

    def __init__(self, bundle: Bundle, *, variant: str | None = None, threads: int | None = None) -> None:
        """variant: which of the bundle's models; None takes the main one. threads: of the interpreter; None chooses."""
        entry, model = bundle.model(variant)
        manifest = bundle.manifest
        self.manifest = manifest
        self.variant = variant or manifest.main_model
        self.network = Network(
            entry,
            model,
            side_px=manifest.preprocessing.side_px,
            classes=len(manifest.labels),
            channels=manifest.preprocessing.channels,
            threads=threads,
        )
        self._positive = [manifest.labels.index(label) for label in manifest.decision.positive]
        self._id = BundleId(name=manifest.name, sha256=bundle.sha256)

    @classmethod
    def open(cls, path: Path, *, variant: str | None = None, threads: int | None = None) -> Screener:
        """Read a bundle and make it ready. Raises BundleError or InterpreterError."""
        return cls(read_bundle(path), variant=variant, threads=threads)

    def screen_file(self, path: Path, *, explain: bool = False) -> Screening:
        """Screen a picture file. Raises PictureError."""
        start = time.perf_counter()
        try:
            data = read_ordinary(path)
        except FileNotFoundError:
            raise PictureError("there is no such file", remedy="check the path") from None
        except IsADirectoryError:
            raise PictureError("this is a folder", remedy="name the pictures in it") from None
        except OSError as error:
            raise PictureError(
                f"it cannot be read ({error.strerror})", remedy="check its rights and the disk"
            ) from None
        return self.screen(data, name=str(path), explain=explain, start=start)

    def screen(self, data: bytes, *, name: str, explain: bool = False, start: float | None = None) -> Screening:
        """Screen the bytes of a picture file. Raises PictureError.

        explain: whether the map is read out. start: `time.perf_counter()` when the work began.
        """
        clock = [start if start is not None else time.perf_counter()]
        preprocessing = self.manifest.preprocessing
        picture = preprocessing.decode(data)
        clock.append(time.perf_counter())
        tensor = preprocessing.to_input(picture)
        clock.append(time.perf_counter())
        self.network.run(tensor)
        outputs = self.network.output("probabilities")
        clock.append(time.perf_counter())
        heat = self._explain(outputs) if explain else None
        clock.append(time.perf_counter())
        placement = preprocessing.place(picture.shape[1], picture.shape[0])
        verdict = self._record(name, outputs, placement, clock)
        return Screening(verdict=verdict, outputs=outputs, picture=picture, placement=placement, heat=heat)

    def overlay(self, screening: Screening) -> NDArray[np.uint8] | None:
        """The picture under its heat map, RGB; None where the model gives no map."""
        scale = self.manifest.saliency
        if screening.heat is None or scale is None:
            return None
        verdict = screening.verdict
        mark = "  SYNTHETIC" if self.manifest.synthetic else ""
        return saliency.overlay(
            screening.picture,
            screening.heat,
            screening.placement,
            side_px=self.manifest.preprocessing.side_px,
            full_scale=scale.full_scale,
            caption=f"{verdict.decision}  p={verdict.probability:.3f}  threshold {verdict.threshold:.3f}{mark}",
        )

    def _explain(self, outputs: NDArray[np.float32]) -> NDArray[np.float32] | None:
        if not self.network.has("class_activation"):
            return None
        return saliency.evidence(self.network.output("class_activation"), outputs, self._positive)

    def _record(self, name: str, outputs: NDArray[np.float32], placement: Placement, clock: list[float]) -> Verdict:
        if not np.isfinite(outputs).all():
            # Never a verdict from a number that is none: NaN >= threshold is False, a silent "clear".
            raise InterpreterError("the network gave no number", remedy="run `edge show BUNDLE --self-test`")
        rule = self.manifest.decision
        together, each = calibrate(rule.calibration, outputs[np.newaxis], self._positive)
        probability, probabilities = float(together[0]), each[0]
        steps = [1e3 * (after - before) for before, after in itertools.pairwise(clock)]
        decode, preprocess, infer, explain = steps
        return Verdict(
            picture=name,
            decision=decide(probability, rule.threshold),
            label=self.manifest.labels[int(np.argmax(probabilities))],
            probability=probability,
            probabilities={
                label: float(value) for label, value in zip(self.manifest.labels, probabilities, strict=True)
            },
            threshold=rule.threshold,
            used_xywh=placement.source_xywh,
            latency_ms=Latency(
                decode=decode, preprocess=preprocess, infer=infer, saliency=explain, total=1e3 * (clock[-1] - clock[0])
            ),
            delegate="cpu",
            interpreter=self.network.package,
            model=self.variant,
            synthetic=self.manifest.synthetic,
            bundle=self._id,
        )


def decide(probability: float, threshold: float) -> Literal["refer", "clear"]:
    """The decision; a probability at the threshold is referred."""
    return "refer" if probability >= threshold else "clear"
