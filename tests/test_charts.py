import json
from dataclasses import replace
from math import nan

import pandas as pd
import pytest
from handmade_runs import DATASET, INTERVALS, write_damaged_run, write_reference_runs, write_run

from cvcore import accuracy_chart, charts, comparison
from cvcore.run_directory import list_runs, load_run
from cvcore.statistics import wilson_interval

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [0.7, 0.5, 0.3],
        "accuracy": [0.5, 0.75, 1.0],
        "val_loss": [0.7, 0.6, 0.65],
        "val_accuracy": [0.5, 0.7, 0.65],
    }
)


def figure(smoothing=0.0, metric="accuracy", history=HISTORY, best_epoch=2):
    return charts.curves([charts.Series("Features", "features", history, best_epoch)], metric, smoothing)


def of_the_run(drawn):
    return [trace for trace in drawn["data"] if "legendgroup" in trace]


def test_training_is_thin_and_dotted_and_validation_solid():
    training, validation, best = of_the_run(figure())
    assert (training["y"], training["line"]["dash"]) == ([0.5, 0.75, 1.0], "dot")
    assert (validation["y"], validation["line"]["dash"]) == ([0.5, 0.7, 0.65], "solid")
    assert training["line"]["width"] < validation["line"]["width"]
    assert (best["x"], best["y"], best["mode"]) == ([2], [0.7], "markers")


def test_smoothing_off_draws_the_measured_values_only():
    assert len(of_the_run(figure(smoothing=0))) == 3


def test_smoothing_keeps_the_measured_line_faintly_and_hovers_with_measured_values():
    traces = of_the_run(figure(smoothing=0.5))
    faint, smooth = traces[0], traces[3]
    assert faint["y"] == [0.5, 0.7, 0.65] and faint["opacity"] < 0.5
    assert smooth["y"] == pytest.approx([0.5, 0.475 / 0.75, 0.5625 / 0.875])
    assert [row[0] for row in smooth["customdata"]] == [0.5, 0.7, 0.65]


def test_best_epoch_of_a_smoothed_run_is_marked_at_its_measured_value():
    assert of_the_run(figure(smoothing=0.9))[-1]["y"] == [0.7]


def test_the_head_phase_of_a_fine_tuning_run_is_faint_and_the_thaw_marked():
    (early_training, early, training, later, thaw, _) = of_the_run(
        charts.curves([charts.Series("Fine-tuned", "finetune", HISTORY, 3, thawed_from=3)])
    )
    assert (early["x"], early["opacity"], early["showlegend"]) == ([1, 2], 0.35, False)
    assert (later["x"], later["y"], later["showlegend"]) == ([3], [0.65], True)
    assert (early_training["x"], training["x"]) == ([1, 2], [3])
    assert (thaw["x"], thaw["y"], thaw["marker"]["symbol"]) == ([3], [0.65], "circle-open")


@pytest.mark.parametrize(
    ("rates", "info", "expected"),
    [
        ([0.1, 0.1, 0.01], {}, 3),  # the rate tells
        ([0.1, 0.01, 0.01], {}, 2),  # and tells first: the head stopped early
        ([0.1, 0.1, 0.1], {}, None),  # still training its head, of 30 epochs
        ([0.1, 0.1, 0.01], {"from_run": "another"}, None),  # its head was trained elsewhere
    ],
)
def test_thaw_is_where_the_learning_rate_changes(tmp_path, rates, info, expected):
    run = load_run(write_run(tmp_path, "doodle-finetune", **info), tmp_path)
    assert comparison.thawed_from(run, HISTORY.assign(learning_rate=rates)) == expected


def test_a_features_run_has_no_thaw(tmp_path):
    run = load_run(write_run(tmp_path, "doodle-features"), tmp_path)
    assert comparison.thawed_from(run, HISTORY.assign(learning_rate=[0.1, 0.1, 0.01])) is None


def test_loss_is_drawn_from_the_loss_columns():
    training, validation, _ = of_the_run(figure(metric="loss"))
    assert training["y"] == [0.7, 0.5, 0.3] and validation["y"] == [0.7, 0.6, 0.65]


