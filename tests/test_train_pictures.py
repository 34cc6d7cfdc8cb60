"""Fewer training pictures: which they are, and that everything else of a run is as it was."""

import numpy as np
import pytest
from handmade_runs import DATASET, write_run
from tiny_lessons import tiny_features, tiny_finetune, tiny_greys, tiny_scratch

from cvcore import activations, api, comparison, estimate
from cvcore.base_weights import find_weights
from cvcore.batches import Rows, mean_image
from cvcore.datasets.subset import training_rows
from cvcore.errors import InvalidRecipe
from cvcore.extraction import what_is_stored
from cvcore.models import build
from cvcore.new_run import check_continues
from cvcore.recipe import make_recipe
from cvcore.run_directory import list_runs, load_run

UNEVEN = np.repeat([0, 1, 2], [60, 30, 10])


def test_subsets_lie_within_one_another_at_every_size():
    before: set[int] = set()
    for pictures in range(1, 101):
        rows = training_rows(UNEVEN, pictures)
        assert len(rows) == pictures and (np.diff(rows) > 0).all()
        assert before < set(rows)
        before = set(rows)
    assert np.array_equal(training_rows(UNEVEN, 100), np.arange(100))
    assert np.array_equal(training_rows(UNEVEN, 1000), np.arange(100))


@pytest.mark.parametrize("pictures, expected", [(3, [1, 1, 1]), (10, [6, 3, 1]), (20, [12, 6, 2]), (50, [30, 15, 5])])
def test_each_class_has_its_share_and_one_picture_at_least(pictures, expected):
    assert np.bincount(UNEVEN[training_rows(UNEVEN, pictures)]).tolist() == expected


def test_shares_are_within_one_picture_of_exact_and_no_class_loses_one_as_sizes_grow():
    """By largest remainders the third of these classes would have 2 pictures of 10 and 1 of 11."""
    labels = np.repeat([0, 1, 2], [600, 600, 200])
    shares = [np.bincount(labels[training_rows(labels, pictures)], minlength=3) for pictures in (10, 11)]
    assert shares[0][2] <= shares[1][2]
    for pictures in range(3, 1400, 7):
        counts = np.bincount(labels[training_rows(labels, pictures)], minlength=3)
        assert np.abs(counts - pictures * np.array([3, 3, 1]) / 7).max() <= 1


def test_pictures_are_shuffled_and_not_the_first_of_each_folder():
    rows = training_rows(np.zeros(1000, int), 100)
    assert 400 < rows.mean() < 600


def test_rows_read_what_is_asked_for():
    inputs = np.arange(40).reshape(10, 2, 2)
    rows = Rows(inputs, np.array([2, 5, 9]))
    assert len(rows) == 3 and rows.shape == (3, 2, 2)
    assert rows[1:].tolist() == inputs[[5, 9]].tolist() and rows[np.array([2, 0])].tolist() == inputs[[9, 2]].tolist()


def test_a_run_on_fewer_pictures_is_a_run_on_a_folder_that_has_no_others(lessons, tmp_path):
    recipe = tiny_scratch.with_changes(train_pictures=10, epochs=2)
    run = api.train(recipe, lessons.dataset(), runs=tmp_path, seed=3)
    whole = lessons.dataset()
    kept = training_rows(whole.labels("train"), 10)
    paths = {picture.path for row, picture in enumerate(whole.split("train")) if row in kept}
    for picture in whole.pictures:
        if picture.split != "train" or picture.path in paths:
            target = tmp_path / "fewer" / picture.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((whole.root / picture.path).read_bytes())
    alone = api.train(tiny_scratch.with_changes(epochs=2), tmp_path / "fewer", runs=tmp_path, seed=3)
    columns = ["loss", "accuracy", "val_loss", "val_accuracy"]
    np.testing.assert_allclose(run.history()[columns], alone.history()[columns], rtol=0, atol=1e-6)
    assert run.metrics["test_loss"] == pytest.approx(alone.metrics["test_loss"], abs=1e-6)
    assert run.dataset["counts"]["train"] == {"bars": 9, "discs": 9}, "the dataset's own"
    assert len(run.predictions().query("split == 'validation'")) == 14


