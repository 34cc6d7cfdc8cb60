"""The room of what can be computed again: stored activations and decoded pictures share one limit.

Drawn and unpacked datasets, uploads and weights do not count and are never removed here. An entry is one array in a
.npy file, with a .json file of the same name that says what it is; that file's modification time is the last use.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cvcore.errors import CvcoreError
from cvcore.locks import locked, try_lock
from cvcore.settings import cache_folder, cache_limit

ACTIVATIONS = "activations"
KEY = re.compile(r"[0-9a-f]{32}")
FORGOTTEN = 24 * 3600.0  # seconds after which a temporary file is what a killed process left behind
SHARE_WITHIN = 0.5  # seconds in which a new mapping gets its lock; who only looks keeps it for some microseconds
SETTLED = 2.0  # seconds after which a file that is changed again has another time of modification for sure
_NOT_AN_ARRAY = (OSError, ValueError, EOFError, OverflowError, TypeError, MemoryError, RecursionError)


def activations_folder() -> Path:
    """The folder of stored activations; not made here."""
    return cache_folder() / ACTIVATIONS


class NoRoom(CvcoreError):
    """What was to be stored is larger than the limit, or than the disk can have free."""


def pixels_folder() -> Path:
    """The folder of decoded pictures, a folder a dataset; not made here."""
    return cache_folder() / "pixels"


def limit() -> int:
    """Bytes that all entries together may take: `CVCORE_CACHE_LIMIT`, else 10 GB or less where the disk is small.

    Without that setting it is at most half of what the disk would have free without them.
    """
    return cache_limit(room=_free() + sum(_size(path) for path in _arrays()))


def fits(needed: int) -> bool:
    """Say whether this many bytes may be stored at all, whatever has to go for them."""
    return needed <= limit()


def used_bytes() -> int:
    """Bytes that all entries take, those being filled as much as they will take."""
    return sum(file.bytes for file in files())


def make_room(needed: int, what: str = "This") -> None:
    """Remove the least recently used entries until so many bytes more are within the limit and fit on the disk.

    What a process fills or has mapped stays: its room would not be free before that process lets it go, and on a
    shared folder of another computer it would be torn from under it. So runs that train now may pass the limit.

    Args:
        needed: bytes.
        what: the subject of an error's sentence, a plural such as "The decoded pictures".

    Raises:
        NoRoom: more than the limit, or more than the disk can have free; nothing is removed then.
        CvcoreError: another process keeps others from making room.
        OSError: the cache folder cannot be written.
    """
    with room(needed, what):
        pass


@contextlib.contextmanager
def room(needed: int, what: str = "This", filling: Path | None = None) -> Iterator[None]:
    """Make room as `make_room` does, and let nobody else make any until the end of the block.

    Args:
        needed: bytes that will be written in all.
        what: as in `make_room`.
        filling: an unfinished file that will take them; what it has counts as theirs.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    with locked(lock_file()):
        _forget_left_behind()
        everything = files()
        most = _limit_with(everything)
        if needed > most:
            raise NoRoom(f"{what} need {size_words(needed)} and all that is stored in the cache folder may take "
                         f"{size_words(most)}; raise CVCORE_CACHE_LIMIT or take smaller pictures")  # fmt: skip
        written = next((file.written for file in everything if file.path == filling), 0)
        _evict(needed, needed - written, [file for file in everything if file.path != filling], most, what)
        yield


