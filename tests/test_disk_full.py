"""A disk that is full while a run is written: one sentence, earlier files whole, resumable when there is room."""

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from handmade_runs import write_run
from tiny_lessons import tiny_augmented, tiny_features

from cvcore import api
from cvcore.errors import CvcoreError
from cvcore.run_directory import list_runs, load_run, request_stop
from cvcore.run_writer import create_run, give_up, rename_run, requeue, start_attempt, take_turn
from cvcore.training_state import STATE_FILE, TrainingState
from cvcore.trash import delete_run
from cvcore.waiting_line import submitting

COLUMNS = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this system does not let us mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)  # whoever still looks at it keeps no other test waiting


def fill(folder):
    with (folder / "filler").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC


def check_whole(run, epochs):
    assert json.loads((run.path / "run.json").read_text())["run"] == run.id
    assert run.history()["epoch"].tolist() == list(range(1, epochs + 1))
    assert len(TrainingState.load(run.path).rows) in (epochs, epochs + 1)
    assert not [path.name for path in run.path.glob(".*.tmp*")]


def test_disk_filled_in_the_second_epoch(lessons, small_disk):
    def on_progress(now):
        if (now["epoch"], now["step"], now["phase"]) == (2, 1, "training"):
            fill(small_disk)

    with pytest.raises(CvcoreError) as caught:
        api.train(tiny_augmented, lessons.dataset(), runs=small_disk / "runs", on_progress=on_progress)
    assert "No space left on device" in str(caught.value) and "then resume" in str(caught.value)
    assert "\n" not in str(caught.value)
    (run,) = list_runs(small_disk / "runs")
    check_whole(run, 1)
    (small_disk / "filler").unlink()
    resumed = api.resume(run)
    assert resumed.status == "done"
    whole = lessons.trained(tiny_augmented)
    np.testing.assert_allclose(resumed.history()[COLUMNS], whole.history()[COLUMNS], rtol=0, atol=1e-6)


def test_disk_filled_before_the_model_is_saved(lessons, small_disk):
    def on_progress(now):
        if now["phase"] == "evaluating":
            fill(small_disk)

    with pytest.raises(CvcoreError, match=r"the run could not be written \("):
        api.train(tiny_augmented, lessons.dataset(), runs=small_disk / "runs", on_progress=on_progress)
    (run,) = list_runs(small_disk / "runs")
    check_whole(run, 4)
    (small_disk / "filler").unlink()
    assert api.resume(run).status == "done"


def test_full_disk_leaves_no_half_made_run(lessons, small_disk):
    (small_disk / "runs").mkdir()
    fill(small_disk)
    with pytest.raises(CvcoreError, match="No space left on device"):
        api.train(tiny_augmented, lessons.dataset(), runs=small_disk / "runs")
    assert list_runs(small_disk / "runs") == []


@pytest.fixture
def failing_writes(monkeypatch):
    """Make os.fsync, through which every state file goes, fail once it is armed."""
    armed = []
    real = os.fsync

    def fsync(descriptor):
        if armed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return armed


@pytest.mark.parametrize(
    ("epoch", "step", "phase", "epochs_kept"), [(2, 3, "training", 1), (3, 1, "training", 2), (4, 0, "evaluating", 4)]
)
def test_write_that_fails_is_one_sentence_and_the_run_resumes(
    lessons, tmp_path, failing_writes, epoch, step, phase, epochs_kept
):
    def on_progress(now):
        if (now["epoch"], now["step"], now["phase"]) == (epoch, step, phase):
            failing_writes.append(True)

    with pytest.raises(CvcoreError, match=r"No space left on device.*then resume") as caught:
        api.train(tiny_augmented, lessons.dataset(), runs=tmp_path, on_progress=on_progress)
    assert "\n" not in str(caught.value)
    failing_writes.clear()
    (run,) = list_runs(tmp_path)
    check_whole(run, epochs_kept)
    resumed = api.resume(run)
    assert resumed.status == "done"
    whole = lessons.trained(tiny_augmented)
    np.testing.assert_allclose(resumed.history()[COLUMNS], whole.history()[COLUMNS], rtol=0, atol=1e-6)


def test_full_cache_while_features_are_stored_is_one_sentence(lessons, tmp_path, failing_writes):
    def on_progress(now):
        if now["phase"].startswith("features"):
            failing_writes.append(True)

    recipe = tiny_features.with_changes(image_size=40)
    with pytest.raises(CvcoreError) as caught:
        api.train(recipe, lessons.dataset(), runs=tmp_path, on_progress=on_progress)
    assert str(caught.value).startswith(
        "The activations could not be written to the cache folder (no space left on device)"
    )
    failing_writes.clear()
    (run,) = list_runs(tmp_path)
    assert not (run.path / STATE_FILE).exists()
    assert not [path for path in (lessons.cache / "activations").iterdir() if path.suffix in (".tmp", ".part")]
    assert api.resume(run).status == "done"


ACTS = {
    "delete": ("stopped", delete_run),
    "queue again": ("stopped", requeue),
    "start": ("queued", start_attempt),
    "turn": ("queued", take_turn),
    "give up": ("queued", lambda run: give_up(run, run.attempt, "failed", "It is gone.")),
    "rename": ("done", lambda run: rename_run(run, "Mine")),
    "stop": ("queued", request_stop),
    "submit": ("done", lambda run: submit(run.path.parent)),
}


def submit(folder):
    summary = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}
    with submitting(folder):
        return create_run(tiny_augmented, summary, 0, folder=folder, code=lambda info: "x" * 9000)


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*")
            if file.is_file() and ".locks" not in file.parts and not file.name.endswith(".lock")}  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_what_is_done_to_a_run_on_a_full_or_read_only_disk_is_one_sentence_and_changes_nothing(
    small_disk, act, trouble
):
    status, do = ACTS[act]
    folder = small_disk / "runs"
    run = load_run(write_run(folder, status=status), folder)
    with submitting(folder):  # as somebody did before the trouble began
        pass
    before = content(folder)
    if trouble == "full":
        fill(small_disk)
        if act == "stop":
            do(run)  # which takes no room
            assert load_run(run.id, folder).status == "stopped"
            return
    else:
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    reason = "No space left on device" if trouble == "full" else "Read-only file system"
    sentence = rf"^[^\n]* \({reason}\); make room in or give access to the runs folder, [^\n]*$"
    with pytest.raises(CvcoreError, match=sentence):
        do(run)
    assert content(folder) == before
    assert list_runs(folder) == [run]
    if trouble == "full":
        (small_disk / "filler").unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    do(run)
    assert content(folder) != before
