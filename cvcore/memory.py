"""Memory a training process can have here: what is free, within the limit of the container it is in."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

MB = 1e6
KEPT = 32 * 2**20  # bytes of a memory map that may stay in memory
NO_LIMIT = 2**60  # bytes: what the first version of control groups calls a limit where there is none


@dataclass(frozen=True)
class Memory:
    """Memory of this machine, in MB (10^6 bytes).

    Attributes:
        total: all of it, or the container's limit where that is less.
        free: what processes can still take, file caches given up.
        contained: `total` is the limit of a container.
    """

    total: float
    free: float
    contained: bool = False


def memory(proc: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> Memory:
    """Measure the memory of this machine, and of the container that this process is in.

    Args:
        proc: the file that names this process' control groups; missing where the system has none.
        groups: where control groups, of either version, are mounted.
    """
    import psutil

    machine = psutil.virtual_memory()
    found = Memory(machine.total / MB, machine.available / MB)
    for folder, limit_name, usage_name in _groups(proc, groups):
        limit = _number(folder / limit_name)
        if limit is None or limit >= NO_LIMIT:
            continue
        used = (_number(folder / usage_name) or 0) - _file_caches(folder)
        free = max(0.0, (limit - max(0, used)) / MB)
        contained = limit / MB < found.total
        found = Memory(min(found.total, limit / MB), min(found.free, free), contained or found.contained)
    return found


def held(pid: int) -> float:
    """Return the memory that comes back when a process of this machine ends, in MB; 0 when there is none.

    Files that it has mapped are not counted: they are no more than cached.
    """
    import psutil

    try:
        about = psutil.Process(pid).memory_info()
    except (psutil.Error, ValueError, OverflowError):
        return 0.0
    return max(0, about.rss - getattr(about, "shared", 0)) / MB


def let_go(array: Any) -> None:
    """Take what was read of a memory map out of this process' memory; the next look at it reads it again.

    It stays in the system's cache of files, from which a picture comes back in microseconds.

    Args:
        array: a read-only numpy memory map of more than `KEPT` bytes, or what has one as its `base`; any other array
            stays as it is.
    """
    source = held_by = array
    while source is not None and not isinstance(source, mmap.mmap):
        source, held_by = getattr(source, "base", None), source
    if source is None or len(source) <= KEPT or held_by.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return
    source.madvise(mmap.MADV_DONTNEED)


def _groups(proc: Path, groups: Path) -> list[tuple[Path, str, str]]:
    """List the control groups that limit this process' memory: (folder, file with the limit, file with the usage)."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0" and not controllers:
            # The second version beside the first is mounted one level deeper, and then does not limit memory.
            found += [(folder, "memory.max", "memory.current") for folder in _upwards(groups, name)]
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes"
            found += [(folder, *names) for folder in _upwards(groups / "memory", name)]
    return found


def _upwards(root: Path, name: str) -> list[Path]:
    """List a group's folder and those above it; in a container its name may be that outside, and the root its own."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    return [root.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]


def _file_caches(folder: Path) -> int:
    """Return the bytes of files that a group's usage counts and that are given up when memory is short."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(maxsplit=1) for line in lines if len(line.split()) == 2)
    prefix = "total_" if "total_inactive_file" in values else ""  # the first version counts groups below apart
    found = (values.get(f"{prefix}{name}", "0") for name in ("inactive_file", "active_file"))
    return sum(int(value) for value in found if value.isdigit())


def _number(path: Path) -> int | None:
    """Read a file that holds one number; None where it is missing or says that there is no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
