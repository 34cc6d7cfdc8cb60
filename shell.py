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

from cvcore import charts, comparison, diagrams, run_directory
from cvcore.datasets import Dataset, open_dataset
from cvcore.errors import CvcoreError, RunDamaged
from cvcore.run_directory import Run
from saved_runs import SavedRuns, forget, look_for, saved_runs

if TYPE_CHECKING:
    import pandas as pd

PROJECT = Path(__file__).resolve().parent
PAGES = {
    "overview": ("Overview", ":material/home:"),
    "dataset": ("Dataset", ":material/photo_library:"),
    "augmentation": ("Augmentation", ":material/auto_fix_high:"),
    "train": ("Train", ":material/model_training:"),
    "compare": ("Compare", ":material/stacked_line_chart:"),
    "storage": ("Storage", ":material/storage:"),
}
RECENT = 8  # addresses of a picker that a click may still come with
log = logging.getLogger("fourways")


def page_path(name: str) -> str:
    """Give a page's script by name, a key of `PAGES`, as an absolute path."""
    return str(PROJECT / "pages" / f"{name}.py")


def navigation() -> Any:
    """Set the page up and return the page the URL asks for; the first statement of main.py and of every page.

    A deep link to a page on a freshly started server runs that page's script without main.py, until
    st.navigation has run once in the process: hence the call in each page, where its result is not used.
    """
    st.set_page_config(page_title="Fourways", page_icon=diagrams.icon(), layout="wide")
    look_for([*st.query_params.get_all("run"), *st.query_params.get_all("runs")])
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
    """List all runs, newest first, at most a second old; the runs are shared by all sessions and not to be changed."""
    return list(saved_runs().runs)


def forget_upload(file_id: str) -> None:
    """Drop an uploaded file's bytes, which Streamlit keeps until the browser leaves, whatever becomes of the widget."""
    context = get_script_run_ctx()
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, file_id)


def forget_runs() -> None:
    """Read the list of runs anew at its next use, as after a launch."""
    forget()


def history(run: Run) -> "pd.DataFrame":
    """Read a run's history.csv, again only when its files have changed."""
    return _history(run, f"{run.path} {run.modified()}").copy(deep=False)


@st.cache_resource(max_entries=64, show_spinner=False)
def _history(_run: Run, stamp: str) -> "pd.DataFrame":
    _checked(_run)
    return _run.history()[list(run_directory.HISTORY_COLUMNS)]


def _checked(run: Run) -> None:
    try:
        missing = set(run_directory.HISTORY_COLUMNS) - run.columns().keys()
    except (KeyError, ValueError, OverflowError):
        missing = {"epoch"}
    if missing:
        raise RunDamaged(f"run {run.id} has a history.csv that is not readable; other runs are not affected")


def files_of(chosen: list[Run]) -> str:
    """Give a key for what is drawn of these runs' files: it changes when one of them does."""
    return repr([(str(run.path), run.modified()) for run in chosen])


def readable(chosen: list[Run], files: str) -> list[Run]:
    """Keep the runs whose history can be read; say of each other one, in a caption, that it is left out.

    Args:
        chosen: the runs.
        files: `files_of` them; what is drawn of those that are left has the same key.
    """
    broken = _broken(chosen, files)
    for sentence in broken.values():
        damaged_caption(sentence)
    return [run for run in chosen if run.id not in broken]


@st.cache_resource(max_entries=64, show_spinner=False)
def _broken(_runs: list[Run], stamp: str) -> dict[str, str]:
    return unreadable(_runs)


def unreadable(among: list[Run]) -> dict[str, str]:
    """Read the histories of runs, and say of each that cannot be read what is wrong: run id -> sentence."""
    found = {}
    for run in among:
        try:
            _checked(run)
        except RunDamaged as error:
            found[run.id] = str(error)
    return found


def damaged_caption(sentence: str) -> None:
    """Show the sentence of a damaged run."""
    st.caption(f":material/broken_image: {plain(sentence)}")


