"""Compare with published figures: what it opens on, the verdicts, the table over recipes, ten classes."""

import re

import pandas as pd
import pytest
from handmade_runs import write_reference_runs, write_run
from pages_drawn import draw, sound, words
from photograph_runs import photographs, write_photograph_run


@pytest.fixture
def recorded(runs):
    """Recorded runs: the lesson's, five seeds of exercise-scratch, two base runs."""
    write_reference_runs(runs)
    values = {1: 0.670, 2: 0.621, 3: 0.705, 4: 0.660, 5: 0.694}
    ids = [
        write_photograph_run(runs, seed=seed, reference=True, last_val_accuracy=value, last_accuracy=0.96)
        for seed, value in values.items()
    ]
    ids.append(write_photograph_run(runs, "mobilenet-features", reference=True, last_val_accuracy=0.974))
    ids.append(write_photograph_run(runs, "mobilenet-finetune", reference=True, from_run=ids[-1]))
    return ids


def published_table(page):
    return page.dataframe[1].value


def test_compare_opens_on_the_recorded_photographs_and_says_what_the_intervals_cover(recorded):
    page = draw("compare")
    assert sound(page)
    assert page.multiselect[0].value == [recorded[0], recorded[5], recorded[6]]
    # mean 0.67, deviation 0.032795, t(0.975, 4) = 2.776445: half = 2.776445 * 0.032795 / sqrt(5) = 0.04072
    assert ("74.0 % published (validation, last epoch; saturates at 70 to 75 %): our 95 % t interval over 5 seeds, "
            "62.9 to 71.1 %, does not cover it and lies below.") in words(page)  # fmt: skip
    assert "exercise-scratch, published by: Neurocomputing exercise" in words(page).replace("**", "")
    assert "Nothing is published for recipes of this project: Features, Fine-tuned." in words(page)


def test_overview_keeps_the_lesson_on_drawings(recorded):
    shown = [metric.value for metric in draw("overview").metric if metric.label == "Test accuracy"]
    assert shown == ["74.3%", "81.7%", "89.6%", "93.1%"]


def test_the_table_over_recipes_states_published_ours_seeds_interval_and_its_name(recorded):
    rows = published_table(draw("compare")).to_dict("records")
    first, train = rows[:2]
    assert first["Recipe"] == "exercise-scratch" and first["Published"] == "74.0 %"
    assert (first["Ours"], first["Seeds"], first["95% interval"]) == ("67.0 ± 3.3 %", 5, "62.9 to 71.1 %")
    assert (first["Interval by"], first["Covers it"]) == ("t over 5 seeds", "no, below it")
    assert (train["Published"], train["Of"], train["Seeds"]) == ("95.9 %", "train, last epoch", 5)
    ours = {row["Recipe"]: row for row in rows if row["Source"] == "this project"}
    assert pd.isna(ours["mobilenet-features"]["Published"])
    assert ours["mobilenet-features"]["Interval by"] == "Wilson for 1 run, 1,000 pictures"


def test_a_verdict_takes_in_all_seeds_and_not_only_the_chosen_ones(recorded):
    page = draw("compare", runs=recorded[1:3])
    assert "t interval over 5 seeds" in words(page) and "not only those chosen" in words(page)


def test_a_changed_recipe_gets_no_verdict_and_the_page_says_why(runs):
    changed = write_photograph_run(runs, epochs=12)
    elsewhere = write_photograph_run(runs, dataset=photographs("cats-vs-dogs-small"))
    page = draw("compare", runs=[changed, elsewhere])
    assert sound(page)
    assert re.search(r"is held against no published figure of exercise-scratch: its recipe was changed: epochs 12 "
                     "instead of 30", words(page))  # fmt: skip
    assert "trained on cats-vs-dogs-small, not on cats-and-dogs-filtered" in words(page)
    assert "our 95 %" not in words(page)
    assert "No finished run here is of a recipe as it is published" in words(page)


def test_runs_with_and_without_a_test_split_offer_both_accuracies(runs):
    one = write_run(runs, "doodle-features")
    two = write_photograph_run(runs)
    page = draw("compare", runs=[one, two])
    assert sound(page) and page.segmented_control(key="compare_split").value == "test"
    assert sound(draw("compare", runs=[one, two], compare_split="Validation"))


def test_an_imported_run_is_said_to_be_one_and_held_against_nothing(runs):
    dataset = {"id": "not known", "title": "not known", "fingerprint": None, "counts": {}}
    own = write_photograph_run(runs)
    told = write_photograph_run(runs, dataset=dataset, imported=True, seed=2, changes={"title": "From a notebook"})
    page = draw("compare", runs=[own, told])
    assert sound(page)
    assert "From scratch · From a notebook · imported is held against no published figure" in words(page)
    assert "Wilson interval for 1 run" in words(page)


def test_ten_classes_are_compared(runs):
    names = [str(digit) for digit in range(10)]
    counts = {split: dict.fromkeys(names, 60) for split in ("train", "validation", "test")}
    dataset = {"id": "digits", "title": "Ten digits", "fingerprint": "a" * 64, "class_names": names, "counts": counts}
    chosen = [write_run(runs, "doodle-scratch", seed=seed, dataset=dataset) for seed in (1, 2)]
    page = draw("compare", runs=chosen)
    assert sound(page) and list(page.dataframe[0].value["run"]) == chosen


def test_thirty_runs_of_few_recipes_have_different_labels_that_name_recipe_and_seed(runs):
    write_reference_runs(runs)
    for recipe_id in ("exercise-scratch", "chollet2-scratch", "mobilenet-features"):
        for seed in range(1, 11):
            write_photograph_run(runs, recipe_id, seed=seed)
    options = draw("compare").multiselect[0].options
    assert len(set(options)) == 34 and max(map(len, options)) < 60
    assert "From scratch · exercise-scratch · seed 7" in options
