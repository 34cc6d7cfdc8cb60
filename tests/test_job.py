"""The training process: it takes its attempt before Keras is imported, or ends without a word."""

import json
import os
import subprocess
import sys

import pytest
from tiny_lessons import tiny_scratch

from cvcore.backends import job
from cvcore.new_run import new_run
from cvcore.run_directory import load_run, request_stop
from cvcore.run_writer import create_run, requeue, start_attempt
from cvcore.settings import PROJECT

SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}


@pytest.fixture
def run(tmp_path):
    return create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path, ticket=1, backend="local")


@pytest.fixture
def nothing_trains(monkeypatch):
    """Fail where the process would go on to import Keras."""
    monkeypatch.setattr(job.devices, "import_keras", lambda: pytest.fail("it trains"))


def content(run):
    return {path.name: path.read_bytes() for path in run.path.iterdir()}


def test_attempt_that_is_over_taken_or_stopped_is_left_alone(run, tmp_path, nothing_trains, capfd):
    before = content(run)
    assert job.main(run.id, 2, tmp_path) == job.main("nobody", 1, tmp_path) == 0 and content(run) == before
    request_stop(run)
    before = content(run)
    assert job.main(run.id, 1, tmp_path) == 0 and content(run) == before
    requeue(load_run(run.id, tmp_path))
    start_attempt(load_run(run.id, tmp_path), attempt=2)
    before = content(run)
    assert job.main(run.id, 2, tmp_path) == job.main(run.id, 1, tmp_path) == 0 and content(run) == before
    assert capfd.readouterr().err == ""


def test_attempt_taken_between_the_look_and_the_lock_is_left_alone(run, tmp_path, nothing_trains, monkeypatch):
    real = job.start_attempt

    def late(found, attempt):
        real(found, attempt=attempt)  # another process was quicker
        return real(found, attempt=attempt)

    monkeypatch.setattr(job, "start_attempt", late)
    assert job.main(run.id, 1, tmp_path) == 0


def test_run_that_cannot_be_written_is_a_sentence_and_an_exit_code(run, tmp_path, nothing_trains, monkeypatch, capfd):
    def full(path, document):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cvcore.run_writer.replace_json", full)
    assert job.main(run.id, 1, tmp_path) == job.NOT_WRITTEN
    said = capfd.readouterr().err
    assert "No space left on device" in said and said.count("\n") == 1 and load_run(run.id, tmp_path).status == "queued"


def test_two_processes_for_one_attempt_train_it_once(lessons, tmp_path):
    recipe = tiny_scratch.with_changes(epochs=2)
    run = new_run(recipe, lessons.dataset(), 0, runs=tmp_path, backend="local", ticket=1)
    command = [sys.executable, "-m", "cvcore.backends.job", run.id, "1", "--runs", str(tmp_path)]
    both = [subprocess.Popen(command, cwd=PROJECT, env=dict(os.environ), stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=300)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0] and said == ["", ""]
    done = load_run(run.id, tmp_path)
    assert done.status == "done" and done.log().count(": on ") == 1
    assert done.history()["epoch"].tolist() == [1, 2] and json.loads((done.path / "run.json").read_text())["turn"] == 1


def test_run_that_fails_says_so_with_its_exit_code_too(lessons, tmp_path, capfd):
    run = new_run(tiny_scratch, lessons.dataset(), 0, runs=tmp_path, backend="local", ticket=1)
    info = json.loads((run.path / "run.json").read_text())
    info["dataset"]["fingerprint"] = "0" * 64
    (run.path / "run.json").write_text(json.dumps(info))
    assert job.main(run.id, 1, tmp_path) == job.FAILED
    assert load_run(run.id, tmp_path).status == "failed" and not (run.path / "heartbeat.json").exists()
