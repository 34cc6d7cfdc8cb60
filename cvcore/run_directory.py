"""The run directory: the one truth about a run, to be listed, read, and asked to stop.

A run is a folder of plain files (docs/architecture.md names them). This module reads them and
tolerates what a killed writer leaves behind; `cvcore.run_writer` writes them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvcore.errors import CvcoreError, RunDamaged, RunNotFound
from cvcore.processes import on_this_computer, process_alive
from cvcore.run_checks import is_sound, is_sound_metrics, sane_progress
from cvcore.run_history import HISTORY_COLUMNS as HISTORY_COLUMNS
from cvcore.run_history import read_columns
from cvcore.settings import runs_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SCHEMA = 1
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
STOP_FILE = "stop"
STATE_FILE = "state.npz"
HEARTBEAT_FILE = "heartbeat.json"
SILENT_AFTER = 60.0  # seconds without a heartbeat after which a run on another computer is taken to be gone
REQUEUES = 2  # times that a run whose process is gone goes back into the line by itself
RESUMABLE = ("stopped", "interrupted", "failed")


@dataclass(frozen=True)
class Run:
    """One run as its files say it is now.

    Attributes:
        id: the folder's name.
        path: the folder.
        info: run.json as a dict; {} for a damaged run.
        status: queued, running, done, stopped, failed, interrupted or damaged.
        metrics: metrics.json as a dict, or None while there is none.
        error: one sentence for a failed, interrupted or damaged run, else None.
    """

    id: str
    path: Path
    info: dict[str, Any]
    status: str
    metrics: dict[str, Any] | None = None
    error: str | None = field(default=None)

    @property
    def recipe(self) -> dict[str, Any]:
        """The whole recipe as a dict; {} for a damaged run."""
        return self.info.get("recipe", {})

    @property
    def strategy(self) -> str | None:
        return self.recipe.get("strategy")

    @property
    def dataset(self) -> dict[str, Any]:
        """The dataset's summary: id, title, fingerprint, counts, class_names, drawn, skipped."""
        return self.info.get("dataset", {})

    @property
    def seed(self) -> int | None:
        return self.info.get("seed")

    @property
    def reference(self) -> bool:
        """True for the recorded runs that ship with the project."""
        return bool(self.info.get("reference"))

    @property
    def owner(self) -> str | None:
        """Whose run it is, 16 hex digits; None for one launched from a terminal, recorded, or of an older version."""
        owner = self.info.get("owner")
        return owner if isinstance(owner, str) else None

    @property
    def name(self) -> str | None:
        """What its owner calls it, or None."""
        return self.info.get("name")

    @property
    def attempt(self) -> int:
        """The number of the attempt that may write, from 1; 0 for a damaged run."""
        return self.info.get("attempt", 0)

    @property
    def process(self) -> dict[str, Any] | None:
        """The process that trains it, as `processes.this_process` describes one; None when none does."""
        return process_of(self.info)

    @property
    def backend(self) -> str | None:
        """The backend that trains it, `local` or `ray`; None for one trained in the process that launched it."""
        return self.info.get("backend")

    @property
    def ticket(self) -> int | None:
        """Its place in the line, larger than of every run queued before; None when it was never in one."""
        return self.info.get("ticket")

    @property
    def turn(self) -> int | None:
        """The number of its start among those of all runs, from 1; None before its first attempt starts."""
        return self.info.get("turn")

    @property
    def requeues(self) -> int:
        """How often it went back into the line by itself since a person last queued it."""
        return self.info.get("requeues") or 0

    @property
    def estimate(self) -> dict[str, Any] | None:
        """What it was expected to take when it was queued: {seconds, memory_mb, basis}, or None."""
        return self.info.get("estimate")

    @property
    def group(self) -> dict[str, Any] | None:
        """The sweep it belongs to: {id, title, seeds, train_pictures}, or None."""
        return self.info.get("group")

    @property
    def comes_back(self) -> bool:
        """True for a run whose process is gone and that goes back into the line by itself."""
        undecided = self.status == "interrupted" and self.info.get("status") == "running"
        return undecided and self.backend is not None and self.requeues < REQUEUES

    @property
    def imported(self) -> bool:
        """True for a training history that was saved elsewhere: no predictions, model, seed or settings are known."""
        return bool(self.info.get("imported"))

    def history(self) -> pd.DataFrame:
        """Read history.csv: a row an epoch, columns HISTORY_COLUMNS, epochs from 1; empty before the first ends.

        What no figure can be, such as an accuracy of 2, is NaN.
        """
        import pandas as pd

        return pd.DataFrame(self.columns())

    def columns(self) -> dict[str, np.ndarray]:
        """Read history.csv as `history` does, as arrays by column: shared, and not to be changed."""
        stamp = _file_stamp(f"{self.path}/history.csv")
        read: tuple[Any, dict[str, np.ndarray]] | None = self.__dict__.get("_columns")
        if read is None or read[0] != stamp:
            read = self.__dict__["_columns"] = (stamp, read_columns(self.path / "history.csv"))
        return read[1]

    def predictions(self) -> pd.DataFrame:
        """Read predictions.csv: split, path, label, predicted, one probability column a class; empty if none."""
        import pandas as pd

        path = self.path / "predictions.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame()

    def progress(self) -> dict[str, Any] | None:
        """Read progress.json: step, steps, epoch, epochs, phase, seconds_left, loss, accuracy; None when there is none.

        Each is None where it is not told or cannot be.
        """
        return sane_progress(_read_json(self.path / "progress.json"))

    def log(self) -> str:
        """Read log.txt, "" when there is none."""
        try:
            return (self.path / "log.txt").read_text(errors="replace")
        except OSError:
            return ""

    def modified(self) -> str:
        """Return what changes with every change of the files a page reads, as a key for caches.

        It is no time: after a clock was set back, what is written last is not the newest.
        """
        names = ("run.json", "history.csv", "metrics.json", "predictions.csv")
        return " ".join(".".join(map(str, _file_stamp(f"{self.path}/{name}") or ())) for name in names)

    def summary(self) -> dict[str, Any]:
        """Return what `train` and `runs` print: run, status, figures, recipe, dataset, seed."""
        metrics = self.metrics or {}
        names = ("best_epoch", "val_accuracy", "last_val_accuracy", "test_accuracy")
        return {
            "run": self.id,
            "status": self.status,
            **{name: metrics.get(name) for name in names},
            "seconds": self.info.get("timings", {}).get("total"),
            "recipe": self.recipe.get("id"),
            "strategy": self.strategy,
            "dataset": self.dataset.get("id"),
            "seed": self.seed,
            "error": self.error,
        }


