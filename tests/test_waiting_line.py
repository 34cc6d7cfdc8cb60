"""The line of queued runs, with handmade numbers: whose turn is next, when, and who may add to it."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from handmade_runs import write_run

from cvcore import waiting_line
from cvcore.errors import CvcoreError, LineFull
from cvcore.locks import locked
from cvcore.run_directory import Run, list_runs, load_run
from cvcore.trash import delete_run
from cvcore.waiting_line import Place, check_waiting, in_order, next_ticket, next_turn, places, submitting


def run(name, owner=None, ticket=None, status="queued", **info):
    words = {"recipe": {"id": "r", "strategy": "scratch", "epochs": 4}, "owner": owner, "ticket": ticket,
             "backend": "local", "status": status, **info}  # fmt: skip
    return Run(name, Path("nowhere") / name, words, status)


def names(runs):
    return [one.id for one in runs]


def serve(waiting):
    """Start the first of the line until none waits; return the order of starts."""
    runs, started = list(waiting), []
    while line := in_order(runs):
        first = line[0]
        turn = max((one.turn or 0 for one in runs), default=0) + 1
        runs[runs.index(first)] = run(first.id, first.owner, first.ticket, "done", turn=turn)
        started.append(first)
    return started


def a_class():
    """Ten owners with three runs each, who all press Launch three times before the next one does."""
    return [run(f"{owner}{number}", owner, ticket=10 * place + number)
            for place, owner in enumerate("abcdefghij") for number in (1, 2, 3)]  # fmt: skip


def test_of_ten_owners_with_three_runs_everybodys_first_comes_before_anybodys_second():
    line = names(in_order(a_class()))
    assert line == [f"{owner}{number}" for number in (1, 2, 3) for owner in "abcdefghij"]


def test_the_order_of_starts_is_the_line_as_it_was_first_drawn():
    waiting = a_class()
    assert names(serve(waiting)) == names(in_order(waiting))


def test_the_order_in_which_a_folder_is_listed_does_not_matter():
    waiting = a_class()
    assert names(in_order(waiting[::-1])) == names(in_order(waiting))


def test_somebody_new_comes_before_those_who_were_served():
    runs = [run("a1", "a", 1, "running", turn=1), run("a2", "a", 2), run("a3", "a", 3), run("b1", "b", 4)]
    assert names(in_order(runs)) == ["b1", "a2", "a3"]


def test_who_was_served_longest_ago_comes_first_whoever_queued_first():
    runs = [run("a1", "a", 1, "done", turn=1), run("b1", "b", 2, "done", turn=2), run("c1", "c", 3, "failed", turn=3),
            run("c2", "c", 4), run("b2", "b", 5), run("a2", "a", 6), run("a3", "a", 7)]  # fmt: skip
    assert names(in_order(runs)) == ["a2", "b2", "c2", "a3"]


def test_of_two_who_were_never_served_the_one_who_queued_first_comes_first():
    runs = [run("late", "a", 9), run("early", "b", 8)]
    assert names(in_order(runs)) == ["early", "late"]


def test_runs_that_lost_their_process_come_first_in_the_order_of_their_tickets():
    runs = [run("new", "a", 1), run("second", "b", 3, requeues=1, turn=2), run("first", "c", 2, requeues=2, turn=1)]
    assert names(in_order(runs)) == ["first", "second", "new"]


def test_run_that_has_a_slot_already_comes_before_all_others():
    runs = [run("new", "a", 1, attempt=1), run("back", "b", 2, requeues=1, turn=1, attempt=2, placed=1),
            run("second", "c", 3, turn=3, attempt=1, placed=1),
            run("first", "d", 4, turn=2, attempt=3, placed=3)]  # fmt: skip
    assert names(in_order(runs)) == ["first", "second", "back", "new"]


def test_deleted_runs_say_when_their_owner_was_served(tmp_path):
    for owner, turn in (("a", 1), ("b", 2)):
        write_run(tmp_path, run_id=f"{owner}1", owner=owner, turn=turn)
        write_run(tmp_path, run_id=f"{owner}2", owner=owner, ticket=5 - turn, status="queued")
    write_run(tmp_path, run_id="c1", owner="c", ticket=9, status="queued")
    assert names(in_order(list_runs(tmp_path))) == ["c1", "a2", "b2"]
    delete_run(load_run("b1", tmp_path))
    assert names(in_order(list_runs(tmp_path))) == ["c1", "a2", "b2"]
    assert next_turn(tmp_path) == 3


def test_runs_from_the_terminal_are_one_owners():
    runs = [run("t1", None, 1), run("t2", None, 2), run("a1", "a", 3)]
    assert names(in_order(runs)) == ["t1", "a1", "t2"]


def test_runs_older_than_tickets_come_in_the_order_of_their_ids():
    runs = [run("b", "a"), run("c", "a", 1), run("a", "a")]
    assert names(in_order(runs)) == ["a", "b", "c"]


def test_runs_that_do_not_wait_are_in_no_line():
    assert in_order([run(status, "a", 1, status) for status in ("done", "running", "stopped", "damaged")]) == []


def taking(name, seconds, ticket, **more):
    return run(name, name, ticket, estimate={"seconds": seconds, "memory_mb": None, "basis": "measured"}, **more)


def test_with_one_slot_each_waits_for_those_before_it():
    waiting = [taking("a", 60.0, 1), taking("b", 30.0, 2), taking("c", 10.0, 3)]
    assert places(waiting, 1) == {"a": Place(1, 0.0), "b": Place(2, 60.0), "c": Place(3, 90.0)}


def test_with_two_slots_the_next_takes_the_one_that_is_free_first():
    waiting = [taking("a", 60.0, 1), taking("b", 30.0, 2), taking("c", 10.0, 3), taking("d", 5.0, 4)]
    assert {name: place.starts_in for name, place in places(waiting, 2).items()} == {"a": 0, "b": 0, "c": 30, "d": 40}


def test_behind_a_run_of_which_nothing_is_known_no_start_is_expected():
    waiting = [run("a", "a", 1), taking("b", 30.0, 2), taking("c", 30.0, 3)]
    assert [place.starts_in for place in places(waiting, 1).values()] == [0.0, None, None]
    assert [place.starts_in for place in places(waiting, 2).values()] == [0.0, 0.0, 30.0]


@pytest.mark.parametrize(
    ("progress", "estimated", "left"),
    [
        ({"phase": "training", "epoch": 3, "epochs": 4, "step": 1, "steps": 2, "seconds_left": 15.0}, 100.0, 15.0),
        ({"phase": "training", "epoch": 3, "epochs": 4, "step": 1, "steps": 2, "seconds_left": 15.0}, None, 15.0),
        # Two phases of four epochs: this one as measured, the next as estimated.
        ({"phase": "head", "epoch": 2, "epochs": 8, "step": 1, "steps": 2, "seconds_left": 15.0}, 100.0, 65.0),
        ({"phase": "reading train pictures", "epoch": 1, "epochs": 4, "step": 5, "steps": 9}, 100.0, 100.0),
        ({"phase": "reading train pictures", "epoch": 3, "epochs": 4, "step": 5, "steps": 9}, 100.0, 50.0),
        ({"phase": "training", "epoch": 1, "epochs": 4, "step": 1, "steps": 2, "seconds_left": None}, 100.0, 87.5),
        ({}, 100.0, 100.0),
        ({}, None, None),
        ({"epoch": "many", "seconds_left": "long"}, 100.0, 100.0),
    ],
)
def test_what_a_running_run_still_takes_is_as_measured_and_as_estimated_beyond_that(
    tmp_path, progress, estimated, left
):
    write_run(tmp_path, run_id="waits", status="queued", ticket=2, owner="b")
    estimate = {"seconds": estimated, "memory_mb": None, "basis": "x"}
    write_run(tmp_path, run_id="trains", status="running", backend="ray", epochs=4, estimate=estimate,
              process={"pid": 1, "started": "1", "host": "another-computer"})  # fmt: skip
    (tmp_path / "trains" / "progress.json").write_text(json.dumps(progress))
    assert places(list_runs(tmp_path), 1) == {"waits": Place(1, left)}


def test_run_trained_in_a_terminal_takes_no_slot(tmp_path):
    runs = [taking("a", 5.0, 1), taking("t", 100.0, None, status="running", backend=None)]
    assert places(runs, 1) == {"a": Place(1, 0.0)}


def test_more_running_runs_than_slots_are_waited_for_one_after_the_other():
    runs = [taking("x", 50.0, 1, status="running"), taking("y", 20.0, 2, status="running"), taking("a", 5.0, 3)]
    assert places(runs, 1)["a"].starts_in == 20.0


def test_ticket_and_turn_are_larger_than_all_before(tmp_path):
    assert (next_ticket([]), next_turn(tmp_path)) == (1, 1)
    assert next_ticket([run("a", ticket=7), run("b"), run("c", ticket=2)]) == 8
    write_run(tmp_path, turn=4, ticket=1)
    write_run(tmp_path, turn=None, ticket=9)
    assert (next_ticket(list_runs(tmp_path)), next_turn(tmp_path)) == (10, 5)


def test_a_clock_set_back_changes_no_place(tmp_path):
    """The id of a run begins with the time of its launch; the second one's is a year before the first one's."""
    write_run(tmp_path, run_id="20270101T000000Z-r-aaaa", status="queued", ticket=1, owner="a")
    write_run(tmp_path, run_id="20260101T000000Z-r-bbbb", status="queued", ticket=2, owner="a")
    assert names(in_order(list_runs(tmp_path))) == ["20270101T000000Z-r-aaaa", "20260101T000000Z-r-bbbb"]


def test_an_owner_may_have_so_many_waiting_and_no_more():
    waiting = [run("a1", "a", 1), run("a2", "a", 2), run("b1", "b", 3), run("a0", "a", 0, "running")]
    check_waiting(waiting, "a", limit=3)
    check_waiting(waiting, "b", 2, limit=3)
    with pytest.raises(LineFull, match="at most 2 launches of yours may wait at a time, and 2 wait now; wait until"):
        check_waiting(waiting, "a", limit=2)
    with pytest.raises(LineFull, match="and 2 wait now"):
        check_waiting(waiting, "a", adding=2, limit=3)
    with pytest.raises(LineFull, match="at most 1 launches from the terminal"):
        check_waiting([run("t", None, 1)], None, limit=1)


def test_a_sweep_counts_as_one_launch_however_many_runs_it_has():
    waiting = [run(f"a{seed}", "a", seed, group={"id": "sweep"}) for seed in range(1, 6)]
    check_waiting(waiting, "a", limit=2)
    check_waiting(waiting, "a", adding=5, group="another", limit=2)
    check_waiting(waiting, "a", adding=5, group="sweep", limit=1)  # it is in the line already
    with pytest.raises(LineFull, match="and 1 wait now"):
        check_waiting(waiting, "a", limit=1)


def test_the_limit_comes_from_the_settings(monkeypatch):
    waiting = [run(f"a{place}", "a", place) for place in range(3)]
    monkeypatch.delenv("CVCORE_WAITING_LIMIT", raising=False)
    with pytest.raises(LineFull, match="at most 3"):
        check_waiting(waiting, "a")
    monkeypatch.setenv("CVCORE_WAITING_LIMIT", "4")
    check_waiting(waiting, "a")


TAKE_A_TICKET = """
import sys
from functools import partial
from pathlib import Path
from tiny_lessons import tiny_scratch
from cvcore.run_directory import list_runs
from cvcore.run_writer import create_run
from cvcore.waiting_line import next_ticket, submitting
folder = Path(sys.argv[1])
sys.stdin.readline()
for _ in range(10):
    with submitting(folder):
        summary = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}
        create_run(tiny_scratch, summary, 0, folder=folder, ticket=next_ticket(list_runs(folder)))
