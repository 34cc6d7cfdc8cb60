"""What a run will take before it is launched: seconds and memory, from earlier runs or from operations counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import median
from typing import Any

from cvcore.bases import BASES
from cvcore.errors import CvcoreError
from cvcore.recipe import Recipe, make_recipe
from cvcore.run_directory import Run
from cvcore.strategies import phases

# Measured on two cores of a server CPU, roughly; finished runs of the same recipe are better evidence.
GFLOP_A_SECOND = 90.0  # of small convnets
BASE_GFLOP_A_SECOND = {  # depthwise convolutions do little with each number that they fetch
    "VGG16": 150.0, "ResNet50": 150.0, "Xception": 40.0, "EfficientNetV2B0": 35.0, "MobileNetV2": 15.0,
}  # fmt: skip
BASE_OUTPUTS = {  # 10^6 outputs of all layers together, of one picture of the base's own image_size, alpha 1
    "doodle-base": 0.16, "VGG16": 15.0, "ResNet50": 39.0, "Xception": 58.5, "EfficientNetV2B0": 16.2,
    "MobileNetV2": 21.8,
}  # fmt: skip
SECONDS_A_STEP = 0.004
SECONDS_A_START = 6.0  # starting Python and importing Keras, which a run's own total leaves out
PROCESS_MB = 700.0
CHUNK = 32  # pictures of which a frozen base computes the features to be stored at a time


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


def estimate(
    recipe: Recipe, counts: dict[str, Any], runs: Sequence[Run] = (), *, kind: str = "CPU", continues: bool = False
) -> Estimate:
    """Estimate a run's wall time and peak memory.

    Args:
        recipe: what would be trained.
        counts: pictures a split, or {class: pictures} a split, as in `Dataset.counts`.
        runs: saved runs; finished ones of the same recipe and base, those with the nearest number of training
            pictures, tell how fast training goes, and how much memory it takes where their batches and pictures are
            as large.
        kind: `CPU` or `GPU`, what it would train on; runs on the other say nothing.
        continues: it continues a saved features run, so that its head need not be trained first.
    """
    pictures = {split: sum(n.values()) if isinstance(n, dict) else int(n) for split, n in counts.items()}
    pictures = pictures_used(recipe, pictures)
    work, steps = operations(recipe, pictures, continues)
    same = _nearest([run for run in runs if run.status == "done" and _alike(run, recipe, kind)], pictures["train"])
    measured = [(run, rate) for run in same if (rate := _seconds_a_gflop(run)) is not None][:5]
    rates = [rate for _, rate in measured]
    words = []
    if measured:
        noun = "run" if len(measured) == 1 else "runs"
        recorded = "recorded reference" if all(run.reference for run, _ in measured) else "finished"
        words.append(f"Scaled by operations from {len(measured)} {recorded} {noun} of this recipe.")
    else:
        words.append("A rough guess: the operations of this network at the speed of its kind on two CPU cores.")
        if kind == "GPU":
            words.append("A GPU takes a small part of that.")
    # A run that found its features stored was quicker than one that must compute them.
    rate = (max(rates) if recipe.cached else median(rates)) if rates else 1 / gflop_a_second(recipe)
    if recipe.early_stopping_patience is not None:
        words.append("Early stopping may end it sooner.")
    seconds = SECONDS_A_START + steps * SECONDS_A_STEP + work * rate
    peaks = [run.info["peak_memory"] for run, _ in measured if _as_large(run, recipe, pictures)]
    memory = max(peaks) if peaks else PROCESS_MB + _activations_mb(recipe) + _pictures_mb(recipe, pictures)
    return Estimate(seconds, memory, " ".join(words))


def pictures_used(recipe: Recipe, pictures: dict[str, int]) -> dict[str, int]:
    """Return how many pictures a split a run uses: of the training split perhaps fewer than there are."""
    train = pictures.get("train", 0)
    return {**pictures, "train": min(train, recipe.train_pictures or train)}


def operations(recipe: Recipe, pictures: dict[str, int], continues: bool = False) -> tuple[float, int]:
    """Count a run's work.

    Args:
        recipe: what is trained.
        pictures: how many a split has.
        continues: it continues a saved features run.

    Returns:
        (10^9 floating-point operations, steps); a training step costs a forward pass and twice that backwards
        through what is trained.
    """
    pictures = pictures_used(recipe, pictures)
    train, validation, test = (pictures.get(split, 0) for split in ("train", "validation", "test"))
    work, steps = 0.0, 0
    for phase in phases(recipe, continues):
        chosen = phase.recipe
        epochs, forward = chosen.epochs, forward_gflop(chosen)
        a_pass = -(-train // chosen.batch_size)
        a_epoch = chosen.steps_per_epoch or a_pass
        trained = train * a_epoch / a_pass if a_pass else 0
        validated = validation if recipe.validation_steps is None else recipe.validation_steps * recipe.batch_size
        validated = min(validated, validation)
        steps += epochs * (a_epoch + -(-validated // 64))
        if phase.on_features:
            work += forward * (train + validation)
        else:
            backward = {"everything": 2.0, "head": 0.0}.get(phase.trainable, 0.5)
            work += epochs * forward * (trained * (1 + backward) + validated)
    return work + forward_gflop(recipe) * (test + validation), steps


def forward_gflop(recipe: Recipe) -> float:
    """Count 10^9 floating-point operations of one forward pass of one picture."""
    if recipe.base:
        base = BASES[recipe.base]
        return base.gflop * (recipe.image_size / base.image_size) ** 2 * recipe.alpha**2
    convolutions = _convolutions(recipe)
    total, channels, side = 0.0, _channels(recipe), convolutions[-1][1]
    for of_output, _, filters in convolutions:
        total += 2 * 9 * channels * filters * of_output**2
        channels = filters
    units = channels * (side * side if recipe.pooling == "flatten" else 1)
    for width in (*recipe.dense, 1):
        total += 2 * units * width
        units = width
    return total / 1e9


def _convolutions(recipe: Recipe) -> list[tuple[int, int, int]]:
    """List a convnet's convolutions: side of the output, side after a pooling if there is one, filters."""
    found, side = [], recipe.image_size
    pools = len(recipe.filters) if recipe.pools is None else recipe.pools
    for index, filters in enumerate(recipe.filters, start=1):
        of_output = max(1, side - 2)
        side = max(1, of_output // 2) if index <= pools else of_output
        found.append((of_output, side, filters))
    return found


def gflop_a_second(recipe: Recipe) -> float:
    """Return how many 10^9 operations a second two CPU cores do of this network, roughly."""
    return BASE_GFLOP_A_SECOND.get(recipe.base or "", GFLOP_A_SECOND)


def _activations_mb(recipe: Recipe) -> float:
    """What a batch takes: of a base that computes features two large layers; of one in each step every layer's outputs,
    as the graph keeps them; of a convnet's convolutions five times that: pooled, gradients, workspace."""
    if recipe.base is None:
        floats = 5.0 * sum(side**2 * filters for side, _, filters in _convolutions(recipe))
    elif recipe.cached:
        side = recipe.image_size if recipe.base == "VGG16" else recipe.image_size / 2
        floats = 2 * side**2 * 64 * recipe.alpha
    else:
        width = (1 + 7 * recipe.alpha) / 8  # the first and the last layers do not follow alpha
        floats = 1e6 * BASE_OUTPUTS[recipe.base] * (recipe.image_size / BASES[recipe.base].image_size) ** 2 * width
    return (CHUNK if recipe.cached else recipe.batch_size) * floats * 4 / 1e6


def _pictures_mb(recipe: Recipe, pictures: dict[str, int]) -> float:
    """The decoded pictures, which are mapped into memory."""
    return sum(pictures.values()) * recipe.image_size**2 * _channels(recipe) / 1e6


def _channels(recipe: Recipe) -> int:
    return 1 if recipe.color_mode == "grayscale" else 3


def _alike(run: Run, recipe: Recipe, kind: str) -> bool:
    device = run.info.get("device")
    return all(run.recipe.get(name) == getattr(recipe, name) for name in ("id", "base", "alpha", "cached")) and (
        isinstance(device, dict) and device.get("kind") == kind
    )


def _nearest(runs: list[Run], train: int) -> list[Run]:
    """Keep the runs whose number of training pictures is nearest: a short run's start and end weigh more in it."""
    distances = [abs(log((_trained_on(run) or 1) / (train or 1))) for run in runs]
    nearest = min(distances, default=0.0) + 1e-9
    return [run for run, distance in zip(runs, distances, strict=True) if distance <= nearest]


def _trained_on(run: Run) -> int:
    counts = run.dataset.get("counts", {}).get("train", {})
    there = sum(counts.values())
    return min(there, run.recipe.get("train_pictures") or there)


def _as_large(run: Run, recipe: Recipe, pictures: dict[str, int]) -> bool:
    """Whether a run tells the memory of one with these pictures: its own were no fewer, or no smaller part of them."""
    same = all(run.recipe.get(name) == getattr(recipe, name) for name in ("image_size", "batch_size"))
    enough = run.recipe.get("train_pictures") is None or _trained_on(run) >= pictures["train"]
    return same and enough and isinstance(run.info.get("peak_memory"), int | float)


def _seconds_a_gflop(run: Run) -> float | None:
    try:
        recipe = make_recipe(**run.recipe)
        counts = {split: sum(n.values()) for split, n in run.dataset["counts"].items()}
        work, steps = operations(recipe, counts, bool(run.info.get("from_run")))
        seconds = float(run.info["timings"]["total"]) - steps * SECONDS_A_STEP
    except (CvcoreError, KeyError, TypeError, AttributeError, ValueError):  # an imported run, or of another version
        return None
    return max(seconds, 0.0) / work if work else None
