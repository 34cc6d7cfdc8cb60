"""What a teacher must know of a recipe before training it: its source, the published figures, our own runs of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

import shell
from cvcore import choices, reproduction
from cvcore.datasets import Dataset
from cvcore.measured_views import MeasuredViews, measured_views
from cvcore.published import PUBLISHED, PublishedFigure
from cvcore.recipe import Recipe
from cvcore.reproduction import Measured, Verdict
from cvcore.views import unused_in_words
from saved_runs import SavedRuns, saved_runs

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
COUNTED = "every finished run of the recipe here, the newest of each seed"  # whoever launched it
MATCHED = {"note-features": "note-features-matched"}  # the same recipe without its source's bug


def card(recipe: Recipe, chosen: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> None:
    """Show where a recipe comes from, what was published of it, and what our own finished runs of it measured.

    Args:
        recipe: the published one, before the user's changes.
        chosen: the row of `known` that would be trained on.
        known: rows of `cvcore.datasets.known_datasets`.
    """
    figures = PUBLISHED.get(recipe.id, ())
    published = [f":violet-badge[published] {in_words(figure)}" for figure in figures]
    with st.container(gap="xsmall"):
        st.markdown(f":material/menu_book: {recipe.source}, `{recipe.id}`")
        st.markdown("  \n".join(published or [":gray-badge[no published figure: ours]"]))
        saved = saved_runs()
        _ours(recipe, saved, f"{recipe.id} {saved.number}")
        st.caption(choices.own_pictures(recipe, chosen, known))


@st.cache_resource(max_entries=64, show_spinner=False)
def _ours(_recipe: Recipe, _saved: SavedRuns, stamp: str) -> None:
    """Show what our finished runs of exactly this recipe, on its own pictures, measured; nothing without any."""
    told = [(one.measured, one) for one in reproduction.verdicts(_recipe.id, _saved.runs) if one.measured]
    told = told or [(measured, None) for measured in reproduction.own_figures(_recipe.id, _saved.runs)]
    if not told:
        return
    ids = list(dict.fromkeys(run_id for measured, _ in told for run_id in measured.runs))
    with st.container(horizontal=True, vertical_alignment="center"):
        means = ", ".join(_measured(measured, verdict) for measured, verdict in told)
        seeds = "1 run" if len(ids) == 1 else f"mean of {len(ids)} seeds"
        st.markdown(f":green-badge[ours] {means}, {seeds} ({COUNTED})", width="content")
        st.page_link(
            shell.page_path("compare"), label="Compare", icon=shell.PAGES["compare"][1], query_params={"runs": ids}
        )  # fmt: skip


def _measured(measured: Measured, verdict: Verdict | None) -> str:
    """Say what we measured, and how its interval lies to what was published, as Markdown."""
    lies = (
        f"; its interval {reproduction.VERDICTS[verdict.verdict]} the published" if verdict and verdict.verdict else ""
    )
    mean = reproduction.percent(measured.mean, verdict.digits if verdict else 1)
    return f"**{mean}** ({SPLITS[measured.split]} accuracy, {reproduction.EPOCHS[measured.epoch]}{lies})"


def in_words(figure: PublishedFigure) -> str:
    """Say a published figure with its split, its epoch and its note, as Markdown."""
    words = f"**{figure.text}** ({SPLITS[figure.split]} accuracy, {reproduction.EPOCHS[figure.epoch]})"
    return reproduction.tight(f"{words}. {figure.note}" if figure.note else words)


def changed(chosen: Recipe, recipe: Recipe) -> None:
    """Say which of the chosen settings are not the published ones, where something was published; else nothing."""
    fields = reproduction.changed_fields(chosen, recipe)
    if fields and recipe.id in PUBLISHED:
        words = shell.plain(reproduction.in_words(fields))
        st.caption(
            f":material/info: Not as published: {words}. This run will not be held against the published figures."
        )


def views(chosen: Recipe, dataset: Dataset) -> None:
    """Say where a recipe has more stored views than passes, and what runs here measured of them: a warning if much."""
    if not chosen.views:
        return
    if unused := unused_in_words(chosen, min(len(dataset.split("train")), chosen.train_pictures or 10**9)):
        st.caption(unused)
    fingerprint = dataset.fingerprint
    saved = saved_runs()
    found = _measured_views(chosen, fingerprint, saved, f"{chosen.model_dump_json()} {fingerprint} {saved.number}")
    if found is None:
        return
    what = f"{shell.plain(found.recipe)} ({shell.plain(found.base)}) on {shell.plain(found.title)}"
    words = f"Measured with {what}: {found.in_words()}."
    st.caption(f":orange[:material/warning: Stored views cost accuracy there.] {words}" if found.worse else words)


@st.cache_resource(max_entries=64, show_spinner=False)
def _measured_views(_chosen: Recipe, _fingerprint: str, _saved: SavedRuns, stamp: str) -> MeasuredViews | None:
    return measured_views(_chosen, _fingerprint, _saved.runs)


def mismatch(recipe: Recipe) -> None:
    """Warn where a recipe tests on other pixels than those it trains on; nothing where it does not."""
    if not recipe.tests_other_pixels:
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
