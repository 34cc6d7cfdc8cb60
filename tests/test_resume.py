"""Runs cut off at the worst moments: shown as interrupted, resumed, each epoch once, as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kill_while_training import MOMENTS
from tiny_lessons import tiny_augmented, tiny_scratch, tiny_stubborn

from cvcore import api
from cvcore.attempt_writer import run_locked
from cvcore.errors import CvcoreError, RunDamaged, RunNotFound, SupersededAttempt
from cvcore.files import replace_json
from cvcore.new_run import new_run as make_run
from cvcore.processes import described, this_process
from cvcore.run_directory import list_runs, load_run, request_stop, run_path
from cvcore.run_writer import RunWriter, create_run, start_attempt
from cvcore.settings import PROJECT
from cvcore.training import execute
from cvcore.training_state import STATE_FILE, TrainingState
from cvcore.trash import delete_run

FILES = {"run.json", "history.csv", "metrics.json", "predictions.csv", "model.keras", "code.py", "log.txt"}


def figures(run):
    return run.history().drop(columns="seconds").to_numpy()


@pytest.fixture(scope="module")
def killed(all_lessons, tmp_path_factory):
    """Run ids by moment, of runs whose process was killed at that moment."""
    runs = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(Path(__file__).parent / "kill_while_training.py"), str(runs)]
    path = os.pathsep.join([str(PROJECT), str(Path(__file__).parent)])
    done = subprocess.run(
        [*command, str(all_lessons.folder("two")), *MOMENTS],
        env={**os.environ, "CVCORE_CACHE": str(all_lessons.cache), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return runs, dict(zip(MOMENTS, done.stdout.split(), strict=True))


@pytest.mark.parametrize(
    ("moment", "epochs_kept"),
    [
        ("after epoch 1", 1),
        ("in mid-epoch", 2),
        ("in a state write", 1),
        ("in a history line", 1),  # readable; the state has epoch 2 as well
        ("while early stopping counts", 2),
        ("as fine-tuning begins", 3),
        ("within fine-tuning", 4),
    ],
)
def test_killed_run_resumes_as_if_nothing_had_happened(moment, epochs_kept, killed, lessons):
    runs, ids = killed
    run = load_run(ids[moment], runs)
    assert run.status == "interrupted"
    assert "resume" in str(run.error)
    assert len(run.history()) == epochs_kept
    resumed = api.resume(run)
    whole = lessons.trained(MOMENTS[moment][0])
    assert resumed.status == "done"
    assert resumed.info["attempt"] == 2
    assert resumed.history()["epoch"].tolist() == list(range(1, len(whole.history()) + 1))
    np.testing.assert_allclose(figures(resumed), figures(whole), rtol=0, atol=1e-6)
    assert {path.name for path in resumed.path.iterdir()} == FILES
    assert resumed.metrics["best_epoch"] == whole.metrics["best_epoch"]
    assert resumed.predictions().equals(whole.predictions())


def test_early_stopping_of_a_head_that_never_gets_better(lessons):
    # Patience 2: epochs 2 and 3 are no better than epoch 1, so the head stops after 3 of 6, then 2 of fine-tuning.
    assert len(lessons.trained(tiny_stubborn).history()) == 5


def test_state_keeps_the_best_weights_of_the_run_and_of_the_phase():
    state = TrainingState()
    for val_loss in (0.9, 0.7, 0.7, 0.8):
        state.rows.append({"val_loss": val_loss})
        state.finish_epoch(val_loss, [np.array([val_loss])], [])
    assert state.best[0] == state.phase_best[0] == 0.7
    assert len(state.phase_rows) == 4
    state.phase_ended = True
    state.begin_phase(1)
    assert state.phase_rows == [] and not state.phase_ended
    state.rows.append({"val_loss": 0.75})
    state.finish_epoch(0.75, [np.array([0.75])], [])
    assert state.phase_best[0] == 0.75 and state.best[0] == 0.7
    assert state.phase_rows == [{"val_loss": 0.75}]


def test_state_is_read_back_whole(tmp_path):
    state = TrainingState(phase=1, phase_epochs=2, rows=[{"epoch": 1, "loss": 0.1}], best_val_loss=0.3,
                          phase_ended=True, seconds={"head": 1.5}, weights=[np.ones((2, 3), np.float32)],
                          optimizer=[np.array(7), np.zeros(2, np.float32)])  # fmt: skip
    state.save(tmp_path / STATE_FILE)
    found = TrainingState.load(tmp_path)
    assert (found.phase, found.phase_epochs, found.rows) == (1, 2, [{"epoch": 1, "loss": 0.1}])
    assert found.phase_ended is True and found.seconds == {"head": 1.5}
    assert found.optimizer[0] == 7 and found.optimizer[0].shape == ()
    assert found.weights[0].dtype == np.float32 and found.weights[0].shape == (2, 3)


def test_state_of_an_older_version_is_read(tmp_path):
    state = TrainingState(phase=1, phase_epochs=2)
    state.waited = 3  # what that version kept
    state.save(tmp_path / STATE_FILE)
    assert TrainingState.load(tmp_path) == TrainingState(phase=1, phase_epochs=2)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip", b"something else"])
def test_unreadable_state_is_one_sentence(tmp_path, content):
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(CvcoreError, match=r"cannot be read; delete its state\.npz"):
        TrainingState.load(tmp_path)


def stopping_at(run_folder, epoch, step):
    def on_progress(now):
        if (now["epoch"], now["step"], now["phase"]) == (epoch, step, "training"):
            request_stop(list_runs(run_folder)[0])

    return on_progress


def test_stop_request_keeps_what_there_is_and_resume_completes_it(lessons, tmp_path):
    steps = []
    stop = stopping_at(tmp_path, 3, 1)
    run = api.train(
        tiny_augmented,
        lessons.dataset(),
        runs=tmp_path,
        on_progress=lambda now: (steps.append((now["epoch"], now["step"])), stop(now)),
    )
    assert run.status == "stopped"
    assert steps[-1] == (3, 1)  # nothing was reported after the batch in which the stop was asked for
    assert len(run.history()) == 2
    assert run.metrics["epochs"] == 2 and run.metrics["test_accuracy"] is None
    assert not (run.path / "stop").exists() and (run.path / STATE_FILE).exists()
    resumed = api.resume(run)
    assert resumed.status == "done"
    np.testing.assert_allclose(figures(resumed), figures(lessons.trained(tiny_augmented)), rtol=0, atol=1e-6)


def test_keyboard_interrupt_stops_like_a_request(lessons, tmp_path):
    def on_progress(now):
        if now["epoch"] == 2:
            raise KeyboardInterrupt

    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, on_progress=on_progress)
    assert run.status == "stopped" and len(run.history()) == 1


def content(run):
    # A heartbeat may be prepared at any time.
    return {path.name: path.read_bytes() for path in run.path.iterdir() if not path.name.startswith(".")}


def test_older_attempt_writes_no_more_once_a_newer_one_has_taken_over(lessons, tmp_path):
    seen = {}

    def on_progress(now):
        if (now["epoch"], now["step"]) == (2, 1) and now["phase"] == "training":
            (run,) = list_runs(tmp_path)
            with run_locked(run.path):  # as everybody does; a heartbeat may be under way
                replace_json(run.path / "run.json", {**run.info, "attempt": 2})
            seen.update(content(run))

    with pytest.raises(SupersededAttempt, match=r"attempt 2 .* has taken over"):
        api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, on_progress=on_progress)
    (run,) = list_runs(tmp_path)
    assert content(run) == seen


def new_run(folder, **options):
    summary = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}
    return create_run(tiny_scratch, summary, 0, folder=folder, **options)


def write_through(writer, name):
    with writer.replacing(name) as temporary:
        temporary.write_bytes(b"state")


def test_every_write_of_a_superseded_writer_is_refused(tmp_path):
    run = new_run(tmp_path, status="running")
    first = start_attempt(run)
    second = RunWriter(run.path, first.attempt + 1)
    row = dict.fromkeys(("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"), 1)
    first.replace_history([row])
    replace_json(run.path / "run.json", {**first.check_attempt(), "attempt": second.attempt})
    for write in (
        lambda: first.update(device="x"),
        lambda: first.append_history(row),
        lambda: first.replace_history([]),
        lambda: first.progress({"step": 1}, now=True),
        lambda: first.document("metrics.json", {}),
        lambda: first.text("predictions.csv", ""),
        lambda: write_through(first, "state.npz"),
        lambda: first.finish("done"),
    ):
        with pytest.raises(SupersededAttempt):
            write()
    first.log("a traceback")
    assert sorted(path.name for path in run.path.iterdir()) == ["history.csv", "run.json"]
    second.append_history(row)
    assert len(load_run(run.id, tmp_path).history()) == 2


def test_of_two_processes_with_one_attempt_number_only_the_last_one_writes(tmp_path):
    run = new_run(tmp_path, status="running")
    writer = start_attempt(run)
    replace_json(run.path / "run.json", {**writer.check_attempt(), "process": {**this_process(), "pid": 1}})
    with pytest.raises(SupersededAttempt):
        writer.update(device="x")


def test_starting_an_attempt_removes_what_a_killed_write_left_behind(tmp_path):
    run = new_run(tmp_path)
    (run.path / ".state.npz.abc123.tmp").write_bytes(b"half")
    (run.path / ".model.tmp.keras").write_bytes(b"half")
    start_attempt(run)
    assert [path.name for path in run.path.iterdir()] == ["run.json"]


def test_run_of_another_living_process_is_not_started_twice(tmp_path):
    run = new_run(tmp_path, status="running")
    replace_json(run.path / "run.json", {**run.info, "process": described(os.getppid())})
    with pytest.raises(CvcoreError, match="still running; stop it before resuming"):
        start_attempt(load_run(run.id, tmp_path))


@pytest.mark.parametrize("begun", [1.0, "another-boot 1", None])
def test_run_whose_process_id_now_belongs_to_another_process_is_interrupted(tmp_path, begun):
    run = new_run(tmp_path, status="running")
    replace_json(run.path / "run.json", {**run.info, "process": {**this_process(), "started": begun}})
    assert load_run(run.id, tmp_path).status == "interrupted"


def test_attempt_that_was_taken_before_is_the_one_that_trains(lessons, tmp_path):
    run = make_run(tiny_scratch, lessons.dataset(), 0, runs=tmp_path, backend="local", owner="a" * 16, ticket=1)
    writer = start_attempt(run, attempt=1)
    with writer.heartbeat():
        done = execute(run, lessons.dataset(), writer=writer)
    assert (done.status, done.attempt, done.backend, done.owner, done.turn) == ("done", 1, "local", "a" * 16, 1)
    assert {path.name for path in done.path.iterdir()} == FILES
    assert [line.split()[1:3] for line in done.log().splitlines()] == [["attempt", "1:"]] * 2


def test_done_run_is_not_resumed(lessons):
    run = lessons.trained(tiny_augmented)
    with pytest.raises(CvcoreError, match=r"can be started; .* is done"):
        api.resume(run)


def test_half_written_last_line_of_a_history_is_passed_over(tmp_path):
    run = new_run(tmp_path)
    text = "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds\n1,0.5,0.75,0.6,0.5,0.001,1.5\n2,0.4,0."
    (run.path / "history.csv").write_text(text)
    history = load_run(run.id, tmp_path).history()
    assert history["epoch"].tolist() == [1] and history["val_loss"].tolist() == [0.6]


SOUND = {"recipe": {"id": "r", "strategy": "scratch"}, "dataset": {}, "status": "done", "attempt": 1}


@pytest.mark.parametrize(
    "content",
    ["", '{"schema": 1, "run": "2026', "[]", "null", '"text"', "{}", "\ufffd\x00",
     *(json.dumps({name: value for name, value in SOUND.items() if name != missing}) for missing in SOUND),
     *(json.dumps(SOUND | wrong) for wrong in ({"status": "perhaps"}, {"timings": None}, {"recipe": {"id": 3}}))],
)  # fmt: skip
def test_broken_run_json_is_listed_as_damaged_and_the_others_still_work(tmp_path, content):
    whole = new_run(tmp_path)
    broken = tmp_path / "20990101T000000Z-x-dead"
    broken.mkdir()
    (broken / "run.json").write_text(content)
    runs = list_runs(tmp_path)
    assert [(run.id, run.status) for run in runs] == [(broken.name, "damaged"), (whole.id, "queued")]
    assert "is damaged" in str(runs[0].error) and runs[0].summary()["status"] == "damaged"
    with pytest.raises(RunDamaged, match="other runs are not affected"):
        load_run(broken.name, tmp_path)
    delete_run(runs[0])
    assert [run.id for run in list_runs(tmp_path)] == [whole.id]


@pytest.mark.parametrize("run_id", ["../x", "..", ".", "", "a/b", "/etc", "a\\b", "-x", ".hidden", "x" * 101, "a\nb"])
def test_malformed_run_id_is_refused(tmp_path, run_id):
    (tmp_path / "x").mkdir()
    with pytest.raises(RunNotFound, match="letters, digits, '-' and '_' only"):
        run_path(run_id, tmp_path / "runs")


def test_unknown_run_id_is_one_sentence(tmp_path):
    with pytest.raises(RunNotFound, match="no run 'nobody'"):
        load_run("nobody", tmp_path)


def test_queued_run_waits_however_long_no_worker_lives(tmp_path):
    run = new_run(tmp_path)
    old = (run.path / "run.json").stat().st_mtime - 10_000
    os.utime(run.path / "run.json", (old, old))
    assert load_run(run.id, tmp_path).status == "queued"


def test_running_queued_and_reference_runs_are_not_deleted(tmp_path):
    run = new_run(tmp_path)
    with pytest.raises(CvcoreError, match="a queued run cannot be deleted"):
        delete_run(run)
    replace_json(run.path / "run.json", {**run.info, "status": "done", "reference": True})
    with pytest.raises(CvcoreError, match="ships with the project"):
        delete_run(load_run(run.id, tmp_path))
    with pytest.raises(CvcoreError, match="only a queued or running run can be stopped"):
        request_stop(load_run(run.id, tmp_path))
