"""Every strategy really trained, tiny, and its run directory held to what it claims."""

import json

import keras
import numpy as np
import pytest
from tiny_lessons import (
    tiny_augmented,
    tiny_features,
    tiny_features_augmented,
    tiny_features_softmax,
    tiny_features_views,
    tiny_finetune,
    tiny_finetune_views,
    tiny_greys,
    tiny_scratch,
    write_lesson,
)

from cvcore import api
from cvcore.datasets import pixels
from cvcore.errors import CvcoreError, InvalidRecipe
from cvcore.recipe import make_recipe
from cvcore.run_directory import HISTORY_COLUMNS, list_runs, load_run
from cvcore.statistics import wilson_interval

FILES = ["code.py", "history.csv", "log.txt", "metrics.json", "model.keras", "predictions.csv", "run.json"]
# recipe, dataset, epochs of all phases
STRATEGIES = {
    "scratch": (tiny_scratch, "two", 3),
    "augmented": (tiny_augmented, "two", 4),
    "features cached": (tiny_features, "two", 3),
    "features end to end": (tiny_features_augmented, "two", 2),
    "finetune": (tiny_finetune, "two", 5),
    "features of stored views": (tiny_features_views, "two", 3),
    "finetune on stored views": (tiny_finetune_views, "two", 5),
    "three classes": (tiny_scratch, "three", 3),
    "no test split": (tiny_features, "no-test", 3),
    "softmax of two, batch norm": (tiny_features_softmax, "two", 2),
    "mean image of greys": (tiny_greys, "three", 2),
}


@pytest.fixture(params=STRATEGIES)
def trained(request, lessons):
    recipe, data, epochs = STRATEGIES[request.param]
    return lessons.trained(recipe, data), lessons.dataset(data), epochs


def classes_of(dataset, split):
    return [dataset.class_names[picture.label] for picture in dataset.split(split)]


def test_run_directory_has_exactly_its_files(trained):
    run, _, _ = trained
    assert run.status == "done"
    assert sorted(path.name for path in run.path.iterdir()) == FILES


def test_history_has_a_row_an_epoch(trained):
    run, _, epochs = trained
    history = run.history()
    assert tuple(history.columns) == HISTORY_COLUMNS
    assert history["epoch"].tolist() == list(range(1, epochs + 1))
    assert np.isfinite(history.to_numpy()).all()
    assert history[["accuracy", "val_accuracy"]].to_numpy().min() >= 0
    assert history[["accuracy", "val_accuracy"]].to_numpy().max() <= 1
    assert (history["seconds"] > 0).all()


def test_best_epoch_is_the_one_of_the_lowest_val_loss(trained):
    run, _, epochs = trained
    history, metrics = run.history(), run.metrics
    best = history.loc[history["val_loss"].idxmin()]
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["val_loss"] == best["val_loss"] and metrics["val_accuracy"] == best["val_accuracy"]
    assert metrics["last_val_accuracy"] == history["val_accuracy"].iloc[-1]
    assert metrics["max_val_accuracy"] == history["val_accuracy"].max()
    assert metrics["epochs"] == epochs


def test_predictions_name_every_validation_and_test_picture_once(trained):
    run, dataset, _ = trained
    predictions = run.predictions()
    assert list(predictions.columns) == ["split", "path", "label", "predicted", *dataset.class_names]
    for split in ("validation", "test"):
        rows = predictions[predictions["split"] == split]
        assert rows["path"].tolist() == [picture.path for picture in dataset.split(split)]
        assert rows["label"].tolist() == classes_of(dataset, split)
    assert set(predictions["split"]) <= {"validation", "test"}
    np.testing.assert_allclose(predictions[list(dataset.class_names)].sum(axis=1), 1, atol=1e-5)


