"""A short form of `python -m benchmarks.faults`: kill -9 of a training, the worker and the dashboard, nothing lost."""

import random

import pytest
from tiny_lessons import tiny_augmented

from benchmarks import faults
from benchmarks.faults import Faults, check, stray_files
from cvcore.run_directory import list_runs

RECIPE = tiny_augmented.with_changes(epochs=40)  # so many that a kill finds one that trains


@pytest.mark.timeout(900)
def test_nothing_is_lost_when_processes_are_killed_at_random_moments(lessons, tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_NICENESS", "0")
    monkeypatch.setenv("CVCORE_WORKER_IDLE", "5")
    references = {(RECIPE, seed): lessons.trained(RECIPE, seed=seed) for seed in (0, 1)}
    kills = Faults(tmp_path / "runs", lessons.dataset(), references, random.Random(4))
    try:
        kills.batch(["child", "worker", "dashboard", "child"], launches=3)
    finally:
        kills.close()
    assert kills.problems == []
    assert set(kills.killed) == {"child", "worker", "dashboard"} and len(list_runs(tmp_path / "runs")) == 3
    assert kills.attempts > 3  # the kills of children were no kills of nothing


def test_what_it_looks_for_is_found(lessons, tmp_path):
    import shutil

    reference = lessons.trained(RECIPE)
    shutil.copytree(reference.path, tmp_path / reference.id)
    (run,) = list_runs(tmp_path)
    assert check(run, reference) == [] and stray_files(tmp_path) == []
    lines = (run.path / "history.csv").read_text().splitlines()
    damage = {
        "epochs [1, 2, 3": ("history.csv", [*lines[:4], lines[3], *lines[4:]]),
        "its history differs": ("history.csv", [*lines[:4], lines[4].replace(",0.", ",1."), *lines[5:]]),
        "state.npz is left": ("state.npz", [""]),
        "progress.json is damaged": ("progress.json", ["{"]),
        "attempt 1 took place 2 times": ("log.txt", run.log().splitlines() * 2),
    }
    for words, (name, content) in damage.items():
        file = run.path / name
        before = file.read_bytes() if file.exists() else None
        file.write_text("\n".join(content) + "\n")
        assert any(words in problem for problem in check(list_runs(tmp_path)[0], reference)), words
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)
    (run.path / ".run.json.x.tmp").touch()
    assert [path.name for path in stray_files(tmp_path)] == [".run.json.x.tmp"]
    assert faults.begun(run) == {"attempt 1": 1}
