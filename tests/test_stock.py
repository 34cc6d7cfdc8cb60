"""What a run would find stored: decoded pictures and activations, looked up without Keras."""

import json
import os

import numpy as np
import pytest
from tiny_lessons import tiny_features, tiny_features_augmented, tiny_finetune, tiny_scratch

from cvcore import activations, cache_room, devices
from cvcore.datasets import open_dataset, pixels
from cvcore.datasets.pixel_cache import pixels_path
from cvcore.estimate import estimate
from cvcore.stock import need_met_by, needs_of, stock_of
from cvcore.workload import workload

HEAD = [("head", "train", None), ("head", "validation", None), ("head", "test", None)]


@pytest.fixture
def dataset(lessons, tmp_path, monkeypatch):
    found = lessons.dataset()
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path))
    return found


def store(dataset, recipe, split="train", shape=(128,), **changes):
    """Store activations as a run of this recipe would, of made-up numbers."""
    names = {"image_size", "interpolation", "antialias", "base", "alpha", "preprocessing"}
    what = {
        **recipe.model_dump(include=names), "fingerprint": dataset.fingerprint, "split": split, "train_pictures": None,
        "view": None, "augmentation": None, "backend": devices.backend_name(), **changes,
    }  # fmt: skip
    activations.fill(what, 18, shape, "float32", lambda start, stop: np.zeros((stop - start, *shape), np.float32))


def test_nothing_is_stored_at_first(dataset, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", "2")
    stock = stock_of(tiny_features, dataset)
    assert (stock.decoded, stock.extracted, stock.limit) == ((), (), 2 * 10**9)
    assert stock.megapixels == pytest.approx(32 * 32 / 1e6)


def test_decoded_pictures_are_found_by_size(dataset):
    pixels(dataset, "train", 32, "bilinear", False)
    assert pixels_path(dataset, "train", 32, "bilinear", False).is_file()
    assert stock_of(tiny_scratch, dataset).decoded == ("train",)
    assert stock_of(tiny_scratch.with_changes(image_size=48), dataset).decoded == ()


def test_activations_are_found_by_what_decides_them(dataset):
    store(dataset, tiny_features)
    assert stock_of(tiny_features, dataset).extracted == (HEAD[0],)
    assert stock_of(tiny_finetune, dataset).extracted == (HEAD[0],)
    for changes in ({"image_size": 48}, {"pooling": "flatten"}, {"preprocessing": "rescale"}, {"weights": "random"}):
        assert stock_of(tiny_features.with_changes(**changes), dataset).extracted == (), changes
    assert stock_of(tiny_features.with_changes(epochs=9, dropout=0.5), dataset).extracted == (HEAD[0],)


def test_activations_of_all_pictures_serve_a_run_on_fewer_and_not_the_other_way_round(dataset):
    store(dataset, tiny_features, train_pictures=10)
    assert stock_of(tiny_features, dataset).extracted == ()
    assert stock_of(tiny_features.with_changes(train_pictures=10), dataset).extracted == (HEAD[0],)
    store(dataset, tiny_features)
    assert stock_of(tiny_features.with_changes(train_pictures=12), dataset).extracted == (HEAD[0],)


def test_many_stored_activations_are_read_once_and_those_of_other_pictures_looked_at_no_further(dataset, monkeypatch):
    store(dataset, tiny_features)
    for number in range(3):
        store(dataset, tiny_features, fingerprint=f"{number}")
    for file in cache_room.activations_folder().glob("*.json"):
        os.utime(file, (1, 1))  # long ago
    read = []
    monkeypatch.setattr(cache_room.json, "loads", lambda text, loads=json.loads: read.append(text) or loads(text))
    assert [stock_of(tiny_features, dataset).extracted for _ in range(3)] == [(HEAD[0],)] * 3
    assert len([text for text in read if '"dtype"' in text]) == 4


def test_views_are_found_by_their_number_and_policy(dataset):
    recipe = tiny_features_augmented.with_changes(views=2)
    store(dataset, recipe, view=1, augmentation=recipe.augmentation.model_dump())
    assert stock_of(recipe, dataset).extracted == (("head", "train", 1),)
    other = recipe.with_changes(augmentation={"rotation": 3})
    assert stock_of(other, dataset).extracted == ()


@pytest.mark.parametrize("recipe", [tiny_features, tiny_finetune])
def test_after_a_run_everything_it_stored_is_found(lessons, recipe):
    """The words under which a run stores its activations are those that are looked up."""
    run = lessons.trained(recipe)
    dataset = open_dataset(lessons.folder())
    stock = stock_of(recipe, dataset)
    found = estimate(recipe, dataset.counts, stock=stock)
    assert found.terms["decode"] == found.terms["extract"] == 0
    assert run.status == "done" and found.seconds == found.again_seconds
    work = workload(recipe, dataset.counts)
    assert run.info["work"]["extracted_pictures"] <= work.extract
    met = {need_met_by(entry.said, entry.kind == "pictures") for entry in activations.entries()}
    assert needs_of(run) and needs_of(run) <= met
