"""One picture: read from a file as 8-bit RGB, and resized the way each source resized.

What is done to a picture that is not plain 8-bit RGB:
- EXIF orientation is applied; width and height are those after it.
- Transparency (alpha, or a transparent palette entry or colour) is laid on white.
- 16-bit greys are scaled by 1/257 (65535 -> 255); Pillow's own conversion would clip them to white.
- CMYK is converted without a colour profile.
- Of an animation or a multi-page file the first frame is used.
Float and 32-bit pixels have no known range and are refused.

A decoded picture takes four bytes a pixel, whatever its file takes: conversions go band by band, and pictures of more
than `LARGE_PIXELS` are decoded one at a time in a process, however many threads and browsers ask.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cvcore.errors import DatasetError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS = 25_000_000  # cameras of 24 megapixels have a little more than 24 million
MAX_WEBP_PIXELS = 12_500_000  # its decoder holds a picture four times
MAX_SIDE = 30_000  # a row of millions of pixels would need tables as long in each resize
MAX_PICTURE_BYTES = 50_000_000
LARGE_PIXELS = 8_000_000
BAND_PIXELS = 1_000_000

_one_large = threading.RLock()

# Pillow's blocks of 16 MB come from the heap of the thread at hand, which keeps them once they are freed;
# one block for a whole large picture goes straight back to the system.
Image.core.set_block_size(1 << 27)

# Pillow warns of damaged metadata, once a file, and of more than 89 million pixels, which are refused here below that.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusablePicture(DatasetError):
    """A file that cannot be used as a picture; its text is the reason, a few words."""


def open_header(data: bytes) -> Image.Image:
    """Open a picture without decoding it, refusing what is empty, unknown or too large.

    Args:
        data: the file's bytes.

    Raises:
        UnusablePicture: with the reason.
    """
    if not data:
        raise UnusablePicture("empty file")
    if len(data) > MAX_PICTURE_BYTES:
        raise UnusablePicture(f"file too large ({len(data) / 1e6:.0f} MB, limit {MAX_PICTURE_BYTES // 10**6} MB)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise UnusablePicture(f"too many pixels (limit {MAX_PIXELS // 10**6} million)") from None
    except Exception as error:
        raise UnusablePicture("not a picture in a known format") from error
    limit = MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
    if image.width * image.height > limit:
        raise UnusablePicture(f"too many pixels ({image.width} x {image.height}, limit {limit / 1e6:g} million)")
    if max(image.size) > MAX_SIDE:
        raise UnusablePicture(f"too long a side ({image.width} x {image.height}, limit {MAX_SIDE:,})")
    return image


@contextlib.contextmanager
def one_large_at_a_time(width: int, height: int) -> Iterator[None]:
    """Wait until no other thread of this process has a large picture in hand, if this one is large.

    Args:
        width, height: of the picture to decode; more than `LARGE_PIXELS` pixels are large.
    """
    with _one_large if width * height > LARGE_PIXELS else contextlib.nullcontext():
        yield


def decode(image: Image.Image) -> Image.Image:
    """Decode an opened picture to upright 8-bit RGB; the module's docstring says how.

    Args:
        image: as `open_header` gives it; not to be used afterwards.

    Raises:
        UnusablePicture: damaged, truncated, or pixels of an unknown range.
    """
    try:
        with one_large_at_a_time(*image.size):
            turn = _UPRIGHT.get(orientation(image))
            image.load()
            image = _rgb(image)
            return image.transpose(turn) if turn is not None else image
    except UnusablePicture:
        raise
    except Exception as error:
        raise UnusablePicture(broken_reason(error)) from error


def load_picture(path: str | Path) -> Image.Image:
    """Read a picture file as upright 8-bit RGB.

    Raises:
        UnusablePicture: the file is not there or cannot be used.
    """
    return decode(open_header(read_bytes(path)))


def thumbnail(path: str | Path, width: int = 200, height: int = 200) -> bytes:
    """Make a small JPEG of a picture file, its aspect ratio kept; of a tiny one a PNG whose pixels can be seen.

    Args:
        path: the picture file.
        width, height: the box it fits in, in pixels. Default 200 x 200. Where the picture fits twice, each of its
            pixels becomes a square, as large as the box allows; no other enlargement is made.

    Raises:
        UnusablePicture: the file is not there or cannot be used.
    """
    image = open_header(read_bytes(path))
    with one_large_at_a_time(*image.size):
        image.draft(None, (width, height))  # a JPEG is decoded at a reduced size where that is enough
        small = decode(image)
        small.thumbnail((width, height))
    stream = io.BytesIO()
    factor = min(width // small.width, height // small.height)
    if factor >= 2:
        small.resize((small.width * factor, small.height * factor), Image.Resampling.NEAREST).save(stream, "PNG")
    else:
        small.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def read_bytes(path: str | Path) -> bytes:
    """Read a picture file's bytes, at most `MAX_PICTURE_BYTES` + 1 of them.

    Raises:
        UnusablePicture: the file is not there or may not be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return stream.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise UnusablePicture(f"cannot be read ({error.strerror or error})") from error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 when there is none or it is damaged. Pillow decodes a PNG to find it."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001  (a damaged EXIF block says nothing about the pixels)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def broken_reason(error: Exception) -> str:
    """A few words for an error that Pillow raised while decoding."""
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    text = str(error).lower()
    if "truncated" in text or isinstance(error, EOFError):
        return "truncated file"
    return "damaged file"


