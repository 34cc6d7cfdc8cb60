"""One picture: every unusual kind is used rightly or refused with its reason; resizes equal the sources'."""

import io
import struct
import threading
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from handmade_pictures import encoded, gradient
from PIL import Image

from cvcore.datasets import pictures
from cvcore.datasets.health import check_bytes
from cvcore.datasets.pictures import (
    MAX_PICTURE_BYTES,
    UnusablePicture,
    decode,
    load_picture,
    open_header,
    resize,
    thumbnail,
)
from cvcore.errors import DatasetError


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode(open_header(data)))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header declares a size that its data does not have."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"these are words, not pixels", "not a picture in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture in a known format"),
        (png_claiming(30_000, 30_000), "too many pixels"),
        (png_claiming(8_000, 7_000), "too many pixels (8000 x 7000, limit 25 million)"),
        (png_claiming(6_048, 4_032), "truncated file"),  # a camera of 24 megapixels: not too many
        (png_claiming(40_000, 100), "too long a side (40000 x 100, limit 30,000)"),
        (encoded(Image.new("L", (4_000, 4_000)), "WEBP"), "too many pixels (4000 x 4000, limit 12.5 million)"),
        (png_claiming(20, 20), "truncated file"),
        (b"x" * (MAX_PICTURE_BYTES + 1), "file too large"),
    ],
)
def test_unusable_bytes_have_a_reason(data, reason):
    assert check_bytes(data).problem.startswith(reason)
    with pytest.raises(UnusablePicture, match=reason.split(" (")[0]):
        decoded(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_cut_short_is_found_in_every_format(format):
    data = encoded(gradient(160, 120), format)
    assert check_bytes(data).problem == ""
    assert check_bytes(data[: len(data) // 2]).problem != ""


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8, 0.95, 0.99])
def test_reduced_jpeg_decode_finds_what_a_whole_decode_finds(kept, progressive):
    noise = np.random.default_rng(3).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), quality=90, progressive=progressive)
    cut = data[: int(len(data) * kept)]
    assert check_bytes(cut).problem == "truncated file"
    with pytest.raises(UnusablePicture, match="truncated"):
        decoded(cut)


def test_health_of_a_sound_picture():
    health = check_bytes(encoded(gradient(30, 20)))
    assert (health.width, health.height, health.problem, health.remarks) == (30, 20, "", "")
    assert len(health.sha256) == 64


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    """The upright picture has red left above green; each stored variant must come back to it."""
    upright = np.zeros((20, 32, 3), np.uint8)
    upright[:10, :16] = (255, 0, 0)
    upright[10:, 16:] = (0, 255, 0)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert np.array_equal(decoded(data), upright)
    health = check_bytes(data)
    assert (health.width, health.height) == (32, 20)
    assert health.remarks == ("" if orientation == 1 else "rotated")


def test_rotated_jpeg_has_its_upright_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    health = check_bytes(encoded(gradient(40, 10), exif=exif))
    assert (health.width, health.height) == (10, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_matter():
    data = encoded(gradient(), exif=b"Exif\x00\x00II*\x00garbage that is no directory")
    assert check_bytes(data).problem == ""
    assert decoded(data).shape == (16, 24, 3)


def test_16_bit_grey_is_scaled_not_clipped():
    levels = np.array([[0, 257, 128 * 257, 65535, 40000, 128, 129]], np.uint16)
    data = encoded(Image.fromarray(levels), "PNG")
    assert decoded(data)[0, :, 0].tolist() == [0, 1, 128, 255, 156, 0, 1]
    assert check_bytes(data).remarks == "deep"


def test_big_endian_16_bit_tiff_is_scaled():
    data = encoded(Image.frombytes("I;16B", (2, 1), b"\xff\xff\x80\x80"), "TIFF")
    assert decoded(data)[0, :, 1].tolist() == [255, 128]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bit_pixels_are_refused(mode):
    assert check_bytes(encoded(Image.new(mode, (4, 4), 1), "TIFF")).problem == "32-bit pixels without a known range"


def test_cmyk_jpeg_keeps_its_colours():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(red, quality=95)
    assert np.abs(decoded(data).astype(int) - [255, 0, 0]).max() < 12
    assert check_bytes(data).remarks == "cmyk"


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 51))
    data = encoded(image, "PNG")
    assert decoded(data)[0].tolist() == [[255, 255, 255], [255, 0, 0], [204, 204, 204]]
    assert check_bytes(data).remarks == "alpha"