def test_a_run_without_a_finished_epoch_is_drawn_and_said_so():
    empty = HISTORY.iloc[:0]
    assert of_the_run(figure(history=empty, best_epoch=None))[0]["y"] == []
    assert "no finished epoch" in charts.curves_alt([charts.Series("Features", "features", empty)])


def test_missing_values_become_gaps_and_the_figure_stays_json():
    history = HISTORY.assign(val_accuracy=[0.5, float("nan"), 0.65])
    drawn = figure(history=history, smoothing=0.3)
    json.dumps(drawn, allow_nan=False)
    assert of_the_run(drawn)[0]["y"] == [0.5, None, 0.65]


def test_an_accuracy_axis_without_a_number_ends_at_one():
    empty = pd.DataFrame({"epoch": [1], "accuracy": [nan], "val_accuracy": [nan], "loss": [0.5], "val_loss": [0.6]})
    assert figure(history=empty)["layout"]["yaxis"]["range"] == [0, 1]
    assert "range" not in figure(history=empty, metric="loss")["layout"]["yaxis"]
    assert "range" not in figure()["layout"]["yaxis"]


@pytest.mark.parametrize("count", [1, 4, 12, 16])
def test_a_chart_grows_by_a_row_for_each_row_that_its_legend_has_on_a_phone(count):
    layout = charts.curves(
        [charts.Series(f"Augmented · exercise-augmented · seed {n}", "augmented", HISTORY, 2) for n in range(count)]
    )["layout"]
    rows = count + 2  # validation and training stand side by side, the best epoch below
    assert layout["height"] == 460 + 19 * (rows - 3) <= 800
    assert layout["legend"]["tracegroupgap"] == 0 and 19 * rows < layout["legend"]["maxheight"] * layout["height"]


def test_plotly_accepts_the_figures(tmp_path):
    import plotly.graph_objects as go

    write_reference_runs(tmp_path)
    go.Figure(figure(smoothing=0.5))
    go.Figure(accuracy_chart.accuracy_dots(comparison.figures(list_runs(tmp_path))))


def test_each_strategy_keeps_its_colour_and_its_later_runs_differ():
    styles = charts.run_styles(["features", "scratch", "features", "features"])
    assert styles[0] == (charts.STRATEGY_COLOURS["features"], "solid")
    assert styles[1] == (charts.STRATEGY_COLOURS["scratch"], "solid")
    assert len(set(styles)) == 4


def contrast(colour, other):
    def luminance(text):
        parts = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(colour), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", charts.STRATEGY_COLOURS.values())
def test_strategy_colours_are_readable_on_both_themes_and_the_same_there(colour):
    import tomllib

    from cvcore.settings import PROJECT

    theme = tomllib.loads((PROJECT / ".streamlit" / "config.toml").read_text())["theme"]
    for variant in ("light", "dark"):
        assert colour in theme[variant]["chartCategoricalColors"]
        assert contrast(colour, theme[variant]["backgroundColor"]) >= 3


def test_strategy_colours_are_nowhere_else():
    from cvcore.settings import PROJECT

    sources = [*PROJECT.glob("*.py"), *PROJECT.glob("pages/*.py"), *PROJECT.glob("cvcore/**/*.py")]
    for source in sources:
        text = source.read_text().lower()
        found = [colour for colour in charts.STRATEGY_COLOURS.values() if colour.lower() in text]
        assert not found or source.name == "charts.py", source


def test_curves_alt_states_the_gap_and_the_best_epoch():
    text = charts.curves_alt([charts.Series("Features", "features", HISTORY, 2)])
    assert "at epoch 3 training 100.0%, validation 65.0%, best epoch 2" in text


def rows_of(folder):
    return comparison.figures(comparison.in_teaching_order(list_runs(folder)))


def test_accuracy_dots_carry_the_interval_on_both_sides(tmp_path):
    write_reference_runs(tmp_path)
    dots = accuracy_chart.accuracy_dots(rows_of(tmp_path))
    first = dots["data"][0]
    assert (first["x"], first["y"]) == ([0.743], ["From scratch"])
    assert first["error_x"]["array"] == [pytest.approx(INTERVALS[743][1] - 0.743)]
    assert first["error_x"]["arrayminus"] == [pytest.approx(0.743 - INTERVALS[743][0])]
    assert dots["layout"]["annotations"][0]["text"] == "guessing 50%"


