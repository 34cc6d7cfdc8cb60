"""The worker among odd files, hanging processes, locked runs, and after another one that was killed."""

import json
import os
import signal
import sys
import time

import pytest
from handmade_runs import write_run
from test_worker import DEAD, Notes, queue

from cvcore.attempt_writer import run_locked
from cvcore.backends import watchdog, worker
from cvcore.backends.local import LocalEngine
from cvcore.backends.worker import Worker
from cvcore.processes import boot_id, this_process
from cvcore.run_directory import HEARTBEAT_FILE, list_runs, load_run, request_stop
from cvcore.run_writer import requeue
from cvcore.trash import TRASH, delete_run

PATIENCE = 300.0


@pytest.fixture
def served(tmp_path, monkeypatch):
    """An engine and the worker that uses it; whom it leaves alone for a while it does until the test says otherwise."""
    monkeypatch.setattr(worker, "ASIDE", 10**6)
    engine = Notes()
    return engine, Worker(tmp_path, engine)


def edit(folder, run_id, **changes):
    path = folder / run_id / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def until(condition, do=lambda: None):
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began < PATIENCE
        do()
        time.sleep(0.02)
    return found


def test_run_whose_file_cannot_be_written_back_is_left_alone_and_the_others_go_on(tmp_path, served, capfd):
    engine, line = served
    odd, other = queue(tmp_path, "a"), queue(tmp_path, "b")
    edit(tmp_path, odd, note="\ud800")  # half a character, which JSON can say and UTF-8 cannot
    for _ in range(3):
        assert line.round()
        line._aside.clear()
    assert engine.started == [other]
    said = capfd.readouterr().err
    assert said.count("Traceback") <= 1 and (odd in said or load_run(other, tmp_path).turn == 1)


def test_whatever_one_run_raises_is_printed_once_and_the_others_go_on(tmp_path, served, monkeypatch, capfd):
    engine, line = served
    odd, other = queue(tmp_path, "a"), queue(tmp_path, "b")
    real = worker.take_turn

    def takes(run):
        if run.id == odd:
            raise ZeroDivisionError("odd")
        return real(run)

    monkeypatch.setattr(worker, "take_turn", takes)
    for _ in range(3):
        assert line.round()
        line._aside.clear()  # the while is over
    assert engine.started == [other]
    said = capfd.readouterr().err
    assert said.count("Traceback") == 1 and f"{odd}: Traceback" in said and "ZeroDivisionError: odd" in said


def test_heartbeat_nested_too_deep_is_silence(tmp_path, served):
    engine, line = served
    process = {"pid": 1, "started": 1.0, "host": "elsewhere"}
    run_id = write_run(tmp_path, status="running", backend="local", process=process)
    (tmp_path / run_id / HEARTBEAT_FILE).write_text("[" * 100_000)
    line._pulse.silent_after = 0.1
    until(lambda: load_run(run_id, tmp_path).attempt == 2, line.round)
    assert engine.killed == [run_id]


def test_run_that_cannot_be_listened_to_does_not_end_the_worker(tmp_path, served, monkeypatch):
    engine, line = served
    process = {"pid": 1, "started": 1.0, "host": "elsewhere"}
    run_id = write_run(tmp_path, status="running", backend="local", process=process)
    monkeypatch.setattr(watchdog, "_beat", lambda run: 1 / 0)
    assert line.round() and line.round()
    assert load_run(run_id, tmp_path).attempt == 1 and engine.killed == []


def test_odd_note_in_the_trash_does_not_end_the_worker(tmp_path, monkeypatch, capfd):
    run_id, waits = write_run(tmp_path), queue(tmp_path)
    delete_run(load_run(run_id, tmp_path))
    odd = '{"at": "2020-01-01", "boot": "%s", "uptime": NaN}' % boot_id()  # noqa: UP031
    (tmp_path / TRASH / run_id / "deleted.json").write_text(odd)
    worker._purge(tmp_path)
    assert not (tmp_path / TRASH / run_id).exists()
    monkeypatch.setattr(worker.trash, "purge", lambda folder: 1 / 0)
    engine = Notes()
    engine.start = lambda run: engine.finishes(run.id, tmp_path) if engine.living.update({run.id: 1}) is None else None
    assert worker.serve(tmp_path, engine, idle=0.0)
    assert load_run(waits, tmp_path).status == "done" and "ZeroDivisionError" in capfd.readouterr().err


