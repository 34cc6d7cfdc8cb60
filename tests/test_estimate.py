"""What a run will take: rates, the pace of a device from its runs, memory, and what was measured."""

import json
from dataclasses import replace
from statistics import median

import pytest
from handmade_runs import DATASET, write_run
from tiny_lessons import tiny_augmented, tiny_features, tiny_finetune, tiny_scratch

from cvcore import estimate as estimates
from cvcore import rates
from cvcore.estimate import START, Device, estimate, memory_mb, terms_of
from cvcore.layer_counts import Layer
from cvcore.published import RECIPES, get_recipe
from cvcore.recipe import make_recipe
from cvcore.run_directory import list_runs
from cvcore.settings import PROJECT
from cvcore.workload import Stock, workload

DOODLES = {"train": 400, "validation": 200, "test": 1000}
PHOTOGRAPHS = {"train": 2000, "validation": 1000}
EVERYTHING = ("train", "validation", "test")


DECODED = "pictures only"


def counts(total):
    return {"train": total, "validation": total // 2, "test": total // 2}


def pair():
    dense = Layer("dense1", "dense", (0,), 1, 10, operations=2000, weights=100)
    return (Layer("dropout", "dropout", (-1,), 1, 100), dense)


def test_seconds_forwards_and_backwards_by_hand():
    forwards = 32 * (2000 * rates.FORWARD + 10 * rates.OUTPUT) + 2 * rates.LAYER
    assert rates.forwards(pair(), 32, 2) == pytest.approx(forwards)
    # The dense layer hands its gradient on to the dropout: two operations for each one forwards.
    gradients = 32 * (2 * 2000 * rates.BACKWARD + 10 * rates.OUTPUT_BACKWARD) + 2 * 100 * rates.WEIGHT
    assert rates.backwards(pair(), 0, 32, 2) == pytest.approx(gradients + 32 * 100 * rates.DROPPED)
    lowest = 32 * (2000 * rates.BACKWARD + 10 * rates.OUTPUT_BACKWARD) + 2 * 100 * rates.WEIGHT
    assert rates.backwards(pair(), 1, 32, 2) == pytest.approx(lowest)
    assert rates.backwards(pair(), 2, 32, 2) == 0


def test_the_terms_are_named_and_are_the_sum():
    found = estimate(tiny_finetune, counts(100))
    assert list(found.terms) == ["start", "decode", "extract", "steps", "evaluation"]
    assert found.seconds == pytest.approx(sum(found.terms.values()))
    assert all(seconds > 0 for seconds in found.terms.values())
    assert estimate(tiny_scratch, counts(100)).terms["extract"] == 0


def test_without_runs_an_estimate_rests_on_the_rates_and_says_so():
    found = estimate(tiny_scratch, {"train": {"a": 9, "b": 9}, "validation": {"a": 7, "b": 7}})
    assert found.seconds == pytest.approx(
        sum(terms_of(workload(tiny_scratch, {"train": 18, "validation": 14})).values())
    )
    assert "at the speed of two cores of an AMD EPYC" in found.basis
    assert 500 < found.memory_mb < 1500 and found.disk_mb == 0


# Measured on 22 November 2026 on those two cores beside other programs, a process a run: the second until a worker has
# started it, its CPU seconds, less half of those in which pictures were decoded, which two threads do; and its peak.
# name: (recipe, changes, pictures, decoded and stored before, seconds, megabytes)
MEASURED = {
    "doodle-scratch": ("doodle-scratch", {}, DOODLES, True, 18.0, 766),
    "doodle-augmented": ("doodle-augmented", {"epochs": 15}, DOODLES, True, 16.8, 769),
    "doodle-features": ("doodle-features", {}, DOODLES, DECODED, 5.9, 642),
    "doodle-features again": ("doodle-features", {}, DOODLES, True, 4.5, 580),
    "doodle-finetune": ("doodle-finetune", {}, DOODLES, True, 15.6, 702),
    "mobilenet-features": ("mobilenet-features", {}, PHOTOGRAPHS, DECODED, 16.9, 938),
    "mobilenet-features first": ("mobilenet-features", {}, PHOTOGRAPHS, False, 21.0, 976),
    "mobilenet-features again": ("mobilenet-features", {}, PHOTOGRAPHS, True, 4.8, 619),
    "mobilenet-features-augmented": (
        "mobilenet-features-augmented", {"epochs": 1}, PHOTOGRAPHS, True, 17.7, 947
    ),
    "mobilenet-finetune": ("mobilenet-finetune", {}, PHOTOGRAPHS, DECODED, 30.5, 966),  # of a saved head
    "exercise-scratch": ("exercise-scratch", {"epochs": 2}, PHOTOGRAPHS, True, 26.1, 1192),
    "exercise-augmented": ("exercise-augmented", {"epochs": 1}, PHOTOGRAPHS, True, 16.0, 1269),
    "chollet2-scratch": ("chollet2-scratch", {"epochs": 1}, PHOTOGRAPHS, False, 48.5, 1387),
    "lecture-features": ("lecture-features", {"epochs": 2, "train_pictures": 400}, PHOTOGRAPHS, DECODED, 82.2, 1376),
}  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_time_and_memory_are_within_30_percent_of_what_was_measured(name):
    recipe, changes, pictures, before, seconds, megabytes = MEASURED[name]
    recipe = get_recipe(recipe).with_changes(**changes)
    everything = [each.key for each in workload(recipe, pictures).extractions]
    stock = Stock(EVERYTHING if before else (), everything if before is True else ())
    found = estimate(recipe, pictures, stock=stock, continues=name == "mobilenet-finetune")
    assert found.seconds == pytest.approx(seconds, rel=0.3)
    assert found.memory_mb == pytest.approx(megabytes, rel=0.3)


# These were trained on an idle machine, the other recorded ones beside other programs.
QUIET = ("mobilenet-features-views", "mobilenet-features-augmented")
IDLE = [run for run in list_runs(PROJECT / "runs") if run.recipe["id"] in QUIET and "work" in run.info]


@pytest.mark.parametrize("found", [True, False], ids=["features found", "features computed"])
@pytest.mark.parametrize("name", sorted({run.recipe["id"] for run in IDLE}))
def test_runs_recorded_on_an_idle_machine_took_what_the_rates_say_within_30_percent(name, found):
    runs = [run for run in IDLE if run.recipe["id"] == name and found == (run.info["work"]["extracted_pictures"] == 0)]
    if not runs:
        pytest.skip("none was recorded")
    recipe, pictures = make_recipe(**runs[0].recipe), runs[0].dataset["counts"]
    keys = [each.key for each in workload(recipe, pictures).extractions]
    told = estimate(recipe, pictures, stock=Stock(EVERYTHING, keys) if found else Stock((), ()))
    measured = START + median(run.info["timings"]["total"] for run in runs)
    assert told.seconds == pytest.approx(measured, rel=0.3)
    assert told.memory_mb == pytest.approx(max(run.info["peak_memory"] for run in runs), rel=0.3)


def test_a_finished_run_of_the_recipe_tells_how_fast_training_goes(tmp_path):
    recipe = get_recipe("doodle-scratch").with_changes(epochs=20)
    reckoned = terms_of(replace(workload(recipe, DOODLES), evaluated=0))
    seconds = 3 * (reckoned["steps"] + reckoned["evaluation"])
    write_run(tmp_path, "doodle-scratch", epochs=20)
    path = next(tmp_path.iterdir()) / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": {"training": seconds}}))
    found = estimate(recipe, DOODLES, list_runs(tmp_path))
    assert found.terms["steps"] == pytest.approx(3 * reckoned["steps"], rel=0.01)
    assert found.terms["start"] == pytest.approx(START, abs=0.5)
    assert found.basis == "Reckoned from how long 1 finished run of this recipe took."
    twice = estimate(recipe.with_changes(epochs=40), DOODLES, list_runs(tmp_path))
    assert 1.7 < twice.seconds / found.seconds < 2


def test_a_run_that_extracted_everything_tells_by_that_too(tmp_path):
    recipe = get_recipe("doodle-features").with_changes(epochs=6)
    work = workload(recipe, DOODLES)
    reckoned = terms_of(replace(work, evaluated=0))
    head = reckoned["steps"] + reckoned["evaluation"]
    write_run(tmp_path, work={"decoded_pictures": 0, "extracted_pictures": work.extract})
    path = next(tmp_path.iterdir()) / "metrics.json"
    seconds = {"head": head, "features": 4 * reckoned["extract"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": seconds}))
    told = estimates.pace(recipe, 400, list_runs(tmp_path), Device()).times
    assert told == pytest.approx((head + 4 * reckoned["extract"]) / (head + reckoned["extract"]))


@pytest.mark.parametrize("epochs", [1, 30])
def test_seconds_of_phases_are_not_held_against_the_evaluation_after_them(epochs, tmp_path):
    """The splits are as large as one another: of a short run the evaluation at the end is no small part."""
    recipe = get_recipe("doodle-scratch").with_changes(epochs=epochs)
    counts = {split: {"cat": 1000, "dog": 1000} for split in ("train", "validation", "test")}
    trained = terms_of(replace(workload(recipe, counts), evaluated=0))
    write_run(tmp_path, "doodle-scratch", epochs=epochs, dataset={**DATASET, "counts": counts})
    path = next(tmp_path.iterdir()) / "metrics.json"
    seconds = {"training": trained["steps"] + trained["evaluation"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": seconds}))
    assert estimates.pace(recipe, 2000, list_runs(tmp_path), Device()).times == pytest.approx(1.0)


def test_a_run_without_seconds_of_its_phases_tells_by_its_total(tmp_path):
    write_run(tmp_path, "doodle-scratch", epochs=20, timings={"total": 400.0})
    recipe = get_recipe("doodle-scratch").with_changes(epochs=20)
    found = estimate(recipe, DOODLES, list_runs(tmp_path))
    assert found.seconds == pytest.approx(400 + START, rel=0.01)


def test_runs_of_other_recipes_tell_the_pace_of_the_device_by_the_quickest_of_each(tmp_path):
    recipe = get_recipe("doodle-scratch").with_changes(epochs=20)
    reckoned = terms_of(workload(recipe, DOODLES))
    whole = sum(reckoned.values()) - reckoned["start"]
    for seed, times in enumerate((2.0, 5.0, 9.0)):
        write_run(tmp_path, "doodle-scratch", seed=seed, epochs=20, timings={"total": times * whole})
    found = estimate(get_recipe("doodle-finetune"), DOODLES, list_runs(tmp_path))
    alone = estimate(get_recipe("doodle-finetune"), DOODLES)
    assert found.seconds - found.terms["start"] == pytest.approx(2 * (alone.seconds - alone.terms["start"]))
    assert found.basis == "Reckoned from the quickest finished run of 1 recipe: a busy computer takes longer."


def test_recorded_runs_tell_the_memory_and_only_runs_of_ones_own_the_pace(tmp_path):
    photographs = {**DATASET, "id": "cats-and-dogs-filtered", "drawn": False}
    for seed, seconds in enumerate((300.0, 340.0, 420.0)):
        write_run(tmp_path, "exercise-scratch", seed=seed, epochs=30, dataset=photographs, reference=True,
                  timings={"total": seconds}, peak_memory=1500.0 + seed)  # fmt: skip
    recipe, runs = get_recipe("exercise-scratch"), list_runs(tmp_path)
    found = estimate(recipe, DOODLES, runs)
    assert found.seconds == estimate(recipe, DOODLES).seconds and found.memory_mb == 1502
    assert "no run tells yet how fast this is" in found.basis
    assert estimate(recipe.with_changes(batch_size=128), DOODLES, runs).memory_mb != 1502
    write_run(tmp_path, "exercise-scratch", seed=9, epochs=30, dataset=photographs, timings={"total": 500.0})
    assert estimate(recipe, DOODLES, list_runs(tmp_path)).seconds == pytest.approx(500 + START, rel=0.01)


def test_runs_on_another_device_say_nothing(tmp_path):
    write_run(
        tmp_path, "doodle-scratch", epochs=20, timings={"total": 4.0}, device={"kind": "GPU", "name": "NVIDIA H200"}
    )
    recipe, runs = get_recipe("doodle-scratch"), list_runs(tmp_path)
    assert "no run tells" in estimate(recipe, DOODLES, runs).basis
    assert "1 finished run" in estimate(recipe, DOODLES, runs, kind="GPU").basis
    assert "1 finished run" in estimate(recipe, DOODLES, runs, device=Device("GPU", "NVIDIA H200")).basis
    assert "no run tells" in estimate(recipe, DOODLES, runs, device=Device("GPU", "NVIDIA L4")).basis
    assert "A GPU takes a small part" in estimate(recipe, DOODLES, kind="GPU").basis
    write_run(tmp_path, "doodle-scratch", device={"kind": "CPU", "name": "EPYC", "cores": 8})
    runs = list_runs(tmp_path)
    assert "1 finished run" in estimate(recipe, DOODLES, runs, device=Device("CPU", "EPYC", 8)).basis
    assert "no run tells" in estimate(recipe, DOODLES, runs, device=Device("CPU", "EPYC", 2)).basis


def test_imported_unfinished_and_odd_runs_tell_nothing_and_do_not_hide_the_runs_that_do(tmp_path):
    write_run(tmp_path, "doodle-scratch", status="stopped")
    write_run(tmp_path, "doodle-scratch", timings={})
    write_run(tmp_path, "doodle-scratch", timings={"total": None})
    write_run(tmp_path, "doodle-scratch", imported=True, timings={}, peak_memory=1.0)
    recipe = get_recipe("doodle-scratch")
    assert "no run tells" in estimate(recipe, counts(400), list_runs(tmp_path)).basis
    write_run(tmp_path, "doodle-scratch", run_id="a-trained-here", epochs=20, timings={"total": 400.0})
    found = estimate(recipe, counts(400), list_runs(tmp_path))
    assert found.basis == "Reckoned from how long 1 finished run of this recipe took."


def test_a_second_run_finds_pictures_and_activations_stored():
    recipe = get_recipe("mobilenet-features")
    first = estimate(recipe, PHOTOGRAPHS)
    keys = [each.key for each in workload(recipe, PHOTOGRAPHS).extractions]
    second = estimate(recipe, PHOTOGRAPHS, stock=Stock(EVERYTHING, keys))
    assert second.terms["decode"] == second.terms["extract"] == 0
    assert first.again_seconds == second.seconds == second.again_seconds < first.seconds / 2
    assert second.memory_mb < first.memory_mb
    assert first.disk_mb == second.disk_mb == pytest.approx(3000 * 1280 * 4 / 1e6)


def test_random_weights_are_found_by_no_other_seed():
    recipe = get_recipe("mobilenet-features").with_changes(weights="random")
    found = estimate(recipe, PHOTOGRAPHS)
    assert found.again_seconds == pytest.approx(found.seconds - found.terms["decode"])


def test_the_memory_of_a_run_that_found_its_features_stored_does_not_hide_what_storing_takes(tmp_path):
    recipe = get_recipe("doodle-features")
    write_run(tmp_path, peak_memory=585.0, work={"decoded_pictures": 0, "extracted_pictures": 0})
    alone = estimate(recipe, DOODLES).memory_mb
    assert estimate(recipe, DOODLES, list_runs(tmp_path)).memory_mb == alone != 585
    write_run(tmp_path, peak_memory=901.0, work={"decoded_pictures": 0, "extracted_pictures": 1600})
    write_run(tmp_path, peak_memory=1200.0)  # by a version that stored nothing at a cut
    assert estimate(recipe, DOODLES, list_runs(tmp_path)).memory_mb == 901
    keys = [each.key for each in workload(recipe, DOODLES).extractions]
    assert estimate(recipe, DOODLES, list_runs(tmp_path), stock=Stock(EVERYTHING, keys)).memory_mb == 585


def test_small_maps_stay_in_memory_and_large_ones_do_not():
    recipe = get_recipe("doodle-scratch").with_changes(epochs=1)
    few, more, many = (memory_mb(workload(recipe, {"train": number})) for number in (400, 800, 4000))
    assert more - few == pytest.approx(400 * 96 * 96 * 3 / 1e6)
    assert many == few - 400 * 96 * 96 * 3 / 1e6


def test_early_stopping_is_said_to_make_an_estimate_a_bound():
    found = estimate(tiny_scratch.with_changes(early_stopping_patience=2), counts(400))
    assert found.basis.endswith("Early stopping may end it sooner.")


def test_more_of_anything_never_takes_less():
    for recipe in (tiny_scratch, tiny_augmented, tiny_features, tiny_finetune):
        base = estimate(recipe, counts(100))
        assert estimate(recipe, counts(1000)).seconds > base.seconds
        assert estimate(recipe.with_changes(epochs=50), counts(100)).seconds > base.seconds
        assert estimate(recipe.with_changes(image_size=64), counts(100)).seconds > base.seconds
        assert estimate(recipe.with_changes(image_size=64), counts(100)).memory_mb > base.memory_mb
    views = [estimate(tiny_finetune.with_changes(views=number, epochs=4), counts(100)) for number in (1, 2, 4)]
    assert views[0].disk_mb < views[1].disk_mb < views[2].disk_mb
    assert views[0].terms["extract"] < views[1].terms["extract"] < views[2].terms["extract"]


def test_views_take_the_frozen_layers_out_of_the_steps():
    recipe = get_recipe("chollet2-finetune")
    stored = recipe.with_changes(views=4, starts_from={"views": 4})
    fresh, views = estimate(recipe, PHOTOGRAPHS), estimate(stored, PHOTOGRAPHS)
    assert views.terms["steps"] < fresh.terms["steps"] / 2 and views.terms["extract"] > fresh.terms["extract"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_published_recipe_has_an_estimate(name):
    found = estimate(RECIPES[name], counts(2000))
    assert START < found.seconds < 1e6 and 500 < found.memory_mb < 20_000
    longer = estimate(RECIPES[name].with_changes(epochs=2 * RECIPES[name].epochs), counts(2000))
    assert found.seconds < longer.seconds < 2 * found.seconds
