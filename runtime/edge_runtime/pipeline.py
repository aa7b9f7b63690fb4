"""The device's steps, in order: decode, preprocess, look, infer, calibrate, decide, explain, record. Read this first.

The CPU runs the network, and is the reference where a delegate was asked for: see delegates/guard.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.acceptance import answer, checks
from edge.bundle import Bundle, read_bundle
from edge.errors import InterpreterError, PictureError
from edge.files import read_ordinary
from edge.frozen import dataclass
from edge.preprocess import Decoded, Placement, decode
from edge.record import BundleId, DelegateUse, Latency, Verdict
from edge_runtime import saliency
from edge_runtime.acceptance import DISTANCE_TOLERANCE, Inspector
from edge_runtime.calibration import calibrate
from edge_runtime.delegates import CPU, HELD, parse_request
from edge_runtime.interpreter import Network
from edge_runtime.interpreters import VERIFIED_WITH, find, parse_choice

if TYPE_CHECKING:
    from edge_runtime.delegates.choose import TrialRules
    from edge_runtime.delegates.guard import Guard, Outputs

NEAR = "so near a limit that the delegate's tolerance could decide: the CPU did"
HELD_BYTES = 64 << 20
"""Of pictures, at most, while a delegate's verdicts wait: a small board has little memory."""


