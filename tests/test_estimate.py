"""What a run will take: operations by hand, and scaling from a finished run."""

import pytest
from handmade_runs import DATASET, write_run
from tiny_lessons import tiny_augmented, tiny_features, tiny_finetune, tiny_scratch

from cvcore import estimate
from cvcore.bases import BASES
from cvcore.estimate import GFLOP_A_SECOND, SECONDS_A_START, SECONDS_A_STEP
from cvcore.published import RECIPES, get_recipe
from cvcore.run_directory import list_runs

# 32 px: conv 4 of 3x3 over 30x30, pooled to 15; conv 8 of 3x3 over 13x13, pooled to 6; 288 -> 8 -> 1.
FORWARD = 2 * 9 * 3 * 4 * 30**2 + 2 * 9 * 4 * 8 * 13**2 + 2 * 288 * 8 + 2 * 8


def test_operations_of_a_small_convnet_by_hand():
    assert estimate.forward_gflop(tiny_scratch) * 1e9 == pytest.approx(FORWARD)


def test_operations_with_one_pool_and_average_pooling():
    # 30x30 pooled to 15, then 13x13 unpooled, averaged to 8 values.
    recipe = tiny_scratch.with_changes(pools=1, pooling="average")
    expected = 2 * 9 * 3 * 4 * 30**2 + 2 * 9 * 4 * 8 * 13**2 + 2 * 8 * 8 + 2 * 8
    assert estimate.forward_gflop(recipe) * 1e9 == pytest.approx(expected)


def test_training_costs_three_passes_and_each_epoch_validates():
    pictures = {"train": 18, "validation": 14, "test": 16}
    work, steps = estimate.operations(tiny_scratch, pictures)
    assert work * 1e9 == pytest.approx(FORWARD * (3 * (18 * 3 + 14) + 16 + 14))
    assert steps == 3 * (3 + 1)


def test_steps_per_epoch_and_validation_steps_count_the_pictures_they_take():
    # 18 pictures are 3 batches a pass, 6 a batch on average: 5 steps take 30; 1 validation batch takes 8 of 14.
    recipe = tiny_scratch.with_changes(steps_per_epoch=5, validation_steps=1)
    work, steps = estimate.operations(recipe, {"train": 18, "validation": 14, "test": 16})
    assert work * 1e9 == pytest.approx(FORWARD * (3 * (30 * 3 + 8) + 16 + 14))
    assert steps == 3 * (5 + 1)
    whole = estimate.operations(tiny_scratch.with_changes(validation_steps=99), {"train": 18, "validation": 14})
    assert whole == estimate.operations(tiny_scratch, {"train": 18, "validation": 14})


def test_a_fine_tuning_run_validates_both_phases_on_the_pictures_it_says_itself():
    pictures = {"train": 18, "validation": 14}
    recipe = tiny_finetune.with_changes(validation_steps=1)
    whole = estimate.operations(recipe, pictures)
    assert recipe.starts_from.validation_steps is None
    assert whole == estimate.operations(recipe.with_changes(starts_from={"validation_steps": 1}), pictures)
    assert whole[0] < estimate.operations(tiny_finetune, pictures)[0]


def test_greys_have_one_channel():
    expected = 2 * 9 * 1 * 4 * 30**2 + 2 * 9 * 4 * 8 * 13**2 + 2 * 288 * 8 + 2 * 8
    assert estimate.forward_gflop(tiny_scratch.with_changes(color_mode="grayscale")) * 1e9 == pytest.approx(expected)


def test_a_head_that_is_trained_already_is_not_counted():
    pictures = {"train": 18, "validation": 14, "test": 16}
    head, head_steps = estimate.operations(tiny_features, pictures)
    whole, steps = estimate.operations(tiny_finetune, pictures)
    rest, rest_steps = estimate.operations(tiny_finetune, pictures, continues=True)
    evaluation = BASES["doodle-base"].gflop * (32 / 96) ** 2 * (14 + 16)
    assert whole - rest == pytest.approx(head - evaluation) and steps - rest_steps == head_steps


