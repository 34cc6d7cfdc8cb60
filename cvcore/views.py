"""Views: which random changes a stored view of a picture has, and which view a pass over the pictures takes."""

from __future__ import annotations

import numpy as np

from cvcore.augmentation import UNIFORMS

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
