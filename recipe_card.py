"""What a teacher must know of a recipe before training it: its source, the published figures, our own runs of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

import shell
from cvcore import choices, reproduction
from cvcore.published import PUBLISHED, PublishedFigure
from cvcore.recipe import Recipe
from cvcore.run_directory import Run

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
EPOCHS = {"last": "last epoch", "best": "best of all epochs", "checkpoint": "epoch of the lowest validation loss"}
MATCHED = {"note-features": "note-features-matched"}  # the same recipe without its source's bug


def card(recipe: Recipe, chosen: Mapping[str, Any], known: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> None:
    """Show where a recipe comes from, what was published of it, and what our own finished runs of it measured.

    Args:
        recipe: the published one, before the user's changes.
        chosen: the row of `known` that would be trained on.
        known: rows of `cvcore.datasets.known_datasets`.
        runs: all saved runs.
    """
    figures = PUBLISHED.get(recipe.id, ())
    published = [f":violet-badge[published] {in_words(figure)}" for figure in figures]
    with st.container(gap="xsmall"):
        st.markdown(f":material/menu_book: {recipe.source}, `{recipe.id}`")
        st.markdown("  \n".join(published or [":gray-badge[no published figure: ours]"]))
        _ours(recipe, runs)
        st.caption(choices.own_pictures(recipe, chosen, known))


def _ours(recipe: Recipe, runs: Sequence[Run]) -> None:
    """Show what our finished runs of exactly this recipe, on its own pictures, measured; nothing without any."""
    beside = [one for one in reproduction.verdicts(recipe.id, runs) if one.measured]
    # Whatever epoch a source tested, ours is tested at the checkpoint.
    told = [
        (one.figure.split, "checkpoint" if one.figure.split == "test" else one.figure.epoch, one.measured)
        for one in beside
    ]
    told = told or reproduction.own_figures(recipe.id, runs)
    if not told:
        return
    ids = list(dict.fromkeys(run_id for _, _, measured in told for run_id in measured.runs))
    with st.container(horizontal=True, vertical_alignment="center"):
        means = ", ".join(
            f"**{reproduction.percent(measured.mean)}** ({SPLITS[split]} accuracy, {EPOCHS[epoch]})"
            for split, epoch, measured in told
        )
        seeds = "1 run" if len(ids) == 1 else f"mean of {len(ids)} seeds"
        st.markdown(f":green-badge[ours] {means}, {seeds}", width="content")
        st.page_link(
            shell.page_path("compare"), label="Compare", icon=shell.PAGES["compare"][1], query_params={"runs": ids}
        )  # fmt: skip


def in_words(figure: PublishedFigure) -> str:
    """Say a published figure with its split, its epoch and its note, as Markdown."""
    words = f"**{figure.text}** ({SPLITS[figure.split]} accuracy, {EPOCHS[figure.epoch]})"
    return f"{words}. {figure.note}" if figure.note else words


def mismatch(recipe: Recipe) -> None:
    """Warn where a recipe tests on other pixels than those it trains on; nothing where it does not."""
    if recipe.test_preprocessing is None:
        return
    words = (
        f"Tests on pixels preprocessed otherwise (`{recipe.test_preprocessing}`) than those it trains on "
        f"(`{recipe.preprocessing}`)"
    )
    if recipe.id in MATCHED:
        words += f": the source's bug, kept to be seen; `{MATCHED[recipe.id]}` is the same without it."
    else:
        words += ": a mistake to learn from, chosen under More settings."
    st.caption(f":orange[:material/warning:] {words}")
