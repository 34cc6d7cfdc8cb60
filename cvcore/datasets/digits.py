"""MNIST's `mnist.npz`, as a folder of small PNGs: then it is a dataset like any other.

The file may be hostile: it is an archive of arrays, so its directory, and each array's name, type and shape, are
checked before any pixels are read, and nothing in it is ever unpickled.
"""

from __future__ import annotations

import math
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cvcore.datasets.archives import Limits, check_directory_size, file_sha256
from cvcore.datasets.cache import dataset_cache, new_folder, writing
from cvcore.errors import DatasetError

Progress = Callable[[int, int], None]
SIDE = 28
MAX_DIGITS = 100_000  # an array; MNIST has 60,000 and 10,000
LIMITS = Limits(archive_bytes=200_000_000, total_bytes=200_000_000, members=100)
VALIDATION_SPLIT = 0.1
VERSION = 1  # raise it when the files written below change
_BLOCK = 4096  # what a small file takes on most disks
_ARRAYS = {"x_train": "pixels", "y_train": "labels", "x_test": "pixels", "y_test": "labels"}


@dataclass(frozen=True)
class Digits:
    """What was unpacked: the folder of pictures, and the SHA-256 of the file they come from."""

    folder: Path
    sha256: str


def unpack_digits(path: Path, progress: Progress | None = None) -> Digits:
    """Write the digits of an .npz into the cache as PNGs, once per content.

    Of the training digits the last 10 % become the validation split, those that Keras' `validation_split=0.1` holds
    out. A picture's name is its index in the file: `validation/7/54013.png`. The PNGs are not compressed, so that
    their bytes, and with them the dataset's fingerprint, are the same on every machine.

    Args:
        path: holds x_train and x_test, uint8 (n, 28, 28), and y_train and y_test, whole numbers 0 to 9, (n,).
        progress: called with (pictures written, pictures in all); not called when they are here already.

    Raises:
        DatasetError: not such a file, over a limit, or no room.
    """
    try:
        size = path.stat().st_size
        if size > LIMITS.archive_bytes:
            raise DatasetError(
                f"An .npz of digits may be at most {LIMITS.archive_bytes // 10**6} MB; {path.name} is "
                f"{size / 1e6:.0f} MB."
            )
        sha256 = file_sha256(path)
    except OSError as error:
        raise DatasetError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    target = dataset_cache() / f"digits-v{VERSION}-{sha256[:24]}"
    if not target.is_dir():
        arrays = read_digits(path)
        with writing(f"The pictures of {path.name}"), new_folder(target) as folder:
            _write(arrays, folder, path.name, progress)
    return Digits(target, sha256)


def read_digits(path: Path) -> dict[str, np.ndarray]:
    """Read the four arrays of an .npz of digits, every limit checked first.

    Returns:
        x_train and x_test: uint8 (n, 28, 28). y_train and y_test: int64 (n,), 0 to 9.

    Raises:
        DatasetError: one sentence: what the file must hold and what it holds.
    """
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise DatasetError(f"{path.name} is not an .npz file of numpy; fetch or save it again.")
            check_directory_size(stream, path.name, LIMITS)
            with zipfile.ZipFile(stream) as zipped:
                lengths = {name: _checked_length(zipped, name, path.name) for name in _ARRAYS}
                for part in ("train", "test"):
                    pixels, labels = lengths[f"x_{part}"], lengths[f"y_{part}"]
                    if pixels != labels:
                        raise DatasetError(
                            f"Each digit needs one label; {path.name} has {pixels:,} {part} digits and {labels:,} "
                            "labels."
                        )
                # member by member: of two members that np.load takes for one array it would read the other one
                found = {name: _array(zipped, name) for name in _ARRAYS}
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a crafted header can make zipfile and numpy raise nearly anything
        raise DatasetError(f"{path.name} is damaged ({type(error).__name__}); fetch or save it again.") from error
    for name in ("y_train", "y_test"):
        low, high = int(found[name].min()), int(found[name].max())
        if low < 0 or high > 9:
            raise DatasetError(f"{name} must hold whole numbers 0 to 9; that of {path.name} has {low} to {high}.")
        found[name] = found[name].astype(np.int64)
    return found


def _array(zipped: zipfile.ZipFile, name: str) -> np.ndarray:
    with zipped.open(f"{name}.npy") as stream:
        return np.ascontiguousarray(np.load(stream, allow_pickle=False))


def _checked_length(zipped: zipfile.ZipFile, name: str, file_name: str) -> int:
    """The length of one array, read from its header alone.

    Raises:
        DatasetError: there is no such array, or it is packed, typed or shaped otherwise than it must be.
    """
    try:
        info = zipped.getinfo(f"{name}.npy")
    except KeyError:
        raise DatasetError(
            f"An .npz of digits must hold the arrays {', '.join(_ARRAYS)}; {file_name} has no {name}."
        ) from None
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DatasetError(f"{file_name} is encrypted or packed otherwise than numpy does; save it with numpy.savez.")
    with zipped.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    wanted, fits = {
        "pixels": (f"uint8 of shape (n, {SIDE}, {SIDE})", dtype == np.uint8 and shape[1:] == (SIDE, SIDE)),
        "labels": ("whole numbers of shape (n,)", dtype.kind in "ui" and len(shape) == 1),
    }[_ARRAYS[name]]
    if not (fits and shape and 1 <= shape[0] <= MAX_DIGITS):
        raise DatasetError(
            f"{name} must be {wanted}, n from 1 to {MAX_DIGITS:,}; that of {file_name} is "
            f"{str(dtype)[:40]} of shape {str(shape)[:60]}."
        )
    return shape[0]


def _write(arrays: dict[str, np.ndarray], folder: Path, name: str, progress: Progress | None) -> None:
    files = list(_files(arrays))
    free = shutil.disk_usage(folder).free
    if len(files) * _BLOCK > free:
        raise DatasetError(
            f"{name} needs {len(files) * _BLOCK / 1e6:.0f} MB as pictures and the cache folder has {free / 1e6:.0f} MB "
            "free; free some space or point CVCORE_CACHE at another folder."
        )
    for parent in {path.rpartition("/")[0] for path, _ in files}:
        (folder / parent).mkdir(parents=True)
    for number, (path, pixels) in enumerate(files, start=1):
        with (folder / path).open("wb", buffering=0) as stream:
            _write_whole(stream, png(pixels))
        if progress is not None:
            progress(number, len(files))


def _write_whole(stream: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def _files(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Each digit's relative path and pixels."""
    train = math.floor(len(arrays["x_train"]) * (1.0 - VALIDATION_SPLIT))  # as Keras computes it
    for part in ("train", "test"):
        for index, (pixels, label) in enumerate(zip(arrays[f"x_{part}"], arrays[f"y_{part}"], strict=True)):
            split = "validation" if part == "train" and index >= train else part
            yield f"{split}/{label}/{index:05}.png", pixels


def png(pixels: np.ndarray) -> bytes:
    """Encode greys as a PNG without compression: no library's version shows in its bytes.

    Args:
        pixels: uint8 (height, width), at most 65,535 bytes with one more a row.
    """
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with filter type 0
    rows[:, 1:] = pixels
    raw = rows.tobytes()
    stored = b"\x78\x01\x01" + struct.pack("<HH", len(raw), len(raw) ^ 0xFFFF) + raw
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", stored + struct.pack(">I", zlib.adler32(raw))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
