"""Looking after runs with real workers and real training processes, and in folders that cannot be written."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from handmade_runs import write_run
from tiny_lessons import tiny_scratch

from cvcore import backends, waiting_line
from cvcore.backends import worker_process
from cvcore.backends.worker import _only_worker
from cvcore.errors import CvcoreError
from cvcore.new_run import new_run
from cvcore.processes import described
from cvcore.run_directory import list_runs, load_run, request_stop, worker_alive, worker_lock
from cvcore.run_writer import create_run
from cvcore.settings import PROJECT
from cvcore.trash import delete_run

PATIENCE = 300.0  # seconds; children share two cores with whatever else runs
SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}

# Queues runs of three owners, starts a worker, and is killed at once, as a server might be.
LAUNCHER = """
import os, signal, sys
from pathlib import Path
from cvcore import backends
from cvcore.run_directory import list_runs
folder = Path(sys.argv[1])
print(backends.look_after(folder), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

# A worker that takes the folder, finds that it cannot serve it, and needs its time to end.
FAILS_SLOWLY = """
import sys
from pathlib import Path
from cvcore.backends.worker import _only_worker
with _only_worker(Path(sys.argv[1])): pass
sys.stdin.read()
sys.exit("no good")
"""


def wait_until(condition, what):
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began < PATIENCE, f"waited in vain until {what}"
        time.sleep(0.1)
    return found


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A runs folder whose worker and children are gone when the test ends."""
    monkeypatch.setenv("CVCORE_WORKER_IDLE", "1")
    monkeypatch.setenv("CVCORE_NICENESS", "0")  # else other tests leave the children a tenth of a core
    folder = tmp_path / "runs"
    folder.mkdir()
    yield folder
    for run in list_runs(folder):
        if run.status in ("queued", "running"):
            request_stop(run)
    wait_until(lambda: not worker_alive(folder), "the worker has ended")


def queue(folder, dataset, owner=None, seed=0, epochs=2):
    recipe = tiny_scratch.with_changes(epochs=epochs)
    with waiting_line.submitting(folder):
        ticket = waiting_line.next_ticket(list_runs(folder))
        return new_run(recipe, dataset, seed, runs=folder, owner=owner, backend="local", ticket=ticket).id


def look_after_in_a_process_that_dies(folder):
    """Start a worker as a server would that is killed right after."""
    path = os.pathsep.join([str(PROJECT), str(Path(__file__).parent)])
    done = subprocess.run([sys.executable, "-c", LAUNCHER, str(folder)], env={**os.environ, "PYTHONPATH": path},
                          capture_output=True, text=True, timeout=PATIENCE)  # fmt: skip
    assert done.returncode == -signal.SIGKILL and done.stdout.strip() == "None", done.stderr


def processes(module, folder):
    """Find the processes of a module; a child that has just been forked has its parent's words for a moment."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if f"cvcore.backends.{module}" in words and str(folder) in words:
            found.append(process)
    with_parent = [(process, parent_of(process)) for process in found]
    return [process for process, parent in with_parent if parent not in found]


def parent_of(process):
    with contextlib.suppress(psutil.Error):
        return process.parent()


def statuses(folder):
    return {run.status for run in list_runs(folder)}


def training_at_once(folder):
    """Count the runs that train at the same time: those that did so before and after all were looked at."""
    before, after = ({run.id for run in list_runs(folder) if run.status == "running"} for _ in range(2))
    return len(before & after)


def attempts_begun(run):
    return [line.split()[2].rstrip(":") for line in run.log().splitlines() if ": on " in line]


@pytest.mark.timeout(900)  # seven trainings
def test_runs_of_three_owners_in_fair_order_each_trained_once_whatever_becomes_of_the_server(lessons, runs):
    first = queue(runs, lessons.dataset(), "a" * 16, epochs=1000)  # trains until somebody has come late
    ids = {(owner, place): queue(runs, lessons.dataset(), owner * 16, place)
           for place, owner in ((1, "b"), (1, "c"), (2, "a"), (2, "b"), (2, "c"))}  # fmt: skip
    look_after_in_a_process_that_dies(runs)
    most = 0

    def ended():
        nonlocal most
        most = max(most, training_at_once(runs))
        return sum(run.status in ("done", "stopped", "failed", "interrupted") for run in list_runs(runs))

    wait_until(lambda: len(load_run(first, runs).history()) >= 1, "one of them trains")
    late = queue(runs, lessons.dataset(), "d" * 16, 9)
    backends.stop(load_run(first, runs))
    for number in range(1, 8):  # they train one after the other
        wait_until(lambda number=number: ended() >= number, f"{number} have ended")
    found = sorted(list_runs(runs), key=lambda run: run.turn)
    assert load_run(first, runs).status == "stopped" and most == 1
    assert [run.id for run in found] == [first, ids["b", 1], ids["c", 1], late, ids["a", 2], ids["b", 2], ids["c", 2]]
    assert all(attempts_begun(run) == ["1"] for run in found)
    assert all((run.status, len(run.history())) == ("done", 2) for run in found[1:])
    assert all(run.process is None and run.backend == "local" for run in found)


def test_killed_training_goes_on_by_itself_and_killed_worker_is_replaced(lessons, runs):
    run_id = queue(runs, lessons.dataset(), epochs=1000)
    assert backends.look_after(runs) is None
    with pytest.raises(CvcoreError, match="only a stopped, failed or interrupted run can be resumed"):
        backends.resume(run_id, runs)
    with pytest.raises(CvcoreError, match="run cannot be deleted; stop"):
        delete_run(load_run(run_id, runs))
    wait_until(lambda: len(load_run(run_id, runs).history()) >= 2, "two epochs are over")
    run = load_run(run_id, runs)
    assert run.status == "running" and run.progress()["epochs"] == 1000
    os.kill(run.process["pid"], signal.SIGKILL)
    put_back = "ended by SIGKILL. It goes back into the line"
    wait_until(lambda: put_back in load_run(run_id, runs).log(), "the run is queued again")
    (worker,) = processes("worker", runs)
    worker.kill()
    wait_until(lambda: not worker_alive(runs), "the worker is gone")
    wait_until(lambda: backends.look_after(runs) is None and worker_alive(runs), "another worker lives")
    kept = len(load_run(run_id, runs).history())
    wait_until(lambda: len(load_run(run_id, runs).history()) > kept + 1, "the run has gone on")
    backends.stop(load_run(run_id, runs))
    wait_until(lambda: load_run(run_id, runs).status == "stopped", "the run has stopped")
    stopped = load_run(run_id, runs)
    assert (stopped.attempt, stopped.requeues) == (2, 1)
    assert stopped.history()["epoch"].tolist() == list(range(1, len(stopped.history()) + 1))
    assert stopped.log().count(put_back) == 1


def test_worker_killed_under_a_training_leaves_it_alone_and_the_next_one_waits_for_it(lessons, runs):
    trains, waits = queue(runs, lessons.dataset(), epochs=1000), queue(runs, lessons.dataset(), seed=1)
    backends.look_after(runs)
    wait_until(lambda: len(load_run(trains, runs).history()) >= 1, "an epoch is over")
    (worker,) = processes("worker", runs)
    worker.kill()
    wait_until(lambda: not worker_alive(runs), "the worker is gone")
    wait_until(lambda: backends.look_after(runs) is None and worker_alive(runs), "another worker lives")
    after = len(load_run(trains, runs).history())
    wait_until(lambda: len(load_run(trains, runs).history()) > after + 2, "the orphan has gone on")
    assert len(processes("job", runs)) == 1 and load_run(waits, runs).status == "queued"
    backends.stop(load_run(trains, runs))
    wait_until(lambda: load_run(waits, runs).status == "done", "the other run is done")
    assert load_run(trains, runs).status == "stopped" and attempts_begun(load_run(trains, runs)) == ["1"]


def test_two_dashboards_and_two_workers_on_one_folder_train_each_run_once(lessons, runs):
    ids = [queue(runs, lessons.dataset(), owner * 16) for owner in "ab"]
    path = os.pathsep.join([str(PROJECT), str(Path(__file__).parent)])
    watch = ("import sys, time; from pathlib import Path; from cvcore import backends\n"
             "while True: backends.look_after(Path(sys.argv[1])); time.sleep(0.05)")  # fmt: skip
    commands = [["-c", watch, str(runs)]] * 2 + [["-m", "cvcore.backends.worker", str(runs)]] * 2
    others = [subprocess.Popen([sys.executable, *words], env={**os.environ, "PYTHONPATH": path}) for words in commands]
    try:
        most = 0

        def ended():
            nonlocal most
            most = max(most, training_at_once(runs))
            return statuses(runs) == {"done"}

        wait_until(ended, "both are done")
    finally:
        for process in others[:2]:
            process.kill()
        for process in others:
            process.wait(PATIENCE)
    assert most == 1 and [other.returncode for other in others[2:]] == [0, 0]
    assert [attempts_begun(load_run(run_id, runs)) for run_id in ids] == [["1"], ["1"]]


def test_run_whose_recipe_fails_says_so_and_the_next_one_trains(lessons, runs):
    dataset = lessons.dataset()
    broken, other = queue(runs, dataset), queue(runs, dataset, seed=1)
    info = json.loads((runs / broken / "run.json").read_text())
    info["recipe"]["optimizer"] = "no such optimizer"
    (runs / broken / "run.json").write_text(json.dumps(info))
    backends.look_after(runs)
    wait_until(lambda: load_run(other, runs).status == "done", "the other run is done")
    found = load_run(broken, runs)
    assert found.status == "failed" and found.attempt == 1 and found.error


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte, and how to make it read-only."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this system does not let us mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    unmount = ["umount", folder]  # refused until the worker, whose log is there, is gone for good
    wait_until(lambda: subprocess.run(unmount, capture_output=True).returncode == 0, "it is not used any more")


def test_full_disk_is_a_sentence_and_the_runs_are_trained_when_there_is_room(lessons, small_disk, monkeypatch):
    monkeypatch.setenv("CVCORE_WORKER_IDLE", "1")
    monkeypatch.setenv("CVCORE_NICENESS", "0")
    folder = small_disk / "runs"
    folder.mkdir()
    ids = [queue(folder, lessons.dataset(), seed=seed, epochs=1) for seed in (0, 1)]
    before = {run_id: (folder / run_id / "run.json").read_bytes() for run_id in ids}
    with (small_disk / "filler").open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
        while True:
            stream.write(b"x" * 4096)
    with pytest.raises(CvcoreError, match=r"No space left on device.*launch"):
        queue(folder, lessons.dataset())
    monkeypatch.setattr(worker_process, "_started", {})
    sentence = backends.look_after(folder)  # where not even the log of a worker can be made
    log = folder / ".worker.log"
    wait_until(lambda: sentence or "No space left" in log.read_text() or log.stat().st_size == 0, "it was tried")
    time.sleep(1)
    assert {run_id: (folder / run_id / "run.json").read_bytes() for run_id in ids} == before
    assert statuses(folder) == {"queued"}
    (small_disk / "filler").unlink()

    def done():
        backends.look_after(folder)
        return statuses(folder) == {"done"}

    wait_until(done, "both are done")
    assert all(len(attempts_begun(run)) == 1 for run in list_runs(folder))


def test_read_only_folder_is_a_sentence_and_its_runs_wait(lessons, small_disk):
    folder = small_disk / "runs"
    folder.mkdir()
    run_id = queue(folder, lessons.dataset(), epochs=1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        sentence = backends.look_after(folder)
        assert "Read-only file system" in sentence and "the runs that wait are trained then" in sentence
        assert backends.status(folder).problem == sentence and "\n" not in sentence
        backends.submit(load_run(run_id, folder))
        with pytest.raises(CvcoreError, match="Read-only file system"):
            backends.stop(load_run(run_id, folder))
        with pytest.raises(CvcoreError, match="Read-only file system"):
            queue(folder, lessons.dataset())
        assert load_run(run_id, folder).status == "queued"
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


def test_worker_that_cannot_start_is_not_started_over_and_over(tmp_path, monkeypatch):
    create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path, ticket=1, backend="local")
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho started >> {tmp_path}/starts\necho 'no module named anything' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(worker_process, "_started", {})
    clock = {"now": 0.0}
    monkeypatch.setattr(worker_process, "time", SimpleNamespace(monotonic=lambda: clock["now"]))
    sentence = wait_until(lambda: backends.look_after(tmp_path), "the worker has ended")
    assert "ended with exit code 3: no module named anything; it is started again in 2 s" in sentence
    assert backends.status(tmp_path).problem == sentence
    for clock["now"] in (0.1, 1.0, 1.9):
        assert backends.look_after(tmp_path) == sentence
    assert (tmp_path / "starts").read_text().count("started") == 1
    clock["now"] = 2.1
    again = wait_until(
        lambda: (found := backends.look_after(tmp_path)) != sentence and found, "it has been tried again"
    )
    assert "in 4 s" in again and (tmp_path / "starts").read_text().count("started") == 2


def test_worker_that_fails_after_it_took_the_folder_is_told_of_and_not_started_over_and_over(tmp_path, monkeypatch):
    create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path, ticket=1, backend="local")
    started, real = [], subprocess.Popen

    def popen(command, **options):
        command = [sys.executable, "-c", FAILS_SLOWLY, str(tmp_path)]
        started.append(real(command, **{**options, "stdin": subprocess.PIPE}))
        return started[-1]

    monkeypatch.setattr(worker_process, "_started", {})
    monkeypatch.setattr(worker_process.subprocess, "Popen", popen)
    clock = {"now": 0.0}
    monkeypatch.setattr(worker_process, "time", SimpleNamespace(monotonic=lambda: clock["now"]))
    try:
        wait_until(lambda: backends.look_after(tmp_path) or len(started) == 2, "another is started beside the first")
        started[0].communicate()
        sentence = wait_until(lambda: backends.look_after(tmp_path) or len(started) > 2, "the second has failed, too")
        assert len(started) == 2
        assert "ended with exit code 1: no good; it is started again in 2 s" in sentence
        assert backends.status(tmp_path).problem == sentence
        started[1].communicate()
        assert "in 4 s" in backends.look_after(tmp_path)
        clock["now"] = 3.9
        assert backends.look_after(tmp_path) and len(started) == 2
        clock["now"] = 4.1
        assert backends.look_after(tmp_path) is None and len(started) == 3
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_looking_after_a_folder_without_work_starts_nothing_and_reads_no_run_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: pytest.fail("started a worker"))
    for _ in range(100):
        path = tmp_path / write_run(tmp_path)
        for file in path.iterdir():
            os.utime(file, (0, 0))  # what was written just now may change once more at the same time
    assert backends.look_after(tmp_path) is None and statuses(tmp_path) == {"done"}
    looked_at, real = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked_at.append(path) or real(path, **options))
    for reads in ((Path, "open"), (Path, "read_text"), (Path, "is_dir"), (json, "loads")):
        monkeypatch.setattr(*reads, lambda *arguments, **options: pytest.fail("looked into a run that had not changed"))
    assert backends.look_after(tmp_path) is None
    assert len(looked_at) <= 2 * 100  # 8 ms with a thousand runs


