"""Runs through the store, seen from the machine of the runs folder: out they go, and back comes what they write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cvcore.attempt_writer import RunWriter, disk_errors_as_sentences
from cvcore.backends.store import (
    HALF_FETCHED,
    SENT,
    STOP,
    DamagedInStore,
    Store,
    attempt_folder,
    entry,
    file_sha256,
    large_entry,
    temporary_beside,
)
from cvcore.backends.store_inputs import send_pictures, send_weights
from cvcore.errors import CvcoreError, SupersededAttempt
from cvcore.files import replace_json
from cvcore.run_checks import is_sound, is_sound_metrics
from cvcore.run_directory import HEARTBEAT_FILE, STATE_FILE, STOP_FILE, Run, load_run

SMALL_FILES = ("run.json", "code.py", "history.csv", "metrics.json", "log.txt")
PASSING = (STOP_FILE, HEARTBEAT_FILE, "progress.json", STATE_FILE)  # gone from a run that has ended, or may be
# What the machine that trains says about a run; everything else in run.json is this machine's to say.
THEIRS = ("status", "process", "device", "timings", "work", "peak_memory", "error", "versions", "weights")
STATUSES = ("running", "done", "stopped", "failed")


class RunsThroughStore:
    """What the worker of a runs folder does with its store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._here: dict[tuple[str, int], dict[str, str]] = {}  # names and hashes of what was fetched

    def send(self, run: Run) -> None:
        """Send what a queued run's current attempt needs, once.

        Raises:
            StoreTrouble: one sentence; nothing has begun.
            CvcoreError: something of it is not on this machine any more.
        """
        folder = attempt_folder(run.id, run.attempt)
        if self.store.document(f"{folder}/{SENT}") is not None:  # by a worker before this one
            return
        if run.attempt > 1:  # whatever still trains the attempt before wastes its time
            self.store.write(f"{attempt_folder(run.id, run.attempt - 1)}/{STOP}", b"")
        needs = {"dataset": send_pictures(self.store, run), "weights": send_weights(self.store, run),
                 "from_run": self._send_finished(run)}  # fmt: skip
        files = {}
        with disk_errors_as_sentences(run.path):
            for name in SMALL_FILES:
                if (run.path / name).is_file():
                    data = (run.path / name).read_bytes()
                    self.store.write(f"{folder}/{name}", data)
                    files[name] = entry(data, name)
            files |= self._send_state(run, folder)
        self.store.write_index(folder, files)
        self.store.write(f"{folder}/{SENT}", json.dumps(needs).encode())

    def _send_state(self, run: Run, folder: str) -> dict[str, dict[str, Any]]:
        """Send what the attempt goes on from; within the store where it is there already."""
        state = run.path / STATE_FILE
        earlier = attempt_folder(run.id, run.attempt - 1)
        known: dict[str, Any] | None = None
        if run.attempt > 1:
            with suppress(DamagedInStore):
                known = (self.store.index(earlier) or {}).get(STATE_FILE)
        if state.is_file():
            about = large_entry(state, STATE_FILE)
            if known is None or known["sha256"] != about["sha256"]:
                self.store.put(state, f"{folder}/{about['object']}")
                return {STATE_FILE: about}
            known = about
        if known is None or not self.store.copy(f"{earlier}/{known['object']}", f"{folder}/{known['object']}"):
            return {}
        return {STATE_FILE: known}

    def _send_finished(self, run: Run) -> str | None:
        """Send the run whose model this one continues."""
        if (source := run.info.get("from_run")) is None:
            return None
        continued = load_run(source, run.path.parent)
        folder = f"runs/{source}/done"
        if self.store.index(folder) is None:
            files = {}
            for name in ("run.json", "metrics.json", "model.keras"):
                path = continued.path / name
                if not path.is_file():
                    raise CvcoreError(f"run {source}, which this one continues, has no {name} any more; train it again")
                files[name] = large_entry(path, name)
                self.store.put(path, f"{folder}/{files[name]['object']}")
            self.store.write_index(folder, files)
        return str(source)

    def ask_to_stop(self, run: Run) -> None:
        """Pass a request to stop on to the machine that trains the run."""
        self.store.write(f"{attempt_folder(run.id, run.attempt)}/{STOP}", b"")

    def fetch(self, run: Run, over: bool = False) -> bool:
        """Bring back what a run has written since this was last asked, each file whole, run.json last.

        Args:
            run: as read; once the run directory has a newer attempt, nothing is taken over any more.
            over: the run's process has ended: fetch the state to go on from, too.

        Returns:
            Whether all of it is here now; False where a file was being replaced there.

        Raises:
            SupersededAttempt: the run directory has a newer attempt, or is gone.
            StoreTrouble, DamagedInStore: one sentence; the run directory is sound.
        """
        folder = attempt_folder(run.id, run.attempt)
        files = self.store.index(folder)
        if files is None:
            return True
        writer = RunWriter(run.path, run.attempt)
        if (run.id, run.attempt) not in self._here:
            self._here[run.id, run.attempt] = {}
            for left_behind in run.path.glob(f"{HALF_FETCHED}*"):  # by a worker killed meanwhile
                left_behind.unlink(missing_ok=True)
        here = self._here[run.id, run.attempt]
        whole = True
        names = [name for name in files if here.get(name) != files[name]["sha256"]]
        for name in sorted(names, key=lambda name: (name == "run.json", files[name]["bytes"])):
            if name == STATE_FILE and not over:
                continue
            if name == "run.json" and not whole:
                break
            taken = self._fetch_file(writer, folder, name, files[name], over)
            whole = whole and taken
            if taken:
                here[name] = files[name]["sha256"]
        if whole and over:
            self._tidy(writer, files)
            self._here.pop((run.id, run.attempt), None)
        return whole

    def remove(self, run: Run) -> None:
        """Remove a finished run from the store: its run directory has everything."""
        for attempt in range(1, run.attempt + 1):
            self.store.remove(attempt_folder(run.id, attempt))

    def _fetch_file(self, writer: RunWriter, folder: str, name: str, about: dict[str, Any], over: bool) -> bool:
        target = writer.path / name
        with disk_errors_as_sentences(writer.path):
            if target.is_file() and target.stat().st_size == about["bytes"] and file_sha256(target) == about["sha256"]:
                return True
            if not writer.path.is_dir():
                raise SupersededAttempt(f"run {writer.path.name} is not there any more")
            temporary = temporary_beside(writer.path)
            try:
                if not self.store.fetch_checked(f"{folder}/{about['object']}", temporary, about["bytes"],
                                                about["sha256"]):  # fmt: skip
                    return False
                if name == "run.json":
                    return _take_over(writer, temporary, over)
                if name == "metrics.json" and not is_sound_metrics(_json(temporary)):
                    raise DamagedInStore(f"{folder}/{name} in the store has figures that no run has; it is not taken "
                                         "over")  # fmt: skip
                temporary.chmod(0o644)
                with _training(writer):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    temporary.replace(target)
                return True
            finally:
                temporary.unlink(missing_ok=True)

    def _tidy(self, writer: RunWriter, files: dict[str, Any]) -> None:
        """Remove what a run that has ended does not have any more."""
        with writer.holding() as info:
            if info["status"] in ("done", "stopped", "failed"):
                for name in PASSING:
                    if name not in files:
                        (writer.path / name).unlink(missing_ok=True)


def _take_over(writer: RunWriter, fetched: Path, over: bool) -> bool:
    """Take what the training machine says of a run into this machine's run.json; that it has ended only as the last."""
    said = _json(fetched)
    if said.get("attempt") != writer.attempt or said.get("status") not in STATUSES:
        return True  # as it was sent: nobody has begun
    if said["status"] != "running" and not over:
        return False
    theirs = {name: said[name] for name in THEIRS if name in said}
    with _training(writer) as info:
        if not is_sound({**info, **theirs}):
            raise DamagedInStore(f"the run.json of {writer.path.name} in the store has values that no run has; it is "
                                 "not taken over")  # fmt: skip
        replace_json(writer.path / "run.json", {**info, **theirs})
    return True


@contextmanager
def _training(writer: RunWriter) -> Iterator[dict[str, Any]]:
    """Hold a run that is still waited for; yields its run.json.

    Raises:
        SupersededAttempt: it has a newer attempt, or was given up meanwhile.
    """
    with writer.holding() as info:
        if info["status"] not in ("queued", "running"):
            raise SupersededAttempt(f"run {writer.path.name} is {info['status']}; nothing more is taken from the store")
        yield info


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}
