"""Does this machine give what the bundle promises? Its golden pictures, from file bytes to outputs."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle, Golden
from edge.errors import BundleError
from edge.frozen import dataclass
from edge.preprocess import Preprocessing
from edge_runtime.golden import load_outputs
from edge_runtime.interpreter import Network
from edge_runtime.interpreters import find, parse_choice


@dataclass(frozen=True, kw_only=True)
class GoldenResult:
    """One golden picture on this machine.

    input_exact: whether the preprocessed tensor has the promised bytes. differences: by role, the largest absolute
    difference from the promised output; empty where only the tensor is promised. passed: exact, and all within the
    bundle's tolerances.
    """

    picture: str
    input_exact: bool
    differences: dict[str, float]
    passed: bool


def self_test(bundle: Bundle, *, threads: int | None = None, interpreter: str | None = None) -> list[GoldenResult]:
    """Run every golden picture through the main model. Raises BundleError where there is none."""
    if not bundle.manifest.golden:
        raise BundleError("this bundle has no golden pictures", remedy="make it again with `edge convert`")
    return run_golden(bundle, Network.of(bundle, threads=threads, package=find(parse_choice(interpreter).name)))


def run_golden(bundle: Bundle, network: Network) -> list[GoldenResult]:
    """Every golden picture. network: of the main model. Raises BundleError where outputs cannot be read or compared."""
    return [_run(bundle, network, golden) for golden in bundle.manifest.golden]


def golden_outputs(
    preprocessing: Preprocessing, network: Network, data: bytes
) -> tuple[str, dict[str, NDArray[np.float32]]]:
    """What the network gives for the bytes of a picture file: sha256 of its input tensor, and outputs by role."""
    tensor = preprocessing.to_input(preprocessing.decode(data))
    network.run(tensor)
    outputs = {role: network.output(role) for role in network.entry.outputs}
    return hashlib.sha256(tensor.tobytes()).hexdigest(), outputs


def _run(bundle: Bundle, network: Network, golden: Golden) -> GoldenResult:
    sha256, outputs = golden_outputs(bundle.manifest.preprocessing, network, bundle.parts[golden.picture])
    exact = sha256 == golden.input_sha256
    if golden.outputs is None:
        return GoldenResult(picture=golden.picture, input_exact=exact, differences={}, passed=exact)
    promised = load_outputs(bundle.parts[golden.outputs], golden.outputs)
    if promised.keys() != outputs.keys() or any(promised[role].shape != outputs[role].shape for role in outputs):
        raise BundleError(f"the golden outputs {golden.outputs} do not fit the model", remedy="make the bundle again")
    differences = {role: float(np.max(np.abs(outputs[role] - promised[role]))) for role in outputs}
    within = all(differences[role] <= bundle.manifest.tolerances.get(role, 0.0) for role in differences)
    return GoldenResult(picture=golden.picture, input_exact=exact, differences=differences, passed=exact and within)
