"""Many runs as a few kinds: what may be chosen at once, how runs are sorted, and what their charts show."""

import re
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from handmade_runs import DATASET, write_run

from cvcore import comparison, kinds, kinds_chart, kinds_dots, reproduction
from cvcore.kinds import Kind
from cvcore.run_directory import list_runs, load_run


def runs_of(folder, *recipes, seeds=3, **written):
    for recipe_id in recipes:
        for seed in range(seeds):
            write_run(folder, recipe_id, seed=seed, **written)
    return comparison.in_teaching_order(list_runs(folder))


def write_history(run, rows):
    """Write a history of these (accuracy, val_accuracy) by epoch."""
    lines = ["epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds"]
    lines += [f"{n},0.5,{accuracy},0.6,{val_accuracy},0.001,1" for n, (accuracy, val_accuracy) in enumerate(rows, 1)]
    (run.path / "history.csv").write_text("\n".join(lines) + "\n")


def test_all_runs_and_those_of_a_recipe_or_a_sweep_are_offered_at_once(tmp_path):
    few = runs_of(tmp_path, "doodle-scratch", seeds=2)
    assert kinds.together(few) == {}
    runs = runs_of(tmp_path, "doodle-features", group={"id": "20260101T000000Z-g-1a2b", "title": "Three seeds"})
    offered = kinds.together(runs)
    assert {name: (label, len(ids)) for name, (label, ids) in offered.items()} == {
        "all": ("Every run", 5),
        "recipe:doodle-features": ("Every run of doodle-features", 3),
        "sweep:20260101T000000Z-g-1a2b": ("Every run of the sweep Three seeds (1a2b)", 3),
    }
    assert offered["recipe:doodle-features"][1] == tuple(run.id for run in runs if run.strategy == "features")


def test_runs_are_of_one_kind_if_their_seed_alone_differs_and_labels_name_what_else_does(tmp_path):
    runs_of(tmp_path, "doodle-features", "doodle-scratch")
    runs = runs_of(tmp_path, "doodle-features", changes={"learning_rate": 0.5})
    found, words = kinds.kinds(runs)
    assert words == "with the same settings and pictures, whatever their seed"
    assert [(kind.label, len(kind.runs), kind.alike) for kind in found] == [
        ("From scratch", 3, True),
        ("Features · learning_rate 0.002", 3, True),
        ("Features · learning_rate 0.5", 3, True),
    ]


def test_too_many_kinds_are_joined_by_recipe_and_are_not_alike_then(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "MOST_KINDS", 2)
    for rate in (0.1, 0.2, 0.3):
        runs = runs_of(tmp_path, "doodle-features", "doodle-scratch", seeds=1, changes={"learning_rate": rate})
    found, words = kinds.kinds(runs)
    assert words == "of one recipe on the same pictures"
    assert [(kind.label, len(kind.runs), kind.alike) for kind in found] == [
        ("From scratch", 3, False), ("Features", 3, False)]  # fmt: skip
    monkeypatch.setattr(kinds, "MOST_KINDS", 0)
    assert kinds.kinds(runs)[1] == "of one strategy" and len(kinds.kinds(runs)[0]) == 2


def test_kinds_that_nothing_else_tells_apart_still_have_different_labels(tmp_path):
    runs = runs_of(tmp_path, "doodle-features", seeds=2)
    other = {**runs[0].dataset, "fingerprint": "e" * 64}
    found, _ = kinds.kinds(runs_of(tmp_path, "doodle-features", seeds=2, dataset=other))
    assert [kind.label for kind in found] == ["Features · 1", "Features · 2"]


def test_differing_settings_say_how_many_runs_have_each_value(tmp_path):
    runs_of(tmp_path, "doodle-features", seeds=2)
    runs = runs_of(tmp_path, "doodle-features", seeds=1, changes={"learning_rate": 0.5})
    rows = {row["setting"]: row["values"] for row in kinds.differing(runs)}
    assert rows == {"seed": "0 (2); 1 (1)", "learning_rate": "0.002 (2); 0.5 (1)"}
    many = runs_of(tmp_path, "doodle-features", seeds=9)
    assert kinds.differing(many)[0]["values"].endswith("and 3 other values")


