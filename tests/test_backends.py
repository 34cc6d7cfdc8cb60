"""The worker of a runs folder, with real child processes."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_lessons import tiny_scratch

from cvcore.backends import launch, local, resume, worker
from cvcore.errors import CvcoreError
from cvcore.run_directory import delete_run, list_runs, load_run, request_stop, worker_alive
from cvcore.run_writer import create_run, requeue, start_attempt
from cvcore.settings import PROJECT

PATIENCE = 400.0  # seconds; children share two cores with whatever else runs

# Queues three runs and is killed at once, as a server might be.
LAUNCHER = """
import os, signal, sys
from pathlib import Path
from tiny_lessons import tiny_scratch
from cvcore.backends import launch
from cvcore.datasets import open_dataset
dataset = open_dataset(sys.argv[1])
for seed in range(3):
    print(launch(tiny_scratch.with_changes(epochs=2), dataset, seed, Path(sys.argv[2])), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def wait_until(condition, what):
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began < PATIENCE, f"waited in vain until {what}"
        time.sleep(0.1)
    return found


@pytest.fixture
def runs(tmp_path):
    """A runs folder whose worker and children are gone when the test ends."""
    folder = tmp_path / "runs"
    folder.mkdir()
    yield folder
    for run in list_runs(folder):
        if run.status in ("queued", "running"):
            request_stop(run)
    wait_until(lambda: not worker_alive(folder), "the worker has ended")


def test_worker_outlives_its_launcher_and_trains_one_run_after_another(lessons, runs):
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(lessons.folder()), str(runs)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(Path(__file__).parent)])},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    ids = done.stdout.split()
    first = wait_until(
        lambda: next((run for run in list_runs(runs) if run.status == "running"), None), "a run of the three runs"
    )
    queued = [run for run in list_runs(runs) if run.status == "queued"]
    assert len(queued) == 2 and worker_alive(runs)
    request_stop(queued[0])
    most = 0

    def ended():
        nonlocal most
        statuses = [run.status for run in list_runs(runs)]
        most = max(most, statuses.count("running"))
        return set(statuses) <= {"done", "stopped", "failed"}

    wait_until(ended, "all three have ended")
    found = {run_id: load_run(run_id, runs) for run_id in ids}
    assert most <= 1
    assert found[queued[0].id].status == "stopped" and "before it began" in str(found[queued[0].id].error)
    second = found[queued[1].id]
    assert found[first.id].status == second.status == "done"
    assert len(second.history()) == 2 and (second.path / "code.py").stat().st_size > 0
    assert found[first.id].log().splitlines()[-1][:19] <= second.log().splitlines()[0][:19]
    wait_until(lambda: not worker_alive(runs), "the worker has ended")


def test_killed_training_shows_as_interrupted_and_resumes(lessons, runs):
    run_id = launch(tiny_scratch.with_changes(epochs=1000), lessons.dataset(), 0, runs)
    with pytest.raises(CvcoreError, match="only a stopped, failed or interrupted run can be resumed"):
        resume(run_id, runs)
    with pytest.raises(CvcoreError, match="run cannot be deleted; stop"):
        delete_run(load_run(run_id, runs))
    wait_until(lambda: len(load_run(run_id, runs).history()) >= 2, "two epochs are over")
    run = load_run(run_id, runs)
    assert run.status == "running" and run.progress()["epochs"] == 1000
    os.kill(run.info["owner"]["pid"], signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: load_run(run_id, runs).status == "interrupted", "the run shows as interrupted")
    assert time.monotonic() - began < 5
    kept = len(load_run(run_id, runs).history())
    resume(run_id, runs)
    assert load_run(run_id, runs).status in ("queued", "running")
    wait_until(lambda: len(load_run(run_id, runs).history()) > kept + 1, "the resumed run has gone on")
    request_stop(load_run(run_id, runs))
    wait_until(lambda: load_run(run_id, runs).status == "stopped", "the run has stopped")
    stopped = load_run(run_id, runs)
    assert stopped.info["attempt"] == 2
    assert stopped.history()["epoch"].tolist() == list(range(1, len(stopped.history()) + 1))
    assert stopped.metrics["epochs"] == len(stopped.history())


SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}


def test_child_that_cannot_start_fails_its_run_with_a_sentence(tmp_path, monkeypatch):
    run = create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    worker.serve(tmp_path)
    found = load_run(run.id, tmp_path)
    assert found.status == "failed" and "ended before it began" in str(found.error)


def test_run_deleted_under_the_worker_does_not_stop_the_others(tmp_path, monkeypatch):
    ids = sorted(create_run(tiny_scratch, SUMMARY, seed, folder=tmp_path).id for seed in (0, 1))

    def train(command, **options):
        run_id = command[command.index("resume") + 1]
        path = tmp_path / run_id
        if run_id == ids[0]:
            (path / "run.json").unlink()
            path.rmdir()
        else:
            info = json.loads((path / "run.json").read_text())
            (path / "run.json").write_text(json.dumps({**info, "status": "done"}))

    monkeypatch.setattr(subprocess, "run", train)
    worker.serve(tmp_path)
    assert [(run.id, run.status) for run in list_runs(tmp_path)] == [(ids[1], "done")]


def test_run_killed_and_queued_again_at_once_is_trained_and_not_failed(tmp_path, monkeypatch):
    run = create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path)
    calls = []

    def train(command, **options):
        calls.append(command)
        writer = start_attempt(load_run(run.id, tmp_path))
        writer.log("begun")
        if len(calls) == 1:  # killed, and resumed by somebody before the worker looks again
            writer.update(owner={"pid": os.getpid(), "started": 0.0, "host": platform.node()})
            requeue(load_run(run.id, tmp_path))
        else:
            writer.finish("done")

    monkeypatch.setattr(subprocess, "run", train)
    worker.serve(tmp_path)
    assert len(calls) == 2 and load_run(run.id, tmp_path).status == "done"


def test_run_that_cannot_be_written_is_given_up_and_the_worker_ends(tmp_path, monkeypatch):
    run = create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path)
    tries = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: tries.append(command))

    def full(path, document):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cvcore.run_writer.replace_json", full)
    worker.serve(tmp_path)
    assert len(tries) == 1 and run.id in tries[0]


def test_second_worker_leaves_a_served_folder_alone(tmp_path, monkeypatch):
    create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: pytest.fail("trained by two workers"))
    with worker._only_worker(tmp_path) as alone:
        assert alone and worker_alive(tmp_path)
        worker.serve(tmp_path)
        monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: pytest.fail("started a second worker"))
        local.ensure_worker(tmp_path)
    assert not worker_alive(tmp_path)


def test_launch_of_a_batch_that_does_not_fit_leaves_nothing(lessons, tmp_path):
    with pytest.raises(CvcoreError, match="received 19"):
        launch(tiny_scratch.with_changes(batch_size=19), lessons.dataset(), 0, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
