"""Activations of a frozen base: computed once a picture, stored, shared by every run that needs them.

The mathematics is that of running the base anew in each epoch: it is frozen, in inference mode, and the
pictures are not augmented. Stored in float32, computed as the recipe's precision says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cvcore import devices
from cvcore.batches import Rows
from cvcore.datasets import pixel_cache
from cvcore.datasets.cache import writing
from cvcore.estimate import CHUNK
from cvcore.files import replace_file
from cvcore.fitting import predicting
from cvcore.models import Network
from cvcore.settings import cache_folder


def feature_key(
    network: Network, weights_sha256: str, fingerprint: str, split: str, train_pictures: int | None = None
) -> str:
    """Return the name under which features are stored: a hash of everything that decides them."""
    recipe = network.recipe
    decides = {
        "fingerprint": fingerprint,
        "split": split,
        "weights": weights_sha256,
        "keras": keras.__version__,
        "backend": keras.config.backend(),
        **({} if train_pictures is None else {"train_pictures": train_pictures}),
        # What is as it was when there was no other is left out, so that features stored then are still found.
        **({} if keras.config.dtype_policy().name == "float32" else {"precision": keras.config.dtype_policy().name}),
        **({} if pixel_cache.VERSION == 1 else {"pixels": pixel_cache.VERSION}),
        **({"device": "GPU"} if devices.gpus() else {}),  # which multiplies with fewer bits (TF32)
        **recipe.model_dump(
            include={"image_size", "interpolation", "antialias", "base", "alpha", "preprocessing", "pooling"}
        ),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def stored_features(
    network: Network, images: np.ndarray | Rows, key: str, on_chunk: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Return the features of pictures, from the store or computed now and stored.

    Args:
        network: its body (preprocessing, base, pooling) computes them.
        images: uint8 (n, image_size, image_size, 3).
        key: from `feature_key`.
        on_chunk: called with (pictures done, pictures in all) after each chunk; may raise to stop.

    Returns:
        A read-only memory map, float32 (n, ...).
    """
    path = _path(key)
    stored = mapped_features(key, len(images))
    if stored is None:
        with writing("The features"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _compute(predicting(network.feature_model), images, path, on_chunk)
        stored = mapped_features(key, len(images))
        assert stored is not None
    return stored


def mapped_features(key: str, rows: int) -> np.ndarray | None:
    """Map stored features of this many pictures, or None where there are none or the file is damaged."""
    try:
        stored = np.load(_path(key), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return stored if len(stored) == rows else None


def _path(key: str) -> Path:
    return cache_folder() / "features" / f"{key}.npy"


def _compute(
    model: keras.Model, images: np.ndarray | Rows, path: Path, on_chunk: Callable[[int, int], None] | None
) -> None:
    shape = (len(images), *model.output_shape[1:])

    def write(stream: Any) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(stream, header)
        for start in range(0, len(images), CHUNK):
            chunk = np.asarray(images[start : start + CHUNK], np.float32)
            # A smaller last chunk would make TensorFlow trace the base again: fill it up with its first picture.
            full = np.concatenate([chunk, chunk[:1].repeat(CHUNK - len(chunk), axis=0)])
            outputs = np.asarray(model.predict_on_batch(full), np.float32)[: len(chunk)]
            stream.write(np.ascontiguousarray(outputs).tobytes())
            if on_chunk:
                on_chunk(min(start + CHUNK, len(images)), len(images))

    replace_file(path, write)