def test_worker_removes_what_a_killed_launcher_left(tmp_path):
    old, fresh = tmp_path / ".new-old", tmp_path / ".new-fresh"
    for path in (old, fresh):
        path.mkdir()
        (path / "run.json").write_text("{}")
    os.utime(old, (time.time() - 86500,) * 2)
    worker.serve(tmp_path, Notes(), idle=0.0)
    assert fresh.is_dir() and not old.exists()


def test_worker_waits_only_briefly_for_a_run_that_somebody_keeps_locked(tmp_path, served, monkeypatch, capfd):
    monkeypatch.setattr(worker, "LOCKED", 0.1)
    engine, line = served
    locked, other = queue(tmp_path, "a"), queue(tmp_path, "b")
    with run_locked(tmp_path / locked):
        line.round()
    said = capfd.readouterr().err
    assert engine.started == [other]
    assert "locked for 0 seconds" in said and "locked for 60 seconds" not in said  # a minute by itself
    engine.finishes(other, tmp_path)
    line._aside.clear()
    line.round()
    assert engine.started == [other, locked]


def test_slot_given_by_a_killed_worker_is_given_to_nobody_else(tmp_path):
    first = Notes()
    placed, other = queue(tmp_path, "a"), queue(tmp_path, "b")
    Worker(tmp_path, first).round()  # killed here, before its child has begun
    second = Notes()
    line = Worker(tmp_path, second)
    line.round()
    assert second.started == [placed] == first.started
    first.begins(placed, tmp_path)  # the first one's child, after all
    second.dies(placed)  # the second one's ends without a word
    line.round()
    line.round()
    assert second.adopted == [placed] and second.started == [placed]
    first.writers[placed].finish("done")
    second.dies(placed)
    line.round()
    assert second.started == [placed, other] and load_run(placed, tmp_path).attempt == 1


def test_placed_run_that_goes_back_into_the_line_comes_by_its_requeues(tmp_path, served):
    engine, line = served
    run_id, other = queue(tmp_path, "a"), queue(tmp_path, "b")
    line.round()
    engine.begins(run_id, tmp_path, **DEAD)
    engine.dies(run_id)
    line.round()
    assert engine.started == [run_id, run_id] and other not in engine.started
    assert load_run(run_id, tmp_path).info["placed"] == 2


def test_resumed_runs_take_turns_with_those_of_others(tmp_path, served):
    engine, line = served
    mine = [queue(tmp_path, "a") for _ in range(3)]
    for _ in mine:
        line.round()
        engine.finishes(engine.started[-1], tmp_path, "stopped")
    theirs = [queue(tmp_path, "b")]
    line.round()
    engine.finishes(theirs[0], tmp_path)
    for ticket, run_id in enumerate(mine, 10):
        requeue(load_run(run_id, tmp_path), ticket=ticket)
    theirs += [queue(tmp_path, "b") for _ in range(3)]
    began = len(engine.started)
    for _ in range(6):
        line.round()
        engine.finishes(engine.started[-1], tmp_path)
    owners = [load_run(run_id, tmp_path).owner for run_id in engine.started[began:]]
    assert owners == ["a", "b"] * 3


def test_owner_who_deletes_what_was_trained_has_been_served(tmp_path, served):
    engine, line = served
    first, second = queue(tmp_path, "a"), queue(tmp_path, "a")
    line.round()
    theirs = queue(tmp_path, "b")
    engine.finishes(first, tmp_path)
    delete_run(load_run(first, tmp_path))
    line.round()
    assert engine.started == [first, theirs] and second not in engine.started


def killer(engine):
    """Let a killed process of the notes be gone at the next question."""

    def kill(run):
        engine.killed.append(run.id)
        engine.writers[run.id].update(process={**this_process(), **DEAD})
        engine.dies(run.id, "Its training process was ended by SIGKILL.", again=False)

    engine.kill = kill


