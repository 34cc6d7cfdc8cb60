"""The list of all runs that every session shares."""

import json

import pytest
from handmade_runs import write_damaged_run, write_reference_runs, write_run

import saved_runs
from cvcore import run_directory
from saved_runs import SavedRuns


@pytest.fixture
def listings(monkeypatch):
    """How often the runs were listed, and a clock to set."""
    told = {"times": 0, "now": 100.0}

    def listed(folder=None):
        told["times"] += 1
        return real(folder)

    real = run_directory.list_runs
    monkeypatch.setattr(run_directory, "list_runs", listed)
    monkeypatch.setattr(saved_runs.time, "monotonic", lambda: told["now"])
    return told


def test_thirty_visitors_within_a_second_list_the_runs_once(runs, listings):
    write_reference_runs(runs)
    assert len({id(saved_runs.saved_runs()) for _ in range(30)}) == 1
    assert listings["times"] == 1
    listings["now"] += 1.5
    saved_runs.saved_runs()
    assert listings["times"] == 2


def test_the_number_changes_with_a_run_and_not_without(runs, listings):
    ids = write_reference_runs(runs)
    first = saved_runs.saved_runs()
    (runs / ids[0] / "history.csv").write_text("epoch,loss\n")
    listings["now"] += 1.5
    assert saved_runs.saved_runs() is first
    path = runs / ids[0] / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "test_accuracy": 0.5}))
    listings["now"] += 1.5
    second = saved_runs.saved_runs()
    (changed,) = [run for run in second.runs if run.id == ids[0]]
    assert second.number != first.number and changed.metrics["test_accuracy"] == 0.5


def test_two_folders_have_different_numbers(runs, tmp_path, monkeypatch):
    write_reference_runs(runs)
    first = saved_runs.saved_runs()
    monkeypatch.setenv("CVCORE_RUNS", str(tmp_path / "other"))
    other = saved_runs.saved_runs()
    assert other.number != first.number and not other.runs
    monkeypatch.setenv("CVCORE_RUNS", str(runs))
    assert saved_runs.saved_runs().number == first.number


def test_what_was_forgotten_is_listed_anew(runs, listings):
    write_reference_runs(runs)
    before = saved_runs.saved_runs()
    run_id = write_run(runs, "doodle-features", seed=5)
    assert saved_runs.saved_runs() is before
    saved_runs.forget()
    assert run_id in [run.id for run in saved_runs.saved_runs().runs]


def test_an_address_of_a_run_just_made_finds_it_and_one_of_none_lists_nothing(runs, listings):
    write_reference_runs(runs)
    saved_runs.saved_runs()
    run_id = write_run(runs, "doodle-features", seed=5)
    for nothing in ([], ["../x"], ["no-such-run"], [""]):
        saved_runs.look_for(nothing)
        assert run_id not in [run.id for run in saved_runs.saved_runs().runs]
    saved_runs.look_for(["no-such-run", run_id])
    assert run_id in [run.id for run in saved_runs.saved_runs().runs]
    assert listings["times"] == 2
    saved_runs.look_for([run_id])
    saved_runs.saved_runs()
    assert listings["times"] == 2


def test_damaged_runs_are_apart_and_the_others_in_the_order_of_the_lesson(runs):
    ids, damaged = write_reference_runs(runs), write_damaged_run(runs)
    saved = saved_runs.saved_runs()
    assert [run.id for run in saved.whole] == ids == [run.id for run in saved.opening] == list(saved.labels)
    assert [run.id for run in saved.damaged] == [damaged]


def test_without_recorded_runs_it_opens_on_the_four_newest(runs):
    ids = [write_run(runs, "doodle-features", seed=seed) for seed in range(6)]
    assert [run.id for run in SavedRuns(run_directory.list_runs(runs), 1).opening] == sorted(ids, reverse=True)[:4]
