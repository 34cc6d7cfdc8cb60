"""Runs trained on this machine: each in a child process of the worker, a slot a GPU, or one on the processor."""

from __future__ import annotations

import functools
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cvcore import devices, settings
from cvcore.backends import memory_kills, priority, worker_process
from cvcore.backends.interface import Capacity, Ended, Status
from cvcore.backends.job import NOT_WRITTEN
from cvcore.errors import CvcoreError
from cvcore.memory import held, memory
from cvcore.processes import on_this_computer, process_alive
from cvcore.run_directory import Run, list_runs, load_run, request_stop, worker_alive

DYING = 10.0  # seconds that a process which the kernel has killed may take to be gone


class LocalBackend:
    """Training processes of this machine, started by the worker of a runs folder."""

    name = "local"

    def submit(self, run: Run) -> None:
        """See that a worker serves the run's folder; where none can be started, `status` says why."""
        with suppress(CvcoreError):
            worker_process.ensure(run.path.parent)

    def stop(self, run: Run) -> None:
        """Ask a queued or running run to stop at its next batch.

        Raises:
            CvcoreError: the run is not queued or running, or the request cannot be written.
        """
        request_stop(load_run(run.id, run.path.parent))

    def status(self, folder: Path | None = None) -> Status:
        """Say on what runs train here."""
        folder = folder or settings.runs_folder()
        slots, device = len(_gpus()), _device()
        how = f"up to {slots} at a time" if slots > 1 else "one at a time"
        return Status(f"Runs train on this computer, {how}, on {device}.", worker_alive(folder),
                      worker_process.problem(folder))  # fmt: skip

    def capacity(self, folder: Path | None = None) -> Capacity:
        """Count the slots of this machine and those that nothing trains in now."""
        running = sum(run.status == "running" and run.backend == self.name for run in list_runs(folder))
        slots = max(1, len(_gpus()))
        return Capacity(slots, max(0, slots - running), "GPU" if _gpus() else "CPU", memory().total, _device())

    def engine(self, folder: Path) -> LocalEngine:
        """Return what starts the child processes of a worker."""
        return LocalEngine(folder)


@functools.cache
def _gpus() -> tuple[str, ...]:
    return tuple(devices.training_gpus())


@functools.cache
def _device() -> str:
    return devices.device_in_words()


@dataclass
class _Child:
    """A training process: one that this worker started, or one that an earlier worker left behind."""

    run_id: str
    attempt: int
    gpu: str | None
    expected_mb: float
    process: subprocess.Popen[bytes] | None = None  # None for one left behind: then `identity` names it
    identity: dict[str, Any] | None = None
    kills_before: int | None = None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else int((self.identity or {}).get("pid", 0))


