"""What becomes of a run: created, queued again, started, given up, renamed. Each is one change of its run.json."""

from __future__ import annotations

import errno
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from cvcore.attempt_writer import RunWriter, disk_errors_as_sentences, run_locked
from cvcore.errors import CvcoreError, SupersededAttempt
from cvcore.files import replace_json, replace_text
from cvcore.processes import this_process
from cvcore.recipe import Recipe
from cvcore.run_checks import checked_name
from cvcore.run_directory import (
    HEARTBEAT_FILE,
    REQUEUES,
    RESUMABLE,
    SCHEMA,
    STOP_FILE,
    Run,
    load_run,
)
from cvcore.settings import runs_folder
from cvcore.waiting_line import is_placed, next_turn

__all__ = [
    "RunWriter", "create_run", "disk_errors_as_sentences", "give_up", "remove_unfinished", "rename_run", "requeue",
    "start_attempt", "take_turn",
]  # fmt: skip
BEING_MADE = ".new-"  # begins the name of a run directory that is not whole yet


def create_run(
    recipe: Recipe,
    dataset: dict[str, Any],
    seed: int,
    *,
    folder: Path | None = None,
    from_run: str | None = None,
    weights: dict[str, Any] | None = None,
    status: str = "queued",
    owner: str | None = None,
    backend: str | None = None,
    ticket: int | None = None,
    estimate: dict[str, Any] | None = None,
    group: dict[str, Any] | None = None,
    name: str | None = None,
    code: Callable[[dict[str, Any]], str] | None = None,
) -> Run:
    """Create a run directory, which nobody sees before it is whole.

    Args:
        recipe: the whole recipe, written into run.json.
        dataset: `Dataset.summary()`.
        seed: decides initial weights, order, augmentation and dropout; 0 to 2**31 - 1.
        folder: where run directories are; default `settings.runs_folder()`.
        from_run: id of the run whose model a finetune recipe continues.
        weights: name, sha256 and bytes of a local weights file, or None.
        status: `queued`, or `running` when this process is about to train it.
        owner: whose run it is; None from a terminal.
        backend: the backend that trains it, `local` or `ray`; None for this process.
        ticket: its place in the line, from `waiting_line.next_ticket`; None for one that does not wait.
        estimate: what it is expected to take: {seconds, memory_mb, basis}, or None.
        group: the sweep it belongs to: {id, title, seeds, train_pictures}, or None.
        name: what its owner calls it, or None.
        code: makes the text of code.py of what stands in run.json; None leaves that file out.

    Raises:
        CvcoreError: the seed is out of range, the name is none, or the folder cannot be written.
    """
    if not 0 <= seed < 2**31:
        raise CvcoreError(f"seed must be between 0 and {2**31 - 1}; received {seed}")
    folder = folder or runs_folder()
    info = {
        "schema": SCHEMA,
        "run": "",
        "name": checked_name(name),
        "status": status,
        "recipe": recipe.model_dump(mode="json"),
        "dataset": dataset,
        "seed": seed,
        "from_run": from_run,
        "weights": weights,
        "group": group,
        "owner": owner,
        "backend": backend,
        "ticket": ticket,
        "turn": None,
        "placed": None,
        "attempt": 1,
        "requeues": 0,
        "process": this_process() if status == "running" else None,
        "estimate": estimate,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "device": None,
        "timings": {},
        "peak_memory": None,
        "error": None,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=BEING_MADE, dir=folder))  # no reader looks into a hidden folder
        try:
            while True:
                run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{recipe.id}-{secrets.token_hex(2)}"
                info["run"] = run_id
                replace_json(making / "run.json", info)
                if code is not None:
                    replace_text(making / "code.py", code(info))
                making.chmod(0o755)  # mkdtemp makes it private to this user
                try:
                    making.rename(folder / run_id)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                        raise
                    continue  # of a class that launches one recipe in one second, two may have drawn the same number
                return load_run(run_id, folder)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    except OSError as error:
        raise CvcoreError(f"the run could not be written ({error.strerror or error}); make room in or give access to "
                          "the runs folder, then launch it again") from error  # fmt: skip


