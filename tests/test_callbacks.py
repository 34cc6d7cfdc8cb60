"""Keras' callbacks as recipe fields: with handmade losses, in tiny runs, and across a stop and a resume."""

import csv
import importlib.util
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tiny_lessons import tiny_augmented, tiny_features, tiny_finetune, tiny_scratch

from cvcore import api
from cvcore.callbacks import LOGGED, callbacks_of, replay
from cvcore.datasets import pixels
from cvcore.errors import CvcoreError, InvalidRecipe, SupersededAttempt
from cvcore.files import replace_json
from cvcore.fitting import Fence
from cvcore.run_directory import list_runs, load_run, request_stop
from cvcore.run_writer import create_run, start_attempt
from cvcore.schedules import SCHEDULES
from cvcore.strategies import phases

HAS_TENSORBOARD = importlib.util.find_spec("tensorboard") is not None
# A rate so low that no weight changes: validation figures stay the same to the last bit, on any machine.
STILL = {"learning_rate": 1e-30, "optimizer": "sgd"}


def row(val_loss, accuracy=0.5):
    return {"epoch": 1, "loss": 0.5, "accuracy": accuracy, "val_loss": val_loss, "val_accuracy": accuracy,
            "learning_rate": 0.1, "seconds": 1.0}  # fmt: skip


def made(tmp_path, finished=(), **changes):
    """The callbacks of a recipe with a stub for a model, begun and replayed as `fit` does."""
    (phase,) = phases(tiny_scratch.with_changes(**changes))
    callbacks = callbacks_of(phase, tmp_path, list(finished))
    model = SimpleNamespace(stop_training=False, optimizer=SimpleNamespace(learning_rate=phase.recipe.learning_rate))
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    replay(callbacks, list(finished))
    return callbacks, model


def go_on(callbacks, rows, first=0):
    for epoch, one in enumerate(rows, start=first):
        logs = {name: one[name] for name in LOGGED}
        for callback in callbacks:
            callback.on_epoch_begin(epoch)
        for callback in callbacks:
            callback.on_epoch_end(epoch, logs)


def test_a_recipe_that_asks_for_nothing_has_no_callbacks(tmp_path):
    assert made(tmp_path)[0] == []


def test_callbacks_come_in_the_order_in_which_they_depend_on_each_other(tmp_path):
    every = {"reduce_lr_patience": 2, "early_stopping_patience": 3, "csv_logger": True, "model_checkpoint": "val_loss"}
    names = [type(callback).__name__.strip("_") for callback in made(tmp_path, **every)[0]]
    assert names == ["ReduceLROnPlateau", "EarlyStopping", "CSVLogger", "ModelCheckpoint"]
    names = [type(callback).__name__ for callback in made(tmp_path, learning_rate_schedule="step")[0]]
    assert names == ["LearningRateScheduler"]


@pytest.mark.parametrize("cut", range(5))
@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_early_stopping_goes_on_counting_where_it_was(tmp_path, monitor, cut):
    # One of the two gets better until epoch 2, the other until epoch 3, so they stop after epoch 4 and 5.
    rows = [row(0.9, 0.5), row(0.8, 0.6), row(0.8, 0.7), row(0.9, 0.7), row(0.95, 0.6), row(0.99, 0.6)]
    stops_after = {"val_loss": 4, "val_accuracy": 5}[monitor]
    changes = {"early_stopping_patience": 2, "early_stopping_monitor": monitor}
    cut = min(cut, stops_after - 1)
    callbacks, model = made(tmp_path, rows[:cut], **changes)
    for epoch in range(cut, stops_after):
        assert not model.stop_training
        go_on(callbacks, rows[epoch : epoch + 1], epoch)
    assert model.stop_training


@pytest.mark.parametrize("cut", range(6))
def test_reducing_the_rate_goes_on_where_it_was(tmp_path, cut):
    rows = [row(0.9), row(0.9), row(0.9), row(0.9), row(0.9), row(0.8)]
    changes = {"reduce_lr_patience": 2, "reduce_lr_factor": 0.5, "learning_rate": 0.4}
    callbacks, model = made(tmp_path, rows[:cut], **changes)
    rates = [0.4, 0.4, 0.2, 0.2, 0.1, 0.1]  # after each epoch: two without a better loss halve it
    for epoch in range(cut, 6):
        go_on(callbacks, rows[epoch : epoch + 1], epoch)
        assert model.optimizer.learning_rate == pytest.approx(rates[epoch])


