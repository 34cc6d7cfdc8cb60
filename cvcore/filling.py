"""One array of many rows, computed once and stored for every process that needs it: activations, decoded pictures.

While it is computed it is `<name>.part`, locked by who computes it, and `<name>.json` says how many rows are on the
disk for good: whoever comes next, after a stop, a kill or a power cut, goes on from there. Then it is `<name>.npy`.
"""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from cvcore.cache_room import NoRoom, about, mapped, note_use, remove_array, room, same_file, share_lock
from cvcore.errors import CvcoreError
from cvcore.files import replace_json
from cvcore.locks import try_lock

Progress = Callable[[int, int], None]
RECORD_EVERY = 5.0  # seconds of work that a kill may cost
LOOK_EVERY = 0.2  # seconds between two looks at another process that computes the same


class NotStored(CvcoreError):
    """The array could not be written, or not be mapped once it was."""


@dataclass(frozen=True)
class Array:
    """What is to be stored.

    Attributes:
        path: ends in .npy; its folder is made where it is missing.
        shape: rows first, at least one; and at least one axis more.
        dtype: of its numbers.
        said: JSON values that say what it is, for the .json file; shape, dtype and bytes are added.
        subject: of an error's sentence, a plural such as "The decoded pictures".
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    said: Mapping[str, Any]
    subject: str

    def stored(self) -> np.memmap | None:
        """Map it and note the use, or return None where it is not there, or another one, or damaged."""
        found = mapped(self.path)
        if found is None or found.shape != self.shape or found.dtype != self.dtype:
            return None
        note_use(self.path)
        return found


def fill(
    array: Array,
    compute: Callable[[int, int], np.ndarray],
    on_progress: Progress | None = None,
    chunk: int = 32,
    worthless: tuple[type[Exception], ...] = (),
    on_wait: Progress | None = None,
) -> np.memmap:
    """Return a stored array, computing the rows that are missing and storing them.

    Where another process computes the same, it is waited for, and its work taken over when it ends early.

    Args:
        array: what it is.
        compute: given start and stop, returns rows start:stop; called for one chunk after the other.
        on_progress: called with (rows done, rows in all) after each chunk, and while another process is waited for; may
            raise to stop, and what was computed stays for the next time.
        chunk: rows computed at a time.
        worthless: errors after which what was computed does not stay; want of room is always among them.
        on_wait: called in the place of `on_progress` while another process is waited for; default `on_progress`.

    Returns:
        A read-only memory map, which is not removed as long as it is mapped.

    Raises:
        NoRoom: larger than the limit, or than the disk can have free.
        NotStored: a folder that cannot be written, or whose files cannot be mapped.
        CvcoreError: another process keeps others from making room.
    """
    path, part = array.path, array.path.with_suffix(".part")
    while True:
        if (found := array.stored()) is not None:
            return found
        with _writing(array):
            stream = _taken(part)
        if stream is None:
            _wait(array, on_wait or on_progress)
            continue
        with stream:
            # Whoever had it may just have finished: then the one taken is a new, empty one.
            if (found := array.stored()) is not None:
                part.unlink()
                return found
            _Filling(array, stream, worthless).compute(compute, on_progress, chunk)
            if (found := array.stored()) is not None:
                return found
            if path.exists():
                raise NotStored(f"{array.subject} just stored cannot be mapped into memory; point CVCORE_CACHE at a "
                                "folder on a disk of this machine, or free some memory")  # fmt: skip


@contextmanager
def _writing(array: Array) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NotStored(f"{array.subject} could not be written to the cache folder ({reason}); free some space or "
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


def _wait(array: Array, on_progress: Progress | None) -> None:
    if on_progress:
        on_progress(_recorded(about(array.path), array.shape[0]), array.shape[0])
    time.sleep(LOOK_EVERY)


def _recorded(said: dict[str, Any], rows: int) -> int:
    done = said.get("done")
    return done if type(done) is int and 0 <= done <= rows else 0


class _Filling:
    """An array that this process fills, whose unfinished file it has locked."""

    def __init__(self, array: Array, stream: IO[bytes], worthless: tuple[type[Exception], ...]) -> None:
        self.array, self.stream, self.worthless = array, stream, worthless
        self.part, self.about = array.path.with_suffix(".part"), array.path.with_suffix(".json")
        self.header = _header(array)
        self.row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=object))
        total = len(self.header) + array.shape[0] * self.row_bytes
        self.said = {**array.said, "shape": list(array.shape), "dtype": array.dtype.name, "bytes": total}

    def compute(self, compute: Callable[[int, int], np.ndarray], on_progress: Progress | None, chunk: int) -> None:
        """Compute the rows that are missing, and give the file its name."""
        rows, done = self.array.shape[0], self._begin()
        kept, last = done, time.monotonic()
        try:
            if done and on_progress:
                on_progress(done, rows)
            while done < rows:
                stop = min(done + chunk, rows)
                block = compute(done, stop)
                with _writing(self.array):
                    _write(self.stream, block.data.cast("B"))
                    done = stop
                    if time.monotonic() - last >= RECORD_EVERY and done < rows:
                        self._record(done)
                        kept, last = done, time.monotonic()
                if on_progress:
                    on_progress(done, rows)
            with _writing(self.array):
                self._finish()
        except BaseException as error:
            if self._keeps_nothing(error):
                with suppress(OSError):
                    remove_array(self.part)
            elif done > kept:
                with suppress(OSError):
                    self._record(done)
            raise

    def _begin(self) -> int:
        """Return how many rows are there, with room promised for the others."""
        done = 0
        try:
            with _writing(self.array):
                done = self._resumed()
                with room(self.said["bytes"], self.array.subject, filling=self.part):
                    self.stream.truncate(len(self.header) + done * self.row_bytes)
                    self.stream.seek(0)
                    _write(self.stream, self.header)
                    self.stream.seek(0, os.SEEK_END)
                    self._record(done)
        except BaseException as error:
            if not done or self._keeps_nothing(error):
                with suppress(OSError):
                    remove_array(self.part)
            raise
        return done

    def _resumed(self) -> int:
        """Return how many rows of an unfinished file can be kept."""
        before = about(self.array.path)
        done = _recorded(before, self.array.shape[0])
        alike = all(before.get(name) == self.said[name] for name in ("shape", "dtype", "bytes"))
        self.stream.seek(0)
        if not alike or self.stream.read(len(self.header)) != self.header:
            return 0
        return min(done, max(0, os.fstat(self.stream.fileno()).st_size - len(self.header)) // self.row_bytes)

    def _record(self, done: int) -> None:
        """Say how many rows there are, once they are on the disk for good."""
        os.fsync(self.stream.fileno())
        replace_json(self.about, {**self.said, "done": done})

    def _finish(self) -> None:
        os.fsync(self.stream.fileno())
        replace_json(self.about, {**self.said, "created": datetime.now(UTC).isoformat(timespec="seconds")})
        self.part.rename(self.array.path)
        share_lock(self.stream.fileno())  # whoever waits for it may map it now
        _sync_folder(self.array.path.parent)

    def _keeps_nothing(self, error: BaseException) -> bool:
        """Say whether an error makes what was computed worthless, or its room matter more."""
        full = getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        return full or isinstance(error, (NoRoom, *self.worthless))


def _header(array: Array) -> bytes:
    stream = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


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
