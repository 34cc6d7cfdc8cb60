"""What run.json and metrics.json must have so that every reader can rely on it: the files may be edited by hand."""

from __future__ import annotations

import sys
from typing import Any

from cvcore.errors import CvcoreError

STATUSES = ("queued", "running", "done", "stopped", "failed", "interrupted")
LARGEST = sys.float_info.max  # of any figure in a run's files
MOST = 10**12  # of anything that is counted in them, and of seconds and megabytes that were measured
LAST = 10**9  # ticket, turn or attempt: nobody comes so far, and one that claims to would leave the others no number
DEEPEST = 40  # lists and objects within one another
LONGEST_NAME = 80  # characters


def is_sound(info: dict[str, Any]) -> bool:
    """Say whether a run.json has what every reader relies on."""
    recipe, dataset = info.get("recipe"), info.get("dataset")
    return (
        _all_legal(info)
        and isinstance(recipe, dict)
        and isinstance(dataset, dict)
        and isinstance(recipe.get("id"), str)
        and isinstance(recipe.get("strategy"), str)
        and _has_counts(recipe)
        and (not isinstance(recipe.get("starts_from"), dict) or _has_counts(recipe["starts_from"]))
        and info.get("status") in STATUSES
        and info.get("attempt") is not None
        and all(_is_count(info.get(name), most=LAST) for name in ("attempt", "ticket", "turn", "placed", "requeues"))
        and _is_count(info.get("seed"))
        and isinstance(info.get("backend"), str | None)
        and _is_name(info.get("name"))
        and isinstance(info.get("process"), dict | None)
        and _is_group(info.get("group"))
        and _is_estimate(info.get("estimate"))
        and isinstance(info.get("timings", {}), dict)
        and all(_is_number(seconds, 0, MOST) for seconds in info.get("timings", {}).values())
        and _is_number(info.get("peak_memory"), 0, MOST)
        and _are_counts(dataset.get("counts", {}))
        and isinstance(info.get("work", {}), dict)
        and all(_is_count(pictures) and pictures is not None for pictures in info.get("work", {}).values())
    )


def checked_name(name: str | None, what: str = "a name") -> str | None:
    """Return what a run or a group is to be called, without space around it; None for nothing.

    Args:
        name: as somebody typed it.
        what: the name of the name.

    Raises:
        CvcoreError: it is longer than LONGEST_NAME characters, or not all of them are printable.
    """
    text = (name or "").strip()
    if not _is_name(text):
        raise CvcoreError(f"{what} must have at most {LONGEST_NAME} printable characters on one line; received "
                          f"{len(text)}: {text[:LONGEST_NAME]!a}")  # fmt: skip
    return text or None


def sane_progress(document: Any) -> dict[str, Any] | None:
    """Return what a progress.json says, each value one that it can be or None; None where it says nothing."""
    if not isinstance(document, dict):
        return None
    counted = ("epoch", "epochs", "step", "steps")
    found = {name: value if _is_count(value := document.get(name)) else None for name in counted}
    for name, most in (("seconds_left", MOST), ("loss", LARGEST), ("accuracy", 1)):
        found[name] = value if _is_number(value := document.get(name), 0, most) else None
    phase = document.get("phase")
    found["phase"] = phase if isinstance(phase, str) and phase.isprintable() else None
    return found


def _all_legal(value: Any, depth: int = 0) -> bool:
    """Say whether every number within is one that arithmetic and formats take (finite, and no 10**400), and every text
    one that can be written again (no half of a UTF-16 pair)."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, dict | list):
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return depth < DEEPEST and all(_all_legal(part, depth + 1) for part in parts)
    return isinstance(value, bool) or not isinstance(value, int | float) or _is_number(value)


def _is_name(name: Any) -> bool:
    """Say whether this is what somebody may call a run or a group, or missing."""
    return name is None or (isinstance(name, str) and len(name) <= LONGEST_NAME and name.isprintable())


def _is_group(group: Any) -> bool:
    """Say whether this is {id, title, seeds, train_pictures, there} of a sweep, or missing; each may be missing."""
    if not isinstance(group, dict):
        return group is None
    lists = [group.get(name) or [] for name in ("seeds", "train_pictures", "there")]
    return (
        _is_name(group.get("id"))
        and _is_name(group.get("title"))
        and all(isinstance(one, list) for one in lists)
        and all(map(_is_count, [*lists[0], *lists[1]]))
        and all(isinstance(run_id, str) for run_id in lists[2])
    )


def _has_counts(recipe: dict[str, Any]) -> bool:
    """Say whether the numbers of a recipe that readers count pictures and epochs with are such numbers, or missing."""
    counted = ("batch_size", "epochs", "steps_per_epoch", "validation_steps", "train_pictures")
    return all(_is_count(recipe.get(name, 1), least=1) for name in counted)


def _is_estimate(estimate: Any) -> bool:
    """Say whether this is {seconds, memory_mb, basis} with figures that can be, or missing."""
    if not isinstance(estimate, dict):
        return estimate is None
    return all(_is_number(estimate.get(name), 0) for name in ("seconds", "memory_mb"))


def _are_counts(counts: Any) -> bool:
    """Say whether this is {split: {class: pictures}}."""
    splits = counts.values() if isinstance(counts, dict) else [None]
    return all(isinstance(split, dict) and None not in split.values() and all(map(_is_count, split.values()))
               for split in splits)  # fmt: skip


def is_sound_metrics(metrics: dict[str, Any]) -> bool:
    """Say whether every figure is a number that it can be, a pair of such, such numbers by name, or missing."""
    if not _all_legal(metrics):
        return False
    for name, value in metrics.items():
        if name == "test_accuracy_interval":
            sound = not value or (
                isinstance(value, list) and len(value) == 2 and all(_is_number(n, 0, 1) for n in value)
            )
        elif name in ("parameters", "seconds"):
            sound = not value or (isinstance(value, dict) and all(_is_number(n, 0) for n in value.values()))
        elif name in ("best_epoch", "epochs", "test_count"):
            sound = _is_count(value)
        else:
            sound = _is_number(value, 0, 1) if name.endswith("accuracy") else _is_number(value)
        if not sound:
            return False
    return True


def _is_number(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Say whether this is a number within these bounds, or missing."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high)


def _is_count(value: Any, least: int = 0, most: int = MOST) -> bool:
    """Say whether this is a whole number that counts something, or missing."""
    return not isinstance(value, float) and _is_number(value, least, most)
