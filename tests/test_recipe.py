"""The recipe's rules: each sentence states the rule and what was received."""

import json

import pytest
from tiny_lessons import tiny_augmented, tiny_features, tiny_finetune, tiny_scratch

from cvcore.augmentation import AugmentationPolicy
from cvcore.bases import BASES
from cvcore.errors import InvalidRecipe
from cvcore.published import RECIPES, get_recipe
from cvcore.recipe import SHARED_WITH_START, STRATEGIES, Recipe, make_recipe, other_test_pixels
from cvcore.run_writer import create_run

ANY = {
    "scratch": tiny_scratch,
    "augmented": tiny_augmented,
    "features": tiny_features,
    "finetune": tiny_finetune,
}


@pytest.mark.parametrize(
    ("strategy", "changes", "sentence"),
    [
        ("scratch", {"image_size": 0}, "image_size must be at least 16; received 0"),
        ("scratch", {"image_size": 2000}, "image_size must be at most 1024; received 2000"),
        ("scratch", {"image_size": 32.5}, "image_size must be a whole number; received 32.5"),
        ("scratch", {"image_size": "big"}, "image_size must be a whole number; received 'big'"),
        ("scratch", {"learning_rate": -1}, "learning_rate must be greater than 0; received -1"),
        ("scratch", {"learning_rate": 0}, "learning_rate must be greater than 0; received 0"),
        ("scratch", {"learning_rate": 11}, "learning_rate must be at most 10; received 11"),
        ("scratch", {"learning_rate": float("nan")}, "learning_rate must be a finite number; received nan"),
        ("scratch", {"learning_rate": "fast"}, "learning_rate must be a number; received 'fast'"),
        ("scratch", {"epochs": 0}, "epochs must be at least 1; received 0"),
        ("scratch", {"epochs": None}, "epochs must be a whole number; received None"),
        ("scratch", {"batch_size": 0}, "batch_size must be at least 1; received 0"),
        ("scratch", {"dropout": 0.95}, "dropout must be at most 0.9; received 0.95"),
        ("scratch", {"momentum": 2}, "momentum must be at most 1; received 2"),
        ("scratch", {"optimizer": "lion"}, "optimizer must be one of 'rmsprop', 'adam' or 'sgd'; received 'lion'"),
        ("scratch", {"interpolation": "cubic"},
         "interpolation must be one of 'bilinear' or 'nearest'; received 'cubic'"),
        ("scratch", {"strategy": "magic"},
         "strategy must be one of 'scratch', 'augmented', 'features' or 'finetune'; received 'magic'"),
        ("scratch", {"interpolation": "nearest", "antialias": True},
         "antialias averages over pixels: it needs interpolation 'bilinear'; received 'nearest'"),
        ("scratch", {"nesterov": "perhaps"}, "nesterov must be true or false; received 'perhaps'"),
        ("scratch", {"early_stopping_patience": 0}, "early_stopping_patience must be at least 1; received 0"),
        ("scratch", {"filters": 3}, "filters must be a list; received 3"),
        ("scratch", {"filters": ()}, "filters must name at least one convolution; received none"),
        ("scratch", {"filters": (4, 0)}, "filters and dense must be between 1 and 4096; received 0"),
        ("scratch", {"dense": (5000,)}, "filters and dense must be between 1 and 4096; received 5000"),
        ("scratch", {"pools": 3}, "pools must be at most 2 (one a convolution); received 3"),
        ("scratch", {"base": "VGG16"}, "a scratch recipe trains its own convnet: base must be left out"),
        ("scratch", {"preprocessing": "base"}, "preprocessing 'base' needs a base; use 'rescale' for a convnet"),
        ("scratch", {"alpha": 0.5}, "alpha belongs to MobileNetV2; received 0.5 for a convnet"),
        ("scratch", {"augmentation": {"rotation": 5}},
         "a scratch recipe has no augmentation; use the strategy 'augmented'"),
        ("scratch", {"cached": True}, "cached is for features recipes: others train the base"),
        ("features", {"cached": False, "views": -1}, "views must be at least 0; received -1"),
        *((strategy, {"views": 4, **more}, "a base, cached false and an augmentation; received views 4 without one of "
           "these") for strategy, more in (
               ("scratch", {}), ("augmented", {}), ("features", {}), ("features", {"cached": False}),
               ("finetune", {"augmentation": {}}), ("finetune", {"augmentation": None}))),
        ("scratch", {"starts_from": tiny_features}, "starts_from is for finetune recipes; this one is scratch"),
        ("scratch", {"unfreeze_from": "x"}, "unfreeze_from is for finetune recipes; this one is scratch"),
        ("augmented", {"augmentation": None}, "an augmented recipe needs an augmentation"),
        ("features", {"filters": (4,)}, "filters belong to a convnet from scratch; a features recipe has a base"),
        ("features", {"base": None}, "received None"),
        ("features", {"base": "AlexNet"}, "received 'AlexNet'"),
        ("features", {"base": ["VGG16"]}, "base must be text; received ['VGG16']"),
        ("features", {"base": "Xception"}, "image_size must be at least 71 for Xception; received 32"),
        ("features", {"base": "MobileNetV2", "alpha": 0.4},
         "alpha must be one of (0.35, 0.5, 0.75, 1.0, 1.3, 1.4); received 0.4"),
        ("features", {"augmentation": {"rotation": 5}}, "set cached to false to train end to end with augmentation"),
        ("finetune", {"cached": True}, "cached is for features recipes: others train the base"),
        ("finetune", {"unfreeze_from": None}, "a finetune recipe needs unfreeze_from, the first base layer to train"),
        ("finetune", {"starts_from": tiny_scratch},
         "a finetune recipe needs starts_from, the features recipe it continues"),
        ("finetune", {"starts_from": 5}, "starts_from must be a features recipe or changes to it; received 5"),
        ("finetune", {"starts_from": {"dropout": 0.5}},
         "a finetune recipe and its starts_from must have the same dropout"),
    ],
)  # fmt: skip
def test_rule_is_stated_with_what_was_received(strategy, changes, sentence):
    with pytest.raises(InvalidRecipe) as caught:
        ANY[strategy].with_changes(**changes)
    assert str(caught.value).endswith(sentence)
    assert "\n" not in str(caught.value)