def curves(chosen: list[Run], metric: str, smoothing: float = 0.0, key: str = "curves") -> None:
    """Draw the curves of runs; the figure is made again only when a run's files have changed.

    Args:
        chosen: the runs, in legend order.
        metric: "accuracy" or "loss".
        smoothing: as `charts.curves` takes it.
        key: of the chart, where a page draws this metric more than once.
    """
    labels = comparison.run_labels(chosen)
    stamp = [(str(run.path), run.modified(), labels[run.id]) for run in chosen]
    _curves(chosen, labels, metric, smoothing, f"{key}_{metric}", repr((stamp, metric, smoothing, key)))


# What these functions draw is kept ready to be sent, and drawn again from there for every session: making a chart of
# a figure takes twenty times as long. It is no data, and so never copied.
@st.cache_resource(max_entries=256, show_spinner=False)
def _curves(_runs: list[Run], _labels: dict[str, str], _metric: str, _smoothing: float, _key: str, stamp: str) -> None:
    series = []
    for run in _runs:
        frame = history(run)
        best, thawed = comparison.best_epoch(run, frame), comparison.thawed_from(run, frame)
        series.append(charts.Series(_labels[run.id], run.strategy, frame, best, thawed))
    figure, alt = charts.curves(series, _metric, _smoothing), charts.curves_alt(series, _metric)
    st.plotly_chart(figure, config=charts.CONFIG, alt=alt, key=_key)


def pick_runs(label: str, key: str, saved: SavedRuns) -> list[Run]:
    """Let the user pick runs; the URL names them by id (`?runs=ID&runs=ID`) and reopens the same choice.

    Many may be picked as one, such as `?runs=all`: those that there are whenever it is opened.

    Not `bind="query-params"`, which would put the labels shown into the URL instead of the ids.

    Args:
        label: what the picker says.
        key: the widget's key; the URL's parameter is always `runs`.
        saved: the runs to pick from; those it opens on are the choice when the URL names none, and leave it clean.
    """
    by_id = {run.id: run for run in saved.whole}
    usual = [run.id for run in saved.opening]
    asked = st.query_params.get_all("runs")
    told = [name for name in asked if name in saved.labels]
    name = _named(key, saved.labels)
    if name not in st.session_state or _address_counts(key, told, st.session_state[name]):
        st.session_state[name] = told or usual
    picked = st.multiselect(label, list(saved.labels), format_func=saved.labels.__getitem__, key=name,
                            placeholder="Choose runs")  # fmt: skip
    _say_gone(key, len(set(asked) - saved.labels.keys()), picked)
    told = [] if picked == usual else picked
    if told != asked:
        if told:
            st.query_params["runs"] = told
        else:
            st.query_params.pop("runs", None)
    _note_address(key, asked, told, picked)
    ids = (run_id for one in picked for run_id in saved.together.get(one, (one,)))
    return [by_id[run_id] for run_id in dict.fromkeys(ids)]


def chosen_runs(key: str) -> list[str]:
    """Return what the picker of this key has, as an address names it; [] where it was not drawn."""
    number, _ = st.session_state.get(f"{key}_labels", (0, None))
    return list(st.session_state.get(f"{key}_{number}" if number else key, []))


def pick_run(label: str, key: str, among: list[Run], owner: str | None = None) -> Run | None:
    """Let the user pick one run, newest first; the URL names it (`?run=ID`), so that a reload shows it again.

    Args:
        label: what the picker says.
        key: the widget's key.
        among: the runs to pick from.
        owner: whose runs it rather opens on than on another owner's.
    """
    if not among:
        return None
    by_id = {run.id: run for run in among}
    names = {run.id: _name(run) for run in among}
    told = st.query_params.get("run")
    name = _named(key, names)
    if st.session_state.get(name) not in by_id or _address_counts(key, told, st.session_state[name]):
        # An imported history may be any visitor's; it opens only when it is asked for or nothing else is there.
        opens = min(among, key=lambda run: (run.imported, run.reference, run.owner not in (None, owner)))
        st.session_state[name] = told if told in by_id else opens.id
    picked = st.selectbox(label, list(by_id), format_func=names.__getitem__, key=name)
    _say_gone(key, int(told is not None and told not in by_id), [picked])
    if picked != told:
        st.query_params["run"] = picked
    _note_address(key, told, picked, picked)
    return by_id[picked]


