"""Who may write a run: queued again, started, given up, renamed; heartbeats; fences between attempts and processes."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from handmade_runs import write_reference_runs, write_run
from tiny_lessons import tiny_scratch

from cvcore import attempt_writer, run_writer
from cvcore.attempt_writer import run_locked
from cvcore.errors import CvcoreError, SupersededAttempt
from cvcore.locks import locked
from cvcore.processes import this_process
from cvcore.run_directory import REQUEUES, STOP_FILE, list_runs, load_run, request_stop
from cvcore.run_history import HISTORY_COLUMNS
from cvcore.run_writer import RunWriter, create_run, give_up, rename_run, requeue, start_attempt, take_turn
from cvcore.settings import PROJECT
from cvcore.trash import delete_run

SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}
ROW = dict.fromkeys(HISTORY_COLUMNS, 1)


def new(folder, **words):
    return create_run(tiny_scratch, SUMMARY, 0, folder=folder, **words)


def gone(folder, **info):
    """A run whose process is gone."""
    words = {"status": "running", "backend": "local", "process": {**this_process(), "started": "gone"}, **info}
    return load_run(write_run(folder, **words), folder)


def test_new_run_has_what_it_was_launched_with(tmp_path):
    words = {"owner": "a" * 16, "backend": "ray", "ticket": 7, "name": " Mine ", "group": {"id": "g", "title": "G"},
             "estimate": {"seconds": 60.0, "memory_mb": 900.0, "basis": "measured"}}  # fmt: skip
    run = new(tmp_path, **words)
    assert {name: getattr(run, name) for name in words} == {**words, "name": "Mine"}
    assert (run.status, run.attempt, run.requeues, run.turn, run.process) == ("queued", 1, 0, None, None)
    assert new(tmp_path, status="running").process == this_process()


def test_older_run_json_without_the_new_fields_is_read(tmp_path):
    old = {"pid": os.getppid(), "started": 1.0, "host": "another-computer"}
    run = load_run(write_run(tmp_path, status="done", owner=old), tmp_path)
    assert run.owner is run.name is run.backend is run.ticket is run.turn is run.estimate is run.group is None
    assert run.process == old and run.requeues == 0 and not run.comes_back


def test_new_run_is_seen_only_when_it_is_whole(tmp_path):
    seen = []

    def code(info):
        seen.append(list_runs(tmp_path))
        return f"# {info['run']}"

    run = new(tmp_path, code=code)
    assert seen == [[]] and (run.path / "code.py").read_text() == f"# {run.id}"
    assert [path.name for path in tmp_path.iterdir()] == [run.id]


def test_run_whose_code_cannot_be_made_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        new(tmp_path, code=lambda info: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_that_draw_the_same_id_become_two_runs(tmp_path, monkeypatch):
    drawn = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(run_writer.secrets, "token_hex", lambda size: next(drawn))

    class Noon(run_writer.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, 12, tzinfo=tz)

    monkeypatch.setattr(run_writer, "datetime", Noon)
    first, second = new(tmp_path), new(tmp_path)
    assert (first.id[-4:], second.id[-4:]) == ("aaaa", "bbbb")
    assert {path.name for path in tmp_path.iterdir()} == {first.id, second.id}


def test_queueing_again_fences_off_whoever_still_trains(tmp_path):
    run = new(tmp_path)
    orphan = start_attempt(run, attempt=1)
    orphan.replace_history([ROW])
    requeue(load_run(run.id, tmp_path), by_watchdog=True)
    now = load_run(run.id, tmp_path)
    assert (now.status, now.attempt, now.requeues, now.process) == ("queued", 2, 1, None)
    with pytest.raises(SupersededAttempt, match=r"attempt 2 of run .* has taken over from attempt 1"):
        orphan.append_history(ROW)
    assert len(now.history()) == 1
    start_attempt(now, attempt=2).append_history(ROW)
    assert len(now.history()) == 2


def test_watchdog_queues_a_run_again_twice_and_a_person_as_often_as_they_like(tmp_path):
    run = gone(tmp_path)
    for times in range(1, REQUEUES + 1):
        assert load_run(run.id, tmp_path).status == "interrupted" and load_run(run.id, tmp_path).comes_back
        run = requeue(load_run(run.id, tmp_path), by_watchdog=True)
        assert (run.status, run.requeues, run.attempt) == ("queued", times, times + 1)
        RunWriter(run.path, run.attempt).update(status="running", process={**this_process(), "started": "gone"})
    run = load_run(run.id, tmp_path)
    assert run.status == "interrupted" and not run.comes_back and "resume it from its last" in run.error
    with pytest.raises(CvcoreError, match="at most 2 times"):
        requeue(run, by_watchdog=True)
    run = requeue(run, ticket=12, backend="ray")
    assert (run.requeues, run.attempt, run.ticket, run.backend) == (0, 4, 12, "ray")


def test_watchdogs_judgement_holds_only_for_the_attempt_it_has_read(tmp_path):
    stale = gone(tmp_path)
    requeue(stale)  # by a person, a moment earlier
    with pytest.raises(SupersededAttempt, match=r"attempt 1 of run .* is over or taken"):
        requeue(stale, by_watchdog=True)
    assert not give_up(stale, 1, "failed", "It is gone.")
    assert load_run(stale.id, tmp_path).attempt == 2
    RunWriter(stale.path, 2).finish("done")
    ended = load_run(stale.id, tmp_path)
    with pytest.raises(SupersededAttempt, match="it is done now"):
        requeue(ended, by_watchdog=True)
    assert not give_up(ended, 2, "failed", "It is gone.") and load_run(stale.id, tmp_path).status == "done"


def test_request_to_stop_outlives_the_process_that_did_not_hear_it(tmp_path):
    run = gone(tmp_path)
    assert run.comes_back
    request_stop(run)
    requeue(run, by_watchdog=True)
    assert load_run(run.id, tmp_path).status == "stopped"
    with pytest.raises(SupersededAttempt, match="was stopped before attempt 2 began"):
        start_attempt(load_run(run.id, tmp_path), attempt=2)
    assert requeue(load_run(run.id, tmp_path)).status == "queued"


def test_of_two_processes_for_one_attempt_one_gets_it(tmp_path):
    run = new(tmp_path)
    first = start_attempt(run, attempt=1)
    with pytest.raises(SupersededAttempt, match=r"attempt 1 of run .* is over or taken: it is running now"):
        start_attempt(run, attempt=1)
    first.update(device="still mine")


def test_process_of_an_attempt_that_is_over_does_not_start(tmp_path):
    run = new(tmp_path)
    give_up(run, 1, "failed", "It did not start.")
    requeue(load_run(run.id, tmp_path))
    with pytest.raises(SupersededAttempt, match="at attempt 2"):
        start_attempt(run, attempt=1)


def test_run_taken_over_by_a_process_of_its_own_is_no_longer_its_backends(tmp_path):
    run = load_run(write_run(tmp_path, status="stopped", backend="local", ticket=3, owner="a" * 16), tmp_path)
    writer = start_attempt(run)
    now = load_run(run.id, tmp_path)
    assert (now.attempt, now.backend, now.owner, now.status) == (2, None, "a" * 16, "running")
    assert writer.attempt == 2


def test_turn_is_taken_once_and_larger_than_all_before(tmp_path):
    first, second = new(tmp_path), new(tmp_path)
    assert take_turn(first).turn == 1
    assert take_turn(load_run(first.id, tmp_path)).turn == 1
    start_attempt(second, attempt=1)
    assert load_run(second.id, tmp_path).turn == 2
    again = take_turn(requeue(load_run(second.id, tmp_path), by_watchdog=True))
    assert again.turn == 2 and again.info["placed"] == again.attempt == 2
    with pytest.raises(SupersededAttempt):
        take_turn(second, attempt=1)


def test_run_that_a_person_resumes_takes_a_new_turn_once(tmp_path):
    first, second = take_turn(new(tmp_path)), take_turn(new(tmp_path))
    give_up(first, 1, "stopped", "Somebody stopped it.")
    again = take_turn(requeue(load_run(first.id, tmp_path)))
    assert (first.turn, second.turn, again.turn) == (1, 2, 3) and take_turn(again).turn == 3
    start_attempt(again, attempt=2)
    assert load_run(first.id, tmp_path).turn == 3


def test_run_given_up_has_its_sentence_and_can_be_resumed(tmp_path):
    run = gone(tmp_path)
    assert give_up(run, 1, "interrupted", "It was gone three times.")
    now = load_run(run.id, tmp_path)
    assert (now.status, now.error, now.process) == ("interrupted", "It was gone three times.", None)
    assert now.log().splitlines()[-1].endswith(" attempt 1: interrupted: It was gone three times.")
    assert requeue(now).attempt == 2


def test_writer_of_a_run_that_was_given_up_writes_no_more(tmp_path):
    run = new(tmp_path)
    orphan = start_attempt(run, attempt=1)
    give_up(run, 1, "failed", "It was silent.")
    with pytest.raises(SupersededAttempt, match="is no longer this process's"):
        orphan.append_history(ROW)
    with pytest.raises(SupersededAttempt):
        orphan.finish("done")
    assert load_run(run.id, tmp_path).status == "failed"


def test_writer_of_a_deleted_run_writes_no_more_and_does_not_bring_it_back(tmp_path):
    run = new(tmp_path)
    orphan = start_attempt(run, attempt=1)
    give_up(run, 1, "failed", "It was silent.")
    delete_run(load_run(run.id, tmp_path))
    for write in (lambda: orphan.finish("done"), lambda: orphan.update(device="x"), lambda: orphan.append_history(ROW)):
        with pytest.raises(SupersededAttempt, match="is not there any more"):
            write()
    with pytest.raises(CvcoreError):
        orphan.document("metrics.json", {})
    orphan.log("a traceback")
    assert not run.path.exists()


def test_overtaken_while_it_prepares_a_file_a_writer_leaves_the_newer_ones_in_place(tmp_path):
    run = new(tmp_path)
    orphan = start_attempt(run, attempt=1)
    with pytest.raises(SupersededAttempt), orphan.replacing("state.npz") as temporary:
        temporary.write_bytes(b"old")
        requeue(load_run(run.id, tmp_path), by_watchdog=True)
        newer = start_attempt(load_run(run.id, tmp_path), attempt=2)
        with newer.replacing("state.npz") as other:
            other.write_bytes(b"new")
        temporary.write_bytes(b"old")
    assert (run.path / "state.npz").read_bytes() == b"new"
    assert [path.name for path in run.path.glob(".*")] == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no number")])
def test_file_that_cannot_be_written_stays_as_it_was(tmp_path, error):
    writer = start_attempt(new(tmp_path))
    writer.text("predictions.csv", "first")
    shown = CvcoreError if isinstance(error, OSError) else ValueError
    with pytest.raises(shown), writer.replacing("predictions.csv") as temporary:
        temporary.write_text("second")
        raise error
    assert (writer.path / "predictions.csv").read_text() == "first"
    assert [path.name for path in writer.path.glob(".*")] == []


def test_run_json_broken_under_a_writer_is_one_sentence(tmp_path):
    writer = start_attempt(new(tmp_path))
    (writer.path / "run.json").write_text("{")
    with pytest.raises(CvcoreError, match=r"the run\.json of .* cannot be read any more"):
        writer.append_history(ROW)


APPENDS = """
import sys
from pathlib import Path
from cvcore.run_directory import load_run
from cvcore.run_history import HISTORY_COLUMNS
from cvcore.run_writer import start_attempt
run = load_run(sys.argv[2], Path(sys.argv[1]))
writer = start_attempt(run, attempt=run.attempt)
writer.replace_history([])
for epoch in range(1, 10**6):
    writer.append_history({**dict.fromkeys(HISTORY_COLUMNS, 1), "epoch": epoch, "seconds": run.attempt})
