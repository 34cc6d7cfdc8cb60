"""The run directory: the one truth about a run, to be listed, read, and asked to stop.

A run is a folder of plain files (docs/architecture.md names them). This module reads them and
tolerates what a killed writer leaves behind; `cvcore.run_writer` writes them.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvcore.errors import CvcoreError, RunDamaged, RunNotFound
from cvcore.settings import runs_folder

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
STOP_FILE = "stop"
SILENT_AFTER = 180.0  # seconds without a sign of life after which a run on another computer is taken to be gone
WORKER_STARTS_WITHIN = 4.0  # seconds from queueing a run to a living worker, on a busy machine
STATUSES = ("queued", "running", "done", "stopped", "failed", "interrupted")
RESUMABLE = ("stopped", "interrupted", "failed")
LARGEST = sys.float_info.max  # of any figure in a run's files, which may have been edited by hand
MOST = 10**12  # of anything that is counted in them


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
    def imported(self) -> bool:
        """True for a training history that was saved elsewhere: no predictions, model, seed or settings are known."""
        return bool(self.info.get("imported"))

    @cached_property
    def _history(self) -> pd.DataFrame:
        import pandas as pd

        rows = _complete_lines(self.path / "history.csv")
        names = rows[0].split(",") if rows else list(HISTORY_COLUMNS)
        records = [row.split(",") for row in rows[1:]]
        frame = pd.DataFrame([row for row in records if len(row) == len(names)], columns=names)
        frame = frame.apply(pd.to_numeric, errors="coerce").astype("float64")
        frame = frame.where(frame.abs() <= LARGEST)
        shares = [name for name in names if name.endswith("accuracy")]
        frame[shares] = frame[shares].where((frame[shares] >= 0) & (frame[shares] <= 1))
        frame = frame[frame["epoch"].between(1, MOST)]
        return frame.astype({name: "int64" if name == "epoch" else "float64" for name in names})

    def history(self) -> pd.DataFrame:
        """Read history.csv: a row an epoch, columns HISTORY_COLUMNS, epochs from 1; empty before the first ends.

        What no figure can be, such as an accuracy of 2, is NaN.
        """
        return self._history.copy()

    def predictions(self) -> pd.DataFrame:
        """Read predictions.csv: split, path, label, predicted, one probability column a class; empty if none."""
        import pandas as pd

        path = self.path / "predictions.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame()

    def progress(self) -> dict[str, Any] | None:
        """Read progress.json: step, steps, epoch, epochs, phase, seconds_left; None when there is none."""
        try:
            return json.loads((self.path / "progress.json").read_text())
        except (OSError, ValueError, RecursionError):
            return None

    def log(self) -> str:
        """Read log.txt, "" when there is none."""
        try:
            return (self.path / "log.txt").read_text(errors="replace")
        except OSError:
            return ""

    def modified(self) -> float:
        """Return the newest modification time of the files a page reads, as a key for caches (seconds)."""
        newest = 0.0
        for name in ("run.json", "history.csv", "metrics.json", "predictions.csv"):
            try:
                newest = max(newest, (self.path / name).stat().st_mtime)
            except OSError:
                continue
        return newest

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

    Args:
        folder: where the run directories are; default `settings.runs_folder()`.
    """
    folder = folder or runs_folder()
    if not folder.is_dir():
        return []
    runs = []
    for path in sorted(folder.iterdir(), key=lambda entry: entry.name, reverse=True):
        if path.is_dir() and RUN_ID.fullmatch(path.name):
            try:
                runs.append(_read(path))
            except RunDamaged as error:
                runs.append(Run(path.name, path, {}, "damaged", None, str(error)))
    return runs


def load_run(run_id: str, folder: Path | None = None) -> Run:
    """Read one run.

    Raises:
        RunNotFound: the id is malformed or names no run.
        RunDamaged: its run.json cannot be read.
    """
    return _read(run_path(run_id, folder))


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
    """Ask a queued or running run to stop at its next batch; what it has is kept.

    Raises:
        CvcoreError: the run is not queued or running.
    """
    if run.status not in ("queued", "running"):
        raise CvcoreError(f"only a queued or running run can be stopped; {run.id} is {run.status}")
    (run.path / STOP_FILE).touch()


def delete_run(run: Run) -> None:
    """Delete a run's folder.

    Raises:
        CvcoreError: the run is queued or running (stop it first), or ships with the project.
    """
    if run.status in ("queued", "running"):
        raise CvcoreError(f"a {run.status} run cannot be deleted; stop {run.id} first")
    if run.reference:
        raise CvcoreError(f"{run.id} is a reference run that ships with the project and is not deleted here")
    shutil.rmtree(run.path)


def worker_lock(folder: Path) -> Path:
    """Return the file that the worker of this runs folder keeps locked while it lives."""
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


