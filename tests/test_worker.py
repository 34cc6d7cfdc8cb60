"""What the worker decides, round by round, with an engine that only notes what it is told: no process is started."""

import json
import os
import time

import pytest
from handmade_runs import write_run
from tiny_lessons import tiny_scratch

from cvcore import waiting_line
from cvcore.backends import watchdog, worker, worker_process
from cvcore.backends.interface import Ended
from cvcore.backends.worker import Worker
from cvcore.errors import CvcoreError
from cvcore.processes import this_process
from cvcore.run_directory import REQUEUES, list_runs, load_run, request_stop, worker_alive
from cvcore.run_writer import create_run, requeue, start_attempt
from cvcore.trash import delete_run, trashed

SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}


class Notes:
    """An engine whose processes live and die as the test says."""

    name = "local"

    def __init__(self, slots=1):
        self.wanted_slots, self.started, self.adopted, self.stopped, self.killed = slots, [], [], [], []
        self.living, self.gone, self.too_large, self.writers, self.vouched = {}, [], set(), {}, set()

    def slots(self):
        return self.wanted_slots

    def room_for(self, run):
        return not self.living or run.id not in self.too_large

    def start(self, run):
        self.started.append(run.id)
        self.living[run.id] = run.attempt

    def adopt(self, run):
        self.adopted.append(run.id)
        self.living[run.id] = run.attempt

    def ended(self):
        gone, self.gone = self.gone, []
        return gone

    def busy(self):
        return set(self.living)

    def stop(self, run):
        self.stopped.append(run.id)

    def vouches_for(self, run):
        return run.id in self.vouched

    def kill(self, run):
        self.killed.append(run.id)

    def begins(self, run_id, folder, **process):
        """Take the attempt as its process would; that process is this one unless told otherwise."""
        writer = start_attempt(load_run(run_id, folder), attempt=self.living[run_id])
        if process:
            writer.update(process={**this_process(), **process})
        self.writers[run_id] = writer

    def dies(self, run_id, reason=None, again=True):
        self.gone.append(Ended(run_id, self.living.pop(run_id), reason, again))

    def finishes(self, run_id, folder, status="done"):
        self.begins(run_id, folder)
        self.writers[run_id].finish(status)
        self.dies(run_id)


DEAD = {"pid": 2**22 + 1, "started": "no such boot 1"}


def queue(folder, owner=None, ticket=None, **words):
    ticket = waiting_line.next_ticket(list_runs(folder)) if ticket is None else ticket
    return create_run(tiny_scratch, SUMMARY, 0, folder=folder, owner=owner, ticket=ticket, backend="local", **words).id


@pytest.fixture
def served(tmp_path, monkeypatch):
    """An engine and the worker that uses it; whom it leaves alone for a while it does until the test says otherwise."""
    monkeypatch.setattr(worker, "ASIDE", 10**6)
    engine = Notes()
    return engine, Worker(tmp_path, engine)


def test_owners_take_turns_each_time_a_slot_is_free(tmp_path, served):
    engine, line = served
    ids = {(owner, place): queue(tmp_path, owner) for owner in "abc" for place in (1, 2)}
    for _ in range(6):
        line.round()
        engine.finishes(engine.started[-1], tmp_path)
    assert engine.started == [ids[owner, place] for place in (1, 2) for owner in "abc"]
    turns = [load_run(run_id, tmp_path).turn for run_id in engine.started]
    assert turns == [1, 2, 3, 4, 5, 6] and not line.round()


def test_owner_who_comes_late_goes_before_everybodys_second_run(tmp_path, served):
    engine, line = served
    early = [queue(tmp_path, "a" * 16) for _ in range(3)]
    line.round()
    late = queue(tmp_path, "b" * 16)
    for _ in range(3):
        engine.finishes(engine.started[-1], tmp_path)
        line.round()
    assert engine.started == [early[0], late, early[1], early[2]]


def test_as_many_runs_as_slots_and_a_large_one_waits_for_memory_without_being_overtaken(tmp_path):
    engine = Notes(slots=3)
    line = Worker(tmp_path, engine)
    small, large, other = queue(tmp_path, "a"), queue(tmp_path, "b"), queue(tmp_path, "c")
    engine.too_large.add(large)
    line.round()
    line.round()
    assert engine.started == [small]
    engine.finishes(small, tmp_path)
    line.round()
    assert engine.started == [small, large, other]


