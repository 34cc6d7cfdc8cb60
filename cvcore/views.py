"""Views: which random changes a stored view of a picture has, and which view a pass over the pictures takes."""

from __future__ import annotations

import numpy as np

from cvcore.augmentation import UNIFORMS
from cvcore.recipe import Recipe

VIEWS_ENTROPY = 20_230_917  # any number, once and for all: another draws other views


def in_words(views: int, one_pass: bool = True) -> str:
    """Say what training on stored views is, as the middle of a sentence.

    Args:
        views: how many, at least 1.
        one_pass: an epoch is one pass over the training pictures.
    """
    noun = "epoch" if one_pass else "pass"
    if views == 1:
        return f"one stored view of each training picture, the same in every {noun}, in half precision"
    nouns = "epochs" if one_pass else "passes"
    return f"{views} stored views of each training picture, the same again every {views} {nouns}, in half precision"


def view_uniforms(view: int, pictures: int) -> np.ndarray:
    """Draw the numbers that decide one view of each picture: the same for every run, whatever its seed.

    Args:
        view: which, from 0.
        pictures: of the whole training split, whichever of them are trained on.

    Returns:
        float32 (pictures, UNIFORMS) in [0, 1), as `augmentation_layer.apply` takes them.
    """
    seed = np.random.SeedSequence((VIEWS_ENTROPY, view))
    return np.random.default_rng(seed).random((pictures, UNIFORMS), dtype=np.float32)


def view_of_pass(number: int, views: int) -> int:
    """Return which view, from 0, a pass over the training pictures takes.

    Args:
        number: of the pass, from 1.
        views: how many are stored; they are taken in turn.
    """
    return (number - 1) % views


def passes(recipe: Recipe, pictures: int, before: int = 0) -> range:
    """Return the passes over the training pictures, from 0, of which a phase can take batches.

    Args:
        recipe: of the phase.
        pictures: that it trains on, at least 1.
        before: epochs of the run before the phase.
    """
    a_pass = -(-pictures // recipe.batch_size)
    steps = recipe.steps_per_epoch or a_pass
    return range(before * steps // a_pass, -(-(before + recipe.epochs) * steps // a_pass))


def views_used(recipe: Recipe, pictures: int, before: int = 0) -> list[int]:
    """Return the numbers of the views that a phase's passes take: no more than there are passes.

    They stand where `view_of_pass` finds them in a list of this length: a pass takes the same view whether all of the
    recipe's are in the list or only these.

    Args:
        recipe: of the phase.
        pictures: that it trains on.
        before: epochs of the run before the phase: of its head, which may have stopped early.

    Returns:
        From 0; [] of a recipe without views.
    """
    taken = passes(recipe, max(1, pictures), before)[: recipe.views]
    return [number % recipe.views for number in sorted(taken, key=lambda number: number % len(taken))]


def unused_in_words(recipe: Recipe, pictures: int) -> str:
    """Say that a recipe has more views than its passes take, as a sentence; "" where it has not."""
    used = len(views_used(recipe, pictures))
    if used == recipe.views:
        return ""
    noun = "pass over the pictures takes" if used == 1 else "passes over the pictures take"
    return f"Its {used} {noun} {used} of the {recipe.views} views: the others are not computed."
