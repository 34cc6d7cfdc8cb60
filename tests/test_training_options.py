"""What a recipe's options do in a real run: steps, validation subsets, the mean image, greys, pixels of the test."""

import keras
import numpy as np
import pytest
from tiny_lessons import tiny_features, tiny_features_softmax, tiny_finetune, tiny_greys, tiny_scratch

from cvcore import api, base_weights, stored_epochs
from cvcore.batches import validation_rows
from cvcore.datasets import pixels
from cvcore.errors import InvalidRecipe
from cvcore.fitting import compile_with
from cvcore.models import build
from cvcore.run_directory import list_runs, load_run, request_stop


def probabilities(run, split):
    rows = run.predictions().query("split == @split")
    return rows[run.dataset["class_names"]].to_numpy()


def cross_entropy(probabilities, labels):
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


def test_an_epoch_of_steps_reports_and_counts_them(lessons, tmp_path):
    seen = []
    changes = {"steps_per_epoch": 5, "epochs": 2}
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, on_progress=seen.append, **changes)
    steps = [(now["epoch"], now["step"], now["steps"]) for now in seen if now["phase"] == "training"]
    assert steps == [(epoch, step, 5) for epoch in (1, 2) for step in range(1, 6)]
    assert run.history()["epoch"].tolist() == [1, 2]


def test_three_steps_an_epoch_are_one_pass_of_three_batches(lessons, tmp_path):
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, steps_per_epoch=3)
    columns = ["loss", "accuracy", "val_loss", "val_accuracy"]
    whole = lessons.trained(tiny_scratch)
    np.testing.assert_allclose(run.history()[columns], whole.history()[columns], rtol=0, atol=1e-6)


def test_part_of_the_validation_pictures_gives_the_figures_and_all_are_predicted(lessons, tmp_path):
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, validation_steps=1, seed=4)
    labels = lessons.dataset().labels("validation")
    found = probabilities(run, "validation")
    assert len(found) == len(labels) == 14
    rows = validation_rows(14, 8, 1, seed=4)
    assert len(rows) == 8
    assert run.metrics["val_loss"] == pytest.approx(cross_entropy(found[rows], labels[rows]), abs=1e-4)
    assert run.metrics["val_accuracy"] == pytest.approx((found[rows].argmax(axis=1) == labels[rows]).mean(), abs=1e-6)
    assert cross_entropy(found, labels) != pytest.approx(run.metrics["val_loss"], abs=1e-4)


def test_test_loss_is_what_keras_evaluates_also_where_outputs_are_0_or_1(lessons, tmp_path):
    dataset = lessons.dataset()
    run = api.train(tiny_features, dataset, runs=tmp_path, optimizer="adam", learning_rate=10, epochs=1)
    labels, found = dataset.labels("test"), probabilities(run, "test")
    assert found[np.arange(len(labels)), labels].min() < 1e-7, "sure and wrong"
    model = keras.saving.load_model(run.path / "model.keras", compile=False)
    compile_with(model, None)
    images = np.float32(pixels(dataset, "test", tiny_features.image_size, "bilinear", False))
    assert run.metrics["test_loss"] == pytest.approx(model.evaluate(images, labels, verbose=0)[0], rel=1e-3)
    if keras.config.backend() == "tensorflow":  # which does not clip
        assert run.metrics["test_loss"] > cross_entropy(np.clip(found, 1e-7, 1), labels) + 1


def test_both_phases_are_validated_on_the_pictures_that_the_run_itself_says(lessons, tmp_path, monkeypatch):
    asked = []

    def noted(*options):
        asked.append(options)
        return validation_rows(*options)

    monkeypatch.setattr("cvcore.training.validation_rows", noted)
    recipe = tiny_finetune.with_changes(validation_steps=1, epochs=1, starts_from={"epochs": 1, "batch_size": 9})
    assert recipe.starts_from.validation_steps is None
    assert api.train(recipe, lessons.dataset(), runs=tmp_path, seed=4).status == "done"
    assert asked == [(14, 8, 1, 4)] * 2


def test_mean_image_of_a_run_is_that_of_its_training_and_validation_pictures(lessons):
    run = lessons.trained(tiny_greys, "three")
    model = keras.saving.load_model(run.path / "model.keras", compile=False, safe_mode=True)
    seen = [pixels(lessons.dataset("three"), split, 32, "bilinear", False, color_mode="grayscale")
            for split in ("train", "validation")]  # fmt: skip
    expected = (np.concatenate(seen).astype(np.float64) / 255).mean(axis=0)
    assert expected.shape == (32, 32, 1) and expected.std() > 0.01
    found = np.array(model.get_layer("mean_image").get_config()["mean"])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert model.count_params() == run.metrics["parameters"]["trainable"]


def test_greys_are_not_the_colour_pictures(lessons):
    colour = pixels(lessons.dataset("three"), "test", 32, "bilinear", False)
    greys = pixels(lessons.dataset("three"), "test", 32, "bilinear", False, color_mode="grayscale")
    assert colour.shape[1:] == (32, 32, 3) and greys.shape[1:] == (32, 32, 1)
    assert lessons.trained(tiny_greys, "three").status == "done"


