"""Every published recipe really trained, on a handful of pictures; its base, where it has one, has random weights.

What is made smaller than published is in `tiny`, and nothing else: the pictures' number and so the batch size, epochs
and steps. Each keeps its image_size but in the resume tests, where its network takes about the smallest that it can.
"""

import shutil

import numpy as np
import pytest
from PIL import Image

from cvcore import api
from cvcore.bases import BASES
from cvcore.datasets import open_dataset
from cvcore.published import PUBLISHED, get_recipe
from cvcore.run_directory import list_runs, load_run, request_stop

TRAINING = ("training", "head", "fine-tuning")  # progress of other kinds has other names


def write_pictures(root, classes, splits):
    """Write noisy pictures whose class is their brightness, root/split/class/number.png, 40 x 30 pixels."""
    for place, (split, count) in enumerate(splits.items()):
        for label in range(classes):
            folder = root / split / f"class-{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                noise = np.random.default_rng([place, label, number]).integers(0, 120, (30, 40, 3))
                Image.fromarray((noise + 130 * label // (classes - 1)).astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.fixture
def pictures(folder, tmp_path, monkeypatch):
    """Datasets by number of classes; with ten there are enough for the published batch size of 64."""
    monkeypatch.setenv("CVCORE_CACHE", str(folder / "cache"))
    # Stored features are computed in chunks of 32 pictures, filled up: too long for three of 224 pixels.
    monkeypatch.setattr("cvcore.extraction.CHUNK", 2)
    if not (folder / "two").exists():
        write_pictures(folder / "two", 2, {"train": 3, "validation": 2, "test": 1})
        write_pictures(folder / "ten", 10, {"train": 7, "validation": 1, "test": 1})
    yield {2: open_dataset(folder / "two"), 10: open_dataset(folder / "ten")}
    shutil.rmtree(tmp_path)  # models of 60 MB each


def classes_of(name):
    return 10 if name == "exercise-mnist" else 2


def tiny(name, pictures, epochs=1, **changes):
    """Make a published recipe small enough; a finetune recipe's head is trained for one epoch."""
    recipe = get_recipe(name)
    few = len(pictures[classes_of(name)].split("train"))

    def smaller(recipe):
        return {
            "batch_size": min(recipe.batch_size, few),
            "steps_per_epoch": recipe.steps_per_epoch and 2,
            "validation_steps": recipe.validation_steps and 1,
        }

    if recipe.base:
        changes |= {"weights": "random"}
    if recipe.starts_from:
        changes |= {"starts_from": {**smaller(recipe.starts_from), "epochs": 1}}
    return recipe.with_changes(**smaller(recipe), epochs=epochs, **changes)


def smallest(name):
    recipe = get_recipe(name)
    if recipe.base:
        return BASES[recipe.base].min_image_size
    return {2: 28, 4: 48, 5: 78}[len(recipe.filters)]


def figures(run):
    return run.history().drop(columns="seconds").to_numpy()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe_trains_and_predicts_every_picture(name, pictures, tmp_path):
    recipe, dataset = tiny(name, pictures), pictures[classes_of(name)]
    assert recipe.image_size == get_recipe(name).image_size
    run = api.train(recipe, dataset, runs=tmp_path)
    assert run.status == "done"
    assert np.isfinite(figures(run)).all() and len(run.history()) == (2 if recipe.starts_from else 1)
    assert run.history()["learning_rate"].iloc[-1] == pytest.approx(recipe.learning_rate, rel=1e-5)
    predictions = run.predictions()
    for split in ("validation", "test"):
        rows = predictions[predictions["split"] == split]
        assert rows["path"].tolist() == [picture.path for picture in dataset.split(split)]
        np.testing.assert_allclose(rows[list(dataset.class_names)].sum(axis=1), 1, atol=1e-5)
    assert run.metrics["test_count"] == len(dataset.split("test"))
    assert (run.info.get("weights") or {}).get("origin") == ("random" if recipe.base else None)
    assert run.info["device"]["precision"] == "float32" or recipe.mixed_precision


# One of each kind of training; the optimizers are RMSprop, momentum with a decaying rate, and Adam.
RESUMED = (
    "exercise-mnist",
    "exercise-augmented",
    "lecture-features",
    "lecture-features-augmented",
    "lecture-finetune",
)


def test_resumed_are_recipes_of_every_strategy_and_optimizer():
    every, resumed = ([get_recipe(name) for name in names] for names in (PUBLISHED, RESUMED))
    for kind in (lambda recipe: (recipe.strategy, recipe.cached), lambda recipe: recipe.optimizer):
        assert {kind(recipe) for recipe in resumed} == {kind(recipe) for recipe in every}


@pytest.mark.parametrize("name", RESUMED)
def test_published_recipe_stopped_and_resumed_is_as_if_never_stopped(name, pictures, tmp_path):
    recipe, dataset = tiny(name, pictures, epochs=2, image_size=smallest(name)), pictures[classes_of(name)]
    whole = api.train(recipe, dataset, seed=3, runs=tmp_path / "whole")
    last = len(whole.history())
    assert last == (3 if recipe.starts_from else 2)

    def stop_before_the_last_epoch(now):
        if now["phase"] in TRAINING and (now["epoch"], now["step"]) == (last - 1, now["steps"]):
            request_stop(list_runs(tmp_path / "cut")[0])

    run = api.train(recipe, dataset, seed=3, runs=tmp_path / "cut", on_progress=stop_before_the_last_epoch)
    assert run.status == "stopped" and len(run.history()) == last - 1
    resumed = api.resume(load_run(run.id, tmp_path / "cut"))
    assert resumed.status == "done"
    np.testing.assert_allclose(figures(resumed), figures(whole), rtol=1e-5, atol=1e-6)
    assert resumed.metrics["best_epoch"] == whole.metrics["best_epoch"]
    columns = list(dataset.class_names)
    assert resumed.predictions()["path"].equals(whole.predictions()["path"])
    np.testing.assert_allclose(resumed.predictions()[columns], whole.predictions()[columns], atol=1e-5)
