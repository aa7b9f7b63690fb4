"""An interpreter package that the bundle was not verified with: does it give what the bundle promises?

tflite-runtime 2.14 rounds int8 otherwise: of 200 radiographs it cleared one that was to be referred (docs/devices.md).
So the golden pictures are run before it screens, once for a model, a package and a processor: the finding is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone

import cv2

from edge.bundle import Bundle
from edge.errors import InterpreterError
from edge.fields import plain
from edge.frozen import dataclass
from edge_runtime import kept
from edge_runtime.interpreter import Network
from edge_runtime.interpreters import UNVERIFIED, VERIFIED_WITH, version_of
from edge_runtime.selftest import GoldenResult, run_golden

KIND = "interpreters"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a package gives for golden pictures. excess: how it is off by more than allowed, or "". when: UTC."""

    package: str
    version: str | None
    pictures: int
    excess: str
    when: str


def hold(bundle: Bundle, network: Network, *, promised: bool, unverified: bool) -> tuple[str, str]:
    """Let a package screen, or raise InterpreterError: as the record is to call it, and what the user must know, or "".

    promised: whether the bundle holds outputs of this network, its main model. unverified: let it screen whatever it
    gives.
    """
    package = network.package
    if unverified:
        return f"{package},{UNVERIFIED}", f"{package} was asked for unverified: it may decide otherwise than the bundle"
    if not promised:
        return package, f"this bundle promises no outputs of this model that {package} could be held against"
    found = finding(bundle, network)
    if found.excess:
        raise InterpreterError(
            f"{package} gives other numbers than this bundle promises ({found.excess})",
            remedy=f"screen on a machine that has {VERIFIED_WITH}; if measured to be good enough all the same, say so: "
            f"--interpreter {package},{UNVERIFIED}",
        )
    return package, ""


def finding(bundle: Bundle, network: Network) -> Finding:
    """The kept finding on this package, model and processor, or a new one, which is kept."""
    manifest, version = bundle.manifest, version_of(network.package)
    promised = [golden.outputs or golden.picture for golden in manifest.golden]
    name = kept.key(
        {
            # OpenCV makes the input: with another one the same package may be given another picture.
            "opencv": cv2.__version__,
            "input": [plain(manifest.preprocessing), [golden.input_sha256 for golden in manifest.golden]],
            "parts": [hashlib.sha256(bundle.parts[part]).hexdigest() for part in (network.entry.file, *promised)],
            "tolerances": dict(manifest.tolerances),
            "package": [network.package, version],
        }
    )
    found = kept.read(KIND, name, Finding)
    if found is None:
        results = run_golden(bundle, network)
        found = Finding(
            package=network.package,
            version=version,
            pictures=len(results),
            excess=_excess(results, manifest.tolerances),
            when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        # One that cannot be kept is found anew at the next start: slower, and no less safe. So is one of other inputs,
        # which says nothing of the package.
        if all(result.input_exact for result in results):
            kept.write(KIND, name, found)
    return found


def _excess(results: list[GoldenResult], tolerances: Mapping[str, float]) -> str:
    """What is off, and on how many pictures, by the first of them; "" where all are as promised."""
    failed = [result for result in results if not result.passed]
    if not failed:
        return ""
    where, first = f"on {len(failed)} of {len(results)} golden pictures", failed[0]
    if not first.input_exact:
        return f"{where}; its input differs"
    # Not `>`: a NaN is never within.
    role = next(role for role, found in first.differences.items() if not found <= tolerances.get(role, 0.0))
    return f"{where}; {role} by {first.differences[role]:.3g}, and {tolerances.get(role, 0.0):.3g} is allowed"
