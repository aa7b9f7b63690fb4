"""The outputs that golden pictures must give, read from a bundle's parts."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError


def load_outputs(data: bytes, name: str) -> dict[str, NDArray[np.float32]]:
    """The arrays of an .npz part, float32, by role. name: of the part. Raises BundleError where it cannot be read."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {role: np.asarray(arrays[role], np.float32) for role in arrays.files}
    except Exception as error:  # noqa: BLE001 - numpy raises what it likes on a malformed archive
        raise BundleError(
            f"the golden outputs {name} cannot be read ({type(error).__name__})", remedy="make the bundle again"
        ) from None
