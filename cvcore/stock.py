"""What of a run's work this machine has done already: decoded pictures and stored activations that a run would find."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cvcore import cache_room, devices
from cvcore.datasets import Dataset, pixel_cache
from cvcore.errors import CvcoreError
from cvcore.recipe import Recipe, make_recipe
from cvcore.run_directory import Run
from cvcore.workload import Extraction, Stock, pictures_there, workload

# What decides activations and is known before a base is built, as `extraction.what_is_stored` says it.
DECIDING = ("image_size", "interpolation", "antialias", "base", "alpha", "preprocessing")
OF_ACTIVATIONS = (*DECIDING, "fingerprint", "split", "train_pictures", "view", "augmentation", "backend")
OF_PICTURES = ("fingerprint", "split", "image_size", "interpolation", "antialias", "color_mode")
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
    there = _stored(dataset) if wanted and recipe.weights == "pretrained" else []
    extracted = tuple(extraction.key for extraction in wanted if there and _is_among(there, extraction, dataset))
    looked_at = dataset.pictures[:: max(1, len(dataset.pictures) // MOST_LOOKED_AT)]
    megapixels = sum(picture.width * picture.height for picture in looked_at) / 1e6 / max(1, len(looked_at))
    return Stock(decoded, extracted, limit, megapixels)


def need_met_by(said: Mapping[str, Any], pictures: bool) -> str:
    """Say which need a stored array meets, to be compared with what `needs_of` says.

    Args:
        said: what the store says of it.
        pictures: it holds decoded pictures; else activations.
    """
    if pictures:
        return _in_order({name: said.get(name) for name in OF_PICTURES})
    shape = said.get("shape")
    met = {name: said.get(name) for name in OF_ACTIVATIONS}
    return _in_order({**met, "shape": shape[1:] if isinstance(shape, list) else None})


def needs_of(run: Run) -> frozenset[str]:
    """Say which stored arrays a run needs where they are not made for it alone; none where its recipe does not tell.

    Weights are not looked at, as in `stock_of`.
    """
    device = run.info.get("device")  # not before it trains
    backend = device.get("backend") if isinstance(device, dict) else devices.backend_name()
    try:
        about = {"recipe": run.recipe, "counts": run.dataset["counts"], "continues": bool(run.info.get("from_run")),
                 "in_model": run.status == "done" and "work" not in run.info}  # fmt: skip
        return _needs(json.dumps(about), str(run.dataset["fingerprint"]), str(backend))
    except (CvcoreError, KeyError, TypeError, AttributeError, ValueError):  # an imported run, or of another version
        return frozenset()


@lru_cache(maxsize=4096)
def _needs(about: str, fingerprint: str, backend: str) -> frozenset[str]:
    found = json.loads(about)
    recipe, counts = make_recipe(**found["recipe"]), found["counts"]
    work = workload(recipe, counts, continues=found["continues"], in_model=found["in_model"])
    everything = pictures_there(counts)
    needs = {
        _in_order({**recipe.model_dump(mode="json", include=set(OF_PICTURES)), "fingerprint": fingerprint,
                   "split": split})
        for split in work.read
    }  # fmt: skip
    for extraction in work.extractions if recipe.weights == "pretrained" else ():
        wanted = {**_wanted(extraction, fingerprint), "backend": backend}
        fewer = None if extraction.pictures == everything[extraction.split] else extraction.pictures
        needs |= {_in_order({**wanted, "train_pictures": number}) for number in (None, fewer)}
    return frozenset(needs)


def _in_order(words: dict[str, Any]) -> str:
    return json.dumps(words, sort_keys=True)


def _stored(dataset: Dataset) -> list[dict[str, Any]]:
    """List what whole stored activations of a dataset say of themselves."""
    said = map(cache_room.about, cache_room.activations_folder().glob("*.npy"))
    return [one for one in said if one.get("fingerprint") == dataset.fingerprint]


def _is_among(there: list[dict[str, Any]], extraction: Extraction, dataset: Dataset) -> bool:
    """Say whether stored activations of the dataset are there that a run would look for."""
    everything = len(dataset.split(extraction.split))
    fewer = None if extraction.pictures == everything else extraction.pictures
    wanted = {**_wanted(extraction, dataset.fingerprint), "backend": devices.backend_name()}
    of_a_picture = wanted.pop("shape")
    return any(
        all(said.get(name) == value for name, value in wanted.items())
        and said.get("train_pictures") in (None, fewer)
        and isinstance(said.get("shape"), list)
        and said["shape"][1:] == of_a_picture
        for said in there
    )


def _wanted(extraction: Extraction, fingerprint: str) -> dict[str, Any]:
    """Say what decides the activations of an extraction, but for the number of pictures and the backend."""
    recipe, layer = extraction.recipe, extraction.layers[-1]
    if extraction.split == "test" and recipe.test_preprocessing:
        recipe = recipe.with_changes(preprocessing=recipe.test_preprocessing, test_preprocessing=None)
    policy = recipe.augmentation if extraction.view is not None else None
    return {
        **recipe.model_dump(mode="json", include=set(DECIDING)),
        "fingerprint": fingerprint,
        "split": extraction.split,
        "view": extraction.view,
        "augmentation": policy and policy.model_dump(mode="json"),
        "shape": [layer.channels] if layer.kind == "global" else [layer.side, layer.side, layer.channels],
    }