def test_metrics_equal_a_recomputation_from_the_predictions(trained):
    run, _, _ = trained
    for split in ("validation", "test"):
        rows = run.predictions().query("split == @split")
        if rows.empty:
            continue
        right = (rows["label"] == rows["predicted"]).sum()
        chosen = [row[row["label"]] for _, row in rows.iterrows()]
        loss = -np.log(np.clip(np.array(chosen, float), 1e-7, 1)).mean()
        if split == "validation":
            assert run.metrics["val_accuracy"] == pytest.approx(right / len(rows), abs=1e-6)
            assert run.metrics["val_loss"] == pytest.approx(loss, abs=1e-4)
        else:
            assert run.metrics["test_accuracy"] == right / len(rows)
            assert run.metrics["test_loss"] == pytest.approx(loss, abs=1e-5)
            assert run.metrics["test_count"] == len(rows)
            assert run.metrics["test_accuracy_interval"] == list(wilson_interval(int(right), len(rows)))


def test_missing_test_split_leaves_the_test_fields_null(lessons):
    run = lessons.trained(tiny_features, "no-test")
    fields = ("test_loss", "test_accuracy", "test_accuracy_interval")
    assert [run.metrics[name] for name in fields] == [None, None, None]
    assert run.metrics["test_count"] == 0
    assert set(run.predictions()["split"]) == {"validation"}
    assert run.summary()["test_accuracy"] is None


def test_saved_model_alone_repeats_the_predictions(trained):
    run, dataset, _ = trained
    model = keras.saving.load_model(run.path / "model.keras", compile=False, safe_mode=True)
    for split in ("validation", "test"):
        rows = run.predictions().query("split == @split")
        if len(rows):
            images = pixels(dataset, split, 32, "bilinear", False, color_mode=run.recipe["color_mode"])
            images = np.asarray(images, np.float32)
            outputs = keras.ops.convert_to_numpy(model(images, training=False))
            two = outputs.shape[1] == 1
            found = np.concatenate([1 - outputs, outputs], axis=1) if two else outputs
            np.testing.assert_allclose(rows[list(dataset.class_names)], found, atol=2e-5)


def test_run_json_says_everything_and_nothing_of_this_machine(trained, lessons):
    run, dataset, _ = trained
    text = (run.path / "run.json").read_text()
    info = json.loads(text)
    names = "schema run status recipe dataset seed versions device attempt process timings peak_memory "
    names += "name owner backend ticket turn requeues estimate group"
    assert set(names.split()) <= set(info)
    assert info["dataset"]["fingerprint"] == dataset.fingerprint and info["dataset"]["counts"] == dataset.counts
    assert info["process"] is None and info["attempt"] == 1 and info["error"] is None
    assert info["turn"] >= 1 and info["requeues"] == 0 and run.owner is run.backend is run.ticket is None
    assert info["peak_memory"] > 100 and info["timings"]["total"] > 0
    for name in FILES[:4] + FILES[5:]:
        assert str(lessons.runs.parent) not in (run.path / name).read_text(), name


def test_recipe_of_a_run_is_read_back_from_its_run_json(trained):
    run, _, _ = trained
    recipe = make_recipe(**json.loads((run.path / "run.json").read_text())["recipe"])
    assert recipe.model_dump(mode="json") == run.recipe
    assert recipe.id.startswith("tiny-")


def test_three_classes_end_in_a_softmax(lessons):
    model = keras.saving.load_model(lessons.trained(tiny_scratch, "three").path / "model.keras", compile=False)
    assert model.output_shape == (None, 3)
    assert model.layers[-1].activation is keras.activations.softmax


def test_parameters_of_a_run_are_those_of_its_last_phase(lessons):
    # 4 and 8 filters on 32 px: 32 -> 30 -> 15 -> 13 -> 6, flattened 6 * 6 * 8 = 288, then 8 units, then one.
    scratch = 3 * 9 * 4 + 4 + 4 * 9 * 8 + 8 + 288 * 8 + 8 + 8 + 1
    assert lessons.trained(tiny_scratch).metrics["parameters"] == {"total": scratch, "trainable": scratch, "frozen": 0}
    head = lessons.trained(tiny_features).metrics["parameters"]
    assert head["trainable"] == 128 + 1 and head["frozen"] == head["total"] - 129
    tuned = lessons.trained(tiny_finetune).metrics["parameters"]
    assert tuned["total"] == head["total"] and tuned["trainable"] > head["trainable"]


