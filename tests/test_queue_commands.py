"""The commands of the line: what they print and as JSON, and one sentence where they cannot."""

import json

import pytest
from click.testing import CliRunner
from handmade_runs import write_run
from tiny_lessons import tiny_scratch

from cvcore import admission, published, waiting_line
from cvcore.backends import worker_process
from cvcore.backends.worker import _only_worker
from cvcore.cli import main
from cvcore.new_run import new_run
from cvcore.run_directory import STOP_FILE, list_runs, load_run, worker_alive
from cvcore.run_writer import start_attempt

ANNE, BOB = "a" * 16, "b" * 16


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "runs"
    path.mkdir()
    return path


@pytest.fixture
def command(lessons, folder, monkeypatch):
    """Run a command on a runs folder of its own; no worker starts by itself, and there is memory for any run.

    Returns click's result.
    """
    monkeypatch.setattr(admission, "room_here", lambda runs: admission.Room(100_000))
    monkeypatch.setitem(published.RECIPES, tiny_scratch.id, tiny_scratch)
    monkeypatch.setattr(worker_process, "ensure", lambda folder: None)
    monkeypatch.setenv("CVCORE_WORKER_IDLE", "0")
    monkeypatch.setenv("CVCORE_NICENESS", "0")

    def run(*arguments):
        result = CliRunner().invoke(main, [*map(str, arguments), "--runs", str(folder)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def said(result):
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    return result.stdout


def refused(result):
    assert result.exit_code == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    return result.stderr


def queue(folder, lessons, owner=None, seed=0, seconds=None):
    estimate = None if seconds is None else {"seconds": seconds, "memory_mb": 700.0, "basis": "a test"}
    ticket = waiting_line.next_ticket(list_runs(folder))
    return new_run(tiny_scratch, lessons.dataset(), seed, runs=folder, owner=owner, backend="local", ticket=ticket,
                   estimate=estimate, name=f"run {seed}").id  # fmt: skip


def test_launched_run_is_trained_by_a_worker_in_the_foreground_which_then_ends(command, lessons, folder):
    printed = json.loads(
        said(command("launch", "tiny-scratch", "--data", lessons.folder(), "--set", "epochs=1", "--json"))
    )
    assert printed["status"] == "queued" and load_run(printed["run"], folder).backend == "local"
    assert said(command("worker")) == ""
    run = load_run(printed["run"], folder)
    assert run.status == "done" and not worker_alive(folder)
    assert "is done" in refused(command("launch", "tiny-scratch", "--data", lessons.folder(), "--set", "epochs=1"))


def test_worker_of_a_folder_that_has_one_says_so(command, folder):
    with _only_worker(folder) as alone:
        assert alone
        assert f"another worker serves {folder} already" in refused(command("worker"))


def test_worker_of_an_empty_folder_ends(command):
    assert said(command("worker")) == ""


def test_queue_prints_places_and_when_each_run_is_expected_to_start(command, lessons, folder):
    assert "nothing trains or waits" in said(command("queue"))
    running = queue(folder, lessons, ANNE, seconds=100.0)
    second, first = queue(folder, lessons, ANNE, 1, 200.0), queue(folder, lessons, BOB, 2, 50.0)
    writer = start_attempt(load_run(running, folder), attempt=1)
    found = json.loads(said(command("queue", "--json")))
    assert not found["worker"] and found["problem"] is None and "one at a time" in found["backend"]
    rows = [(row["position"], row["run"], row["status"], row["starts_in"]) for row in found["runs"]]
    assert rows == [(None, running, "running", None), (1, first, "queued", 100.0), (2, second, "queued", 150.0)]
    text = said(command("queue"))
    assert "100 s" in text and "2 min" in text and "run 2" in text
    writer.finish("done")


def test_stop_of_a_queued_and_of_a_running_run(command, lessons, folder):
    waits, trains = queue(folder, lessons), queue(folder, lessons, seed=1)
    writer = start_attempt(load_run(trains, folder), attempt=1)
    assert said(command("stop", waits, trains)) == f"{waits} has left the line\n{trains} stops at its next batch\n"
    assert load_run(waits, folder).status == "stopped" and (folder / trains / STOP_FILE).exists()
    writer.finish("done")
    assert "only a queued or running run can be stopped" in refused(command("stop", trains))


def test_delete_and_restore(command, lessons, folder):
    kept, gone = write_run(folder), write_run(folder)
    assert "is in the trash for 7 days" in said(command("delete", gone))
    assert [run.id for run in list_runs(folder)] == [kept]
    (row,) = json.loads(said(command("restore", "--json")))
    assert row["run"] == gone and row["deleted"].startswith("20") and gone in said(command("restore"))
    assert said(command("restore", gone)) == f"{gone}\n"
    assert {run.id for run in list_runs(folder)} == {kept, gone}
    assert "the trash is empty" in said(command("restore"))
    assert "no run 'nobody' in the trash" in refused(command("restore", "nobody"))


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_reference_runs_are_left_alone(command, folder, verb):
    run_id = write_run(folder, reference=True)
    assert f"nobody may {verb} a reference run" in refused(command(verb, run_id))
    assert load_run(run_id, folder).status == "done"


@pytest.mark.parametrize("verb", ["stop", "delete", "resume"])
def test_unknown_runs_are_one_sentence(command, verb):
    assert "no run 'nobody'" in refused(command(verb, "nobody"))


def test_run_that_waits_cannot_be_deleted(command, lessons, folder):
    run_id = queue(folder, lessons)
    assert f"a queued run cannot be deleted; stop {run_id} first" in refused(command("delete", run_id))
