"""What a run will take before it is launched: seconds and memory, from earlier runs or from operations counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cvcore.bases import BASES
from cvcore.errors import CvcoreError
from cvcore.recipe import Recipe, make_recipe
from cvcore.run_directory import Run
from cvcore.strategies import phases

# Measured on two cores of a server CPU; a finished run of the same recipe is better evidence.
GFLOP_A_SECOND = 150.0
SECONDS_A_STEP = 0.004
SECONDS_A_START = 6.0  # starting Python and importing Keras, which a run's own total leaves out
PROCESS_MB = 700.0


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        seconds: wall time from launch to the end.
        memory_mb: peak memory of the training process, MB (10^6 bytes).
        basis: one sentence that says what the figures rest on.
    """

    seconds: float
    memory_mb: float
    basis: str


def estimate(recipe: Recipe, counts: dict[str, Any], runs: Sequence[Run] = ()) -> Estimate:
    """Estimate a run's wall time and peak memory.

    Args:
        recipe: what would be trained.
        counts: pictures a split, or {class: pictures} a split, as in `Dataset.counts`.
        runs: saved runs; finished ones of the same recipe and base tell how fast training goes.
    """
    pictures = {split: sum(n.values()) if isinstance(n, dict) else int(n) for split, n in counts.items()}
    work, steps = operations(recipe, pictures)
    same = [run for run in runs if run.status == "done" and _alike(run.recipe, recipe)]
    rates = [rate for rate in map(_seconds_a_gflop, same[:5]) if rate is not None]
    if rates:
        noun = "run" if len(rates) == 1 else "runs"
        basis = f"Scaled by operations from {len(rates)} finished {noun} of this recipe."
        if all(run.reference for run in same[:5]):
            basis = "Scaled by operations from the recorded reference run."
    else:
        basis = "From the operations of this network at the speed measured on two CPU cores."
    rate = median(rates) if rates else 1 / GFLOP_A_SECOND
    seconds = SECONDS_A_START + steps * SECONDS_A_STEP + work * rate
    return Estimate(seconds, PROCESS_MB + _activations_mb(recipe), basis)


def operations(recipe: Recipe, pictures: dict[str, int]) -> tuple[float, int]:
    """Count a run's work.

    Returns:
        (10^9 floating-point operations, steps); a training step costs a forward pass and twice that backwards
        through what is trained.
    """
    train, validation, test = (pictures.get(split, 0) for split in ("train", "validation", "test"))
    work, steps = 0.0, 0
    for phase in phases(recipe):
        epochs, forward = phase.recipe.epochs, forward_gflop(phase.recipe)
        steps += epochs * (-(-train // phase.recipe.batch_size) + -(-validation // 64))
        if phase.on_features:
            work += forward * (train + validation)
        else:
            backward = {"everything": 2.0, "head": 0.0}.get(phase.trainable, 0.5)
            work += epochs * forward * (train * (1 + backward) + validation)
    return work + forward_gflop(recipe) * (test + validation), steps


def forward_gflop(recipe: Recipe) -> float:
    """Count 10^9 floating-point operations of one forward pass of one picture."""
    if recipe.base:
        base = BASES[recipe.base]
        return base.gflop * (recipe.image_size / base.image_size) ** 2 * recipe.alpha**2
    total, side, channels = 0.0, recipe.image_size, 3
    pools = len(recipe.filters) if recipe.pools is None else recipe.pools
    for index, filters in enumerate(recipe.filters, start=1):
        side = max(1, side - 2)
        total += 2 * 9 * channels * filters * side * side
        channels, side = filters, max(1, side // 2) if index <= pools else side
    units = channels * (side * side if recipe.pooling == "flatten" else 1)
    for width in (*recipe.dense, 1):
        total += 2 * units * width
        units = width
    return total / 1e9


def _activations_mb(recipe: Recipe) -> float:
    """Two of the largest layers of a batch, twice for the gradients where everything is trained."""
    if recipe.base:
        side, filters = recipe.image_size / 2, 64 * recipe.alpha
        if recipe.base == "VGG16":
            side = recipe.image_size
    else:
        side, filters = recipe.image_size - 2, recipe.filters[0]
    trained = 2 if recipe.strategy in ("scratch", "augmented") else 1
    return 2 * trained * recipe.batch_size * side * side * filters * 4 / 1e6


def _alike(trained: dict[str, Any], recipe: Recipe) -> bool:
    return all(trained.get(name) == getattr(recipe, name) for name in ("id", "base", "alpha", "cached"))


def _seconds_a_gflop(run: Run) -> float | None:
    try:
        recipe = make_recipe(**run.recipe)
        counts = {split: sum(n.values()) for split, n in run.dataset["counts"].items()}
        work, steps = operations(recipe, counts)
        seconds = float(run.info["timings"]["total"]) - steps * SECONDS_A_STEP
    except (CvcoreError, KeyError, TypeError, AttributeError, ValueError):  # a run of another version, say
        return None
    return max(seconds, 0.0) / work if work else None
