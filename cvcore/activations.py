"""Activations of a frozen base, computed once a picture and stored for every run and owner that needs them.

An array is `<key>.npy` in the activations folder of the cache, with `<key>.json` that says what it is; `filling` is how
several processes come by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cvcore import filling
from cvcore.cache_entries import Entry, clear, entries
from cvcore.cache_room import KEY, activations_folder, fits, limit, make_room, mapped, note_use, used_bytes
from cvcore.errors import CvcoreError

__all__ = ["Entry", "clear", "entries", "fill", "fits", "key_of", "limit", "make_room", "stored", "used_bytes"]

DTYPES = ("float16", "float32")


def key_of(what: Mapping[str, Any]) -> str:
    """Name stored activations by a hash of what they are.

    Args:
        what: JSON values; all that decides the activations, and what is only shown to people: `title`, the dataset's,
            and, where `place` says which layer of the base it is, `layer`: Keras names some layers by how many a
            process has made before. Shown, where there: title, split, base, layer, image_size, view.

    Returns:
        32 hexadecimal digits.
    """
    shown = {"title", "layer"} if "place" in what else {"title"}
    decides = {name: value for name, value in what.items() if name not in shown}
    return hashlib.sha256(json.dumps(decides, sort_keys=True, allow_nan=False).encode()).hexdigest()[:32]


def stored(key: str, rows: int) -> np.memmap | None:
    """Map stored activations and note the use, or return None where there are none of so many rows or they are damaged.

    Args:
        key: from `key_of`.
        rows: pictures.

    Returns:
        A read-only float16 or float32 memory map (rows, ...), which is not removed as long as it is mapped.

    Raises:
        CvcoreError: it is no key.
    """
    path = _path(key)
    found = mapped(path)
    if found is None or found.ndim < 2 or len(found) != rows or found.dtype not in DTYPES:
        return None
    note_use(path)
    return found


def fill(
    what: Mapping[str, Any],
    rows: int,
    row_shape: tuple[int, ...],
    dtype: str | np.dtype,
    compute: Callable[[int, int], np.ndarray],
    on_progress: filling.Progress | None = None,
    chunk: int = 32,
    on_wait: filling.Progress | None = None,
) -> np.memmap:
    """Return stored activations, computing those that are missing and storing them.

    Where another process computes the same, it is waited for, and its work taken over when it ends early.

    Args:
        what: as `key_of` takes it; stored beside the array.
        rows: pictures, at least 1.
        row_shape: of one picture's activations, at least one axis.
        dtype: float32, or float16, in which what is larger than 65,504 is stored as that.
        compute: given start and stop, returns the activations (stop - start, *row_shape) of pictures start:stop.
        on_progress: called with (pictures done, pictures in all) after each chunk, and while another process is
            waited for; may raise to stop, and what was computed stays for the next time.
        chunk: pictures computed at a time.
        on_wait: called in the place of `on_progress` while another process is waited for; default `on_progress`.

    Returns:
        A read-only memory map (rows, *row_shape), which is not removed as long as it is mapped.

    Raises:
        CvcoreError: one sentence: larger than the limit, no room on the disk, or a folder that cannot be written, or
            whose files cannot be mapped.
    """
    dtype, shape = np.dtype(dtype), (rows, *row_shape)
    if dtype.name not in DTYPES or not row_shape or min(shape) < 1 or chunk < 1:
        raise ValueError(f"activations are float16 or float32 of at least one row and one axis; got {dtype} {shape}")

    def rows_to_store(start: int, stop: int) -> np.ndarray:
        return _as_stored(compute(start, stop), (stop - start, *row_shape), dtype)

    array = filling.Array(_path(key_of(what)), shape, dtype, what, "The activations")
    return filling.fill(array, rows_to_store, on_progress, chunk, on_wait=on_wait)


def _path(key: str) -> Path:
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise CvcoreError(f"a key of stored activations is 32 hexadecimal digits; received {str(key)[:80]!r}")
    return activations_folder() / f"{key}.npy"


def _as_stored(block: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    block = np.asarray(block)
    if block.shape != shape:
        raise ValueError(f"activations of shape {shape} were to be computed; got {block.shape}")
    if dtype == np.float16 and block.dtype != dtype:
        largest = np.finfo(np.float16).max
        block = np.clip(block, -largest, largest)
    return np.ascontiguousarray(block, dtype)