def test_cached_features_run_the_base_once_a_picture():
    gflop = BASES["doodle-base"].gflop * (32 / 96) ** 2
    work, _ = estimate.operations(tiny_features, {"train": 18, "validation": 14})
    assert work == pytest.approx(gflop * (18 + 14) + gflop * 14)
    more, _ = estimate.operations(tiny_features.with_changes(epochs=99), {"train": 18, "validation": 14})
    assert more == work


def test_estimate_without_runs_rests_on_the_operations():
    found = estimate.estimate(tiny_scratch, {"train": {"a": 9, "b": 9}, "validation": {"a": 7, "b": 7}})
    expected = SECONDS_A_START + 12 * SECONDS_A_STEP + FORWARD * (3 * (18 * 3 + 14) + 14) / 1e9 / GFLOP_A_SECOND
    assert found.seconds == pytest.approx(expected)
    assert found.basis.startswith("A rough guess") and "two CPU cores" in found.basis
    assert 500 < found.memory_mb < 1500


# On two idle cores of a server CPU: mobilenet-features with nothing stored, mobilenet-finetune after such a run.
MEASURED = {"exercise-scratch": (300, 1650), "mobilenet-features": (26, 1290), "mobilenet-finetune": (120, 2070),
            "doodle-scratch": (26, 770), "doodle-augmented": (51, 770), "doodle-finetune": (31, 750)}  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_a_guess_without_runs_is_of_the_order_that_was_measured(name):
    drawn = name.startswith("doodle")
    pictures = {"train": 400, "validation": 200, "test": 1000} if drawn else {"train": 2000, "validation": 1000}
    found = estimate.estimate(RECIPES[name], pictures, continues=name == "mobilenet-finetune")
    seconds, megabytes = MEASURED[name]
    assert seconds / 1.5 < found.seconds < seconds * 1.5
    assert megabytes / 1.25 < found.memory_mb < megabytes * 1.25


def test_a_deep_depthwise_base_is_slower_than_its_operations_say():
    assert set(estimate.BASE_OUTPUTS) == set(BASES) and set(estimate.BASE_GFLOP_A_SECOND) < set(BASES)
    mobile, vgg = (RECIPES["mobilenet-features"].with_changes(base=base) for base in ("MobileNetV2", "VGG16"))
    assert estimate.gflop_a_second(mobile) < estimate.gflop_a_second(RECIPES["doodle-features"])
    assert estimate.gflop_a_second(RECIPES["doodle-features"]) < estimate.gflop_a_second(vgg)


