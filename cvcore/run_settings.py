"""The settings of runs as a flat list of names and values, and those of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from cvcore.imported import NOT_KNOWN

if TYPE_CHECKING:
    from cvcore.run_directory import Run

NAMES_ONLY = {"id", "title", "source"}  # recipe fields that decide nothing about a run
NO_START, NOT_TOLD = "no start", "not told"
_START = "starts_from."


def dataset_name(run: Run) -> str:
    """Name the pictures of a run."""
    return str(run.dataset.get("title") or run.dataset.get("id"))


def settings(run: Run) -> dict[str, Any]:
    """List all settings of a run: nested keys dotted, the dataset and the seed first, names left out."""
    from cvcore.augmentation import AugmentationPolicy

    identity = AugmentationPolicy().model_dump(mode="json")
    recipe = run.recipe if run.imported else {**_defaults(), **run.recipe}
    flat: dict[str, Any] = {"dataset": dataset_name(run), "seed": run.seed}
    for name, value in recipe.items():
        if name in NAMES_ONLY or name == "dataset":
            continue
        if name == "augmentation" and isinstance(value, dict | None):
            flat.update({f"augmentation.{key}": part for key, part in {**identity, **(value or {})}.items()})
        elif name == "starts_from" and isinstance(value, dict):
            flat["starts_from"] = value.get("id")
            own = {**recipe, "strategy": value.get("strategy"), "starts_from": None}
            for key, part in {**_defaults(), **value}.items():
                if key not in NAMES_ONLY and part != own.get(key):
                    flat[f"{_START}{key}"] = part
        elif name == "train_pictures":
            flat[name] = value or "all"
        else:
            flat[name] = value
    return flat


def side_by_side(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """List the settings of runs under the same names, in the order of `settings`.

    A field of the start that differs from the own one of any run is listed for all: for those with a start what they
    started with, for the others "no start".

    Returns:
        Name -> a value a run; what an imported run does not tell is `NOT_KNOWN`.
    """
    own = [settings(run) for run in runs]
    told = [(run, {**_start(run), **flat}) for run, flat in zip(runs, own, strict=True)]
    return {name: [_value(run, flat, name) for run, flat in told] for name in dict.fromkeys(chain(*own))}


def _value(run: Run, flat: dict[str, Any], name: str) -> Any:
    if run.imported:
        return NOT_KNOWN if flat.get(name) is None else flat[name]
    without = not isinstance(run.recipe.get("starts_from"), dict)
    return flat.get(name, NO_START if name.startswith(_START) and without else NOT_TOLD)


def _start(run: Run) -> dict[str, Any]:
    """All that a run's start was set to, under the names of `settings`."""
    start = run.recipe.get("starts_from")
    whole = {**_defaults(), **start} if isinstance(start, dict) else {}
    return {f"{_START}{name}": value for name, value in whole.items() if name not in NAMES_ONLY}


@cache
def _defaults() -> dict[str, Any]:
    """What a recipe does not say: a run recorded before a field came to be had its default."""
    from cvcore.recipe import Recipe

    fields = Recipe.model_fields.items()
    defaults = {name: None if field.is_required() else field.default for name, field in fields}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}


def as_words(value: Any) -> str:
    """Write the value of a setting."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(as_words, value)) or "none"
    return str(value)
