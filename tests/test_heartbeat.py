"""The heartbeat of a training process: while it lives, until it is superseded, when the disk is full."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from tiny_lessons import tiny_scratch

from cvcore import attempt_writer
from cvcore.files import replace_json
from cvcore.run_directory import load_run
from cvcore.run_writer import create_run, requeue, start_attempt
from cvcore.settings import PROJECT

SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}


def new(folder):
    return create_run(tiny_scratch, SUMMARY, 0, folder=folder)


def wait_until(condition):
    until = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def beat(run):
    try:
        return json.loads((run.path / "heartbeat.json").read_text())
    except (OSError, ValueError):
        return {}


def test_heart_beats_while_a_process_lives_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(attempt_writer, "BEAT_EVERY", 0.01)
    run = new(tmp_path)
    writer = start_attempt(run, attempt=1)
    with writer.heartbeat():
        wait_until(lambda: beat(run).get("beat", 0) > 3)
        with writer.heartbeat():  # a second one within it is the same
            pass
        seen = beat(run)["beat"]
        wait_until(lambda: beat(run).get("beat", 0) > seen)
        assert beat(run)["attempt"] == 1 and set(beat(run)) == {"attempt", "beat", "at"}
    assert [path.name for path in run.path.iterdir()] == ["run.json"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("heartbeat")]


def test_heart_of_a_superseded_writer_stops_and_leaves_the_newer_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(attempt_writer, "BEAT_EVERY", 0.01)
    run = new(tmp_path)
    with start_attempt(run, attempt=1).heartbeat():
        wait_until(lambda: beat(run))
        requeue(load_run(run.id, tmp_path), by_watchdog=True)
        assert not (run.path / "heartbeat.json").exists()
        wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("heartbeat")])
        replace_json(run.path / "heartbeat.json", {"attempt": 2, "beat": 5})
    assert beat(run) == {"attempt": 2, "beat": 5}


def test_heart_beats_on_when_there_is_room_again(tmp_path, monkeypatch):
    monkeypatch.setattr(attempt_writer, "BEAT_EVERY", 0.01)
    run, full = new(tmp_path), threading.Event()
    real, tried = os.fsync, []

    def fsync(descriptor):
        if full.is_set():
            tried.append(descriptor)
            raise OSError(28, "No space left on device")
        real(descriptor)

    writer = start_attempt(run, attempt=1)
    monkeypatch.setattr(os, "fsync", fsync)
    with writer.heartbeat():
        wait_until(lambda: beat(run))
        full.set()
        wait_until(lambda: len(tried) > 2)
        full.clear()
        seen = beat(run)["beat"]
        wait_until(lambda: beat(run)["beat"] > seen)


def test_killed_process_leaves_its_last_beat_and_the_run_is_interrupted(tmp_path):
    run = new(tmp_path)
    code = ("import sys, time\nfrom pathlib import Path\nfrom cvcore.run_directory import load_run\n"
            "from cvcore.run_writer import start_attempt\n"
            "run = load_run(sys.argv[2], Path(sys.argv[1]))\n"
            "with start_attempt(run, attempt=1).heartbeat(): time.sleep(600)")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path), run.id], cwd=PROJECT) as other:
        try:
            wait_until(lambda: beat(run))
            assert load_run(run.id, tmp_path).status == "running"
        finally:
            other.send_signal(signal.SIGKILL)
    assert load_run(run.id, tmp_path).status == "interrupted" and beat(run)["attempt"] == 1