def test_resume_goes_to_the_end_of_the_line_of_the_backend_in_use(lessons, runs, monkeypatch):
    run_id, other = queue(runs, lessons.dataset()), queue(runs, lessons.dataset(), seed=1)
    backends.stop(load_run(run_id, runs))
    monkeypatch.setattr(worker_process, "ensure", lambda folder: None)
    backends.resume(run_id, runs)
    assert [run.id for run in waiting_line.in_order(list_runs(runs))] == [other, run_id]
    found = load_run(run_id, runs)
    assert (found.backend, found.attempt) == ("local", 2) and found.ticket > load_run(other, runs).ticket


@pytest.mark.parametrize("served", [False, True])
def test_worker_that_has_given_its_folder_up_keeps_no_other_from_being_started(tmp_path, monkeypatch, served):
    """Between the last look of a worker and the end of its process a run may be queued, which it does not see."""
    create_run(tiny_scratch, SUMMARY, 0, folder=tmp_path, ticket=1, backend="local")
    lives = [sys.executable, "-c", "input()"]
    started, real = [], subprocess.Popen

    def popen(command, **options):
        started.append(real(lives, **{**options, "stdin": subprocess.PIPE}))
        if len(started) == 1:  # a process before the last start of the computer, or of a container, had its number
            before = {**described(started[0].pid), "started": "another-boot 1"}
            worker_lock(tmp_path).write_text(json.dumps(before))
        return started[-1]

    monkeypatch.setattr(worker_process, "_started", {})
    monkeypatch.setattr(worker_process.subprocess, "Popen", popen)
    try:
        assert backends.look_after(tmp_path) is None and len(started) == 1
        if served:
            monkeypatch.setattr(os, "getpid", lambda: started[0].pid)
            with _only_worker(tmp_path):
                assert backends.look_after(tmp_path) is None and len(started) == 1
        assert backends.look_after(tmp_path) is None and len(started) == (2 if served else 1)
        assert backends.look_after(tmp_path) is None and len(started) == (2 if served else 1)  # this one only begins
        started[0].kill()
        started[0].wait()
        assert backends.look_after(tmp_path) is None or not served
    finally:
        for process in started:
            process.kill()
            process.communicate()