def test_handmade_intervals_are_the_wilson_intervals():
    for correct, interval in INTERVALS.items():
        assert wilson_interval(correct, 1000) == pytest.approx(interval, abs=5e-5)


def test_runs_without_a_test_split_are_left_out_of_the_dots_and_named(tmp_path):
    write_run(tmp_path, "doodle-features")
    counts = {split: DATASET["counts"][split] for split in ("train", "validation")}
    write_run(tmp_path, "doodle-scratch", tested=False, dataset={**DATASET, "counts": counts})
    assert [trace["name"] for trace in accuracy_chart.accuracy_dots(rows_of(tmp_path))["data"]] == ["Features"]
    assert comparison.cautions(list_runs(tmp_path)) == ["No test split, so no test accuracy: From scratch."]


def test_runs_on_different_pictures_are_never_mixed_silently(tmp_path):
    write_run(tmp_path, "doodle-features")
    write_run(tmp_path, "doodle-scratch", dataset={**DATASET, "fingerprint": "e" * 64, "title": "Our pets"})
    labels = [trace["y"][0] for trace in accuracy_chart.accuracy_dots(rows_of(tmp_path))["data"]]
    assert labels == ["From scratch<br>on Our pets", "Features<br>on Doodle pets"]
    (caution,) = comparison.cautions(list_runs(tmp_path))
    assert "different pictures (Doodle pets, Our pets)" in caution


def test_the_same_name_with_other_pictures_is_said_too(tmp_path):
    write_run(tmp_path, "doodle-features")
    write_run(tmp_path, "doodle-scratch", dataset={**DATASET, "fingerprint": "e" * 64})
    assert "whose pictures or splits changed" in comparison.cautions(list_runs(tmp_path))[0]


def test_accuracy_dots_alt_ranks_the_runs(tmp_path):
    write_reference_runs(tmp_path)
    text = accuracy_chart.accuracy_dots_alt(rows_of(tmp_path))
    assert text.index("Fine-tuned 93.1% (95% interval 91.4% to 94.5%)") < text.index("From scratch 74.3%")


def test_no_tested_run_is_a_figure_without_dots():
    assert accuracy_chart.accuracy_dots([])["data"] == []
    assert accuracy_chart.accuracy_dots_alt([]) == "No run has a test accuracy."


def test_labels_say_only_what_tells_runs_apart(tmp_path):
    one = write_run(tmp_path, "doodle-features", seed=1)
    two = write_run(tmp_path, "doodle-features", seed=2)
    alone = write_run(tmp_path, "doodle-scratch", seed=1)
    labels = comparison.run_labels(list_runs(tmp_path))
    assert labels == {one: "Features · seed 1", two: "Features · seed 2", alone: "From scratch"}


def test_labels_show_the_name_that_an_owner_gave(tmp_path):
    named = write_run(tmp_path, "doodle-features", seed=1, name="Mia's  best, with a very long name indeed")
    twin = write_run(tmp_path, "doodle-features", seed=2, name="Mia's best, with a very long name indeed")
    plain = write_run(tmp_path, "doodle-features", seed=3)
    told = write_run(tmp_path, seed=4, imported=True, name="From a notebook", changes={"title": "history.json"})
    labels = comparison.run_labels(list_runs(tmp_path))
    assert labels == {
        named: "Features · Mia's best, with a very long na… · seed 1",
        twin: "Features · Mia's best, with a very long na… · seed 2",
        plain: "Features", told: "Features · From a notebook · imported",
    }  # fmt: skip


def test_labels_of_a_group_over_seeds_and_sizes_all_differ(tmp_path):
    for seed in (0, 1):
        for size in (100, 200, None):
            write_run(tmp_path, seed=seed, changes={"train_pictures": size}, group={"id": "g", "title": "A group"})
    labels = comparison.run_labels(list_runs(tmp_path))
    assert sorted(labels.values()) == sorted(
        f"Features · {size} pictures · seed {seed}" for size in (100, 200, "all") for seed in (0, 1)
    )


