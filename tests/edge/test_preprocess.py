"""Preprocessing is one program with the same bytes on every machine."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge import MAX_PICTURE_PIXELS
from edge.errors import EdgeError, PictureError
from edge.preprocess import Decoded, Preprocessing, decode, grey, shrink


def drawn(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> NDArray[np.generic]:
    """A picture from integer arithmetic alone, the same everywhere: ramps and a checkerboard."""
    row, column = np.mgrid[0:height, 0:width].astype(np.int64)
    planes = [
        (row * 7 + column * (3 + c) + ((row // 5 + column // 7) % 2) * 90 * (c + 1)) % 256 for c in range(channels)
    ]
    picture = np.stack(planes, axis=-1)
    return (picture * (257 if dtype is np.uint16 else 1)).astype(dtype).squeeze()


def encoded(suffix: str, picture: NDArray[np.generic], *flags: int) -> bytes:
    ok, data = cv2.imencode(suffix, picture, list(flags))
    assert ok
    return data.tobytes()


GOLDEN = {
    ("crop", 64, (100, 150)): "051cff9b94397b20bda9dc484da3d1630c28fc80d00ffcb53e0fdb30234c9b46",
    ("crop", 224, (960, 1280)): "fdf74cc42f989e9d77a33f4c8b1df6aa451de0e20a282af75b6105c0e0006bf5",
    ("crop", 96, (50, 61)): "9d2540aeca2ef21a9d25df9dabb1f79dcaa40a835a316e43e5e04dc21072e3ef",
    ("letterbox", 64, (100, 150)): "1263fdc70a4e63fbb79d9c9024bdc176a8341ab08a98513c57ad25ddc5b205e5",
    ("letterbox", 224, (1601, 777)): "6736977e5fc6544f22e7d3503adf69525d7c39c4082481b802e6ca754338d3e5",
}


@pytest.mark.parametrize(("case", "sha256"), GOLDEN.items(), ids=lambda value: str(value)[:40])
def test_the_input_tensor_has_these_exact_bytes(case: tuple[str, int, tuple[int, int]], sha256: str) -> None:
    fit, side_px, (height, width) = case
    data = encoded(".png", drawn(height, width))
    preprocessing = Preprocessing(side_px=side_px, fit=fit)  # type: ignore[arg-type]
    tensor = preprocessing.to_input(preprocessing.decode(data))
    assert tensor.shape == (side_px, side_px, 3)
    assert tensor.dtype == np.uint8
    assert tensor.flags.c_contiguous
    assert hashlib.sha256(tensor.tobytes()).hexdigest() == sha256


@pytest.mark.parametrize(
    ("colour", "luma"),
    # 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded.
    [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((200, 120, 40), 135), ((255, 255, 255), 255)],
)
def test_a_colour_becomes_its_luma(colour: tuple[int, int, int], luma: int) -> None:
    picture = np.tile(np.array(colour, np.uint8), (70, 90, 1))
    tensor = Preprocessing(side_px=64, colour="grey").to_input(Decoded.whole(picture))
    assert tensor.shape == (64, 64, 1)
    assert tensor.dtype == np.uint8
    assert tensor.flags.c_contiguous
    assert np.unique(tensor).tolist() == [luma]


def test_grey_is_the_grey_of_opencv_to_the_last_bit() -> None:
    cube = np.stack(np.meshgrid(*[np.arange(0, 256, 3)] * 3), axis=-1).reshape(86, -1, 3).astype(np.uint8)
    np.testing.assert_array_equal(grey(cube)[..., 0], cv2.cvtColor(cube, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_a_grey_picture_keeps_its_values_in_one_channel_as_in_three(fit: str) -> None:
    picture = Decoded.whole(decode(encoded(".png", drawn(130, 97, 1))))
    three = Preprocessing(side_px=64, fit=fit).to_input(picture)  # type: ignore[arg-type]
    one = Preprocessing(side_px=64, fit=fit, colour="grey").to_input(picture)  # type: ignore[arg-type]
    np.testing.assert_array_equal(one, three[..., :1])


def test_a_half_sized_picture_is_the_rounded_mean_of_four_pixels() -> None:
    picture = drawn(40, 60)
    wide = picture.astype(np.int64)
    mean = (wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) // 4
    np.testing.assert_array_equal(shrink(picture.astype(np.uint8), 30, 20), mean)


def test_shrinking_does_not_alias() -> None:
    # A one-pixel checkerboard is grey from afar; plain bilinear sampling would keep black and white pixels.
    board = ((np.indices((1024, 1024)).sum(axis=0) % 2) * 255).astype(np.uint8)
    small = shrink(np.repeat(board[..., np.newaxis], 3, axis=2), 100, 100)
    assert abs(int(small.min()) - 128) <= 2
    assert abs(int(small.max()) - 128) <= 2


def test_red_stays_red() -> None:
    red_in_opencv_order = np.zeros((20, 20, 3), np.uint8)
    red_in_opencv_order[..., 2] = 255
    for suffix in (".png", ".bmp", ".tiff"):
        assert decode(encoded(suffix, red_in_opencv_order))[0, 0].tolist() == [255, 0, 0]
    assert decode(encoded(".jpg", red_in_opencv_order))[0, 0, 0] > 240


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("quality", [40, 95])
def test_a_jpegs_pixels_are_those_of_opencvs_own_order_turned_round(quality: int, progressive: int) -> None:
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    data = encoded(".jpg", drawn(97, 131), *settings)
    turned = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert decode(data).tobytes() == np.asarray(turned).tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".jpg"])
def test_grey_becomes_three_equal_channels(suffix: str) -> None:
    picture = decode(encoded(suffix, drawn(30, 40, 1)))
    assert picture.shape == (30, 40, 3)
    np.testing.assert_array_equal(picture[..., 0], picture[..., 1])
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_become_eight(suffix: str) -> None:
    narrow = drawn(30, 40, 1)
    wide = encoded(suffix, drawn(30, 40, 1, np.uint16))
    np.testing.assert_array_equal(decode(wide)[..., 0], narrow)


def test_a_twelve_bit_plate_in_a_sixteen_bit_file_is_stretched_when_asked() -> None:
    plate = encoded(".png", (drawn(30, 40, 1).astype(np.uint16) * 16))
    with pytest.raises(PictureError, match="of 65535 grey levels"):
        decode(plate)
    stretched = decode(plate, wide_range="stretch")
    assert stretched.min() == 0
    assert stretched.max() == 255


def test_an_alpha_channel_is_dropped() -> None:
    opaque = drawn(20, 20)
    with_alpha = np.dstack([opaque, drawn(20, 20, 1)])
    np.testing.assert_array_equal(decode(encoded(".png", with_alpha)), opaque[..., ::-1])


def exif_jpeg(orientation: int) -> bytes:
    """A JPEG, left half black and right half white, with an EXIF orientation tag."""
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 40:] = 255
    data = encoded(".jpg", picture)
    ifd = struct.pack("<HHHLHHL", 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + ifd
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.mark.parametrize(
    ("orientation", "shape", "white"),
    [(1, (40, 80), "right"), (3, (40, 80), "left"), (6, (80, 40), "bottom"), (8, (80, 40), "top")],
)
def test_exif_orientation_turns_the_picture_upright(orientation: int, shape: tuple[int, int], white: str) -> None:
    picture = decode(exif_jpeg(orientation))[..., 0]
    assert picture.shape == shape
    halves = {
        "left": picture[:, : shape[1] // 2],
        "right": picture[:, shape[1] // 2 :],
        "top": picture[: shape[0] // 2],
        "bottom": picture[shape[0] // 2 :],
    }
    assert halves[white].mean() > 240


def test_crop_keeps_the_centre_square() -> None:
    placement = Preprocessing(side_px=100).place(300, 200)
    assert placement.source_xywh == (50, 0, 200, 200)
    assert placement.target_xywh == (0, 0, 100, 100)


def test_letterbox_keeps_the_whole_picture_and_pads_with_black() -> None:
    preprocessing = Preprocessing(side_px=100, fit="letterbox")
    white = np.full((200, 400, 3), 255, np.uint8)
    tensor = preprocessing.to_input(Decoded.whole(white))
    assert preprocessing.place(400, 200).target_xywh == (0, 25, 100, 50)
    assert tensor[:25].max() == 0
    assert tensor[25:75].min() == 255
    assert tensor[75:].max() == 0


def test_squash_takes_the_whole_picture_out_of_proportion() -> None:
    preprocessing = Preprocessing(side_px=100, fit="squash")
    half_white = np.zeros((200, 400, 3), np.uint8)
    half_white[:, 200:] = 255
    tensor = preprocessing.to_input(Decoded.whole(half_white))
    assert preprocessing.place(400, 200).source_xywh == (0, 0, 400, 200)
    assert tensor.shape == (100, 100, 3)
    assert tensor[:, :49].max() == 0
    assert tensor[:, 51:].min() == 255


@pytest.mark.parametrize("fit", ["crop", "letterbox", "squash"])
def test_a_point_goes_to_the_input_and_back(fit: str) -> None:
    placement = Preprocessing(side_px=96, fit=fit).place(640, 333)  # type: ignore[arg-type]
    assert placement.to_picture(*placement.to_input(320.5, 100.25)) == pytest.approx((320.5, 100.25))


def bmp_header(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"not a picture", "not a JPEG"),
        (b"GIF89a" + bytes(100), "not a JPEG"),
        (encoded(".jpg", drawn(99, 99))[:-400], "cut short"),
        (encoded(".png", drawn(99, 99))[:-400], "cut short"),
        (encoded(".bmp", drawn(99, 99))[:-400], "cut short"),
        (encoded(".tiff", drawn(99, 99))[:60], "damaged"),
        (b"\xff\xd8\xff" + bytes(200) + b"\xff\xd9", "damaged"),
        (bmp_header(40_000, 40_000), "million pixels"),
        (encoded(".tiff", drawn(9, 9).astype(np.float32)), "not 8- or 16-bit"),
    ],
    ids=["empty", "text", "gif", "short-jpeg", "short-png", "short-bmp", "short-tiff", "hollow-jpeg", "bomb", "float"],
)
def test_a_bad_picture_is_refused_with_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(PictureError, match=words) as caught:
        decode(data)
    assert caught.value.remedy


@pytest.mark.parametrize(("progressive", "share"), [(0, 0.3), (0, 0.6), (0, 0.9), (1, 0.3), (1, 0.6)])
def test_a_jpeg_with_a_hole_in_it_is_refused(progressive: int, share: float) -> None:
    """A lost sector: the end marker is there, the decoder fills in grey, and a finding may be under it."""
    data = bytearray(encoded(".jpg", drawn(300, 300), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive))
    hole = int(len(data) * share)
    data[hole : hole + 512] = bytes(512)
    with pytest.raises(PictureError, match="damaged"):
        decode(bytes(data))


def test_bytes_after_a_jpegs_end_are_harmless() -> None:
    data = encoded(".jpg", drawn(50, 60))
    np.testing.assert_array_equal(decode(data + b"camera model" * 5), decode(data))


def test_inverted_grey_of_a_tiff_is_turned_upright_at_8_and_16_bits() -> None:
    for picture in (drawn(40, 50, 1), drawn(40, 50, 1, np.uint16)):
        data = encoded(".tiff", picture, cv2.IMWRITE_TIFF_COMPRESSION, 1)
        upright = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
        assert data.count(upright) == 1
        inverted = data.replace(upright, struct.pack("<HHIHH", 262, 3, 1, 0, 0))
        np.testing.assert_array_equal(decode(inverted), 255 - decode(data))


def test_a_tiff_of_several_pages_is_refused() -> None:
    ok, pages = cv2.imencodemulti(".tiff", [drawn(20, 30), drawn(20, 30)])
    assert ok
    with pytest.raises(PictureError, match="holds 2 pictures"):
        decode(pages.tobytes())


def test_a_thumbnail_is_refused_for_a_large_input() -> None:
    small = encoded(".png", drawn(55, 300))
    assert decode(small).shape == (55, 300, 3)
    with pytest.raises(PictureError, match="300 x 55 pixels; its shorter side must be at least 56"):
        Preprocessing(side_px=224).decode(small)


def test_what_decoders_write_to_the_error_stream_does_not_reach_the_user(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(".png", drawn(99, 99)))
    data[len(data) // 2] ^= 255
    with pytest.raises(PictureError):
        decode(bytes(data))
    assert capfd.readouterr().err == ""


def test_a_picture_larger_than_allowed_is_refused_before_it_is_unpacked() -> None:
    side = 1 + int(MAX_PICTURE_PIXELS**0.5)
    data = encoded(".png", np.zeros((side, side), np.uint8))
    with pytest.raises(PictureError, match="million pixels"):
        decode(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"side_px": 8},
        {"side_px": 64, "fit": "stretch"},
        {"side_px": 64, "wide_range": "?"},
        {"side_px": 64, "colour": "red"},
        {"side_px": 64, "jpeg": "half"},
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(EdgeError):
        Preprocessing(**wrong)  # type: ignore[arg-type]


SCALED_GOLDEN = {
    ("4:2:0", 2, (150, 201)): "b5aa781b9c4b894bd52f799c1fbfd8674a2f57f4b2029a1086f090eee479abd5",
    ("4:2:0", 4, (299, 403)): "1840461529ffaf4cd9927fe7769d4a893afb4b8a90c3101679b6f6ed2243f427",
    ("4:2:0", 8, (517, 601)): "3f34727c732bf5718c27c830626cef2415b9269cf9382fc5c0e09303cd7aa428",
    ("4:4:4", 2, (150, 201)): "b7e165d6f3b9cbcf58effe7d06683345248bd0320ce9ac42b29615f8cced68f7",
    ("4:4:4", 4, (299, 403)): "718d3475c3ed28b1b58782085c66c2841b17c16ad1ae0275bfd0b7e8e42d89cc",
    ("4:4:4", 8, (517, 601)): "8e6e4d32aafdd4ad21c77ef21ce4c3291dfe5c4df72365253b79bbfa4ba446ad",
    ("4:2:2", 2, (150, 201)): "7523005dfc81ee76f2e1c8b506ff031eb7987fec30abcc8ea521e128b0a5e330",
    ("4:2:2", 4, (299, 403)): "828d24bc2ff6c171630d160a6c61e3734961283f529a08191822391fb077fb87",
}
SAMPLING = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
SCALED = Preprocessing(side_px=64, jpeg="scaled")
WHOLE = Preprocessing(side_px=64)


def soft(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """A picture from integer arithmetic with something in it at every scale, and no edge as hard as in `drawn`."""
    small = drawn(-(-height // 3), -(-width // 3), channels).reshape(-(-height // 3), -(-width // 3), channels)
    large = small.repeat(3, axis=0).repeat(3, axis=1)[:height, :width]
    return np.asarray((large.astype(np.int64) + 2 * drawn(height, width, 1)[..., np.newaxis]) // 3, np.uint8).squeeze()


@pytest.mark.parametrize(("case", "sha256"), SCALED_GOLDEN.items(), ids=lambda value: str(value)[:40])
def test_a_jpeg_that_is_scaled_while_it_is_decoded_gives_these_exact_bytes(
    case: tuple[str, int, tuple[int, int]], sha256: str
) -> None:
    sampling, reduction, shape = case
    data = encoded(".jpg", soft(*shape), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[sampling])
    picture = SCALED.decode(data)
    assert picture.reduction == reduction
    assert hashlib.sha256(SCALED.to_input(picture).tobytes()).hexdigest() == sha256


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_scaled_jpeg_is_much_like_the_whole_one_made_smaller(progressive: int) -> None:
    data = encoded(".jpg", soft(640, 896), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    scaled, whole = (steps.to_input(steps.decode(data)).astype(int) for steps in (SCALED, WHOLE))
    assert SCALED.decode(data).reduction == 8
    # Grey levels. Half a pixel's shift is ten times as much.
    assert np.abs(scaled - whole).mean() < 1.5


def test_scaling_does_not_alias() -> None:
    board = ((np.indices((1024, 1024)).sum(axis=0) % 2) * 255).astype(np.uint8)
    for side_px, reduction in ((100, 8), (200, 4), (400, 2)):
        steps = Preprocessing(side_px=side_px, jpeg="scaled")
        picture = steps.decode(encoded(".jpg", board, cv2.IMWRITE_JPEG_QUALITY, 95))
        assert picture.reduction == reduction
        small = steps.to_input(picture)
        assert abs(int(small.min()) - 128) <= 2
        assert abs(int(small.max()) - 128) <= 2


@pytest.mark.parametrize("fit", ["crop", "letterbox", "squash"])
@pytest.mark.parametrize(
    ("shorter", "reduction"),
    [(63, 1), (127, 1), (128, 2), (129, 2), (255, 2), (256, 4), (511, 4), (512, 8), (513, 8), (1100, 8)],
)
def test_a_jpeg_is_reduced_as_often_as_it_would_be_halved(fit: str, shorter: int, reduction: int) -> None:
    steps = Preprocessing(side_px=64, fit=fit, jpeg="scaled")  # type: ignore[arg-type]
    # Letterbox keeps the longer side: there the sides are alike.
    width = shorter if fit == "letterbox" else shorter + 40
    picture = steps.decode(encoded(".jpg", soft(shorter, width)))
    assert picture.reduction == reduction
    assert (picture.width, picture.height) == (width, shorter)
    assert picture.pixels.shape == (-(-shorter // reduction), -(-width // reduction), 3)


@pytest.mark.parametrize("fit", ["crop", "letterbox", "squash"])
def test_places_are_those_of_the_whole_picture(fit: str) -> None:
    """A white square lies in the input where the placement says, within a pixel, whatever the decoder left out."""
    steps = Preprocessing(side_px=64, fit=fit, jpeg="scaled")  # type: ignore[arg-type]
    black = np.zeros((403, 611, 3), np.uint8)
    black[200:300, 250:350] = 255
    picture = steps.decode(encoded(".jpg", black))
    assert picture.reduction > 1
    placement = steps.place(picture.width, picture.height)
    rows, columns = np.nonzero(steps.to_input(picture)[..., 0] > 127)
    left, top = placement.to_input(250, 200)
    right, bottom = placement.to_input(350, 300)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert found == pytest.approx((left, top, right, bottom), abs=1)


@pytest.mark.parametrize("steps", [WHOLE, SCALED], ids=["whole", "scaled"])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_other_kinds_are_decoded_whole_always(suffix: str, steps: Preprocessing) -> None:
    picture = steps.decode(encoded(suffix, drawn(403, 611)))
    assert picture.reduction == 1
    assert picture.pixels.shape == (403, 611, 3)


def test_without_a_word_of_it_a_jpeg_is_decoded_whole() -> None:
    data = encoded(".jpg", soft(403, 611))
    picture = Preprocessing(side_px=64).decode(data)
    assert picture.reduction == 1
    np.testing.assert_array_equal(picture.pixels, decode(data))


def turned_jpeg(orientation: int, height: int, width: int) -> bytes:
    """A JPEG with an EXIF orientation tag, as it is stored: its upper left quarter white."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = 255
    ifd = struct.pack("<HHHLHHL", 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + ifd
    data = encoded(".jpg", picture)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(403, 611), (400, 400), (409, 391)], ids=str)