def test_missing_fields_are_named():
    with pytest.raises(InvalidRecipe, match=r"^id must be given$"):
        make_recipe(strategy="scratch", filters=(4,))


@pytest.mark.parametrize("name", ["", "Large", "../x", "a b", "-x", "x" * 50])
def test_id_is_of_small_letters_digits_and_hyphens(name):
    with pytest.raises(InvalidRecipe, match=r"^id must match "):
        tiny_scratch.with_changes(id=name)


@pytest.mark.parametrize("make", [tiny_scratch.with_changes, tiny_features.then, make_recipe])
def test_unknown_keys_name_the_known_ones(make):
    with pytest.raises(InvalidRecipe) as caught:
        make(lr=0.1, epoch=3)
    assert str(caught.value) == f"unknown recipe keys ['epoch', 'lr']; known: {sorted(Recipe.model_fields)}"


def test_unknown_keys_within_a_recipe_are_named_too():
    with pytest.raises(InvalidRecipe, match=r"unknown recipe keys \['lr'\]"):
        tiny_finetune.with_changes(starts_from={"lr": 1})
    with pytest.raises(InvalidRecipe, match=r"unknown augmentation keys \['spin'\]; known: .*rotation"):
        tiny_augmented.with_changes(augmentation={"spin": 1})


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(Exception, match="frozen"):
        tiny_scratch.epochs = 5


def test_with_changes_leaves_the_rest_and_the_original_alone():
    changed = tiny_augmented.with_changes(epochs=7, augmentation={"rotation": 5})
    assert (changed.epochs, changed.augmentation) == (7, AugmentationPolicy(rotation=5))
    assert changed.model_dump(exclude={"epochs", "augmentation"}) == tiny_augmented.model_dump(
        exclude={"epochs", "augmentation"}
    )
    assert tiny_augmented.epochs == 4


def test_then_continues_a_features_recipe_and_states_its_difference():
    tuned = tiny_features.with_changes(augmentation=None, cached=True).then(id="t", learning_rate=1e-5, epochs=4)
    assert (tuned.strategy, tuned.cached, tuned.learning_rate, tuned.epochs) == ("finetune", False, 1e-5, 4)
    assert tuned.starts_from == tiny_features and tuned.starts_from.epochs == 3
    assert tuned.unfreeze_from == BASES["doodle-base"].unfreeze_from


def test_then_of_a_recipe_without_a_base_is_refused_in_a_sentence():
    with pytest.raises(InvalidRecipe, match="only a features recipe is continued; tiny-scratch is scratch"):
        tiny_scratch.then(id="x")