def test_run_whose_process_dies_goes_back_to_the_head_of_the_line_twice_and_is_then_given_up(tmp_path, served):
    engine, line = served
    run_id, other = queue(tmp_path, "a"), queue(tmp_path, "b")
    for attempt in range(1, REQUEUES + 2):
        line.round()
        assert engine.started[-1] == run_id and load_run(run_id, tmp_path).attempt == attempt
        engine.begins(run_id, tmp_path, **DEAD)
        engine.dies(run_id, "Its training process was ended by SIGKILL.")
        before = load_run(run_id, tmp_path)
        assert before.comes_back == (attempt <= REQUEUES)
    line.round()
    given_up = load_run(run_id, tmp_path)
    assert given_up.status == given_up.info["status"] == "interrupted" and given_up.process is None
    assert "ended by SIGKILL. That was attempt 3" in given_up.error and "resume it" in given_up.error
    assert given_up.log().count("watchdog: ") == REQUEUES
    assert engine.started[-1] == other
    requeue(given_up)  # by a person, which begins the count anew
    assert load_run(run_id, tmp_path).requeues == 0


def test_run_that_would_only_fail_again_has_failed(tmp_path, served):
    engine, line = served
    run_id = queue(tmp_path)
    line.round()
    engine.begins(run_id, tmp_path, **DEAD)
    engine.dies(run_id, "The system ended its training process for want of memory.", again=False)
    line.round()
    found = load_run(run_id, tmp_path)
    assert (found.status, found.attempt) == ("failed", 1) and "want of memory" in found.error


def test_process_that_ends_before_it_begins_does_not_keep_the_line_forever(tmp_path, served):
    engine, line = served
    run_id = queue(tmp_path)
    for _ in range(10):
        line.round()
        if run_id in engine.living:
            engine.dies(run_id)
    found = load_run(run_id, tmp_path)
    assert found.status == "interrupted" and "did not begin" in found.error and len(engine.started) == REQUEUES + 1


def test_run_that_was_asked_to_stop_and_whose_process_died_has_stopped(tmp_path, served):
    engine, line = served
    run_id = queue(tmp_path)
    line.round()
    engine.begins(run_id, tmp_path)
    request_stop(load_run(run_id, tmp_path))
    line.round()
    line.round()
    assert engine.stopped == [run_id]
    engine.writers[run_id].update(process={**this_process(), **DEAD})
    engine.dies(run_id)
    line.round()
    assert load_run(run_id, tmp_path).info["status"] == "stopped" and engine.started == [run_id]


def test_run_stopped_in_the_line_is_not_started(tmp_path, served):
    engine, line = served
    run_id = queue(tmp_path)
    request_stop(load_run(run_id, tmp_path))
    assert not line.round() and engine.started == []


def test_next_worker_watches_what_the_killed_one_left_behind_and_starts_nothing_twice(tmp_path):
    first = Notes()
    running, waiting = queue(tmp_path, "a"), queue(tmp_path, "b")
    Worker(tmp_path, first).round()
    first.begins(running, tmp_path)
    second = Notes()
    line = Worker(tmp_path, second)
    line.round()
    line.round()
    assert second.adopted == [running] and second.started == []
    first.writers[running].finish("done")
    second.dies(running)
    line.round()
    assert second.started == [waiting] and load_run(running, tmp_path).attempt == 1


def test_child_beaten_by_the_orphan_of_a_killed_worker_is_not_requeued(tmp_path, served):
    engine, line = served
    run_id = queue(tmp_path)
    line.round()
    engine.begins(run_id, tmp_path)  # the orphan has the attempt: this process, which lives
    engine.dies(run_id)  # and the child of this worker ended without a word
    line.round()
    assert engine.adopted == [run_id] and load_run(run_id, tmp_path).attempt == 1
    assert load_run(run_id, tmp_path).status == "running"


def test_run_whose_process_died_while_no_worker_lived_comes_back(tmp_path, served):
    engine, line = served
    run_id = queue(tmp_path)
    first = Notes()
    Worker(tmp_path, first).round()
    first.begins(run_id, tmp_path, **DEAD)
    assert worker_process.needed(list_runs(tmp_path))
    line.round()
    assert engine.started == [run_id] and load_run(run_id, tmp_path).attempt == 2


def test_run_elsewhere_without_a_heartbeat_is_taken_to_be_gone_by_this_process_own_clock(tmp_path, served):
    engine, line = served
    run_id = queue(tmp_path)
    line.round()
    engine.begins(run_id, tmp_path, host="elsewhere")
    line._pulse.silent_after = 0.2
    beat = tmp_path / run_id / "heartbeat.json"
    for number in range(5):  # as long as it beats, whatever its clock says
        beat.write_text(json.dumps({"attempt": 1, "beat": number, "at": "1970-01-01T00:00:00+00:00"}))
        for file in beat.parent.iterdir():
            os.utime(file, (0, 0))
        time.sleep(0.1)
        line.round()
    assert load_run(run_id, tmp_path).status == "interrupted"  # by the clocks
    assert load_run(run_id, tmp_path).attempt == 1 and engine.killed == [] and engine.started == [run_id]
    time.sleep(0.3)
    os.utime(beat, (2**31, 2**31))  # a file from the future is no sign of life
    engine.vouched = {run_id}  # its heartbeat comes through something that is away
    line.round()
    assert engine.killed == []
    engine.vouched = set()
    line.round()
    assert engine.killed == [run_id] and load_run(run_id, tmp_path).attempt == 2