def test_labels_of_equal_runs_still_differ(tmp_path):
    one = write_run(tmp_path, run_id="20260101T000000Z-doodle-features-aaaa")
    two = write_run(tmp_path, run_id="20260101T000000Z-doodle-features-bbbb")
    labels = comparison.run_labels(list_runs(tmp_path))
    assert labels == {one: "Features · aaaa", two: "Features · bbbb"}


def test_labels_that_read_the_same_differ_in_the_end(tmp_path):
    unknown = {"id": "not known", "title": "not known", "fingerprint": None, "counts": {}}
    for title, end in (("foo", "1-same"), ("foo", "2-same"), ("foo\n bar", "3-same"), ("foo bar", "4-same")):
        write_run(tmp_path, run_id=f"20260101T000000Z-a-{end}", dataset=unknown, imported=True,
                  changes={"title": title})  # fmt: skip
    runs = list_runs(tmp_path)
    # As a title may hold the separator itself: strategy "Features" and "foo" beside "Features · foo".
    runs.append(replace(runs[0], id="x-same", info={
        **runs[0].info, "recipe": {**runs[0].recipe, "strategy": "not known", "title": "Features · foo"}}))  # fmt: skip
    labels = comparison.run_labels(runs)
    assert len(set(labels.values())) == len(labels) == 5
    assert len({" ".join(label.split()) for label in labels.values()}) == 5


def test_a_run_like_a_reference_run_is_told_from_it_by_that(tmp_path):
    shipped = write_run(tmp_path, "doodle-features", reference=True)
    own = write_run(tmp_path, "doodle-features")
    labels = comparison.run_labels(list_runs(tmp_path))
    assert labels == {shipped: "Features · reference", own: "Features · trained here"}


def test_reference_runs_are_one_a_strategy_in_teaching_order(tmp_path):
    write_reference_runs(tmp_path)
    write_run(tmp_path, "doodle-features")
    write_damaged_run(tmp_path)
    chosen = comparison.reference_runs(list_runs(tmp_path))
    assert [run.strategy for run in chosen] == ["scratch", "augmented", "features", "finetune"]
    assert all(run.reference for run in chosen)


def test_differences_list_only_what_differs(tmp_path):
    one = write_run(tmp_path, "doodle-features", seed=1, changes={"learning_rate": 0.001})
    two = write_run(tmp_path, "doodle-features", seed=2, changes={"learning_rate": 0.0005})
    rows = comparison.differences(list_runs(tmp_path))
    assert rows == [
        {"setting": "seed", one: "1", two: "2"},
        {"setting": "learning_rate", one: "0.001", two: "0.0005"},
    ]


def test_no_augmentation_equals_a_policy_that_changes_nothing(tmp_path):
    write_run(tmp_path, "doodle-scratch")
    augmented = write_run(tmp_path, "doodle-augmented")
    rows = {row["setting"]: row for row in comparison.differences(list_runs(tmp_path))}
    assert rows["augmentation.horizontal_flip"][augmented] == "yes"
    assert "augmentation.vertical_flip" not in rows


def test_differences_of_a_finetune_run_name_its_start(tmp_path):
    write_run(tmp_path, "doodle-features")
    tuned = write_run(tmp_path, "doodle-finetune")
    rows = {row["setting"]: row for row in comparison.differences(list_runs(tmp_path))}
    assert rows["starts_from"][tuned] == "doodle-features"
    assert "starts_from.image_size" not in rows


def test_seconds_are_the_whole_wall_time_or_else_the_sum_of_the_phases(tmp_path):
    whole = load_run(write_run(tmp_path, epochs=6, timings={"total": 20.25}), tmp_path)
    parts = load_run(write_run(tmp_path, epochs=6, timings={}), tmp_path)
    assert [row["seconds"] for row in comparison.figures([whole, parts])] == [20.25, 1.5 + 15.0]


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_an_unfinished_run_on_pictures_with_a_test_split_is_not_said_to_lack_one(tmp_path, status):
    write_run(tmp_path, "doodle-features")
    unfinished = write_run(tmp_path, "doodle-scratch", status=status)
    (tmp_path / unfinished / "metrics.json").write_text('{"best_epoch": 4, "test_accuracy": null}')
    runs = [replace(run, status=status) if run.id == unfinished else run for run in list_runs(tmp_path)]
    assert comparison.cautions(runs) == [
        f"Not finished, so their figures are missing or may still change: From scratch ({status}).",
        "The test set is used once, at the end, and so not yet by: From scratch.",
    ]


