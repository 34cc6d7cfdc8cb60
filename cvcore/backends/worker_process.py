"""The worker of a runs folder as others see it: whether one lives, whether one is needed, starting one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cvcore.errors import CvcoreError
from cvcore.processes import process_alive
from cvcore.run_directory import Run, worker_alive, worker_lock, worker_log
from cvcore.settings import PROJECT

LONGEST_WAIT = 60.0  # seconds between two attempts to start a worker that ends at once
LIVED = 10.0  # seconds after which a worker that died was no worker that cannot start
LARGEST_LOG = 10**6  # bytes of .worker.log; a longer one begins anew with the next worker


@dataclass
class _Started:
    """What this process knows of the workers it started for one runs folder."""

    process: subprocess.Popen[bytes] | None = None
    # Those that serve nothing any more, and after how many seconds they were found so.
    leaving: list[tuple[subprocess.Popen[bytes], float]] = field(default_factory=list)
    at: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    problem: str | None = None


_started: dict[Path, _Started] = {}
_one_at_a_time = threading.Lock()


def needed(runs: Sequence[Run]) -> bool:
    """Say whether runs of a folder need a worker: some wait, are training on a backend, or go back into the line."""
    return any(
        run.status == "queued" or (run.backend is not None and run.status == "running") or is_gone(run) for run in runs
    )


def is_gone(run: Run) -> bool:
    """Say whether the training process of a backend's run is gone, and nobody has decided yet what becomes of it."""
    return run.backend is not None and run.status == "interrupted" and run.info["status"] == "running"


def ensure(folder: Path) -> None:
    """Start a worker for a runs folder unless one lives.

    It outlives this process: it has a session of its own, which no Ctrl-C and no closed terminal of this one reaches.
    One that ends at once is started again after a while only, and longer each time.

    Raises:
        CvcoreError: it could not be started, and why; nothing of the runs is lost.
    """
    with _one_at_a_time:
        known = _started.setdefault(folder.resolve(), _Started())
        try:
            _ensure(folder, known)
        except OSError as error:
            known.problem = (f"No worker could be started for the runs folder ({error.strerror or error}); make room "
                             "in it or give access to it: the runs that wait are trained then")  # fmt: skip
            raise CvcoreError(known.problem) from error


def _ensure(folder: Path, known: _Started) -> None:
    _look(folder, known)
    if worker_alive(folder):
        return
    if known.process is not None:
        if not _has_served(folder, known.process.pid):  # it is only beginning
            return
        # It has nothing to do, or has failed, and would not see what was queued since.
        known.leaving.append((known.process, time.monotonic() - known.at))
        known.process = None
    if time.monotonic() < known.not_before:
        raise CvcoreError(known.problem or "The worker process ended; it is started again soon")
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    log = worker_log(folder)
    long = log.is_file() and log.stat().st_size > LARGEST_LOG
    with log.open("wb" if long else "ab") as stream:
        known.process = subprocess.Popen(
            [sys.executable, "-m", "cvcore.backends.worker", str(folder)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    known.at, known.problem = time.monotonic(), None


def _look(folder: Path, known: _Started) -> None:
    """Take notice of the workers of ours that have ended."""
    ended = [(process, lived) for process, lived in known.leaving if process.poll() is not None]
    known.leaving = [(process, lived) for process, lived in known.leaving if process.returncode is None]
    if known.process is not None and known.process.poll() is not None:
        ended.append((known.process, time.monotonic() - known.at))
        known.process = None
    for process, lived in ended:
        _note_end(folder, known, process.returncode, lived)


def _note_end(folder: Path, known: _Started, code: int, lived: float) -> None:
    if code == 0 or lived > LIVED:
        known.failures, known.problem = 0, None
        return
    known.failures += 1
    wait = min(2.0**known.failures, LONGEST_WAIT)
    known.not_before = time.monotonic() + wait
    last = last_line(worker_log(folder))
    said = f": {last}" if last else f", see {worker_log(folder).name} in the runs folder"
    known.problem = f"The worker process ended with exit code {code}{said}; it is started again in {wait:.0f} s"


def _has_served(folder: Path, pid: int) -> bool:
    """Say whether our worker with this number had the lock, which is free: it has given the folder up, to end."""
    try:
        said = json.loads(worker_lock(folder).read_text())
        return said["pid"] == pid and process_alive(said)  # after a restart of a container numbers come again
    except (OSError, ValueError, TypeError, KeyError):
        return False


def problem(folder: Path) -> str | None:
    """Return one sentence on why no worker of this process serves a folder, None where all is well."""
    known = _started.get(folder.resolve())
    return known.problem if known is not None and not worker_alive(folder) else None


def last_line(path: Path) -> str:
    """Return the last line that a process of ours printed into a log, at most 300 characters; "" where there is none.

    Lines that begin with a time are a run's own, and nothing that its process died of.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 4000))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "" if last[:2] == "20" and last[10:11] == "T" else last[:300]
