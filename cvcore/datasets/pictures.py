"""One picture: read from a file as 8-bit RGB, and resized the way each source resized.

What is done to a picture that is not plain 8-bit RGB:
- EXIF orientation is applied; width and height are those after it.
- Transparency (alpha, or a transparent palette entry or colour) is laid on white.
- 16-bit greys are scaled by 1/257 (65535 -> 255); Pillow's own conversion would clip them to white.
- CMYK is converted without a colour profile.
- Of an animation or a multi-page file the first frame is used.
Float and 32-bit pixels have no known range and are refused.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from cvcore.errors import DatasetError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS = 50_000_000
MAX_PICTURE_BYTES = 50_000_000

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
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise UnusablePicture(f"too many pixels ({size}, limit {MAX_PIXELS // 10**6} million)")
    return image


def decode(image: Image.Image) -> Image.Image:
    """Decode an opened picture to upright 8-bit RGB; the module's docstring says how.

    Raises:
        UnusablePicture: damaged, truncated, or pixels of an unknown range.
    """
    try:
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
    """Make a small JPEG of a picture file, its aspect ratio kept.

    Args:
        path: the picture file.
        width, height: the box it fits in, in pixels; it is never enlarged. Default 200 x 200.

    Raises:
        UnusablePicture: the file is not there or cannot be used.
    """
    image = open_header(read_bytes(path))
    image.draft(None, (width, height))  # a JPEG is decoded at a reduced size where that is enough
    small = decode(image)
    small.thumbnail((width, height))
    stream = io.BytesIO()
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
    """The EXIF orientation, 1 to 8; 1 when there is none or it is damaged."""
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


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnusablePicture("32-bit pixels without a known range")
    if has_alpha(image):
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


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
    # Four bytes a pixel, the last one unused, so that numpy gathers whole 32-bit pixels: three times as fast.
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint32).reshape(image.height, image.width)
    top, bottom, down = _taps(image.height, size)
    left, right, across = _taps(image.width, size)

    def along_rows(rows: np.ndarray) -> np.ndarray:
        result = rows.take(left, axis=1).view(np.uint8).astype(np.float32)
        other = rows.take(right, axis=1).view(np.uint8).astype(np.float32)
        return _lerp(result, other, np.repeat(across, 4))

    result = _lerp(along_rows(pixels.take(top, axis=0)), along_rows(pixels.take(bottom, axis=0)), down[:, None])
    rounded = np.rint(result, out=result).astype(np.uint8)
    return np.ascontiguousarray(rounded.reshape(size, size, 4)[..., :3])


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
