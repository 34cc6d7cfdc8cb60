"""What of a run's work this machine has done already: decoded pictures and stored activations that a run would find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cvcore import cache_room, devices
from cvcore.datasets import Dataset, pixel_cache
from cvcore.recipe import Recipe
from cvcore.workload import Extraction, Stock, workload

# What decides activations and is known before a base is built, as `extraction.what_is_stored` says it.
DECIDING = ("image_size", "interpolation", "antialias", "base", "alpha", "preprocessing")
MOST_LOOKED_AT = 200  # pictures whose sizes tell how long decoding takes


def stock_of(recipe: Recipe, dataset: Dataset, *, continues: bool = False) -> Stock:
    """Look up what a run would find stored on this machine.

    Its weights are not looked at: activations of other weights of the same base count as found. Random weights are
    drawn anew by each seed and are never found.

    Args:
        recipe: what would be trained.
        dataset: an opened dataset.
        continues: it continues a saved features run.
    """
    limit = cache_room.limit()
    decoded = tuple(
        split
        for split in dataset.counts
        if pixel_cache.pixels_path(
            dataset, split, recipe.image_size, recipe.interpolation, recipe.antialias, recipe.color_mode
        ).is_file()
    )
    wanted = workload(recipe, dataset.counts, continues=continues, stock=Stock(limit=limit)).extractions
    there = list(_stored()) if wanted and recipe.weights == "pretrained" else []
    extracted = tuple(extraction.key for extraction in wanted if any(_is(said, extraction, dataset) for said in there))
    looked_at = dataset.pictures[:: max(1, len(dataset.pictures) // MOST_LOOKED_AT)]
    megapixels = sum(picture.width * picture.height for picture in looked_at) / 1e6 / max(1, len(looked_at))
    return Stock(decoded, extracted, limit, megapixels)


def _stored() -> Iterator[dict[str, Any]]:
    """List what whole stored activations say of themselves."""
    for path in cache_room.activations_folder().glob("*.npy"):
        yield cache_room.about(path)


def _is(said: dict[str, Any], extraction: Extraction, dataset: Dataset) -> bool:
    """Say whether stored activations are those that a run would look for."""
    recipe = extraction.recipe
    if extraction.split == "test" and recipe.test_preprocessing:
        recipe = recipe.with_changes(preprocessing=recipe.test_preprocessing, test_preprocessing=None)
    policy = recipe.augmentation if extraction.view is not None else None
    everything = len(dataset.split(extraction.split))
    fewer = None if extraction.pictures == everything else extraction.pictures
    wanted = {
        **recipe.model_dump(mode="json", include=set(DECIDING)),
        "fingerprint": dataset.fingerprint,
        "split": extraction.split,
        "view": extraction.view,
        "augmentation": policy and policy.model_dump(mode="json"),
        "backend": devices.backend_name(),
    }
    layer, shape = extraction.layers[-1], said.get("shape")
    of_a_picture = [layer.channels] if layer.kind == "global" else [layer.side, layer.side, layer.channels]
    return (
        all(said.get(name) == value for name, value in wanted.items())
        and said.get("train_pictures") in (None, fewer)
        and isinstance(shape, list)
        and shape[1:] == of_a_picture
    )