def test_grey_with_alpha_is_laid_on_white():
    assert decoded(encoded(Image.new("LA", (1, 1), (0, 0)), "PNG")).tolist() == [[[255, 255, 255]]]


def test_palette_with_a_transparent_entry():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    data = encoded(image, "PNG", transparency=1)
    assert decoded(data)[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert check_bytes(data).remarks == "alpha palette"
    opaque = encoded(image, "PNG")
    assert decoded(opaque)[0].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_one_bit_picture():
    assert decoded(encoded(Image.new("1", (2, 2), 1), "PNG")).tolist() == [[[255] * 3] * 2] * 2


@pytest.mark.parametrize(("format", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_first_frame_of_an_animation_is_used(format, options):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert decoded(data)[0, 0].tolist() == [255, 0, 0]
    assert "animated" in check_bytes(data).remarks.split()


def test_pixel_hash_ignores_how_the_file_was_compressed():
    fast, small = (encoded(gradient(), "PNG", compress_level=level) for level in (1, 9))
    assert fast != small
    assert check_bytes(fast).sha256 != check_bytes(small).sha256
    assert check_bytes(fast, of_pixels=True).sha256 == check_bytes(small, of_pixels=True).sha256
    other = encoded(gradient(seed=1), "PNG")
    assert check_bytes(other, of_pixels=True).sha256 != check_bytes(fast, of_pixels=True).sha256


def test_pixel_hash_of_a_jpeg_is_of_the_whole_picture_not_of_the_reduced_decode():
    one = check_bytes(encoded(gradient(seed=1)), of_pixels=True).sha256
    assert len(one) == 64
    assert one != check_bytes(encoded(gradient(seed=2)), of_pixels=True).sha256


def test_missing_file_is_a_reason(tmp_path):
    with pytest.raises(UnusablePicture, match="cannot be read"):
        load_picture(tmp_path / "nothing.jpg")


@pytest.mark.parametrize(("size", "expected"), [((900, 300), (100, 33)), ((60, 20), (60, 20)), ((80, 800), (6, 60))])
def test_thumbnail_keeps_the_aspect_ratio_and_does_not_blur_by_enlarging(tmp_path, size, expected):
    gradient(*size).save(tmp_path / "one.jpg")
    small = Image.open(io.BytesIO(thumbnail(tmp_path / "one.jpg", 100, 60)))
    assert (small.format, small.size) == ("JPEG", expected)


def test_thumbnail_of_a_tiny_picture_shows_its_pixels(tmp_path):
    tiny = gradient(28, 28)
    tiny.save(tmp_path / "one.png")
    shown = Image.open(io.BytesIO(thumbnail(tmp_path / "one.png", 160, 130)))
    assert (shown.format, shown.size) == ("PNG", (112, 112))
    assert np.array_equal(np.asarray(shown), np.asarray(tiny).repeat(4, axis=0).repeat(4, axis=1))


# memory


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16"])
def test_bands_leave_no_seams(mode, monkeypatch):
    noise = np.random.default_rng(1).integers(0, 256, (23, 10, 4), dtype=np.uint8)
    options = {"transparency": 7} if mode == "P" else {}
    image = Image.fromarray(noise, "RGBA").convert("RGB").quantize(16) if mode == "P" else None
    if image is None:
        deep = mode == "I;16"
        image = Image.fromarray(noise.view(np.uint16)[..., 0]) if deep else Image.fromarray(noise).convert(mode)
    data = encoded(image, "PNG", **options)
    whole = decoded(data)
    assert whole.std() > 10
    monkeypatch.setattr(pictures, "BAND_PIXELS", 40)  # four rows, three in the last band
    assert np.array_equal(decoded(data), whole)


@pytest.mark.parametrize("size", [3, 16, 60])
def test_resize_by_bands_is_the_same_resize(size, monkeypatch):
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (50, 41, 3), dtype=np.uint8))
    whole = resize(image, size, "bilinear", False)
    monkeypatch.setattr(pictures, "BAND_PIXELS", 300)
    assert np.array_equal(resize(image, size, "bilinear", False), whole)


@pytest.mark.parametrize(("width", "height"), [(4_000, 3_000), (30_000, 2)])
def test_resize_makes_no_copy_of_a_large_picture(width, height):
    """12 megapixels were copied to 48 MB; a very wide picture was multiplied by the rows of the result."""
    image = Image.new("RGB", (width, height))
    tracemalloc.start()
    resize(image, 224, "bilinear", False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000


@pytest.mark.parametrize(("limit", "together"), [(100, 1), (10**9, 2)])
def test_large_pictures_are_decoded_one_at_a_time(limit, together, monkeypatch):
    inside, most, convert = [], [], pictures._rgb
    meet = threading.Barrier(together)

    def slow(image):
        inside.append(image)
        meet.wait(300)  # for the other one, where both may be inside
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return convert(image)

    monkeypatch.setattr(pictures, "LARGE_PIXELS", limit)
    monkeypatch.setattr(pictures, "_rgb", slow)
    data = encoded(gradient(), "PNG")
    threads = [threading.Thread(target=check_bytes, args=(data,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == together


# resizing


def test_bilinear_by_hand():
    """Four pixels to two: centres fall halfway between pairs, so outer pixels of a longer row would not count."""
    row = Image.fromarray(np.array([[[0] * 3, [100] * 3, [200] * 3, [250] * 3]] * 4, np.uint8))
    assert resize(row, 2, "bilinear", False)[0, :, 0].tolist() == [50, 225]
    wide = Image.fromarray(
        np.repeat(np.array([[[0, 0, 0], [60, 60, 60], [90, 90, 90], [250, 0, 0]]], np.uint8), 2, axis=1)
    )
    assert resize(wide, 2, "bilinear", False)[0, :, 0].tolist() == [30, 170]
    assert resize(wide, 2, "bilinear", True)[0, 0, 0] not in (30, 0)


def test_nearest_takes_pixels_that_are_there():
    image = gradient(37, 23)
    result = resize(image, 10, "nearest", False)
    colours = {tuple(colour) for colour in np.asarray(image).reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in result.reshape(-1, 3).tolist()} <= colours


@pytest.mark.parametrize(("width", "height"), [(500, 374), (50, 41), (180, 180), (1, 1), (3, 1000)])
@pytest.mark.parametrize(("interpolation", "antialias"), [("nearest", False), ("bilinear", False), ("bilinear", True)])
def test_shape_and_type(width, height, interpolation, antialias):
    result = resize(gradient(width, height), 64, interpolation, antialias)
    assert result.shape == (64, 64, 3)
    assert result.dtype == np.uint8
    assert result.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("size", "interpolation", "antialias", "message"),
    [
        (0, "bilinear", False, "image_size must be at least 1; received 0"),
        (-5, "bilinear", False, "received -5"),
        (8, "bicubic", False, "nearest or bilinear; received 'bicubic'"),
        (8, "nearest", True, "antialias needs bilinear"),
    ],
)
def test_impossible_resizes_are_refused(size, interpolation, antialias, message):
    with pytest.raises(DatasetError, match=message):
        resize(gradient(), size, interpolation, antialias)


@pytest.fixture(scope="module")
def photograph():
    """Noise smoothed a little, so that antialiasing and half-pixel errors both show."""
    noise = np.random.default_rng(0).normal(128, 60, (374, 500, 3))
    smooth = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 4
    return Image.fromarray(smooth.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", [96, 180, 600])
def test_bilinear_equals_tensorflow(photograph, size):
    tensorflow = pytest.importorskip("tensorflow")
    expected = tensorflow.image.resize(np.asarray(photograph), (size, size), antialias=False).numpy()
    difference = resize(photograph, size, "bilinear", False) - expected
    assert np.abs(difference).max() <= 0.51  # rounding to integers
    assert abs(difference.mean()) < 0.02  # and no bias
    if size == 96:  # the test can fail: the antialiasing resize is far off
        assert np.abs(resize(photograph, size, "bilinear", True) - expected).mean() > 5


@pytest.mark.parametrize("size", [96, 150, 600])
def test_nearest_equals_keras_load_img(photograph, size, tmp_path):
    keras_utils = pytest.importorskip("keras").utils
    photograph.save(tmp_path / "photograph.png")
    loaded = keras_utils.load_img(tmp_path / "photograph.png", target_size=(size, size), interpolation="nearest")
    assert np.array_equal(resize(load_picture(tmp_path / "photograph.png"), size, "nearest", False), np.asarray(loaded))


def test_antialiased_equals_pillow(photograph):
    expected = np.asarray(photograph.resize((96, 96), Image.Resampling.BILINEAR))
    assert np.array_equal(resize(photograph, 96, "bilinear", True), expected)