def test_same_seed_repeats_a_run_and_another_seed_does_not(lessons, tmp_path):
    first = lessons.trained(tiny_augmented)
    again = api.train(tiny_augmented, lessons.dataset(), runs=tmp_path)
    other = lessons.trained(tiny_augmented, seed=1)
    columns = ["loss", "accuracy", "val_loss", "val_accuracy"]
    np.testing.assert_allclose(again.history()[columns], first.history()[columns], rtol=0, atol=1e-6)
    assert again.predictions().equals(first.predictions())
    assert np.abs(other.history()["loss"] - first.history()["loss"]).min() > 1e-4


def test_features_are_stored_once_and_used_again_by_another_seed(lessons):
    lessons.trained(tiny_features)
    stored = {path: path.stat().st_mtime_ns for path in (lessons.cache / "activations").glob("*.npy")}
    assert len(stored) >= 2
    phases = []
    api.train(tiny_features, lessons.dataset(), seed=5, runs=lessons.runs,
              on_progress=lambda now: phases.append(now["phase"]))  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in (lessons.cache / "activations").glob("*.npy")} == stored
    assert not [phase for phase in phases if phase.startswith("features")]


def test_only_the_top_of_the_base_changes_in_fine_tuning(lessons):
    start = lessons.trained(tiny_features)
    run = lessons.trained(tiny_finetune, from_run=start.id)
    models = [keras.saving.load_model(one.path / "model.keras") for one in (start, run)]
    before, after = (
        {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.get_layer("doodle_base").weights}
        for model in models
    )
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert {path.split("/")[-2] for path in changed} <= {"block4_conv1", "block4_conv2"}
    assert run.metrics["best_epoch"] is not None and run.info["from_run"] == start.id


def test_finetune_from_a_run_has_only_its_own_epochs_and_begins_where_that_run_was_best(lessons, tmp_path):
    start = lessons.trained(tiny_features)
    still = tiny_finetune.with_changes(augmentation=None, epochs=1, optimizer="sgd", learning_rate=1e-30)
    run = api.train(still, lessons.dataset(), from_run=start.id, runs=start.path.parent)
    history = run.history()
    assert history["epoch"].tolist() == [1]
    assert history["val_loss"].iloc[0] == pytest.approx(start.metrics["val_loss"], abs=1e-5)


def test_fine_tuning_begins_from_the_best_epoch_of_the_head(lessons, tmp_path):
    # The training labels are the wrong way round, so that every epoch of the head is worse on the validation pictures.
    train = write_lesson(tmp_path / "swapped") / "train"
    for old, new in (("bars", "kept"), ("discs", "bars"), ("kept", "discs")):
        (train / old).rename(train / new)
    head = {"learning_rate": 0.02, "epochs": 3, "dropout": 0.0}
    still = {"epochs": 1, "optimizer": "sgd", "learning_rate": 1e-30, "augmentation": None, "dropout": 0.0}
    run = api.train(tiny_finetune.with_changes(**still, starts_from=head), tmp_path / "swapped", runs=tmp_path / "runs")
    val_loss = run.history()["val_loss"].tolist()
    assert val_loss[2] > val_loss[0] + 0.02
    assert val_loss[3] == pytest.approx(min(val_loss[:3]), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"image_size": 40}, "differs from recipe tiny-finetune in image_size"),
     ({"dense": (4,)}, "differs from recipe tiny-finetune in dense")],
)  # fmt: skip
def test_finetune_does_not_continue_a_run_of_another_network(lessons, changes, sentence):
    start = lessons.trained(tiny_features)
    with pytest.raises(InvalidRecipe, match=sentence):
        api.train(tiny_finetune.with_changes(**changes), lessons.dataset(), from_run=start.id, runs=lessons.runs)


