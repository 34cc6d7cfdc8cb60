"""Accuracy against training-set size, from handmade runs with figures computed by hand."""

import json

import pytest
from handmade_runs import write_run
from plotly import graph_objects

from cvcore.run_directory import list_runs, load_run
from cvcore.statistics import wilson_interval
from cvcore.sweep_chart import accuracy_by_size, accuracy_by_size_alt, by_size, interval_named, split_of, training_size


def sweep(folder, accuracies, **more):
    """Write done runs with these test accuracies of 1,000 pictures: {size or None: [one a seed]}."""
    runs = []
    for size, values in accuracies.items():
        for seed, value in enumerate(values):
            run_id = write_run(folder, seed=seed, changes={"train_pictures": size}, **more)
            metrics = json.loads((folder / run_id / "metrics.json").read_text())
            if more.get("tested", True):
                metrics |= {"test_accuracy": value,
                            "test_accuracy_interval": wilson_interval(round(value * 1000), 1000)}  # fmt: skip
            (folder / run_id / "metrics.json").write_text(json.dumps(metrics))
            runs.append(load_run(run_id, folder))
    return runs


def test_means_and_t_intervals_over_three_seeds_by_hand(tmp_path):
    runs = sweep(tmp_path, {100: [0.70, 0.72, 0.74], None: [0.90, 0.90, 0.90]})
    assert [training_size(run) for run in runs] == [100] * 3 + [400] * 3
    sizes = by_size(runs)
    assert [size.pictures for size in sizes] == [100, 400]
    # Deviation 0.02, t of two degrees of freedom 4.3027: 4.3027 * 0.02 / sqrt(3) = 0.04968.
    assert sizes[0].summary.mean == pytest.approx(0.72)
    assert sizes[0].summary.high - sizes[0].summary.mean == pytest.approx(0.04968, abs=1e-5)
    figure = accuracy_by_size(runs)
    dots, means = figure["data"]
    assert dots["x"] == [100] * 3 + [400] * 3 and dots["y"] == [0.70, 0.72, 0.74, 0.90, 0.90, 0.90]
    assert "error_y" not in dots
    assert means["x"] == [100, 400] and means["y"] == pytest.approx([0.72, 0.90])
    assert means["error_y"]["array"] == pytest.approx([0.04968, 0], abs=1e-5)
    layout = figure["layout"]
    assert layout["title"]["text"] == "Test accuracy by training-set size<br>mean and 95% t interval over 3 seeds"
    assert layout["xaxis"]["title"]["text"] == "training pictures (number, logarithmic)"
    assert layout["xaxis"]["ticktext"] == ["100", "400"]
    assert layout["yaxis"]["title"]["text"] == "share of test pictures right"
    assert layout["yaxis"]["tickformat"] == ".1~%"  # ticks half a percent apart differ
    graph_objects.Figure(figure)
    assert accuracy_by_size_alt(runs) == (
        "Test accuracy by training-set size: 100 pictures 72.0% (3 runs, 95% t interval 67.0% to 77.0%); 400 pictures "
        "90.0% (3 runs, 95% t interval 90.0% to 90.0%). From 100 to 400 pictures the mean changes by +18.0 percentage "
        "points."
    )


def test_below_three_seeds_each_run_has_its_own_wilson_interval(tmp_path):
    runs = sweep(tmp_path, {100: [0.70, 0.72], 200: [0.8]})
    figure = accuracy_by_size(runs)
    dots, means = figure["data"]
    low, high = wilson_interval(700, 1000)
    assert dots["error_y"]["array"][0] == pytest.approx(high - 0.70)
    assert dots["error_y"]["arrayminus"][0] == pytest.approx(0.70 - low)
    assert "error_y" not in means and means["y"] == pytest.approx([0.71, 0.8])
    assert figure["layout"]["title"]["text"].endswith("<br>each run with its own 95% Wilson interval")
    assert "t interval" not in accuracy_by_size_alt(runs)
    graph_objects.Figure(figure)


def test_runs_that_are_all_alike_do_not_draw_an_axis_beyond_everything(tmp_path):
    alike, not_alike = sweep(tmp_path / "a", {100: [0.9] * 3}), sweep(tmp_path / "b", {100: [0.9, 0.9, 0.8]})
    assert accuracy_by_size(alike)["layout"]["yaxis"]["range"] == [0, 1]
    assert "range" not in accuracy_by_size(not_alike)["layout"]["yaxis"]


def test_sizes_with_more_and_fewer_seeds_say_over_how_many(tmp_path):
    sizes = by_size(sweep(tmp_path, {100: [0.7] * 4, 200: [0.8] * 3, 400: [0.9]}))
    assert interval_named(sizes) == "mean; 95% t interval from 3 seeds on"
    assert interval_named(sizes[:2]) == "mean and 95% t interval over 3 to 4 seeds"


def test_seeds_alone_have_one_place_and_a_mean(tmp_path):
    figure = accuracy_by_size(sweep(tmp_path, {None: [0.7, 0.8, 0.9]}))
    assert len(figure["data"]) == 2 and figure["data"][1]["x"] == [400]
    low, high = figure["layout"]["xaxis"]["range"]
    assert low < 2.602 < high
    one = accuracy_by_size(sweep(tmp_path / "one", {None: [0.7]}))
    assert len(one["data"]) == 1 and "error_y" in one["data"][0]


def test_pictures_without_a_test_split_are_compared_by_validation(tmp_path):
    from handmade_runs import DATASET

    counts = {split: n for split, n in DATASET["counts"].items() if split != "test"}
    runs = sweep(tmp_path, {100: [0.5]}, tested=False, dataset={**DATASET, "counts": counts})
    assert split_of(runs) == "validation"
    figure = accuracy_by_size(runs)
    assert figure["data"][0]["y"] == [0.9] and "Validation accuracy" in figure["layout"]["title"]["text"]


def test_runs_that_have_not_finished_are_left_out_and_nothing_finished_is_said(tmp_path):
    write_run(tmp_path, status="queued")
    runs = list_runs(tmp_path)
    assert accuracy_by_size_alt(runs) == "No run of this group has a test accuracy yet."
    graph_objects.Figure(accuracy_by_size(runs))
    both = [*runs, *sweep(tmp_path, {100: [0.7]})]
    assert len(by_size(both)) == 1


def test_the_hover_names_seed_size_and_what_the_interval_is_of(tmp_path):
    (dots,) = accuracy_by_size(sweep(tmp_path, {100: [0.7]}))["data"]
    assert "%{x:,} training pictures" in dots["hovertemplate"]
    assert dots["customdata"][0][0] == "seed 0"
    assert "95% Wilson interval of this run alone: 67.1% to 72.8%" in dots["customdata"][0][1]