"""


def test_attempts_that_write_at_the_same_time_never_mix(tmp_path):
    """Each attempt is overtaken while it writes as fast as it can; it must end, and its lines with it."""
    run = new(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(Path(__file__).parent)])}
    command, orphans = [sys.executable, "-c", APPENDS, str(tmp_path), run.id], []
    try:
        for attempt in (1, 2, 3):
            orphans.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
            until = time.monotonic() + 300
            while not ((rows := load_run(run.id, tmp_path).history())["seconds"] == attempt).any() or len(rows) < 20:
                assert time.monotonic() < until and orphans[-1].poll() is None
            requeue_as_watchdog(run.id, tmp_path)
        for orphan in orphans:
            assert "SupersededAttempt" in orphan.communicate(timeout=300)[1]
    finally:
        for orphan in orphans:
            orphan.kill()
    rows = load_run(run.id, tmp_path).history()
    assert set(rows["seconds"]) == {3.0} and rows["epoch"].tolist() == list(range(1, len(rows) + 1))


def requeue_as_watchdog(run_id, folder):
    run = load_run(run_id, folder)
    RunWriter(run.path, run.attempt).update(requeues=0)
    requeue(load_run(run_id, folder), by_watchdog=True)


def test_line_for_which_there_is_no_room_leaves_nothing_of_itself(tmp_path, monkeypatch):
    writer = start_attempt(new(tmp_path))
    writer.replace_history([ROW])
    before = (writer.path / "history.csv").read_bytes()
    real = Path.open

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.stream.close()

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def write(self, data):
            return self.stream.write(data[: len(data) // 2])  # as a disk with room for half of it does

    def opened(path, mode="r", *arguments, **words):
        stream = real(path, mode, *arguments, **words)
        return Full(stream) if path.name == "history.csv" and mode == "ab" else stream

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        with pytest.raises(CvcoreError, match="No space left on device"):
            writer.append_history(ROW)
    assert (writer.path / "history.csv").read_bytes() == before


def test_process_killed_while_it_held_a_run_keeps_nobody_from_it(tmp_path):
    run = new(tmp_path)
    code = ("import sys, time\nfrom pathlib import Path\nfrom cvcore.attempt_writer import run_locked\n"
            "with run_locked(Path(sys.argv[1])): print(flush=True); time.sleep(600)")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code, run.path], cwd=PROJECT, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        other.kill()
        other.wait()
        assert rename_run(run, "Mine").name == "Mine"


def test_run_that_somebody_holds_for_ever_is_one_sentence(tmp_path, monkeypatch):
    run = new(tmp_path)
    monkeypatch.setattr(attempt_writer, "locked", partial(locked, wait=0.1))
    with run_locked(run.path), pytest.raises(CvcoreError, match=r"another process has kept .* locked"):
        rename_run(run, "Mine")


@pytest.mark.parametrize(("name", "called"), [("Mine", "Mine"), (" Größe 2 ✓ ", "Größe 2 ✓"), ("", None), (None, None)])
def test_run_is_called_what_its_owner_says(tmp_path, name, called):
    run = load_run(write_run(tmp_path, name="Before"), tmp_path)
    before = run.info
    assert rename_run(run, name).name == called
    assert load_run(run.id, tmp_path).info == {**before, "name": called}


def test_running_run_is_renamed_and_its_writer_does_not_lose_the_name(tmp_path):
    run = new(tmp_path)
    writer = start_attempt(run, attempt=1)
    rename_run(run, "Mine")
    writer.update(device="x")
    writer.finish("done")
    assert load_run(run.id, tmp_path).name == "Mine"


@pytest.mark.parametrize("name", ["x" * 81, "two\nlines", "a\x00b", "\u202eright to left"])
def test_what_is_no_name_is_one_sentence(tmp_path, name):
    run = load_run(write_run(tmp_path), tmp_path)
    with pytest.raises(CvcoreError, match="at most 80 printable characters on one line; received"):
        rename_run(run, name)
    with pytest.raises(CvcoreError, match="at most 80 printable characters"):
        new(tmp_path, name=name)
    assert [one.name for one in list_runs(tmp_path)] == [None]


def test_reference_run_is_not_renamed(tmp_path):
    write_reference_runs(tmp_path)
    with pytest.raises(CvcoreError, match="ships with the project and is not renamed"):
        rename_run(list_runs(tmp_path)[0], "Mine")


@pytest.mark.parametrize(
    "odd",
    [{"ticket": -1}, {"ticket": "first"}, {"turn": 1.5}, {"requeues": True}, {"name": 3}, {"backend": []},
     {"process": "me"}, {"group": "g"}, {"estimate": 3}, {"estimate": {"seconds": "long"}},
     {"estimate": {"memory_mb": -1}}],
)  # fmt: skip
def test_run_with_odd_words_of_its_launch_is_damaged(tmp_path, odd):
    write_run(tmp_path, **odd)
    assert [run.status for run in list_runs(tmp_path)] == ["damaged"]


def test_stop_request_of_a_run_that_comes_back_is_taken(tmp_path):
    run = gone(tmp_path)
    request_stop(run)
    assert (run.path / STOP_FILE).exists()
    ended = gone(tmp_path, requeues=REQUEUES)
    with pytest.raises(CvcoreError, match="only a queued or running run can be stopped"):
        request_stop(ended)
