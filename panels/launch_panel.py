"""Launching on the Train page: what it takes, once or over seeds and training-set sizes, and what came of it."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

import people
import saved_runs
import shell
from cvcore import choices, launching, settings
from cvcore.datasets import Dataset
from cvcore.errors import AlreadyThere, CvcoreError
from cvcore.estimate import Estimate, estimate
from cvcore.recipe import Recipe
from cvcore.run_directory import Run
from panels import queue_panel

ANSWER = "train_answer"  # in the session's state: what the last press of the button came to
PRESSED = "train_pressed"  # in the session's state: a button was pressed and has launched nothing yet
NOT_NOW = "Nothing was launched: what is said above has to be put right first."
CHANGED = "Nothing was launched: the settings changed as the button was pressed. Press it once more."

DISK = "What its frozen layers make of the pictures is stored, and shared by all runs that need the same."

log = logging.getLogger("fourways")


@dataclass(frozen=True)
class Request:
    """What the button launches: one run, or a group where there are several seeds or sizes."""

    recipe: Recipe
    dataset: Dataset
    seeds: tuple[int, ...]
    sizes: tuple[int | None, ...]
    from_run: str | None

    @property
    def count(self) -> int:
        return len(self.seeds) * len(self.sizes)

    @property
    def key(self) -> str:
        """Tell this request from another: its answer is shown as long as the settings are these."""
        told = (self.recipe.model_dump_json(), self.dataset.fingerprint, self.seeds, self.sizes, self.from_run)
        return hashlib.sha256(repr(told).encode()).hexdigest()


def expected(recipe: Recipe, dataset: Dataset, from_run: str | None) -> Estimate:
    """Estimate one run where it would train, and draw what it takes."""
    found = _estimate(recipe, dataset, from_run)
    with st.container(horizontal=True):
        st.metric("Estimated time", shell.duration(found.seconds), help=_terms_in_words(found))
        st.metric("Estimated memory", f"{found.memory_mb:,.0f} MB")
        if found.disk_mb >= 1:
            st.metric("Estimated disk", f"{found.disk_mb:,.0f} MB", help=DISK)
        if settings.ray_address():
            st.metric("Device", queue_panel.now()["device"])
        else:
            st.metric("Device", choices.device_in_words(), help=choices.device_in_full())
    st.caption(f"{found.basis} {_again_in_words(found)}".strip())
    return found


def _terms_in_words(found: Estimate) -> str:
    """Say what the time is made of."""
    terms = (f"{name} {shell.duration(seconds)}" for name, seconds in found.terms.items() if seconds >= 0.5)
    return f"From the launch to the end: {', '.join(terms)}."


def _again_in_words(found: Estimate) -> str:
    """Say how much shorter a run is that finds its pictures and activations stored."""
    if found.again_seconds is None or found.again_seconds > 0.9 * found.seconds:
        return ""
    seconds = shell.duration(found.again_seconds)
    return f"Another run, which finds pictures and activations stored, takes {seconds}."


def _estimate(recipe: Recipe, dataset: Dataset, from_run: str | None) -> Estimate:
    kind = queue_panel.now()["kind"] if settings.ray_address() else ("GPU" if choices.gpu() else "CPU")
    continues = from_run is not None
    about = {} if settings.ray_address() else launching.here(recipe, dataset, kind, continues)
    number = saved_runs.saved_runs().number
    key = (recipe.model_dump_json(), dataset.fingerprint, number, repr(about))
    return _estimated(recipe, dataset, kind, continues, about, key)


@st.cache_resource(max_entries=256, show_spinner=False)  # frozen, and so never copied
def _estimated(
    _recipe: Recipe, _dataset: Dataset, kind: str, continues: bool, _about: dict[str, Any],
    key: tuple[str, str, int, str],
) -> Estimate:  # fmt: skip
    return estimate(_recipe, _dataset.counts, shell.runs(), kind=kind, continues=continues, **_about)


def request(recipe: Recipe, dataset: Dataset, seed: int, from_run: str | None) -> Request:
    """Let the user repeat a run over seeds and training-set sizes; say how many runs that makes and what they take."""
    with st.expander("Repeat over seeds and training-set sizes", icon=":material/stacked_line_chart:"):
        left, right = st.columns([1, 3])
        most = most_runs()
        repeats = left.number_input(
            "Seeds", 1, most, 1, key="train_repeat_seeds",
            help="The seed above and those that follow: how far figures differ by chance alone.",
        )  # fmt: skip
        there, least = len(dataset.split("train")), _largest_batch(recipe)
        offered = [*launching.sizes_of(dataset, least), there]
        picked = right.pills(
            "Training pictures", offered, selection_mode="multi", key=f"train_repeat_sizes_{dataset.id}_{least}",
            format_func=lambda size: f"all {size:,}" if size == there else f"{size:,}",
            help="Each class in proportion, the smaller sizes within the larger, the same pictures for every seed. "
                 "None picked: as many as the settings say.",
        )  # fmt: skip
        sizes = [None if size == there else size for size in offered if size in picked] or [recipe.train_pictures]
        found = Request(recipe, dataset, tuple(launching.seeds_from(int(seed), int(repeats))), tuple(sizes), from_run)
        st.caption(_in_words(found, most))
        return found


def _in_words(found: Request, most: int) -> str:
    """Say how many runs a request makes, with which seeds, and how long all of them take."""
    if found.count == 1:
        return "One run. Several seeds show how far figures differ by chance, several sizes what more pictures bring."
    seconds = 0.0
    for size in found.sizes:
        one = _estimate(found.recipe.with_changes(train_pictures=size), found.dataset, found.from_run)
        seconds += one.seconds + (len(found.seeds) - 1) * (one.again_seconds or one.seconds)
    seeds = f"seed{'s' if len(found.seeds) > 1 else ''} {', '.join(map(str, found.seeds))}"
    times = f" × {len(found.sizes)} training-set sizes" if len(found.sizes) > 1 else ""
    words = f"**{found.count} runs** ({seeds}{times}), about {shell.duration(seconds)} one after the other."
    if found.count > most:
        return f":red[:material/error: {words} At most {most} may be launched at once: take fewer seeds or sizes.]"
    return f"{words} They wait as one launch, and are shown together."


def too_many(found: Request) -> bool:
    """Say whether this person may not launch as many runs at once."""
    return found.count > most_runs()


def most_runs() -> int:
    """Return how many runs this person may launch at once."""
    return launching.MOST_OF_A_TEACHER if people.person().teacher else launching.MOST_OF_A_STUDENT


def _largest_batch(recipe: Recipe) -> int:
    return max(part.batch_size for part in (recipe, recipe.starts_from) if part is not None)


def button(wanted: Request | None) -> None:
    """Draw the button and launch when it is pressed, what this draw of the page says; None where that cannot be.

    The browser sends an edit and the press that follows it one after the other, so the page as it was drawn when the
    button was pressed may be older than the edit.
    """
    several = wanted is not None and wanted.count > 1
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(
            f"Launch {wanted.count} runs" if several and wanted else "Launch", type="primary",
            icon=":material/play_arrow:", disabled=wanted is None, key="train_launch", on_click=_remember,
        )  # fmt: skip
        if wanted is None:
            if st.session_state.pop(PRESSED, False):
                st.markdown(f":orange[:material/info: {NOT_NOW}]", width="content")
            return
        if pressed:
            _launch(wanted)
        answer: dict[str, Any] = st.session_state.get(ANSWER, {})
        if "open" in answer:
            st.query_params.from_dict({**_kept(), **answer["open"]})
            shell.follow_address("train_run")
            del answer["open"]
        if answer.get("kind") and answer["key"] == wanted.key:
            _answer(answer, wanted)
        if st.session_state.pop(PRESSED, False):  # neither button of this draw took it
            st.markdown(f":orange[:material/info: {CHANGED}]", width="content")


def _kept() -> dict[str, list[str]]:
    """Return the page's address but for the run and the group that it shows."""
    return {name: st.query_params.get_all(name) for name in st.query_params if name not in ("run", "group")}


