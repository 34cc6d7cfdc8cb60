"""Many steps a call on stored activations: figures, weights and callbacks are those of `model.fit`."""

import keras
import numpy as np
import pytest

from cvcore import stored_epochs
from cvcore.batches import EvaluationBatches, Rows, TrainingBatches
from cvcore.fitting import compile_model, reseed, values
from cvcore.recipe import make_recipe

pytestmark = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="other backends train with fit")
RECIPE = make_recipe(id="head", strategy="features", base="doodle-base", image_size=32, cached=True, batch_size=8)


class Noted(keras.callbacks.Callback):
    """Set the randomness of each epoch as training does, and note what the callbacks are told."""

    def __init__(self, batches, stop_after=None):
        super().__init__()
        self.batches, self.stop_after = batches, stop_after
        self.epochs, self.steps, self.tests = [], [], 0

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch + 1
        reseed(self.model.layers, 5, epoch + 1)

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(batch)
        assert set(logs) == {"loss", "accuracy"}

    def on_test_end(self, logs=None):
        self.tests += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, logs))
        self.model.stop_training = epoch == self.stop_after


def head(classes=2):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(4, activation="relu")(keras.layers.Dropout(0.5)(inputs))
    x = keras.layers.BatchNormalization()(x)
    last = keras.layers.Dense(1, activation="sigmoid") if classes == 2 else keras.layers.Dense(3, activation="softmax")
    model = keras.Model(inputs, last(x))
    compile_model(model, RECIPE)
    return model


def activations(rows, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).random((rows, 6)).astype(dtype)


def labels(rows, classes=2):
    return np.random.default_rng(9).integers(0, classes, rows)


def batches_of(case):
    if case == "views":  # passes end in mid-epoch, and each takes the next view
        inputs = [activations(29, np.float16, view) for view in range(2)]
        return TrainingBatches(inputs, labels(29), 8, 5, steps_per_epoch=3)
    if case == "rows":
        return TrainingBatches(Rows(activations(60), np.arange(0, 58, 2)), labels(29, 3), 8, 5)
    return TrainingBatches(activations(29), labels(29), 8, 5)


def trained(case, stored, epochs=3, **noted):
    classes = 3 if case == "rows" else 2
    model, batches = head(classes), batches_of(case)
    validation = EvaluationBatches(activations(21, seed=7), labels(21, classes), batch_size=8, rows=np.arange(3, 21))
    callback = Noted(batches, **noted)
    if stored:
        assert stored_epochs.serves(batches, validation)
        stored_epochs.fit_stored(model, batches, validation, [callback], initial_epoch=1, epochs=epochs)
    else:
        model.fit(batches, validation_data=validation, callbacks=[callback], initial_epoch=1, epochs=epochs, verbose=0,
                  shuffle=False)  # fmt: skip
    return callback, [*model.get_weights(), *values(model.optimizer.variables)]


@pytest.mark.parametrize("case", ["plain", "views", "rows"])
def test_figures_weights_and_callbacks_are_those_of_fit_to_the_last_bit(case):
    expected, weights = trained(case, stored=False)
    found, found_weights = trained(case, stored=True)
    assert [epoch for epoch, _ in found.epochs] == [1, 2]
    assert found.epochs == expected.epochs
    assert found.tests == expected.tests == 2
    assert found.steps[-1] == expected.steps[-1]
    for ours, keras_own in zip(found_weights, weights, strict=True):
        np.testing.assert_array_equal(ours, keras_own)


def test_long_epochs_are_taken_in_stretches_between_which_a_run_can_be_stopped(monkeypatch):
    whole, weights = trained("plain", stored=True, epochs=2)
    monkeypatch.setattr(stored_epochs, "LONGEST", 3)
    cut, cut_weights = trained("plain", stored=True, epochs=2)
    assert whole.steps == [3] and cut.steps == [2, 3]
    assert cut.epochs == whole.epochs
    for ours, expected in zip(cut_weights, weights, strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(("weights", "batch_size", "steps"), [(1_282, 32, 256), (3_277_313, 32, 4), (10**10, 1, 1)])
def test_a_stretch_is_as_long_as_its_weights_and_batches_allow(weights, batch_size, steps):
    assert stored_epochs._longest(weights, batch_size, 10**6, trains=True) == steps
    assert stored_epochs._longest(weights, batch_size, 10**6, trains=False) >= steps
    assert stored_epochs._longest(weights, batch_size, 1, trains=True) == 1


def test_in_small_batches_the_optimizers_work_on_the_weights_ends_a_stretch():
    """Nine tenths of such a step are the optimizer's, of which operations on pictures say nothing."""
    of_a_picture = stored_epochs._longest(3_277_313, 1, 400, trains=True)
    assert 4 < of_a_picture < stored_epochs.OPERATIONS / (6 * 3_277_313) / 9


def test_a_callback_ends_the_training_after_an_epoch():
    assert len(trained("plain", stored=True, epochs=9, stop_after=2)[0].epochs) == 2


def test_activations_that_are_too_large_are_not_held_in_memory(monkeypatch):
    batches, validation = batches_of("views"), EvaluationBatches(activations(21), labels(21))
    held = 2 * 29 * 6 * 2 + 21 * 6 * 4
    monkeypatch.setattr(stored_epochs, "IN_MEMORY", held)
    assert stored_epochs.serves(batches, validation)
    monkeypatch.setattr(stored_epochs, "IN_MEMORY", held - 1)
    assert not stored_epochs.serves(batches, validation)
    monkeypatch.setattr(stored_epochs, "IN_MEMORY", 29 * 6 * 4 + 21 * 6 * 4 - 1)
    assert not stored_epochs.serves(batches_of("rows"), validation)


@pytest.mark.parametrize("steps_per_epoch", [None, 2, 3, 11])
def test_passes_are_the_rows_of_an_epochs_batches(steps_per_epoch):
    batches = TrainingBatches(np.arange(29.0), np.arange(29), 8, 5, steps_per_epoch)
    for epoch in (1, 2, 5):
        batches.epoch = epoch
        one_by_one = [batches[step][1] for step in range(len(batches))]
        np.testing.assert_array_equal(
            np.concatenate([rows for _, rows in batches.passes()]), np.concatenate(one_by_one)
        )
