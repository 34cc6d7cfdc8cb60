"""The command line: what --json names, and one sentence for each bad input, nothing left on disk."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from click.testing import CliRunner
from handmade_pictures import write_classes
from tiny_lessons import tiny_features, tiny_finetune, tiny_scratch

from cvcore import published
from cvcore.cli import main
from cvcore.settings import PROJECT


@pytest.fixture
def command(lessons, monkeypatch):
    """Run a command in this process with the tiny recipes among the published ones; returns click's result."""
    for recipe in (tiny_scratch, tiny_features, tiny_finetune):
        monkeypatch.setitem(published.RECIPES, recipe.id, recipe)

    def run(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def printed(result):
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_recipes(command):
    found = printed(command("recipes", "--json"))
    assert {"doodle-scratch", "mobilenet-finetune"} <= {row["id"] for row in found}
    assert all({"id", "strategy"} <= set(row) for row in found)
    assert "doodle-scratch  " in command("recipes").stdout


def test_describe_a_recipe(command):
    found = printed(command("describe", "tiny-finetune", "--json"))
    assert (found["id"], found["strategy"]) == ("tiny-finetune", "finetune")
    assert set(found["parameters"]) == {"total", "trainable", "frozen"}
    assert all({"name", "output_shape", "parameters"} <= set(row) for row in found["layers"])
    text = command("describe", "tiny-scratch").stdout
    assert "conv1" in text and "parameters: total 2,729, trainable 2,729, frozen 0" in text


def test_describe_a_base_and_settings_and_classes(command):
    base = printed(command("describe", "VGG16", "--set", "image_size=64", "--json"))
    assert base["parameters"]["total"] == 14_714_688
    wider = printed(command("describe", "tiny-scratch", "--set", "filters=[8,8]", "--classes", "3", "--json"))
    assert wider["layers"][2]["parameters"] == 3 * 9 * 8 + 8 and wider["layers"][-1]["output_shape"] == [None, 3]


def test_describe_takes_a_recipe_for_digits_to_have_ten_classes(command):
    digits = printed(command("describe", "exercise-mnist", "--json"))
    assert digits["parameters"]["total"] == 260_476 and digits["layers"][-1]["output_shape"] == [None, 10]
    two = printed(command("describe", "exercise-mnist", "--classes", "2", "--json"))
    assert two["layers"][-1]["output_shape"] == [None, 1]


def test_train_then_runs_compare_export_and_from(command, lessons, tmp_path):
    runs = tmp_path / "runs"
    common = ("--data", lessons.folder(), "--runs", runs)
    head = printed(command("train", "tiny-features", *common, "--epochs", 2, "--json"))
    names = {"run", "status", "best_epoch", "val_accuracy", "last_val_accuracy", "test_accuracy", "seconds"}
    assert names <= set(head) and head["status"] == "done" and 0 <= head["test_accuracy"] <= 1
    changes = ("--set", "augmentation.rotation=5", "--set", "epochs=1")
    tuned = command("train", "tiny-finetune", *common, "--from", head["run"], "--seed", 3, *changes)
    assert tuned.exit_code == 0 and "done" in tuned.stdout and tuned.stderr == ""
    listed = printed(command("runs", "--runs", runs, "--json"))
    assert {row["run"] for row in listed} >= {head["run"]} and len(listed) == 2
    assert all(names | {"recipe", "dataset", "seed"} <= set(row) for row in listed)
    assert {(row["recipe"], row["seed"]) for row in listed} == {("tiny-features", 0), ("tiny-finetune", 3)}
    assert head["run"] in command("runs", "--runs", runs).stdout
    ids = [row["run"] for row in listed]
    compared = printed(command("compare", *ids, "--runs", runs, "--json"))
    assert [row["run"] for row in compared["runs"]] == ids
    assert any("epochs" in str(row) for row in compared["differences"])
    assert ids[0] in command("compare", *ids, "--runs", runs).stdout
    code = printed(command("export-code", head["run"], "--runs", runs, "--json"))["code"]
    compile(code, "code.py", "exec")
    assert command("export-code", head["run"], "--runs", runs).stdout.strip() == code.strip()
    again = command("resume", head["run"], "--runs", runs)
    assert again.exit_code == 1 and again.stderr.count("\n") == 1 and "is done" in again.stderr


def test_train_without_a_test_split_prints_null(command, lessons, tmp_path):
    arguments = ("--data", lessons.folder("no-test"), "--runs", tmp_path, "--epochs", 1, "--json")
    assert printed(command("train", "tiny-scratch", *arguments))["test_accuracy"] is None


def test_no_runs_yet(command, tmp_path):
    assert printed(command("runs", "--runs", tmp_path, "--json")) == []
    assert "no runs yet" in command("runs", "--runs", tmp_path).stdout


def test_damaged_run_is_listed_with_the_others(command, tmp_path):
    (tmp_path / "20260101T000000Z-x-dead").mkdir()
    (found,) = printed(command("runs", "--runs", tmp_path, "--json"))
    assert found["status"] == "damaged" and "damaged" in command("runs", "--runs", tmp_path).stdout


def test_datasets_and_check(command, lessons, tmp_path):
    folder = shutil.copytree(lessons.folder(), tmp_path / "pets")
    (folder / "train" / "bars" / "notes.jpg").write_text("no picture")
    found = printed(command("check", folder, "--json"))
    assert found["counts"]["train"] == {"bars": 9, "discs": 9} and len(found["skipped"]) == 1
    text = command("check", folder)
    assert text.exit_code == 0 and "skipped train/bars/notes.jpg: " in text.stdout
    listed = printed(command("datasets", "--json"))
    assert {"id", "kind", "available"} <= set(listed[0])
    assert {"doodle-pets", "pets"} <= {row["id"] for row in listed}
    assert "doodle-pets" in command("datasets").stdout


def test_make_small(command, tmp_path):
    result = command("make-small", tmp_path / "absent", tmp_path / "small")
    assert result.exit_code == 1 and one_sentence(result.stderr) and not (tmp_path / "small").exists()


def one_sentence(stderr):
    return stderr.startswith("Error: ") and stderr.count("\n") == 1 and "Traceback" not in stderr


def bad_data(kind, folder):
    if kind == "missing folder":
        return folder / "absent"
    if kind == "one class only":
        return write_classes(folder / "one", {"cats": 9})
    if kind == "empty class":
        root = write_classes(folder / "empty", {"cats": 9, "dogs": 9})
        (root / "birds").mkdir()
        return root
    if kind == "three pictures in all":
        return write_classes(folder / "three", {"cats": 2, "dogs": 1})
    assert kind == "zip with ../"
    with zipfile.ZipFile(folder / "bad.zip", "w") as archive:
        for path in write_classes(folder / "source", {"cats": 4, "dogs": 4}).rglob("*.jpg"):
            archive.write(path, f"../{path.parent.name}/{path.name}")
    return folder / "bad.zip"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("missing folder", "absent"), ("one class only", "2 or more classes|two|at least 2|one class"),
     ("empty class", "birds"), ("three pictures in all", "Too few pictures"), ("zip with ../", r"\.\.")],
)  # fmt: skip
def test_bad_data_is_one_sentence_and_leaves_nothing(command, tmp_path, kind, words):
    import re

    source = bad_data(kind, tmp_path)
    for arguments in (("check", source), ("train", "tiny-scratch", "--data", source, "--runs", tmp_path / "runs")):
        result = command(*arguments)
        assert result.exit_code == 1 and result.stdout == ""
        assert one_sentence(result.stderr) and re.search(words, result.stderr), result.stderr
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path.parent / "cats").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tiny-scratch", "--set", "lr=1"], "unknown recipe keys ['lr']; known: ['alpha'"),
        (["tiny-scratch", "--set", "image_size=0"], "image_size must be at least 16; received 0"),
        (["tiny-scratch", "--set", "learning_rate=-1"], "learning_rate must be greater than 0; received -1"),
        (["tiny-scratch", "--epochs", "0"], "epochs must be at least 1; received 0"),
        (["tiny-scratch", "--set", "batch_size=19"], "at most the number of training pictures (18); received 19"),
        (["tiny-scratch", "--set", "batch_size"], "--set takes key=value; received 'batch_size'"),
        (["tiny-features", "--set", "base=[1]"], "base must be text; received [1]"),
        (["tiny-features", "--base", "AlexNet"], "received 'AlexNet'"),
        (["tiny-scratch", "--seed", "-1"], "seed must be between 0 and 2147483647; received -1"),
        (["tiny-scratch", "--weights", "some.h5"], "the weights file must exist; received some.h5"),
        (["no-such-recipe"], "no recipe 'no-such-recipe'; recipes: doodle-scratch"),
        (["tiny-finetune", "--from", "nobody"], "no run 'nobody' among the saved runs"),
        (["tiny-finetune", "--from", "../x"], "letters, digits, '-' and '_' only; received '../x'"),
        (["tiny-finetune", "--set", "augmentation.spin=3"], "unknown augmentation keys ['spin']"),
        (["tiny-finetune", "--set", "augmentation.rotation=999"], "999"),
    ],
)
def test_bad_training_is_one_sentence_and_leaves_nothing(command, lessons, tmp_path, arguments, words):
    result = command("train", *arguments, "--data", lessons.folder(), "--runs", tmp_path / "runs")
    assert result.exit_code == 1 and result.stdout == ""
    assert one_sentence(result.stderr) and words in result.stderr, result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume", "nobody"], "no run 'nobody'"),
        (["resume", "../x"], "received '../x'"),
        (["compare", "nobody"], "no run 'nobody'"),
        (["export-code", "nobody"], "no run 'nobody'"),
        (["describe", "nobody"], "no recipe 'nobody'"),
        (["describe", "VGG16", "--set", "depth=3"], "a base is described by image_size and alpha only"),
        (["describe", "VGG16", "--set", "image_size=8"], "image_size must be at least 16; received 8"),
        (["download", "nothing"], "nothing"),
    ],
)
def test_unknown_names_are_one_sentence(command, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setenv("CVCORE_RUNS", str(tmp_path))
    result = command(*arguments)
    assert result.exit_code == 1 and one_sentence(result.stderr) and words in result.stderr, result.stderr


def test_in_a_process_of_its_own_offline_weights_are_one_sentence_on_stderr(lessons, tmp_path):
    closed = "http://127.0.0.1:9"
    environment = {**os.environ, "CVCORE_CACHE": str(lessons.cache), "KERAS_HOME": str(tmp_path / "keras"),
                   "https_proxy": closed, "HTTPS_PROXY": closed, "no_proxy": "", "NO_PROXY": ""}  # fmt: skip
    command = [sys.executable, "-m", "cvcore", "train", "mobilenet-features", "--data", str(lessons.folder()),
               "--set", "batch_size=8", "--runs", str(tmp_path / "runs"), "--json"]  # fmt: skip
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stdout == ""
    assert one_sentence(done.stderr), done.stderr
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    for part in (name, "about 2.0 MB", "CVCORE_WEIGHTS"):
        assert part in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["runs"]])
def test_quick_answers_load_neither_keras_nor_pandas(words):
    told = "import atexit, runpy, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    code = f"{told}; sys.argv[1:] = {words!r}; runpy.run_module('cvcore', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip()
    loaded = set(done.stderr.split())
    assert "cvcore.cli.run_commands" in loaded
    assert not loaded & {"keras", "tensorflow", "pandas", "scipy", "plotly", "streamlit"}
