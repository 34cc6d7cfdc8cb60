"""The trash of a runs folder: a deleted run is kept there for some days, and can be restored as it was."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cvcore.attempt_writer import disk_errors_as_sentences, run_lock, run_locked
from cvcore.errors import CvcoreError, RunNotFound
from cvcore.files import replace_json
from cvcore.processes import boot_id, seconds_since_boot
from cvcore.run_directory import RUN_ID, SETTLES, Run, list_runs, read_run, run_path
from cvcore.settings import runs_folder

KEPT_DAYS = 7.0
TRASH = ".trash"  # no reader of a runs folder looks into a hidden folder
DELETED_FILE = "deleted.json"
GONE_BEFORE = "Its training process was gone before it was deleted; resume it to go on."
GONE = ".gone-"  # begins the name of a run that is being purged


@dataclass(frozen=True)
class Trashed:
    """A deleted run.

    Attributes:
        id: the run's.
        deleted: when, in UTC; None when that is not known.
        run: as it is read in the trash.
    """

    id: str
    deleted: datetime | None
    run: Run


def delete_run(run: Run, by: str | None = None) -> None:
    """Move a run into the trash, and purge what has been there for too long.

    Args:
        run: not a queued, running or reference one.
        by: who deletes it, to be kept with it.

    Raises:
        CvcoreError: the run is queued or running (stop it first), ships with the project, is in the trash already, or
            cannot be moved; it is then as before.
    """
    there = _trash(run.path.parent) / run.id
    with disk_errors_as_sentences(run.path, "delete"), run_locked(run.path):
        run = read_run(run_path(run.id, run.path.parent))
        if run.status in ("queued", "running"):
            raise CvcoreError(f"a {run.status} run cannot be deleted; stop {run.id} first")
        if run.reference:
            raise CvcoreError(f"{run.id} is a reference run that ships with the project and is not deleted here")
        if there.exists():
            raise CvcoreError(f"the trash holds an earlier copy of {run.id} already; restore or purge that one first")
        there.parent.mkdir(exist_ok=True)
        note = run.path / DELETED_FILE
        undecided = run.status == "interrupted" and run.info["status"] == "running"
        try:
            if undecided:  # else a worker trains it once restored
                gone = {"status": "interrupted", "error": GONE_BEFORE, "process": None, "owner": run.owner}
                replace_json(run.path / "run.json", {**run.info, **gone})
            at = datetime.now(UTC).isoformat(timespec="seconds")
            replace_json(note, {"at": at, "by": by, "boot": boot_id(), "uptime": seconds_since_boot()})
            run.path.rename(there)
        except BaseException:
            with suppress(OSError):
                note.unlink(missing_ok=True)
                if undecided:
                    replace_json(run.path / "run.json", run.info)
            raise
    purge(run.path.parent)


def trashed(folder: Path | None = None) -> list[Trashed]:
    """List the deleted runs of a folder, the last deleted first; default folder `settings.runs_folder()`."""
    paths = _paths(folder or runs_folder())
    found = [Trashed(path.name, _time(_note(path).get("at")), read_run(path)) for path in paths]
    earliest = datetime.min.replace(tzinfo=UTC)
    return sorted(found, key=lambda one: (one.deleted or earliest, one.id), reverse=True)


def restore(run_id: str, folder: Path | None = None) -> Run:
    """Move a deleted run back; it is then as it was.

    Args:
        run_id: its id.
        folder: the runs folder; default `settings.runs_folder()`.

    Raises:
        RunNotFound: there is no such run in the trash.
        CvcoreError: a run with this id is there, or it cannot be moved; it stays in the trash then.
    """
    folder = folder or runs_folder()
    path = folder / run_id
    if not RUN_ID.fullmatch(run_id) or not (_trash(folder) / run_id).is_dir():
        raise RunNotFound(f"no run {run_id[:80]!r} in the trash")
    with disk_errors_as_sentences(path, "restore"), run_locked(path):
        if path.exists():
            raise CvcoreError(f"a run {run_id} is there already; delete it before you restore the one in the trash")
        (_trash(folder) / run_id).rename(path)
        (path / DELETED_FILE).unlink(missing_ok=True)
    return read_run(path)


def purge(folder: Path | None = None, days: float = KEPT_DAYS) -> list[str]:
    """Delete for good what has been in the trash for some days; what cannot be deleted now stays for the next time.

    A clock that was set does not make a run go early: as long as the computer has not been switched off since, its
    own count of seconds has to agree.

    Args:
        folder: the runs folder; default `settings.runs_folder()`.
        days: how long a run is kept.

    Returns:
        The ids of the runs that are gone.
    """
    folder = folder or runs_folder()
    gone = []
    for path in _paths(folder):
        if _age(_note(path)) < timedelta(days=days):
            continue
        with suppress(OSError, CvcoreError), run_locked(folder / path.name):
            shutil.rmtree(path.rename(path.with_name(f"{GONE}{path.name}")))
            gone.append(path.name)
            run_lock(folder / path.name).unlink(missing_ok=True)
    for rest in _trash(folder).glob(f"{GONE}*"):  # of an earlier time that was cut off
        shutil.rmtree(rest, ignore_errors=True)
    return gone


def served(folder: Path) -> dict[str | None, int]:
    """Return the last turn of each owner among the deleted runs of a folder; read anew only when the trash changes."""
    path = _trash(folder)
    try:
        found = path.stat()
    except OSError:
        return {}
    stamp = (found.st_mtime_ns, found.st_ino)
    known = _served.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    turns: dict[str | None, int] = {}
    for run in list_runs(path):
        if run.turn is not None:
            turns[run.owner] = max(turns.get(run.owner, 0), run.turn)
    if abs(time.time() - found.st_mtime) > SETTLES:
        _served[path] = (stamp, turns)
    return turns


_served: dict[Path, tuple[tuple[int, int], dict[str | None, int]]] = {}


def _trash(folder: Path) -> Path:
    return folder / TRASH


def _paths(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in _trash(folder).iterdir() if RUN_ID.fullmatch(path.name) and path.is_dir())
    except OSError:
        return []


def _note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads((path / DELETED_FILE).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _age(note: dict[str, Any]) -> timedelta:
    """Return how long a run has been in the trash at least; nothing when that is not known."""
    deleted, uptime, now = _time(note.get("at")), note.get("uptime"), seconds_since_boot()
    if deleted is None:
        return timedelta(0)
    age = datetime.now(UTC) - deleted
    if note.get("boot") is not None and note["boot"] == boot_id() and isinstance(uptime, int | float) and now:
        with suppress(ValueError, OverflowError):  # no number of seconds that can be
            age = min(age, timedelta(seconds=now - uptime))
    return age