def test_clock_set_back_changes_neither_the_order_nor_who_is_alive(tmp_path, served):
    engine, line = served
    first = queue(tmp_path, "a")
    tomorrow = time.time() + 86400
    first = (tmp_path / first).rename(tmp_path / "20990101T000000Z-tiny-scratch-0000").name
    info = json.loads((tmp_path / first / "run.json").read_text())
    (tmp_path / first / "run.json").write_text(json.dumps({**info, "created": "2099-01-01T00:00:00+00:00"}))
    for path in (tmp_path / first).iterdir():
        os.utime(path, (tomorrow, tomorrow))
    second = queue(tmp_path, "a")
    line.round()
    engine.begins(first, tmp_path)
    for path in (tmp_path / first).iterdir():
        os.utime(path, (tomorrow, tomorrow))
    line.round()
    assert load_run(first, tmp_path).status == "running" and engine.started == [first]
    engine.writers[first].finish("done")
    engine.dies(first)
    line.round()
    assert engine.started == [first, second]


def test_run_that_cannot_be_written_is_left_alone_for_a_while_and_the_others_go_on(
    tmp_path, served, monkeypatch, capfd
):
    engine, line = served
    stuck, other = queue(tmp_path, "a"), queue(tmp_path, "b")
    real, tries = worker.take_turn, []

    def full(run):
        tries.append(run.id)
        if run.id == stuck:
            raise CvcoreError("the run could not be written (No space left on device)")
        return real(run)

    monkeypatch.setattr(worker, "take_turn", full)
    for _ in range(5):
        line.round()
    assert tries == [stuck, other] and engine.started == [other]
    assert "No space left on device" in capfd.readouterr().err
    monkeypatch.setattr(worker, "take_turn", real)
    engine.finishes(other, tmp_path)
    assert line.round() and engine.started == [other]
    line._aside.clear()  # the while is over
    line.round()
    assert engine.started == [other, stuck]


def test_decision_that_cannot_be_written_is_made_later(tmp_path, served, monkeypatch):
    engine, line = served
    run_id = queue(tmp_path)
    line.round()
    engine.begins(run_id, tmp_path, **DEAD)
    engine.dies(run_id)
    real = watchdog.requeue
    monkeypatch.setattr(
        watchdog, "requeue", lambda *a, **k: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
    )
    assert line.round() and load_run(run_id, tmp_path).attempt == 1
    monkeypatch.setattr(watchdog, "requeue", real)
    assert line.round() and load_run(run_id, tmp_path).attempt == 1
    line._aside.clear()
    line.round()
    assert load_run(run_id, tmp_path).attempt == 2


def test_run_deleted_or_damaged_under_the_worker_does_not_stop_the_others(tmp_path, served):
    engine, line = served
    deleted, damaged, other = (queue(tmp_path) for _ in range(3))
    line.round()
    (tmp_path / deleted / "run.json").unlink()
    (tmp_path / deleted).rmdir()
    engine.dies(deleted)
    line.round()
    assert engine.started[-1] == damaged
    (tmp_path / damaged / "run.json").write_text("{")
    engine.dies(damaged)
    line.round()
    assert engine.started[-1] == other


def test_second_worker_leaves_a_served_folder_alone(tmp_path):
    queue(tmp_path)
    engine = Notes()
    with worker._only_worker(tmp_path) as alone:
        assert alone and worker_alive(tmp_path)
        assert worker.serve(tmp_path, engine, idle=0) is False
    assert engine.started == [] and not worker_alive(tmp_path)


def test_worker_with_nothing_to_do_purges_the_trash_and_ends(tmp_path):
    kept, old = write_run(tmp_path), write_run(tmp_path)
    for run_id in (kept, old):
        delete_run(load_run(run_id, tmp_path))
    note = tmp_path / ".trash" / old / "deleted.json"
    note.write_text(json.dumps({"at": "2020-01-01T00:00:00+00:00"}))
    assert worker.serve(tmp_path, Notes(), idle=0) is True
    assert [one.id for one in trashed(tmp_path)] == [kept]


def test_run_launched_under_other_settings_is_trained_by_the_engine_there_is(tmp_path, served):
    engine, line = served
    run = create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path, ticket=1, backend="ray")
    line.round()
    assert engine.started == [run.id] and load_run(run.id, tmp_path).backend == "local"
