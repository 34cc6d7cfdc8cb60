"""The one writer of a run: what it writes is whole, and it stops once a newer attempt has taken the run over."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cvcore.errors import CvcoreError, SupersededAttempt
from cvcore.files import replace_json
from cvcore.locks import locked
from cvcore.run_directory import HEARTBEAT_FILE, STATE_FILE, STOP_FILE, process_of
from cvcore.run_history import HISTORY_COLUMNS

PROGRESS_INTERVAL = 0.4  # seconds between two writes of progress.json
BEAT_EVERY = 5.0  # seconds between two writes of heartbeat.json


@contextmanager
def disk_errors_as_sentences(path: Path, what: str = "resume") -> Iterator[None]:
    """Turn an operating system's error about this run's folder into one sentence, which ends in what to do then."""
    try:
        yield
    except OSError as error:
        raise CvcoreError(
            f"the run could not be written ({error.strerror or error}); make room in or give access to the runs "
            f"folder, then {what} {path.name}"
        ) from error


@contextmanager
def run_locked(path: Path) -> Iterator[None]:
    """Keep every other process from changing this run meanwhile; only for as long as a rename or a line takes."""
    with locked(run_lock(path)):
        yield


def run_lock(path: Path) -> Path:
    """Return the lock file of a run: beside the runs, so that a run directory holds nothing but the run."""
    return path.parent / ".locks" / path.name


class RunWriter:
    """The one writer of a run.

    Every write prepares a temporary file; then, with the run locked, it checks that no newer attempt has taken over,
    and renames the file. `start_attempt` makes writers.
    """

    def __init__(self, path: Path, attempt: int, process: dict[str, Any] | None = None) -> None:
        self.path = path
        self.attempt = attempt
        self.process = process
        self._last_progress = 0.0
        self._beating = False

    def check_attempt(self) -> dict[str, Any]:
        """Return run.json as it is now.

        Raises:
            SupersededAttempt: a newer attempt, or another process with the same number, has taken over, or the run was
                deleted.
        """
        try:
            info = json.loads((self.path / "run.json").read_text())
            attempt = info["attempt"]
        except FileNotFoundError:
            raise SupersededAttempt(f"run {self.path.name} is not there any more; attempt {self.attempt} writes no "
                                    "more") from None  # fmt: skip
        except (ValueError, KeyError, TypeError):
            raise CvcoreError(f"the run.json of {self.path.name} cannot be read any more; restore it, then resume the "
                              "run") from None  # fmt: skip
        if attempt != self.attempt:
            raise SupersededAttempt(f"attempt {attempt} of run {self.path.name} has taken over from "
                                    f"attempt {self.attempt}, which writes no more")  # fmt: skip
        if self.process and process_of(info) != self.process:
            raise SupersededAttempt(f"attempt {self.attempt} of run {self.path.name} is no longer this process's; it "
                                    "writes no more")  # fmt: skip
        return info

    @contextmanager
    def holding(self) -> Iterator[dict[str, Any]]:
        """Keep the run to this attempt meanwhile, for files that others write on its behalf; yields run.json.

        Raises:
            SupersededAttempt: as for `check_attempt`.
            CvcoreError: the disk is full, or the folder is not writable.
        """
        with disk_errors_as_sentences(self.path), run_locked(self.path):
            yield self.check_attempt()

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Replace a file of the run whole: yields the temporary path to write, which then takes the file's place.

        Args:
            name: of the file; the temporary one has the same ending.

        Raises:
            SupersededAttempt: as for `check_attempt`; the file is as before.
            CvcoreError: the disk is full, or the folder is not writable; the file is as before.
        """
        stem, ending = os.path.splitext(name)  # noqa: PTH122
        temporary = self.path / f".{stem}.{secrets.token_hex(4)}.tmp{ending}"
        try:
            with disk_errors_as_sentences(self.path):
                yield temporary
                with temporary.open("rb+") as written:
                    os.fsync(written.fileno())
                with run_locked(self.path):
                    self.check_attempt()
                    temporary.replace(self.path / name)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def update(self, **fields: Any) -> None:
        """Replace some fields of run.json."""
        with self.holding() as info:
            replace_json(self.path / "run.json", {**info, **fields})

    def replace_history(self, rows: list[dict[str, Any]]) -> None:
        """Replace history.csv whole, as when an attempt begins."""
        lines = [",".join(HISTORY_COLUMNS), *map(_history_line, rows)]
        self.text("history.csv", "\n".join(lines) + "\n")

    def append_history(self, row: dict[str, Any]) -> None:
        """Append one finished epoch to history.csv; a line for which there is no room leaves nothing of itself."""
        with self.holding(), (self.path / "history.csv").open("ab", buffering=0) as stream:
            before = stream.tell()
            line = (_history_line(row) + "\n").encode()
            try:
                if stream.write(line) != len(line):
                    raise OSError(28, os.strerror(28))
            except OSError:
                stream.truncate(before)
                raise

    def progress(self, document: dict[str, Any], *, now: bool = False) -> None:
        """Replace progress.json, at most every PROGRESS_INTERVAL seconds unless `now`."""
        if now or time.monotonic() - self._last_progress >= PROGRESS_INTERVAL:
            self._last_progress = time.monotonic()
            self.document("progress.json", document)

    def document(self, name: str, content: dict[str, Any]) -> None:
        """Replace one JSON file of the run."""
        self.text(name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def text(self, name: str, content: str) -> None:
        """Replace one text file of the run."""
        with self.replacing(name) as temporary:
            temporary.write_text(content, encoding="utf-8")

    def log(self, text: str) -> None:
        """Append to log.txt, with the time in UTC and the attempt; a superseded writer and a full disk leave it out."""
        with suppress(CvcoreError), self.holding():
            self.append_log(text)

    def append_log(self, text: str) -> None:
        """Append to log.txt as `log` does, for those who hold the run already."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} attempt {self.attempt}: {text}\n")

    def stop_requested(self) -> bool:
        """Say whether somebody asked this run to stop."""
        return (self.path / STOP_FILE).exists()

    def finish(self, status: str, error: str | None = None, **fields: Any) -> None:
        """Write the final status and give the run up: nothing is written by this attempt any more."""
        with self.holding() as info:
            final = {**info, **fields, "status": status, "error": error, "process": None}
            replace_json(self.path / "run.json", final)
            with suppress(OSError):
                self.append_log(status + (f": {error}" if error else ""))
            left = (STOP_FILE, HEARTBEAT_FILE, *(("progress.json", STATE_FILE) if status == "done" else ()))
            for name in left:
                (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Show that this process lives: replace heartbeat.json every BEAT_EVERY seconds in a thread, until the end.

        Within another one it does nothing. A superseded writer's heart stops by itself; one for which there is no room
        tries again at its next beat.
        """
        if self._beating:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), name=f"heartbeat of {self.path.name}", daemon=True)
        self._beating = True
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._beating = False
            with suppress(CvcoreError, OSError), self.holding():
                (self.path / HEARTBEAT_FILE).unlink(missing_ok=True)

    def _beat(self, ended: threading.Event) -> None:
        beat = 0
        while True:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            try:
                self.document(HEARTBEAT_FILE, {"attempt": self.attempt, "beat": beat, "at": at})
            except SupersededAttempt:
                return
            except CvcoreError:
                pass
            beat += 1
            if ended.wait(BEAT_EVERY):
                return


def _history_line(row: dict[str, Any]) -> str:
    return ",".join(str(row[name]) for name in HISTORY_COLUMNS)
