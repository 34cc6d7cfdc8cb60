"""Whether the kernel killed a process because memory ran out."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def kills() -> int | None:
    """Count the processes that the kernel has killed for want of memory so far; None where it does not tell.

    The count is that of this process' control group (version 2: memory.events, version 1: memory.oom_control), which
    its children share; where that is not to be read, that of the whole machine.
    """
    for folder, name in (*_groups("memory.events"), *_groups("memory.oom_control")):
        if (count := _word(folder / name, "oom_kill")) is not None:
            return count
    return _word(PROC / "vmstat", "oom_kill")


def _groups(name: str) -> list[tuple[Path, str]]:
    """List the folders of this process' control group in which a file may be, the narrowest first."""
    version_1 = name == "memory.oom_control"
    root = CGROUPS / "memory" if version_1 else CGROUPS
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    paths = [line.split(":", 2)[2] for line in lines
             if ("memory" in line.split(":", 2)[1].split(",") if version_1 else line.startswith("0::"))]  # fmt: skip
    # Inside a container the path may be the host's: its own group is then the root of what it sees.
    return [(folder, name) for folder in (*(root / path.lstrip("/") for path in paths), root)
            if (folder / name).is_file()]  # fmt: skip


def _word(path: Path, name: str) -> int | None:
    """Read the number that follows a name in a file of `name number` lines."""
    try:
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == name and words[1].isdigit():
                return int(words[1])
    except OSError:
        pass
    return None