def test_finetune_does_not_continue_a_run_on_other_pictures(lessons):
    start = lessons.trained(tiny_features, "no-test")
    before = {run.id for run in list_runs(lessons.runs)}
    with pytest.raises(InvalidRecipe, match="the same pictures and splits"):
        api.train(tiny_finetune, lessons.dataset(), from_run=start.id, runs=lessons.runs)
    with pytest.raises(InvalidRecipe, match="only a finetune recipe continues a saved run"):
        api.train(tiny_scratch, lessons.dataset(), from_run=start.id, runs=lessons.runs)
    scratch = lessons.trained(tiny_scratch)
    with pytest.raises(InvalidRecipe, match="continues a finished features run"):
        api.train(tiny_finetune, lessons.dataset(), from_run=scratch.id, runs=lessons.runs)
    assert {run.id for run in list_runs(lessons.runs)} - before <= {scratch.id}


def test_batch_larger_than_the_training_split_is_refused_before_a_run_is_made(lessons, tmp_path):
    with pytest.raises(InvalidRecipe, match=r"at most the number of training pictures \(18\); received 19"):
        api.train(tiny_scratch, lessons.dataset(), batch_size=19, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_loss_that_is_no_number_fails_with_a_sentence_that_names_the_rate(lessons, tmp_path):
    recipe = tiny_scratch.with_changes(optimizer="sgd", learning_rate=10, epochs=30, preprocessing="none")
    with pytest.raises(CvcoreError, match=r"no longer a finite number in epoch .*lower learning_rate than 10"):
        api.train(recipe, lessons.dataset(), runs=tmp_path)
    (run,) = list_runs(tmp_path)
    assert run.status == "failed" and "finite" in run.error
    assert np.isfinite(run.history().to_numpy()).all()


def test_unfreezing_a_layer_that_is_not_there_names_those_that_are(lessons, tmp_path):
    with pytest.raises(CvcoreError, match=r"received 'block9'; its last layers: .*block4_conv2"):
        api.train(tiny_finetune.with_changes(unfreeze_from="block9"), lessons.dataset(), runs=tmp_path)


def test_weights_file_that_no_base_would_use_is_refused(lessons, tmp_path):
    file = tmp_path / "some.weights.h5"
    file.write_bytes(b"x")
    with pytest.raises(CvcoreError, match="tiny-scratch starts from random weights"):
        api.train(tiny_scratch, lessons.dataset(), weights=file, runs=tmp_path / "runs")
    with pytest.raises(CvcoreError, match=r"must exist; received .*absent"):
        api.train(tiny_features, lessons.dataset(), weights=tmp_path / "absent", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_wrong_weights_file_fails_with_one_sentence_without_a_path(lessons, tmp_path):
    file = tmp_path / "some.weights.h5"
    file.write_text("this is no HDF5 file")
    with pytest.raises(CvcoreError, match=r"weights file some\.weights\.h5 does not fit doodle-base") as caught:
        api.train(tiny_features, lessons.dataset(), weights=file, runs=tmp_path / "runs")
    assert str(lessons.cache) not in str(caught.value) and "\n" not in str(caught.value)
    (run,) = list_runs(tmp_path / "runs")
    assert run.status == "failed"


def test_progress_counts_every_batch_of_every_epoch(lessons, tmp_path):
    seen = []
    api.train(tiny_scratch, lessons.dataset(), runs=tmp_path, epochs=2, on_progress=seen.append)
    training = [(now["epoch"], now["step"], now["steps"]) for now in seen if now["phase"] == "training"]
    assert training == [(1, 1, 3), (1, 2, 3), (1, 3, 3), (2, 1, 3), (2, 2, 3), (2, 3, 3)]
    assert all(now["epochs"] == 2 for now in seen)
    left = [now["seconds_left"] for now in seen if now["phase"] == "training"]
    assert left[0] is None  # the first step compiles the network and says nothing about the others
    assert all(seconds >= 0 for seconds in left[1:])


def test_notebook_verbs_find_the_run_again(lessons):
    import cvcore

    run = lessons.trained(tiny_scratch)
    assert run.id in [one.id for one in cvcore.runs()]
    assert cvcore.load(run.id).metrics == cvcore.load(run).metrics == load_run(run.id).metrics
