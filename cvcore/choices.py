"""What a page offers before a launch: the recipes that suit a dataset, what this machine has, the user's settings."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import cache
from inspect import getdoc
from typing import Any, get_args

from cvcore import devices
from cvcore.augmentation import AugmentationPolicy
from cvcore.bases import BASES, pixels_become
from cvcore.datasets import DOWNLOADS, LAYOUTS
from cvcore.errors import InvalidRecipe
from cvcore.new_run import check_continues
from cvcore.published import RECIPES
from cvcore.recipe import Monitor, Preprocessing, Recipe
from cvcore.run_directory import Run
from cvcore.schedules import SCHEDULES

MONITORS: tuple[str, ...] = get_args(Monitor)


def recipes_for(strategy: str | None, dataset_id: str, drawn: bool) -> list[Recipe]:
    """List a strategy's recipes, those that suit the dataset first.

    Args:
        strategy: scratch, augmented, features or finetune; None for all of them.
        dataset_id: a recipe written for this dataset comes first.
        drawn: True for drawings, on which the recipes for drawings come next; False for photographs, on which those
            for photographs do.
    """

    def distance(recipe: Recipe) -> tuple[bool, bool]:
        return recipe.dataset != dataset_id, _family(recipe) != ("drawings" if drawn else "photographs")

    return sorted((recipe for recipe in RECIPES.values() if strategy in (None, recipe.strategy)), key=distance)


def _family(recipe: Recipe) -> str:
    if recipe.dataset == "doodle-pets":
        return "drawings"
    return "digits" if recipe.color_mode == "grayscale" else "photographs"


def own_pictures(recipe: Recipe, chosen: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> str:
    """Say in a sentence or two which pictures a recipe was written for, and how to get them where they are not here.

    Args:
        recipe: the published one.
        chosen: the row of `known` that would be trained on.
        known: rows of `cvcore.datasets.known_datasets`.

    Returns:
        Markdown, in which nothing comes from elsewhere; "" for a recipe written for no dataset.
    """
    name = recipe.dataset
    if name is None or name == chosen["id"]:
        return "Written for these pictures." if name else ""
    if any(row["id"] == name and row["available"] for row in known):
        return f"Written for `{name}`, which is here: choose it under Pictures to repeat the recipe."
    return f"Written for `{name}`, which is not here: {_how_to_get(name)}. It trains on the pictures above too."


def _how_to_get(name: str) -> str:
    if name in DOWNLOADS:
        return "the Dataset page downloads it"
    layout = next((layout for layout in LAYOUTS if layout.replace("_", "-") == name), None)
    if layout:
        return (
            f'`python -m cvcore make-small train.zip "$CVCORE_DATA/{layout}" --layout {layout}` makes it from the '
            "competition's training pictures"
        )
    return f"put a folder or zip of this name into the folder that `CVCORE_DATA` names, or add {name}.zip"


def schedules() -> dict[str | None, str]:
    """Name the learning-rate schedules, None first: name -> one line on what it does."""
    return {None: "One rate from the first epoch to the last.",
            **{name: (getdoc(function) or "").splitlines()[0] for name, function in SCHEDULES.items()}}  # fmt: skip


def preprocessings_for_test(recipe: Recipe) -> list[str | None]:
    """List what test pictures can become instead of what training pictures become; None, the same, comes first."""
    if not recipe.base:
        return [None]
    trained = pixels_become(recipe.preprocessing, recipe.base)
    others = [kind for kind in get_args(Preprocessing) if kind != "mean_image"]
    return [None, *(kind for kind in others if pixels_become(kind, recipe.base) != trained)]


def bases_for(recipe: Recipe) -> list[str]:
    """List the bases a recipe may use, its own first; none for a convnet from scratch."""
    if recipe.base is None:
        return []
    return [recipe.base, *(name for name in BASES if name != recipe.base)]


def runs_to_continue(recipe: Recipe, runs: Sequence[Run], fingerprint: str) -> list[Run]:
    """List the finished features runs that a finetune recipe can continue, on the same pictures only."""
    found = []
    for run in runs:
        try:
            check_continues(recipe, run)
        except InvalidRecipe:
            continue
        if run.dataset.get("fingerprint") == fingerprint and (run.path / "model.keras").is_file():
            found.append(run)
    return found


@cache
def gpu() -> str | None:
    """Name the GPU that a run launched here would train on, without loading Keras to ask it; None: it is a CPU."""
    words = devices.device_in_words()
    return words if words in devices.gpu_names() else None


@cache
def device_in_full() -> str:
    """Name the processor or GPU that a run launched here would train on, and a GPU that it would not."""
    return devices.device_in_words()


def device_in_words() -> str:
    """Say what a run launched here would train on, as briefly as a page shows it."""
    cores = devices.available_cores()
    return gpu() or f"CPU, {cores} {'core' if cores == 1 else 'cores'}"


def tensorboard_here() -> bool:
    """Say whether the tensorboard package, which is optional, is installed."""
    return importlib.util.find_spec("tensorboard") is not None


def policy_from_text(text: str | None) -> AugmentationPolicy | None:
    """Read an augmentation policy from the JSON that the Augmentation page puts into an address.

    Raises:
        InvalidRecipe: the text is not a policy.
    """
    if not text:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise InvalidRecipe(f"an augmentation policy must be a JSON object; received {text[:60]!r}")
    return AugmentationPolicy(**fields)


def views_possible(recipe: Recipe, policy: AugmentationPolicy | None) -> bool:
    """Say whether a recipe can train on stored views, perhaps with a policy instead of its own augmentation."""
    own = None if recipe.cached else recipe.augmentation
    chosen = policy or own
    return recipe.base is not None and chosen is not None and not chosen.is_identity


def limits(name: str) -> tuple[Any, Any]:
    """Return the least and the greatest value of a recipe field, as a widget's limits; None where there is no bound.

    They are the bounds themselves where the rule says "greater than" or "below" them: `Recipe` then says so in words.

    Args:
        name: a field that is a number, such as `epochs` or `dropout`, or a whole number or None.
    """
    field = Recipe.model_fields[name]
    bounds = {
        kind: getattr(rule, kind) for rule in field.metadata for kind in ("ge", "gt", "le", "lt") if hasattr(rule, kind)
    }
    number = int if field.default is None else type(field.default)
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    return None if low is None else number(low), None if high is None else number(high)


def with_choices(recipe: Recipe, policy: AugmentationPolicy | None = None, **changes: Any) -> Recipe:
    """Return a recipe with the user's own settings, validated.

    Args:
        recipe: the published one.
        policy: an augmentation policy carried into the run, or None to keep the recipe's own. Features stored once
            a picture cannot be augmented, so a features recipe then trains end to end.
        **changes: further fields, such as `base` or `epochs`; those equal to the recipe's own change nothing.

    Raises:
        InvalidRecipe: a value breaks a rule, or the strategy takes no policy.
    """
    kept = {name: value for name, value in changes.items() if value != getattr(recipe, name, None)}
    if policy is not None:
        kept["augmentation"] = policy
        if recipe.cached:
            kept["cached"] = False
    return recipe.with_changes(**kept) if kept else recipe
