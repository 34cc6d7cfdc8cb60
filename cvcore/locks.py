"""Locks between processes: files that one process at a time keeps locked, and that end with it however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from cvcore.errors import CvcoreError

WAIT = 60.0  # seconds to wait for a lock that is kept for the time of a rename
LONGEST_LOOK = 1.0  # seconds of waiting that one look adds at most: a machine that stood still has not waited
_wait = ContextVar("_wait", default=WAIT)


@contextmanager
def waiting_at_most(seconds: float) -> Iterator[None]:
    """Wait for no lock longer than this meanwhile, in this thread: for who has other things to do."""
    before = _wait.set(seconds)
    try:
        yield
    finally:
        _wait.reset(before)


@contextmanager
def locked(path: Path, wait: float | None = None) -> Iterator[None]:
    """Keep a lock file locked; it is made when missing, its folder too, but no more.

    A file and not a folder: on NFS only a file opened for writing is locked for the other computers as well.

    Args:
        path: the lock file.
        wait: seconds to wait for another process that keeps it; default WAIT, or as `waiting_at_most` says. Time in
            which the machine stood still, and that process with it, does not count.

    Raises:
        CvcoreError: another process kept it all that time.
        OSError: the file can be neither opened nor made.
    """
    wait = _wait.get() if wait is None else wait
    descriptor = _open(path)
    try:
        waited, looked = 0.0, time.monotonic()
        while not try_lock(descriptor):
            now = time.monotonic()
            waited, looked = waited + min(now - looked, LONGEST_LOOK), now
            if waited > wait:
                raise CvcoreError(f"another process has kept {path.name} locked for {wait:.0f} seconds; end that "
                                  "process, then try again")  # fmt: skip
            time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process, or say at once that another one keeps it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        return os.open(path, flags, 0o644)
