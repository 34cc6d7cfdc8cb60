"""The worker of a runs folder: train its queued runs one after another, each in a fresh child process.

    python -m cvcore.backends.worker RUNS_FOLDER

One at a time: a run has the GPU, or all cores, to itself. A fresh child gives its memory back, the GPU's included, and
cannot take the worker down. The worker ends when nothing is queued any more; `local.launch` starts the next one.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cvcore.errors import CvcoreError
from cvcore.run_directory import Run, list_runs, load_run, worker_lock

LOW_PRIORITY = 10  # added to `nice`: the pages of a class stay quick beside a training


def serve(folder: Path) -> None:
    """Train the queued runs of a folder until none is left; return at once if another worker serves it."""
    given_up: set[str] = set()
    while True:
        with _only_worker(folder) as alone:
            if not alone:
                return
            while queued := [run for run in _queued(folder) if run.id not in given_up]:
                try:
                    _train(queued[0])
                except CvcoreError as error:  # deleted meanwhile, or no room to write: the others go on
                    given_up.add(queued[0].id)
                    print(error, file=sys.stderr, flush=True)
        # A run queued after the last look but before the lock was free found a living worker and started none.
        if all(run.id in given_up for run in _queued(folder)):
            return


def _queued(folder: Path) -> list[Run]:
    runs = reversed(list_runs(folder))
    return [run for run in runs if run.info.get("status") == "queued" and run.status != "stopped"]


def _train(run: Run) -> None:
    command = [sys.executable, "-m", "cvcore", "resume", run.id, "--if-queued", "--runs", str(run.path.parent)]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    after = load_run(run.id, run.path.parent)
    # Not only queued but as it was: a run killed and queued again meanwhile has begun, and waits for its next turn.
    if after.status != "stopped" and after.info == run.info:
        from cvcore.run_writer import RunWriter

        sentence = "The training process ended before it began; .worker.log in the runs folder says why."
        RunWriter(run.path, run.info["attempt"]).finish("failed", sentence)


@contextmanager
def _only_worker(folder: Path) -> Iterator[bool]:
    descriptor = os.open(worker_lock(folder), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    for _ in range(10):  # somebody who only looks whether a worker lives holds the lock for a moment
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
    return False


if __name__ == "__main__":
    os.nice(LOW_PRIORITY)
    serve(Path(sys.argv[1]))
