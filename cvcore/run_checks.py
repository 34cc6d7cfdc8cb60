"""What run.json and metrics.json must have so that every reader can rely on it: the files may be edited by hand."""

from __future__ import annotations

import sys
from typing import Any

STATUSES = ("queued", "running", "done", "stopped", "failed", "interrupted")
LARGEST = sys.float_info.max  # of any figure in a run's files
MOST = 10**12  # of anything that is counted in them


def is_sound(info: dict[str, Any]) -> bool:
    """Say whether a run.json has what every reader relies on."""
    recipe, dataset = info.get("recipe"), info.get("dataset")
    return (
        _all_finite(info)
        and isinstance(recipe, dict)
        and isinstance(dataset, dict)
        and isinstance(recipe.get("id"), str)
        and isinstance(recipe.get("strategy"), str)
        and _has_counts(recipe)
        and (not isinstance(recipe.get("starts_from"), dict) or _has_counts(recipe["starts_from"]))
        and info.get("status") in STATUSES
        and isinstance(info.get("attempt"), int)
        and all(_is_count(info.get(name), least=0) for name in ("ticket", "turn", "requeues"))
        and all(isinstance(info.get(name), str | None) for name in ("name", "backend"))
        and all(isinstance(info.get(name), dict | None) for name in ("process", "group"))
        and _is_estimate(info.get("estimate"))
        and isinstance(info.get("timings", {}), dict)
        and _are_counts(dataset.get("counts", {}))
    )


def _all_finite(value: Any) -> bool:
    """Say whether every number within is one that arithmetic and formats take: finite, and no 10**400."""
    if isinstance(value, dict | list):
        return all(map(_all_finite, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bool) or not isinstance(value, int | float) or _is_number(value)


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


def _is_count(value: Any, least: int = 0) -> bool:
    """Say whether this is a whole number that counts something, or missing."""
    return not isinstance(value, float) and _is_number(value, least, MOST)
