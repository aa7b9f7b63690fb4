"""The one preprocessing program: picture file -> upright RGB -> square uint8 network input.

Training, calibration, verification and the device all call this module with the parameters that the
bundle carries, so that what was evaluated is what runs. Its results are the same bytes on every CPU:
it uses only OpenCV operations that are integer-exact (see docs/decisions/001-exact-resizing.md, 013-scaled-jpeg.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edge import MAX_PICTURE_PIXELS
from edge.errors import EdgeError, PictureError
from edge.frozen import dataclass
from edge.jpeg import picture_size
from edge.native_stderr import collected_stderr
from edge.tiff import read_facts

Fit = Literal["crop", "letterbox", "squash"]
WideRange = Literal["full", "stretch"]
Colour = Literal["rgb", "grey"]
JpegScale = Literal["whole", "scaled"]

# Luma of red, green and blue (ITU-R BT.601) in units of 2^-15, as OpenCV's RGB2GRAY rounds them. Computed here because
# OpenCV hands that step to the CPU maker's library where there is one, and not every library rounds alike.
LUMA = np.array([9798, 19235, 3735], np.uint32)
LUMA_BITS = 15
# What a file of each kind begins with. Other kinds that OpenCV could read (WebP, EXR, GIF ...) are refused:
# nobody has tested a microscope's or a plate reader's output in them here, and every decoder is an attack surface.
SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\x00", b"MM\x00*"),
}
# A picture whose shorter side is under a quarter of the input's shows nothing that training has seen.
SMALLEST_SHARE = 4
# A 16-bit picture that stays below this has 12 bits or fewer in it: read as 16 bits, it would be nearly black.
TWELVE_BITS = 4096
# What decoders write when part of a picture is lost; they fill that part with grey and return it all the same.
SIGNS_OF_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG", "libpng error")
AS_IT_IS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
# A JPEG has 8 bits, and its decoder gives red, green and blue in their order at no cost. Turning them round afterwards
# took a twelfth of the time of a large picture's verdict. By how much the picture is reduced while it is decoded; the
# constants named grey carry the scale alone, and those named colour exclude this order from OpenCV 5 on.
JPEG_AS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}
# cv2.Error.StsNoMem, which the types of OpenCV do not know.
NO_MEMORY = -4
PICTURE_KINDS = "JPEG, PNG, BMP or TIFF"
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the picture lies in the network's input.

    source_xywh: the part of the upright picture that was used, in its pixels.
    target_xywh: where that part lies in the input, in input pixels.
    """

    source_xywh: tuple[int, int, int, int]
    target_xywh: tuple[int, int, int, int]

    def to_input(self, x: float, y: float) -> tuple[float, float]:
        """A point of the upright picture, in pixels, as a point of the input."""
        sx, sy, sw, sh = self.source_xywh
        tx, ty, tw, th = self.target_xywh
        return tx + (x - sx) * tw / sw, ty + (y - sy) * th / sh

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """A point of the input, in pixels, as a point of the upright picture."""
        sx, sy, sw, sh = self.source_xywh
        tx, ty, tw, th = self.target_xywh
        return sx + (x - tx) * sw / tw, sy + (y - ty) * sh / th


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An upright picture as the program goes on with it: whole, or reduced while it was decoded.

    pixels: (rows, columns, 3) uint8 RGB; ceil(height / reduction) rows, columns likewise. width, height: of the whole
    picture, in pixels; every place in it is given in those. reduction: 1, 2, 4 or 8.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    width: int
    height: int
    reduction: int

    @classmethod
    def whole(cls, pixels: NDArray[np.uint8]) -> Decoded:
        """A picture with all its pixels, such as a camera's frame. pixels: (height, width, 3) uint8 RGB, upright."""
        return cls(pixels=pixels, width=pixels.shape[1], height=pixels.shape[0], reduction=1)

    def part(self, xywh: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """A part's pixels, its edges at the nearest there are. xywh: in pixels of the whole picture."""
        x, y, w, h = xywh
        left, top, right, bottom = (_nearest(edge, self.reduction) for edge in (x, y, x + w, y + h))
        return self.pixels[top:bottom, left:right]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The parameters of the program, stored in the bundle.

    side_px: side of the square input. fit: `crop` keeps the centre square, `letterbox` keeps the whole
    picture and pads with black, `squash` changes its proportions. wide_range: how 16-bit pixels become 8-bit ones:
    `full` maps 0..65535,
    `stretch` maps the picture's own minimum..maximum (12-bit plates stored in 16-bit files). colour: `rgb` gives three
    channels, `grey` one, the luma; a grey picture keeps its values. jpeg: `scaled` has the JPEG decoder do the first
    halvings, up to three, by leaving out the finest waves; `whole` has every pixel decoded first.
    """

    side_px: int
    fit: Fit = "crop"
    wide_range: WideRange = "full"
    colour: Colour = "rgb"
    # A manifest without it is of a bundle that was evaluated on pictures decoded whole.
    jpeg: JpegScale = "whole"

    def __post_init__(self) -> None:
        if not 16 <= self.side_px <= 2048:
            raise EdgeError(f"side_px is {self.side_px}", remedy="use 16 to 2048")
        if self.fit not in get_args(Fit):
            raise EdgeError(f"fit is {self.fit!r}", remedy=f"use one of {', '.join(get_args(Fit))}")
        if self.wide_range not in get_args(WideRange):
            raise EdgeError(f"wide_range is {self.wide_range!r}", remedy=f"use one of {', '.join(get_args(WideRange))}")
        if self.colour not in get_args(Colour):
            raise EdgeError(f"colour is {self.colour!r}", remedy=f"use one of {', '.join(get_args(Colour))}")
        if self.jpeg not in get_args(JpegScale):
            raise EdgeError(f"jpeg is {self.jpeg!r}", remedy=f"use one of {', '.join(get_args(JpegScale))}")

    @property
    def channels(self) -> int:
        """Of the network's input: 3 or 1."""
        return 1 if self.colour == "grey" else 3

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of the network's input."""
        return self.side_px, self.side_px, self.channels

    def decode(self, data: bytes) -> Decoded:
        """An upright RGB picture from the bytes of a file, as `decode`, large enough for this input."""
        picture = _decode(data, self.wide_range, self.reduction)
        self.require_size(picture.width, picture.height)
        return picture

    def reduction(self, width: int, height: int) -> int:
        """By how much a JPEG of this size, in pixels, is reduced while it is decoded: 1, 2, 4 or 8.

        As often as `shrink` would halve it. Turning the picture by a quarter does not change it.
        """
        if self.jpeg == "whole" or max(width, height) < 2 * self.side_px:
            return 1
        place = self.place(width, height)
        (_, _, w, h), (_, _, tw, th) = place.source_xywh, place.target_xywh
        return next((by for by in (8, 4, 2) if w >= by * tw and h >= by * th), 1)

    def require_size(self, width: int, height: int) -> None:
        """Raises PictureError for a picture, of this size in pixels, that is too small for this input."""
        least = self.side_px // SMALLEST_SHARE
        if min(height, width) < least:
            raise PictureError(
                f"this picture is {width} x {height} pixels; its shorter side must be at least {least}",
                remedy="use the picture as the camera made it, not a thumbnail",
            )

    def place(self, width: int, height: int) -> Placement:
        """Where a picture of this size, in pixels, lies in the input."""
        side = self.side_px
        if self.fit == "crop":
            square = min(width, height)
            return Placement(
                source_xywh=((width - square) // 2, (height - square) // 2, square, square),
                target_xywh=(0, 0, side, side),
            )
        if self.fit == "squash":
            return Placement(source_xywh=(0, 0, width, height), target_xywh=(0, 0, side, side))
        longer = max(width, height)
        # Round half up in integers: the same on every machine.
        inner_w = max(1, (2 * width * side + longer) // (2 * longer))
        inner_h = max(1, (2 * height * side + longer) // (2 * longer))
        return Placement(
            source_xywh=(0, 0, width, height),
            target_xywh=((side - inner_w) // 2, (side - inner_h) // 2, inner_w, inner_h),
        )

    def to_input(self, picture: Decoded) -> NDArray[np.uint8]:
        """The network's input from an upright picture: (side_px, side_px, channels) uint8, contiguous."""
        placement = self.place(picture.width, picture.height)
        tx, ty, tw, th = placement.target_xywh
        inner = shrink(picture.part(placement.source_xywh), tw, th)
        if self.colour == "grey":
            inner = grey(inner)
        if (tw, th) == (self.side_px, self.side_px):
            return np.ascontiguousarray(inner)
        canvas = np.zeros(self.input_shape, np.uint8)
        canvas[ty : ty + th, tx : tx + tw] = inner
        return canvas


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma of a picture. picture: (rows, columns, 3) uint8 RGB. Returns (rows, columns, 1) uint8.

    Where the three are equal it is their value: the weights sum to one exactly.
    """
    total = picture.astype(np.uint32) @ LUMA + (1 << (LUMA_BITS - 1))
    return np.asarray(total >> LUMA_BITS, np.uint8)[..., np.newaxis]


def shrink(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize without aliasing and without rounding that depends on the CPU.

    picture: (rows, columns, 3) uint8. Halves while the picture is at least twice as large as asked (the
    mean of 2x2 pixels), then one bilinear step; both in OpenCV's integer arithmetic (INTER_LINEAR_EXACT).
    """
    while picture.shape[1] >= 2 * width and picture.shape[0] >= 2 * height:
        half = (picture.shape[1] // 2, picture.shape[0] // 2)
        picture = cv2.resize(picture, half, interpolation=cv2.INTER_LINEAR_EXACT)  # type: ignore[assignment]
    if picture.shape[:2] != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)  # type: ignore[assignment]
    return picture


def picture_kind(data: bytes) -> str | None:
    """`JPEG`, `PNG`, `BMP` or `TIFF` by the file's first bytes, None for anything else."""
    return next((kind for kind, heads in SIGNATURES.items() if data.startswith(heads)), None)


def decode(data: bytes, *, wide_range: WideRange = "full") -> NDArray[np.uint8]:
    """An upright picture, whole, from the bytes of a JPEG, PNG, BMP or TIFF file.

    Returns (height, width, 3) uint8 RGB; EXIF orientation applied, grey repeated three times, an alpha
    channel dropped. Raises PictureError where the file is empty, of another kind, cut short, damaged, of
    several pages, larger than MAX_PICTURE_PIXELS, or 12-bit data in a 16-bit file (unless stretched).
    """
    return _decode(data, wide_range, lambda _width, _height: 1).pixels


def _decode(data: bytes, wide_range: WideRange, choose: Callable[[int, int], int]) -> Decoded:
    """As `decode`. choose: a JPEG's reduction by its width and height, in pixels."""
    if not data:
        raise PictureError("the file is empty", remedy="copy or take the picture again")
    kind = picture_kind(data)
    if kind is None:
        raise PictureError(f"this is not a {PICTURE_KINDS} picture", remedy="save it as JPEG or PNG")
    if _is_cut_short(kind, data):
        raise PictureError(f"this {kind} picture is cut short", remedy="copy or take the picture again")
    if kind == "JPEG":
        return _decode_jpeg(data, choose)
    inverted = kind == "TIFF" and _white_is_zero(data)
    pixels = _read(kind, data, AS_IT_IS)
    eight_bit = _to_eight_bit(pixels, wide_range)
    if inverted and pixels.dtype == np.uint16:
        # OpenCV turns inverted grey upright in 8-bit files and forgets it in 16-bit ones.
        eight_bit = np.asarray(255 - eight_bit, np.uint8)
    order = cv2.COLOR_GRAY2RGB if eight_bit.ndim == 2 else cv2.COLOR_BGR2RGB
    return Decoded.whole(np.asarray(cv2.cvtColor(eight_bit, order), np.uint8))


def _decode_jpeg(data: bytes, choose: Callable[[int, int], int]) -> Decoded:
    """A JPEG, reduced where its whole upright size is sure all the same."""
    size = picture_size(data)
    if size is not None:
        # OpenCV's own limit would be held against the reduced picture.
        _require_not_too_large(*size)
        by = choose(*size)
        if by > 1 and _tells_a_turn(size, by):
            pixels = np.asarray(_read("JPEG", data, JPEG_AS[by]), np.uint8)
            for width, height in (size, size[::-1]):
                if pixels.shape[:2] == (-(-height // by), -(-width // by)):
                    return Decoded(pixels=pixels, width=width, height=height, reduction=by)
            raise PictureError("this JPEG picture is not of the size it says", remedy="copy or take the picture again")
    return Decoded.whole(np.asarray(_read("JPEG", data, JPEG_AS[1]), np.uint8))


def _tells_a_turn(size: tuple[int, int], by: int) -> bool:
    """Whether the reduced picture's shape shows if the decoder has turned it: it need not where the sides are near."""
    width, height = size
    return width == height or -(-width // by) != -(-height // by)


def _read(kind: str, data: bytes, flags: int) -> NDArray[np.generic]:
    """A file's pixels as OpenCV gives them. Raises PictureError where it is damaged or too large."""
    damaged = PictureError(f"this {kind} picture is damaged", remedy="copy or take the picture again")
    try:
        with collected_stderr() as lines:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if "IMAGE_PIXELS" in str(error) or "validateInputImageSize" in str(error):
            raise _too_large() from None
        if error.code == NO_MEMORY:
            raise PictureError("there is too little memory for this picture", remedy="save a smaller one") from None
        raise damaged from None
    if pixels is None or pixels.size == 0 or any(sign in line for sign in SIGNS_OF_DAMAGE for line in lines):
        raise damaged
    # Where a program loaded OpenCV before this package, OpenCV's own limit is larger.
    _require_not_too_large(pixels.shape[1], pixels.shape[0])
    return np.asarray(pixels)


def _require_not_too_large(width: int, height: int) -> None:
    if width * height > MAX_PICTURE_PIXELS:
        raise _too_large()


def _too_large() -> PictureError:
    return PictureError(
        f"this picture has more than {MAX_PICTURE_PIXELS // 1_000_000} million pixels", remedy="save a smaller one"
    )


def _nearest(place: int, by: int) -> int:
    """A place of the whole picture in the reduced one, to the nearest pixel, halves up."""
    return (2 * place + by) // (2 * by)


def _white_is_zero(data: bytes) -> bool:
    """Whether a TIFF's grey is inverted. Raises PictureError for a file of several pages: which one is meant?"""
    facts = read_facts(data)
    if facts is None:
        raise PictureError("this TIFF picture is damaged", remedy="copy or take the picture again")
    if facts.pages > 1:
        raise PictureError(f"this TIFF file holds {facts.pages} pictures", remedy="save each as a file of its own")
    return facts.white_is_zero


def _is_cut_short(kind: str, data: bytes) -> bool:
    """Whether the end marker is missing: decoders fill the lost part with grey and say nothing."""
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-4096:]  # some cameras append a few bytes after the marker
    if kind == "PNG":
        return b"IEND" not in data[-4096:]
    if kind == "BMP":
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def _to_eight_bit(pixels: NDArray[np.generic], wide_range: WideRange) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype != np.uint16:
        raise PictureError(
            f"pixels of type {pixels.dtype} are not 8- or 16-bit", remedy="save it as an 8- or 16-bit picture"
        )
    if wide_range == "full" and pixels.max() < TWELVE_BITS:
        raise PictureError(
            f"this 16-bit picture reaches only {int(pixels.max())} of 65535 grey levels",
            remedy="save it as an 8-bit picture, or use a bundle made with wide_range = 'stretch'",
        )
    wide = pixels.astype(np.uint32)
    low, high = (0, 65535) if wide_range == "full" else (int(wide.min()), int(wide.max()))
    span = max(1, high - low)
    return (((wide - low) * 255 + span // 2) // span).astype(np.uint8)
