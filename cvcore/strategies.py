"""The four strategies, each a list of phases: what is trained, on what, with which part of the recipe.

Read the four functions from top to bottom: this is the whole lesson.
"""

from __future__ import annotations

from dataclasses import dataclass

from cvcore.recipe import Recipe


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one optimizer.

    Attributes:
        name: shown to people.
        trainable: `everything`, `head`, or the base layer from which on the base is trained too.
        recipe: whose optimizer, learning rates, batches, epochs, callbacks and augmentation apply.
        on_features: the head is trained on stored features; the base runs once a picture, before.
    """

    name: str
    trainable: str
    recipe: Recipe
    on_features: bool = False


def scratch(recipe: Recipe) -> tuple[Phase, ...]:
    """Train a small convnet from random weights on the pictures as they are."""
    return (Phase("training", "everything", recipe),)


def augmented(recipe: Recipe) -> tuple[Phase, ...]:
    """Train the same convnet on pictures changed anew in every epoch, with dropout."""
    return (Phase("training", "everything", recipe),)


def features(recipe: Recipe) -> tuple[Phase, ...]:
    """Train a new head on what a frozen pretrained base sees: stored once, or end to end with augmentation."""
    return (Phase("head", "head", recipe, on_features=recipe.cached),)


def finetune(recipe: Recipe) -> tuple[Phase, ...]:
    """Train the head first, then continue from its best epoch with the top of the base, at a low rate."""
    assert recipe.starts_from is not None and recipe.unfreeze_from is not None
    return (*features(recipe.starts_from), Phase("fine-tuning", recipe.unfreeze_from, recipe))


def phases(recipe: Recipe, continues_a_run: bool = False) -> tuple[Phase, ...]:
    """Return a recipe's phases; one that continues a saved features run has its head already."""
    every = {"scratch": scratch, "augmented": augmented, "features": features, "finetune": finetune}[recipe.strategy](
        recipe
    )
    return every[-1:] if continues_a_run else every
