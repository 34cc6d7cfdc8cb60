"""Everything a recipe can ask for is in its exported script, with the app's figures in every epoch."""

import ast
import math
import shutil
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from outside import Outside, check_equal, figures, write_pictures

import cvcore
from cvcore import devices
from cvcore.code_export import standalone_script
from cvcore.recipe import make_recipe
from cvcore.schedules import SCHEDULES

# All runs are trained, and repeated, before the first test: a busy machine takes its time over them.
pytestmark = pytest.mark.timeout(1800)
PLAIN = make_recipe(
    id="plain", strategy="scratch", image_size=28, filters=(4,), dense=(8,), optimizer="sgd", learning_rate=0.05,
    batch_size=4, epochs=3,
)  # fmt: skip
GREYS = PLAIN.with_changes(
    id="greys", color_mode="grayscale", interpolation="nearest", preprocessing="mean_image", dense_batch_norm=True,
    dense_dropout=0.3, classifier_activation="softmax", momentum=0.9, nesterov=True, learning_rate_decay=0.2,
    steps_per_epoch=4, validation_steps=1, csv_logger=True, model_checkpoint="val_accuracy",
)  # fmt: skip
# With one validation picture a class val_accuracy rises twice at most: on any machine something happens soon.
WATCHED = PLAIN.with_changes(
    id="watched", epochs=12, reduce_lr_patience=1, reduce_lr_factor=0.2, reduce_lr_monitor="val_accuracy",
    early_stopping_patience=2, early_stopping_monitor="val_accuracy",
)  # fmt: skip
SCHEDULED = PLAIN.with_changes(
    id="scheduled", learning_rate_schedule="cosine", tensorboard=bool(find_spec("tensorboard"))
)
# A layer that draws must have the place that it has in the app.
UNCHANGING = PLAIN.with_changes(
    id="unchanging", strategy="augmented", augmentation={"fill_mode": "wrap"}, dropout=0.5, epochs=2
)
MIXED = PLAIN.with_changes(
    id="mixed", strategy="augmented", augmentation={"horizontal_flip": True, "rotation": 10}, mixed_precision=True,
)  # fmt: skip
NOTE = make_recipe(
    id="note", strategy="features", image_size=32, base="doodle-base", weights="random", preprocessing="none",
    test_preprocessing="base", pooling="average", dense=(4,), dense_activation="linear", dense_batch_norm=True,
    classifier_activation="softmax",
    cached=True, optimizer="adam", batch_size=4, epochs=2, steps_per_epoch=2,
)  # fmt: skip
# It says for both phases on which pictures they are validated.
TUNED = NOTE.then(id="tuned", epochs=1, learning_rate=1e-4, test_preprocessing="rescale", batch_size=3,
                  validation_steps=1, augmentation={"horizontal_flip": True}, steps_per_epoch=4,
                  csv_logger=True)  # fmt: skip
FEWER = PLAIN.with_changes(id="fewer", train_pictures=7, preprocessing="mean_image")
FEWER_TUNED = NOTE.with_changes(train_pictures=5, steps_per_epoch=None).then(id="fewer-tuned", epochs=1)
RECIPES = {recipe.id: recipe for recipe in (
    PLAIN, GREYS, WATCHED, SCHEDULED, UNCHANGING, MIXED, NOTE, TUNED, FEWER, FEWER_TUNED
)}  # fmt: skip


