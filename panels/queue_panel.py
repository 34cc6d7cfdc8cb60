"""The line on the Train page: what trains now and on what, who waits, in which order, and until when about."""

import logging
from typing import Any

import streamlit as st

import people
import saved_runs
import shell
from cvcore import backends, waiting_line
from cvcore.backends import Capacity, Status
from cvcore.comparison import number
from cvcore.errors import CvcoreError
from cvcore.permissions import Person
from cvcore.run_directory import Run

REFRESH = 2.0  # seconds
FIRST = 5  # waiting runs that are listed besides one's own

log = logging.getLogger("fourways")


def line() -> None:
    """Draw the line, below what launches, every two seconds while something trains or waits; and the sign-in."""
    people.no_cookie_caption()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Training now and next", anchor=False)
        people.sign_in()
    with shell.error_box():
        busy = bool(now()["rows"])
        st.fragment(_draw, run_every=REFRESH if busy else None)(busy)


def now() -> dict[str, Any]:
    """Say how the line is, at most a second and a half old and read once for all browsers.

    Returns:
        words, problem (a sentence or None), served (a worker lives), slots, free, kind, device, and rows: a dict for
        each run that trains or waits, in order: id, title, seed, name, owner, status, position (from 1, None while it
        trains), seconds (until it starts, or until it ends; None where nobody can tell).
    """
    return _now(saved_runs.saved_runs().number)


@st.cache_data(ttl=1.5, max_entries=4, show_spinner=False)
def _now(listing: int) -> dict[str, Any]:
    runs = shell.runs()
    try:
        capacity, status = backends.capacity(), backends.status()
    except Exception as error:  # the line is drawn all the same, and its runs can be stopped
        log.exception("the backend could not be asked how it is")
        problem = str(error) if isinstance(error, CvcoreError) else "The server's log says why."
        capacity = Capacity(1, 0, "CPU", None, "not known")
        status = Status("What trains here does not answer.", True, problem)
    places = waiting_line.places(runs, capacity.slots)
    training = [_row(run, None, _seconds_left(run)) for run in reversed(runs) if run.status == "running"]
    waiting = [_row(run, place.position, place.starts_in) for run in runs if (place := places.get(run.id))]
    return {
        "words": status.words,
        "problem": status.problem,
        "served": status.worker_alive,
        "slots": capacity.slots,
        "free": capacity.free,
        "kind": capacity.kind,
        "device": capacity.device,
        "rows": [*training, *sorted(waiting, key=lambda row: row["position"])],
    }


def _row(run: Run, position: int | None, seconds: float | None) -> dict[str, Any]:
    title = run.recipe.get("title") or run.recipe.get("id")
    if fewer := number(run.recipe.get("train_pictures")):
        title = f"{title}, {fewer:,} pictures"
    return {"id": run.id, "title": title, "seed": run.seed, "name": run.name, "owner": run.owner, "status": run.status,
            "position": position, "seconds": seconds}  # fmt: skip


def _seconds_left(run: Run) -> float | None:
    progress = run.progress()
    return number(progress.get("seconds_left")) if isinstance(progress, dict) else None


def _draw(busy: bool) -> None:
    with shell.error_box():
        state, person = now(), people.person()
        if busy != bool(state["rows"]):
            st.rerun()  # the whole page, which then asks every two seconds, or no more
        with st.container(border=True):
            st.markdown(f":material/memory: {shell.plain(state['words'])}")
            if state["problem"]:
                st.markdown(f":orange[:material/warning: {shell.plain(state['problem'])}]")
            if not state["rows"]:
                st.caption(f"Nothing trains or waits; a run launched now starts at once ({_slots(state)}).")
                return
            waiting = [row for row in state["rows"] if row["position"]]
            own = [row for row in waiting if row["owner"] == person.owner]
            taken = state["slots"] - state["free"]
            words = f"{taken} of {_slots(state)} {'is' if taken == 1 else 'are'} taken, {len(waiting)} waiting."
            if own:
                words += f" Your next run: {waits(own[0]['id'])}."
            st.caption(words)
            shown = [row for row in waiting if row["position"] <= FIRST or row in own[:FIRST]]
            training = [row for row in state["rows"] if not row["position"]]
            st.table([_cells(row, person) for row in [*training, *shown]], border="horizontal", hide_index=True)
            if len(shown) < len(waiting):
                st.caption(f"And {len(waiting) - len(shown)} more.")


def _slots(state: dict[str, Any]) -> str:
    """Say how many runs train at a time."""
    return f"{state['slots']} {state['kind']} slot" + ("s" if state["slots"] != 1 else "")


def waits(run_id: str) -> str:
    """Say in words where a queued run stands and when it is expected to start."""
    state = now()
    row = next((row for row in state["rows"] if row["id"] == run_id and row["position"]), None)
    if row is None:
        return "Waiting for its turn"
    if not state["served"]:
        return "Waiting for a worker, which starts within seconds"
    if row["position"] <= state["free"]:
        return "Being started, which takes some seconds"
    starts = "" if row["seconds"] is None else f", starts in about {about(row['seconds'])}"
    return f"{ordinal(row['position'])} in line{starts}"


def _cells(row: dict[str, Any], person: Person) -> dict[str, str]:
    """Show a row of the line; only the teacher and its owner see whose it is and what they call it."""
    title = f"{shell.plain(row['title'])}, seed {shell.plain(row['seed'])}"
    own = row["owner"] is not None and row["owner"] == person.owner
    if row["name"] and (own or person.teacher):
        title = f"{shell.plain(row['name'])} ({title})"
    place, what = (ordinal(row["position"]), "starts") if row["position"] else ("training", "ends")
    when = "–" if row["seconds"] is None else f"{what} in about {about(row['seconds'])}"
    mark = "**" if own else ""
    cells = {"Place": place, "Run": title, "Whose": whose(row["owner"], person), "When": when}
    return {name: f"{mark}{cell}{mark}" for name, cell in cells.items()}


def whose(owner: str | None, person: Person) -> str:
    """Say whose a run is: the teacher sees a short owner code, everybody else only whether it is theirs."""
    if owner is None:
        return "from a terminal"
    if owner == person.owner:
        return "yours"
    return f"owner {owner[:6]}" if person.teacher else "another's"


def ordinal(number: int) -> str:
    """Write a place: 1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def about(seconds: float) -> str:
    """Show seconds that are not known to the second: 10 s, 40 s, 4 min, 2 h 5 min."""
    if seconds < 55:
        return f"{max(10, round(seconds / 10) * 10)} s"
    if seconds < 3570:
        return f"{round(seconds / 60)} min"
    return shell.duration(seconds)
