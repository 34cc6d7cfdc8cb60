"""The accuracy chart with validation accuracies and published marks; that of test accuracies is in test_charts."""

import json

import plotly.graph_objects as go
import pytest
from handmade_runs import write_reference_runs, write_run
from photograph_runs import photographs, write_photograph_run

from cvcore import accuracy_chart, comparison, reproduction
from cvcore.published import PublishedFigure
from cvcore.run_directory import list_runs, load_run


def drawn(folder, split="validation"):
    runs = comparison.in_teaching_order(list_runs(folder))
    marks = reproduction.published_marks(runs, runs)
    rows = comparison.figures(runs)
    chart = accuracy_chart.accuracy_dots(rows, split, marks)
    go.Figure(chart)
    json.dumps(chart, allow_nan=False)
    return chart, accuracy_chart.accuracy_dots_alt(rows, split, marks)


def test_runs_without_a_test_split_are_shown_by_their_last_validation_accuracy_and_the_chart_says_so(tmp_path):
    write_photograph_run(tmp_path, last_val_accuracy=0.743)
    chart, alt = drawn(tmp_path)
    dot = chart["data"][-1]
    assert dot["x"] == [0.743] and "743" not in str(dot["text"])
    assert dot["error_x"]["array"] == [pytest.approx(0.7691 - 0.743, abs=5e-5)]
    assert "743" not in dot["hovertemplate"] and "1,000 validation pictures" in dot["hovertemplate"]
    assert chart["layout"]["title"]["text"] == (
        "Validation accuracy, last epoch<br>with own 95% intervals and published figures"
    )
    assert "95% interval of this run alone: 71.5% to 76.9%" in dot["hovertemplate"]
    assert alt.startswith("Validation accuracy, last epoch, highest first: From scratch 74.3% (95% interval 71.5%")


def test_a_published_figure_is_an_open_diamond_that_says_split_and_epoch(tmp_path):
    write_photograph_run(tmp_path, last_val_accuracy=0.67)
    chart, alt = drawn(tmp_path)
    (mark,) = [trace for trace in chart["data"] if trace["name"] == "published"]
    assert (mark["x"], mark["y"], mark["marker"]["symbol"]) == ([0.74], ["From scratch"], "diamond-open")
    assert mark["text"] == ["published 74.0%"]
    assert "validation, last epoch" in mark["hovertemplate"]
    assert alt.endswith("Published: for From scratch 74.0% (validation, last epoch).")


def test_a_published_range_is_a_thick_line(tmp_path):
    write_photograph_run(tmp_path, "chollet2-augmented", tested=True)
    chart, alt = drawn(tmp_path)
    (mark,) = [trace for trace in chart["data"] if trace["name"] == "published"]
    assert (mark["x"][0], mark["x"][-1], mark["line"]["width"] > 8) == (0.80, 0.85, True)
    assert "published 80 to 85%" in mark["text"] and "80 to 85%" in alt


def test_only_published_figures_of_the_split_shown_are_marked(tmp_path):
    write_photograph_run(tmp_path, "chollet2-scratch", tested=True, test_accuracy=0.7, test_count=2000)
    test, _ = drawn(tmp_path, "test")
    assert [trace["x"] for trace in test["data"] if trace["name"] == "published"] == [[0.695]]
    validation, _ = drawn(tmp_path, "validation")
    assert [trace["x"] for trace in validation["data"] if trace["name"] == "published"] == [[0.75]]


def test_five_seeds_of_a_recipe_say_their_published_figure_once(tmp_path):
    for seed in range(1, 6):
        write_photograph_run(tmp_path, seed=seed)
    chart, alt = drawn(tmp_path)
    marks = [trace for trace in chart["data"] if trace["name"] == "published"]
    assert [mark["mode"] for mark in marks] == ["markers+text"] + ["markers"] * 4
    assert alt.count("74.0%") == 1
    assert [trace["y"][0] for trace in chart["data"][5:]] == [f"From scratch · seed {seed}" for seed in range(1, 6)]


def test_a_published_figure_beyond_all_dots_is_within_the_axis(tmp_path):
    write_photograph_run(tmp_path, last_val_accuracy=0.9)
    rows = comparison.figures(list_runs(tmp_path))
    marks = {rows[0]["run"]: (PublishedFigure("validation", "last", 0.2, 0.2, "20 %"),)}
    chart = accuracy_chart.accuracy_dots(rows, "validation", marks)
    assert chart["layout"]["xaxis"]["range"][0] < 0.2


def test_an_accuracy_on_pictures_nobody_counted_has_no_interval(tmp_path):
    dataset = photographs("cats-and-dogs-filtered", fingerprint=None, counts={})
    write_photograph_run(tmp_path, dataset=dataset, imported=True, last_val_accuracy=0.7)
    chart, alt = drawn(tmp_path)
    assert "error_x" not in chart["data"][0] and chart["data"][0]["x"] == [0.7]
    assert alt.endswith("imported 70.0%.")
    assert chart["layout"]["title"]["text"] == "Validation accuracy, last epoch"
    assert not accuracy_chart.has_intervals(comparison.figures(list_runs(tmp_path)), "validation")


def ten_classes(**changes):
    counts = {"train": 60, "validation": 10, "test": 20}
    names = [str(digit) for digit in range(10)]
    return {"id": "digits", "title": "Ten digits", "fingerprint": "a" * 64, "class_names": names, "drawn": False,
            "counts": {split: dict.fromkeys(names, n) for split, n in counts.items()}, **changes}  # fmt: skip


def test_ten_classes_are_drawn_with_guessing_at_a_tenth(tmp_path):
    write_run(tmp_path, "doodle-scratch", dataset=ten_classes())
    for split in ("test", "validation"):
        chart, _ = drawn(tmp_path, split)
        assert chart["layout"]["annotations"][0]["text"] == "guessing 10%"
    assert comparison.figures(list_runs(tmp_path))[0]["val_count"] == 100


