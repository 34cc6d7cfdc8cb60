"""Compare with published figures: what it opens on, the verdicts, the table over recipes, ten classes."""

import json
import re

import pandas as pd
import pytest
from handmade_runs import write_reference_runs, write_run
from pages_drawn import draw, sound, words
from photograph_runs import photographs, write_photograph_run

import shell
from panels import compare_panels


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
    # of one more run: 2.776445 * 0.032795 * sqrt(6 / 5) = 0.09974
    assert ("74.0% published (validation, last epoch; saturates at 70 to 75%): our 95% t interval over 5 seeds, "
            "62.9 to 71.1%, lies below it; a single run of ours would lie in 57.0 to 77.0%."
            ) in words(page)  # fmt: skip
    assert "a single run, such as the published one, varies more" in words(page)
    assert "exercise-scratch, published by: Neurocomputing exercise" in words(page).replace("**", "")
    assert "Nothing is published for recipes of this project: Features, Fine-tuned." in words(page)


def test_overview_keeps_the_lesson_on_drawings(recorded):
    shown = [metric.value for metric in draw("overview").metric if metric.label == "Test accuracy"]
    assert shown == ["74.3%", "81.7%", "89.6%", "93.1%"]


def test_the_table_over_recipes_states_published_ours_seeds_interval_and_its_name(recorded):
    rows = published_table(draw("compare")).to_dict("records")
    first, train = rows[:2]
    assert first["Recipe"] == "exercise-scratch" and first["Published"] == "74.0%"
    assert (first["Ours"], first["Seeds"], first["95% interval"]) == ("67.0 ± 3.3%", 5, "62.9 to 71.1%")
    assert (first["Interval by"], first["Our interval"]) == ("t over 5 seeds", "lies below it")
    assert first["A single run of ours"] == "57.0 to 77.0%"
    assert (train["Published"], train["Of"], train["Seeds"]) == ("95.9%", "train, last epoch", 5)
    ours = {row["Recipe"]: row for row in rows if row["Source"] == "this project"}
    assert pd.isna(ours["mobilenet-features"]["Published"])
    assert ours["mobilenet-features"]["Interval by"] == "Wilson for 1 run, 1,000 pictures"


def test_the_table_says_that_our_test_is_at_the_lowest_validation_loss_whatever_the_source_s(runs):
    write_photograph_run(runs, "exercise-mnist", tested=True, test_accuracy=0.9917, test_count=10000)
    (row,) = published_table(draw("compare")).to_dict("records")
    assert row["Of"] == "test, last epoch; ours: lowest validation loss"
    assert (row["Published"], row["Ours"], row["Our interval"]) == ("99.14%", "99.17%", "covers it")


def test_runs_on_other_pictures_of_the_same_name_do_not_count(recorded, runs):
    other = photographs("cats-and-dogs-filtered", fingerprint="f" * 64)
    own = write_photograph_run(runs, seed=1, run_id="20270101T000000Z-a-0001", dataset=other, last_val_accuracy=0.1)
    page = draw("compare", runs=[own])
    assert "it was trained on other pictures of the same name" in words(page)
    assert published_table(page).to_dict("records")[0]["Ours"] == "67.0 ± 3.3%"


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
    assert "our 95%" not in words(page)
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


def test_imported_runs_alone_promise_no_interval_and_name_no_pictures(runs):
    dataset = {"id": "not known", "title": "not known", "fingerprint": None, "counts": {}}
    write_photograph_run(runs, dataset=dataset, imported=True)
    page = draw("compare")
    assert sound(page)
    assert "With 95 of 100" not in words(page) and "A bar is of" not in words(page) and "All on" not in words(page)


def test_a_name_that_an_owner_gave_is_shown_as_it_is(runs):
    one = write_run(runs, "doodle-features", name="<b>Mia</b> :red[1]")
    page = draw("compare", runs=[one, write_run(runs, "doodle-scratch")])
    assert sound(page) and "Features · <b>Mia</b> :red[1]" in page.multiselect[0].options
    assert "Features · <b>Mia</b> :red[1]" in words(page)
    chart = page.get("plotly_chart")[0]
    assert "&lt;b&gt;Mia" in chart.proto.spec and "<b>Mia" not in chart.proto.spec


def everything(page):
    charts = [(chart.proto.spec, chart.proto.alt) for chart in page.get("plotly_chart")]
    tables = [table.value.to_csv() for table in (*page.dataframe, *page.table)]
    return words(page), charts, tables, [button.label for button in page.get("download_button")]


