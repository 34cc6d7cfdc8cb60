"""What a run directory is taken to be: stopped in the queue, gone with its computer, odd but readable, locked."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from handmade_runs import write_run
from pages_drawn import draw, sound, words

from cvcore import run_directory
from cvcore.errors import CvcoreError, RunDamaged, SupersededAttempt
from cvcore.estimate import estimate
from cvcore.processes import described, this_process
from cvcore.published import get_recipe
from cvcore.run_directory import SILENT_AFTER, STOP_FILE, list_runs, load_run, request_stop
from cvcore.run_writer import RunWriter, requeue, start_attempt
from cvcore.trash import delete_run


def change(folder, run_id, name, /, **values):
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
    assert "no run tells" in found.basis


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


def settle(folder):
    """Make every file look as if it was written some time ago: one just written is read again in any case."""
    for path in folder.rglob("*.*"):
        os.utime(path, (path.stat().st_mtime - 10,) * 2)


def test_finished_runs_are_read_once_and_then_shared(tmp_path, monkeypatch):
    ids = [write_run(tmp_path, seed=seed) for seed in range(3)]
    settle(tmp_path)
    first = list_runs(tmp_path)
    read = []
    real = run_directory._read_json
    monkeypatch.setattr(run_directory, "_read_json", lambda path: read.append(path.parent.name) or real(path))
    assert all(one is other for one, other in zip(first, list_runs(tmp_path), strict=True)) and read == []
    change(tmp_path, ids[1], "run.json", name="Mine")
    names = {run.id: run.name for run in list_runs(tmp_path)}
    assert names == {ids[0]: None, ids[1]: "Mine", ids[2]: None} and set(read) == {ids[1]}


def test_listing_follows_every_change_of_its_files(tmp_path):
    run_id = write_run(tmp_path, status="queued")
    settle(tmp_path)
    path = tmp_path / run_id
    assert [run.status for run in list_runs(tmp_path)] == ["queued"]
    (path / STOP_FILE).touch()
    assert [run.status for run in list_runs(tmp_path)] == ["stopped"]
    (path / STOP_FILE).unlink()
    change(tmp_path, run_id, "run.json", status="running", process=this_process())
    assert [run.status for run in list_runs(tmp_path)] == ["running"]
    change(tmp_path, run_id, "run.json", process={**this_process(), "started": "gone"}, backend="local")
    assert [(run.status, run.comes_back) for run in list_runs(tmp_path)] == [("interrupted", True)]
    change(tmp_path, run_id, "run.json", status="done", process=None)
    (path / "metrics.json").write_text(json.dumps({"val_accuracy": 0.5}))
    assert [(run.status, run.metrics) for run in list_runs(tmp_path)] == [("done", {"val_accuracy": 0.5})]
    (path / "metrics.json").write_text(json.dumps({"val_accuracy": 1.5}))
    assert [run.status for run in list_runs(tmp_path)] == ["damaged"]
    (path / "metrics.json").unlink()
    assert [(run.status, run.metrics) for run in list_runs(tmp_path)] == [("done", None)]
    path.rename(tmp_path / "elsewhere")
    assert [run.id for run in list_runs(tmp_path)] == ["elsewhere"]


def test_process_that_dies_between_two_listings_is_seen_though_no_file_has_changed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        write_run(tmp_path, status="running", process=described(other.pid))
        settle(tmp_path)
        assert [run.status for run in list_runs(tmp_path)] == ["running"]
        other.kill()
    assert [run.status for run in list_runs(tmp_path)] == ["interrupted"]


def test_change_that_leaves_size_and_time_as_they_were_is_seen_if_it_comes_at_once(tmp_path, monkeypatch):
    """The time of a file ticks coarsely: a file changed twice within a tick looks as if it was changed once."""
    monkeypatch.setattr(run_directory, "SETTLES", 600)  # this machine may stand still for a while
    run_id = write_run(tmp_path, name="before")
    assert [run.name for run in list_runs(tmp_path)] == ["before"]
    path = tmp_path / run_id / "run.json"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text(path.read_text().replace('"before"', '"after!"'))
    os.utime(path, ns=times)
    assert [run.name for run in list_runs(tmp_path)] == ["after!"]


def test_shared_run_reads_its_history_anew_when_that_has_changed(tmp_path):
    write_run(tmp_path, epochs=3)
    settle(tmp_path)
    (run,) = list_runs(tmp_path)
    frame = run.history()
    frame["loss"] = 0.0  # a copy: others hold the same run
    assert (list_runs(tmp_path)[0] is run) and (run.history()["loss"] > 0).all()
    with (run.path / "history.csv").open("a") as stream:
        stream.write("4,0.1,0.9,0.2,0.8,0.001,2.5\n")
    assert run.history()["epoch"].tolist() == [1, 2, 3, 4]


def test_threads_that_list_at_once_see_the_same(tmp_path):
    for seed in range(20):
        write_run(tmp_path, seed=seed)
    with ThreadPoolExecutor(8) as pool:
        listings = list(pool.map(lambda _: [run.id for run in list_runs(tmp_path)], range(40)))
    assert all(listing == listings[0] for listing in listings) and len(listings[0]) == 20


def test_listings_of_a_few_folders_are_kept_and_no_more(tmp_path):
    for number in range(20):
        write_run(tmp_path / str(number))
        list_runs(tmp_path / str(number))
    assert len(run_directory._listings) == run_directory.MOST_LISTINGS
    assert tmp_path / "19" in run_directory._listings


def test_a_thousand_finished_runs_are_listed_again_without_being_read(tmp_path, monkeypatch):
    first = write_run(tmp_path)
    for number in range(999):
        (tmp_path / f"r{number:03d}").mkdir()
        for name in ("run.json", "metrics.json"):
            (tmp_path / f"r{number:03d}" / name).hardlink_to(tmp_path / first / name)
    settle(tmp_path / first)
    assert len(list_runs(tmp_path)) == 1000
    monkeypatch.setattr(run_directory, "_read_json", lambda path: pytest.fail("read again"))
    again = []
    for _ in range(5):
        began = time.thread_time()
        assert len(list_runs(tmp_path)) == 1000
        again.append(time.thread_time() - began)
    assert min(again) < 0.2  # 10 ms on two slow cores


def test_hidden_folders_are_no_runs(tmp_path):
    run_id = write_run(tmp_path)
    for name in (".trash", ".locks", ".new-x"):
        (tmp_path / name).mkdir()
    delete_run(load_run(run_id, tmp_path))
    assert list_runs(tmp_path) == []


@pytest.mark.parametrize("name", ["run.json", "history.csv", "metrics.json", "predictions.csv"])
def test_page_is_drawn_anew_after_a_change_though_the_clock_was_set_back(tmp_path, name):
    run = load_run(write_run(tmp_path), tmp_path)
    before = run.modified()
    assert before == run.modified()
    (run.path / name).write_text((run.path / name).read_text() + "\n")
    os.utime(run.path / name, (1e9, 1e9))
    assert run.modified() != before
    (run.path / name).unlink()
    assert len({before, run.modified()}) == 2