def test_values_that_are_lists_are_told_apart_and_what_imported_runs_do_not_tell_is_no_difference(tmp_path):
    runs_of(tmp_path, "doodle-scratch", seeds=1)
    runs = runs_of(tmp_path, "doodle-features", seeds=1)
    rows = {row["setting"]: row["values"] for row in kinds.differing(runs)}
    assert rows["filters"] == "16, 32, 64, 64 (1); none (1)"
    path = write_run(tmp_path, "doodle-features", imported=True)
    bare = load_run(path, tmp_path)
    bare = replace(bare, info={**bare.info, "recipe": {"id": "imported-pets", "strategy": "features"}})
    rows = {row["setting"]: row["values"] for row in kinds.differing([*runs, bare])}
    assert rows["pooling"] == "flatten (1); average (1); not known (1)" and "optimizer" not in rows


def test_what_runs_started_from_is_listed_for_every_run_with_a_start(tmp_path):
    features, one, two = (load_run(write_run(tmp_path, name), tmp_path) for name in (
        "doodle-features", "doodle-finetune", "doodle-finetune"))  # fmt: skip
    start = {**two.recipe["starts_from"], "dropout": 0.25}
    two = replace(two, info={**two.info, "recipe": {**two.recipe, "starts_from": start}})
    del start["views"]  # of a run recorded before the field came to be
    rows = {row["setting"]: row["values"] for row in kinds.differing([features, one, two])}
    assert rows["starts_from.dropout"] == "no start (1); 0 (1); 0.25 (1)"
    assert rows["starts_from.learning_rate"] == "0.002 (2); no start (1)" and "starts_from.views" not in rows
    rows = comparison.differences([features, one, two])
    assert {"setting": "starts_from.dropout", features.id: "no start", one.id: "0", two.id: "0.25"} in rows
    assert kinds.differing([one, replace(one, id="another")]) == []


def test_a_kind_is_named_only_by_what_all_of_its_runs_are(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "MOST_KINDS", 2)
    other = {**DATASET, "fingerprint": "e" * 64, "title": "Other pets"}
    for rate in (0.1, 0.2):
        write_run(tmp_path, "doodle-features", changes={"learning_rate": rate})
        write_run(tmp_path, "mobilenet-features", changes={"learning_rate": rate}, dataset=other)
    runs = runs_of(tmp_path, "lecture-features", seeds=1, dataset=other)
    found, words = kinds.kinds(runs)
    assert words == "of one strategy on the same pictures"
    assert [(kind.label, len(kind.runs)) for kind in found] == [
        ("Features · doodle-features", 2), ("Features · 2 recipes", 3)]  # fmt: skip


def test_kinds_of_several_titles_or_views_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "MOST_KINDS", 1)
    for title in ("A notebook", "Another"):
        write_run(tmp_path, "doodle-scratch", imported=True, changes={"title": title})
    assert [kind.label for kind in kinds.kinds(list_runs(tmp_path))[0]] == ["From scratch · 2 titles · imported"]
    write_run(tmp_path, "doodle-scratch")
    assert [kind.label for kind in kinds.kinds(list_runs(tmp_path))[0]] == ["From scratch · partly imported"]
    fresh, stored = (load_run(write_run(tmp_path, "mobilenet-features-augmented", changes={"views": views}), tmp_path)
                     for views in (0, 4))  # fmt: skip
    assert [kind.label for kind in kinds.kinds([fresh, stored])[0]] == ["Features · 0 and 4 views"]
    assert [kind.label for kind in kinds.kinds([stored])[0]] == ["Features"]
    monkeypatch.setattr(kinds, "MOST_KINDS", 2)
    (other,) = runs_of(tmp_path / "other", "doodle-features", seeds=1)
    assert [kind.label for kind in kinds.kinds([fresh, stored, other])[0]] == [
        "Features · mobilenet-features-augmented · 0 and 4 views", "Features · doodle-features"]  # fmt: skip


def test_a_setting_in_which_a_kind_s_own_runs_differ_does_not_name_it(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "MOST_KINDS", 2)
    for fingerprint, epochs in (("d", 5), ("e", 6)):
        dataset = {**DATASET, "fingerprint": fingerprint * 64}
        for rate in (0.1, 0.2):
            rates = {"learning_rate": rate if epochs == 5 else 0.3}
            write_run(tmp_path, epochs=epochs, seed=round(rate * 10), dataset=dataset, changes=rates)
    found, _ = kinds.kinds(list_runs(tmp_path))
    assert sorted(kind.label for kind in found) == ["Features · epochs 5", "Features · epochs 6"]