@pytest.mark.parametrize("recipe", [tiny_features, tiny_scratch, tiny_finetune], ids=lambda recipe: recipe.id)
def test_test_preprocessing_changes_the_test_figures_and_nothing_else(recipe, lessons):
    # The bundled base was trained on pixels 0..1: here the test pictures stay 0..255.
    plain = lessons.trained(recipe)
    run = lessons.trained(recipe.with_changes(test_preprocessing="none"))
    columns = ["loss", "accuracy", "val_loss", "val_accuracy"]
    np.testing.assert_allclose(run.history()[columns], plain.history()[columns], rtol=0, atol=1e-6)
    np.testing.assert_allclose(probabilities(run, "validation"), probabilities(plain, "validation"), atol=1e-5)
    assert np.abs(probabilities(run, "test") - probabilities(plain, "test")).max() > 1e-3
    assert run.metrics["test_loss"] != pytest.approx(plain.metrics["test_loss"], abs=1e-3)
    # The saved model is the one that was trained: it takes pixels as the training pictures were.
    model = keras.saving.load_model(run.path / "model.keras", compile=False, safe_mode=True)
    images = np.asarray(pixels(lessons.dataset(), "test", 32, "bilinear", False), np.float32)
    second = keras.ops.convert_to_numpy(model(images, training=False))[:, 0]
    np.testing.assert_allclose(second, probabilities(plain, "test")[:, 1], atol=2e-5)
    # And with the test pictures' own pixels it says what the run says.
    second = keras.ops.convert_to_numpy(model(images * 255, training=False))[:, 0]
    np.testing.assert_allclose(second, probabilities(run, "test")[:, 1], atol=2e-4)


@pytest.mark.parametrize(("rows", "status"), [(1, "failed"), (0, "done")])
def test_resumed_run_keeps_its_weights_once_it_has_trained_on_them(rows, status, lessons, tmp_path, monkeypatch):
    recipe = tiny_features.with_changes(epochs=2)
    monkeypatch.setattr(stored_epochs, "LONGEST", 1)  # told of every step

    def stop_soon(now):
        if now["phase"] == "head" and (now["epoch"], now["step"]) == (1 + rows, 1):
            request_stop(list_runs(tmp_path)[0])

    run = api.train(recipe, lessons.dataset(), runs=tmp_path, on_progress=stop_soon)
    assert run.status == "stopped" and len(run.history()) == rows
    other = tmp_path / "other.weights.h5"
    build(tiny_features, 2).base.save_weights(other)
    monkeypatch.setattr(base_weights, "BUNDLED", other)
    resumed = api.resume(run)
    assert resumed.status == status
    assert ("is not the doodle_base.weights.h5 that this run began with" in str(resumed.info["error"])) == bool(rows)


def test_batch_norm_statistics_of_the_head_are_those_of_the_best_epoch(lessons):
    run = lessons.trained(tiny_features_softmax)
    model = keras.saving.load_model(run.path / "model.keras", compile=False, safe_mode=True)
    norm = model.get_layer("dense1_norm")
    assert np.abs(keras.ops.convert_to_numpy(norm.moving_mean)).max() > 0  # zeros before the first step
    parameters = run.metrics["parameters"]
    assert parameters["trainable"] == 128 * 6 + 6 + 2 * 6 + 6 * 2 + 2
    assert parameters["frozen"] == 362_896 + 2 * 6


def test_fine_tuning_a_base_with_random_weights(lessons, tmp_path):
    recipe = tiny_finetune.with_changes(weights="random", epochs=1, starts_from={"epochs": 1})
    run = api.train(recipe, lessons.dataset(), runs=tmp_path)
    assert run.status == "done" and run.info["weights"]["origin"] == "random"
    start = api.train(recipe.starts_from, lessons.dataset(), runs=tmp_path)
    again = api.train(recipe, lessons.dataset(), runs=tmp_path, from_run=start.id)
    assert again.status == "done" and len(again.history()) == 1


def test_run_says_in_which_precision_it_was_computed_and_leaves_keras_as_it_was(lessons, tmp_path):
    run = api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, mixed_precision=True, epochs=1)
    kind = run.info["device"]["kind"]
    assert run.info["device"]["precision"] == "float32" or kind == "GPU"
    assert run.info["device"]["precision"] in load_run(run.id, tmp_path).log()
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"views": 2, "unfreeze_from": "block1_conv1"}, "below block1_conv1 there are none"),
        ({"unfreeze_from": "block9_conv1"}, "block9_conv1"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused_before_there_is_a_run(changes, sentence, lessons, tmp_path):
    with pytest.raises(InvalidRecipe, match=sentence):
        api.train(tiny_finetune, lessons.dataset(), runs=tmp_path, **changes)
    assert not list_runs(tmp_path)
