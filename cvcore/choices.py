"""What a page offers before a launch: the recipes that suit a dataset, and one with the user's own settings."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvcore.augmentation import AugmentationPolicy
from cvcore.bases import BASES
from cvcore.devices import available_cores
from cvcore.errors import InvalidRecipe
from cvcore.new_run import check_continues
from cvcore.published import RECIPES
from cvcore.recipe import Recipe
from cvcore.run_directory import Run


def recipes_for(strategy: str, dataset_id: str, drawn: bool) -> list[Recipe]:
    """List a strategy's recipes, those that suit the dataset first.

    Args:
        strategy: scratch, augmented, features or finetune.
        dataset_id: a recipe written for this dataset comes first.
        drawn: True for drawings, on which the base pretrained on drawings comes next; False for photographs, on
            which the others do.
    """

    def distance(recipe: Recipe) -> tuple[bool, bool]:
        return recipe.dataset != dataset_id, (recipe.dataset == "doodle-pets") != drawn

    return sorted((recipe for recipe in RECIPES.values() if recipe.strategy == strategy), key=distance)


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


def device_in_words() -> str:
    """Say what a run launched here will most likely train on, without loading TensorFlow to ask it."""
    driver = any(Path("/dev").glob("nvidia[0-9]*"))
    if driver and importlib.util.find_spec("nvidia"):
        return "GPU"
    return f"CPU, {available_cores()} cores"


def policy_from_text(text: str | None) -> AugmentationPolicy | None:
    """Read an augmentation policy from the JSON that the Augmentation page puts into an address.

    Raises:
        InvalidRecipe: the text is not a policy.
    """
    if not text:
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise InvalidRecipe(f"an augmentation policy must be a JSON object; received {text[:60]!r}")
    return AugmentationPolicy(**fields)


def limits(name: str) -> tuple[Any, Any]:
    """Return the least and the greatest value of a recipe field, as a widget's limits.

    The least is the bound itself where the rule says "greater than" it: `Recipe` then says so in words.

    Args:
        name: a field with both bounds, such as `epochs` or `dropout`.
    """
    field = Recipe.model_fields[name]
    bounds = {
        kind: getattr(rule, kind) for rule in field.metadata for kind in ("ge", "gt", "le") if hasattr(rule, kind)
    }
    number = type(field.default)
    return number(bounds.get("ge", bounds.get("gt"))), number(bounds["le"])


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
