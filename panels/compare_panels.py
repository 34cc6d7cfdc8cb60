"""The parts of the Compare page: accuracies with published figures, the figures of runs, recipes beside sources.

What is the same for everybody who looks at the same runs is drawn once and kept ready to be sent: `st.cache_resource`
draws again what a function drew. A `stamp` says of which runs, as they were listed at one moment.
"""

from collections import defaultdict
from functools import lru_cache
from typing import Any, Literal

import pandas as pd
import streamlit as st
from plotly.graph_objs import Figure

import shell
from cvcore import accuracy_chart, comparison, reproduction
from cvcore.charts import CONFIG
from cvcore.comparison import MANY, some
from cvcore.imported import NOT_KNOWN
from cvcore.published import PUBLISHED, RECIPES
from cvcore.run_directory import Run
from panels import import_panel, many_panels
from saved_runs import SavedRuns
from shell import empty_state, plain

COLUMNS = {
    "label": st.column_config.TextColumn("Run", pinned=True),
    "dataset": st.column_config.TextColumn("Dataset", width=140),
    "seed": st.column_config.NumberColumn("Seed", format="%d"),
    "best_epoch": st.column_config.NumberColumn("Best epoch", help="The epoch with the lowest validation loss."),
    "val_accuracy": st.column_config.NumberColumn(
        "Validation", format="%.1f%%", help="Validation accuracy at the best epoch, the one of the lowest loss."
    ),
    "last_val_accuracy": st.column_config.NumberColumn(
        "Last validation", format="%.1f%%", help="Validation accuracy at the last epoch."
    ),
    "val_interval": st.column_config.TextColumn(
        "95% interval of it", help="Wilson interval of the validation accuracy at the last epoch."
    ),
    "test_accuracy": st.column_config.NumberColumn("Test", format="%.1f%%", help="Test accuracy."),
    "interval": st.column_config.TextColumn("95% interval", help="Wilson interval of the test accuracy."),
    "parameters": st.column_config.NumberColumn("Parameters", format="localized"),
    "trainable": st.column_config.NumberColumn("Trained", format="localized", help="Parameters that were trained."),
    "seconds": st.column_config.NumberColumn("Seconds", format="%.1f"),
    "status": "Status",
    "run": "Run id",
}
WHERE_LONG = st.column_config.TextColumn("Run", pinned=True, width=200)  # labels that name their dataset
ICONS = {"covers": ":green[:material/check:]", "within": ":green[:material/check:]",
         "overlaps": ":orange[:material/join_inner:]", "above": ":orange[:material/arrow_upward:]",
         "below": ":orange[:material/arrow_downward:]"}  # fmt: skip


def warm_up(saved: SavedRuns) -> None:
    """Load what figures and tables are made with, which takes longer than to make them, and read the histories."""
    _published_rows(saved)
    Figure(accuracy_chart.accuracy_dots(comparison.figures(saved.opening)))
    _ = saved.labels
    shell.unreadable(saved.whole)


def stamp_of(picked: list[Run], saved: SavedRuns) -> str:
    """Give the key of what is drawn of these runs, but for their curves: it changes when any saved run does."""
    return repr((saved.number, [run.id for run in picked]))


@st.cache_resource(max_entries=64, show_spinner=False)
def rows_of(_picked: list[Run], stamp: str) -> list[dict[str, Any]]:
    """Give the rows of `comparison.figures`, made once for all sessions and not to be changed."""
    return comparison.figures(_picked)


@st.cache_resource(max_entries=64, show_spinner=False)
def cautions(_picked: list[Run], stamp: str) -> None:
    """Say what makes these runs hard to compare."""
    for sentence in comparison.cautions(_picked):
        st.caption(f":orange[:material/warning:] {plain(sentence)}")


def curves(picked: list[Run], metric: str, smoothing: float, files: str) -> None:
    """Draw the curves of the chosen runs: of many, those of their kinds."""
    if len(picked) <= MANY:
        shell.curves(picked, metric, smoothing)
    else:
        many_panels.curves(picked, metric, smoothing, files)


def accuracies(picked: list[Run], saved: SavedRuns, stamp: str) -> None:
    """Draw the accuracies of the chosen runs, on the test split where there is one, published figures beside them."""
    rows = rows_of(picked, stamp)
    splits = [split for split in ("test", "validation") if accuracy_chart.has_figures(rows, split)]
    if not splits:
        st.caption("None of these runs has an accuracy yet: they have not finished.")
        return
    split = splits[0]
    if len(splits) > 1:
        split = st.segmented_control(
            "Accuracies", splits, default=split, required=True, format_func=str.capitalize, key="compare_split",
            label_visibility="collapsed", bind="query-params",
        )  # fmt: skip
    _accuracies(picked, rows, saved, split, stamp)