def test_process_that_hangs_is_ended_and_its_run_goes_back_into_the_line(tmp_path, served):
    engine, line = served
    run_id = queue(tmp_path)
    line._hung.silent_after = 0.2
    killer(engine)
    line.round()
    engine.begins(run_id, tmp_path)
    until(lambda: engine.killed, line.round)
    line.round()
    found = load_run(run_id, tmp_path)
    assert (found.attempt, found.requeues) == (2, 1) and engine.started == [run_id, run_id]
    assert "gave no sign of life for 0 seconds and was ended. It goes back into the line" in found.log()


def test_process_that_beats_is_left_alone_also_when_it_is_slow_to_stop(tmp_path, served, monkeypatch):
    engine, line = served
    run_id = queue(tmp_path)
    line.round()
    engine.begins(run_id, tmp_path)
    request_stop(load_run(run_id, tmp_path))
    clock = {"now": time.monotonic()}
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock["now"])
    for number in range(400):
        (tmp_path / run_id / HEARTBEAT_FILE).write_text(json.dumps({"beat": number // 3}))
        clock["now"] += 2.0
        line._end_silent(list_runs(tmp_path))
    assert engine.killed == []


def test_stop_request_that_a_silent_process_does_not_hear_ends_it_and_the_run_has_stopped(
    tmp_path, served, monkeypatch
):
    engine, line = served
    run_id = queue(tmp_path)
    killer(engine)
    line.round()
    engine.begins(run_id, tmp_path)
    (tmp_path / run_id / HEARTBEAT_FILE).write_text('{"beat": 7}')
    clock = {"now": 0.0}
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock["now"])
    silent = []
    for asked in (False, True):
        if asked:
            request_stop(load_run(run_id, tmp_path))
        began = clock["now"]
        while not engine.killed and clock["now"] - began < 300:
            line.round()
            clock["now"] += 1.0
        silent.append(clock["now"] - began)
    assert silent[0] == 300 and worker.DEAF_AFTER < silent[1] < worker.DEAF_AFTER + 5
    line.round()
    assert load_run(run_id, tmp_path).info["status"] == "stopped" and engine.started == [run_id]


def test_computer_that_slept_ends_no_process_that_beats_again(tmp_path, served, monkeypatch):
    engine, line = served
    run_id = queue(tmp_path)
    line.round()
    engine.begins(run_id, tmp_path)
    clock = {"now": 0.0}
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock["now"])
    for _ in range(3):
        line._end_silent(list_runs(tmp_path))
        clock["now"] += 8 * 3600.0
    line._end_silent(list_runs(tmp_path))
    assert engine.killed == []


HANGS = """
import os, signal, sys
from pathlib import Path
from cvcore.run_directory import load_run
from cvcore.run_writer import start_attempt
run = load_run(sys.argv[1], Path(sys.argv[3]))
start_attempt(run, attempt=int(sys.argv[2]))
os.kill(os.getpid(), signal.SIGSTOP)
"""


class Hanging(LocalEngine):
    """The local engine with processes that hang once they have begun."""

    def command(self, run):
        return [sys.executable, "-c", HANGS, run.id, str(run.attempt), str(self.folder)]


def test_real_process_that_hangs_keeps_no_slot_and_the_request_to_stop_takes_effect(tmp_path):
    engine = Hanging(tmp_path, ())
    line = Worker(tmp_path, engine)
    run_id, other = queue(tmp_path, "a"), queue(tmp_path, "b")
    line._deaf.silent_after = 0.5
    line.round()
    pid = engine._children[run_id].pid
    try:
        until(lambda: load_run(run_id, tmp_path).status == "running")
        request_stop(load_run(run_id, tmp_path))
        until(lambda: load_run(run_id, tmp_path).info["status"] == "stopped", line.round)
        until(lambda: engine.busy() == {other}, line.round)
    finally:
        for child in engine._children.values():
            child.process.kill()
            child.process.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
