"""What every page shares: navigation, errors as sentences, cached readers of runs, the run picker."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cvcore import accuracy_chart, charts, comparison, diagrams, run_directory, settings
from cvcore.datasets import Dataset, open_dataset
from cvcore.errors import CvcoreError, RunDamaged
from cvcore.published import PublishedFigure
from cvcore.run_directory import Run

if TYPE_CHECKING:
    import pandas as pd

PROJECT = Path(__file__).resolve().parent
PAGES = {
    "overview": ("Overview", ":material/home:"),
    "dataset": ("Dataset", ":material/photo_library:"),
    "augmentation": ("Augmentation", ":material/auto_fix_high:"),
    "train": ("Train", ":material/model_training:"),
    "compare": ("Compare", ":material/stacked_line_chart:"),
}
log = logging.getLogger("fourways")


def page_path(name: str) -> str:
    """Give a page's script by name ("overview", "dataset", "augmentation", "train", "compare"), as an absolute path."""
    return str(PROJECT / "pages" / f"{name}.py")


def navigation() -> Any:
    """Set the page up and return the page the URL asks for; the first statement of app.py and of every page.

    A deep link to a page on a freshly started server runs that page's script without app.py, until
    st.navigation has run once in the process: hence the call in each page, where its result is not used.
    """
    st.set_page_config(page_title="Fourways", page_icon=diagrams.icon(), layout="wide")
    pages = [
        st.Page(
            page_path(name),
            title=title,
            icon=icon,
            url_path={"overview": "home"}.get(name, name),
            default=name == "overview",
        )
        for name, (title, icon) in PAGES.items()
    ]
    # The default page is served at "/" and its own path is not; this serves it at "/overview" too.
    title, icon = PAGES["overview"]
    pages.append(st.Page(page_path("overview"), title=title, icon=icon, url_path="overview", visibility="hidden"))
    return st.navigation(pages, position="top")


@contextmanager
def error_box() -> Iterator[None]:
    """Show whatever goes wrong inside as one sentence, and go on after the block; the log gets the traceback.

    What comes after the block is drawn too: it must not rely on the block having succeeded.
    """
    try:
        yield
    except CvcoreError as error:
        st.error(plain(str(error)), icon=":material/error:")
    except Exception:  # a page never shows a traceback
        log.exception("unexpected error on a page")
        st.error("Something unexpected went wrong here; the details are in the server's log.", icon=":material/error:")


def plain(text: object) -> str:
    """Escape what others named (classes, files, titles, errors that quote them), so that Markdown shows it as it is.

    Needed wherever such text goes into st.markdown, st.caption, st.error, st.table or a picture's caption; options of
    a select box, data frames and alternative texts are no Markdown. Line breaks become spaces.
    """
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~:$<>&])", r"\\\1", " ".join(str(text).split()))


def empty_state(text: str, action: str | None = None, page: str | None = None) -> None:
    """Say what is missing and offer the one next step.

    Args:
        text: one sentence: what would be here.
        action: the label of the link, or None for no link.
        page: the page the link goes to, one of `PAGES`.
    """
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(text, text_alignment="center")
        if action and page:
            st.page_link(page_path(page), label=action, icon=PAGES[page][1])


def runs() -> list[Run]:
    """List all runs, newest first, at most a second old."""
    return _runs(str(settings.runs_folder()))


@st.cache_data(ttl=1, max_entries=4, show_spinner=False)
def _runs(folder: str) -> list[Run]:
    return run_directory.list_runs(Path(folder))


def forget_upload(file_id: str) -> None:
    """Drop an uploaded file's bytes, which Streamlit keeps until the browser leaves, whatever becomes of the widget."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, file_id)


def forget_runs() -> None:
    """Read the list of runs anew at its next use, as after a launch."""
    _runs.clear()


def history(run: Run) -> "pd.DataFrame":
    """Read a run's history.csv, again only when its files have changed."""
    return _history(run, str(run.path), run.modified())


@st.cache_data(max_entries=64, show_spinner=False)
def _history(_run: Run, path: str, modified: float) -> "pd.DataFrame":
    try:
        frame = _run.history()
        return frame[list(run_directory.HISTORY_COLUMNS)]
    except (KeyError, ValueError, OverflowError):
        raise RunDamaged(f"run {_run.id} has a history.csv that is not readable; other runs are not affected") from None


def readable(chosen: list[Run]) -> list[Run]:
    """Keep the runs whose history can be read; say of each other one, in a caption, that it is left out."""
    kept = []
    for run in chosen:
        try:
            history(run)
            kept.append(run)
        except RunDamaged as error:
            damaged_caption(str(error))
    return kept


def damaged_caption(sentence: str) -> None:
    """Show the sentence of a damaged run."""
    st.caption(f":material/broken_image: {plain(sentence)}")


def curves(chosen: list[Run], metric: str, smoothing: float = 0.0) -> None:
    """Draw the curves of runs; the figure is built again only when a run's files have changed."""
    labels = comparison.run_labels(chosen)
    stamp = tuple((str(run.path), run.modified(), labels[run.id]) for run in chosen)
    figure, alt = _curves(chosen, labels, stamp, metric, smoothing)
    st.plotly_chart(figure, config=charts.CONFIG, alt=alt, key=f"curves_{metric}")