@st.cache_resource(max_entries=64, show_spinner=False)
def _accuracies(
    _picked: list[Run], _rows: list[dict[str, Any]], _saved: SavedRuns, split: Literal["test", "validation"], stamp: str
) -> None:
    marks = reproduction.published_marks(_picked, _saved.whole)
    if len(_picked) > MANY:
        many_panels.accuracies(_picked, _rows, split, marks)
        return
    figure = accuracy_chart.accuracy_dots(_rows, split, marks)
    alt = accuracy_chart.accuracy_dots_alt(_rows, split, marks)
    st.plotly_chart(figure, config=CONFIG, alt=alt, key=f"accuracy_dots_{split}")
    if accuracy_chart.has_intervals(_rows, split):
        st.caption(
            f"A bar is of its run alone: with 95 of 100 such {split} sets it holds the true accuracy. Another seed "
            "adds its own spread."
        )


@st.cache_resource(max_entries=64, show_spinner=False)
def verdicts(_picked: list[Run], _saved: SavedRuns, stamp: str) -> None:
    """Say of each published figure of the chosen recipes how our interval lies to it, or why nothing is said."""
    labels = {row["run"]: plain(row["label"]) for row in rows_of(_picked, stamp)}
    sentences, reasons, own = {}, defaultdict(list), []
    for recipe_id in dict.fromkeys(str(run.recipe.get("id")) for run in _picked):
        runs = [run for run in _picked if run.recipe.get("id") == recipe_id]
        told = reproduction.reasons(runs, RECIPES[recipe_id], _saved.whole) if recipe_id in PUBLISHED else {}
        for run in runs:
            if run.imported:
                why = "it is imported, and of its recipe and pictures only what its owner says is known"
                reasons["", why].append(labels[run.id])
            elif recipe_id not in PUBLISHED:
                own.append(labels[run.id])
            elif told[run.id]:
                reasons[f" of {plain(recipe_id)}", plain(told[run.id])].append(labels[run.id])
            else:
                sentences[recipe_id] = None
    for recipe_id in sentences:
        told = reproduction.verdicts(recipe_id, _saved.whole)
        lines = [f"- {ICONS.get(str(one.verdict), '')} {plain(one.sentence)}" for one in told]
        st.markdown(f"**{plain(recipe_id)}**, published by: {plain(RECIPES[recipe_id].source)}\n" + "\n".join(lines))
    if sentences:
        st.caption(
            "Ours: every finished run of the recipe here, the newest of each seed, not only those chosen. "
            f"{reproduction.ONE_RUN}"
        )
    if own:
        st.caption(f"Nothing is published for recipes of this project: {some(own)}.")
    for (figure, reason), names in reasons.items():
        for sentence in held_against_none(names, figure, reason):
            st.caption(f":material/info: {sentence}")


def held_against_none(names: list[str], figure: str, reason: str) -> list[str]:
    """Say why runs are held against no published figure, such as one " of lecture-scratch": of many in one sentence."""
    if len(names) <= MANY:
        return [f"{name} is held against no published figure{figure}: {reason}." for name in names]
    return [f"{some(names)} are held against no published figure{figure}, each because {reason}."]


