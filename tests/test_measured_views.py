"""What pages say of stored views: their setting, their meaning, what runs measured of them, and that Compare warns."""

import json

import pytest
from handmade_runs import DATASET, write_run
from pages_drawn import draw, sound, words

from cvcore import choices, comparison
from cvcore.augmentation import AugmentationPolicy
from cvcore.identical import identical_run
from cvcore.measured_views import measured_views
from cvcore.published import RECIPES
from cvcore.run_directory import list_runs, load_run

NAME = "mobilenet-features-augmented"
FRESH = RECIPES[NAME]
STORED = FRESH.with_changes(views=4)
PHOTOGRAPHS = {**DATASET, "title": "Photographs", "fingerprint": "e" * 64}


def write(folder, views, accuracies, **more):
    """Write runs of a frozen base with augmentation, a seed each, that ended with these validation accuracies."""
    for seed, accuracy in enumerate(accuracies):
        changes = {"views": views, **more.get("changes", {})}
        run_id = write_run(folder, NAME, seed=seed, **{"dataset": PHOTOGRAPHS, **more, "changes": changes})
        path = folder / run_id / "metrics.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "val_accuracy": accuracy}))


def test_the_mean_of_the_seeds_that_both_have_is_told(tmp_path):
    write(tmp_path, 0, [0.90, 0.94, 0.92, 0.10])
    write(tmp_path, 4, [0.89, 0.91, 0.90])
    found = measured_views(STORED, PHOTOGRAPHS["fingerprint"], list_runs(tmp_path))
    assert (found.title, found.views, found.seeds, len(found.runs)) == ("Photographs", 4, 3, 6)
    assert (found.recipe, found.base) == (NAME, "MobileNetV2")
    assert (found.stored, found.fresh, found.worse) == (pytest.approx(0.90), pytest.approx(0.92), True)
    assert found.in_words() == (
        "validation accuracy 90.0% with 4 stored views, 92.0% changed anew in every epoch (3 seeds)"
    )


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_that_were_worse_warn_of_nothing(tmp_path, seeds):
    write(tmp_path, 0, [0.95] * seeds)
    write(tmp_path, 4, [0.85] * seeds)
    found = measured_views(STORED, PHOTOGRAPHS["fingerprint"], list_runs(tmp_path))
    assert (found.seeds, found.worse) == (seeds, False)


def test_runs_on_the_same_pictures_come_first_then_as_many_views(tmp_path):
    write(tmp_path, 0, [0.90])
    write(tmp_path, 8, [0.85])
    write(tmp_path, 0, [0.80], dataset=DATASET)
    write(tmp_path, 4, [0.79], dataset=DATASET)
    runs = list_runs(tmp_path)
    assert measured_views(STORED, PHOTOGRAPHS["fingerprint"], runs).views == 8
    drawings = measured_views(STORED, DATASET["fingerprint"], runs)
    assert (drawings.title, drawings.worse) == (DATASET["title"], False)
    assert measured_views(STORED, "another", runs).views == 4


@pytest.mark.parametrize("more", [{"changes": {"dropout": 0.1}}, {"dataset": DATASET}, {"from_run": "r"}])
def test_runs_that_differ_in_more_than_their_views_tell_nothing(tmp_path, more):
    write(tmp_path, 0, [0.90])
    write(tmp_path, 4, [0.80], **more)
    assert measured_views(STORED, PHOTOGRAPHS["fingerprint"], list_runs(tmp_path)) is None


def test_views_are_for_augmentation_before_a_base():
    flipped, unchanged = AugmentationPolicy(horizontal_flip=True), AugmentationPolicy()
    cached = RECIPES["mobilenet-features"]
    assert choices.views_possible(FRESH, None) and choices.views_possible(cached, flipped)
    assert not choices.views_possible(cached, None) and not choices.views_possible(FRESH, unchanged)
    assert not choices.views_possible(RECIPES["doodle-augmented"], None)
    assert choices.with_choices(cached, flipped, views=2).views == 2


def test_a_run_with_other_views_is_another_run(tmp_path):
    write(tmp_path, 0, [0.90])
    runs = list_runs(tmp_path)
    recipe = FRESH.with_changes(epochs=6)
    assert identical_run(recipe, PHOTOGRAPHS, 0, None, runs) is not None
    assert identical_run(recipe.with_changes(views=4), PHOTOGRAPHS, 0, None, runs) is None


def test_compare_warns_of_stored_views_beside_fresh_ones_and_labels_tell_them_apart(tmp_path):
    write(tmp_path, 0, [0.90])
    write(tmp_path, 4, [0.91])
    runs = list_runs(tmp_path)
    said = "\n".join(comparison.cautions(runs))
    assert (
        "Features · 4 views: trained on 4 stored views of each training picture, the same again every 4 epochs" in said
    )
    assert "Pictures changed anew in every epoch, or another number of views, are another training." in said
    assert set(comparison.run_labels(runs).values()) == {"Features · 0 views", "Features · 4 views"}
    assert {"views"} == {row["setting"] for row in comparison.differences(runs)}
    write_run(tmp_path, "doodle-augmented")  # which has no frozen layers
    convnet, stored = list_runs(tmp_path)[-1], next(run for run in runs if run.recipe["views"])
    assert "stored views" not in "\n".join(comparison.cautions([convnet, stored]))
    assert all("stored views" not in caution for run in runs for caution in comparison.cautions([run]))


def test_the_warning_of_stored_views_counts_passes_where_an_epoch_is_none(tmp_path):
    write(tmp_path, 0, [0.90])
    write_run(tmp_path, NAME, changes={"views": 4, "steps_per_epoch": 2})
    said = "\n".join(comparison.cautions(list_runs(tmp_path)))
    assert "the same again every 4 passes, in half precision" in said


@pytest.mark.usefixtures("drawings")
def test_the_train_page_sets_views_where_a_recipe_augments_before_a_base(runs, monkeypatch):
    launched = []
    monkeypatch.setattr("cvcore.launching.launch", lambda *args, **_: launched.append(args) or load_run(stored, runs))
    write(runs, 0, [0.97] * 3, dataset=PHOTOGRAPHS)
    write(runs, 4, [0.95] * 3, dataset=PHOTOGRAPHS)
    stored = list_runs(runs)[0].id
    key = f"train_views_{NAME}"
    page = draw("train", run=stored)
    assert "Trained on 4 stored views of each training picture, the same again every 4 epochs" in words(page)
    page.segmented_control(key="train_strategy").set_value("features").run()
    assert not [field for field in page.number_input if str(field.key).startswith("train_views_")]
    (option,) = [option for option in page.selectbox(key="train_recipe").options if option.endswith(f"({NAME})")]
    page.selectbox(key="train_recipe").select(option).run()
    assert "changed anew in every epoch" in words(page) and "cost accuracy" not in words(page)
    assert "quicker" not in words(page) and "slow" not in words(page)
    page.number_input(key=key).set_value(4).run()
    assert sound(page)
    assert "Trains on 4 stored views of each training picture, the same again every 4 epochs" in words(page)
    said = words(page).replace("\\", "")
    assert f"cost accuracy there.] Measured with {NAME} (MobileNetV2) on Photographs: validation accuracy 95.0%" in said
    assert "passes over the pictures" not in said
    page.number_input(key=key).set_value(64).run()
    assert "Its 10 passes over the pictures take 10 of the 64 views: the others are not computed." in words(page)
    page.number_input(key=key).set_value(4).run()
    page.button(key="train_launch").click().run()
    assert launched[0][0] == STORED