def list_runs(folder: Path | None = None) -> list[Run]:
    """List the runs of a folder, newest id first; a damaged one has the status `damaged` and its sentence.

    Files that have not changed since the last listing in this process are not read again: finished runs are then the
    same objects, which other threads may hold too. Nobody changes what is in them.

    Args:
        folder: where the run directories are; default `settings.runs_folder()`.
    """
    folder = folder or runs_folder()
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if RUN_ID.fullmatch(entry.name) and entry.is_dir()]
    except OSError:
        return []
    known, now = _listings.get(folder, {}), time.time()
    found = {name: _listed(folder, name, known, now) for name in sorted(names, reverse=True)}
    # What is damaged because it was deleted or moved meanwhile is not there.
    listed = {name: one for name, one in found.items() if one[1].status != "damaged" or one[1].path.is_dir()}
    with _listing:
        _listings.pop(folder, None)
        _listings[folder] = listed
        for longest_ago in list(_listings)[:-MOST_LISTINGS]:
            del _listings[longest_ago]
    return [run if run.status not in ("queued", "running") else _now(run) for _, run in listed.values()]


def load_run(run_id: str, folder: Path | None = None) -> Run:
    """Read one run.

    Raises:
        RunNotFound: the id is malformed or names no run.
        RunDamaged: its run.json cannot be read.
    """
    return _now(_stored(run_path(run_id, folder)))


def run_path(run_id: str, folder: Path | None = None) -> Path:
    """Return the folder of a run whose id is validated.

    Raises:
        RunNotFound: the id is malformed or names no folder.
    """
    folder = folder or runs_folder()
    if not RUN_ID.fullmatch(run_id):
        raise RunNotFound(f"a run id has letters, digits, '-' and '_' only; received {run_id[:80]!r}")
    path = folder / run_id
    if not path.is_dir():
        raise RunNotFound(f"no run {run_id!r} among the saved runs; `python -m cvcore runs` lists them")
    return path