def counts(total):
    return {"train": total, "validation": total // 2, "test": total // 2}


def test_finished_run_of_the_strategy_tells_how_fast_training_goes(tmp_path):
    write_run(tmp_path, "doodle-scratch", epochs=20, timings={"total": 400.0})
    (run,) = list_runs(tmp_path)
    pictures = {"train": 400, "validation": 200, "test": 1000}
    found = estimate.estimate(get_recipe("doodle-scratch").with_changes(epochs=20), pictures, [run])
    assert found.seconds == pytest.approx(400 + SECONDS_A_START, rel=0.01)
    assert found.basis == "Scaled by operations from 1 finished run of this recipe."
    twice = estimate.estimate(get_recipe("doodle-scratch").with_changes(epochs=40), pictures, [run])
    assert 1.7 < twice.seconds / found.seconds < 2
    other = estimate.estimate(get_recipe("doodle-finetune"), pictures, [run])
    assert "two CPU cores" in other.basis


def test_reference_runs_of_a_recipe_tell_how_long_it_takes_on_photographs(tmp_path):
    photographs = {**DATASET, "id": "cats-and-dogs-filtered", "drawn": False}
    for seed, seconds in enumerate((300.0, 340.0, 420.0)):
        write_run(tmp_path, "exercise-scratch", seed=seed, epochs=30, dataset=photographs, reference=True,
                  timings={"total": seconds}, peak_memory=1500.0 + seed)  # fmt: skip
    pictures = {split: sum(DATASET["counts"][split].values()) for split in DATASET["counts"]}
    found = estimate.estimate(get_recipe("exercise-scratch"), pictures, list_runs(tmp_path))
    assert found.seconds == pytest.approx(340 + SECONDS_A_START, rel=0.01)
    assert found.basis == "Scaled by operations from 3 recorded reference runs of this recipe."
    assert found.memory_mb == 1502
    larger = estimate.estimate(
        get_recipe("exercise-scratch").with_changes(batch_size=128), pictures, list_runs(tmp_path)
    )
    assert larger.memory_mb != 1502


def test_a_run_that_found_its_features_stored_does_not_hide_what_storing_takes(tmp_path):
    for seed, seconds in enumerate((10.0, 48.0, 11.0)):
        write_run(tmp_path, "doodle-features", seed=seed, epochs=40, timings={"total": seconds})
    pictures = {"train": 400, "validation": 200, "test": 1000}
    found = estimate.estimate(get_recipe("doodle-features"), pictures, list_runs(tmp_path))
    assert found.seconds == pytest.approx(48 + SECONDS_A_START, rel=0.05)


def test_runs_on_a_gpu_say_nothing_about_a_cpu(tmp_path):
    write_run(
        tmp_path, "doodle-scratch", epochs=20, timings={"total": 4.0}, device={"kind": "GPU", "name": "NVIDIA H200"}
    )
    pictures = {"train": 400, "validation": 200, "test": 1000}
    recipe = get_recipe("doodle-scratch")
    assert "two CPU cores" in estimate.estimate(recipe, pictures, list_runs(tmp_path)).basis
    assert "1 finished run" in estimate.estimate(recipe, pictures, list_runs(tmp_path), kind="GPU").basis
    assert "A GPU takes a small part" in estimate.estimate(recipe, pictures, kind="GPU").basis


def test_imported_runs_tell_nothing_and_do_not_hide_the_runs_that_do(tmp_path):
    write_run(tmp_path, "doodle-scratch", run_id="a-trained-here", epochs=20, timings={"total": 400.0})
    for number in range(6):
        write_run(tmp_path, "doodle-scratch", run_id=f"z-imported-{number}", imported=True, timings={}, peak_memory=1.0)
    found = estimate.estimate(get_recipe("doodle-scratch"), counts(400), list_runs(tmp_path))
    assert found.basis == "Scaled by operations from 1 finished run of this recipe."


def test_early_stopping_is_said_to_make_an_estimate_a_bound():
    found = estimate.estimate(tiny_scratch.with_changes(early_stopping_patience=2), counts(400))
    assert found.basis.endswith("Early stopping may end it sooner.")


def test_unfinished_and_odd_runs_tell_nothing(tmp_path):
    write_run(tmp_path, "doodle-scratch", status="stopped")
    write_run(tmp_path, "doodle-scratch", timings={})
    write_run(tmp_path, "doodle-scratch", timings={"total": None})
    found = estimate.estimate(get_recipe("doodle-scratch"), counts(400), list_runs(tmp_path))
    assert "two CPU cores" in found.basis


def test_more_of_anything_never_takes_less():
    for recipe in (tiny_scratch, tiny_augmented, tiny_features, tiny_finetune):
        base = estimate.estimate(recipe, counts(100)).seconds
        assert estimate.estimate(recipe, counts(1000)).seconds > base
        assert estimate.estimate(recipe.with_changes(epochs=50), counts(100)).seconds > base
        assert estimate.estimate(recipe.with_changes(image_size=64), counts(100)).seconds > base
        assert estimate.estimate(recipe.with_changes(batch_size=64), counts(100)).memory_mb > 0


@pytest.mark.parametrize("name", RECIPES)
def test_every_published_recipe_has_an_estimate(name):
    found = estimate.estimate(RECIPES[name], counts(2000))
    assert 9 < found.seconds < 1e6 and 500 < found.memory_mb < 20_000
    longer = estimate.estimate(RECIPES[name].with_changes(epochs=2 * RECIPES[name].epochs), counts(2000))
    assert found.seconds < longer.seconds < 2 * found.seconds
