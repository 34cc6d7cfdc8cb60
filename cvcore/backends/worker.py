"""The worker process of a runs folder: it gives each queued run its turn, and notices what died.

    python -m cvcore.backends.worker RUNS_FOLDER

One a folder, however many are started. It trains nothing itself: its engine does, in processes of their own, so that
memory comes back, the GPU's included, and no run takes the worker down. It knows nothing that is not in the run
directories: killed and started again, it goes on where it was. It ends when there is nothing to do for a while.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from cvcore import settings, trash, waiting_line
from cvcore.backends import chosen, watchdog
from cvcore.backends.interface import Ended, Engine
from cvcore.backends.worker_process import is_gone, needed
from cvcore.errors import CvcoreError
from cvcore.locks import try_lock, waiting_at_most
from cvcore.processes import on_this_computer, this_process
from cvcore.run_directory import STOP_FILE, Run, list_runs, worker_lock
from cvcore.run_writer import RunWriter, remove_unfinished, take_turn

ROUND = 0.5  # seconds between two rounds
ASIDE = 20.0  # seconds in which a run that cannot be written or started is left alone
LOCKED = 2.0  # seconds in a row that the worker waits for a run that somebody else keeps locked
HUNG_AFTER = 600.0  # seconds of silence after which a process of this machine is ended
DEAF_AFTER = 120.0  # the same, for a run that was asked to stop


def serve(folder: Path, engine: Engine | None = None, *, idle: float | None = None) -> bool:
    """Serve a runs folder until there has been nothing to do for a while.

    Args:
        folder: the runs folder.
        engine: what trains; default that of the chosen backend.
        idle: seconds with nothing to do after which it ends, default `settings.worker_idle()`; infinity to stay.

    Returns:
        False, at once, where another worker serves the folder.

    Raises:
        CvcoreError: the folder cannot be written.
    """
    idle = settings.worker_idle() if idle is None else idle
    while True:
        with _only_worker(folder) as alone:
            if not alone:
                return False
            _purge(folder)
            Worker(folder, engine or chosen().engine(folder)).work(idle)
        # A run queued after the last look but before the lock was free found a living worker and started none.
        if not needed(list_runs(folder)):
            return True


class Worker:
    """Scheduler and watchdog of one runs folder."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self._aside: dict[str, float] = {}  # run id -> when it is tried again, by the monotonic clock
        self._ended: list[Ended] = []  # processes about whose runs nothing could be written yet
        self._adopted: set[str] = set()
        self._asked: set[tuple[str, int]] = set()
        self._said: dict[str, str] = {}  # run id -> the traceback last printed
        self._ended_here: dict[tuple[str, int], str] = {}  # run id, attempt -> why this worker ended its process
        self._pulse = watchdog.Pulse()
        self._hung, self._deaf = watchdog.Pulse(HUNG_AFTER), watchdog.Pulse(DEAF_AFTER)

    def work(self, idle: float) -> None:
        """Do a round every now and then until there has been nothing to do for `idle` seconds."""
        last = time.monotonic()
        while True:
            if self.round():
                last = time.monotonic()
            elif time.monotonic() - last >= idle:
                return
            time.sleep(ROUND)

    def round(self) -> bool:
        """Do what is to be done now; say whether there is anything to wait for."""
        with waiting_at_most(LOCKED):
            return self._round()

    def _round(self) -> bool:
        with self._excused(""):
            self._ended += [self._explained(gone) for gone in self.engine.ended()]
        runs = list_runs(self.folder)  # 8 ms with 1,000 of them
        self._adopt(runs)
        if self._settle(runs):
            runs = list_runs(self.folder)
        self._pass_stops_on(runs)
        self._fill_slots(runs)
        return bool(self.engine.busy()) or bool(self._ended) or needed(runs)

    def _adopt(self, runs: list[Run]) -> None:
        """Watch what trains already: processes that a worker before this one started."""
        running = {run.id for run in runs if trains(run)}
        self._adopted &= running
        for run in runs:
            if run.id in running - self._adopted - self.engine.busy():
                with self._excused(run.id):
                    self.engine.adopt(run)
                    self._adopted.add(run.id)

    def _settle(self, runs: list[Run]) -> bool:
        """Decide about the runs whose processes are gone; say whether there were any."""
        busy, ended = self.engine.busy(), {gone.run_id for gone in self._ended}
        self._ended += [Ended(run.id, run.attempt) for run in runs
                        if is_gone(run) and not is_elsewhere(run) and run.id not in busy | ended]  # fmt: skip
        self._listen(runs)
        self._end_silent(runs)
        due = [gone for gone in self._ended if not self._is_aside(gone.run_id)]
        for gone in due:
            with self._excused(gone.run_id):
                watchdog.settle(self.folder, gone)
                self._ended.remove(gone)
        return bool(due)

    def _listen(self, runs: list[Run]) -> None:
        """Take runs on other machines that have been silent for too long to be gone."""
        known = {gone.run_id for gone in self._ended}
        elsewhere = [run for run in runs if is_elsewhere(run) and run.id not in known]
        self._pulse.forget_all_but({run.id for run in elsewhere})
        for run in elsewhere:
            silent = False
            with self._excused(run.id):
                silent = self._pulse.silent(run) and not self.engine.vouches_for(run)
            if silent:
                with self._excused(run.id):
                    self.engine.kill(run)
                sentence = f"Its training process has given no sign of life for {self._pulse.silent_after:.0f} seconds."
                self._ended.append(Ended(run.id, run.attempt, sentence))

    def _end_silent(self, runs: list[Run]) -> None:
        """End the processes of this machine that hang; the engine tells when they are gone."""
        here = [run for run in runs if run.backend == "local" and run.id in self.engine.busy()]
        asked = [run for run in here if (run.path / STOP_FILE).exists()]
        for pulse, heard in ((self._hung, here), (self._deaf, asked)):
            pulse.forget_all_but({run.id for run in heard})
            for run in heard:
                with self._excused(run.id):
                    if pulse.silent(run):
                        self._ended_here[run.id, run.attempt] = (
                            f"Its training process gave no sign of life for {pulse.silent_after:.0f} seconds and was "
                            "ended."
                        )
                        self.engine.kill(run)

    def _explained(self, gone: Ended) -> Ended:
        """Say of a process that this worker has ended why it did so."""
        reason = self._ended_here.pop((gone.run_id, gone.attempt), None)
        return gone if reason is None else replace(gone, reason=reason, again=True)

    def _pass_stops_on(self, runs: list[Run]) -> None:
        asked = {(run.id, run.attempt): run for run in runs
                 if run.id in self.engine.busy() and (run.path / STOP_FILE).exists()}  # fmt: skip
        self._asked &= set(asked)
        for key in asked.keys() - self._asked:
            with self._excused(key[0]):
                self.engine.stop(asked[key])
                self._asked.add(key)

    def _fill_slots(self, runs: list[Run]) -> None:
        """Start queued runs in fair order while slots are free; the first one waits for memory, nobody overtakes it."""
        running = {run.id for run in runs if trains(run)}
        while len(self.engine.busy() | running) < self.engine.slots():
            line = [run for run in waiting_line.in_order(runs)
                    if run.id not in self.engine.busy() and not self._is_aside(run.id)]  # fmt: skip
            if not line:
                return
            with self._excused(line[0].id):
                if not self.engine.room_for(line[0]):
                    return
                self._start(line[0])
            runs = list_runs(self.folder)  # whose turn is next goes by whose turn it has just been

    def _start(self, run: Run) -> None:
        if run.backend != self.engine.name:  # the settings have changed since it was launched
            RunWriter(run.path, run.attempt).update(backend=self.engine.name)
        self.engine.start(take_turn(run))

    @contextmanager
    def _excused(self, run_id: str) -> Iterator[None]:
        """Let one run's trouble, such as a full disk, be that run's: it is left alone for a while, the others go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  (what one odd file leads to must not end the worker, nor the next)
            if not self._is_aside(run_id):  # once a while
                self._say(run_id, error)
            self._aside[run_id] = time.monotonic() + ASIDE

    def _say(self, run_id: str, error: Exception) -> None:
        text = f"{run_id or self.engine.name}: {error}"
        if not isinstance(error, CvcoreError | OSError):
            text = f"{run_id or self.engine.name}: {''.join(traceback.format_exception(error))}"
            if self._said.get(run_id) == text:  # the log would grow for as long as the file is odd
                return
            self._said[run_id] = text
        print(text, file=sys.stderr, flush=True)

    def _is_aside(self, run_id: str) -> bool:
        return time.monotonic() < self._aside.get(run_id, 0.0)


def trains(run: Run) -> bool:
    """Say whether a run takes a slot: its process lives, or is on another machine and has not been found silent."""
    return run.backend is not None and (run.status == "running" or is_elsewhere(run))


def is_elsewhere(run: Run) -> bool:
    """Say whether a run that has not ended trains on another machine, as far as is known.

    Whether it reads as running or interrupted says little: that goes by the times of its files, and so by two clocks.
    """
    if run.backend is None or run.info.get("status") != "running" or run.process is None:
        return False
    return not on_this_computer(run.process)


def _purge(folder: Path) -> None:
    try:
        remove_unfinished(folder)
        with waiting_at_most(LOCKED):
            trash.purge(folder)
    except Exception:  # noqa: BLE001  (nothing that lies in the trash may keep the runs from being trained)
        print(f"the trash could not be emptied: {traceback.format_exc()}", file=sys.stderr, flush=True)


@contextmanager
def _only_worker(folder: Path) -> Iterator[bool]:
    try:
        descriptor = os.open(worker_lock(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CvcoreError(f"the runs folder cannot be served ({error.strerror or error}): {folder}; make room in it or "
                          "give access to it, then start a worker again") from error  # fmt: skip
    try:
        if alone := _locked(descriptor):
            with suppress(OSError):  # on a full disk: it only says who has, or had, the lock
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(this_process()).encode(), 0)
        yield alone
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    for _ in range(10):  # somebody who only looks whether a worker lives holds the lock for a moment
        if try_lock(descriptor):
            return True
        time.sleep(0.05)
    return False


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]))
    except CvcoreError as error:
        sys.exit(str(error))