def test_a_scaled_jpeg_is_turned_upright_and_keeps_its_size(orientation: int, size: tuple[int, int]) -> None:
    data = turned_jpeg(orientation, *size)
    scaled, whole = SCALED.decode(data), WHOLE.decode(data)
    assert (scaled.reduction, whole.reduction) == (4, 1)
    assert (
        (scaled.width, scaled.height) == (whole.width, whole.height) == (whole.pixels.shape[1], whole.pixels.shape[0])
    )
    apart = np.abs(SCALED.to_input(scaled).astype(int) - WHOLE.to_input(whole))
    # But along the two edges of the white quarter it is the same.
    assert np.count_nonzero(apart.max(axis=2) > 8) <= 4 * 64


def test_where_the_shape_does_not_show_a_turn_the_picture_is_decoded_whole() -> None:
    # A quarter of both 397 and 399 is 100 pixels, the last of them in part: which side is the wider?
    picture = SCALED.decode(turned_jpeg(6, 397, 399))
    assert picture.reduction == 1
    assert (picture.width, picture.height) == (397, 399)
    assert SCALED.decode(turned_jpeg(6, 399, 399)).reduction == 4


def test_a_grey_jpeg_keeps_three_equal_channels_when_it_is_scaled() -> None:
    picture = SCALED.decode(encoded(".jpg", soft(403, 611, 1)))
    assert picture.reduction == 4
    np.testing.assert_array_equal(picture.pixels[..., 0], picture.pixels[..., 1])
    np.testing.assert_array_equal(picture.pixels[..., 0], picture.pixels[..., 2])