@dataclass(frozen=True, kw_only=True)
class Screening:
    """One picture's verdict and what it stands on.

    outputs: (classes,) the network's own probabilities, before calibration. measures: what the bundle's limits are held
    against, by name; empty where it has none.
    picture: as it was decoded for the network, reduced where that wants no more; `whole` is the one for people.
    tensor: (side, side, channels) uint8, what the network saw of it.
    source: a reduced picture's file, as bytes; empty where the picture is whole.
    heat: (rows, columns) evidence in logits, None where the model gives no map or none was asked for.
    embedding: (channels,) the pooled features, None where the model gives none.
    """

    verdict: Verdict
    outputs: NDArray[np.float32] = field(repr=False)
    measures: dict[str, float] = field(repr=False)
    picture: Decoded
    source: bytes = field(repr=False)
    tensor: NDArray[np.uint8] = field(repr=False)
    placement: Placement
    heat: NDArray[np.float32] | None = field(repr=False)
    embedding: NDArray[np.float32] | None = field(repr=False)

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory of the picture."""
        return self.picture.pixels.nbytes + len(self.source)

    def whole(self) -> NDArray[np.uint8]:
        """The upright picture with all its pixels, (height, width, 3) uint8 RGB. A reduced one is decoded anew here."""
        return decode(self.source) if self.source else self.picture.pixels


class Screener:
    """A bundle ready to screen. Made once, used for many pictures, by one thread at a time."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        variant: str | None = None,
        threads: int | None = None,
        interpreter: str | None = None,
        delegate: str = CPU,
        rules: TrialRules | None = None,
        method: str | None = None,
    ) -> None:
        """variant: which of the bundle's models; None takes the main one. threads: of the interpreter; None chooses.

        interpreter: the package, as `--interpreter` takes it; None takes the first that is here. One that a bundle was
        not verified with must give its golden outputs, or be asked for as unverified. delegate: as `--delegate` takes
        it; one that is not admitted is replaced by the CPU, and `delegate` says why. rules: of its trial. method: the
        kind of heat map; None takes the bundle's. Raises InterpreterError, BundleError, DelegateError, EdgeError.
        """
        request = parse_request(delegate)
        chosen = parse_choice(interpreter)
        entry, _ = bundle.model(variant)
        manifest = bundle.manifest
        shown = manifest.saliency.method if manifest.saliency is not None else None
        self.method = saliency.check_method(method or shown, entry)
        self.manifest = manifest
        self.variant = variant or manifest.main_model
        self.network = Network.of(bundle, variant, threads=threads, package=find(chosen.name))
        self.interpreter, self.note = self.network.package, ""
        if self.interpreter != VERIFIED_WITH:
            # Imported here, as below: the package that bundles are verified with does not wait for it.
            from edge_runtime.interpreters.trial import hold

            # The golden outputs are the main model's: nothing is promised of another.
            promised = self.variant == manifest.main_model and any(golden.outputs for golden in manifest.golden)
            self.interpreter, self.note = hold(bundle, self.network, promised=promised, unverified=chosen.unverified)
        self._inspector = Inspector.of(bundle)
        self._positive = [manifest.labels.index(label) for label in manifest.decision.positive]
        self.delegate = DelegateUse(requested=request.text, used=CPU, why="it was asked for")
        self._guard: Guard | None = None
        if request.kind != CPU:
            # Imported here: whoever does not ask for a delegate does not wait for its modules.
            from edge_runtime.delegates.choose import choose

            choice = choose(
                request,
                bundle,
                self.variant,
                self.network,
                near=self._near_a_limit,
                apart=self._apart,
                threads=threads,
                rules=rules,
            )
            self.delegate, self._guard = choice.use, choice.guard
        self._id = BundleId(name=manifest.name, sha256=bundle.sha256)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        variant: str | None = None,
        threads: int | None = None,
        interpreter: str | None = None,
        delegate: str = CPU,
        method: str | None = None,
    ) -> Screener:
        """Read a bundle and make it ready. Raises BundleError, InterpreterError, DelegateError or EdgeError."""
        bundle = read_bundle(path, whole=False)
        return cls(bundle, variant=variant, threads=threads, interpreter=interpreter, delegate=delegate, method=method)

    def screen_files(
        self, paths: Iterable[Path], *, explain: bool = False
    ) -> Iterator[tuple[Path, Screening | PictureError]]:
        """Screen picture files in their order. On the CPU each is given at once.

        A delegate's verdicts wait until a later one has been held against the CPU. Where that fails, or the delegate
        does, what waits is screened again on the CPU.
        """
        held: list[tuple[Path, Screening | PictureError]] = []
        waiting = 0
        for path in paths:
            result = self._attempt(path, explain)
            held.append((path, result))
            waiting += result.held_bytes if isinstance(result, Screening) else 0
            if self._guard is None or self._guard.failed or len(held) >= HELD or waiting > HELD_BYTES:
                yield from self._released(held, explain)
                held, waiting = [], 0
        yield from self._released(held, explain)

    def screen_file(self, path: Path, *, explain: bool = False) -> Screening:
        """Screen a picture file. Raises PictureError. A delegate's verdict is held against the CPU at once."""
        _, result = next(self.screen_files([path], explain=explain))
        if isinstance(result, PictureError):
            raise result
        return result

    def screen(self, data: bytes, *, name: str, explain: bool = False) -> Screening:
        """Screen the bytes of a picture file. Raises PictureError. explain: whether the map is read out."""
        return self._checked(lambda: self._screen(data, name, explain, time.perf_counter()))

    def screen_frame(self, frame: NDArray[np.uint8], *, name: str, explain: bool = False) -> Screening:
        """Screen a picture that is decoded already: (height, width, 3) uint8 RGB, upright. Raises PictureError."""
        self.manifest.preprocessing.require_size(frame.shape[1], frame.shape[0])
        picture = Decoded.whole(frame)
        return self._checked(lambda: self._judge(picture, b"", name, explain, [time.perf_counter()] * 2))

    def score(self, tensor: NDArray[np.uint8]) -> float:
        """The network's own score of the finding, uncalibrated, by the CPU. tensor: (side, side, channels) uint8."""
        self.network.run(tensor)
        return float(self.network.output("probabilities")[self._positive].sum())

    def close(self) -> None:
        """End the delegate's process, where there is one."""
        if self._guard is not None:
            self._guard.close()

    def _checked(self, screen: Callable[[], Screening]) -> Screening:
        """What `screen` gives; where it came from a delegate that fails its check, what it gives on the CPU."""
        screening = screen()
        return screening if self._trusted() else screen()

    def _attempt(self, path: Path, explain: bool) -> Screening | PictureError:
        start = time.perf_counter()
        try:
            return self._screen(read_picture(path), str(path), explain, start)
        except PictureError as error:
            return error

    def _released(
        self, held: list[tuple[Path, Screening | PictureError]], explain: bool
    ) -> Iterator[tuple[Path, Screening | PictureError]]:
        trusted = self._trusted()
        for path, result in held:
            if not trusted and isinstance(result, Screening) and result.verdict.delegate.used != CPU:
                yield path, self._attempt(path, explain)
            else:
                yield path, result

    def _trusted(self) -> bool:
        """Whether what the delegate has given since the last time may be given on; if not, it is used no more."""
        if self._guard is None or self._guard.release():
            return True
        why = f"{self.delegate.used}: {self._guard.failed}" if self.delegate.used != CPU else self.delegate.why
        self.delegate = DelegateUse(requested=self.delegate.requested, used=CPU, why=why)
        self._guard = None
        return False

    def _infer(self, tensor: NDArray[np.uint8]) -> tuple[Callable[[str], NDArray[np.float32]], DelegateUse]:
        """Run the network; returns how to read its outputs by role, and what ran it."""
        use = self.delegate
        if self._guard is not None:
            outputs = self._guard.run(tensor)
            if outputs is not None:
                return outputs.__getitem__, use
            why = f"{use.used}: {self._guard.failed}" if self._guard.failed else NEAR
            use = DelegateUse(requested=use.requested, used=CPU, why=why)
        self.network.run(tensor)
        return self.network.output, use

    def _near_a_limit(self, outputs: Outputs, tolerance: float) -> bool:
        """Whether probabilities that are off by the tolerance, or the embedding's distance, could decide otherwise."""
        rule, acceptance = self.manifest.decision, self.manifest.acceptance
        probabilities = outputs["probabilities"]
        shift = np.full(len(probabilities), -tolerance, np.float32)
        shift[self._positive] = tolerance
        either = np.clip(np.stack([probabilities - shift, probabilities + shift]), 0, 1)
        low, high = calibrate(rule.calibration, either, self._positive)[0]
        steps = [rule.threshold]
        if acceptance is not None and acceptance.clear_below is not None:
            steps.append(acceptance.clear_below)
        if any((low >= step) != (high >= step) for step in steps):
            return True
        share = self._share_of_limit(outputs)
        return share is not None and abs(share - 1) <= DISTANCE_TOLERANCE

    def _apart(self, outputs: Outputs, right: Outputs) -> str | None:
        """Why a delegate's embedding is too far from the CPU's to say how far a picture is from what is known."""
        given, wanted = self._share_of_limit(outputs), self._share_of_limit(right)
        # Not `>`: a NaN is never within.
        if given is None or wanted is None or abs(given - wanted) <= DISTANCE_TOLERANCE:
            return None
        return f"the embedding's distance from what is known is {given:.3g} of its limit, and {wanted:.3g} on the CPU"

    def _share_of_limit(self, outputs: Outputs) -> float | None:
        if self._inspector is None or "earlier_embedding" not in outputs:
            return None
        return self._inspector.share_of_limit(outputs["earlier_embedding"])

    def _screen(self, data: bytes, name: str, explain: bool, start: float) -> Screening:
        picture = self.manifest.preprocessing.decode(data)
        source = data if picture.reduction > 1 else b""
        return self._judge(picture, source, name, explain, [start, time.perf_counter()])

    def _judge(self, picture: Decoded, source: bytes, name: str, explain: bool, clock: list[float]) -> Screening:
        """The steps after decoding. clock: seconds when the picture was asked for, and when it was decoded."""
        preprocessing, inspector = self.manifest.preprocessing, self._inspector
        tensor = preprocessing.to_input(picture)
        placement = preprocessing.place(picture.width, picture.height)
        clock.append(time.perf_counter())
        measures = {} if inspector is None else inspector.picture(tensor, placement)
        clock.append(time.perf_counter())
        # A picture that must be taken again is inferred too: the record then holds what declining it costs.
        read, use = self._infer(tensor)
        outputs = read("probabilities")
        embedding = read("embedding") if self.network.has("embedding") else None
        clock.append(time.perf_counter())
        if inspector is not None and self.network.has("earlier_embedding"):
            measures |= inspector.network(read("earlier_embedding"))
        clock.append(time.perf_counter())
        heat = self._heat(read, outputs, tensor) if explain else None
        clock.append(time.perf_counter())
        verdict = self._record(name, outputs, measures, picture, placement, clock, use)
        return Screening(
            verdict=verdict,
            outputs=outputs,
            measures=measures,
            picture=picture,
            source=source,
            tensor=tensor,
            placement=placement,
            heat=heat,
            embedding=embedding,
        )

    def _heat(
        self, read: saliency.Read, outputs: NDArray[np.float32], tensor: NDArray[np.uint8]
    ) -> NDArray[np.float32] | None:
        """The map that is wanted, (rows, columns) evidence in logits; None where there is none."""
        if self.method is None:
            return None
        if self.method in saliency.FROM_OUTPUTS:
            make, _ = saliency.FROM_OUTPUTS[self.method]
            return make(read, outputs, self._positive)
        # Always on the CPU: a delegate's trial says nothing of the second signature.
        return self.network.explain(tensor)

    def caption(self, verdict: Verdict) -> str:
        """The line below a picture that is shown with its verdict."""
        mark = "  SYNTHETIC" if self.manifest.synthetic else ""
        return f"{verdict.decision}  p={verdict.probability:.3f}  threshold {verdict.threshold:.3f}{mark}"

    def overlay(self, screening: Screening, on: NDArray[np.uint8] | None = None) -> NDArray[np.uint8] | None:
        """The whole picture under its heat map, RGB; None where the model gives no map.

        on: (height, width, 3) uint8 RGB, a copy of `screening.whole()` with marks on it, to be shown in its place.
        """
        if screening.heat is None or self.manifest.saliency is None or self.method is None:
            return None
        return saliency.overlay(
            screening.whole() if on is None else on,
            screening.heat,
            screening.placement,
            side_px=self.manifest.preprocessing.side_px,
            scale=self.manifest.saliency.scales[self.method],
            caption=self.caption(screening.verdict),
        )

    def _record(
        self,
        name: str,
        outputs: NDArray[np.float32],
        measures: dict[str, float],
        picture: Decoded,
        placement: Placement,
        clock: list[float],
        use: DelegateUse,
    ) -> Verdict:
        if not np.isfinite(outputs).all():
            # Never a verdict from a number that is none: NaN >= threshold is False, a silent "clear".
            raise InterpreterError("the network gave no number", remedy="run `edge show BUNDLE --self-test`")
        rule = self.manifest.decision
        together, each = calibrate(rule.calibration, outputs[np.newaxis], self._positive)
        probability, probabilities = float(together[0]), each[0]
        answered = answer(self.manifest.acceptance, measures, probability, rule.threshold)
        decode, preprocess, look, infer, compare, explain = (1e3 * (end - begin) for begin, end in pairwise(clock))
        return Verdict(
            picture=name,
            decision=answered.decision,
            advice=answered.advice,
            reasons=answered.reasons,
            label=self.manifest.labels[int(np.argmax(probabilities))],
            probability=probability,
            probabilities={
                label: float(value) for label, value in zip(self.manifest.labels, probabilities, strict=True)
            },
            threshold=rule.threshold,
            checks=checks(self.manifest.acceptance, measures),
            picture_px=(picture.width, picture.height),
            used_xywh=placement.source_xywh,
            latency_ms=Latency(
                decode=decode,
                preprocess=preprocess,
                infer=infer,
                checks=look + compare,
                saliency=explain,
                total=1e3 * (clock[-1] - clock[0]),
            ),
            delegate=use,
            interpreter=self.interpreter,
            model=self.variant,
            synthetic=self.manifest.synthetic,
            bundle=self._id,
        )


def read_picture(path: Path) -> bytes:
    """A picture file's bytes. Raises PictureError."""
    try:
        return read_ordinary(path)
    except FileNotFoundError:
        raise PictureError("there is no such file", remedy="check the path") from None
    except IsADirectoryError:
        raise PictureError("this is a folder", remedy="name the pictures in it") from None
    except OSError as error:
        raise PictureError(f"it cannot be read ({error.strerror})", remedy="check its rights and the disk") from None
