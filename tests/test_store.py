"""Runs through the store: a real S3-compatible server on loopback, and a folder. No Ray."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("s3fs", reason="the store is optional: pip install -r requirements-ray.txt")
pytest.importorskip("moto", reason="the S3 server of the tests is not installed: make setup-dev")

from s3_server import SECRET, s3_server
from store_at_hand import PATIENCE, new_store, queued, wait_until
from tiny_lessons import SPLITS, tiny_features, tiny_finetune, tiny_scratch, write_lesson

from cvcore import settings
from cvcore.backends import working_copy
from cvcore.backends.store import DamagedInStore, Store, attempt_folder
from cvcore.backends.store_inputs import fetch_pictures, fetch_weights, send_pictures, send_weights
from cvcore.backends.store_runs import RunsThroughStore
from cvcore.base_weights import kept_weights
from cvcore.bases import BASES
from cvcore.datasets import find_dataset, open_dataset
from cvcore.errors import DatasetError, SupersededAttempt
from cvcore.new_run import new_run
from cvcore.recipe import make_recipe
from cvcore.run_directory import STOP_FILE, load_run, request_stop
from cvcore.run_writer import create_run, requeue, start_attempt
from cvcore.settings import PROJECT
from cvcore.training_state import TrainingState


@pytest.fixture(scope="module")
def server():
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["s3", "folder"])
def store(request, server, tmp_path, monkeypatch):
    """A new store of each kind, which the settings name."""
    return new_store(request.param, server, tmp_path, monkeypatch)


only_s3 = pytest.mark.parametrize("store", ["s3"], indirect=True)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.setenv("CVCORE_RUNS", str(folder))
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    return folder


class Elsewhere:
    """A job on a machine that shares no folder with this one: a process with a home and a cache of its own."""

    def __init__(self, run, home):
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in ("CVCORE_RUNS", "CVCORE_CACHE")}
        environment = {**kept, "HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-m", "cvcore.backends.job", run.id, str(run.attempt)]
        self.process = subprocess.Popen(command, env=environment, cwd=home, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def end(self):
        output, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output


@only_s3
def test_run_trained_without_a_shared_folder_stops_on_request_and_goes_on_in_a_new_attempt(
    store, lessons, tmp_path, monkeypatch
):
    runs = tmp_path / "runs"
    recipe = tiny_scratch.with_changes(epochs=1000)
    run = new_run(recipe, lessons.dataset(), 0, runs=runs, backend="ray")
    through = RunsThroughStore(store)
    through.send(run)
    job = Elsewhere(run, tmp_path / "elsewhere")
    try:
        wait_until(lambda: through.fetch(run) and len(load_run(run.id, runs).history()) >= 2, "two epochs came back")
        seen = load_run(run.id, runs)
        assert seen.info["status"] == "running" and seen.progress()["epochs"] == 1000
        assert seen.process["pid"] == job.process.pid and (run.path / "heartbeat.json").is_file()
        assert not (run.path / "state.npz").exists()
        through.ask_to_stop(run)
        assert job.end() == (0, "")
    finally:
        job.process.kill()
    through.fetch(run)
    assert load_run(run.id, runs).info["status"] == "running"  # that it has ended comes last, with all the rest
    assert through.fetch(run, over=True)
    stopped = load_run(run.id, runs)
    epochs = len(stopped.history())
    assert stopped.status == "stopped" and stopped.metrics["epochs"] == epochs and stopped.process is None
    assert (run.path / "model.keras").is_file() and not (run.path / "heartbeat.json").exists()
    assert len(TrainingState.load(run.path).rows) == epochs
    assert f"attempt 1: {stopped.status}" in stopped.log()

    # The second attempt ends by itself: its recipe has as many epochs as there are now, and two.
    info = json.loads((run.path / "run.json").read_text())
    info["recipe"]["epochs"] = epochs + 2
    (run.path / "run.json").write_text(json.dumps(info))
    again = requeue(load_run(run.id, runs))
    sent = []
    monkeypatch.setattr(Store, "put", lambda store, local, path: sent.append(path))
    through.send(again)
    assert sent == []  # the pictures are there, and the state was copied within the store
    job = Elsewhere(again, tmp_path / "elsewhere")
    try:
        assert job.end() == (0, "")
    finally:
        job.process.kill()
    assert through.fetch(again, over=True)
    done = load_run(run.id, runs)
    assert done.status == "done" and done.info["attempt"] == 2
    assert done.history()["epoch"].tolist() == list(range(1, epochs + 3))
    assert done.metrics["test_count"] == 2 * SPLITS["test"] and len(done.predictions()) > 0
    assert not {"state.npz", "progress.json", "stop"} & {path.name for path in run.path.iterdir()}
    assert "attempt 1" in done.log() and "attempt 2" in done.log()
    for path in run.path.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path.name
    assert list((tmp_path / "elsewhere").glob("fourways-runs-*")) == []
    through.remove(done)
    assert not store.there(attempt_folder(run.id, 1)) and not store.there(attempt_folder(run.id, 2))


@only_s3
def test_finetuning_continues_a_run_that_is_sent_along(store, lessons, tmp_path):
    features = lessons.trained(tiny_features)
    runs = tmp_path / "runs"
    shutil.copytree(features.path, runs / features.id)
    run = new_run(tiny_finetune.with_changes(epochs=1), lessons.dataset(), 0, runs=runs, from_run=features.id,
                  backend="ray")  # fmt: skip
    through = RunsThroughStore(store)
    through.send(run)
    job = Elsewhere(run, tmp_path / "elsewhere")
    try:
        assert job.end() == (0, "")
    finally:
        job.process.kill()
    assert through.fetch(run, over=True) and load_run(run.id, runs).status == "done"


def test_pictures_go_up_once_and_arrive_as_the_same_dataset(store, runs, tmp_path, monkeypatch):
    dataset = open_dataset(write_lesson(tmp_path / "lesson"))
    run = create_run(tiny_scratch, dataset.summary(), 0, folder=runs)
    about = send_pictures(store, run)
    monkeypatch.setattr(Store, "put", lambda *arguments: pytest.fail("sent twice"))
    assert send_pictures(store, run) == about
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "another cache"))
    with pytest.raises(DatasetError):
        find_dataset(dataset.id, dataset.fingerprint)
    fetch_pictures(store, about)
    found = find_dataset(dataset.id, dataset.fingerprint)
    assert found.counts == dataset.counts and found.root.is_relative_to(tmp_path / "another cache")
    monkeypatch.setattr(Store, "get", lambda *arguments: pytest.fail("fetched twice"))
    fetch_pictures(store, about)


def test_splits_made_by_a_seed_arrive_as_they_were_made(store, runs, tmp_path, monkeypatch):
    lesson = write_lesson(tmp_path / "lesson", splits={"train": 30})
    dataset = open_dataset((lesson / "train").rename(tmp_path / "flat"), seed=3)
    about = send_pictures(store, create_run(tiny_scratch, dataset.summary(), 0, folder=runs))
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "another cache"))
    fetch_pictures(store, about)
    assert find_dataset(dataset.id, dataset.fingerprint).counts == dataset.counts


def test_weights_travel_and_are_checked(store, runs, tmp_path, monkeypatch):
    recipe = make_recipe(id="mobile", strategy="features", base="MobileNetV2", image_size=96, preprocessing="base")
    name = str(BASES["MobileNetV2"].weights_file).format(alpha=recipe.alpha)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / name).write_bytes(b"weights" * 1000)
    monkeypatch.setenv("CVCORE_WEIGHTS", str(tmp_path / "weights"))
    about = send_weights(store, queued(runs, recipe))
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "another cache"))
    monkeypatch.setenv("CVCORE_WEIGHTS", "")
    fetch_weights(store, about)
    assert (settings.weights_folder() / name).read_bytes() == b"weights" * 1000
    assert settings.weights_folder().is_relative_to(tmp_path / "another cache")
    store.write(f"weights/{about['sha256']}", b"others!" * 1000)
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "third cache"))
    monkeypatch.setenv("CVCORE_WEIGHTS", "")
    with pytest.raises(DamagedInStore, match="is not the one that was sent"):
        fetch_weights(store, about)
    assert not list((tmp_path / "third cache").rglob("*.h5"))


def test_weights_given_with_a_run_travel_under_their_hash(store, runs, tmp_path, monkeypatch):

    sha256 = hashlib.sha256(b"mine").hexdigest()
    known = {"name": "mine.weights.h5", "sha256": sha256, "origin": "file"}
    kept = kept_weights("mine.weights.h5", sha256)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"mine")
    about = send_weights(store, queued(runs, tiny_features.with_changes(), weights=known))
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "another cache"))
    fetch_weights(store, about)
    assert kept_weights("mine.weights.h5", sha256).read_bytes() == b"mine"


def begun_elsewhere(store, run, tmp_path, epochs=2):
    """What a job pushes of a run in its second epoch, and its writer."""
    runs = tmp_path / f"elsewhere-{run.attempt}"
    folder = attempt_folder(run.id, run.attempt)
    runs.mkdir()
    files = working_copy.fetch_run(store, folder, runs / run.id)
    pusher = working_copy._Pusher(store, folder, runs / run.id, files)
    writer = start_attempt(load_run(run.id, runs), attempt=run.attempt)
    writer.replace_history([row(number) for number in range(1, epochs + 1)])
    state = TrainingState(rows=[row(number) for number in range(1, epochs + 1)],
                          weights=[np.full(400_000, run.attempt, np.float32)])  # fmt: skip
    with writer.replacing("state.npz") as temporary:
        state.save(temporary)
    return pusher, writer


def row(epoch):
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
    return {"epoch": epoch, **dict.fromkeys(names, 0.5)}


def test_orphan_of_an_earlier_attempt_reaches_neither_the_run_nor_its_next_attempt(store, runs, tmp_path):
    run = queued(runs)
    through = RunsThroughStore(store)
    through.send(run)
    orphan, writer = begun_elsewhere(store, run, tmp_path)
    orphan.push()
    wait_until(lambda: orphan.push() or "state.npz" in orphan.files, "the large state was sent beside")
    orphan.push()
    assert through.fetch(run) and len(load_run(run.id, runs).history()) == 2
    again = requeue(load_run(run.id, runs), by_watchdog=True)
    through.send(again)
    writer.append_history(row(3))
    orphan.push()  # it does not know yet that it is one
    with pytest.raises(SupersededAttempt):
        through.fetch(run)
    now = load_run(run.id, runs)
    assert (now.status, now.attempt, len(now.history())) == ("queued", 2, 2)
    second, _ = begun_elsewhere(store, again, tmp_path, epochs=2)
    second.push()
    writer.append_history(row(4))
    orphan.push()
    assert through.fetch(again) and len(load_run(run.id, runs).history()) == 2
    assert store.there(f"{attempt_folder(run.id, 1)}/stop")  # and it learns that it is to end
    for pusher in (orphan, second):
        pusher._beside.shutdown()


def test_next_attempt_goes_on_from_the_state_in_the_store_where_none_came_back(store, runs, tmp_path):
    run = queued(runs)
    through = RunsThroughStore(store)
    through.send(run)
    lost, _ = begun_elsewhere(store, run, tmp_path, epochs=5)
    lost._push_all()
    lost._beside.shutdown()
    again = requeue(load_run(run.id, runs), by_watchdog=True)
    through.send(again)
    working_copy.fetch_run(store, attempt_folder(run.id, 2), tmp_path / "second")
    assert len(TrainingState.load(tmp_path / "second").rows) == 5


def test_request_to_stop_arrives_as_the_stop_file(store, runs, tmp_path, monkeypatch):
    run = queued(runs)
    through = RunsThroughStore(store)
    through.send(run)
    monkeypatch.setattr(working_copy, "PUSH_EVERY", 0.05)
    monkeypatch.setattr(working_copy.Path, "home", lambda: pytest.fail("a job whose cache is known needs no home"))
    with working_copy.working_copy(run.id, 1) as folder:
        writer = start_attempt(load_run(run.id, folder), attempt=1)
        through.ask_to_stop(run)
        wait_until(writer.stop_requested, "the request has arrived")
        writer.finish("stopped", "Stopped on request.")
    assert through.fetch(run, over=True) and load_run(run.id, runs).status == "stopped"


def test_run_whose_pictures_are_not_in_the_store_fails_with_the_sentence(store, runs, tmp_path, monkeypatch):
    dataset = open_dataset(write_lesson(tmp_path / "lesson"))
    run = create_run(tiny_scratch, dataset.summary(), 0, folder=runs)
    through = RunsThroughStore(store)
    through.send(run)
    store.remove(f"datasets/{dataset.fingerprint}/pictures.zip")
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "another cache"))
    with working_copy.working_copy(run.id, 1) as folder:
        assert load_run(run.id, folder).status == "failed"
    assert through.fetch(run, over=True)
    found = load_run(run.id, runs)
    assert found.status == "failed" and "are not those of fingerprint" in str(found.error)


def test_a_request_to_stop_made_here_is_no_file_that_goes_up(store, runs):
    run = queued(runs)
    request_stop(run)
    RunsThroughStore(store).send(run)
    assert STOP_FILE not in store.index(attempt_folder(run.id, 1))
