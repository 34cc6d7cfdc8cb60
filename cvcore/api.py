"""The package from a notebook: train, runs, load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvcore.datasets import Dataset, open_dataset
from cvcore.errors import CvcoreError
from cvcore.new_run import check_continues, new_run
from cvcore.published import get_recipe
from cvcore.recipe import Recipe
from cvcore.run_directory import Run, list_runs, load_run
from cvcore.settings import runs_folder


def train(
    recipe: str | Recipe,
    data: str | Path | Dataset | None = None,
    *,
    seed: int = 0,
    weights: str | Path | None = None,
    from_run: str | None = None,
    runs: str | Path | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    **changes: Any,
) -> Run:
    """Train a recipe on a dataset in this process and return the finished run.

    Args:
        recipe: a recipe's name (see `cvcore.published`) or a Recipe.
        data: a dataset's id, a folder, a zip, or a Dataset; default the one the recipe was written for.
        seed: decides initial weights, order, augmentation and dropout, 0 to 2**31 - 1. Default 0.
        weights: a local file with the base's weights, or None.
        from_run: id of a features run whose model a finetune recipe continues; None trains the head first.
        runs: the folder for run directories; default `settings.runs_folder()`.
        on_progress: called with {phase, step, steps, epoch, epochs, seconds_left, …} on every batch.
        **changes: recipe fields to change, such as `epochs=5`.

    Raises:
        CvcoreError: one sentence: an unknown recipe, dataset or key, a value out of range, or a failed training.
    """
    chosen = (recipe if isinstance(recipe, Recipe) else get_recipe(recipe)).with_changes(**changes)
    folder = Path(runs) if runs else runs_folder()
    if from_run is not None:
        check_continues(chosen, load_run(from_run, folder))
    file = Path(weights) if weights else None
    if file is not None and not file.is_file():
        raise CvcoreError(f"the weights file must exist; received {file}")
    if file is not None and (chosen.base is None or chosen.weights == "random" or from_run is not None):
        raise CvcoreError(
            f"a weights file is for a pretrained base that a run starts from; {chosen.id} "
            + ("continues a saved run" if from_run is not None else "starts from random weights")
        )
    dataset = data if isinstance(data, Dataset) else open_dataset(data or chosen.dataset or "doodle-pets")
    run = new_run(chosen, dataset, seed, runs=folder, from_run=from_run, status="running")
    from cvcore.training import execute

    run = execute(run, dataset, file, on_progress)
    if run.status == "failed":
        raise CvcoreError(run.error or f"run {run.id} failed")
    return run


def resume(
    run: str | Run, runs: str | Path | None = None, on_progress: Callable[[dict[str, Any]], None] | None = None
) -> Run:
    """Train a queued, stopped, failed or interrupted run in this process, after its last finished epoch.

    Args:
        run: its id or an earlier reading of it.
        runs: the runs folder; default `settings.runs_folder()`.
        on_progress: as for `train`.

    Raises:
        CvcoreError: one sentence: no such run, one that is running or done, or a failed training.
    """
    found = load(run, runs)
    from cvcore.training import execute

    return execute(found, on_progress=on_progress)


def runs(folder: str | Path | None = None) -> list[Run]:
    """Return the saved runs, newest first; default folder `settings.runs_folder()`."""
    return list_runs(Path(folder) if folder else None)


def load(run: str | Run, folder: str | Path | None = None) -> Run:
    """Return a run as its files say it is now, by its id or an earlier reading of it.

    Raises:
        RunNotFound, RunDamaged: one sentence.
    """
    if isinstance(run, Run):
        return load_run(run.id, run.path.parent)
    return load_run(run, Path(folder) if folder else None)
