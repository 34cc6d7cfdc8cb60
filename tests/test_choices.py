import pytest
from handmade_runs import DATASET, write_run

from cvcore import choices
from cvcore.augmentation import AugmentationPolicy
from cvcore.errors import InvalidRecipe
from cvcore.published import get_recipe
from cvcore.run_directory import list_runs

POLICY = AugmentationPolicy(rotation=12.5)


def first(strategy, dataset_id, drawn):
    return choices.recipes_for(strategy, dataset_id, drawn)[0].id


def test_the_recipe_written_for_the_dataset_comes_first():
    assert first("features", "doodle-pets", True) == "doodle-features"
    assert first("features", "cats-and-dogs-filtered", False) == "mobilenet-features"


def test_for_own_photographs_no_drawing_recipe_comes_first():
    offered = [recipe.id for recipe in choices.recipes_for("features", "our-pets", False)]
    assert offered[-1] == "doodle-features" and len(offered) > 1


def test_own_drawings_get_the_drawing_recipe():
    assert first("scratch", "our-drawings", True) == "doodle-scratch"


def test_only_recipes_of_the_strategy_are_offered():
    assert {recipe.strategy for recipe in choices.recipes_for("finetune", "doodle-pets", True)} == {"finetune"}


def test_choices_equal_to_the_recipe_change_nothing():
    recipe = get_recipe("doodle-features")
    assert choices.with_choices(recipe, base=recipe.base, epochs=recipe.epochs) is recipe


def test_a_policy_is_carried_verbatim():
    assert choices.with_choices(get_recipe("doodle-augmented"), POLICY).augmentation == POLICY


def test_a_policy_makes_a_features_recipe_train_end_to_end():
    chosen = choices.with_choices(get_recipe("doodle-features"), POLICY)
    assert not chosen.cached and chosen.augmentation == POLICY


def test_a_policy_on_scratch_is_refused():
    with pytest.raises(InvalidRecipe, match="a scratch recipe has no augmentation"):
        choices.with_choices(get_recipe("doodle-scratch"), POLICY)


def test_another_base_brings_its_own_block_to_thaw():
    chosen = choices.with_choices(get_recipe("doodle-finetune"), base="VGG16")
    assert chosen.unfreeze_from == "block5_conv1"


def test_a_policy_survives_its_text():
    assert choices.policy_from_text(POLICY.model_dump_json()) == POLICY
    assert choices.policy_from_text(None) is None


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"rotation": 999}', '{"spin": 1}'])
def test_text_that_is_no_policy_is_refused(text):
    with pytest.raises(InvalidRecipe):
        choices.policy_from_text(text)


def test_only_finished_features_runs_with_a_model_on_the_same_pictures_can_be_continued(tmp_path):
    good = write_run(tmp_path, "doodle-features")
    write_run(tmp_path, "doodle-features", seed=1)  # its model is not there, as in a reference run
    other = write_run(tmp_path, "doodle-features", seed=2, dataset={**DATASET, "fingerprint": "e" * 64})
    scratch = write_run(tmp_path, "doodle-scratch")
    unfinished = write_run(tmp_path, "doodle-features", seed=3, status="stopped")
    for run_id in (good, other, scratch, unfinished):
        (tmp_path / run_id / "model.keras").touch()
    found = choices.runs_to_continue(get_recipe("doodle-finetune"), list_runs(tmp_path), DATASET["fingerprint"])
    assert [run.id for run in found] == [good]
    assert choices.runs_to_continue(get_recipe("doodle-scratch"), list_runs(tmp_path), DATASET["fingerprint"]) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("epochs", (1, 1000)), ("batch_size", (1, 4096)), ("learning_rate", (0.0, 10.0)), ("dropout", (0.0, 0.9))],
)
def test_limits_of_a_setting_are_those_of_the_recipe(name, expected):
    assert choices.limits(name) == expected
    assert [type(limit) for limit in choices.limits(name)] == [type(limit) for limit in expected]