class LocalEngine:
    """The child processes of one worker."""

    name = "local"

    def __init__(self, folder: Path, gpus: tuple[str, ...] | None = None) -> None:
        """Make an engine that has started nothing yet.

        Args:
            folder: the runs folder.
            gpus: values of CUDA_VISIBLE_DEVICES, a slot each; () for one slot on the processor; default what
                `devices.training_gpus` finds.
        """
        self.folder = folder
        self._gpus = _gpus() if gpus is None else gpus
        self._children: dict[str, _Child] = {}
        self._kills: list[tuple[float, int]] = []  # the kernel's count, as read at these times

    def slots(self) -> int:
        """One a GPU, or one on the processor."""
        return max(1, len(self._gpus))

    def room_for(self, run: Run) -> bool:
        """Say whether the memory a run is expected to take is free, beside what the others will still take."""
        if not self._children:
            return True
        to_come = sum(max(0.0, child.expected_mb - held(child.pid)) for child in self._children.values())
        return _expected_mb(run) + to_come <= memory().free

    def start(self, run: Run) -> None:
        """Start a child process for a queued run, at low priority, its errors going to the run's log.txt."""
        taken = {child.gpu for child in self._children.values()}
        gpu = next((name for name in self._gpus if name not in taken), None)
        path = os.pathsep.join(filter(None, [str(settings.PROJECT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        niceness, kills = settings.training_niceness(), memory_kills.kills()
        with _log(run) as log:
            process = subprocess.Popen(self.command(run), env=environment, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)  # fmt: skip
        priority.lower(process.pid, niceness)
        self._children[run.id] = _Child(run.id, run.attempt, gpu, _expected_mb(run), process, None, kills)

    def command(self, run: Run) -> list[str]:
        """Return the command of the training process for a run's current attempt."""
        return [sys.executable, "-m", "cvcore.backends.job", run.id, str(run.attempt), "--runs", str(self.folder)]

    def adopt(self, run: Run) -> None:
        """Watch a running run whose process an earlier worker of this machine started."""
        process = run.process
        if process is None or not on_this_computer(process) or run.id in self._children:
            return
        gpu = _visible_gpu(int(process["pid"]))
        self._children[run.id] = _Child(run.id, run.attempt, gpu, _expected_mb(run), identity=process)

    def ended(self) -> list[Ended]:
        """Return the children that have ended, each with what the system tells about it."""
        self._count_kills()
        gone = []
        for child in list(self._children.values()):
            if child.process is None:
                if not process_alive(child.identity):
                    gone.append(Ended(child.run_id, child.attempt))
                    del self._children[child.run_id]
            elif (exit_code := _exit_code(child.process)) is not None:
                gone.append(self._why(child, *exit_code))
                del self._children[child.run_id]
        return gone

    def busy(self) -> set[str]:
        """Return the runs whose processes live."""
        return set(self._children)

    def stop(self, run: Run) -> None:
        """Nothing to do: the child sees the request in the run directory."""

    def vouches_for(self, run: Run) -> bool:
        """Never: of a run on another machine it knows nothing."""
        return False

    def kill(self, run: Run) -> None:
        """Kill the process of a run."""
        child = self._children.get(run.id)
        if child is not None and (child.process or process_alive(child.identity)):
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    def _count_kills(self) -> None:
        """Keep the kernel's counts of the last seconds, and the last one before: older kills were of others."""
        now, kills = time.monotonic(), memory_kills.kills() if self._children else None
        if kills is not None:
            self._kills.append((now, kills))
        while len(self._kills) > 1 and self._kills[1][0] < now - DYING:
            del self._kills[0]

    def _why(self, child: _Child, code: int, peak_mb: float | None) -> Ended:
        reason, again = None, True
        if code == -signal.SIGKILL and child.kills_before is not None:
            kills, earlier = memory_kills.kills(), time.monotonic() - DYING
            before = max([child.kills_before, *(count for at, count in self._kills if at < earlier)])
            if kills is not None and kills > before:
                reason, again = _out_of_memory(child, peak_mb), False
        if reason is None and code < 0:
            reason = f"Its training process was ended by {_signal_name(-code)}."
        elif reason is None and code > 0:
            last = worker_process.last_line(self.folder / child.run_id / "log.txt")
            reason = f"Its training process ended with exit code {code}" + (f": {last}" if last else ".")
            again = code == NOT_WRITTEN
        return Ended(child.run_id, child.attempt, reason, again)


def _out_of_memory(child: _Child, peak_mb: float | None) -> str:
    took = f" had taken {peak_mb:,.0f} MB" if peak_mb else " took too much"
    there = f" of the {memory().total:,.0f} MB that there are" if peak_mb else ""
    expected = f" ({child.expected_mb:,.0f} MB were expected)" if child.expected_mb else ""
    return (f"The system ended its training process for want of memory: it{took}{there}{expected}; a smaller "
            "batch_size or image_size takes less.")  # fmt: skip


def _exit_code(process: subprocess.Popen[bytes]) -> tuple[int, float | None] | None:
    """Return a child's exit code, minus the signal's number for a killed one, and its peak memory, once it ended."""
    if process.returncode is not None:
        return process.returncode, None
    try:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    except ChildProcessError:  # somebody else waited for it
        return process.poll() or 0, None
    if pid == 0:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024) / 1e6


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _expected_mb(run: Run) -> float:
    memory = (run.estimate or {}).get("memory_mb")
    return float(memory) if isinstance(memory, int | float) else 0.0


def _visible_gpu(pid: int) -> str | None:
    import psutil

    try:
        return psutil.Process(pid).environ().get("CUDA_VISIBLE_DEVICES")
    except (psutil.Error, OSError, ValueError):
        return None


@contextmanager
def _log(run: Run) -> Iterator[IO[bytes] | int]:
    """Open a run's log for what its process says; nowhere where it cannot be written."""
    try:
        log = (run.path / "log.txt").open("ab")
    except OSError:
        yield subprocess.DEVNULL
        return
    with log:
        yield log