@pytest.mark.parametrize(("side_px", "reduction"), [(200, 2), (100, 4), (50, 8)])
def test_a_scaled_jpegs_pixels_are_those_of_opencvs_own_order_turned_round(side_px: int, reduction: int) -> None:
    data = encoded(".jpg", soft(403, 611))
    flags = getattr(cv2, f"IMREAD_REDUCED_COLOR_{reduction}")
    turned = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), flags), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(Preprocessing(side_px=side_px, jpeg="scaled").decode(data).pixels, turned)


def test_red_stays_red_when_it_is_scaled() -> None:
    red_in_opencv_order = np.zeros((403, 611, 3), np.uint8)
    red_in_opencv_order[..., 2] = 255
    red, green, blue = SCALED.decode(encoded(".jpg", red_in_opencv_order)).pixels.reshape(-1, 3).T
    assert red.min() > 240
    assert max(green.max(), blue.max()) < 15


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize(("progressive", "share"), [(0, 0.3), (0, 0.6), (0, 0.9), (1, 0.3), (1, 0.6)])
def test_a_hole_is_seen_at_every_reduction(progressive: int, share: float, sampling: str) -> None:
    """Also where the decoder takes nothing but the mean of each 8x8 block."""
    settings = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[sampling]]
    data = bytearray(encoded(".jpg", soft(603, 811), *settings))
    hole = int(len(data) * share)
    data[hole : hole + 512] = bytes(512)
    for side_px, reduction in ((200, 2), (100, 4), (64, 8)):
        steps = Preprocessing(side_px=side_px, jpeg="scaled")
        assert steps.reduction(811, 603) == reduction
        with pytest.raises(PictureError, match="damaged"):
            steps.decode(bytes(data))


