"""What becomes of a run whose training process is gone: back into the line, or given up with a sentence."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cvcore.backends.interface import Ended
from cvcore.errors import RunDamaged, RunNotFound, SupersededAttempt
from cvcore.processes import on_this_computer, process_alive
from cvcore.run_directory import HEARTBEAT_FILE, REQUEUES, SILENT_AFTER, STOP_FILE, Run, load_run
from cvcore.run_writer import give_up, requeue

LONGEST_ROUND = 5.0  # seconds of silence that one look adds at most


def settle(folder: Path, ended: Ended) -> None:
    """Decide about a run whose training process is gone.

    A run that has its final status, or another attempt, or another process of this machine that lives (of a worker that
    was killed: its child was quicker than ours), is left as it is. One that was asked to stop has stopped. One
    that would only fail again has failed; any other goes back into the line, REQUEUES times at most.

    Raises:
        CvcoreError: the run cannot be written; nothing has changed.
    """
    try:
        run = load_run(ended.run_id, folder)
    except (RunNotFound, RunDamaged):  # deleted, or nothing that anybody could decide about
        return
    over = run.info["status"] not in ("queued", "running") or run.attempt != ended.attempt
    if over or _lives_here(run):
        return
    began = run.info["status"] == "running"
    if (run.path / STOP_FILE).exists():
        if began:
            give_up(run, run.attempt, "stopped", "Its training process was gone before it could stop by itself; what "
                    "it had is kept up to the last finished epoch.")  # fmt: skip
        return
    reason = ended.reason or ("Its training process is gone." if began else "Its training process did not begin.")
    if not ended.again:
        give_up(run, run.attempt, "failed", reason)
    elif run.requeues < REQUEUES:
        try:
            requeue(run, by_watchdog=True)
        except SupersededAttempt:  # it has gone on meanwhile
            return
        log(run, f"{reason} It goes back into the line.")
    else:
        give_up(run, run.attempt, "interrupted", f"{reason} That was attempt {run.attempt}, and by itself a run goes "
                f"back into the line {REQUEUES} times at most; resume it to go on.")  # fmt: skip


def _lives_here(run: Run) -> bool:
    """Say whether a process of this machine trains a run now; that of a job that Ray has given up is an orphan."""
    return (
        run.backend != "ray"
        and run.process is not None
        and on_this_computer(run.process)
        and process_alive(run.process)
    )


class Pulse:
    """Listens to the heartbeats of runs, by this process' own clock: that of another machine may be wrong.

    Silence is what was listened to, again and again: time in which this process itself stood still is none.
    """

    def __init__(self, silent_after: float = SILENT_AFTER) -> None:
        """Args: silent_after: seconds without a new beat after which a run is taken to be gone."""
        self.silent_after = silent_after
        self._heard: dict[str, tuple[object, float, float]] = {}  # beat, seconds of silence, when last listened to

    def silent(self, run: Run) -> bool:
        """Listen to a running run; say whether it has been silent for too long."""
        beat, now = (run.attempt, _beat(run)), time.monotonic()
        last, silence, listened = self._heard.get(run.id, (None, 0.0, now))
        silence = silence + min(now - listened, LONGEST_ROUND) if beat == last else 0.0
        self._heard[run.id] = (beat, silence, now)
        return silence > self.silent_after

    def forget_all_but(self, ids: set[str]) -> None:
        """Forget runs that are not running any more."""
        self._heard = {run_id: heard for run_id, heard in self._heard.items() if run_id in ids}


def _beat(run: Run) -> object:
    try:
        return json.loads((run.path / HEARTBEAT_FILE).read_text()).get("beat")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def log(run: Run, text: str) -> None:
    """Append a line of the watchdog's to a run's log."""
    with suppress(OSError), (run.path / "log.txt").open("a", encoding="utf-8") as stream:
        stream.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} watchdog: {text}\n")
