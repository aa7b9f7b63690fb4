"""How far a picture is from those the model knows: as a picture, and as the network sees it before its last block.

Both are distances from the training pictures. A fine-tuned network's last features answer one question and are blind to
much else: to those of malaria, noise and a white wall look like a smear without parasites. One block earlier it still
sees what is there. See docs/decisions/008-declining.md for what each distance catches.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError
from edge.frozen import dataclass
from edge_runtime.quality import COLOUR

Floats = NDArray[np.float64]
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Familiar:
    """What distances are measured from: k features of a picture, and an embedding of c channels in d directions.

    picture_mean: (k,). picture_whitener: (k, k). colour_whitener: (4, 4), of the last four features; empty for grey.
    Empty where the network gives none: embedding_mean: (c,). directions: (d, c), in which embeddings vary most.
    centres: (classes, d). whitener: (d, d), of the scatter within classes. rest: mean square of what lies outside the
    directions.
    """

    picture_mean: Array
    picture_whitener: Array
    colour_whitener: Array
    embedding_mean: Array
    directions: Array
    centres: Array
    whitener: Array
    rest: Array

    def picture_distance(self, features: Floats) -> float:
        """Mahalanobis distance of a picture's features, (k,)."""
        away = (features - self.picture_mean) @ self.picture_whitener
        return float(np.sqrt(away @ away))

    def colour_distance(self, features: Floats) -> float:
        """The same of the colours alone."""
        away = (features - self.picture_mean)[-len(COLOUR) :] @ self.colour_whitener
        return float(np.sqrt(away @ away))

    def embedding_distance(self, embedding: Array) -> float:
        """Distance of an earlier embedding, (c,), from the nearest class; about 1.4 for a typical training picture.

        The square is a sum of two terms with mean 1: Mahalanobis distance within the directions (Lee et al. 2018, who
        take features from before the last layers too), divided by d, and what lies outside them (Wang et al. 2022,
        without the logit), divided by `rest`.
        """
        away = embedding - self.embedding_mean
        inside = self.directions @ away
        outside = max(float(away @ away - inside @ inside), 0.0)
        scaled = (inside - self.centres) @ self.whitener
        within = float(np.min(np.einsum("ij,ij->i", scaled, scaled))) / len(inside)
        return float(np.sqrt(within + outside / float(self.rest)))


def to_bytes(familiar: Familiar) -> bytes:
    """The bundle's part: an .npz of float32 arrays, the directions as float16."""
    arrays = dict(vars(familiar))
    arrays["directions"] = arrays["directions"].astype(np.float16)
    stream = io.BytesIO()
    # Not compressed here: the bundle does that.
    np.savez(stream, **arrays)
    return stream.getvalue()


def load_familiar(data: bytes, name: str) -> Familiar:
    """The part as written by `to_bytes`. name: of the part. Raises BundleError where it cannot be read."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {key: np.asarray(arrays[key], np.float32) for key in arrays.files}
            familiar = Familiar(**found)
        _require_shapes(familiar)
    except Exception as error:  # noqa: BLE001 - numpy raises what it likes on a malformed archive
        raise BundleError(
            f"what the bundle measures distances from, {name}, cannot be read ({type(error).__name__})",
            remedy="make the bundle again",
        ) from None
    return familiar


def _require_shapes(familiar: Familiar) -> None:
    k, d = len(familiar.picture_mean), len(familiar.directions)
    wanted = {
        "picture_mean": (k,),
        "picture_whitener": (k, k),
        "colour_whitener": (len(COLOUR),) * 2 if familiar.colour_whitener.size else familiar.colour_whitener.shape,
        "embedding_mean": (len(familiar.embedding_mean),),
        "directions": (d, len(familiar.embedding_mean)),
        "whitener": (d, d),
        "centres": (len(familiar.centres), d),
        "rest": (),
    }
    for name, shape in wanted.items():
        array: Array = getattr(familiar, name)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(name)