"""


def test_processes_that_launch_at_once_get_a_ticket_each(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    clients = [
        subprocess.Popen([sys.executable, "-c", TAKE_A_TICKET, str(tmp_path)], stdin=subprocess.PIPE, text=True,
                         env={**os.environ, "PYTHONPATH": path})
        for _ in range(3)
    ]  # fmt: skip
    for client in clients:
        client.stdin.write("go\n")
        client.stdin.flush()
    assert [client.wait(300) for client in clients] == [0, 0, 0]
    for client in clients:
        client.stdin.close()
    assert sorted(one.ticket for one in list_runs(tmp_path)) == list(range(1, 31))


def test_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    sentence = r"no run can be queued \(.*\); make room in or give access"
    with pytest.raises(CvcoreError, match=sentence), submitting(tmp_path / "file" / "runs"):
        pytest.fail("nothing can be queued there")


def test_an_error_while_submitting_is_passed_on_and_the_line_is_open_again(tmp_path):
    with pytest.raises(OSError, match="another matter"), submitting(tmp_path):
        raise OSError("another matter")
    with submitting(tmp_path):
        assert list(tmp_path.iterdir()) == [tmp_path / ".queue.lock"]


def test_somebody_who_queues_for_ever_keeps_nobody_waiting_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting_line, "locked", partial(locked, wait=0.1))
    sentence = r"another process has kept \.queue\.lock locked for"
    with submitting(tmp_path), pytest.raises(CvcoreError, match=sentence), submitting(tmp_path):
        pytest.fail("two at a time")


def test_line_is_read_of_real_run_directories(tmp_path):
    ids = [write_run(tmp_path, seed=seed, status="queued", ticket=3 - seed, owner="a") for seed in range(3)]
    assert names(in_order(list_runs(tmp_path))) == ids[::-1]
    assert load_run(ids[0], tmp_path).owner == "a"
