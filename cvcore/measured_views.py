"""What stored views cost in accuracy, as saved runs measured it: with views and without, all else alike."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cvcore.comparison import number
from cvcore.recipe import Recipe
from cvcore.run_directory import Run
from cvcore.run_settings import NAMES_ONLY

DEFAULTS = {name: field.default for name, field in Recipe.model_fields.items() if not field.is_required()}
WORSE = 0.01  # of accuracy: what is worth a warning
ENOUGH = 3  # seeds: one may differ by as much by chance


@dataclass(frozen=True)
class MeasuredViews:
    """Runs with stored views beside runs that are alike but for them.

    Attributes:
        title: of their pictures.
        recipe: id of their recipe.
        base: that it builds on.
        views: how many were stored.
        seeds: how many both have.
        stored: mean validation accuracy at the lowest validation loss, 0 to 1, of the runs with stored views.
        fresh: the same of those whose pictures were changed anew in every epoch.
        runs: ids of all of them.
    """

    title: str
    recipe: str
    base: str
    views: int
    seeds: int
    stored: float
    fresh: float
    runs: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether stored views were worse by more than a point in the mean of enough seeds."""
        return self.seeds >= ENOUGH and round(self.fresh - self.stored, 6) > WORSE

    def in_words(self) -> str:
        """Say both figures in a sentence; title, recipe and base, which may be somebody's text, are left out."""
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        noun = "view" if self.views == 1 else "views"
        return (f"validation accuracy {self.stored:.1%} with {self.views} stored {noun}, {self.fresh:.1%} changed anew "
                f"in every epoch ({seeds})")  # fmt: skip


def measured_views(recipe: Recipe, fingerprint: str, runs: Sequence[Run]) -> MeasuredViews | None:
    """Find the finished runs that tell best what a recipe's stored views cost.

    Args:
        recipe: with views.
        fingerprint: of the pictures to train on. Runs on them tell best, then those of the same base, of about as many
            views, of most seeds.
        runs: saved runs, newest first.

    Returns:
        None where no two runs differ in their views alone.
    """
    groups: dict[tuple[str, str], dict[int, dict[float, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        views = number(run.recipe.get("views", 0))
        if run.strategy == recipe.strategy and views is not None and _counts(run):
            alike = (str(run.dataset.get("fingerprint")), _but_for_views(run))
            groups[alike][int(views)].setdefault(run.info["seed"], run)
    found = []
    for (pictures, _), by_views in groups.items():
        fresh = by_views.get(0, {})
        for views, stored in by_views.items():
            if seeds := sorted(fresh.keys() & stored.keys()) if views else []:
                one = stored[seeds[0]]
                rank = (pictures == fingerprint, one.recipe.get("base") == recipe.base, -abs(views - recipe.views),
                        len(seeds), one.id)  # fmt: skip
                found.append((rank, views, [stored[seed] for seed in seeds], [fresh[seed] for seed in seeds]))
    if not found:
        return None
    _, views, with_views, without = max(found, key=lambda one: one[0])
    title = str(with_views[0].dataset.get("title") or with_views[0].dataset.get("id"))
    ids = tuple(run.id for run in (*with_views, *without))
    recipe_id, base = (str(with_views[0].recipe.get(name)) for name in ("id", "base"))
    return MeasuredViews(title, recipe_id, base, views, len(with_views), _mean(with_views), _mean(without), ids)


def _counts(run: Run) -> bool:
    augmented = isinstance(run.recipe.get("augmentation"), dict)
    return augmented and run.status == "done" and not run.imported and number(run.seed) is not None and (
        number((run.metrics or {}).get("val_accuracy")) is not None
    )  # fmt: skip


def _but_for_views(run: Run) -> str:
    start = run.recipe.get("starts_from")
    decides = {
        **run.recipe,
        "views": 0,
        "starts_from": _deciding({"views": 0, **start}) if isinstance(start, dict) else 0,
    }
    return json.dumps([_deciding(decides), bool(run.info.get("from_run"))], sort_keys=True)


def _deciding(recipe: Mapping[str, Any]) -> dict[str, Any]:
    every = {**DEFAULTS, **recipe}  # run.json of before a field was has what it meant without one
    return {name: value for name, value in every.items() if name not in NAMES_ONLY and name != "dataset"}


def _mean(runs: Sequence[Run]) -> float:
    return sum((run.metrics or {})["val_accuracy"] for run in runs) / len(runs)
