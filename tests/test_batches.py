"""Batches from handmade rows: each picture once a pass, a stream over passes, the same validation pictures always."""

import mmap

import numpy as np
import psutil
import pytest

from cvcore.batches import EvaluationBatches, Rows, TrainingBatches, epoch_seed, mean_image, read, validation_rows
from cvcore.memory import KEPT, let_go

ROWS = np.arange(10, dtype=np.uint8)  # each row is its own number
LABELS = np.arange(10)


def epoch_of(batches, epoch):
    batches.epoch = epoch
    return [batches[index] for index in range(len(batches))]


def test_an_epoch_without_steps_is_one_pass_in_the_order_of_its_seed():
    batches = TrainingBatches(ROWS, LABELS, 4, seed=7)
    assert len(batches) == 3
    for epoch in (1, 2, 5):
        inputs = [rows.tolist() for rows, _ in epoch_of(batches, epoch)]
        assert [len(rows) for rows in inputs] == [4, 4, 2]
        order = np.random.default_rng(epoch_seed(7, epoch, use=0)).permutation(10)
        assert [row for rows in inputs for row in rows] == order.tolist()
    assert all((rows == labels).all() and rows.dtype == np.float32 for rows, labels in epoch_of(batches, 1))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7])
def test_steps_are_taken_from_one_stream_of_passes_that_goes_on_from_epoch_to_epoch(steps):
    batches = TrainingBatches(ROWS, LABELS, 4, seed=1, steps_per_epoch=steps)
    assert len(batches) == steps
    passes = TrainingBatches(ROWS, LABELS, 4, seed=1)
    stream = [rows.tolist() for number in range(1, 20) for rows, _ in epoch_of(passes, number)]
    taken = [rows.tolist() for epoch in range(1, 7) for rows, _ in epoch_of(batches, epoch)]
    assert taken == stream[: 6 * steps]
    # A later epoch does not need the ones before it: a resumed run begins there.
    fresh = TrainingBatches(ROWS, LABELS, 4, seed=1, steps_per_epoch=steps)
    assert [rows.tolist() for rows, _ in epoch_of(fresh, 6)] == taken[5 * steps :]


def test_every_picture_comes_once_before_any_comes_again():
    batches = TrainingBatches(ROWS, LABELS, 4, seed=3, steps_per_epoch=2)
    rows = [int(row) for epoch in (1, 2, 3) for inputs, _ in epoch_of(batches, epoch) for row in inputs]
    assert len(rows) == 20
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10)) and rows[:10] != rows[10:]


def test_validation_rows_are_a_fixed_draw_of_the_seed():
    rows = validation_rows(50, 4, 3, seed=2)
    assert len(rows) == 12 and (np.diff(rows) > 0).all()
    order = np.random.default_rng(epoch_seed(2, 0, use=0)).permutation(50)
    assert set(rows) == set(order[:12])
    assert np.array_equal(rows, validation_rows(50, 4, 3, seed=2))
    assert not np.array_equal(rows, validation_rows(50, 4, 3, seed=3))


def test_more_validation_steps_than_there_are_pictures_take_all_of_them():
    assert validation_rows(10, 4, None, seed=0) is None
    assert validation_rows(10, 4, 3, seed=0).tolist() == list(range(10))


def test_evaluation_batches_keep_the_order_of_the_split():
    whole = EvaluationBatches(ROWS, LABELS, 4)
    assert [rows.tolist() for rows, _ in epoch_of(whole, 1)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    some = EvaluationBatches(ROWS, LABELS, 2, rows=np.array([1, 4, 8]))
    assert [(rows.tolist(), labels.tolist()) for rows, labels in epoch_of(some, 1)] == [([1, 4], [1, 4]), ([8], [8])]


def test_mean_image_is_the_mean_of_all_pictures_of_the_splits_together():
    random = np.random.default_rng(0)
    train, validation = (random.integers(0, 256, (n, 5, 4, 3)).astype(np.uint8) for n in (300, 7))
    found = mean_image(train, validation)
    expected = (np.concatenate([train, validation]).astype(np.float64) / 255).mean(axis=0)
    assert found.dtype == np.float32 and found.shape == (5, 4, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_mean_image_by_hand():
    train = np.array([[[[0]]], [[[255]]]], np.uint8)
    validation = np.array([[[[51]]]], np.uint8)
    np.testing.assert_allclose(mean_image(train, validation), [[[0.4]]], rtol=1e-6)


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system cannot be told")
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_was_read_of_a_large_memory_map_does_not_stay_in_memory(tmp_path, wrapped):
    rows = 2 * KEPT // 4096
    np.save(tmp_path / "pictures.npy", np.ones((rows, 4096), np.uint8))
    mapped = np.load(tmp_path / "pictures.npy", mmap_mode="r")
    resident = psutil.Process().memory_info
    before = resident().rss
    assert mapped.sum(dtype=np.int64) == rows * 4096
    assert resident().rss - before > KEPT
    assert (read(Rows(mapped, np.arange(rows)) if wrapped else mapped, np.arange(3)) == 1).all()
    assert resident().rss - before < KEPT


def test_arrays_in_memory_and_maps_that_can_be_written_are_left_alone(tmp_path):
    np.save(tmp_path / "large.npy", np.zeros(2 * KEPT, np.uint8))
    copied = np.load(tmp_path / "large.npy", mmap_mode="c")  # what is written there is in memory alone
    copied[0] = 7
    for array in (copied, Rows(np.arange(4), np.arange(2)), np.arange(4)):
        let_go(array)
    assert copied[0] == 7
