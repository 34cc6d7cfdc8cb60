"""docs/reproduction.md: its tables are what the tool writes from runs/, and each figure is in a run's metrics.json."""

import re
from statistics import fmean, stdev

import pytest
from photograph_runs import write_photograph_run

from cvcore.published import PUBLISHED, RECIPES
from cvcore.run_directory import list_runs
from cvcore.settings import PROJECT
from tools import reproduction_report as report

RUNS = PROJECT / "runs"
METRICS = ("last_accuracy", "last_val_accuracy", "max_val_accuracy", "val_accuracy", "test_accuracy")


def rows(text, name):
    start, end = report.MARKERS[name]
    table = text[text.index(start) + len(start) : text.index(end)].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


@pytest.fixture
def shipped():
    return [run for run in list_runs(RUNS) if run.reference]


def test_the_report_s_tables_are_what_the_tool_writes_from_the_shipped_runs(shipped):
    text = report.REPORT.read_text()
    assert report.with_tables(text, shipped) == text, "docs/reproduction.md is stale: run make reproduction"


def test_every_figure_of_the_report_is_in_the_metrics_of_the_run_it_names(shipped):
    by_id = {run.id: run for run in shipped}
    for _, seed, run_id, *shares, _best, _time, _device in rows(report.REPORT.read_text(), "runs"):
        run = by_id[run_id.strip("`")]
        assert str(run.seed) == seed
        told = [run.metrics[name] for name in METRICS]
        assert shares == ["–" if value is None else f"{value * 100:.1f} %" for value in told], run.id


def check_means(text):
    """Recompute each mean and spread of the first table from the second's figures, and count them."""
    figures = {}
    for recipe, seed, _, *shares, _best, _time, _device in rows(text, "runs"):
        figures.setdefault(recipe, {})[seed] = dict(zip(METRICS, shares, strict=True))
    names = {"train, last epoch": "last_accuracy", "validation, last epoch": "last_val_accuracy",
             "validation, best epoch": "max_val_accuracy", "test": "test_accuracy"}  # fmt: skip
    recipe, checked = "", 0
    for first, published, ours, *_ in rows(text, "recipes"):
        recipe = first or recipe
        if told := re.fullmatch(r"([\d.]+)(?: ± ([\d.]+))? % \((?:\d+ seeds: |seed )(.*)\)", ours):
            name = next(metric for words, metric in names.items() if words in published)
            values = [float(figures[recipe][seed][name].rstrip(" %")) for seed in told[3].split(", ")]
            assert float(told[1]) == pytest.approx(fmean(values), abs=0.1001)
            assert (told[2] is None) == (len(values) == 1)
            if told[2] is not None:
                assert float(told[2]) == pytest.approx(stdev(values), abs=0.1501)
            checked += 1
    return checked


def test_means_and_spreads_are_those_of_the_runs_listed():
    check_means(report.REPORT.read_text())


def test_every_recipe_with_a_published_figure_has_its_row():
    told = [row[0] for row in rows(report.REPORT.read_text(), "recipes") if row[0]]
    assert told[: len(PUBLISHED)] == [f"`{recipe_id}`" for recipe_id in PUBLISHED]
    assert len(PUBLISHED) == 18 and {"`mobilenet-features`", "`mobilenet-finetune`"} <= set(told)


def test_a_recipe_that_was_not_run_says_why():
    text = report.with_tables(report.empty_report(), [])
    first = {row[0].strip("`"): row[2] for row in rows(text, "recipes") if row[0]}
    assert all(said.startswith("not run here: ") for said in first.values())
    assert "ImageNet weights of VGG16" in first["lecture-finetune"]
    assert "weights of Xception" in first["exercise-xception"]
    assert "mnist.npz" in first["exercise-mnist"]
    assert "only CPU time" in first["chollet1-augmented"]


def test_runs_fill_their_rows_and_what_stands_around_the_tables_is_kept(tmp_path):
    for seed, value in {1: 0.60, 2: 0.62, 3: 0.64}.items():
        metrics = {"last_val_accuracy": value, "last_accuracy": 0.95, "val_accuracy": value, "max_val_accuracy": value}
        write_photograph_run(tmp_path, seed=seed, reference=True, peak_memory=1600.0, **metrics)
    write_photograph_run(tmp_path, seed=4)  # not shipped
    gpu = {"kind": "GPU", "name": "Some GPU", "backend": "jax", "precision": "mixed_bfloat16"}
    write_photograph_run(tmp_path, "chollet2-augmented", seed=1, reference=True, device=gpu, test_accuracy=0.84,
                         test_count=2000, timings={"total": 605}, last_accuracy=0.9)  # fmt: skip
    text = report.empty_report().replace("## Findings\n", "## Findings\n\nSeeds differ.\n")
    written = report.with_tables(text, list_runs(tmp_path))
    assert "## Findings\n\nSeeds differ.\n" in written
    assert report.with_tables(written, list_runs(tmp_path)) == written
    table = {(row[0], row[1]): row[2:] for row in rows(written, "recipes")}
    scratch = table["`exercise-scratch`", "74.0 % (validation, last epoch)"]
    assert scratch == ["62.0 ± 2.0 % (3 seeds: 1, 2, 3)", "57.0 to 67.0 %, t over 3 seeds", "no, ours lies below",
                       "1 min 15 s, of 1 min 15 s to 1 min 15 s", "1.6 GB",
                       "CPU, two cores, 2 cores, tensorflow"]  # fmt: skip
    augmented = table["`chollet2-augmented`", "83.5 % (test, lowest validation loss)"]
    assert augmented[0] == "84.0 % (seed 1)" and augmented[2] == "yes"
    assert augmented[3:] == ["10 min 5 s", "–", "GPU, Some GPU, jax, mixed_bfloat16"]
    assert check_means(written) == 4
    assert {row[0] for row in rows(written, "runs")} == {"`exercise-scratch`", "`chollet2-augmented`"}


def test_a_report_without_its_markers_is_refused():
    with pytest.raises(SystemExit, match="must have the lines"):
        report.with_tables("# Reproduction report\n", [])


def test_reasons_are_known_for_every_recipe():
    assert all(report.why_not_run(recipe) for recipe in RECIPES.values())
