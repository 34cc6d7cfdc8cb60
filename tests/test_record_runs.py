"""Runs that ship: what is copied, what is refused, how large all are, and which the doodle tool replaces."""

import json

import pytest
from handmade_runs import write_run
from photograph_runs import write_photograph_run

from cvcore.code_export import standalone_script
from cvcore.errors import CvcoreError
from cvcore.run_directory import list_runs, load_run
from cvcore.settings import PROJECT
from tools import record_runs


@pytest.fixture
def finished(tmp_path):
    folder = tmp_path / "made"
    run_id = write_photograph_run(folder)
    for name in ("model.keras", "state.npz", "progress.json", "csv_log-training.csv", "code.py"):
        (folder / run_id / name).write_text("import keras\n")
    (folder / run_id / "tensorboard").mkdir()
    return folder / run_id


def test_only_the_files_that_make_figures_are_copied_and_the_run_is_marked(finished, tmp_path):
    ((run, size),) = record_runs.record([finished], tmp_path / "runs")
    shipped = load_run(run.id, tmp_path / "runs")
    assert sorted(path.name for path in shipped.path.iterdir()) == sorted(record_runs.SHIPPED)
    assert shipped.reference and not load_run(finished.name, finished.parent).reference
    assert (shipped.metrics, len(shipped.history())) == (run.metrics, 30)
    assert size == sum((finished / name).stat().st_size for name in record_runs.SHIPPED)


def test_recording_again_replaces_the_run(finished, tmp_path):
    record_runs.record([finished], tmp_path / "runs")
    (finished / "log.txt").write_text("again\n")
    record_runs.record([finished], tmp_path / "runs")
    assert [run.log() for run in list_runs(tmp_path / "runs")] == ["again\n"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [finished.name]


def test_a_run_is_not_recorded_over_itself(finished, tmp_path):
    before = {path.name for path in finished.iterdir()}
    (tmp_path / "link").symlink_to(finished.parent)
    for into in (finished.parent, tmp_path / "link"):
        with pytest.raises(CvcoreError, match="is in this one already"):
            record_runs.record([finished], into)
    assert {path.name for path in finished.iterdir()} == before and not load_run(
        finished.name, finished.parent
    ).reference


@pytest.mark.parametrize("line", [str(PROJECT), "/tmp/pictures/cat.1.jpg", "C:\\Users\\me\\cat.jpg"])
@pytest.mark.parametrize("name", ["code.py", "log.txt", "predictions.csv"])
def test_a_path_of_this_computer_is_refused_and_nothing_is_copied(finished, tmp_path, name, line):
    with (finished / name).open("a") as file:
        file.write(f'FOLDER = "{line}"\n')
    good = finished.parent / write_photograph_run(finished.parent, seed=2)
    with pytest.raises(CvcoreError, match=f"names? no path of this computer.*{name}"):
        record_runs.record([good, finished], tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_addresses_pictures_of_a_dataset_and_divisions_are_no_paths_of_this_computer():
    text = "https://storage.googleapis.com/tmp/x.zip validation/tmp/cat.1.jpg 1/2 a / b ../etc/x image/255.0 //home/x"
    assert record_runs.paths_of_this_computer(text) == []


@pytest.mark.parametrize(("told", "message"), [({"status": "stopped"}, "is stopped"), ({"imported": True}, "imported")])
def test_runs_that_were_not_trained_to_the_end_here_are_refused(tmp_path, told, message):
    run_id = write_photograph_run(tmp_path / "made", **told)
    with pytest.raises(CvcoreError, match=message):
        record_runs.record([tmp_path / "made" / run_id], tmp_path / "runs")


def test_a_run_without_predictions_is_refused(finished, tmp_path):
    (finished / "predictions.csv").unlink()
    with pytest.raises(CvcoreError, match=r"lacks predictions\.csv"):
        record_runs.record([finished], tmp_path / "runs")


def test_all_together_may_not_pass_the_limit(finished, tmp_path, monkeypatch):
    into = tmp_path / "runs"
    write_run(into, reference=True)
    own = into / write_run(into, seed=1)
    (own / "log.txt").write_text("x" * 100_000)  # not shipped, so it does not count
    monkeypatch.setattr(record_runs, "LIMIT", record_runs.shipped_bytes(into) + 100)
    with pytest.raises(CvcoreError, match="reference runs may take"):
        record_runs.record([finished], into)
    assert len(list_runs(into)) == 2


def test_the_shipped_runs_are_within_the_limit_and_have_no_other_files():
    runs = [run for run in list_runs(PROJECT / "runs") if run.reference]
    assert runs and record_runs.shipped_bytes(PROJECT / "runs") <= record_runs.LIMIT
    for run in runs:
        if not run.imported:
            record_runs.check(run)
        assert {path.name for path in run.path.iterdir()} <= set(record_runs.SHIPPED), run.id


def test_script_of_each_shipped_run_is_what_its_export_is_today():
    """Where the exporter changed, write them anew: the text of `standalone_script(run.info)` into each code.py."""
    runs = [run for run in list_runs(PROJECT / "runs") if run.reference and not run.imported]
    assert runs
    old = [run.id for run in runs if (run.path / "code.py").read_text("utf-8") != standalone_script(run.info)]
    assert not old


def test_the_doodle_tool_leaves_the_photographs_alone(tmp_path, monkeypatch):
    from tools import make_reference_runs

    old = [write_run(tmp_path, name, reference=True) for name in make_reference_runs.RECIPES]
    photo, own = write_photograph_run(tmp_path, reference=True), write_run(tmp_path, "doodle-scratch", seed=7)

    def train(recipe, seed, cache):
        run_id = write_run(tmp_path, recipe, seed=9)
        (tmp_path / run_id / "model.keras").write_text("")
        return run_id

    monkeypatch.setattr(make_reference_runs, "FOLDER", tmp_path)
    monkeypatch.setattr(make_reference_runs, "train", train)
    monkeypatch.setattr(make_reference_runs, "open_dataset", lambda name: None)
    monkeypatch.setattr("sys.argv", ["make_reference_runs"])
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path))
    make_reference_runs.main()
    left = {run.id: run for run in list_runs(tmp_path)}
    assert not set(old) & set(left) and {photo, own} <= set(left)
    assert sorted(run.recipe["id"] for run in left.values() if run.reference and run.seed == 9) == sorted(
        make_reference_runs.RECIPES
    )
    assert json.loads((tmp_path / photo / "run.json").read_text())["reference"] is True