@pytest.fixture
def three(tmp_path):
    """One kind of three runs, one of which stopped after an epoch."""
    runs = runs_of(tmp_path, "doodle-features")
    for run, (first, last) in zip(runs, ((0.5, 0.7), (0.6, 0.9), (0.7, None)), strict=True):
        write_history(run, [(0.5, first), *([(0.8, last)] if last else [])])
    return [Kind("Features", tuple(runs), alike=True)]


def traces(figure, **wanted):
    return [one for one in figure["data"] if "legendgroup" in one and all(one.get(k) == v for k, v in wanted.items())]


def test_a_kind_is_drawn_as_its_mean_with_a_band_and_each_run_thinly(three):
    figure = kinds_chart.curves_of_kinds(three)
    (mean,) = [one for one in traces(figure) if "hovertemplate" in one]
    assert mean["y"] == [pytest.approx(0.6), pytest.approx(0.8)] and mean["x"] == [1, 2]
    assert [row[1:] for row in mean["customdata"]] == [
        [" (all 3: 50.0% to 70.0%)", ", 50.0% training"],
        [" (all 2: 70.0% to 90.0%)", ", 80.0% training"],
    ]
    (band,) = traces(figure, fill="toself")
    assert band["x"] == [1, 2, 2, 1] and band["y"] == pytest.approx([0.5, 0.7, 0.9, 0.7])
    (thin,) = [one for one in traces(figure) if one["line"].get("width") == 0.8]
    assert np.array_equal(np.isnan(thin["y"]), [0, 0, 1, 0, 0, 1, 0, 1, 1]) and thin["hoverinfo"] == "skip"
    assert [one["name"] for one in figure["data"][:4]] == [
        "mean validation", "mean training", "lowest to highest run", "single runs"]  # fmt: skip
    go.Figure(figure)
    said = kinds_chart.caption(three, "of one recipe")
    assert (
        said.startswith("3 runs in 1 kind. A bold line is the mean validation of the runs of one recipe, a dotted")
        and "The band holds all of them; thin lines are the validation of" in said
    )


def test_the_band_of_ten_runs_holds_eight_of_them_and_of_nine_all(tmp_path):
    runs = runs_of(tmp_path, "doodle-features", seeds=10)
    for n, run in enumerate(runs):
        write_history(run, [(0.5, n / 10), *([(0.5, n / 10)] if n else [])])
    found = [Kind("Features", tuple(runs), True)]
    figure = kinds_chart.curves_of_kinds(found)
    (band,) = traces(figure, fill="toself")
    first, second, above_second, above_first = band["y"]
    assert [sum(first <= n / 10 <= above_first for n in range(10)), second, above_second] == [8, 0.1, 0.9]
    (mean,) = [one for one in traces(figure) if "hovertemplate" in one]
    assert [row[1] for row in mean["customdata"]] == [" (8 in 10: 9.0% to 81.0%)", " (all 9: 10.0% to 90.0%)"]
    assert "8 in 10 runs, all of fewer than 10" in [one["name"] for one in figure["data"]]
    assert "The band holds eight runs in ten, and all of fewer than 10;" in kinds_chart.caption(found, "of one recipe")


def test_where_fewer_than_half_of_the_runs_come_there_is_no_mean(three):
    write_history(three[0].runs[1], [(0.5, 0.6)])
    (mean,) = [one for one in traces(kinds_chart.curves_of_kinds(three)) if "hovertemplate" in one]
    assert mean["y"] == [pytest.approx(0.6), None]


def test_a_band_has_a_gap_where_too_few_runs_have_a_number(three):
    for run in three[0].runs[:2]:
        write_history(run, [(0.5, 0.6), (0.5, float("nan")), (0.5, 0.7), (0.5, 0.8)])
    (band,) = traces(kinds_chart.curves_of_kinds(three), fill="toself")
    assert band["x"] == [1, 1, None, 3, 4, 4, 3]
    assert band["y"] == [*map(pytest.approx, [0.6, 0.7]), None, *map(pytest.approx, [0.7, 0.8, 0.8, 0.7])]


