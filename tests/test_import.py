"""Imported runs: what their directory says, what every reader makes of it, the command."""

import json
import re

import pytest
from click.testing import CliRunner
from handmade_runs import write_reference_runs, write_run
from pages_drawn import as_shown, draw, sound, words

from cvcore import api, charts, choices, code_export, comparison, estimate
from cvcore.cli import main
from cvcore.errors import CvcoreError, InvalidHistory
from cvcore.imported import import_file, import_history
from cvcore.published import RECIPES, get_recipe
from cvcore.recipe import STRATEGIES
from cvcore.run_directory import list_runs, load_run
from cvcore.run_history import HISTORY_COLUMNS
from cvcore.run_writer import requeue, start_attempt
from cvcore.trash import delete_run

FOUR = {
    "loss": [0.7, 0.6, 0.4],
    "acc": [0.5, 0.75, 1.0],
    "val_loss": [0.6, 0.4, 0.5],
    "val_acc": [0.55, 0.7, 0.8],
    "lr": [0.01, 0.01, 0.001],
}
HISTORIES = {
    "whole": FOUR,
    "one epoch": {"loss": [0.7], "accuracy": [0.5]},
    "loss alone": {"loss": [0.7, 0.6]},
    "accuracy alone": {"accuracy": [0.5, 0.6]},
    "validation alone": {"val_accuracy": [0.5, 0.6]},
    "without validation loss": {"loss": [0.7, 0.6], "val_accuracy": [0.5, 0.6]},
    "holes": {"loss": [None, 0.6], "accuracy": [0.5, None], "val_loss": [None, None], "val_accuracy": [None, 0.5]},
}
HOSTILE = "![x](http://example.org/x.png) :red[*a*] `b` $c$ <b>d</b>"


def data(history):
    return json.dumps(history).encode()


def add(folder, history="whole", name=None, **more):
    return import_history(data(HISTORIES[history]), name or f"{history}.json", folder=folder, **more)


def test_an_imported_run_says_what_its_file_says_and_nothing_else(tmp_path):
    run = add(tmp_path / "runs", name="folder/My pets 2.json", strategy="features", dataset="Our pets")
    assert re.fullmatch(r"\d{8}T\d{6}Z-imported-my-pets-2-[0-9a-f]{4}", run.id)
    assert run.imported and not run.reference and (run.status, run.strategy) == ("done", "features")
    assert run.recipe == {"id": "imported-my-pets-2", "title": "My pets 2", "strategy": "features",
                          "source": "imported"}  # fmt: skip
    assert (run.dataset["title"], run.dataset["counts"], run.dataset["fingerprint"]) == ("Our pets", {}, None)
    assert run.seed is None and run.info["timings"] == {} and run.info["device"] is None
    assert sorted(path.name for path in run.path.iterdir()) == ["history.csv", "log.txt", "metrics.json", "run.json"]
    frame = run.history()
    assert tuple(frame.columns) == HISTORY_COLUMNS and list(frame["epoch"]) == [1, 2, 3]
    assert list(frame["accuracy"]) == FOUR["acc"] and list(frame["learning_rate"]) == FOUR["lr"]
    assert frame["seconds"].isna().all() and run.predictions().empty
    assert "imported 3 epochs from My pets 2.json (JSON)" in run.log() and "folder" not in run.log()


def test_an_imported_run_is_its_owners_or_nobodys(tmp_path):
    assert add(tmp_path, owner="a" * 16).owner == "a" * 16
    assert add(tmp_path, "one epoch").owner is None


def test_its_metrics_come_from_the_history_alone(tmp_path):
    metrics = add(tmp_path).metrics
    told = {"epochs": 3, "best_epoch": 2, "val_loss": 0.4, "val_accuracy": 0.7, "last_accuracy": 1.0,
            "last_val_accuracy": 0.8, "max_val_accuracy": 0.8, "seconds": {}}  # fmt: skip
    assert {name: value for name, value in metrics.items() if value is not None} == told
    assert {"test_accuracy", "test_count", "parameters"} < set(metrics)