def test_the_next_visitor_sees_what_the_first_one_saw(recorded):
    first = draw("compare")
    assert sound(first) and len(first.get("plotly_chart")) == 2
    assert everything(draw("compare")) == everything(first)


def test_what_has_changed_since_the_last_visitor_is_drawn_anew(runs):
    run_id = write_run(runs, "doodle-scratch", epochs=3)
    before = everything(draw("compare"))
    with (runs / run_id / "history.csv").open("a") as history:
        history.write("4,0.1,0.99,0.2,0.98,0.001,1.0\n")
    (_, (curves, _), _, _), (_, (earlier, _), _, _) = everything(draw("compare")), before
    assert curves != earlier and "at epoch 4 training 99.0%, validation 98.0%" in curves[1]
    path = runs / run_id / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "test_accuracy": 0.5}))
    shell.forget_runs()
    page = draw("compare")
    assert page.dataframe[0].value["test_accuracy"].item() == 50.0 and everything(page) != before


def test_labels_that_read_the_same_leave_what_differs_its_columns(runs):
    dataset = {"id": "not known", "title": "not known", "fingerprint": None, "counts": {}}
    ids = [write_photograph_run(runs, dataset=dataset, imported=True, run_id=f"20260101T00000{n}Z-a-same",
                                changes={"title": "foo", "dropout": n / 10}) for n in (1, 2)]  # fmt: skip
    page = draw("compare", runs=ids)
    assert sound(page) and len(set(page.table[0].value.columns)) == 2


def test_text_in_the_csv_file_is_no_formula():
    table = pd.DataFrame({"label": ["=1+1", "+a", "-b", "@c", "plain"], "number": [-1.5, 2, None, 4, 5]})
    lines = compare_panels.csv_text(table).splitlines()
    assert lines == ["label,number", "'=1+1,-1.5", "'+a,2.0", "'-b,", "'@c,4.0", "plain,5.0"]


def test_why_runs_are_held_against_nothing_is_one_sentence_each_or_one_of_many():
    held = compare_panels.held_against_none
    assert held(["A", "B"], " of x", "its recipe was changed") == [
        f"{name} is held against no published figure of x: its recipe was changed." for name in "AB"]  # fmt: skip
    assert held([str(n) for n in range(100)], "", "it is imported") == [
        "0, 1, 2 and 97 more are held against no published figure, each because it is imported."]  # fmt: skip


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
    assert options[:4] == ["Every run", *(f"Every run of {name}" for name in (
        "chollet2-scratch", "exercise-scratch", "mobilenet-features"))]  # fmt: skip
    assert len(set(options)) == 34 + 4 and max(map(len, options)) < 60
    assert "From scratch · exercise-scratch · seed 7" in options


def test_more_runs_than_can_be_told_apart_are_drawn_as_kinds_and_chosen_at_once(runs):
    for seed in range(9):
        write_run(runs, "doodle-features", seed=seed)
        write_photograph_run(runs, seed=seed)
    page = draw("compare", runs="all")
    assert sound(page) and page.multiselect[0].value == ["all"] and len(page.dataframe[0].value) == 18
    said = words(page)
    assert (
        "18 runs in 2 kinds. A bold line is the mean validation of the runs with the same settings and pictures" in said
    )
    assert "thin lines are the validation of each run." in said and "Run ids:" not in said
    curves, dots = (chart.proto.alt for chart in page.get("plotly_chart"))
    assert "Features, 9 runs: at their last epochs" in curves and "Features 89.6% (9 runs" in dots
    assert page.table[0].value.loc["seed", "values"].startswith(r"0 \(2\)")
    page.multiselect[0].set_value(["recipe:doodle-features"]).run()
    assert page.query_params["runs"] in ("recipe:doodle-features", ["recipe:doodle-features"])
    assert list(page.dataframe[0].value["run"]) == [
        run_id for run_id in sorted(path.name for path in runs.iterdir()) if "doodle-features" in run_id]  # fmt: skip


def test_a_name_that_an_owner_gave_is_never_that_of_a_choice_of_many(runs):
    for seed in range(5):
        run_id = write_run(runs, "doodle-features", seed=seed, name=None if seed else "Every run")
        path = runs / run_id / "run.json"
        info = json.loads(path.read_text())
        path.write_text(json.dumps({**info, "recipe": {**info["recipe"], "strategy": "none known"}}))
    options = draw("compare").multiselect[0].options
    assert options.count("Every run") == 1 and len(set(options)) == len(options)