ODD_FIGURES = {
    "an interval of one number": {"test_accuracy_interval": [0.7]},
    "accuracies as text": {"test_accuracy": "high", "val_accuracy": "0.7", "last_val_accuracy": [1]},
    "figures that are not finite": {"best_epoch": float("nan"), "test_accuracy": float("inf")},
    "no number of test pictures": {"test_count": None},
    "lists for groups": {"parameters": [1, 2], "seconds": [3.0]},
}


@pytest.mark.parametrize("odd", ODD_FIGURES.values(), ids=ODD_FIGURES)
def test_odd_figures_of_a_run_become_missing_ones_and_are_drawn(tmp_path, odd):
    run = load_run(write_run(tmp_path), tmp_path)
    rows = comparison.figures([replace(run, metrics={**run.metrics, **odd})])
    json.dumps(rows, allow_nan=False)
    accuracy_chart.accuracy_dots(rows)
    accuracy_chart.accuracy_dots_alt(rows)
    assert comparison.best_epoch(replace(run, metrics={**run.metrics, **odd}), run.history()) == 4


def test_a_run_of_another_version_or_edited_by_hand_can_still_be_compared(tmp_path):
    usual, other = (load_run(write_run(tmp_path, seed=seed), tmp_path) for seed in (1, 2))
    recipe = {**other.recipe, "starts_from": "doodle-features", "augmentation": [10], "warmup": {"epochs": 2}}
    dataset = {**DATASET, "counts": [1, 2], "title": ["pets"]}
    odd = replace(other, info={**other.info, "recipe": recipe, "dataset": dataset, "timings": [], "seed": "two"})
    row = comparison.figures([usual, odd])[1]
    assert (row["seed"], row["guessing"], row["seconds"]) == (None, None, 16.5)
    rows = {row["setting"]: row[odd.id] for row in comparison.differences([usual, odd])}
    assert rows["augmentation"] == "10" and rows["warmup"] == "{'epochs': 2}"
    assert comparison.cautions([usual, odd])
    assert comparison.thawed_from(odd, odd.history()) is None


def test_names_that_people_gave_do_not_become_html_in_a_chart(tmp_path):
    name = "<a href='http://x'>pets</a> & co"
    write_run(tmp_path, "doodle-features")
    write_run(tmp_path, "doodle-scratch", dataset={**DATASET, "fingerprint": "e" * 64, "title": name})
    rows = rows_of(tmp_path)
    assert accuracy_chart.accuracy_dots(rows)["data"][0]["y"] == [
        "From scratch<br>on &lt;a href='http://x'&gt;pets&lt;/a&gt; &amp; co"
    ]
    assert name in accuracy_chart.accuracy_dots_alt(rows)
    drawn = charts.curves([charts.Series(name, "features", HISTORY)])
    assert all("<a" not in trace["name"] for trace in drawn["data"])


def test_storing_features_is_told_from_the_run_s_own_file(tmp_path):
    assert comparison.figures([load_run(write_run(tmp_path), tmp_path)])[0]["features_seconds"] == 1.5


def test_a_very_long_title_leaves_the_chart_its_room_and_labels_still_differ(tmp_path):
    for seed, end in enumerate("ab"):
        title = "Pictures of our pets, taken in the garden in summer " + end
        write_run(tmp_path, seed=seed, dataset={**DATASET, "fingerprint": end * 64, "title": title})
    rows = rows_of(tmp_path)
    assert all(len(row["dataset"]) == 32 for row in rows)
    assert len({row["label"] for row in rows}) == 2
    assert comparison.differences(list_runs(tmp_path))[0]["setting"] == "dataset"


def test_ticks_half_a_percent_apart_differ():
    assert charts.curves([], "accuracy")["layout"]["yaxis"]["tickformat"] == ".1~%"