@pytest.mark.parametrize("marker", [b"", b"\xff\xd9"], ids=["no-end", "end-put-back"])
def test_a_scaled_jpeg_that_is_cut_short_is_refused(marker: bytes) -> None:
    data = encoded(".jpg", soft(603, 811))
    with pytest.raises(PictureError, match=r"cut short|damaged"):
        SCALED.decode(data[: len(data) // 2] + marker)


@pytest.mark.parametrize("steps", [WHOLE, SCALED], ids=["whole", "scaled"])
def test_a_huge_jpeg_is_refused_by_its_header(steps: Preprocessing, monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of it would pass OpenCV's own limit."""
    data = encoded(".jpg", soft(403, 611))
    frame = struct.pack(">BHH", 8, 403, 611)
    assert data.count(frame) == 1
    huge = data.replace(frame, struct.pack(">BHH", 8, 20_000, 60_000))

    def never(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", never)
    with pytest.raises(PictureError, match="million pixels"):
        steps.decode(huge)


def test_a_large_jpeg_is_never_whole_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    imdecode = cv2.imdecode

    def seen(data: NDArray[np.uint8], flags: int) -> NDArray[np.generic]:
        pixels = imdecode(data, flags)
        shapes.append(pixels.shape)
        return pixels

    data = encoded(".jpg", soft(1203, 1601))
    monkeypatch.setattr(cv2, "imdecode", seen)
    SCALED.to_input(SCALED.decode(data))
    assert shapes == [(151, 201, 3)]


WITH_LITTLE_MEMORY = """
import resource
import cv2, numpy as np
from edge.errors import PictureError
from edge.preprocess import decode
cv2.setNumThreads(1)
data = cv2.imencode(".jpg", np.zeros((8000, 8000, 3), np.uint8))[1].tobytes()
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), resource.RLIM_INFINITY))
try:
    decode(data)
except PictureError as error:
    print(error.message, "/", error.remedy)
"""


@pytest.mark.native
def test_too_little_memory_is_not_called_damage() -> None:
    done = subprocess.run([sys.executable, "-c", WITH_LITTLE_MEMORY], capture_output=True, text=True, check=False)
    assert done.stdout == "there is too little memory for this picture / save a smaller one\n", done.stderr
