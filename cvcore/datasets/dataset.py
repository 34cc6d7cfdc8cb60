"""A dataset: which picture is in which split under which label, and a fingerprint over all of it."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Picture:
    """One usable picture.

    Attributes:
        path: relative to the dataset's root, POSIX.
        split: "train", "validation" or "test".
        label: index into the dataset's `class_names`.
        width, height: in pixels, after EXIF orientation.
        bytes: size of the file.
        sha256: of the file's bytes; of the decoded pixels for drawings.
    """

    path: str
    split: str
    label: int
    width: int
    height: int
    bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class Dataset:
    """Pictures in splits and classes.

    Attributes:
        id: "doodle-pets", or a slug of the folder's or zip's name: [a-z0-9-]{1,40}.
        title: what people call it.
        drawn: whether the pictures are drawings made by a program; pages say so.
        root: the folder that the pictures' paths start from.
        class_names: in the order of their labels, sorted by name.
        pictures: the usable ones, sorted by split and path.
        skipped: (path, reason) of every file that is not used.
        notes: sentences on what was decided: missing splits, how splits were made, unusual pictures, duplicates.
        fingerprint: SHA-256 over (path, class name, split, hash of the picture), sorted.
        seed: the seed that splits were made with, where they were not given.
    """

    id: str
    title: str
    drawn: bool
    root: Path
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    fingerprint: str
    seed: int = 0

    @cached_property
    def _by_split(self) -> dict[str, list[Picture]]:
        return {name: [picture for picture in self.pictures if picture.split == name] for name in SPLITS}

    def split(self, name: str) -> list[Picture]:
        """The pictures of a split ("train", "validation", "test"), sorted by path; [] for a missing one."""
        return list(self._by_split[name])

    def labels(self, split: str) -> np.ndarray:
        """The labels of a split, int64 (n,), in the order of `split(name)`."""
        return np.array([picture.label for picture in self._by_split[split]], dtype=np.int64)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Pictures by split and class name; a missing split is not in it."""
        found: dict[str, dict[str, int]] = {}
        for name in SPLITS:
            if self._by_split[name]:
                tally = Counter(picture.label for picture in self._by_split[name])
                found[name] = {title: tally[label] for label, title in enumerate(self.class_names)}
        return found

    def summary(self) -> dict[str, Any]:
        """What a run remembers of its dataset; nothing of this machine is in it."""
        return {
            "id": self.id,
            "title": self.title,
            "fingerprint": self.fingerprint,
            "counts": self.counts,
            "class_names": list(self.class_names),
            "drawn": self.drawn,
            "skipped": len(self.skipped),
            "split_seed": self.seed,
        }


def fingerprint(pictures: Iterable[Picture], class_names: tuple[str, ...]) -> str:
    """SHA-256 over names, labels, splits and contents, whatever the order of the pictures."""
    lines = sorted(
        json.dumps([picture.path, class_names[picture.label], picture.split, picture.sha256]) for picture in pictures
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def reason_kind(reason: str) -> str:
    """A skip reason without its particulars: "too many pixels (9 x 9, …)" becomes "too many pixels"."""
    return reason.split(" (")[0]


def report(dataset: Dataset) -> dict[str, Any]:
    """The health report: counts, sizes, and what was skipped for which reason.

    Returns:
        A dict that JSON can hold: id, title, drawn, fingerprint, class_names, counts, pictures, bytes,
        width and height as {min, median, max}, notes, skipped_reasons {reason: number}, skipped [{path, reason}].
    """
    reasons = Counter(reason_kind(reason) for _, reason in dataset.skipped)
    return {
        "id": dataset.id,
        "title": dataset.title,
        "drawn": dataset.drawn,
        "fingerprint": dataset.fingerprint,
        "class_names": list(dataset.class_names),
        "counts": dataset.counts,
        "pictures": len(dataset.pictures),
        "bytes": sum(picture.bytes for picture in dataset.pictures),
        "width": _spread([picture.width for picture in dataset.pictures]),
        "height": _spread([picture.height for picture in dataset.pictures]),
        "notes": list(dataset.notes),
        "skipped_reasons": dict(reasons.most_common()),
        "skipped": [{"path": path, "reason": reason} for path, reason in dataset.skipped],
    }


def _spread(values: list[int]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