def request_stop(run: Run) -> None:
    """Ask a queued or running run to stop at its next batch, or one that comes back not to; what it has is kept.

    Raises:
        CvcoreError: the run is not queued or running, or the request cannot be written.
    """
    if run.status not in ("queued", "running") and not run.comes_back:
        raise CvcoreError(f"only a queued or running run can be stopped; {run.id} is {run.status}")
    try:
        (run.path / STOP_FILE).touch()
    except OSError as error:
        raise CvcoreError(f"the request to stop {run.id} could not be written ({error.strerror or error}); make room "
                          "in or give access to the runs folder, then stop it again") from error  # fmt: skip


def worker_lock(folder: Path) -> Path:
    """Return the file that the worker of this runs folder keeps locked while it serves it; `this_process` is in it."""
    return folder / ".worker.lock"


def worker_log(folder: Path) -> Path:
    """Return the file to which the worker of this runs folder and its children print."""
    return folder / ".worker.log"


def worker_alive(folder: Path) -> bool:
    """Say whether a worker process serves this runs folder now."""
    try:
        descriptor = os.open(worker_lock(folder), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def process_of(info: dict[str, Any]) -> dict[str, Any] | None:
    """Return the process that a run.json names; older versions called it the owner."""
    process = info.get("process") or info.get("owner")
    return process if isinstance(process, dict) else None


def read_run(path: Path) -> Run:
    """Read the run of a folder, wherever that is; a damaged one has the status `damaged` and its sentence."""
    return _now(_stored_or_damaged(path))


def _stored_or_damaged(path: Path) -> Run:
    try:
        return _stored(path)
    except RunDamaged as error:
        return Run(path.name, path, {}, "damaged", None, str(error))


def _stored(path: Path) -> Run:
    """Read a run with the status that stands in its run.json."""
    info = _read_json(path / "run.json")
    if info is None or not is_sound(info):
        raise RunDamaged(f"run {path.name} is damaged: its run.json is missing or not readable, or has values that no "
                         "run has; delete the folder or restore the file, other runs are not affected")  # fmt: skip
    metrics = _read_json(path / "metrics.json")
    if metrics is not None and not is_sound_metrics(metrics):
        raise RunDamaged(f"run {path.name} is damaged: its metrics.json has figures that are no numbers, or that "
                         "none can be; delete the folder or restore the file, other runs are not affected")  # fmt: skip
    return Run(path.name, path, info, str(info["status"]), metrics, info.get("error"))


def _now(run: Run) -> Run:
    """Return a run with the status that it really has: its process may be gone, or it was asked to stop."""
    if run.status == "running" and not _trains(run):
        gone = replace(run, status="interrupted")
        again = "it goes on by itself" if gone.comes_back else "resume it"
        return replace(gone, error=f"The process of this run is gone; {again} from its last finished epoch.")
    if run.status == "queued" and (run.path / STOP_FILE).exists():
        return replace(run, status="stopped", error="Stopped before it began; resume it to train.")
    return run


def _trains(run: Run) -> bool:
    """Say whether a run's process lives; of one on another computer we only see its heartbeat."""
    process = run.process
    if process is None or on_this_computer(process):
        return process_alive(process)
    names = ("run.json", HEARTBEAT_FILE, "progress.json", "history.csv")  # older versions have no heartbeat
    return min(_age(run.path / name) for name in names) < SILENT_AFTER


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


# What `list_runs` has read: by folder and run the files' state then, and the run as stored.
_Stamp = tuple[tuple[int, int, int] | None, ...]
_listings: dict[Path, dict[str, tuple[_Stamp, Run]]] = {}
_listing = threading.Lock()
MOST_LISTINGS = 8  # folders
SETTLES = 0.1  # seconds in which a file may change twice without a change of its time, which ticks that coarsely


def _listed(folder: Path, name: str, known: dict[str, tuple[_Stamp, Run]], now: float) -> tuple[_Stamp, Run]:
    stamp = tuple(_file_stamp(f"{folder}/{name}/{file}") for file in ("run.json", "metrics.json"))
    earlier = known.get(name)
    if earlier is not None and earlier[0] == stamp:
        return earlier
    run = _stored_or_damaged(folder / name)
    settled = all(file is None or abs(now - file[0] / 1e9) > SETTLES for file in stamp)
    return (stamp if settled else ()), run


def _file_stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (twice a run and listing: a Path takes three times as long)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