def test_without_a_validation_loss_there_is_no_best_epoch(tmp_path):
    metrics = add(tmp_path, "without validation loss").metrics
    assert (metrics["best_epoch"], metrics["val_accuracy"], metrics["last_val_accuracy"]) == (None, None, 0.6)


def test_a_strategy_that_is_not_told_is_not_known_and_nothing_is_guessed(tmp_path):
    run = add(tmp_path, name="augmented features.json")
    assert run.strategy == "not known" and run.dataset["title"] == "not known"
    assert not {run.strategy} & set(STRATEGIES)


def test_an_imported_run_is_never_taken_for_a_recipe_of_ours(tmp_path):
    for place, (recipe_id, recipe) in enumerate(RECIPES.items()):
        run = import_history(data({"loss": [place]}), f"{recipe_id}.json", strategy=recipe.strategy, folder=tmp_path)
        assert run.recipe["id"] not in RECIPES
        counts = {"train": {"a": 50}, "validation": {"a": 50}, "test": {"a": 50}}
        assert "finished" not in estimate.estimate(recipe, counts, [run]).basis


def test_a_file_is_imported_once_until_its_run_is_deleted(tmp_path):
    first = add(tmp_path)
    with pytest.raises(InvalidHistory, match=f"imported once; this one is run {first.id}"):
        add(tmp_path, name="another name.json", strategy="scratch")
    assert len(list_runs(tmp_path)) == 1
    delete_run(first)
    assert add(tmp_path).id != first.id


def test_a_runs_folder_holds_so_many_imported_runs_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("cvcore.imported.MAX_RUNS", 2)
    write_run(tmp_path, "doodle-features")
    first, _ = add(tmp_path), add(tmp_path, "holes")
    with pytest.raises(CvcoreError, match="at most 2 imported runs; delete those"):
        add(tmp_path, "loss alone")
    delete_run(first)
    assert add(tmp_path, "loss alone").imported


def test_one_visitor_cannot_use_up_all_imports_of_a_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("cvcore.imported.MAX_OF_AN_OWNER", 2)
    loss = iter(range(100))

    def one(owner, **words):
        return import_history(data({"loss": [next(loss)]}), "x.json", owner=owner, folder=tmp_path, **words)

    first, _ = one("a" * 16), one("a" * 16)
    with pytest.raises(CvcoreError, match="one browser may keep at most 2 imported runs; delete"):
        one("a" * 16)
    assert one("b" * 16).owner == "b" * 16
    assert one("a" * 16, teacher=True).owner == "a" * 16
    assert len([one(None) for _ in range(3)]) == 3  # from a terminal
    delete_run(first)
    with pytest.raises(CvcoreError, match="at most 2"):  # the teacher's count, too
        one("a" * 16)
    assert len(list_runs(tmp_path)) == 6


def test_a_refused_file_leaves_nothing(tmp_path):
    with pytest.raises(InvalidHistory):
        import_history(b"{}", "x.json", folder=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"strategy": "magic"}, "strategy must be one of"),
        ({"title": "x" * 121}, "title must have at most 120 characters; received 121"),
        ({"dataset": "x" * 61}, "dataset must have at most 60 characters; received 61"),
    ],
)
def test_words_that_break_a_rule_are_one_sentence(tmp_path, more, sentence):
    with pytest.raises(CvcoreError, match=re.escape(sentence)):
        add(tmp_path, **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["..", "", "/", "../../etc/x", "..\\..\\x.csv", "\ud800.json", "a\nb\x1b[31m.json",
                                  "x" * 5000 + ".json", "中文.json", HOSTILE])  # fmt: skip
def test_a_hostile_file_name_is_a_title_at_most(tmp_path, name):
    run = import_history(data(FOUR), name, folder=tmp_path / "runs", title=None)
    assert run.path.parent == tmp_path / "runs" and list(tmp_path.iterdir()) == [tmp_path / "runs"]
    assert load_run(run.id, tmp_path / "runs").imported and len(run.recipe["title"]) <= 120
    assert run.recipe["title"].isprintable() and len(run.log().splitlines()) == 1


