"""Activations of a frozen base, computed once a picture and stored for every run and owner that needs them.

An array is `<key>.npy` in the activations folder of the cache, with `<key>.json` that says what it is. While it is
computed it is `<key>.part`, locked by who computes it, and the .json file says how many rows are on the disk for good:
whoever comes next, after a stop, a kill or a power cut, goes on from there.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from cvcore.cache_entries import Entry, clear, entries
from cvcore.cache_room import (
    KEY,
    NoRoom,
    about,
    activations_folder,
    fits,
    limit,
    make_room,
    mapped,
    note_use,
    remove_array,
    room,
    same_file,
    share_lock,
    used_bytes,
)
from cvcore.errors import CvcoreError
from cvcore.files import replace_json
from cvcore.locks import try_lock

__all__ = ["Entry", "clear", "entries", "fill", "fits", "key_of", "limit", "make_room", "stored", "used_bytes"]

Progress = Callable[[int, int], None]
DTYPES = ("float16", "float32")
RECORD_EVERY = 5.0  # seconds of work that a kill may cost
LOOK_EVERY = 0.2  # seconds between two looks at another process that computes the same


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
    on_progress: Progress | None = None,
    chunk: int = 32,
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

    Returns:
        A read-only memory map (rows, *row_shape), which is not removed as long as it is mapped.

    Raises:
        CvcoreError: one sentence: larger than the limit, no room on the disk, or a folder that cannot be written, or
            whose files cannot be mapped.
    """
    dtype, shape = np.dtype(dtype), (rows, *row_shape)
    if dtype.name not in DTYPES or not row_shape or min(shape) < 1 or chunk < 1:
        raise ValueError(f"activations are float16 or float32 of at least one row and one axis; got {dtype} {shape}")
    path = _path(key_of(what))
    while True:
        found = mapped(path)
        if found is not None and found.shape == shape and found.dtype == dtype:
            note_use(path)
            return found
        with _writing():
            stream = _taken(path.with_suffix(".part"))
        if stream is None:
            _wait(path, rows, on_progress)
            continue
        with stream:
            # Whoever had it may just have finished: then the one taken is a new, empty one.
            if (found := mapped(path)) is not None and found.shape == shape and found.dtype == dtype:
                path.with_suffix(".part").unlink()
                continue
            _compute(stream, path, what, shape, dtype, compute, on_progress, chunk)
            if (found := mapped(path)) is not None:
                return found
            if path.exists():
                raise CvcoreError("The activations just computed cannot be mapped into memory; point CVCORE_CACHE at "
                                  "a folder on a disk of this machine, or free some memory")  # fmt: skip


def _path(key: str) -> Path:
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise CvcoreError(f"a key of stored activations is 32 hexadecimal digits; received {str(key)[:80]!r}")
    return activations_folder() / f"{key}.npy"


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CvcoreError(f"The activations could not be written to the cache folder ({reason}); free some space or "
                          "point CVCORE_CACHE at another folder") from error  # fmt: skip


def _taken(part: Path) -> IO[bytes] | None:
    """Open the unfinished file, made when missing, locked by this process, or None while another one has it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    stream = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b", buffering=0)
    try:
        if try_lock(stream.fileno()) and same_file(stream.fileno(), part):
            return stream
    except BaseException:
        stream.close()
        raise
    stream.close()
    return None


def _wait(path: Path, rows: int, on_progress: Progress | None) -> None:
    if on_progress:
        on_progress(_recorded(about(path), rows), rows)
    time.sleep(LOOK_EVERY)


def _recorded(said: dict[str, Any], rows: int) -> int:
    done = said.get("done")
    return done if type(done) is int and 0 <= done <= rows else 0


def _compute(
    stream: IO[bytes],
    path: Path,
    what: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: np.dtype,
    compute: Callable[[int, int], np.ndarray],
    on_progress: Progress | None,
    chunk: int,
) -> None:
    rows, part, header = shape[0], path.with_suffix(".part"), _header(shape, dtype)
    row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=object))
    total = len(header) + rows * row_bytes
    said = {**what, "shape": list(shape), "dtype": dtype.name, "bytes": total}

    def record(done: int) -> None:
        """Say how many rows there are, once they are on the disk for good."""
        os.fsync(stream.fileno())
        replace_json(path.with_suffix(".json"), {**said, "done": done})

    done = 0
    try:
        with _writing():
            done = _resumed(stream, about(path), said, header, row_bytes)
            with room(total, "The activations", filling=part):
                stream.truncate(len(header) + done * row_bytes)
                stream.seek(0)
                _write(stream, header)
                stream.seek(0, os.SEEK_END)
                record(done)
    except BaseException as error:
        if not done or _no_room(error):
            with suppress(OSError):
                remove_array(part)
        raise
    kept, last = done, time.monotonic()
    try:
        if done and on_progress:
            on_progress(done, rows)
        while done < rows:
            stop = min(done + chunk, rows)
            block = _as_stored(compute(done, stop), (stop - done, *shape[1:]), dtype)
            with _writing():
                _write(stream, block.data.cast("B"))
                done = stop
                if time.monotonic() - last >= RECORD_EVERY and done < rows:
                    record(done)
                    kept, last = done, time.monotonic()
            if on_progress:
                on_progress(done, rows)
        with _writing():
            os.fsync(stream.fileno())
            replace_json(
                path.with_suffix(".json"), {**said, "created": datetime.now(UTC).isoformat(timespec="seconds")}
            )
            part.rename(path)
            share_lock(stream.fileno())  # whoever waits for it may map it now
            _sync_folder(path.parent)
    except BaseException as error:
        if _no_room(error):  # which matters more than this work
            with suppress(OSError):
                remove_array(part)
        elif done > kept:
            with suppress(OSError):
                record(done)
        raise


def _no_room(error: BaseException) -> bool:
    return isinstance(error, NoRoom) or getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _as_stored(block: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    block = np.asarray(block)
    if block.shape != shape:
        raise ValueError(f"activations of shape {shape} were to be computed; got {block.shape}")
    if dtype == np.float16 and block.dtype != dtype:
        largest = np.finfo(np.float16).max
        block = np.clip(block, -largest, largest)
    return np.ascontiguousarray(block, dtype)


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    stream = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _resumed(stream: IO[bytes], before: dict[str, Any], said: dict[str, Any], header: bytes, row_bytes: int) -> int:
    """Return how many rows of an unfinished file can be kept."""
    done = _recorded(before, said["shape"][0])
    alike = all(before.get(name) == said[name] for name in ("shape", "dtype", "bytes"))
    stream.seek(0)
    if not alike or stream.read(len(header)) != header:
        return 0
    return min(done, max(0, os.fstat(stream.fileno()).st_size - len(header)) // row_bytes)


def _write(stream: IO[bytes], data: bytes | memoryview) -> None:
    """Write it all: one write takes 2 GB at most, and less on a disk that is nearly full."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
