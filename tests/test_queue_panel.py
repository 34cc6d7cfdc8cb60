"""What the Train page says of who trains and who waits."""

import json

import pytest
import streamlit as st
from handmade_runs import write_run
from pages_drawn import living, sound, words
from two_students import ANNA, BEN, TEACHER, Classroom, code

from cvcore.backends import Capacity, Status
from panels import queue_panel

pytestmark = pytest.mark.usefixtures("drawings")


@pytest.fixture
def classroom(monkeypatch):
    return Classroom(monkeypatch)


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    """A computer with one slot whose worker lives; the test may change what it says."""
    says = {"slots": 1, "served": True, "problem": None, "words": "Runs train on this computer."}

    def capacity(folder=None):
        running = sum(run.status == "running" for run in queue_panel.shell.runs())
        return Capacity(says["slots"], max(0, says["slots"] - running), "CPU", 4000.0, "two cores")

    monkeypatch.setattr("cvcore.backends.capacity", capacity)
    monkeypatch.setattr(
        "cvcore.backends.status", lambda folder=None: Status(says["words"], says["served"], says["problem"])
    )
    queue_panel._now.clear()
    yield says
    queue_panel._now.clear()


def queued(runs, ticket, owner, seconds=200.0, **info):
    estimate = {"seconds": seconds, "memory_mb": 900, "basis": "by hand"} if seconds else None
    run_id = write_run(runs, "doodle-scratch", status="queued", seed=ticket, ticket=ticket, backend="local",
                       owner=code(owner) if owner else None, estimate=estimate, **info)  # fmt: skip
    (runs / run_id / "history.csv").unlink()
    return run_id


def training(runs, owner, seconds_left=120.0):
    run_id = write_run(runs, "doodle-augmented", status="running", process=living(), owner=code(owner), ticket=1,
                       turn=1, backend="local")  # fmt: skip
    progress = {"phase": "training", "step": 5, "steps": 13, "epoch": 2, "epochs": 6, "seconds_left": seconds_left}
    (runs / run_id / "progress.json").write_text(json.dumps(progress))
    return run_id


def rows(page):
    (table,) = page.table
    return [tuple(row) for row in table.value.itertuples(index=False)]


def test_the_line_shows_order_and_expected_starts_own_runs_marked_others_anonymous(runs, classroom):
    training(runs, TEACHER)
    queued(runs, 2, ANNA, name="hers")
    queued(runs, 3, ANNA)
    his = queued(runs, 4, BEN, name="*his*")
    page = classroom.draw(BEN, run=his)
    assert sound(page)
    shown = rows(page)
    assert [row[0] for row in shown] == ["training", "1st", "**2nd**", "3rd"]
    assert [row[2] for row in shown] == ["another's", "another's", "**yours**", "another's"]
    # Ben's first comes before Anna's second; each waits for what trains and for those before it.
    assert [row[3] for row in shown] == [
        "ends in about 2 min", "starts in about 2 min", "**starts in about 5 min**", "starts in about 9 min",
    ]  # fmt: skip
    assert r"\*his\*" in shown[2][1] and not any("hers" in row[1] for row in shown)
    told = words(page)
    assert "1 of 1 CPU slot is taken, 3 waiting. Your next run: 2nd in line, starts in about 5 min." in told
    assert code(ANNA)[:6] not in told and code(ANNA) not in str(page.main)
    (bar,) = page.get("progress")
    assert bar.text == "2nd in line, starts in about 5 min"
    shown = rows(classroom.draw(TEACHER, run=his))
    hers, theirs = f"owner {code(ANNA)[:6]}", f"owner {code(BEN)[:6]}"
    assert [row[2] for row in shown] == ["**yours**", hers, theirs, hers]
    assert "hers" in shown[1][1]


def test_nothing_in_line_says_so_and_asks_no_more(runs, classroom):
    write_run(runs, "doodle-scratch")
    page = classroom.draw(ANNA)
    assert sound(page) and not page.table
    assert "Nothing trains or waits; a run launched now starts at once (1 CPU slot)." in words(page)


def test_a_run_with_a_free_slot_before_it_is_being_started(runs, classroom, backend):
    run_id = queued(runs, 2, ANNA)
    assert classroom.draw(ANNA, run=run_id).get("progress")[0].text == "Being started, which takes some seconds"
    queue_panel._now.clear()
    backend["served"] = False
    assert "Waiting for a worker" in classroom.draw(ANNA, run=run_id).get("progress")[0].text


def test_what_nobody_can_tell_is_not_told(runs, classroom):
    training(runs, BEN, seconds_left=None)
    run_id = queued(runs, 2, ANNA, seconds=None)
    page = classroom.draw(ANNA, run=run_id)
    assert sound(page) and [row[3] for row in rows(page)] == ["–", "**–**"]
    assert page.get("progress")[0].text == "1st in line"


def test_a_problem_of_the_backend_is_a_sentence_beside_the_line(runs, classroom, backend):
    backend["problem"] = "The cluster at [head](x) does not answer."
    page = classroom.draw(ANNA)
    assert sound(page) and "The cluster at [head](x) does not answer." in words(page)


def test_a_backend_that_fails_leaves_the_page_whole(runs, classroom, monkeypatch):
    def broken(folder=None):
        raise ZeroDivisionError

    run_id = queued(runs, 2, ANNA)
    monkeypatch.setattr("cvcore.backends.capacity", broken)
    page = classroom.draw(ANNA, run=run_id)
    assert sound(page) and f"stop_{run_id}" in {button.key for button in page.button}
    assert "What trains here does not answer." in words(page)


def test_a_long_line_shows_its_head_and_one_s_own_runs(runs, classroom):
    for ticket in range(1, 31):
        queued(runs, ticket, BEN if ticket % 2 else TEACHER)
    queued(runs, 40, ANNA)
    queued(runs, 41, ANNA)
    page = classroom.draw(ANNA)
    assert [row[0] for row in rows(page)] == ["1st", "2nd", "**3rd**", "4th", "5th", "**6th**"]
    assert "32 waiting" in words(page) and "And 26 more." in words(page)


def test_the_line_is_read_once_for_all_browsers(runs, classroom, monkeypatch):
    asked = []
    # Kept for longer than its second and a half, which may pass between two of the browsers.
    lasting = st.cache_data(ttl=3600, show_spinner=False)(queue_panel._now.__wrapped__)
    monkeypatch.setattr(queue_panel, "_now", lasting)
    lasting.clear()
    status = queue_panel.backends.status
    monkeypatch.setattr("cvcore.backends.status", lambda folder=None: asked.append(1) or status(folder))
    queued(runs, 2, ANNA)
    for token in (ANNA, BEN, TEACHER):
        classroom.sits(token)
        queue_panel.now()
    assert len(asked) == 1
    queued(runs, 3, BEN)
    queue_panel.shell.forget_runs()
    queue_panel.now()
    assert len(asked) == 2


@pytest.mark.parametrize(
    "word", ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "101st", "111th"]
)
def test_places_are_written_as_people_say_them(word):
    assert queue_panel.ordinal(int(word[:-2])) == word


@pytest.mark.parametrize(("seconds", "word"), [(0, "10 s"), (14, "10 s"), (37, "40 s"), (54, "50 s"), (56, "1 min"),
    (250, "4 min"), (3569, "59 min"), (7500, "2 h 5 min")])  # fmt: skip
def test_expected_times_are_not_told_to_the_second(seconds, word):
    assert queue_panel.about(seconds) == word