def test_thin_curves_have_a_limited_number_of_points_and_end_where_the_runs_do(three, monkeypatch):
    for run in three[0].runs:
        write_history(run, [(0.5, 0.5 + n / 1000) for n in range(100)])
    monkeypatch.setattr(kinds_chart, "POINTS", 30)
    assert kinds_chart.thinned(three) == (1, 10)
    figure = kinds_chart.curves_of_kinds(three, smoothing=0.5)
    (thin,) = [one for one in traces(figure) if one["line"].get("width") == 0.8]
    assert thin["x"][:12].tolist() == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100, 0] and len(thin["x"]) == 3 * 12
    (mean,) = [one for one in traces(figure) if "hovertemplate" in one]
    assert len(mean["x"]) == 100 and "smoothed with weight 0.5" in figure["layout"]["title"]["text"]


def test_of_many_runs_some_are_drawn_thinly_from_the_lowest_to_the_highest_and_the_mean_is_of_all(
    tmp_path, monkeypatch
):
    runs = runs_of(tmp_path, "doodle-features", seeds=9)
    for n, run in enumerate(runs):
        write_history(run, [(0.5, 0.9), (0.5, (n * 7 % 9) / 10)])
    write_history(runs[8], [(0.5, 0.9)])  # ends with the highest
    found = [Kind("Features", tuple(runs), True)]
    monkeypatch.setattr(kinds_chart, "CURVES", 3)
    assert kinds_chart.thinned(found) == (3, 1)
    figure = kinds_chart.curves_of_kinds(found)
    (thin,) = [one for one in traces(figure) if one["line"].get("width") == 0.8]
    ends = thin["y"].reshape(3, 3)[:, :2]
    others = sorted((n * 7 % 9) / 10 for n in range(8))
    assert ends[:, 1].tolist()[:2] == [pytest.approx(others[0]), pytest.approx(others[4])] and np.isnan(ends[2, 1])
    (mean,) = [one for one in traces(figure) if "hovertemplate" in one]
    assert mean["y"][1] == pytest.approx(np.mean(others))
    assert "the validation of one run in 3, from the lowest to the highest." in kinds_chart.caption(found, "alike")
    for run in runs:
        write_history(run, [])
    go.Figure(kinds_chart.curves_of_kinds(found))


def test_kinds_without_a_finished_epoch_are_drawn_and_said(tmp_path):
    runs = runs_of(tmp_path, "doodle-features", epochs=1)
    for run in runs:
        write_history(run, [])
    found = [Kind("Features", tuple(runs), True)]
    figure = kinds_chart.curves_of_kinds(found)
    go.Figure(figure)
    assert figure["layout"]["yaxis"]["range"] == [0, 1]
    assert (
        kinds_chart.curves_of_kinds_alt(found) == "Accuracy by epoch, means. Features, 3 runs: no finished epoch yet."
    )


def test_the_alternative_text_of_many_curves_tells_the_mean_of_the_last_epochs(three):
    assert kinds_chart.curves_of_kinds_alt(three) == (
        "Accuracy by epoch, means. Features, 3 runs: at their last epochs training 70.0%, validation 76.7%."
    )


def rows_with(runs, values):
    rows = comparison.figures(runs)
    return [{**row, "test_accuracy": value} for row, value in zip(rows, values, strict=True)]


def test_accuracies_are_a_dot_a_run_and_a_mean_with_a_t_interval_over_seeds(tmp_path):
    runs = runs_of(tmp_path, "doodle-features")
    found = [Kind("Features <b>", tuple(runs), True)]
    rows = rows_with(runs, (0.8, 0.9, 1.0))
    figure = kinds_dots.dots_of_kinds(found, rows)
    mean, dots = figure["data"]
    assert dots["x"] == [0.8, 0.9, 1.0] and all(abs(y) <= 0.25 for y in dots["y"]) and len(set(dots["y"])) == 3
    assert mean["x"] == [pytest.approx(0.9)]
    assert mean["error_x"]["array"] == [pytest.approx(4.302653 * 0.1 / np.sqrt(3), abs=1e-6)]  # t(0.975, 2)
    assert figure["layout"]["yaxis"]["ticktext"] == ["Features &lt;b&gt;"]
    assert "95% t intervals" in figure["layout"]["title"]["text"]
    assert kinds_dots.dots_of_kinds_alt(found, rows) == (
        "Test accuracy, means, highest first: Features <b> 90.0% (3 runs, 80.0% to 100.0%)."
    )
    go.Figure(figure)


