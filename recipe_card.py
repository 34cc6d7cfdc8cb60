"""What a teacher must know of a recipe before training it: its source, the published figures, our own runs of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from cvcore import choices
from cvcore.published import PUBLISHED, PublishedFigure
from cvcore.recipe import Recipe

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
EPOCHS = {"last": "last epoch", "best": "best of all epochs", "checkpoint": "epoch of the lowest validation loss"}
MATCHED = {"note-features": "note-features-matched"}  # the same recipe without its source's bug


def card(recipe: Recipe, chosen: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> None:
    """Show where a recipe comes from and what was published of it.

    Args:
        recipe: the published one, before the user's changes.
        chosen: the row of `known` that would be trained on.
        known: rows of `cvcore.datasets.known_datasets`.
    """
    figures = PUBLISHED.get(recipe.id, ())
    published = [f":violet-badge[published] {in_words(figure)}" for figure in figures]
    notes = [figure.note for figure in figures if figure.note]
    with st.container(gap="xsmall"):
        st.markdown(f":material/menu_book: {recipe.source}")
        st.markdown("  \n".join(published or [":gray-badge[no published figure: ours]"]))
        st.caption(" ".join([*notes, choices.own_pictures(recipe, chosen, known)]))


def in_words(figure: PublishedFigure) -> str:
    """Say a published figure with its split and epoch, as Markdown."""
    return f"**{figure.text}** ({SPLITS[figure.split]} accuracy, {EPOCHS[figure.epoch]})"


def mismatch(recipe: Recipe) -> None:
    """Warn where a recipe tests on other pixels than those it trains on; nothing where it does not."""
    if recipe.test_preprocessing is None:
        return
    words = (
        f"Tests on pixels preprocessed otherwise ({recipe.test_preprocessing}) than those it trains on "
        f"({recipe.preprocessing})"
    )
    if recipe.id in MATCHED:
        words += f": the source's bug, kept to be seen; `{MATCHED[recipe.id]}` is the same without it."
    else:
        words += ": a mistake to learn from, chosen under More settings."
    st.caption(f":orange[:material/warning:] {words}")