def figures(picked: list[Run], stamp: str) -> None:
    """Show the figures of the chosen runs, and offer them as CSV."""
    st.download_button(
        "Download as CSV", _figures(rows_of(picked, stamp), stamp), "runs.csv", "text/csv",
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip


@st.cache_resource(max_entries=64, show_spinner=False)
def _figures(_rows: list[dict[str, Any]], stamp: str) -> str:
    """Show the figures, and give them as CSV."""
    table = pd.DataFrame(_rows)
    table["interval"] = [_interval(row["test_low"], row["test_high"]) for row in _rows]
    table["val_interval"] = [_interval(row["last_val_low"], row["last_val_high"]) for row in _rows]
    shares = ["val_accuracy", "last_val_accuracy", "test_accuracy"]
    several, tested = table["dataset"].nunique() > 1, table["test_accuracy"].notna().any()
    left_out = {"val_interval"} if tested else {"test_accuracy", "interval"}
    left_out |= set() if several else {"dataset"}
    many = len(_rows) > MANY
    left_out |= set() if many else {"run"}  # of a few they stand below, to be copied
    st.subheader("Figures", anchor=False)
    st.dataframe(
        table.assign(**{name: table[name].astype("float64") * 100 for name in shares})[[*COLUMNS]],
        column_config=COLUMNS | ({"label": WHERE_LONG} if several else {}),
        column_order=[name for name in COLUMNS if name not in left_out],
        hide_index=True, placeholder="–",
        alt="The figures of each chosen run, as in its own files.",
    )  # fmt: skip
    known = not several and _rows[0]["dataset"] != NOT_KNOWN
    said = [f"All on {plain(_rows[0]['dataset'])}."] if known else []
    if not many:
        said.append("Run ids: " + ", ".join(f"{plain(row['label'])} `{row['run']}`" for row in _rows) + ".")
    st.caption(" ".join([f"{len(_rows):,} runs.", *said] if many else said))
    return csv_text(table.drop(columns=["interval", "val_interval"]))


def csv_text(table: pd.DataFrame) -> str:
    """Write a table as CSV in which no text is a formula to a spreadsheet: such a cell begins with an apostrophe."""

    def harmless(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell

    return str(table.map(harmless).to_csv(index=False))


def beside_published(saved: SavedRuns) -> None:
    """Show every recipe with finished runs beside its published figures."""
    _beside_published(saved, saved.number)


@st.cache_resource(max_entries=8, show_spinner=False)
def _beside_published(_saved: SavedRuns, number: int) -> None:
    st.subheader("Published figures beside our runs", anchor=False)
    table = _published_rows(_saved)
    if not table:
        empty_state("No finished run here is of a recipe as it is published.")
        return
    st.dataframe(
        table, hide_index=True, placeholder="–",
        column_config={"Recipe": st.column_config.TextColumn(pinned=True),
                       "Published": st.column_config.TextColumn(width=110),
                       "Our interval": st.column_config.TextColumn(width=120, help="How it lies to the published.")},
        alt="Every recipe with finished runs: published figures, ours over seeds, how our interval lies to them.",
    )  # fmt: skip
    st.caption(
        "Published figures are single runs of their sources. Ours: the mean over the newest run of each seed, ± their "
        "sample standard deviation. From three seeds up the interval is t over the seeds; one or two tell nothing of "
        "that spread, and theirs is Wilson's for so many pictures, with none for a training accuracy. "
        f"{reproduction.ONE_RUN} A published figure is known to half a unit of its last digit. A changed recipe or "
        "other pictures do not count."
    )


@lru_cache(maxsize=4)
def _published_rows(listed: SavedRuns) -> list[dict[str, Any]]:
    """The rows of the table over recipes, not to be changed; of hundreds of runs they take a while."""
    table, saved = [], listed.whole
    drawn = {str(run.dataset.get("id")) for run in saved if run.dataset.get("drawn")}
    for recipe in sorted(RECIPES.values(), key=lambda recipe: (recipe.id not in PUBLISHED, recipe.dataset in drawn)):
        for one in reproduction.verdicts(recipe.id, saved):
            if one.measured is not None:
                table.append(_beside(recipe.id, recipe.source, one.measured, one))
        if recipe.id not in PUBLISHED:
            for measured in reproduction.own_figures(recipe.id, saved):
                table.append(_beside(recipe.id, "this project", measured, None))
    return table


@st.cache_resource(max_entries=64, show_spinner=False)
def differences(_picked: list[Run], stamp: str) -> None:
    """Show only the settings in which the chosen runs differ."""
    st.subheader("What differs", anchor=False)
    if len(_picked) > MANY:
        many_panels.differences(_picked)
        return
    differing = comparison.differences(_picked)
    if differing:
        differing = [{name: plain(value) for name, value in setting.items()} for setting in differing]
        labels = {row["run"]: plain(row["label"]) for row in rows_of(_picked, stamp)}
        st.table(pd.DataFrame(differing).rename(columns=labels).set_index("setting"))
        st.caption("Only the settings that differ between the chosen runs; all others are the same.")
    else:
        st.caption("One run, or runs with the same settings: nothing differs.")


def _beside(
    recipe: str, source: str, measured: reproduction.Measured, verdict: reproduction.Verdict | None
) -> dict[str, Any]:
    digits = verdict.digits if verdict else 1
    spread = "" if measured.spread is None else f" ± {measured.spread * 100:.{digits}f}"
    of = reproduction.where(measured.split, measured.epoch)
    if verdict and verdict.ours_at:
        of = f"{reproduction.where(verdict.figure.split, verdict.figure.epoch)}; {verdict.ours_at}"
    return {
        "Recipe": recipe,
        "Published": reproduction.tight(verdict.figure.text) if verdict else None,
        "Ours": f"{measured.mean * 100:.{digits}f}{spread}%",
        "Our interval": (verdict.words if verdict else "") or None,
        "Of": of,
        "Seeds": len(measured.seeds),
        "95% interval": reproduction.span(measured, digits) or None,
        "Interval by": measured.interval or None,
        "A single run of ours": reproduction.one_span(measured, digits) or None,
        "Source": source,
    }


def add_histories() -> None:
    """Offer to import saved histories; what that takes is drawn, and its scripts loaded, once somebody opens it.

    From then on it is drawn closed too: what has been chosen and typed there stays.
    """
    added = st.expander("Add saved histories", icon=":material/upload_file:", key="add_histories", on_change="rerun")
    if added.open:
        st.session_state["add_histories_drawn"] = True
    if "add_histories_drawn" in st.session_state:
        with added:
            import_panel.draw()


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.1%} to {high:.1%}"
