"""Write a run directory: state files replaced whole, history appended, a newer attempt fences off an older one."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from cvcore.errors import CvcoreError, SupersededAttempt
from cvcore.files import replace_json, replace_text
from cvcore.recipe import Recipe
from cvcore.run_directory import HISTORY_COLUMNS, RESUMABLE, SCHEMA, STOP_FILE, Run, load_run
from cvcore.settings import runs_folder

PROGRESS_INTERVAL = 0.4  # seconds between two writes of progress.json


@contextmanager
def disk_errors_as_sentences(path: Path) -> Iterator[None]:
    """Turn an operating system's error about this run's folder into one sentence."""
    try:
        yield
    except OSError as error:
        raise CvcoreError(
            f"the run could not be written ({error.strerror or error}); make room in or give access to the runs "
            f"folder, then resume {path.name}"
        ) from error


def current_owner() -> dict[str, Any]:
    """Describe this process so that readers can tell whether it still lives."""
    import psutil

    return {"pid": os.getpid(), "started": psutil.Process().create_time(), "host": platform.node()}


def create_run(
    recipe: Recipe,
    dataset: dict[str, Any],
    seed: int,
    *,
    folder: Path | None = None,
    from_run: str | None = None,
    weights: dict[str, Any] | None = None,
    status: str = "queued",
) -> Run:
    """Create a run directory.

    Args:
        recipe: the whole recipe, written into run.json.
        dataset: `Dataset.summary()`.
        seed: decides initial weights, order, augmentation and dropout; 0 to 2**31 - 1.
        folder: where run directories are; default `settings.runs_folder()`.
        from_run: id of the run whose model a finetune recipe continues.
        weights: name, sha256 and bytes of a local weights file, or None.
        status: `queued`, or `running` when this process is about to train it.

    Raises:
        CvcoreError: the seed is out of range, or the folder cannot be written.
    """
    if not 0 <= seed < 2**31:
        raise CvcoreError(f"seed must be between 0 and {2**31 - 1}; received {seed}")
    folder = folder or runs_folder()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = folder / f"{stamp}-{recipe.id}-{secrets.token_hex(2)}"
    info = {
        "schema": SCHEMA,
        "run": path.name,
        "status": status,
        "recipe": recipe.model_dump(mode="json"),
        "dataset": dataset,
        "seed": seed,
        "from_run": from_run,
        "weights": weights,
        "attempt": 1,
        "owner": current_owner(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "device": None,
        "timings": {},
        "peak_memory": None,
        "error": None,
    }
    with disk_errors_as_sentences(path):
        path.mkdir(parents=True)
        try:
            replace_json(path / "run.json", info)
        except OSError:
            path.rmdir()
            raise
    return load_run(path.name, folder)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("keras", "tensorflow", "tensorflow-cpu", "numpy", "pillow"):
        with suppress(metadata.PackageNotFoundError):
            versions[name.removesuffix("-cpu")] = metadata.version(name)
    return versions


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep every other process from changing this run's run.json meanwhile."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def requeue(run: Run) -> None:
    """Queue a stopped, failed or interrupted run again for a worker.

    Raises:
        CvcoreError: it is queued, running or done.
    """
    with disk_errors_as_sentences(run.path), _locked(run.path):
        run = load_run(run.id, run.path.parent)
        if run.status not in RESUMABLE:
            raise CvcoreError(f"only a stopped, failed or interrupted run can be resumed; {run.id} is {run.status}")
        (run.path / STOP_FILE).unlink(missing_ok=True)
        replace_json(run.path / "run.json", {**run.info, "status": "queued", "owner": None, "error": None})


def start_attempt(run: Run) -> RunWriter:
    """Take a run over in this process: a new attempt number, this process as owner, status `running`.

    Raises:
        CvcoreError: another living process is running it, or it is done.
    """
    with disk_errors_as_sentences(run.path), _locked(run.path):
        run = load_run(run.id, run.path.parent)
        owner = run.info.get("owner") or {}
        if run.status == "running" and owner.get("pid") != os.getpid():
            raise CvcoreError(f"run {run.id} is still running; stop it before resuming")
        if run.status not in ("queued", "running", *RESUMABLE):
            raise CvcoreError(
                f"only a queued, stopped, failed or interrupted run can be started; {run.id} is {run.status}"
            )
        if run.status in RESUMABLE:  # a request made while it was queued is meant for this attempt
            (run.path / STOP_FILE).unlink(missing_ok=True)
        for left_behind in run.path.glob(".*.tmp*"):  # by a process killed while it replaced a file
            left_behind.unlink(missing_ok=True)
        first = run.status in ("queued", "running") and not (run.path / "log.txt").exists()
        attempt = run.info.get("attempt", 1) + (0 if first else 1)
        taken = {"attempt": attempt, "owner": current_owner(), "status": "running", "error": None}
        replace_json(run.path / "run.json", {**run.info, **taken, "versions": _versions()})
    return RunWriter(run.path, attempt, taken["owner"])


class RunWriter:
    """The one writer of a run; every write first checks that no newer attempt has taken over."""

    def __init__(self, path: Path, attempt: int, owner: dict[str, Any] | None = None) -> None:
        self.path = path
        self.attempt = attempt
        self.owner = owner
        self._last_progress = 0.0

    def check_attempt(self) -> dict[str, Any]:
        """Return run.json as it is now.

        Raises:
            SupersededAttempt: a newer attempt, or another process with the same number, has taken over.
        """
        info = json.loads((self.path / "run.json").read_text())
        if info["attempt"] != self.attempt or (self.owner and info["owner"] != self.owner):
            raise SupersededAttempt(f"attempt {info['attempt']} of run {self.path.name} has taken over from "
                                    f"attempt {self.attempt}, which writes no more")  # fmt: skip
        return info

    def update(self, **fields: Any) -> None:
        """Replace some fields of run.json."""
        with disk_errors_as_sentences(self.path), _locked(self.path):
            replace_json(self.path / "run.json", {**self.check_attempt(), **fields})

    def replace_history(self, rows: list[dict[str, Any]]) -> None:
        """Replace history.csv whole, as when an attempt begins."""
        with disk_errors_as_sentences(self.path):
            self.check_attempt()
            lines = [",".join(HISTORY_COLUMNS), *map(_history_line, rows)]
            replace_text(self.path / "history.csv", "\n".join(lines) + "\n")

    def append_history(self, row: dict[str, Any]) -> None:
        """Append one finished epoch to history.csv."""
        with disk_errors_as_sentences(self.path):
            self.check_attempt()
            with (self.path / "history.csv").open("a") as stream:
                stream.write(_history_line(row) + "\n")

    def progress(self, document: dict[str, Any], *, now: bool = False) -> None:
        """Replace progress.json, at most every PROGRESS_INTERVAL seconds unless `now`."""
        if now or time.monotonic() - self._last_progress >= PROGRESS_INTERVAL:
            self._last_progress = time.monotonic()
            self.document("progress.json", document)

    def document(self, name: str, content: dict[str, Any]) -> None:
        """Replace one JSON file of the run."""
        with disk_errors_as_sentences(self.path):
            self.check_attempt()
            replace_json(self.path / name, content)

    def text(self, name: str, content: str) -> None:
        """Replace one text file of the run."""
        with disk_errors_as_sentences(self.path):
            self.check_attempt()
            replace_text(self.path / name, content)

    def log(self, line: str) -> None:
        """Append a line to log.txt, with the time in UTC."""
        with suppress(OSError), (self.path / "log.txt").open("a") as stream:
            stream.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")

    def stop_requested(self) -> bool:
        """Say whether somebody asked this run to stop."""
        return (self.path / STOP_FILE).exists()

    def finish(self, status: str, error: str | None = None, **fields: Any) -> None:
        """Write the final status and give the run up."""
        with disk_errors_as_sentences(self.path), _locked(self.path):
            final = {**self.check_attempt(), **fields, "status": status, "error": error, "owner": None}
            replace_json(self.path / "run.json", final)
            for name in (STOP_FILE, "progress.json") if status == "done" else (STOP_FILE,):
                (self.path / name).unlink(missing_ok=True)
        self.log(f"attempt {self.attempt}: {status}" + (f": {error}" if error else ""))


def _history_line(row: dict[str, Any]) -> str:
    return ",".join(str(row[name]) for name in HISTORY_COLUMNS)
