"""When two runs are the same run: one trained twice teaches nothing new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cvcore.errors import InvalidRecipe
from cvcore.recipe import Recipe, make_recipe
from cvcore.run_directory import Run
from cvcore.run_settings import NAMES_ONLY

COUNTING = ("done", "running", "queued")  # in the order in which they are offered


def identical_run(
    recipe: Recipe, dataset: Mapping[str, Any], seed: int, from_run: str | None, runs: Sequence[Run]
) -> Run | None:
    """Find a run with the same pictures, seed and recipe, all of it that decides anything; names do not.

    Args:
        recipe: what would be trained.
        dataset: its summary, as in run.json.
        seed: of the run.
        from_run: id of the run that it would continue, or None.
        runs: saved runs, newest first; failed, stopped and imported ones do not count, nor do interrupted ones unless
            they go on by themselves.

    Returns:
        The one that is done, else that trains, else that waits; the newest of several; None where there is none.
    """
    wanted, training = _deciding(recipe, from_run, dataset), []
    for run in runs:
        if (
            (run.status in COUNTING or run.comes_back)
            and not run.imported
            and run.seed == seed
            and run.strategy == recipe.strategy
            and run.dataset.get("fingerprint") == dataset["fingerprint"]
            and run.info.get("from_run") == from_run
        ):
            try:
                theirs = make_recipe(**run.recipe)  # a run older than a field has its default
            except InvalidRecipe:  # of another version
                continue
            if _deciding(theirs, from_run, dataset) == wanted:
                training.append(run)
    places = {status: place for place, status in enumerate(COUNTING)}
    return min(training, key=lambda run: places.get(run.status, 1), default=None)


def _deciding(recipe: Recipe, from_run: str | None, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a recipe what decides a run, each thing said in one way."""
    there = sum(dataset.get("counts", {}).get("train", {}).values())
    found = recipe.model_dump(exclude={*NAMES_ONLY, "dataset", "starts_from"})
    if recipe.train_pictures == there:
        found["train_pictures"] = None
    if recipe.augmentation is not None and recipe.augmentation.is_identity and recipe.strategy != "augmented":
        found["augmentation"] = None
    if not recipe.tests_other_pixels:
        found["test_preprocessing"] = None
    # The head of a run that continues a saved one was trained there.
    if recipe.starts_from is not None and from_run is None:
        found["starts_from"] = _deciding(recipe.starts_from, None, dataset)
    return found