@pytest.mark.parametrize("cut", range(4))
def test_csv_log_of_a_resumed_phase_has_each_epoch_once(tmp_path, cut):
    rows = [row(0.1234567890123), row(0.2), row(0.3), row(0.4)]
    changes = {"csv_logger": True, "reduce_lr_patience": 1}
    callbacks, _ = made(tmp_path, **changes)
    go_on(callbacks, rows)
    whole = (tmp_path / "csv_log-training.csv").read_bytes()
    callbacks, _ = made(tmp_path, rows[:cut], **changes)
    go_on(callbacks, rows[cut:], cut)
    assert (tmp_path / "csv_log-training.csv").read_bytes() == whole
    assert [line.split(b",")[0] for line in whole.splitlines()] == [b"epoch", b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize(("monitor", "threshold"), [("val_loss", 0.2), ("loss", 0.5), ("val_accuracy", 0.7)])
def test_checkpoint_of_a_resumed_phase_is_replaced_only_by_a_better_one(tmp_path, monitor, threshold):
    folder = tmp_path / "{braces}"
    (phase,) = phases(tiny_scratch.with_changes(model_checkpoint=monitor))
    (checkpoint,) = callbacks_of(phase, folder, [row(0.3), row(0.2, 0.7), row(0.4)])
    assert checkpoint.best == threshold and checkpoint.save_best_only
    assert checkpoint.target == folder / "checkpoint-training.keras"
    assert checkpoint.filepath.format(epoch=1) == str(checkpoint.written)
    (checkpoint,) = callbacks_of(phase, folder, [])
    assert checkpoint.best is None


def test_a_newer_attempt_keeps_the_callbacks_of_an_older_one_from_writing(tmp_path):
    summary = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}
    run = create_run(tiny_scratch, summary, 0, folder=tmp_path, status="running")
    fence = Fence(start_attempt(run))
    fence.on_epoch_end(0)
    replace_json(run.path / "run.json", {**load_run(run.id, tmp_path).info, "attempt": 9})
    with pytest.raises(Exception, match=r"attempt 9 .* has taken over"):
        fence.on_epoch_end(1)


def test_a_newer_attempt_keeps_an_older_one_from_beginning_its_files_anew(lessons, tmp_path, monkeypatch):
    """The older one is overtaken between its last look and `fit`; the newer one has logged an epoch by then."""

    def overtaken(phase, folder, finished, kept):
        made = callbacks_of(phase, folder, finished, kept)
        replace_json(folder / "run.json", {**load_run(folder.name, tmp_path).info, "attempt": 9})
        (folder / "csv_log-training.csv").write_text("the newer attempt's")
        return made

    monkeypatch.setattr("cvcore.fitting.callbacks_of", overtaken)
    with pytest.raises(SupersededAttempt):
        api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, csv_logger=True)
    (run,) = list_runs(tmp_path)
    assert (run.path / "csv_log-training.csv").read_text() == "the newer attempt's"


# In runs.


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_sets_the_rate_of_each_epoch(name, lessons, tmp_path):
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, epochs=12, learning_rate_schedule=name)
    by_hand = {
        "step": [0.01] * 10 + [0.005] * 2,
        "exponential": [0.01] * 10 + [0.01 * math.exp(-0.1), 0.01 * math.exp(-0.2)],
        "cosine": [0.01 * (0.01 + 0.99 * (1 + math.cos(math.pi * epoch / 11)) / 2) for epoch in range(12)],
    }
    np.testing.assert_allclose(run.history()["learning_rate"], by_hand[name], rtol=1e-5)


def test_decay_is_that_of_keras_counted_in_steps(lessons, tmp_path):
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, learning_rate_decay=0.5)
    # Three steps an epoch: the last of epoch e is step 3 e - 1, counted from 0.
    np.testing.assert_allclose(run.history()["learning_rate"], [0.01 / (1 + 0.5 * k) for k in (2, 5, 8)], rtol=1e-5)


def test_rate_is_reduced_on_a_plateau_from_the_next_epoch_on(lessons, tmp_path):
    changes = {**STILL, "epochs": 6, "reduce_lr_patience": 2, "reduce_lr_factor": 0.5}
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, **changes)
    np.testing.assert_allclose(run.history()["learning_rate"] * 1e30, [1, 1, 1, 0.5, 0.5, 0.25], rtol=1e-5)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_early_stopping_ends_the_phase(monitor, lessons, tmp_path):
    changes = {**STILL, "epochs": 6, "early_stopping_patience": 2, "early_stopping_monitor": monitor}
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, **changes)
    assert run.status == "done" and len(run.history()) == 3