def test_runs_that_differ_in_more_than_their_seed_have_a_mean_without_an_interval(tmp_path):
    runs = runs_of(tmp_path, "doodle-features")
    figure = kinds_dots.dots_of_kinds([Kind("Features", tuple(runs), False)], rows_with(runs, (0.8, 0.9, 1.0)))
    assert "error_x" not in figure["data"][0] and "interval" not in figure["layout"]["title"]["text"]


def test_a_seed_that_was_run_twice_counts_once_in_the_mean(tmp_path):
    write_run(tmp_path, "doodle-features", seed=0)
    runs = runs_of(tmp_path, "doodle-features")
    values = [0.1 if run is min(runs, key=lambda run: run.id) else 0.9 for run in runs]
    figure = kinds_dots.dots_of_kinds([Kind("Features", tuple(runs), True)], rows_with(runs, values))
    assert len(figure["data"][1]["x"]) == 4 and figure["data"][0]["x"] == [pytest.approx(0.9)]


def test_a_kind_of_one_run_is_its_dot_alone(tmp_path):
    runs = runs_of(tmp_path, "doodle-features", seeds=1)
    figure = kinds_dots.dots_of_kinds([Kind("Features", tuple(runs), True)], rows_with(runs, (0.8,)))
    value, dot = figure["data"]
    assert (dot["x"], dot["y"], value["text"], dot["customdata"]) == ([0.8], [0], ["80.0%"], ["Features"])
    assert value["marker"]["opacity"] == 0
    assert "mean" not in figure["layout"]["title"]["text"]
    go.Figure(figure)


def test_the_caption_of_the_dots_says_what_the_mean_is_of(tmp_path):
    runs = tuple(runs_of(tmp_path, "doodle-features", seeds=1))
    assert kinds_dots.caption([Kind("Features", runs, True)], "with the same settings") == (
        "A row has the runs with the same settings; its bar is their mean, the newest run of each seed counted."
    )
    assert kinds_dots.caption([Kind("Features", runs, False)], "of one recipe") == (
        "A row has the runs of one recipe; its bar is their mean. Their other settings may differ.")  # fmt: skip


def test_a_kind_has_its_published_figures_once_and_one_without_accuracies_is_left_out(tmp_path):
    from photograph_runs import write_photograph_run

    for seed in range(3):
        write_photograph_run(tmp_path, seed=seed)
    write_run(tmp_path, "doodle-features", status="stopped")
    runs = list_runs(tmp_path)
    found, _ = kinds.kinds(runs)
    marks = reproduction.published_marks(runs, runs)
    figure = kinds_dots.dots_of_kinds(found, comparison.figures(runs), "validation", marks)
    published = [one for one in figure["data"] if one["name"] == "published"]
    (says,) = [one for one in figure["data"] if one["name"] == "published figure"]
    assert (len(published), says["text"]) == (1, ["published 74.0%"]) and figure["data"][-1] is published[0]
    assert says["marker"]["size"] / 2 / 0.8 > 0.7 * figure["data"][0]["marker"]["size"]  # as Plotly places a text
    assert figure["layout"]["yaxis"]["ticktext"] == ["From scratch"]
    assert kinds_dots.dots_of_kinds_alt(found, comparison.figures(runs), "test") == "No run has a test accuracy."


def test_a_kind_that_holds_other_runs_too_has_no_published_figures(tmp_path):
    from photograph_runs import write_photograph_run

    for changes in ({}, {}, {"learning_rate": 0.5}):
        write_photograph_run(tmp_path, changes=changes)
    runs = list_runs(tmp_path)
    marks = reproduction.published_marks(runs, runs)
    assert len(marks) == 2
    kind = Kind("From scratch", tuple(runs), False)
    figure = kinds_dots.dots_of_kinds([kind], comparison.figures(runs), "validation", marks)
    assert not [one for one in figure["data"] if "published" in one["name"]]


def test_ticks_of_a_narrow_range_of_accuracies_differ(tmp_path):
    runs = runs_of(tmp_path, "doodle-features")
    figure = kinds_dots.dots_of_kinds([Kind("Features", tuple(runs), True)], comparison.figures(runs))
    assert figure["layout"]["xaxis"]["tickformat"] == ".1~%"


def test_of_many_names_the_first_three_are_told():
    names = [f"run {n}" for n in range(1, 101)]
    assert comparison.some(names[:16]) == ", ".join(names[:16])
    assert re.fullmatch("run 1, run 2, run 3 and 97 more", comparison.some(names))