def test_a_runs_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(CvcoreError, match=r"could not be written .* then import again"):
        add(tmp_path / "runs")


def test_a_failed_write_leaves_no_half_of_a_run(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cvcore.imported.replace_text", full)
    with pytest.raises(CvcoreError, match="No space left on device"):
        add(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def drawn(runs, drawings):
    """The runs folder, with the drawings made that the Train page opens."""
    return runs


@pytest.fixture
def every_kind(runs):
    """One imported run of each kind of history, beside the reference runs and one trained here."""
    write_reference_runs(runs)
    write_run(runs, "doodle-features", seed=5)
    strategies = [None, *STRATEGIES, None, "features"]
    return [add(runs, kind, strategy=strategy) for kind, strategy in zip(HISTORIES, strategies, strict=True)]


def test_figures_labels_differences_and_cautions_of_imported_runs(every_kind, runs):
    for row in comparison.figures(every_kind):
        assert row["test_accuracy"] is row["seconds"] is row["parameters"] is row["seed"] is row["guessing"] is None
    labels = comparison.run_labels(list_runs())
    assert all("imported" in labels[run.id] for run in every_kind) and len(set(labels.values())) == len(labels)
    assert comparison.differences([run for run in every_kind if run.strategy in ("not known", "features")]) == []


def test_what_a_history_does_not_tell_is_not_known_and_no_difference(tmp_path):
    scratch = load_run(write_run(tmp_path, "doodle-scratch"), tmp_path)
    features = load_run(write_run(tmp_path, "doodle-features"), tmp_path)
    run = add(tmp_path, strategy="features", dataset="Our pets")
    rows = {row.pop("setting"): row for row in comparison.differences([scratch, run])}
    assert set(rows) == {"dataset", "strategy"} and rows["dataset"][run.id] == "Our pets"
    rows = {row.pop("setting"): row for row in comparison.differences([scratch, features, run])}
    assert rows["base"][features.id] == "doodle-base" and rows["base"][scratch.id] == "none"
    assert {rows[name][run.id] for name in rows if name not in ("dataset", "strategy")} == {"not known"}


def test_cautions_say_that_the_pictures_are_not_known_rather_than_others(tmp_path):
    trained = load_run(write_run(tmp_path, "doodle-scratch"), tmp_path)
    (sentence,) = comparison.cautions([trained, add(tmp_path, title="Pets")])
    assert "Pets · imported" in sentence and "different pictures" not in sentence


def test_a_number_that_is_missing_is_never_drawn_or_told_as_one(tmp_path):
    runs = [add(tmp_path, kind) for kind in HISTORIES]
    series = [charts.Series(run.id, run.strategy, run.history(), comparison.best_epoch(run, run.history()))
              for run in runs]  # fmt: skip
    for metric in ("accuracy", "loss"):
        assert "nan" not in charts.curves_alt(series, metric) and "no number" in charts.curves_alt(series, metric)
        assert "NaN" not in json.dumps(charts.curves(series, metric, 0.5))
    (alone,) = [one for one in series if "validation-alone" in one.label]
    (line,) = [trace for trace in charts.curves([alone])["data"] if trace.get("customdata")]
    assert line["customdata"] == [[0.5, "", ""], [0.6, "", ""]]


@pytest.mark.parametrize("page", ["overview", "compare", "train"])
def test_pages_draw_beside_imported_runs_of_every_kind(drawn, every_kind, page):
    assert sound(draw(page))


def test_compare_draws_imported_runs_beside_those_trained_here(every_kind):
    ids = [run.id for run in every_kind]
    for metric in ("accuracy", "loss"):
        page = draw("compare", runs=[run.id for run in list_runs()], compare_metric=metric, compare_smoothing="0.5")
        assert sound(page) and set(ids) <= set(page.dataframe[0].value["run"])
    assert sound(draw("compare", runs=ids))


@pytest.mark.parametrize("kind", HISTORIES)
def test_train_shows_an_imported_run_and_deletes_it(drawn, kind):
    run = add(drawn, kind, title=HOSTILE)
    page = draw("train", run=run.id)
    assert sound(page) and as_shown(HOSTILE) in words(page)
    page.button(key=f"delete_{run.id}").click().run()
    assert sound(page) and not run.path.exists()


def test_nothing_continues_repeats_or_resumes_an_imported_run(runs):
    run = add(runs, strategy="features")
    assert choices.runs_to_continue(get_recipe("doodle-finetune"), [run], "d" * 64) == []
    for take_up in (requeue, start_attempt):
        with pytest.raises(CvcoreError, match=f"{run.id} is done"):
            take_up(run)
    with pytest.raises(CvcoreError):
        code_export.standalone_script(run.info)
    with pytest.raises(CvcoreError, match=f"{run.id} was imported and has no model"):
        api.train("doodle-finetune", from_run=run.id, runs=runs)


@pytest.fixture
def command(tmp_path):
    def run(*arguments):
        return CliRunner().invoke(main, [*map(str, arguments), "--runs", str(tmp_path / "runs")])

    return run


def test_the_command_imports_and_the_others_list_compare_and_refuse(command, tmp_path):
    (tmp_path / "pets.json").write_bytes(data({**FOUR, "f1": [1, 1, 1]}))
    (tmp_path / "training.log").write_text("epoch,accuracy,loss\n0,0.5,0.7\n1,0.6,0.5\n")
    one = command("import", tmp_path / "pets.json", "--strategy", "scratch", "--title", "Pets", "--dataset", "Ours")
    assert one.exit_code == 0 and one.stderr == "" and "columns left out: 'f1'" in one.stdout
    two = command("import", tmp_path / "training.log", "--json")
    found = json.loads(two.stdout)
    assert two.exit_code == 0 and found["refused"] == [] and found["runs"][0]["strategy"] == "not known"
    listed = json.loads(command("runs", "--json").stdout)
    assert {(row["recipe"], row["dataset"]) for row in listed} == {
        ("imported-pets", "Ours"), ("imported-training", "not known"),
    }  # fmt: skip
    ids = [row["run"] for row in listed]
    assert command("runs").exit_code == 0
    assert command("compare", *ids).exit_code == 0 and command("compare", *ids, "--json").exit_code == 0
    for arguments, sentence in ((["export-code", ids[0]], "was imported"), (["resume", ids[0]], "is done")):
        refused = command(*arguments)
        assert refused.exit_code == 1 and refused.stderr.count("\n") == 1 and sentence in refused.stderr


def test_the_command_names_each_refused_file_and_imports_the_others(command, tmp_path):
    (tmp_path / "good.json").write_bytes(data(FOUR))
    (tmp_path / "percent.csv").write_text("epoch,accuracy\n0,74.0\n")
    files = [tmp_path / name for name in ("percent.csv", "good.json", "absent.json", "")]
    result = command("import", *files, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and [row["file"] for row in found["runs"]] == [str(files[1])]
    errors = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in errors] == [str(files[0]), str(files[2]), str(tmp_path)]
    assert "divide it by 100" in errors[0] and "No such file" in errors[1] and "Is a directory" in errors[2]
    again = command("import", files[1])
    assert again.exit_code == 1 and again.stdout == "" and "imported once" in again.stderr


def test_the_command_reads_no_more_of_a_file_than_the_limit(tmp_path):
    endless = tmp_path / "endless"
    endless.symlink_to("/dev/zero")
    with pytest.raises(InvalidHistory, match="at most 2 MB"):
        import_file(endless, folder=tmp_path)


def test_the_command_refuses_one_title_for_two_files_and_unknown_strategies(command, tmp_path):
    two = command("import", tmp_path / "a", tmp_path / "b", "--title", "One")
    assert two.exit_code == 1 and "--title names one run; received 2 files" in two.stderr
    assert command("import", tmp_path / "a", "--strategy", "magic").exit_code == 2
