"""Which process trains a run, said so that another process can tell whether that one still lives."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def this_process() -> dict[str, Any]:
    """Describe this process, as `described` does."""
    return described(os.getpid())


def described(pid: int) -> dict[str, Any]:
    """Describe a living process of this computer: {pid, started, host}.

    `started` tells it from a later process with its number. On Linux it is the boot's id and the clock ticks from boot
    to the start of the process, which stay the same when the clock is set; elsewhere seconds since 1970.
    """
    return {"pid": pid, "started": _started(pid), "host": platform.node()}


def process_alive(process: dict[str, Any] | None) -> bool:
    """Say whether a process lives on this computer.

    Args:
        process: {pid, started, host} as `this_process` describes one, or None.
    """
    try:
        pid, started = int(process["pid"]), process["started"]  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return False
    if isinstance(started, str):
        return _started(pid) == started
    return isinstance(started, int | float) and _lives_since(pid, float(started))


def on_this_computer(process: dict[str, Any]) -> bool:
    """Say whether a process is, or was, one of this computer."""
    return process.get("host") == platform.node()


def boot_id() -> str | None:
    """Return what names the time since this computer was switched on, or None where it has no name."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def seconds_since_boot() -> float | None:
    """Return the seconds since this computer was switched on, asleep or awake, or None where they are not counted."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return None if clock is None else time.clock_gettime(clock)


def _started(pid: int) -> str | float | None:
    """Return when a living process began, None when there is none with this number."""
    boot = boot_id()
    if boot is None:
        return _create_time(pid)
    try:
        # The name of the program stands in brackets and may hold blanks and brackets itself.
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return f"{boot} {fields[19]}" if len(fields) > 19 and fields[0] not in "ZXx" else None


def _lives_since(pid: int, started: float) -> bool:
    found = _create_time(pid)
    return found is not None and abs(found - started) < 1.0


def _create_time(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (psutil.Error, ValueError, OverflowError):
        return None