def _named(key: str, labels: dict[str, str]) -> str:
    """Name a widget that offers these labels (by id), and carry its choice over to another name where one has changed.

    A browser sends a choice as the labels it shows. A label that has changed since means nothing any more, so the
    choice would be lost at the next click; under another name the widget begins anew, with the same ids.
    """
    number, before = st.session_state.get(f"{key}_labels", (0, labels))
    name = f"{key}_{number}" if number else key
    if before is not labels and any(labels.get(run_id, was) != was for run_id, was in before.items()):
        number, following = number + 1, f"{key}_{number + 1}"
        if name in st.session_state:  # read with the labels of before, which are those the browser has shown
            st.session_state[following] = st.session_state[name]
        name = following
    st.session_state[f"{key}_labels"] = number, labels
    return name


def _address_counts(key: str, told: Any, chosen: Any) -> bool:
    """Say whether the URL decides what a picker has, and not the widget: when it has changed under us (back, a link).

    A click that soon follows another one comes with a URL of before, as the browser has not heard of the new one yet:
    then the click counts, on the picker or on any other widget. This is not seen of a box that was ticked off, and of
    a widget that was drawn for the first time just before.

    Args:
        key: the picker's.
        told: what the URL names.
        chosen: what the widget has.
    """
    last, picked, recent, before = st.session_state.get(f"{key}_told", (None, None, [], {}))
    if told == last or told not in recent:
        return bool(told != last)
    context = get_script_run_ctx()
    back = context is not None and context.is_history_navigation
    # A button is pressed for one draw: that it is so no more is no click.
    clicked = any(before.get(name, now) not in (now, True) for name, now in _others(key).items())
    return bool(chosen == picked and (back or not clicked))


def _note_address(key: str, asked: Any, told: Any, picked: Any) -> None:
    """Note what a picker has, what the URL named and is to name from now on, and what other widgets have."""
    _, _, recent, _ = st.session_state.get(f"{key}_told", (None, None, [], {}))
    st.session_state[f"{key}_told"] = told, picked, [*recent, asked, told][-RECENT:], _others(key)


def _others(key: str) -> dict[str, Any]:
    """Give what other widgets than a picker have, as text but for boxes and buttons; no files, which are large."""
    return {
        str(name): value if isinstance(value, bool) else str(value)
        for name, value in st.session_state.items()
        if isinstance(value, (str, int, float, list)) and not str(name).startswith(key)
    }


def follow_address(key: str) -> None:
    """Let the address, which the page itself has changed, decide what a picker has at its next draw."""
    st.session_state.pop(f"{key}_told", None)


def _say_gone(key: str, gone: int, picked: list[str]) -> None:
    """Say that runs of the address are not there, as long as what was opened instead is shown."""
    if gone:
        st.session_state[f"{key}_gone"] = gone, picked
    gone, instead = st.session_state.get(f"{key}_gone", (0, []))
    if gone and picked == instead:
        words = "The run that this address names is" if gone == 1 else f"{gone} runs that this address names are"
        st.caption(f":material/info: {words} not among the saved runs.")
    elif gone:
        del st.session_state[f"{key}_gone"]


def _name(run: Run) -> str:
    started = str(run.info.get("created", ""))[:16].replace("T", " ")
    if run.imported:
        return f"{run.name or run.recipe.get('title') or run.recipe.get('id')}, imported, {started} ({run.id[-4:]})"
    fewer = f", {n:,} pictures" if isinstance(n := run.recipe.get("train_pictures"), int) else ""
    return f"{run.name or run.recipe.get('id')}, seed {run.seed}{fewer}, {started} ({run.id[-4:]})"


@st.cache_resource(max_entries=8, ttl=60, show_spinner="Reading the pictures (drawings are made at their first use)")
def dataset(source: str) -> Dataset:
    """Open a dataset; one object serves all sessions and is never changed."""
    return open_dataset(source)


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