def process_alive(owner: dict[str, Any] | None) -> bool:
    """Say whether the process that owns a run still lives on this computer.

    Args:
        owner: {pid, started, host} as written by `run_writer.current_owner`, or None.
    """
    import psutil

    if not owner:
        return False
    try:
        process = psutil.Process(int(owner["pid"]))
        same = abs(process.create_time() - float(owner["started"])) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _read(path: Path) -> Run:
    info = _read_json(path / "run.json")
    if info is None:
        raise RunDamaged(f"run {path.name} is damaged: its run.json is missing or not readable, or has values that no "
                         "run has; delete the folder or restore the file, other runs are not affected")  # fmt: skip
    status, error = str(info["status"]), info.get("error")
    if status == "running" and not _trains(path, info.get("owner")):
        status, error = "interrupted", "The process of this run is gone; resume it from its last finished epoch."
    if status == "queued" and (path / STOP_FILE).exists():
        status, error = "stopped", "Stopped before it began; resume it to train."
    elif status == "queued" and _age(path / "run.json") > WORKER_STARTS_WITHIN and not worker_alive(path.parent):
        status, error = "interrupted", "No worker is left to start this run; resume it."
    metrics = _read_json(path / "metrics.json")
    if metrics is not None and not _is_sound_metrics(metrics):
        raise RunDamaged(f"run {path.name} is damaged: its metrics.json has figures that are no numbers, or that "
                         "none can be; delete the folder or restore the file, other runs are not affected")  # fmt: skip
    return Run(path.name, path, info, status, metrics, error)


def _trains(path: Path, owner: dict[str, Any] | None) -> bool:
    """Say whether a run's process lives; of one on another computer we only see whether its files still change."""
    if isinstance(owner, dict) and owner.get("host") != platform.node():
        return min(_age(path / name) for name in ("run.json", "progress.json", "history.csv")) < SILENT_AFTER
    return process_alive(owner)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    return document if path.name != "run.json" or _is_sound(document) else None


def _is_sound(info: dict[str, Any]) -> bool:
    """Say whether a run.json has what every reader relies on."""
    recipe, dataset = info.get("recipe"), info.get("dataset")
    return (
        _all_finite(info)
        and isinstance(recipe, dict)
        and isinstance(dataset, dict)
        and isinstance(recipe.get("id"), str)
        and isinstance(recipe.get("strategy"), str)
        and _has_counts(recipe)
        and (not isinstance(recipe.get("starts_from"), dict) or _has_counts(recipe["starts_from"]))
        and info.get("status") in STATUSES
        and isinstance(info.get("attempt"), int)
        and isinstance(info.get("timings", {}), dict)
        and _are_counts(dataset.get("counts", {}))
    )


def _all_finite(value: Any) -> bool:
    """Say whether every number within is one that arithmetic and formats take: finite, and no 10**400."""
    if isinstance(value, dict | list):
        return all(map(_all_finite, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bool) or not isinstance(value, int | float) or _is_number(value)


def _has_counts(recipe: dict[str, Any]) -> bool:
    """Say whether the numbers of a recipe that readers count pictures and epochs with are such numbers, or missing."""
    counted = ("batch_size", "epochs", "steps_per_epoch", "validation_steps")
    return all(_is_count(recipe.get(name, 1), least=1) for name in counted)


def _are_counts(counts: Any) -> bool:
    """Say whether this is {split: {class: pictures}}."""
    splits = counts.values() if isinstance(counts, dict) else [None]
    return all(isinstance(split, dict) and None not in split.values() and all(map(_is_count, split.values()))
               for split in splits)  # fmt: skip


def _is_sound_metrics(metrics: dict[str, Any]) -> bool:
    """Say whether every figure is a number that it can be, a pair of such, such numbers by name, or missing."""
    for name, value in metrics.items():
        if name == "test_accuracy_interval":
            sound = not value or (
                isinstance(value, list) and len(value) == 2 and all(_is_number(n, 0, 1) for n in value)
            )
        elif name in ("parameters", "seconds"):
            sound = not value or (isinstance(value, dict) and all(_is_number(n, 0) for n in value.values()))
        elif name in ("best_epoch", "epochs", "test_count"):
            sound = _is_count(value)
        else:
            sound = _is_number(value, 0, 1) if name.endswith("accuracy") else _is_number(value)
        if not sound:
            return False
    return True


def _is_number(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Say whether this is a number within these bounds, or missing."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high)


def _is_count(value: Any, least: int = 0) -> bool:
    """Say whether this is a whole number that counts something, or missing."""
    return not isinstance(value, float) and _is_number(value, least, MOST)


def _complete_lines(path: Path) -> list[str]:
    """The lines of a file that end in a newline: a writer killed in mid-line leaves one that does not."""
    try:
        text = path.read_text()
    except OSError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()