def has_alpha(image: Image.Image) -> bool:
    """Whether any transparency is declared, be it a channel, a palette entry or one colour."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def grey(image: Image.Image) -> Image.Image:
    """Make the three bands of an RGB picture its greys, as Pillow's mode "L" and so Keras' `load_img` weigh them."""
    return _by_bands(image, lambda band: band.convert("L").convert("RGB"))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _by_bands(image, _scaled)
    if image.mode in ("I", "F"):
        raise UnusablePicture("32-bit pixels without a known range")
    if has_alpha(image):
        return _by_bands(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a picture to RGB a band of rows at a time, so that no conversion holds it whole a second time."""
    result = Image.new("RGB", image.size)
    step = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, step):
        box = (0, top, image.width, min(image.height, top + step))
        result.paste(convert(image.crop(box)), box)
    return result


def _scaled(image: Image.Image) -> Image.Image:
    wide = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def resize(image: Image.Image, size: int, interpolation: str, antialias: bool) -> np.ndarray:
    """Resize a picture to a square without keeping its aspect ratio, as the sources did.

    - ("bilinear", False): half-pixel centres and two taps an axis, as Keras' `image_dataset_from_directory`
      (`tf.image.resize(antialias=False)`); TensorFlow keeps floats, here they are rounded to the nearest integer.
    - ("nearest", False): Pillow's nearest, as Keras' `load_img` and so `ImageDataGenerator`.
    - ("bilinear", True): Pillow's bilinear, whose filter widens with the reduction.

    Args:
        image: RGB, any size.
        size: the side of the result in pixels, at least 1.
        interpolation: "nearest" or "bilinear".
        antialias: whether to low-pass before sampling; only bilinear can.

    Returns:
        uint8 array (size, size, 3).
    """
    check_resize(size, interpolation, antialias)
    if interpolation == "nearest":
        return np.asarray(image.resize((size, size), Image.Resampling.NEAREST))
    if antialias:
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    # Pillow's transform(AFFINE, BILINEAR) has the same taps but cuts off decimals, half a level too dark on average.
    top, bottom, down = _taps(image.height, size)
    left, right, across = _taps(image.width, size)
    used = np.unique(np.concatenate([top, bottom]))
    first, second = (taken.view(np.uint8).astype(np.float32) for taken in _taken(image, used, left, right))
    rows = _lerp(first, second, np.repeat(across, 4))
    result = _lerp(rows[np.searchsorted(used, top)], rows[np.searchsorted(used, bottom)], down[:, None])
    rounded = np.rint(result, out=result).astype(np.uint8)
    return np.ascontiguousarray(rounded.reshape(size, size, 4)[..., :3])


def _taken(image: Image.Image, rows: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """The pixels of some rows at each of several lists of columns, reading the picture a band at a time.

    Args:
        image: RGB.
        rows: ascending, each once.
        columns: lists of columns, in any order.

    Returns:
        For each list a uint32 array (rows, columns): four bytes a pixel, the last one unused, so that numpy gathers
        whole pixels, three times as fast as three bytes each.
    """
    taken = [np.empty((len(rows), len(of_one)), np.uint32) for of_one in columns]
    step = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, step):
        bottom = min(image.height, top + step)
        start, stop = np.searchsorted(rows, (top, bottom))
        if start == stop:
            continue
        band = image if bottom - top == image.height else image.crop((0, top, image.width, bottom))
        pixels = np.frombuffer(band.tobytes("raw", "RGBX"), np.uint32).reshape(bottom - top, image.width)
        pixels = pixels[rows[start:stop] - top]
        for found, of_one in zip(taken, columns, strict=True):
            found[start:stop] = pixels.take(of_one, axis=1)
    return taken


def _lerp(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """first + (second - first) * weight, in place of `second`."""
    second -= first
    second *= weight
    second += first
    return second


def check_resize(size: int, interpolation: str, antialias: bool) -> None:
    """Refuse a resize that nothing here can do.

    Raises:
        DatasetError: with the rule that is broken.
    """
    if size < 1:
        raise DatasetError(f"image_size must be at least 1; received {size}.")
    if interpolation not in ("nearest", "bilinear"):
        raise DatasetError(f"interpolation must be nearest or bilinear; received {interpolation!r}.")
    if interpolation == "nearest" and antialias:
        raise DatasetError("antialias needs bilinear interpolation; nearest takes one pixel and cannot average.")


def _taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source indices and the weight of the second for each of `size` outputs along one axis."""
    centre = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(length / size) - np.float32(0.5)
    low = np.floor(centre)
    index = low.astype(np.intp)
    return np.clip(index, 0, length - 1), np.clip(index + 1, 0, length - 1), centre - low
