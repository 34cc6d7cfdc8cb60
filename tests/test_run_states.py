"""What a run directory is taken to be: stopped in the queue, gone with its computer, odd but readable, locked."""

import json
import os
import time

import pytest
from handmade_runs import write_run
from pages_drawn import draw, sound, words

from cvcore.errors import CvcoreError, RunDamaged, SupersededAttempt
from cvcore.estimate import estimate
from cvcore.features import stored_features
from cvcore.published import get_recipe
from cvcore.run_directory import SILENT_AFTER, STOP_FILE, list_runs, load_run, request_stop
from cvcore.run_writer import RunWriter, requeue, start_attempt


def change(folder, run_id, name, **values):
    path = folder / run_id / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_run_stopped_in_the_queue_is_stopped_at_once_and_can_be_queued_again(tmp_path):
    run_id = write_run(tmp_path, status="queued")
    request_stop(load_run(run_id, tmp_path))
    run = load_run(run_id, tmp_path)
    assert run.status == "stopped" and "before it began" in run.error
    requeue(run)
    assert load_run(run_id, tmp_path).status == "queued"
    assert not (run.path / STOP_FILE).exists()


def test_stop_between_queueing_and_the_start_of_training_is_not_lost(tmp_path):
    run = load_run(write_run(tmp_path, status="stopped"), tmp_path)
    (run.path / "log.txt").write_text("an earlier attempt\n")
    requeue(run)
    queued = load_run(run.id, tmp_path)
    assert queued.status == "queued"
    # The training process has read the run as queued and is loading Keras; now comes the stop.
    writer = start_attempt(queued)
    request_stop(load_run(run.id, tmp_path))
    assert writer.stop_requested()


def test_resuming_a_stopped_run_forgets_the_request_that_stopped_it(tmp_path):
    run = load_run(write_run(tmp_path, status="stopped"), tmp_path)
    (run.path / STOP_FILE).touch()
    assert not start_attempt(run).stop_requested()


@pytest.mark.parametrize(("silent", "status"), [(1.0, "running"), (SILENT_AFTER + 60, "interrupted")])
def test_run_of_a_computer_that_is_gone_does_not_run_for_ever(tmp_path, silent, status):
    process = {"pid": 1, "started": 0.0, "host": "another-computer"}
    run_id = write_run(tmp_path, status="running", process=process)
    (tmp_path / run_id / "heartbeat.json").write_text('{"attempt": 1, "beat": 3}')
    for path in (tmp_path / run_id).iterdir():
        os.utime(path, (time.time() - silent,) * 2)
    assert load_run(run_id, tmp_path).status == status


@pytest.mark.parametrize(
    "counts", [[1, 2], {"train": 3}, *({"train": {"cat": n}} for n in ("many", None, 1.5, -1, 10**400))]
)
def test_run_with_odd_counts_is_damaged_and_the_others_still_work(tmp_path, counts):
    odd, sound = write_run(tmp_path, dataset={"id": "x", "counts": counts}), write_run(tmp_path, seed=1)
    found = {run.id: run.status for run in list_runs(tmp_path)}
    assert found == {odd: "damaged", sound: "done"}


@pytest.mark.parametrize(
    "figures",
    [
        {"test_accuracy_interval": [0.5]},
        {"val_accuracy": "high"},
        {"parameters": [1]},
        {"seconds": {"head": "long"}},
        {"test_loss": 10**400},
        {"val_loss": float("nan")},
        {"test_accuracy": 1.5},
        {"last_val_accuracy": -0.1},
        {"test_accuracy_interval": [0.5, 2]},
        {"test_count": -1},
        {"best_epoch": 2.5},
        {"parameters": {"total": -1}},
        {"epochs": 10**13},
        {"seconds": {"head": float("inf")}},
    ],
)
def test_run_with_figures_that_are_no_numbers_is_damaged_in_one_sentence(tmp_path, figures):
    run_id = write_run(tmp_path)
    assert load_run(run_id, tmp_path).status == "done"
    change(tmp_path, run_id, "metrics.json", **figures)
    with pytest.raises(RunDamaged, match=r"metrics\.json has figures that are no numbers"):
        load_run(run_id, tmp_path)