def pretended_precision(wanted):
    import keras

    name = "mixed_bfloat16" if wanted else "float32"
    keras.config.set_dtype_policy(name)
    return name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("features")
    many = write_pictures(tmp / "many", ("cat", "dog"), {"train": 5, "validation": 4})
    shutil.copytree(many / "validation", many / "test")
    one = write_pictures(tmp / "one", ("cat", "dog"), {"train": 5, "validation": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVCORE_CACHE", str(tmp / "cache"))
        outside = Outside(tmp / "outside")
        for name, recipe in RECIPES.items():
            data = one if recipe is WATCHED else many
            outside.repeat(name, cvcore.train(recipe, data, seed=2, runs=tmp / "runs"), data)
        # As on a GPU that is good at it; a CPU computes the same, only slowly.
        patch.setattr(devices, "set_precision", pretended_precision)
        try:
            run = cvcore.train(MIXED, many, seed=2, runs=tmp / "runs")
        finally:
            pretended_precision(False)
        outside.repeat("bfloat16", run, many, replace="if good_at_bfloat16()=>if True")
        outside.finish()
    return outside.done


@pytest.mark.parametrize("name", [*RECIPES, "bfloat16"])
def test_script_has_the_apps_figures(runs, name):
    check_equal(*runs[name])


def test_greys_lose_the_mean_image_of_training_and_validation_pictures(runs):
    run, home = runs["greys"]
    import keras

    ours, theirs = (
        keras.saving.load_model(path, compile=False) for path in (home / "code.keras", run.path / "model.keras")
    )
    mean, expected = (np.asarray(model.get_layer("mean_image").mean) for model in (ours, theirs))
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    assert mean.shape == (1, 28, 28, 1) and 0.2 < mean.mean() < 0.8
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert ours.count_params() == theirs.count_params()


def test_an_epoch_takes_its_steps_from_passes_that_go_on(runs):
    """Four steps an epoch and three a pass: the second epoch is no second pass."""
    losses = [epoch["loss"] for epoch in figures(runs["greys"][1])[0]]
    assert len(losses) == 3
    code = (runs["greys"][1] / "code.py").read_text()
    names = run_part(code, "epoch_seed", "Batches", "Stream", SEED=2)
    stream = names["Stream"](np.arange(10)[:, None], np.arange(10), 4, steps=4)
    seen = []
    for epoch in (1, 2, 3):
        stream.shuffle(epoch)
        seen += [label for index in range(len(stream)) for label in stream[index][1]]
    assert len(seen) == 40 and [sorted(seen[start : start + 10]) for start in (0, 10, 20, 30)] == [[*range(10)]] * 4
    assert seen[:10] != seen[10:20]


def test_pipeline_of_a_script_is_not_tuned_and_gives_the_batches_in_their_order():
    """What is let go waits for its tuner, up to a minute and with Python's lock held."""
    import keras

    if keras.config.backend() != "tensorflow":
        pytest.skip("the other backends take batches as they are")
    names = run_part(standalone_script(info_of(PLAIN)), "epoch_seed", "Batches", "pipeline", SEED=2)
    batches = names["Batches"](np.arange(10)[:, None], np.arange(10), 4)
    made = names["pipeline"](batches)
    for epoch in (1, 2):
        batches.shuffle(epoch)
        seen = list(made)
        assert [label for _, labels in seen for label in np.asarray(labels)] == batches.order.tolist()
        assert all(np.array_equal(inputs[:, 0], labels) and inputs.dtype == "float32" for inputs, labels in seen)
    assert len(made) == 3 and made.options().autotune.enabled is False


@pytest.mark.parametrize("recipe", [PLAIN, GREYS, NOTE, FEWER_TUNED], ids=lambda recipe: recipe.id)
def test_keras_is_given_batches_by_such_a_pipeline_only(recipe):
    tree = ast.parse(standalone_script(info_of(recipe)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)
             and getattr(node.func, "attr", None) in ("fit", "evaluate", "predict")]  # fmt: skip
    given = [value for call in calls for value in
             (*call.args, *(word.value for word in call.keywords if word.arg == "validation_data"))]  # fmt: skip
    assert len(given) >= 2 and all(value.func.id == "pipeline" for value in given)


def test_fewer_training_pictures_are_those_of_the_run(runs):
    home = runs["fewer"][1]
    assert "train: 7 of them are trained on" in (home / "printed.txt").read_text()
    losses = [figures(runs[name][1])[0][0]["loss"] for name in ("plain", "fewer")]
    assert abs(losses[0] - losses[1]) > 1e-3
    assert "train_pictures" not in (home / "code.py").read_text()


def test_csv_log_and_checkpoint_are_those_of_the_run(runs):
    run, home = runs["greys"]
    ours, theirs = (pd.read_csv(folder / "csv_log-training.csv") for folder in (home, run.path))
    assert list(ours) == list(theirs) and len(ours) == 3
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    import keras

    weights = [keras.saving.load_model(folder / "checkpoint-training.keras", compile=False).get_weights()
               for folder in (home, run.path)]  # fmt: skip
    for mine, apps in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, apps, atol=1e-4)
    for name in ("csv_log-head.csv", "csv_log-fine-tuning.csv"):
        assert (runs["tuned"][1] / name).exists() == (runs["tuned"][0].path / name).exists() == ("fine" in name)


def test_what_is_watched_lowers_the_rate_and_ends_the_run(runs):
    """What the comparison of figures covers only as long as it is so."""
    history = runs["watched"][0].history()
    assert len(history) < WATCHED.epochs
    assert history["learning_rate"].nunique() > 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_of_a_script_is_the_apps(name):
    names = run_part(standalone_script(info_of(PLAIN.with_changes(learning_rate_schedule=name))), name)
    rates = [names[name](epoch, 25, 0.1) for epoch in range(25)]
    assert rates == [SCHEDULES[name](epoch, 25, 0.1) for epoch in range(25)] and len(set(rates)) > 1


def test_schedule_and_decay_change_the_rate(runs):
    assert runs["scheduled"][0].history()["learning_rate"].nunique() == 3
    assert runs["greys"][0].history()["learning_rate"].nunique() == 3


@pytest.mark.skipif(not SCHEDULED.tensorboard, reason="the tensorboard package is not installed")
def test_tensorboard_logs_are_written(runs):
    assert list((runs["scheduled"][1] / "tensorboard" / "training").rglob("events.out.*"))


@pytest.mark.parametrize("name, same", [("plain", True), ("note", False), ("tuned", False)])
def test_only_test_pictures_are_preprocessed_otherwise(runs, name, same):
    """The test pictures are the validation pictures once more."""
    code, final = (runs[name][1] / "code.py").read_text(), figures(runs[name][1])[1]
    assert ("The source's bug, kept on purpose" in code) != same
    assert (abs(final["test_loss"] - final["val_loss"]) < 1e-4) == same


def test_a_script_tells_the_same_pixels_under_two_names_from_other_pixels():
    info = info_of(NOTE)
    info["dataset"]["counts"]["test"] = {"cat": 9, "dog": 9}
    for base, how, other in (("VGG16", "none", True), ("VGG16", "base", False), ("EfficientNetV2B0", "none", False)):
        info["recipe"] = NOTE.with_changes(base=base, preprocessing=how).model_dump(mode="json")
        assert ("test_extractor" in standalone_script(info)) == other


def test_mixed_precision_is_for_gpus_that_are_good_at_it(runs):
    assert runs["mixed"][0].info["device"]["precision"] == "float32"
    assert runs["bfloat16"][0].info["device"]["precision"] == "mixed_bfloat16"
    ours, theirs = (runs[name][0].history()["loss"] for name in ("mixed", "bfloat16"))
    assert np.abs(ours - theirs).max() > 1e-5


def test_a_script_holds_nothing_that_its_recipe_does_not_ask_for():
    code = standalone_script(info_of(PLAIN))
    for word in ("Stream", "training_rows", "drawn", "mean_image", "bfloat16", "LearningRateScheduler",
                 "ReduceLROnPlateau", "CSVLogger", "TensorBoard", "ModelCheckpoint", "InverseTimeDecay", "softmax",
                 "test_"):  # fmt: skip
        assert word not in code.replace("sparse_", "")
    assert code.count("EarlyStopping") == 1


def info_of(recipe):
    """A run.json without a test split."""
    counts = {split: {"cat": 9, "dog": 9} for split in ("train", "validation")}
    dataset = {"id": "pets", "title": "Pets", "class_names": ["cat", "dog"], "counts": counts}
    return {"run": "r", "recipe": recipe.model_dump(mode="json"), "dataset": dataset, "seed": 0, "from_run": None}


def run_part(code, *wanted, **values):
    """Run the functions and classes of these names alone, and return what they define."""
    import keras

    body = [node for node in ast.parse(code).body if getattr(node, "name", None) in wanted]
    assert len(body) == len(wanted)
    names = {"np": np, "math": math, "keras": keras, **values}
    exec(compile(ast.Module(body, []), "code.py", "exec"), names)
    return names