def _remember() -> None:
    st.session_state[PRESSED] = True


def _answer(answer: dict[str, Any], wanted: Request) -> None:
    """Say what the last press of the button came to."""
    by_id = {run.id: run for run in shell.runs()}
    run = by_id.get(answer.get("run", ""))
    if answer["kind"] == "launched":
        words = f"Launched {answer['count']} runs" if answer["count"] > 1 else "Launched"
        if answer["there"]:
            words += f", {answer['there']} of the group {'was' if answer['there'] == 1 else 'were'} there already"
        place = f": {queue_panel.waits(run.id)}" if run is not None and run.status == "queued" else ""
        st.markdown(f":green[:material/check: {words}]{shell.plain(place)}", width="content")
        return
    words = answer["words"]
    if answer["kind"] == "there" and run is not None and wanted.count == 1:
        does = {"done": "is done already", "running": "is training now"}.get(run.status, "waits for its turn already")
        words = f"This very run (recipe, pictures and seed) {does}"
    st.markdown(f":orange[:material/info: {_sentence(words)}]", width="content")
    if answer["kind"] == "there" and run is not None:
        st.page_link(
            shell.page_path("train"), label="Open it", icon=":material/open_in_browser:", query_params=_address(run)
        )
        words = "Train them anyway" if wanted.count > 1 else "Train it anyway"
        if st.button(words, key="train_anyway", on_click=_remember):
            _launch(wanted, anyway=True)
            st.rerun()  # this draw has said what was answered before