def read_log(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_csv_logs_of_both_phases_are_the_history(lessons, tmp_path):
    changes = {"csv_logger": True, "learning_rate_schedule": "cosine", "starts_from": {"csv_logger": True}}
    run = api.train(tiny_finetune.with_changes(**changes), lessons.dataset(), runs=tmp_path)
    head, tuned = (read_log(run.path / f"csv_log-{name}.csv") for name in ("head", "fine-tuning"))
    assert [one["epoch"] for one in head] == ["0", "1", "2"] and [one["epoch"] for one in tuned] == ["0", "1"]
    history = run.history()
    for name in LOGGED:
        assert [float(one[name]) for one in (*head, *tuned)] == history[name].tolist()
    assert "learning_rate" not in head[0]
    np.testing.assert_allclose([float(one["learning_rate"]) for one in tuned], history["learning_rate"][3:], rtol=1e-5)


def test_model_checkpoint_is_the_best_epoch_of_its_monitor(lessons, tmp_path):
    run = api.train(tiny_augmented, lessons.dataset(), runs=tmp_path, model_checkpoint="val_loss")
    kept = keras.saving.load_model(run.path / "checkpoint-training.keras", safe_mode=True)
    images = np.asarray(pixels(lessons.dataset(), "test", 32, "bilinear", False), np.float32)
    found = keras.ops.convert_to_numpy(kept(images, training=False))[:, 0]
    rows = run.predictions().query("split == 'test'")
    np.testing.assert_allclose(found, rows[lessons.dataset().class_names[1]], atol=2e-5)


def test_model_checkpoint_of_a_run_on_stored_activations_is_of_the_whole_network(lessons, tmp_path):
    changes = {"augmentation": None, "model_checkpoint": "val_loss"}
    run = api.train(tiny_finetune, lessons.dataset(), runs=tmp_path, **changes)
    kept, final = (keras.saving.load_model(run.path / name, safe_mode=True)
                   for name in ("checkpoint-fine-tuning.keras", "model.keras"))  # fmt: skip
    assert kept.input_shape == final.input_shape == (None, 32, 32, 3)
    assert kept.evaluate(np.zeros((1, 32, 32, 3)), np.zeros(1), verbose=0)[0] >= 0, "it is compiled"
    assert int(kept.optimizer.iterations) in (3, 6)
    if run.metrics["best_epoch"] > 3:  # of fine-tuning: then both are of the same epoch
        for one, other in zip(kept.get_weights(), final.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_model_checkpoint_of_a_cached_head_is_the_head(lessons, tmp_path):
    run = api.train(tiny_features, lessons.dataset(), runs=tmp_path, epochs=1, model_checkpoint="val_accuracy")
    kept = keras.saving.load_model(run.path / "checkpoint-head.keras", safe_mode=True)
    assert kept.input_shape == (None, 128) and kept.count_params() == 129


@pytest.mark.parametrize("strategy", [tiny_scratch, tiny_finetune], ids=["scratch", "in the recipe it starts from"])
def test_tensorboard_that_is_not_installed_is_a_sentence_before_there_is_a_run(
    strategy, lessons, tmp_path, monkeypatch
):
    monkeypatch.setattr("cvcore.new_run.find_spec", lambda name: None if name == "tensorboard" else object())
    changes = {"starts_from": {"tensorboard": True}} if strategy.starts_from else {"tensorboard": True}
    with pytest.raises(InvalidRecipe, match=r"not installed: pip install tensorboard, or leave tensorboard out"):
        api.train(strategy.with_changes(**changes), lessons.dataset(), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(not HAS_TENSORBOARD, reason="needs the tensorboard package")
def test_tensorboard_logs_are_in_the_run_directory(lessons, tmp_path):
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, tensorboard=True)
    for name in ("train", "validation"):
        (events,) = (run.path / "tensorboard" / "training" / name).glob("events.out.tfevents.*")
        assert events.stat().st_size > 500


def test_log_that_cannot_be_written_is_one_sentence(lessons, tmp_path):
    def in_the_way(now):
        (run,) = list_runs(tmp_path)
        (run.path / "csv_log-training.csv").mkdir(exist_ok=True)

    with pytest.raises(CvcoreError, match=r"the run could not be written \(Is a directory\).* then resume"):
        api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, csv_logger=True, on_progress=in_the_way)


def test_tensorboard_log_that_cannot_be_written_is_an_error_of_the_disk(tmp_path, monkeypatch):
    class ResourceExhaustedError(Exception):
        """As TensorFlow's, which says so of a full disk."""

    def full(*_):
        raise ResourceExhaustedError("a path; No space left on device")

    (phase,) = phases(tiny_scratch.with_changes(tensorboard=True))
    (callback,) = callbacks_of(phase, tmp_path, [])
    assert isinstance(callback, keras.callbacks.TensorBoard) and callback.histogram_freq == 1
    monkeypatch.setattr(keras.callbacks.TensorBoard, "on_epoch_end", full)
    with pytest.raises(OSError, match=r"^TensorBoard's logs: ResourceExhaustedError$"):
        callback.on_epoch_end(0, {})


# Across a stop: what a run must have after a resume is what it would have had.

EVERY = {"csv_logger": True, "model_checkpoint": "val_accuracy"}
RESUMED = {
    "schedule": tiny_augmented.with_changes(learning_rate_schedule="cosine", epochs=5, **EVERY),
    "plateau and early stopping": tiny_scratch.with_changes(
        **STILL, epochs=9, reduce_lr_patience=2, reduce_lr_factor=0.5, early_stopping_patience=6, **EVERY
    ),
    "decay, nesterov, batch norm, softmax": tiny_scratch.with_changes(
        optimizer="sgd", momentum=0.9, nesterov=True, learning_rate_decay=0.1, dense_batch_norm=True,
        dense_dropout=0.2, classifier_activation="softmax", epochs=4, **EVERY,
    ),
    "steps, and a part of the validation pictures": tiny_augmented.with_changes(
        steps_per_epoch=2, validation_steps=1, epochs=4, **EVERY
    ),
    "mean of greys, plateau on the training loss": tiny_augmented.with_changes(
        color_mode="grayscale", preprocessing="mean_image", reduce_lr_patience=1, reduce_lr_monitor="loss", epochs=4,
        **EVERY,
    ),
    "fine-tuning": tiny_finetune.with_changes(
        learning_rate_schedule="cosine", epochs=3, **EVERY, starts_from={"reduce_lr_patience": 1, "epochs": 2, **EVERY}
    ),
}  # fmt: skip


def contents(run):
    """The csv logs and the weights of the kept models, by file name."""
    logs = {path.name: path.read_text() for path in run.path.glob("csv_log-*.csv")}
    models = {path.name: keras.saving.load_model(path, compile=False, safe_mode=True).get_weights()
              for path in run.path.glob("checkpoint-*.keras")}  # fmt: skip
    return logs, models


def numbers(text):
    return [[float(cell) for cell in line.split(",")] for line in text.splitlines()[1:]]


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_run_is_as_if_never_stopped(name, lessons, tmp_path):
    recipe = RESUMED[name]
    whole = api.train(recipe, lessons.dataset(), runs=tmp_path / "whole")
    last = len(whole.history())

    def stop(now):
        if now["phase"] in ("training", "fine-tuning") and (now["epoch"], now["step"]) == (last - 1, 1):
            request_stop(list_runs(tmp_path / "cut")[0])

    run = api.train(recipe, lessons.dataset(), runs=tmp_path / "cut", on_progress=stop)
    assert run.status == "stopped" and len(run.history()) == last - 2
    resumed = api.resume(run)
    assert resumed.status == "done"
    columns = [*LOGGED, "learning_rate"]
    np.testing.assert_allclose(resumed.history()[columns], whole.history()[columns], rtol=0, atol=1e-6)
    np.testing.assert_allclose(resumed.history()["learning_rate"], whole.history()["learning_rate"], rtol=1e-6)
    assert resumed.predictions()["predicted"].equals(whole.predictions()["predicted"])
    (logs, models), (whole_logs, whole_models) = contents(resumed), contents(whole)
    assert len(logs) == len(models) == (2 if recipe.starts_from else 1)
    assert logs.keys() == whole_logs.keys() and models.keys() == whole_models.keys()
    for file, text in whole_logs.items():
        assert logs[file].splitlines()[0] == text.splitlines()[0]
        np.testing.assert_allclose(numbers(logs[file]), numbers(text), rtol=0, atol=1e-6)
    for file, weights in whole_models.items():
        for mine, other in zip(models[file], weights, strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)


def test_early_stopping_and_plateau_really_act_in_the_resume_test(lessons, tmp_path):
    run = api.train(RESUMED["plateau and early stopping"], lessons.dataset(), runs=tmp_path)
    assert len(run.history()) == 7  # one best epoch, then six without a better one
    assert run.history()["learning_rate"].nunique() == 3  # reduced after epochs 3 and 5
