"""Give pictures a split when their folders do not: seeded, stratified, the same on every machine."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from cvcore.datasets.dataset import SPLITS
from cvcore.errors import DatasetError

HELD_OUT = 0.15  # of a class, for validation and again for test, when there are no splits at all
VALIDATION_OF_TRAIN = 0.20
MINIMUM = {"train": 2, "validation": 1, "test": 1}  # pictures a class


class Labelled(NamedTuple):
    """A usable picture before it has a split: its path, its split by folder or None, class name and hash."""

    path: str
    split: str | None
    class_name: str
    sha256: str


def assign_splits(entries: Sequence[Labelled], seed: int) -> tuple[list[str], list[str]]:
    """Choose the split of each entry, keeping those that the folders give.

    No split folders: 70 % train, 15 % validation, 15 % test of each class. No validation folder: 20 % of
    each class of train becomes validation. No test folder beside a train folder: test stays missing.
    The order drawn from depends on the seed and a picture's bytes only, so copies of one picture stay together.

    Args:
        entries: all usable pictures.
        seed: any integer; the same seed makes the same splits.

    Returns:
        (the split of each entry, notes as sentences).
    """
    given = {entry.split for entry in entries if entry.split is not None}
    result = [entry.split or "train" for entry in entries]
    notes = []
    if not given:
        _move(entries, result, {"validation": HELD_OUT, "test": HELD_OUT}, seed)
        notes.append(
            f"No split folders: split 70/15/15 into train, validation and test by seed {seed}, class by class."
        )
        return result, notes
    if "validation" not in given:
        _move(entries, result, {"validation": VALIDATION_OF_TRAIN}, seed)
        notes.append(f"No validation folder: 20 % of train became validation by seed {seed}, class by class.")
    if "test" not in given:
        notes.append("No test split: test accuracy will be missing.")
    return result, notes


def check_minimum(class_names: Sequence[str], counts: dict[str, dict[str, int]], skipped: dict[str, int]) -> None:
    """Refuse a dataset with too few usable pictures in any class and split.

    Args:
        class_names: all classes.
        counts: usable pictures by split and class, of the splits there are.
        skipped: unusable files by class.

    Raises:
        DatasetError: naming the class, the split and the rule.
    """
    rule = (
        "each class needs at least 2 usable pictures in train, 1 in validation and 1 in test (if there is a test split)"
    )
    for name in class_names:
        unusable = f", {skipped[name]} unusable" if skipped.get(name) else ""
        total = sum(counts[split].get(name, 0) for split in counts)
        if total == 0:
            raise DatasetError(
                f"Class {name!r} has no usable picture (0 found{unusable}); add pictures to its folder or delete it."
            )
        for split in SPLITS:
            found = counts.get(split, {}).get(name, 0)
            if (split in counts or split != "test") and found < MINIMUM[split]:
                raise DatasetError(
                    f"Too few pictures: {rule}, class {name!r} has {found} in {split} ({total} in all{unusable})."
                )


def _move(entries: Sequence[Labelled], result: list[str], shares: dict[str, float], seed: int) -> None:
    """Move the given share of each class from train to each named split, at least one picture each."""
    classes: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        if result[index] == "train":
            classes[entry.class_name].append(index)
    for indices in classes.values():
        indices.sort(key=lambda index: (_rank(seed, entries[index].sha256), entries[index].path))
        start = 0
        for split, share in shares.items():
            stop = start + max(1, int(share * len(indices) + 0.5))
            for index in indices[start:stop]:
                result[index] = split
            start = stop


def _rank(seed: int, sha256: str) -> str:
    return hashlib.sha256(f"{seed}:{sha256}".encode()).hexdigest()