def _address(run: Run) -> dict[str, str]:
    """Return the query of the page that shows a run, with its group where it has one."""
    group = (run.group or {}).get("id")
    return {"run": run.id, **({"group": group} if isinstance(group, str) else {})}


def _sentence(text: str) -> str:
    return shell.plain(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))


def _launch(wanted: Request, anyway: bool = False) -> None:
    """Launch before the line and the run's panel are drawn, so that they show it at once."""
    owner, most = people.owner(), most_runs()
    st.session_state.pop(PRESSED, None)  # first of all: nothing that follows may launch it twice
    answer: dict[str, Any] = {"key": wanted.key}
    # Another click of the same visitor ends this draw at its next call of Streamlit, so there is none from here on.
    st.session_state[ANSWER] = answer
    try:
        launched, there = _launched(wanted, owner, most, anyway)
        answer |= {"kind": "launched", "run": launched[0].id, "count": len(launched), "there": there,
                   "open": _address(launched[0]) if wanted.count > 1 else {"run": launched[0].id}}  # fmt: skip
    except AlreadyThere as error:
        answer |= {"kind": "there", "words": str(error), "run": error.run_id}
    except CvcoreError as error:
        answer |= {"kind": "refused", "words": str(error)}
    except Exception:  # a page never shows a traceback
        log.exception("unexpected error while launching")
        words = "Something unexpected went wrong here; the details are in the server's log."
        answer |= {"kind": "refused", "words": words}
    shell.forget_runs()


def _launched(wanted: Request, owner: str | None, most: int, anyway: bool) -> tuple[Sequence[Run], int]:
    """Launch a run or a group: (the new runs, how many of the group were there before)."""
    common: dict[str, Any] = {"from_run": wanted.from_run, "owner": owner, "anyway": anyway}
    if wanted.count == 1:
        recipe, size = wanted.recipe, wanted.sizes[0]
        recipe = recipe if size == recipe.train_pictures else recipe.with_changes(train_pictures=size)
        return [launching.launch(recipe, wanted.dataset, wanted.seeds[0], **common)], 0
    sweep = launching.launch_sweep(wanted.recipe, wanted.dataset, wanted.seeds, wanted.sizes, most=most, **common)
    return sweep.launched, len(sweep.there)
