"""Launch runs on this machine: queue them in the runs folder and see that a worker serves it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cvcore.datasets import Dataset
from cvcore.new_run import new_run
from cvcore.recipe import Recipe
from cvcore.run_directory import load_run, worker_alive, worker_log
from cvcore.run_writer import requeue
from cvcore.settings import PROJECT, runs_folder

# Kept so that a finished worker is reaped when the next one starts, and not reported as forgotten.
_workers: list[subprocess.Popen[bytes]] = []


def launch(recipe: Recipe, dataset: Dataset, seed: int, runs: Path | None = None, from_run: str | None = None) -> str:
    """Queue a run and return at once; a worker process trains it, whatever becomes of this one.

    Args:
        recipe: what to train.
        dataset: an opened dataset.
        seed: 0 to 2**31 - 1.
        runs: the runs folder; default `settings.runs_folder()`.
        from_run: id of a features run that a finetune recipe continues; None trains the head first.

    Returns:
        The run's id.

    Raises:
        CvcoreError: the recipe does not fit the dataset, or the run cannot be written.
    """
    folder = runs or runs_folder()
    run = new_run(recipe, dataset, seed, runs=folder, from_run=from_run)
    ensure_worker(folder)
    return run.id


def resume(run_id: str, runs: Path | None = None) -> None:
    """Queue a stopped, failed or interrupted run again; it goes on after its last finished epoch.

    Raises:
        CvcoreError: there is no such run, or it is queued, running or done.
    """
    folder = runs or runs_folder()
    requeue(load_run(run_id, folder))
    ensure_worker(folder)


def ensure_worker(folder: Path) -> None:
    """Start a worker for a runs folder unless one lives.

    It outlives this process: it has its own process group, so that Ctrl-C in the server's terminal does not
    reach it. It stays in this session, because in a new one the kernel would ignore its low priority.
    """
    _workers[:] = [worker for worker in _workers if worker.poll() is None]
    if worker_alive(folder):
        return
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    with worker_log(folder).open("ab") as log:
        _workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "cvcore.backends.worker", str(folder)],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        )