@pytest.mark.parametrize("name", [name for name in SHARED_WITH_START if name not in ("base", "alpha", "color_mode")])
def test_what_a_finetune_recipe_shares_with_its_start_changes_in_both(name):
    other = {"dataset": "mine", "image_size": 64, "interpolation": "nearest", "antialias": True, "weights": "random",
             "preprocessing": "none", "pooling": "flatten", "dense": (5,), "dense_activation": "linear", "dropout": 0.4,
             "dense_dropout": 0.4, "train_pictures": 500, "dense_batch_norm": True, "classifier_activation": "softmax",
             "mixed_precision": True}  # fmt: skip
    changed = tiny_finetune.with_changes(**{name: other[name]})
    assert getattr(changed, name) == getattr(changed.starts_from, name) == other[name]


def test_what_it_does_not_share_changes_in_one():
    changed = tiny_finetune.with_changes(epochs=9, starts_from={"epochs": 8, "learning_rate": 0.5})
    assert (changed.epochs, changed.starts_from.epochs, changed.starts_from.learning_rate) == (9, 8, 0.5)
    assert changed.learning_rate == tiny_finetune.learning_rate


def test_another_base_brings_its_own_first_layer_and_alpha():
    changed = tiny_finetune.with_changes(base="MobileNetV2", alpha=0.35)
    assert (changed.unfreeze_from, changed.alpha, changed.starts_from.alpha) == ("block_14_expand", 0.35, 0.35)
    back = changed.with_changes(base="VGG16")
    assert (back.unfreeze_from, back.alpha, back.starts_from.base) == ("block5_conv1", 1.0, "VGG16")
    assert changed.with_changes(base="VGG16", unfreeze_from="block4_conv1").unfreeze_from == "block4_conv1"


@pytest.mark.parametrize("name", RECIPES)
def test_published_recipe_is_valid_and_survives_a_run_json(name, tmp_path):
    recipe = RECIPES[name]
    assert recipe.id == name and recipe.title and recipe.strategy in STRATEGIES
    run = create_run(recipe, {"id": "x"}, 0, folder=tmp_path)
    stored = json.loads((run.path / "run.json").read_text())["recipe"]
    assert make_recipe(**stored) == recipe
    assert run.id.endswith(run.id[-4:]) and name in run.id


def test_there_is_a_recipe_of_each_strategy_for_drawings_and_photographs():
    found = {(recipe.strategy, recipe.dataset) for recipe in RECIPES.values()}
    assert {(strategy, "doodle-pets") for strategy in STRATEGIES} <= found
    assert {("features", "cats-and-dogs-filtered"), ("finetune", "cats-and-dogs-filtered")} <= found


def test_mobilenet_features_is_what_the_lesson_says():
    recipe = get_recipe("mobilenet-features")
    assert (recipe.base, recipe.alpha, recipe.image_size, recipe.pooling) == ("MobileNetV2", 0.35, 224, "average")
    assert (recipe.dropout, recipe.dense, recipe.optimizer, recipe.learning_rate) == (0.5, (), "adam", 1e-3)


@pytest.mark.parametrize(
    ("base", "trained", "tested", "others"),
    [
        ("VGG16", "none", "base", True), ("VGG16", "base", "base", False), ("VGG16", "base", None, False),
        ("doodle-base", "base", "rescale", False), ("doodle-base", "rescale", "base", False),
        ("EfficientNetV2B0", "none", "base", False), ("EfficientNetV2B0", "rescale", "base", True),
    ],
)  # fmt: skip
def test_other_pixels_are_those_that_come_out_otherwise(base, trained, tested, others):
    recipe = tiny_features.with_changes(base=base, preprocessing=trained, test_preprocessing=tested)
    assert recipe.tests_other_pixels is other_test_pixels(recipe.model_dump(mode="json")) is others
    assert not other_test_pixels({})


def test_unknown_recipe_name_lists_those_there_are():
    with pytest.raises(InvalidRecipe, match="no recipe 'doodle'; recipes: doodle-scratch, doodle-augmented"):
        get_recipe("doodle")


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_seed_out_of_range_leaves_nothing_on_disk(tmp_path, seed):
    with pytest.raises(Exception, match=f"seed must be between 0 and 2147483647; received {seed}"):
        create_run(tiny_scratch, {"id": "x"}, seed, folder=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
