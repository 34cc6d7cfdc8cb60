"""Activations of a network's frozen part: each picture goes through it once, for every run that needs them.

Without augmentation the mathematics is that of running the frozen part in each step: it is in inference mode. They are
stored in float32, computed as the recipe's precision says. Augmented views of a picture are stored in float16, and are
the same few again where augmentation in the model draws anew in each epoch: that is another training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from cvcore import activations, devices
from cvcore.augmentation import AugmentationPolicy
from cvcore.batches import Rows
from cvcore.batches import read as rows_of
from cvcore.datasets import pixel_cache
from cvcore.estimate import CHUNK
from cvcore.fitting import predicting
from cvcore.models import Cut
from cvcore.recipe import Recipe

DECIDING = ("image_size", "interpolation", "antialias", "base", "alpha", "preprocessing")


def what_is_stored(
    recipe: Recipe, cut: Cut, fingerprint: str, split: str, *,
    train_pictures: int | None = None, view: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Say everything that decides stored activations; their key is made of it.

    Args:
        recipe: whose network it is; its augmentation counts where there is a view.
        cut: of that network.
        fingerprint: of the dataset.
        split: `train`, `validation` or `test`.
        train_pictures: how many of the training split, where it is not all of them.
        view: number of the augmented view from 0; None for pictures as they are.
    """
    policy = recipe.augmentation.model_dump() if view is not None and recipe.augmentation else None
    return {
        "fingerprint": fingerprint,
        "split": split,
        "train_pictures": train_pictures,
        **recipe.model_dump(include=set(DECIDING)),
        "weights": cut.weights_sha256,
        "layer": cut.layer,  # for people: the key is made of its place
        "place": cut.place,
        "dtype": "float32" if view is None else "float16",
        "view": view,
        "augmentation": policy,
        "augmentation_sha256": policy and hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest(),
        "pixels": pixel_cache.VERSION,
        "keras": keras.__version__,
        "backend": keras.config.backend(),
        "precision": keras.config.dtype_policy().name,
        "device": "GPU" if devices.gpus() else "CPU",  # a GPU multiplies with fewer bits (TF32)
    }


def extracted(
    what: dict[str, Any], cut: Cut, images: np.ndarray | Rows, on_chunk: Callable[[int, int], None] | None = None,
    on_computed: Callable[[int], None] | None = None, *, policy: AugmentationPolicy | None = None,
    uniforms: np.ndarray | None = None, title: str = "", on_wait: Callable[[int, int], None] | None = None,
) -> np.ndarray:  # fmt: skip
    """Return activations from the store, or compute what is missing of them and store it.

    Args:
        what: from `what_is_stored`.
        cut: `cut.below` computes them.
        images: uint8 (n, image_size, image_size, 3).
        on_chunk: called with (pictures done, pictures in all) after each chunk; may raise to stop.
        on_computed: called with the number of pictures of each chunk that was computed here.
        policy: for a view, how pictures are changed; None leaves them as they are.
        uniforms: float32 (n, UNIFORMS) in [0, 1): what decides the changes of each picture.
        title: of the dataset, for people.
        on_wait: called in the place of `on_chunk` while another process is waited for; default `on_chunk`.

    Returns:
        A read-only memory map (n, ...), float32, of a view float16.
    """
    model = predicting(cut.below if policy is None else cut.below_views(policy))

    def read(start: int) -> np.ndarray:
        return _whole_chunk(rows_of(images, slice(start, start + CHUNK)))

    with ThreadPoolExecutor(1, "pictures") as reader:  # the next pictures, while these are computed
        following: dict[int, Any] = {}

        def compute(start: int, stop: int) -> np.ndarray:
            ready = following.pop(start, None)
            pictures = ready.result() if ready else read(start)
            following.clear()
            if stop < len(images):
                following[stop] = reader.submit(read, stop)
            given = pictures if uniforms is None else [pictures, _whole_chunk(uniforms[start:stop])]
            outputs = np.asarray(model.predict_on_batch(given), np.float32)[: stop - start]
            if on_computed:
                on_computed(stop - start)
            return outputs

        named, shape = {**what, "title": title}, cut.below.output_shape[1:]
        return activations.fill(
            named, len(images), shape, what["dtype"], compute, on_chunk, chunk=CHUNK, on_wait=on_wait
        )


def _whole_chunk(rows: np.ndarray) -> np.ndarray:
    """Fill a smaller last chunk up with its first row: another size would make TensorFlow trace the base again."""
    missing = CHUNK - len(rows)
    return np.concatenate([rows, rows[:1].repeat(missing, axis=0)]) if missing else rows