@pytest.mark.parametrize(
    "odd",
    [{"batch_size": 0}, {"epochs": 10**400}, {"steps_per_epoch": "many"}, {"validation_steps": -1}, {"dropout": 1e999},
     {"starts_from": {"epochs": -1}}],
)  # fmt: skip
def test_run_whose_recipe_has_odd_numbers_is_damaged_and_compare_goes_on(runs, odd):
    write_run(runs, "doodle-scratch", seed=1)
    run_id = write_run(runs, "doodle-scratch")
    assert load_run(run_id, runs).status == "done"
    recipe = json.loads((runs / run_id / "run.json").read_text())["recipe"]
    change(runs, run_id, "run.json", recipe={**recipe, **odd})
    assert [run.status for run in list_runs(runs) if run.id == run_id] == ["damaged"]
    page = draw("compare")
    assert sound(page) and "values that no run has" in words(page)


@pytest.mark.parametrize("name", ["seed", "peak_memory"])
def test_a_number_too_large_for_any_figure_makes_a_run_damaged(tmp_path, name):
    run_id = write_run(tmp_path)
    change(tmp_path, run_id, "run.json", **{name: 10**400})
    with pytest.raises(RunDamaged, match="values that no run has"):
        load_run(run_id, tmp_path)


def test_figures_of_a_history_that_cannot_be_are_none(tmp_path):
    run_id = write_run(tmp_path)
    (tmp_path / run_id / "history.csv").write_text(
        "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds\n"
        f"1,0.5,2,inf,-1,0.1,1\n1e300,1,1,1,1,1,1\n0,1,1,1,1,1,1\n2,{10**400},0.5,nan,1,0.1,x\n"
    )
    frame = load_run(run_id, tmp_path).history()
    assert list(frame["epoch"]) == [1, 2] and frame["epoch"].dtype == "int64"
    told = frame.drop(columns="epoch").astype(object).where(frame.drop(columns="epoch").notna(), None)
    assert told.values.tolist() == [[0.5, None, None, None, 0.1, 1.0], [None, 0.5, None, 1.0, 0.1, None]]


def test_run_of_another_version_does_not_spoil_estimates(tmp_path):
    run_id = write_run(tmp_path)
    recipe = json.loads((tmp_path / run_id / "run.json").read_text())["recipe"]
    change(tmp_path, run_id, "run.json", recipe={**recipe, "colour": "blue"})
    found = estimate(get_recipe("doodle-features"), {"train": 400, "validation": 200}, list_runs(tmp_path))
    assert "two CPU cores" in found.basis


def test_superseded_attempt_does_not_delete_the_newer_ones_stop_request(tmp_path):
    run = load_run(write_run(tmp_path, status="running"), tmp_path)
    change(tmp_path, run.id, "run.json", attempt=2)
    (run.path / STOP_FILE).touch()
    with pytest.raises(SupersededAttempt):
        RunWriter(run.path, 1).finish("done")
    assert (run.path / STOP_FILE).exists()


def test_resume_from_a_stale_page_does_not_queue_a_run_that_is_done(tmp_path):
    stale = load_run(write_run(tmp_path, status="stopped"), tmp_path)
    change(tmp_path, stale.id, "run.json", status="done")
    with pytest.raises(CvcoreError, match="is done"):
        requeue(stale)
    assert load_run(stale.id, tmp_path).status == "done"


def test_damaged_stored_features_are_computed_again(tmp_path, monkeypatch):
    import numpy as np

    from cvcore.models import build
    from cvcore.recipe import make_recipe

    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path))
    recipe = make_recipe(id="tiny", strategy="features", base="doodle-base", image_size=32, weights="random")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    network = build(recipe, 2)
    first = np.array(stored_features(network, images, "key"))
    (tmp_path / "features" / "key.npy").write_bytes(b"half a fi")
    assert np.array_equal(stored_features(network, images, "key"), first)
