"""The exported script of every recipe that is published or of the lesson has the app's losses, on tiny pictures."""

from pathlib import Path

import numpy as np
import pytest
from outside import Outside, check_equal, write_pictures

import cvcore
from cvcore.published import PUBLISHED, RECIPES

# All runs are trained, and repeated, before the first test: a busy machine takes its time over them.
pytestmark = pytest.mark.timeout(1800)
LESSON = ("doodle-scratch", "doodle-augmented", "doodle-features", "doodle-finetune")
# A fine-tuning run begins with all that the recipe it starts from says: that one needs no run of its own.
STARTS = {RECIPES[name].starts_from.id for name in (*PUBLISHED, *LESSON) if RECIPES[name].starts_from}
TRAINED = [name for name in (*PUBLISHED, *LESSON) if name not in STARTS]


def write_digits(folder: Path) -> Path:
    """Write noisy squares as mnist.npz, ten of each digit and one of each to test."""
    arrays = {}
    for part, count in (("train", 100), ("test", 10)):
        labels = np.arange(count) % 10
        noise = np.random.default_rng(count).integers(0, 60, (count, 28, 28))
        arrays |= {f"x_{part}": (noise + 20 * labels[:, None, None]).astype("uint8"), f"y_{part}": labels}
    np.savez(folder / "mnist.npz", **arrays)
    return folder / "mnist.npz"


def tiny(recipe, **more):
    """Make a recipe small: all that it says, but for sizes and the weights of a base that is not here."""
    sizes = {"epochs": 1, "batch_size": 4, **more}
    sizes |= {"steps_per_epoch": 4} if recipe.steps_per_epoch else {}
    sizes |= {"validation_steps": 1} if recipe.validation_steps else {}
    if recipe.strategy in ("scratch", "augmented"):
        smallest = 28 if recipe.dataset == "mnist" else 78 if len(recipe.filters) == 5 else 48
        return recipe.with_changes(image_size=smallest, **sizes)
    smallest = 71 if recipe.base == "Xception" else 32
    if recipe.starts_from:
        sizes["starts_from"] = tiny(recipe.starts_from)
    return recipe.with_changes(image_size=smallest, weights="random", **sizes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("recipes")
    tested = write_pictures(tmp / "tested", ("cat", "dog"), {"train": 5, "validation": 3, "test": 3})
    untested = write_pictures(tmp / "untested", ("cat", "dog"), {"train": 5, "validation": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVCORE_CACHE", str(tmp / "cache"))
        folders = {"cats-and-dogs-filtered": untested, "mnist": write_digits(tmp)}
        outside = Outside(tmp / "outside", save=False)
        for name in TRAINED:
            recipe = RECIPES[name]
            data = folders.get(str(recipe.dataset), tested)
            outside.repeat(name, cvcore.train(tiny(recipe), data, seed=3, runs=tmp / "runs"), data)
        outside.finish()
    return outside.done


@pytest.mark.parametrize("name", TRAINED)
def test_script_of_a_recipe_has_the_apps_losses(runs, name):
    """To 1e-4 and not only to within the spread of seeds, because a script carries the app's one warp."""
    run, home = runs[name]
    check_equal(run, home)
    assert len(run.history()) == (2 if RECIPES[name].starts_from else 1)
    assert run.strategy == RECIPES[name].strategy


def test_there_are_eighteen_published_recipes():
    assert len(PUBLISHED) == 18
