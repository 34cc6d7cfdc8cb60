"""docs/reproduction.md: its tables are what the tool writes from runs/, and each figure is in a run's metrics.json."""

import json
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
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("|")]


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
        assert seed == ("–" if run.imported else str(run.seed))
        told = [run.metrics[name] for name in METRICS]
        assert shares == ["–" if value is None else f"{value * 100:.1f} %" for value in told], run.id


def check_means(text):
    """Recompute each mean and spread of the first table from the second's figures, and count them."""
    figures = {}
    for recipe, seed, _, *shares, _best, _time, _device in rows(text, "runs"):
        figures.setdefault(recipe, {})[seed] = dict(zip(METRICS, shares, strict=True))
    names = {"train, last epoch": "last_accuracy", "validation, last epoch": "last_val_accuracy",
             "validation, highest of all epochs": "max_val_accuracy", "test": "test_accuracy"}  # fmt: skip
    recipe, checked = "", 0
    for first, published, ours, *_ in rows(text, "recipes"):
        recipe = first or recipe
        if told := re.match(r"([\d.]+)(?: ± ([\d.]+))? % \((?:\d+ seeds: |seed )([\d, ]+)\)", ours):
            name = next(metric for words, metric in names.items() if words in published)
            values = [float(figures[recipe][seed][name].rstrip(" %")) for seed in told[3].split(", ")]
            assert float(told[1]) == pytest.approx(fmean(values), abs=0.1001)
            assert (told[2] is None) == (len(values) == 1)
            if told[2] is not None:
                assert float(told[2]) == pytest.approx(stdev(values), abs=0.1501)
            checked += 1
    return checked


def test_means_and_spreads_are_those_of_the_runs_listed(shipped):
    told = [row for row in rows(report.REPORT.read_text(), "recipes") if re.match(r"[\d.]+ ", row[2])]
    assert check_means(report.REPORT.read_text()) == len(told) > 0


def test_every_shipped_run_on_photographs_has_its_row(shipped):
    listed = [(row[0].strip("`"), row[2].strip("`")) for row in rows(report.REPORT.read_text(), "runs")]
    expected = {(run.recipe["id"], run.id) for run in shipped if not run.dataset.get("drawn")}
    assert expected and len(listed) == len(set(listed)) and set(listed) >= expected
    others = set(listed) - expected  # two sources report one recipe
    assert {name for name, _ in others} == {"chollet1-scratch"} and {one for _, one in others} <= {
        run.id for run in shipped if run.recipe["id"] == "lecture-scratch"
    }


def test_every_recipe_with_a_published_figure_has_its_row():
    told = [row[0] for row in rows(report.REPORT.read_text(), "recipes") if row[0]]
    assert told[: len(PUBLISHED)] == [f"`{recipe_id}`" for recipe_id in PUBLISHED]
    assert len(PUBLISHED) == 18 and {"`mobilenet-features`", "`mobilenet-finetune`"} <= set(told)


def test_a_recipe_that_was_not_run_says_why():
    text = report.with_tables(report.empty_report(), [])
    first = {row[0].strip("`"): row[2] for row in rows(text, "recipes") if row[0]}
    assert all(said.startswith(("not run here: ", "not run yet: ")) for said in first.values())
    assert "ImageNet weights of VGG16" in first["lecture-finetune"]
    assert "weights of Xception" in first["exercise-xception"]
    assert "mnist.npz" in first["exercise-mnist"]
    assert first["chollet1-augmented"] == "not run yet: its data and code are here, the processor time was not"


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
    assert scratch == ["62.0 ± 2.0 % (3 seeds: 1, 2, 3)", "57.0 to 67.0 %, t over 3 seeds", "lies below it",
                       "52.1 to 71.9 %", "1 min 15 s, of 1 min 15 s to 1 min 15 s", "1.6 GB",
                       "CPU, two cores, 2 cores, tensorflow"]  # fmt: skip
    augmented = table["`chollet2-augmented`", "83.5 % (test, lowest validation loss)"]
    assert augmented[0] == "84.0 % (seed 1)" and augmented[2:4] == ["covers it", "–"]
    assert augmented[4:] == ["10 min 5 s", "–", "GPU, Some GPU, jax, mixed_bfloat16"]
    assert check_means(written) == 4
    assert {row[0] for row in rows(written, "runs")} == {"`exercise-scratch`", "`chollet2-augmented`"}


@pytest.mark.parametrize("name", ["mobilenet-features", "mobilenet-features-views"])
def test_runs_that_stored_features_are_timed_apart_from_those_that_found_them(name, tmp_path):
    for seed, (features, total) in {1: (20.9, 48.0), 2: (0.001, 11.0), 3: (0.001, 10.0)}.items():
        run_id = write_photograph_run(tmp_path, name, seed=seed, reference=True, timings={"total": total})
        path = tmp_path / run_id / "metrics.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": {"features": features}}))
    written = report.with_tables(report.empty_report(), list_runs(tmp_path))
    (told,) = [row for row in rows(written, "recipes") if row[0] == f"`{name}`"]
    assert told[6] == "48 s with its features computed; 10 s, of 10 s to 11 s with its features stored before"


def test_the_tested_epoch_is_said_where_the_source_tested_another(tmp_path):
    write_photograph_run(tmp_path, "exercise-mnist", reference=True, tested=True, test_accuracy=0.9917,
                         test_count=10000, last_accuracy=0.99)  # fmt: skip
    written = report.with_tables(report.empty_report(), list_runs(tmp_path))
    (told,) = [row for row in rows(written, "recipes") if row[0] == "`exercise-mnist`"]
    assert told[1:5] == ["99.14 % (test, last epoch)", "99.17 % (seed 1); ours: lowest validation loss",
                         "98.97 to 99.33 %, Wilson for 1 run, 10,000 pictures", "covers it"]  # fmt: skip


def test_a_report_without_its_markers_is_refused():
    with pytest.raises(SystemExit, match="must have the lines"):
        report.with_tables("# Reproduction report\n", [])


def test_reasons_are_known_for_every_recipe():
    assert all(report.why_not_run(recipe) for recipe in RECIPES.values())
