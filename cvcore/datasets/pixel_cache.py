"""Decoded pictures, kept as uint8 memory maps: the second run with the same size decodes nothing."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cvcore import cache_room, filling
from cvcore.datasets.dataset import Dataset, Picture
from cvcore.datasets.health import pixels_sha256
from cvcore.datasets.pictures import (
    UnusablePicture,
    check_resize,
    decode,
    grey,
    one_large_at_a_time,
    open_header,
    read_bytes,
    resize,
)
from cvcore.datasets.threads import in_order
from cvcore.errors import DatasetError

Progress = Callable[[int, int], None]
CHANNELS = {"rgb": 3, "grayscale": 1}
VERSION = 1  # raise it when decoding or resizing changes


def pixels(
    dataset: Dataset,
    split: str,
    image_size: int,
    interpolation: str,
    antialias: bool,
    progress: Progress | None = None,
    color_mode: str = "rgb",
    on_decoded: Callable[[int], None] | None = None,
    on_wait: Progress | None = None,
) -> np.memmap:
    """Decode and resize a split once, and map it from the cache ever after, until others need the room.

    Where another process decodes the same, it is waited for, and its work taken over when it ends early.

    Args:
        dataset: as opened; every file is held against the hash it had then.
        split: "train", "validation" or "test".
        image_size: side in pixels, at least 1.
        interpolation: "nearest" or "bilinear"; see `pictures.resize`.
        antialias: see `pictures.resize`.
        progress: called with (pictures done, pictures in all) after each one, and while another process is waited for;
            not called where all are there. May raise to stop: what was decoded stays for the next time.
        color_mode: "rgb", or "grayscale": greys by ITU-R 601 weights, taken before the resize, as Keras' `load_img`.
        on_decoded: called with the number of pictures decoded by this call since the last time.
        on_wait: called in the place of `progress` while another process is waited for; default `progress`.

    Returns:
        Read-only uint8 memory map (n, image_size, image_size, 3, or 1 for greys); row i is `dataset.split(split)[i]`.
        It is not removed as long as it is mapped.

    Raises:
        DatasetError: the split is missing, a file is gone or has changed, or there is no room.
    """
    check_resize(image_size, interpolation, antialias)
    if color_mode not in CHANNELS:
        raise DatasetError(f"color_mode must be rgb or grayscale; received {color_mode!r}.")
    channels = CHANNELS[color_mode]
    pictures = dataset.split(split)
    if not pictures:
        raise DatasetError(f"{dataset.title} has no {split} split.")
    path = pixels_path(dataset, split, image_size, interpolation, antialias, color_mode)
    shape = (len(pictures), image_size, image_size, channels)
    said = {
        "title": dataset.title, "fingerprint": dataset.fingerprint, "split": split, "pictures": len(pictures),
        "image_size": image_size, "interpolation": interpolation, "antialias": antialias, "color_mode": color_mode,
    }  # fmt: skip
    array = filling.Array(path, shape, np.dtype(np.uint8), said, "The decoded pictures")

    def load(picture: Picture) -> np.ndarray:
        with one_large_at_a_time(picture.width, picture.height):
            image = checked_picture(dataset, picture)
            image = image if color_mode == "rgb" else grey(image)
            return resize(image, image_size, interpolation, antialias)[..., :channels]

    with contextlib.ExitStack() as reading:
        rows: Iterator[np.ndarray] = iter(())
        following = -1

        def compute(start: int, stop: int) -> np.ndarray:
            nonlocal rows, following
            if start != following:
                decoding = in_order(load, pictures[start:])
                rows = reading.enter_context(contextlib.closing(decoding))
            following = stop
            block = np.stack([next(rows) for _ in range(start, stop)])
            if on_decoded is not None:
                on_decoded(stop - start)
            return block

        try:
            return filling.fill(array, compute, progress, chunk=1, worthless=(DatasetError,), on_wait=on_wait)
        except (filling.NotStored, cache_room.NoRoom) as error:
            raise DatasetError(f"{error}.") from error


def pixels_path(
    dataset: Dataset, split: str, image_size: int, interpolation: str, antialias: bool, color_mode: str = "rgb"
) -> Path:
    """Where the memory map of these choices is, or would be."""
    options = ("-antialias" if antialias else "") + ("" if color_mode == "rgb" else f"-{color_mode}")
    name = f"{split}-{image_size}-{interpolation}{options}-v{VERSION}.npy"
    return cache_room.pixels_folder() / dataset.fingerprint[:24] / name


def checked_picture(dataset: Dataset, picture: Picture):
    """Read one picture of a dataset as upright 8-bit RGB, holding it against its hash.

    Raises:
        DatasetError: one sentence: the file is gone or not what it was when the dataset was opened.
    """
    try:
        data = read_bytes(dataset.root / picture.path)
        image = decode(open_header(data))
    except UnusablePicture as error:
        raise DatasetError(
            f"{picture.path} of {dataset.title} could be read when the dataset was opened and now cannot ({error}); "
            "open the dataset again."
        ) from error
    found = pixels_sha256(image) if dataset.drawn else hashlib.sha256(data).hexdigest()
    if found != picture.sha256:
        raise DatasetError(
            f"{picture.path} of {dataset.title} has changed since the dataset was opened; open it again."
        )
    return image
