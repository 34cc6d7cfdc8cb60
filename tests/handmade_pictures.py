"""Small pictures and folders of pictures for the dataset tests."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def gradient(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    """A small RGB picture that differs with its seed and is smooth enough for JPEG."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = (columns * 200 / max(1, width - 1) + seed * 37) % 256
    green = (rows * 200 / max(1, height - 1) + seed * 11) % 256
    return Image.fromarray(np.stack([red, green, np.full_like(red, seed * 53 % 256)], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def digits_npz(train: int = 100, test: int = 20, **changes: object) -> bytes:
    """An `mnist.npz` of a few digits, labels 0 to 9 in turn; `changes` replace arrays, None leaves one out."""
    pixels = np.random.default_rng(0).integers(0, 256, (train + test, 28, 28), dtype=np.uint8)
    arrays: dict[str, object] = {
        "x_train": pixels[:train],
        "y_train": (np.arange(train) % 10).astype(np.uint8),
        "x_test": pixels[train:],
        "y_test": (np.arange(test) % 10).astype(np.uint8),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: value for name, value in (arrays | changes).items() if value is not None})
    return stream.getvalue()


def write_pictures(folder: Path, numbers: Iterable[int], suffix: str = ".jpg") -> None:
    """Write `NUMBER.jpg` for each number; no two pictures of different numbers are equal."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        gradient(seed=number).save(folder / f"{number}{suffix}")


def write_classes(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """Write a folder a class; `counts` maps relative folder names to numbers of pictures."""
    for name, count in counts.items():
        write_pictures(root / name, range(start, start + count))
        start += count
    return root


SPLIT_COUNTS = {
    "train/cats": 4,
    "train/dogs": 4,
    "validation/cats": 2,
    "validation/dogs": 2,
    "test/cats": 2,
    "test/dogs": 2,
}
