import pytest
from handmade_runs import DATASET, write_run

from cvcore import choices, devices
from cvcore.augmentation import AugmentationPolicy
from cvcore.errors import InvalidRecipe
from cvcore.published import RECIPES, get_recipe
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


def test_without_a_strategy_every_recipe_is_offered_once():
    offered = [recipe.id for recipe in choices.recipes_for(None, "cats-and-dogs-small", False)]
    assert sorted(offered) == sorted(RECIPES)
    assert offered[0] == "chollet1-scratch"
    assert set(offered[-5:]) == {"exercise-mnist", *(name for name in RECIPES if name.startswith("doodle-"))}
    assert choices.recipes_for(None, "mnist", False)[0].id == "exercise-mnist"


def rows(*names, available=True):
    return [{"id": name, "available": available} for name in names]


@pytest.mark.parametrize(
    ("chosen", "here", "expected"),
    [
        ("cats-vs-dogs-small", True, "Written for these pictures."),
        ("own", True, "Written for `cats-vs-dogs-small`, which is here: choose it"),
        ("own", False, "which is not here: `python -m cvcore make-small"),
    ],
)
def test_a_recipe_names_its_own_pictures(chosen, here, expected):
    known = [*rows("cats-vs-dogs-small", available=here), *rows("own")]
    (row,) = [row for row in known if row["id"] == chosen]
    assert expected in choices.own_pictures(get_recipe("chollet2-scratch"), row, known)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_s_pictures_can_be_had_in_a_way_that_is_told(name):
    recipe = get_recipe(name)
    told = choices.own_pictures(recipe, {"id": "own"}, rows("doodle-pets"))
    assert f"`{recipe.dataset}`" in told
    assert any(way in told for way in ("which is here", "the Dataset page downloads it", "cvcore make-small"))


def test_each_schedule_has_a_line_on_what_it_does():
    told = choices.schedules()
    assert list(told) == [None, "step", "exponential", "cosine"]
    assert told["step"] == "Halve the rate after every ten epochs."


@pytest.mark.parametrize("name", RECIPES)
def test_the_switch_offers_only_what_a_recipe_takes_and_its_own_setting(name):
    recipe = get_recipe(name)
    offered = choices.preprocessings_for_test(recipe)
    assert recipe.test_preprocessing in offered and recipe.preprocessing not in offered
    assert (len(offered) > 1) == (recipe.base is not None)
    for kind in offered:
        assert choices.with_choices(recipe, test_preprocessing=kind).test_preprocessing == kind
        assert kind is None or recipe.with_changes(test_preprocessing=kind).tests_other_pixels


@pytest.mark.parametrize(
    ("names", "words", "expected"),
    [
        (["NVIDIA H200"], "NVIDIA H200", "NVIDIA H200"),
        (["NVIDIA H200"], "AMD EPYC (2 cores); NVIDIA H200 is not used: start with make run-gpu", None),
        ([], "AMD EPYC (2 cores)", None),
    ],
)
def test_a_gpu_is_named_only_where_it_is_trained_on(monkeypatch, names, words, expected):
    monkeypatch.setattr(devices, "gpu_names", lambda: names)
    monkeypatch.setattr(devices, "device_in_words", lambda: words)
    monkeypatch.setattr(devices, "available_cores", lambda: 1)
    found = choices.gpu.__wrapped__()
    assert found == expected
    monkeypatch.setattr(choices, "gpu", lambda: found)
    assert choices.device_in_words() == (expected or "CPU, 1 core")


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


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"rotation": 999}', '{"spin": 1}', "[" * 50_000])
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
    [
        ("epochs", (1, 1000)),
        ("batch_size", (1, 4096)),
        ("learning_rate", (0.0, 10.0)),
        ("dropout", (0.0, 0.9)),
        ("steps_per_epoch", (1, 100_000)),
        ("early_stopping_patience", (1, None)),
        ("reduce_lr_factor", (0.0, 1.0)),
    ],
)
def test_limits_of_a_setting_are_those_of_the_recipe(name, expected):
    assert choices.limits(name) == expected
    assert [type(limit) for limit in choices.limits(name)] == [type(limit) for limit in expected]