def mapped(path: Path) -> np.memmap | None:
    """Map an array file, to be read only, or return None where it is not there or damaged.

    The mapping keeps a shared lock on the file, by which others see that it is in use.
    """
    try:
        with path.open("rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                return None
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            whole = stream.tell() + dtype.itemsize * int(np.prod(shape, dtype=object))
            if fortran or dtype.hasobject or whole != os.fstat(stream.fileno()).st_size:
                return None
            share_lock(stream.fileno())
            # mmap duplicates the descriptor, and the lock belongs to both: it is held as long as the mapping is.
            return np.memmap(stream, dtype=dtype, mode="r", offset=stream.tell(), shape=shape)
    except _NOT_AN_ARRAY:
        return None


def share_lock(descriptor: int) -> None:
    """Lock an open file as one that is in use; not on a file system without locks."""
    until = time.monotonic() + SHARE_WITHIN
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # another process looks whether it is in use, and has it to itself meanwhile
            if time.monotonic() > until:
                return
            time.sleep(0.001)
        except OSError:
            return


def note_use(path: Path) -> None:
    """Note that an entry is used now; not where the cache folder is read-only."""
    for file in (path.with_suffix(".json"), path):
        with contextlib.suppress(OSError):
            os.utime(file)
            return


def about(path: Path) -> dict[str, Any]:
    """Read what an entry's .json file says of it; {} where it is missing or damaged."""
    file = path.with_suffix(".json")
    try:
        status = file.stat()
        if abs(time.time() - status.st_mtime) < SETTLED:
            return _read(str(file))
        return dict(_read_once(str(file), status.st_ino, status.st_size, status.st_mtime_ns))
    except OSError:
        return {}


def _read(file: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(file).read_text("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=4096)
def _read_once(file: str, inode: int, size: int, modified: int) -> dict[str, Any]:
    return _read(file)


def size_words(number: int) -> str:
    """Show bytes as people say them: "0.3 MB", "12 MB", "1.24 GB"."""
    return f"{number / 1e9:.3g} GB" if number >= 1e9 else f"{number / 1e6:.{0 if number >= 1e7 else 1}f} MB"


@dataclass(frozen=True)
class File:
    """An array's file.

    Attributes:
        path: ends in .npy when it is whole, in .part while it is filled or since that was interrupted; in .tmp where
            it is another temporary file.
        written: bytes it takes.
        bytes: bytes it takes or, while it is filled, will take.
        changed: when it was last written, in seconds since 1970.
        used: when it was last used.
    """

    path: Path
    written: int
    bytes: int
    changed: float
    used: float

    @property
    def kind(self) -> str:
        """What it holds: "activations" or "pictures"."""
        return "activations" if self.path.parent.name == ACTIVATIONS else "pictures"

    @cached_property
    def in_use(self) -> bool:
        """A process has it mapped or fills it; looked up when first asked."""
        return _in_use(self.path)


def files() -> list[File]:
    """List the arrays in the store."""
    return [file for path in _arrays() if (file := _file(path)) is not None]


def _arrays() -> list[Path]:
    found = [path for path in _listing(activations_folder())
             if KEY.fullmatch(path.stem) and path.suffix in (".npy", ".part")]  # fmt: skip
    for folder in _listing(pixels_folder()):
        found += [path for path in _listing(folder) if _temporary(path)
                  or (path.suffix in (".npy", ".part") and not path.name.startswith("."))]  # fmt: skip
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _file(path: Path) -> File | None:
    try:
        status = path.stat()
    except OSError:
        return None
    will_take = status.st_size
    if path.suffix == ".part" and _in_use(path):
        promised = about(path).get("bytes")
        will_take = max(will_take, promised if type(promised) is int else 0)
    used = status.st_mtime
    with contextlib.suppress(OSError):
        used = path.with_suffix(".json").stat().st_mtime
    return File(path, status.st_size, will_take, status.st_mtime, used)


def lock_file() -> Path:
    """The file that is locked while entries are removed or their room is promised."""
    return cache_folder() / ".room.lock"


def _limit_with(found: list[File]) -> int:
    return cache_limit(room=_free() + sum(file.written for file in found))


def _free() -> int:
    """Bytes free on the disk of the cache folder, which need not be there yet."""
    folder = cache_folder()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _evict(needed: int, unwritten: int, others: list[File], most: int, what: str) -> None:
    over = needed + sum(file.bytes for file in others) - most
    promised = sum(file.bytes - file.written for file in others)
    free = _free()
    short = unwritten + promised - free
    if over <= 0 and short <= 0:
        return
    evictable = sorted((file for file in others if not file.in_use), key=lambda file: file.used)
    to_be_had = sum(file.written for file in evictable)
    if short > to_be_had:
        raise NoRoom(f"{what} need {size_words(needed)} and the disk of the cache folder has {size_words(free)} "
                     f"free, {size_words(free + to_be_had)} without what is stored; free some space or point "
                     "CVCORE_CACHE at another folder")  # fmt: skip
    for file in evictable:
        if over <= 0 and short <= 0:
            return
        if remove(file):
            over -= file.bytes
            short -= file.written


def remove(file: File) -> bool:
    """Remove an entry, unless a process fills it or has it mapped."""
    if file.path.suffix == ".tmp":
        return False
    try:
        descriptor = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if not try_lock(descriptor) or not same_file(descriptor, file.path):
            return False
        remove_array(file.path)
        return True
    finally:
        os.close(descriptor)


def remove_array(path: Path) -> None:
    """Remove an array's file, and what is said of it where no other of that name is left."""
    path.unlink(missing_ok=True)
    if not any(path.with_suffix(suffix).exists() for suffix in (".npy", ".part")):
        path.with_suffix(".json").unlink(missing_ok=True)


def same_file(descriptor: int, path: Path) -> bool:
    """Say whether the file opened is still the one of this name."""
    try:
        named = path.stat()
    except OSError:
        return False
    return (named.st_dev, named.st_ino) == (os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino)


def _in_use(path: Path) -> bool:
    if path.suffix == ".tmp":  # without a lock
        try:
            return time.time() - path.stat().st_mtime < FORGOTTEN
        except OSError:
            return False
    for access in (os.O_RDWR, os.O_RDONLY):  # where folders are shared, only who may write can lock
        with contextlib.suppress(OSError):
            descriptor = os.open(path, access | os.O_CLOEXEC)
            try:
                return not try_lock(descriptor)
            finally:
                os.close(descriptor)
    return False


def _forget_left_behind() -> None:
    """Remove what an earlier version stored, and the temporary files of processes killed a day ago or earlier."""
    shutil.rmtree(cache_folder() / "features", ignore_errors=True)
    for folder in (activations_folder(), *_listing(pixels_folder())):
        for path in filter(_temporary, _listing(folder)):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > FORGOTTEN:
                    path.unlink()


def _temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".tmp"


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
