"""Resuming through the line, sweeps that fail half way, and what may not be written into a sweep."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from tiny_lessons import tiny_scratch

from cvcore import admission, backends, launching
from cvcore.backends import Capacity
from cvcore.cli import main
from cvcore.errors import CvcoreError, LineFull, TooLarge
from cvcore.launching import launch, launch_sweep, sweep_title
from cvcore.run_directory import list_runs, load_run, request_stop
from cvcore.run_writer import BEING_MADE, start_attempt

ANNE, BOB = "a" * 16, "b" * 16


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A runs folder whose backend trains nothing, on a machine of 100 GB."""
    monkeypatch.setattr(backends, "chosen", lambda: SimpleNamespace(name="local"))
    monkeypatch.setattr(backends, "capacity", lambda folder=None: Capacity(1, 1, "CPU", None, "a CPU"))
    monkeypatch.setattr(backends, "submit", lambda run: None)
    monkeypatch.setattr(admission, "room_here", lambda runs: admission.Room(100_000))
    monkeypatch.delenv("CVCORE_WAITING_LIMIT", raising=False)
    return tmp_path / "runs"


@pytest.fixture
def pictures(lessons):
    return lessons.dataset()


def stopped(folder, pictures, seed, owner=ANNE):
    run = launch(tiny_scratch, pictures, seed, runs=folder, owner=owner)
    request_stop(run)
    return run.id


def waiting(folder, owner=ANNE):
    return sum(run.status == "queued" and run.owner == owner for run in list_runs(folder))


@pytest.mark.parametrize(("owner", "whose"), [(ANNE, "of this run's owner"), (None, "from the terminal")])
def test_resuming_keeps_the_limit_of_the_runs_owner(folder, pictures, owner, whose):
    ids = [stopped(folder, pictures, seed, owner) for seed in range(4)]
    for run_id in ids[:3]:
        backends.resume(run_id, folder)
    with pytest.raises(LineFull, match=f"at most 3 launches {whose} may wait at a time, and 3 wait now"):
        backends.resume(ids[3], folder)
    assert waiting(folder, owner) == 3 and load_run(ids[3], folder).status == "stopped"
    other = stopped(folder, pictures, 9, BOB)  # whoever resumes it: the full line is not Bob's
    backends.resume(other, folder)
    assert load_run(other, folder).status == "queued"


def test_runs_of_one_sweep_are_resumed_as_one_launch(folder, pictures):
    sweep = launch_sweep(tiny_scratch, pictures, range(5), runs=folder, owner=ANNE)
    for run in sweep.launched:
        request_stop(run)
    for seed in (10, 11):
        launch(tiny_scratch, pictures, seed, runs=folder, owner=ANNE)
    for run in sweep.launched:
        backends.resume(run.id, folder)
    assert waiting(folder) == 7
    with pytest.raises(LineFull):
        launch(tiny_scratch, pictures, 12, runs=folder, owner=ANNE)


def test_resuming_a_run_that_does_not_fit_any_more_is_refused(folder, pictures, monkeypatch):
    run_id = stopped(folder, pictures, 0)
    needed = load_run(run_id, folder).estimate["memory_mb"]
    monkeypatch.setattr(admission, "room_here", lambda runs: admission.Room(needed - 1, "of this test"))
    with pytest.raises(TooLarge, match=r"would need about .* \(of this test\); free memory and resume it then"):
        backends.resume(run_id, folder)
    assert load_run(run_id, folder).status == "stopped"
    path = folder / run_id / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "estimate": None}))
    backends.resume(run_id, folder)  # nobody has estimated it
    assert load_run(run_id, folder).status == "queued"


def test_a_run_that_cannot_be_resumed_is_told_so_and_not_that_the_line_is_full(folder, pictures):
    ids = [launch(tiny_scratch, pictures, seed, runs=folder, owner=ANNE).id for seed in range(3)]
    with pytest.raises(CvcoreError, match=r"only a stopped, failed or interrupted run can be resumed; .* is queued"):
        backends.resume(ids[0], folder)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("error", [CvcoreError("no space left"), KeyboardInterrupt()])
def test_a_sweep_that_fails_half_way_leaves_none_of_its_runs(folder, pictures, monkeypatch, error, begun):
    made, new_run = [], launching.new_run

    def full(*words, **more):
        if len(made) == 2:
            raise error
        made.append(new_run(*words, **more))
        if begun:
            start_attempt(made[-1], attempt=1)
        return made[-1]

    monkeypatch.setattr(launching, "new_run", full)
    with pytest.raises(type(error)):
        launch_sweep(tiny_scratch, pictures, [0, 1, 2, 3], runs=folder, owner=ANNE)
    assert len(made) == 2 and not list_runs(folder) and not list(folder.glob(f"{BEING_MADE}*"))


@pytest.mark.parametrize("title", ["x" * 81, "a\nb", "\x1b[2J", "\udcff"])
def test_titles_of_sweeps_are_checked_as_names_are(folder, pictures, title):
    with pytest.raises(CvcoreError, match="a title must have at most 80 printable characters on one line"):
        launch_sweep(tiny_scratch, pictures, [0, 1], runs=folder, title=title)
    assert not list_runs(folder)


def test_a_sweep_of_a_recipe_with_an_odd_title_is_sound(folder, pictures):
    odd = tiny_scratch.with_changes(title="two\nlines\x1b[2J")
    assert sweep_title(odd, [0, 1], [None]) == "two lines [2J over 2 seeds"
    launch_sweep(odd, pictures, [0, 1], runs=folder)
    assert [run.status for run in list_runs(folder)] == ["queued"] * 2


@pytest.mark.parametrize("option", ["--seeds", "--train-pictures"])
def test_numbers_of_absurd_length_are_a_sentence(lessons, folder, option):
    words = ["launch", "doodle-scratch", "--data", str(lessons.folder()), option, "1" * 5000, "--runs", str(folder)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert f"{option} takes whole numbers with commas between them; received '111" in done.output
    assert len(done.output) < 300


def test_tables_show_no_control_characters(folder, pictures, capsys):
    run = launch(tiny_scratch, pictures, 0, runs=folder)
    path = run.path / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "dataset": {**info["dataset"], "id": "a\rb\x07"}}))
    done = CliRunner().invoke(main, ["runs", "--runs", str(folder)])
    assert "a b" in done.output and "\r" not in done.output and "\x07" not in done.output