def test_rows_without_any_accuracy_draw_nothing(tmp_path):
    write_run(tmp_path, status="stopped")
    rows = comparison.figures(list_runs(tmp_path))
    assert not accuracy_chart.has_figures(rows, "test") and not accuracy_chart.has_figures(rows, "validation")
    assert accuracy_chart.accuracy_dots(rows, "validation")["data"] == []


def test_opening_is_on_photographs_one_a_strategy_published_recipes_and_low_seeds_first(tmp_path):
    write_reference_runs(tmp_path)
    for seed in (3, 1, 2):
        write_photograph_run(tmp_path, seed=seed, reference=True)
    expected = [run.id for run in list_runs(tmp_path) if run.seed == 1 and run.strategy == "scratch"]
    expected.append(write_photograph_run(tmp_path, "exercise-augmented", reference=True))
    write_photograph_run(tmp_path, "mobilenet-features-augmented", reference=True)
    expected.append(write_photograph_run(tmp_path, "mobilenet-features", seed=2, reference=True))
    expected.append(write_photograph_run(tmp_path, "mobilenet-finetune", reference=True))
    write_photograph_run(tmp_path, "chollet2-scratch", reference=True)
    write_photograph_run(tmp_path, "chollet2-augmented", reference=True)
    write_photograph_run(tmp_path, "exercise-scratch", seed=0)  # not recorded
    runs = list_runs(tmp_path)
    assert [run.id for run in comparison.opening_runs(runs)] == expected
    assert all(run.dataset["drawn"] for run in comparison.reference_runs(runs))
    assert len(comparison.reference_runs(runs)) == 4


def test_opening_falls_back_to_the_lesson_where_photographs_show_one_strategy_only(tmp_path):
    references = write_reference_runs(tmp_path)
    write_photograph_run(tmp_path, reference=True)
    assert [run.id for run in comparison.opening_runs(list_runs(tmp_path))] == references


def test_of_a_seed_recorded_twice_the_newest_opens(tmp_path):
    for number in (1, 3, 2):
        run_id = f"2026010{number}T000000Z-exercise-scratch-000{number}"
        write_photograph_run(tmp_path, run_id=run_id, reference=True)
    write_photograph_run(tmp_path, "exercise-augmented", reference=True)
    assert comparison.opening_runs(list_runs(tmp_path))[0].id == "20260103T000000Z-exercise-scratch-0003"


def test_a_run_is_compared_with_recorded_runs_on_its_own_pictures(tmp_path):
    references = write_reference_runs(tmp_path)
    photos = [write_photograph_run(tmp_path, name, reference=True) for name in (
        "exercise-scratch", "mobilenet-features")]  # fmt: skip
    own = load_run(write_photograph_run(tmp_path, "exercise-augmented"), tmp_path)
    doodle, strange = (load_run(write_run(tmp_path, dataset=told), tmp_path) for told in (None, ten_classes()))
    runs = list_runs(tmp_path)
    chosen = [[run.id for run in comparison.on_the_same_pictures(one, runs)] for one in (own, doodle, strange)]
    assert chosen == [photos, references, references]


def test_cautions_name_other_preprocessing_and_fewer_validation_pictures(tmp_path):
    changes = {"test_preprocessing": "none", "validation_steps": 10, "batch_size": 16}
    small = photographs("cats-vs-dogs-small")
    write_photograph_run(tmp_path, tested=True, changes=changes, dataset=small)
    same = {"test_preprocessing": "rescale"}
    write_photograph_run(tmp_path, "exercise-augmented", tested=True, changes=same, dataset=small)
    assert comparison.cautions(list_runs(tmp_path)) == [
        "From scratch was tested on pixels preprocessed otherwise (none) than those it was trained on (rescale).",
        "From scratch: validation accuracy rests on 160 of the 1,000 validation pictures.",
    ]


def test_imported_runs_are_labelled_and_their_pictures_said_to_be_unknown(tmp_path):
    dataset = {"id": "not known", "title": "not known", "fingerprint": None, "counts": {}}
    write_photograph_run(tmp_path, dataset=dataset, imported=True, changes={"title": "From a notebook"})
    write_photograph_run(tmp_path, "exercise-augmented")
    assert sorted(comparison.run_labels(list_runs(tmp_path)).values()) == [
        "Augmented", "From scratch · From a notebook · imported"
    ]  # fmt: skip
    said = comparison.cautions(list_runs(tmp_path))
    assert said[0].startswith("Imported from a saved history") and said[0].endswith("From a notebook · imported.")
    assert said[1:] == ["No test split, so no test accuracy: Augmented."]


def test_of_an_imported_run_whose_owner_named_the_pictures_only_that_word_is_known(tmp_path):
    dataset = {"id": "my cats", "title": "my cats", "fingerprint": None, "counts": {}}
    write_photograph_run(tmp_path, dataset=dataset, imported=True, changes={"title": "From a notebook"})
    assert comparison.cautions(list_runs(tmp_path)) == [
        "Imported from a saved history, and of its recipe and pictures only what its owner says is known: "
        "From scratch · From a notebook · imported (on my cats)."
    ]


def test_a_field_younger_than_a_run_is_no_difference(tmp_path):
    young = write_photograph_run(tmp_path)
    old = write_photograph_run(tmp_path)
    path = tmp_path / old / "run.json"
    info = json.loads(path.read_text())
    for name in ("color_mode", "mixed_precision", "reduce_lr_factor"):
        del info["recipe"][name]
    path.write_text(json.dumps(info))
    assert young != old and comparison.differences(list_runs(tmp_path)) == []
