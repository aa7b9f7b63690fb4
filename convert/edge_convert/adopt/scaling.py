"""How pixels become the input of somebody else's network: said by its user, by its metadata, or by its quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.bundle import ModelFile
from edge.errors import EdgeError
from edge_convert.tflite_file import TfliteMetadata
from edge_runtime.tensors import input_table

if TYPE_CHECKING:
    from edge_convert.adopt.model import TensorInfo

# What the whole range of an integer input stands for in networks that take pixels as they are.
USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
# Of the range's width: a scale calibrated on pictures, or 127 in place of 127.5, moves its ends by less.
NEAR = 0.02


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The network takes (pixel - mean) / std, one entry a channel or one for all; empty: integers as they are."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def words(self) -> str:
        """For people."""
        if not self.mean:
            return "pixels as they are"
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"(pixel - {mean}) / {std}" if len(self.mean) == 1 else f"(pixel - ({mean})) / ({std})"

    def close_to(self, other: Scaling) -> bool:
        """Whether they are the same but for rounding."""
        if not (self.mean and other.mean):
            return self == other
        return bool(np.allclose(self.mean, other.mean, atol=1e-3) and np.allclose(self.std, other.std, rtol=1e-4))


def from_range(low: float, high: float) -> Scaling:
    """The scaling under which pixel 0 becomes `low` and 255 `high`. Raises EdgeError."""
    if not low < high:
        raise EdgeError(f"the input range {low:g},{high:g} does not rise", remedy="write the lower end first")
    std = 255 / (high - low)
    return Scaling(mean=(-low * std + 0.0,), std=(std,))


def from_mean(mean: tuple[float, ...], std: tuple[float, ...]) -> Scaling:
    """The scaling by a mean and a deviation in pixels. Raises EdgeError for those in units of 0 to 1."""
    channels = max(len(mean), len(std))
    if {len(mean), len(std)} - {1, channels} or channels not in (1, 3):
        raise EdgeError(
            f"--mean has {len(mean)} entries and --std {len(std)}", remedy="give one, or one for each of 3 channels"
        )
    mean, std = (values if len(values) == channels else values * channels for values in (mean, std))
    if min(std) <= 0:
        raise EdgeError(f"--std holds {min(std):g}; it must be above 0", remedy="give deviations in pixels, 0 to 255")
    if max(std) <= 1 and max(mean) <= 1:
        means, stds = (",".join(f"{255 * value:.6g}" for value in values) for values in (mean, std))
        raise EdgeError(
            "--mean and --std are in units of pixels, 0 to 255, and these look like shares of 1",
            remedy=f"use --mean {means} --std {stds}",
        )
    return Scaling(mean=mean, std=std)


def find_scaling(
    tensor: TensorInfo, metadata: TfliteMetadata | None, asked: Scaling | None, channels: int, notes: list[str]
) -> Scaling:
    """What was asked for, else what the metadata says, else what the quantization shows. Raises EdgeError."""
    said = _of_metadata(metadata, channels)
    if asked is not None:
        if not asked.mean and tensor.dtype == "float32":
            raise EdgeError(
                "this network takes float32, not pixels as integers",
                remedy="use --input-range 0,255 if it takes 0 to 255",
            )
        if len(asked.mean) not in (0, 1, channels):
            raise EdgeError(f"--mean has {len(asked.mean)} entries, the picture {channels} channel", remedy="give one")
        if said is not None and asked.mean and not asked.close_to(said):
            notes.append(f"the file's metadata says {said.words}: what was asked for is used instead")
        if asked.mean and tensor.dtype != "float32" and _strays(tensor, asked, channels) <= 1:
            # Rounding would decide each pixel's step by a hair; the file was made to take pixels.
            notes.append(f"input: pixels as they are, {tensor.dtype}, within a step of {asked.words} as asked")
            return Scaling()
        notes.append(f"input: {asked.words}, as asked")
        return asked
    if tensor.dtype != "float32":
        return _integers(tensor, said, channels, notes)
    if said is None:
        raise EdgeError(
            "the file does not say how pixels become the numbers that this network takes",
            remedy="say it as its training did: --input-range 0,1 or -1,1 or 0,255, or --mean and --std",
        )
    notes.append(f"input: {said.words}, from the file's metadata")
    return said


def _of_metadata(metadata: TfliteMetadata | None, channels: int) -> Scaling | None:
    if metadata is None or not metadata.mean or not metadata.std:
        return None
    if len(metadata.mean) != len(metadata.std) or len(metadata.mean) not in (1, channels) or min(metadata.std) <= 0:
        raise EdgeError(
            "the normalization in the file's metadata fits no picture", remedy="give --input-range, or --mean and --std"
        )
    return Scaling(mean=metadata.mean, std=metadata.std)


def _integers(tensor: TensorInfo, said: Scaling | None, channels: int, notes: list[str]) -> Scaling:
    """Pixels as they are, where metadata or quantization say that they are meant to be: the usual way."""
    if said is not None and _strays(tensor, said, channels) > 1:
        raise EdgeError(
            f"the file's metadata ({said.words}) and its input's quantization do not make pixels of pixels",
            remedy="say which is meant: --input-range pixels for pixels as they are, or --mean and --std",
        )
    limits = np.iinfo(tensor.dtype)
    low, high = ((int(end) - tensor.zero_point) * tensor.scale for end in (limits.min, limits.max))
    if said is None and not any(_near((low, high), usual) for usual in USUAL_RANGES):
        raise EdgeError(
            f"the integers that this network takes stand for {low:.3g} to {high:.3g}, and nothing says of what pixels",
            remedy="say it as its training did: --input-range pixels, 0,1 or -1,1 or 0,255, or --mean and --std",
        )
    shown = f"its quantization has them stand for {low:.3g} to {high:.3g}"
    notes.append(f"input: pixels as they are, {tensor.dtype}; {shown}")
    return Scaling()


def _strays(tensor: TensorInfo, scaling: Scaling, channels: int) -> float:
    """By how many steps of the input, at most, the scaling differs from pixels as they are."""
    scaled, plain = (
        input_table(
            ModelFile(
                file="",
                input_dtype=tensor.dtype,  # type: ignore[arg-type]
                outputs={"probabilities": ""},
                input_mean=way.mean,
                input_std=way.std,
            ),
            channels=channels,
            scale=tensor.scale,
            zero_point=tensor.zero_point,
        )
        for way in (scaling, Scaling())
    )
    pixels = np.arange(256)[:, np.newaxis]
    a, b = (pixels if table is None else table.astype(np.int64) for table in (scaled, plain))
    return float(np.abs(a - b).max())


def _near(found: tuple[float, float], usual: tuple[float, float]) -> bool:
    width = usual[1] - usual[0]
    return all(abs(a - b) <= NEAR * width for a, b in zip(found, usual, strict=True))