def remove_unfinished(folder: Path, older_than: float = 86400.0) -> None:
    """Remove what a launcher that was killed left of a run it was making, when it is older than so many seconds."""
    for path in folder.glob(f"{BEING_MADE}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > older_than:
                shutil.rmtree(path)


def requeue(run: Run, by_watchdog: bool = False, *, ticket: int | None = None, backend: str | None = None) -> Run:
    """Queue a run again; its attempt is raised at once, so that whatever still trains it writes no more.

    Args:
        run: as read; the watchdog's judgement holds only for the attempt that it has read.
        by_watchdog: False for a person, who may queue a stopped, failed or interrupted run; True for the watchdog,
            which may queue one that stands as queued or running in its run.json, REQUEUES times.
        ticket: a new place in the line; None keeps the one it had.
        backend: who trains it now; None leaves that as it was.

    Returns:
        The run as it is now.

    Raises:
        SupersededAttempt: the watchdog's run has gone on to another attempt or has ended meanwhile.
        CvcoreError: its status does not allow it, or the disk is full or not writable.
    """
    with _changing(run) as change:
        now = change.now
        if by_watchdog:
            _check_still(now, run.attempt)
            if now.requeues >= REQUEUES:
                raise CvcoreError(f"a run goes back into the line by itself at most {REQUEUES} times; {run.id} has "
                                  "done so already")  # fmt: skip
        elif now.status not in RESUMABLE:
            raise CvcoreError(f"only a stopped, failed or interrupted run can be resumed; {run.id} is {now.status}")
        change.fields |= {"status": "queued", "process": None, "owner": now.owner, "job": None, "error": None}
        change.fields |= {"attempt": now.attempt + 1, "requeues": now.requeues + 1 if by_watchdog else 0}
        change.fields |= {"ticket": ticket} if ticket is not None else {}
        change.fields |= {"backend": backend} if backend is not None else {}
        # A request to stop holds for the attempts that nobody asked for, too.
        change.removes = [HEARTBEAT_FILE] if by_watchdog else [HEARTBEAT_FILE, STOP_FILE]
    return load_run(run.id, run.path.parent)


def take_turn(run: Run, attempt: int | None = None) -> Run:
    """Note that a queued run's turn has come; whoever places it into a slot does so.

    It gets a new turn when somebody queued it, and keeps the one it had when it goes on by itself. `placed` says for
    which attempt that was, so that a worker that takes over here gives the slot to no other run.

    Args:
        run: as read.
        attempt: the attempt that is meant; default the one that was read.

    Raises:
        SupersededAttempt: the run has gone on to another attempt, or has ended.
        CvcoreError: the disk is full or not writable.
    """
    number = attempt or run.attempt
    if run.turn is not None and is_placed(run) and run.attempt == number:
        return run
    turn = next_turn(run.path.parent)
    with _changing(run) as change:
        _check_still(change.now, number)
        change.fields |= {"turn": _turn(change.now) or turn, "placed": number}
    return load_run(run.id, run.path.parent)


def _turn(run: Run, by_itself: bool = False) -> int | None:
    """Return the turn that a run keeps when it starts, None for one that has none yet or that somebody queued again."""
    return run.turn if by_itself or is_placed(run) or run.requeues else None


def start_attempt(run: Run, attempt: int | None = None) -> RunWriter:
    """Take a run over in this process: status `running`, this process as the one that trains it.

    Args:
        run: as read.
        attempt: the attempt that a backend has started this process for; None for a run trained in the process that
            asked for it, which takes it out of its backend's care.

    Raises:
        SupersededAttempt: the attempt asked for is over, or another process has taken it.
        CvcoreError: another living process is running it, it is done, or it cannot be written.
    """
    by_itself = attempt is None  # it takes no slot of the line's
    turn = _turn(run, by_itself) or next_turn(run.path.parent)
    with _changing(run) as change:
        now, number = change.now, attempt or change.now.attempt
        if attempt is None:
            number += 0 if _is_first(now) else 1
            change.fields |= {"backend": None, "attempt": number}
            if now.status in RESUMABLE:  # a request made while it was queued is meant for this attempt
                change.removes = [STOP_FILE]
        else:
            _check_still(now, attempt, "queued")
            if now.status != "queued":
                raise SupersededAttempt(f"run {now.id} was stopped before attempt {attempt} began")
        change.fields |= {"process": this_process(), "owner": now.owner, "status": "running", "error": None}
        change.fields |= {"turn": _turn(now, by_itself) or turn, "versions": _versions()}
        # Left behind by a process that was killed while it replaced a file.
        change.removes += [path.name for path in run.path.glob(".*.tmp*")]
    return RunWriter(run.path, number, change.fields["process"])


def give_up(run: Run, attempt: int, status: str, sentence: str) -> bool:
    """Write the final status of a run whose process is gone.

    Args:
        run: as read.
        attempt: the one whose process is gone.
        status: failed, interrupted or stopped.
        sentence: why.

    Returns:
        False, and nothing was written, when the run has gone on to another attempt or has ended meanwhile.

    Raises:
        CvcoreError: the disk is full or not writable.
    """
    try:
        with _changing(run) as change:
            _check_still(change.now, attempt)
            change.fields |= {"status": status, "error": sentence, "process": None, "owner": change.now.owner}
            change.removes = [STOP_FILE, HEARTBEAT_FILE]
            change.log = f"{status}: {sentence}"
    except SupersededAttempt:
        return False
    return True


def rename_run(run: Run, name: str | None) -> Run:
    """Change what a run is called; its id stays.

    Args:
        run: not a reference run.
        name: 1 to `run_checks.LONGEST_NAME` printable characters on one line; None or "" takes the name away.

    Raises:
        CvcoreError: the name breaks that rule, the run ships with the project, or it cannot be written.
    """
    with _changing(run, "rename") as change:
        if change.now.reference:
            raise CvcoreError(f"{run.id} is a reference run that ships with the project and is not renamed here")
        change.fields["name"] = checked_name(name)
    return load_run(run.id, run.path.parent)


@dataclass
class _Change:
    """What is to become of a run, which is locked and reads as `now`: fields of run.json, files to remove, a line."""

    now: Run
    fields: dict[str, Any] = field(default_factory=dict)
    removes: list[str] = field(default_factory=list)
    log: str | None = None


@contextmanager
def _changing(run: Run, what: str = "resume") -> Iterator[_Change]:
    """Lock a run, yield the change to fill in, and make it; on an error everything is as before."""
    with disk_errors_as_sentences(run.path, what), run_locked(run.path):
        change = _Change(load_run(run.id, run.path.parent))
        yield change
        replace_json(run.path / "run.json", {**change.now.info, **change.fields})
        for name in change.removes:
            (run.path / name).unlink(missing_ok=True)
        if change.log is not None:
            with suppress(OSError):
                RunWriter(run.path, change.now.attempt).append_log(change.log)


def _check_still(now: Run, attempt: int, *statuses: str) -> None:
    """Check that a run is still at this attempt, and queued or running as its run.json says."""
    stored = now.info["status"]
    if now.attempt != attempt or stored not in (statuses or ("queued", "running")):
        raise SupersededAttempt(f"attempt {attempt} of run {now.id} is over or taken: it is {stored} now, at attempt "
                                f"{now.attempt}")  # fmt: skip


def _is_first(now: Run) -> bool:
    """Say whether a run that this process takes over by itself has its attempt still before it."""
    if now.status == "running":
        if now.process != this_process():
            raise CvcoreError(f"run {now.id} is still running; stop it before resuming")
        return not (now.path / "log.txt").exists()
    if now.status not in ("queued", *RESUMABLE):
        raise CvcoreError(f"only a queued, stopped, failed or interrupted run can be started; {now.id} is {now.status}")
    return now.status == "queued"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in ("keras", "tensorflow", "tensorflow-cpu", "numpy", "pillow"):
        with suppress(metadata.PackageNotFoundError):
            versions[name.removesuffix("-cpu")] = metadata.version(name)
    return versions
