"""Which datasets were opened here, and from where; so that an id and a fingerprint lead back to the pictures."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from cvcore.datasets.cache import dataset_cache, writing
from cvcore.datasets.dataset import Dataset
from cvcore.files import replace_json


def remember(dataset: Dataset, source: str, kind: str) -> None:
    """Note that a dataset was opened from a source; one entry for each (source, seed), replaced whole.

    Args:
        dataset: as opened.
        source: a catalogue id, or an absolute path of a folder or file.
        kind: "drawn", "folder", "zip", "npz" or "download".
    """
    name = hashlib.sha256(f"{source}|{dataset.seed}".encode()).hexdigest()[:24]
    folder = dataset_cache() / "index"
    entry = {
        "id": dataset.id,
        "title": dataset.title,
        "kind": kind,
        "source": source,
        "seed": dataset.seed,
        "fingerprint": dataset.fingerprint,
    }
    path = folder / f"{name}.json"
    known = _read(path)
    if known is not None and {key: known.get(key) for key in entry} == entry:
        return
    with writing("The list of datasets"):
        folder.mkdir(parents=True, exist_ok=True)
        replace_json(path, {**entry, "opened": time.time()})


def remembered() -> list[dict[str, Any]]:
    """Every entry, the newest first; damaged ones are passed over."""
    entries = [entry for path in (dataset_cache() / "index").glob("*.json") if (entry := _read(path)) is not None]
    return sorted(entries, key=lambda entry: entry["opened"], reverse=True)


def forget(source: str) -> None:
    """Remove what was noted of a source, whatever the seeds it was opened with."""
    with writing("The list of datasets"):
        for path in (dataset_cache() / "index").glob("*.json"):
            entry = _read(path)
            if entry is not None and entry["source"] == source:
                path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads(path.read_text())
        strings = ("id", "title", "kind", "source", "fingerprint")
        sound = all(isinstance(entry[key], str) for key in strings) and isinstance(entry["seed"], int)
        return entry if sound and isinstance(entry["opened"], int | float) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