@st.cache_data(max_entries=256, show_spinner=False)
def _curves(
    _runs: list[Run], _labels: dict[str, str], stamp: tuple[Any, ...], metric: str, smoothing: float
) -> tuple[dict[str, Any], str]:
    series = []
    for run in _runs:
        frame = history(run)
        best, thawed = comparison.best_epoch(run, frame), comparison.thawed_from(run, frame)
        series.append(charts.Series(_labels[run.id], run.strategy, frame, best, thawed))
    return charts.curves(series, metric, smoothing), charts.curves_alt(series, metric)


def accuracy_dots(rows: list[dict[str, Any]], split: str, marks: dict[str, tuple[PublishedFigure, ...]]) -> None:
    """Draw the accuracies of rows of `comparison.figures` on one split, published figures marked by run id."""
    figure, alt = _accuracy_dots(rows, split, marks)
    st.plotly_chart(figure, config=charts.CONFIG, alt=alt, key=f"accuracy_dots_{split}")


@st.cache_data(max_entries=128, show_spinner=False)
def _accuracy_dots(
    rows: list[dict[str, Any]], split: str, marks: dict[str, tuple[PublishedFigure, ...]]
) -> tuple[dict[str, Any], str]:
    drawn = accuracy_chart.accuracy_dots(rows, split, marks)
    return drawn, accuracy_chart.accuracy_dots_alt(rows, split, marks)


def pick_runs(label: str, key: str, among: list[Run], default: list[Run]) -> list[Run]:
    """Let the user pick runs; the URL names them by id (`?runs=ID&runs=ID`) and reopens the same choice.

    Not `bind="query-params"`, which would put the labels shown into the URL instead of the ids.

    Args:
        label: what the picker says.
        key: the widget's key; the URL's parameter is always `runs`.
        among: the runs to pick from.
        default: the choice when the URL names none of them; it leaves the URL clean.
    """
    by_id = {run.id: run for run in among}
    usual = [run.id for run in default]
    told = [run_id for run_id in st.query_params.get_all("runs") if run_id in by_id]
    # The URL wins when the page opens and when it has changed under us (back, forward); otherwise the widget does.
    if key not in st.session_state or told != st.session_state.get(f"{key}_told"):
        st.session_state[key] = told or usual
    labels = comparison.run_labels(among)
    picked = st.multiselect(label, list(by_id), format_func=labels.__getitem__, key=key, placeholder="Choose runs")
    told = [] if picked == usual else picked
    if told != st.query_params.get_all("runs"):
        if told:
            st.query_params["runs"] = told
        else:
            st.query_params.pop("runs", None)
    st.session_state[f"{key}_told"] = told
    return [by_id[run_id] for run_id in picked]


def pick_run(label: str, key: str, among: list[Run]) -> Run | None:
    """Let the user pick one run, newest first; the URL names it (`?run=ID`), so that a reload shows it again."""
    if not among:
        return None
    by_id = {run.id: run for run in among}
    told = st.query_params.get("run")
    if key not in st.session_state or told != st.session_state.get(f"{key}_told"):
        # An imported history may be any visitor's; it opens only when it is asked for or nothing else is there.
        opens = min(among, key=lambda run: (run.imported, run.reference))
        st.session_state[key] = told if told in by_id else opens.id
    picked = st.selectbox(label, list(by_id), format_func=lambda run_id: _name(by_id[run_id]), key=key)
    if picked != told:
        st.query_params["run"] = picked
    st.session_state[f"{key}_told"] = picked
    return by_id[picked]


def _name(run: Run) -> str:
    started = str(run.info.get("created", ""))[:16].replace("T", " ")
    if run.imported:
        return f"{run.recipe.get('title') or run.recipe.get('id')}, imported, {started} ({run.id[-4:]})"
    return f"{run.recipe.get('id')}, seed {run.seed}, {started} ({run.id[-4:]})"


def reference_ids(run: Run | None = None) -> list[str]:
    """List the ids of the recorded runs that a run compares with, on its pictures if there are any, else the lesson's.

    Args:
        run: any run; None for the lesson's.
    """
    recorded = comparison.reference_runs(runs()) if run is None else comparison.on_the_same_pictures(run, runs())
    return [one.id for one in recorded]


@st.cache_resource(max_entries=8, ttl=60, show_spinner="Reading the pictures (drawings are made at their first use)")
def dataset(source: str) -> Dataset:
    """Open a dataset; one object serves all sessions and is never changed."""
    return open_dataset(source)


def predictions(run: Run) -> "pd.DataFrame":
    """Read a run's predictions.csv, again only when its files have changed."""
    return _predictions(run, str(run.path), run.modified())


@st.cache_data(max_entries=16, show_spinner=False)
def _predictions(_run: Run, path: str, modified: float) -> "pd.DataFrame":
    return _run.predictions()


def percent(share: float | None) -> str:
    """Show a share as a percentage, or a dash where there is none."""
    return "–" if share is None else f"{share:.1%}"


def interval(row: dict[str, Any]) -> str:
    """Show the 95% interval of a row of `comparison.figures`, "" where there is none."""
    if row["test_low"] is None or row["test_high"] is None:
        return ""
    return f"95% interval {row['test_low']:.1%} to {row['test_high']:.1%}, {count(row['test_count'])} test pictures"


def count(number: int | None) -> str:
    """Show a whole number with thousands apart, or a dash where there is none."""
    return "–" if number is None else f"{number:,}"


def duration(seconds: float | None) -> str:
    """Show seconds as people say them ("8 s", "3 min 20 s", "2 h 5 min"), or a dash where there are none."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 and whole != seconds else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