def test_the_mean_image_is_of_the_pictures_trained_on(lessons, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("cvcore.training_data.mean_image", lambda *splits: seen.append(splits) or mean_image(*splits))
    api.train(tiny_greys.with_changes(train_pictures=8, epochs=1), lessons.dataset(), runs=tmp_path)
    assert [len(split) for split in seen[0]] == [8, 14]


def test_stored_features_of_all_pictures_serve_and_else_only_those_wanted_are_computed(lessons, tmp_path, monkeypatch):
    dataset, fewer = lessons.dataset("three"), tiny_features.with_changes(train_pictures=9, epochs=2)
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    first = api.train(fewer, dataset, runs=tmp_path)
    network = build(tiny_features, 3, weights=find_weights(tiny_features, 0))
    cut = network.cut("head")

    def stored(chosen):
        what = what_is_stored(tiny_features, cut, dataset.fingerprint, "train", train_pictures=chosen)
        return activations.stored(activations.key_of(what), chosen or 27)

    assert stored(9) is not None and stored(None) is None
    api.train(tiny_features.with_changes(epochs=1), dataset, runs=tmp_path)
    np.testing.assert_allclose(stored(None)[training_rows(dataset.labels("train"), 9)], stored(9), atol=1e-5)
    again = api.train(fewer, dataset, runs=tmp_path)
    columns = ["loss", "accuracy", "val_loss", "val_accuracy"]
    np.testing.assert_allclose(again.history()[columns], first.history()[columns], atol=1e-5)
    api.train(fewer.with_changes(train_pictures=8), dataset, runs=tmp_path)
    assert stored(8) is None, "those of all pictures were there"


def test_a_finetune_recipe_has_the_number_of_the_recipe_it_starts_from(lessons, tmp_path):
    recipe = tiny_finetune.with_changes(train_pictures=8, epochs=1)
    assert recipe.starts_from.train_pictures == 8
    with pytest.raises(InvalidRecipe, match="same train_pictures"):
        recipe.with_changes(starts_from={"train_pictures": 10})
    run = api.train(tiny_features.with_changes(train_pictures=8, epochs=1), lessons.dataset(), runs=tmp_path)
    check_continues(recipe, run)
    with pytest.raises(InvalidRecipe, match="differs from recipe tiny-finetune in train_pictures"):
        check_continues(tiny_finetune, run)


@pytest.mark.parametrize("pictures, batch_size, sentence", [
    (19, 8, r"train_pictures must be between 2 \(one of each class\) and 18, the training pictures that there are; "
            "received 19"),
    (6, 8, r"batch_size must be at most the number of training pictures \(6\); received 8"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(lessons, tmp_path, pictures, batch_size, sentence):
    recipe = tiny_scratch.with_changes(train_pictures=pictures, batch_size=batch_size)
    with pytest.raises(InvalidRecipe, match=sentence):
        api.train(recipe, lessons.dataset(), runs=tmp_path)
    assert not list_runs(tmp_path)


def test_one_picture_of_each_class_is_the_least(lessons, tmp_path):
    with pytest.raises(InvalidRecipe, match="at least 2; received 1"):
        tiny_scratch.with_changes(train_pictures=1)
    with pytest.raises(InvalidRecipe, match=r"between 3 \(one of each class\) and 27"):
        api.train(tiny_scratch.with_changes(train_pictures=2), lessons.dataset("three"), runs=tmp_path)


def test_the_memory_of_a_run_on_fewer_pictures_does_not_tell_that_of_one_on_all(tmp_path):
    pictures = {"train": 400, "validation": 200, "test": 1000}
    fewer = write_run(tmp_path, "doodle-scratch", changes={"train_pictures": 100}, peak_memory=801.0)
    recipe = make_recipe(**load_run(fewer, tmp_path).recipe)
    assert estimate.estimate(recipe, pictures, list_runs(tmp_path)).memory_mb == 801
    whole = recipe.with_changes(train_pictures=None)
    assert estimate.estimate(whole, pictures, list_runs(tmp_path)).memory_mb != 801
    write_run(tmp_path, "doodle-scratch", peak_memory=902.0)
    assert estimate.estimate(whole, pictures, list_runs(tmp_path)).memory_mb == 902


def test_the_nearest_number_of_pictures_tells_the_time(tmp_path):
    """Runs on few pictures are mostly start and end: by their rate a run on all would seem to take minutes."""
    recipe = make_recipe(**load_run(write_run(tmp_path, timings={"total": 20.0}), tmp_path).recipe)
    counts = DATASET["counts"]
    alone = estimate.estimate(recipe, counts, list_runs(tmp_path))
    for pictures in (50, 100):
        write_run(tmp_path, changes={"train_pictures": pictures}, timings={"total": 19.0})
    assert estimate.estimate(recipe, counts, list_runs(tmp_path)) == alone
    fewer = estimate.estimate(recipe.with_changes(train_pictures=60), counts, list_runs(tmp_path))
    assert fewer.seconds == pytest.approx(19 + estimate.START, rel=0.05)
    assert fewer.basis == "Reckoned from how long 1 finished run of this recipe took."


def test_runs_that_differ_in_their_number_of_pictures_say_so(tmp_path):
    sizes = [load_run(write_run(tmp_path, changes={"train_pictures": n}), tmp_path) for n in (None, 100, 200)]
    assert sum(DATASET["counts"]["train"].values()) == 400
    assert [comparison.pictures(run, "train") for run in sizes] == [400, 100, 200]
    labels = comparison.run_labels(sizes)
    assert list(labels.values()) == [f"Features · {n} pictures" for n in ("all", 100, 200)]
    (row,) = comparison.differences(sizes)
    assert row == {
        "setting": "train_pictures",
        **dict(zip([run.id for run in sizes], ("all", "100", "200"), strict=True)),
    }
