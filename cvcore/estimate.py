"""What a run will take before it is launched: seconds, memory and disk, of work counted and of rates measured.

    seconds = start + pace x (decode + extract + steps + evaluation)

`workload` counts the work, `rates` says how long it takes where it was calibrated, and the pace, how much slower the
device of the run is, comes from runs that were trained on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from math import log
from statistics import median
from typing import Any

from cvcore import rates
from cvcore.errors import CvcoreError
from cvcore.layer_counts import Layer
from cvcore.memory import KEPT as MAP_KEPT
from cvcore.recipe import Recipe, make_recipe
from cvcore.run_directory import Run
from cvcore.strategies import phases
from cvcore.workload import FLOAT32, Extraction, Stock, Training, Workload, workload

# Fitted to the runs of 22 November 2026 that tests/test_estimate.py lists, on the device of `rates`.
START = 3.3  # seconds from launch until Keras is imported, one of them until the worker has started the process
BUILT_LAYER = 0.002  # seconds to build a layer of the network
PHASE = 0.3  # seconds to make a phase ready
PHASE_LAYER = 0.02  # and for each layer that it trains through
STEP = 0.003  # seconds of a step beside its mathematics: the next batch, callbacks
COMPILED_STEP = 0.0003  # the same where many steps are one call
EPOCH = 0.02  # seconds of an epoch beside its steps: metrics, state, history
EXTRACTED_LAYER = 0.008  # seconds for each layer that pictures go through, before the first of them do
EVALUATION_BATCH = 64
CHUNK = 32  # pictures of which a frozen base computes the activations to be stored at a time
PROCESS_MB = 585.0  # Python, Keras and TensorFlow
LAYER_MB = 0.25  # a layer in the graph
COPIES = 3  # of the weights: loaded, in the network, as the device's library orders them
TRAINED_COPIES = 4  # of those trained beside that: gradients, optimizer, the best ones, the state on its way to disk
STEP_MB = 80.0  # what TensorFlow takes to train convolutions at all
KEPT = 2.5  # of the outputs above the first trained layer: themselves, their gradients, workspace
IN_MEMORY = 256e6  # bytes of a head's activations that are
PASSING = 1.3  # of the largest two layers that follow one another, where nothing is trained
MOST_RUNS = 5  # that tell how fast a recipe is trained


@dataclass(frozen=True)
class Device:
    """What a run trains on, as its run.json says it.

    Attributes:
        kind: `CPU` or `GPU`.
        name: of the processor or GPU; None for any of this kind.
        cores: that a process may use; None for any number.
    """

    kind: str = "CPU"
    name: str | None = None
    cores: int | None = None

    def trained(self, run: Run) -> bool:
        """Say whether a run was trained on such a device."""
        told = run.info.get("device")
        if not isinstance(told, dict) or told.get("kind") != self.kind:
            return False
        return self.name is None or (told.get("name") == self.name and self.cores in (None, told.get("cores")))


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        seconds: wall time from launch to the end.
        memory_mb: peak memory of the training process, MB (10^6 bytes).
        basis: a few sentences that say what the figures rest on.
        disk_mb: what its activations take in the store, MB; 0 where it stores none.
        again_seconds: wall time where a run before has decoded and stored what can be; of one that finds it so, the
            same as `seconds`.
        terms: seconds by what they are for: start, decode, extract, steps, evaluation; their sum is `seconds`.
    """

    seconds: float
    memory_mb: float
    basis: str
    disk_mb: float = 0.0
    again_seconds: float | None = None
    terms: dict[str, float] = field(default_factory=dict)


def estimate(
    recipe: Recipe,
    counts: Mapping[str, Any],
    runs: Sequence[Run] = (),
    *,
    kind: str = "CPU",
    continues: bool = False,
    device: Device | None = None,
    stock: Stock | None = None,
) -> Estimate:
    """Estimate a run's wall time, peak memory and disk.

    Args:
        recipe: what would be trained.
        counts: pictures a split, or {class: pictures} a split, as in `Dataset.counts`.
        runs: saved runs; those that ended on this device tell how fast it is, and those of the same recipe how much
            memory it takes where their batches and pictures are as large.
        kind: `CPU` or `GPU`, what it would train on; runs on the other say nothing.
        continues: it continues a saved features run, so that its head need not be trained first.
        device: what it would train on more exactly; None for any of this kind.
        stock: what this machine has stored already; None for nothing.
    """
    work = workload(recipe, counts, continues=continues, stock=stock)
    on = device or Device(kind)
    found = pace(recipe, work.pictures["train"], runs, on)
    terms = terms_of(work, found.times)
    basis = [found.words]
    if on.kind == "GPU" and found.times == 1:
        basis.append("A GPU takes a small part of that.")
    if recipe.early_stopping_patience is not None:
        basis.append("Early stopping may end it sooner.")
    everything = [each.key for each in work.extractions if recipe.weights == "pretrained"]  # random ones differ by seed
    limit = stock.limit if stock else None
    again = workload(recipe, counts, continues=continues, stock=Stock(tuple(counts), everything, limit))
    peaks = [run.info["peak_memory"] for run in found.same if _as_large(run, recipe, work)]
    return Estimate(
        sum(terms.values()),
        max(peaks) if peaks else memory_mb(work),
        " ".join(basis),
        work.disk_bytes / 1e6,
        sum(terms_of(again, found.times).values()),
        terms,
    )


def terms_of(work: Workload, pace: float = 1.0) -> dict[str, float]:
    """Return the seconds of a run by what they are for.

    Args:
        work: what it does.
        pace: how many times as long the device takes as the one that the rates were calibrated on.
    """
    ready = sum(PHASE + PHASE_LAYER * len(_trained_through(training)) for training in work.trainings)
    megapixels = work.megapixels
    last = work.trainings[-1]
    seen = last.network.below + last.network.above if last.validated_in_model else last.network.above
    found = {
        "decode": work.decode * megapixels * rates.MEGAPIXEL,
        "extract": _extractions(work),
        "steps": ready + sum(training.epochs * _epoch(training) for training in work.trainings),
        "evaluation": sum(training.epochs * _validation(training) for training in work.trainings)
        + rates.forwards(seen, work.evaluated, -(-work.evaluated // EVALUATION_BATCH)),
    }
    network = work.trainings[-1].network
    start = START + BUILT_LAYER * len(network.below + network.above)
    return {"start": start, **{name: pace * seconds for name, seconds in found.items()}}


def _extractions(work: Workload) -> float:
    missing = [extraction for extraction in work.extractions if not extraction.stored]
    models = {(extraction.trainable, extraction.view is None): len(extraction.layers) for extraction in missing}
    return EXTRACTED_LAYER * sum(models.values()) + sum(map(_extract, missing))


def _extract(extraction: Extraction) -> float:
    seconds = rates.forwards(extraction.layers, extraction.pictures, -(-extraction.pictures // CHUNK))
    if extraction.view is not None:
        seconds += extraction.pictures * extraction.layers[0].side ** 2 * rates.WARPED
    return seconds + extraction.bytes * rates.STORED


def _epoch(training: Training) -> float:
    """Return the seconds of an epoch's steps."""
    net, pictures, steps = training.network, training.trained, training.steps
    seconds = rates.forwards(net.above, pictures, steps) + rates.backwards(net.above, net.trained, pictures, steps)
    if training.in_model:
        seconds += rates.forwards(net.below, pictures, steps)
        policy = training.recipe.augmentation
        if policy is not None and not policy.is_identity:
            seconds += pictures * training.recipe.image_size**2 * rates.WARPED
    return seconds + steps * (COMPILED_STEP if training.compiled_epochs else STEP) + EPOCH


def _validation(training: Training) -> float:
    batches = -(-training.validated // EVALUATION_BATCH)
    return rates.forwards(_validated_through(training), training.validated, batches)


def _trained_through(training: Training) -> tuple[Layer, ...]:
    net = training.network
    return net.below + net.above if training.in_model else net.above


def _validated_through(training: Training) -> tuple[Layer, ...]:
    net = training.network
    return net.below + net.above if training.validated_in_model else net.above


def memory_mb(work: Workload) -> float:
    """Return the peak memory of the training process, MB: what it always has, what it maps, and its largest stage."""
    stages = [_training_mb(training) for training in work.trainings]
    stages += [_extraction_mb(extraction) for extraction in work.extractions if not extraction.stored]
    net = work.trainings[-1].network
    layers, trained = net.below + net.above, net.above[net.trained :]
    numbers = COPIES * sum(layer.weights for layer in layers) + TRAINED_COPIES * sum(layer.weights for layer in trained)
    return PROCESS_MB + LAYER_MB * len(layers) + numbers * FLOAT32 / 1e6 + _mapped_mb(work) + max(stages)


def _training_mb(training: Training) -> float:
    """A step keeps the outputs of all layers above the first trained one for the gradients."""
    net, batch = training.network, training.recipe.batch_size
    kept = KEPT * sum(layer.outputs for layer in net.above[net.trained :])
    passed = PASSING * _largest_pair(net.below) if training.in_model else 0.0
    seen = PASSING * _largest_pair(_validated_through(training))
    stage = max(batch * (kept + passed), EVALUATION_BATCH * seen) * 4 / 1e6
    return stage + (STEP_MB if any(layer.kind != "dense" and layer.side > 1 for layer in net.above) else 0.0)


def _extraction_mb(extraction: Extraction) -> float:
    return CHUNK * PASSING * _largest_pair(extraction.layers) * 4 / 1e6


def _largest_pair(layers: Sequence[Layer]) -> int:
    return max((one.outputs + following.outputs for one, following in pairwise(layers)), default=0)


def _mapped_mb(work: Workload) -> float:
    """Of decoded pictures and stored activations, which are mapped, only what is small stays in memory.

    A head's activations are taken into memory where there are not too many.
    """
    recipe = work.trainings[-1].recipe
    maps = [work.pictures.get(split, 0) * recipe.image_size**2 * _channels(recipe) for split in work.read]
    maps += [extraction.bytes for extraction in work.extractions]
    held = sum(each.bytes for each in work.extractions if each.trainable == "head" and each.split != "test")
    return (sum(size for size in maps if size <= MAP_KEPT) + (held if held <= IN_MEMORY else 0)) / 1e6


def _channels(recipe: Recipe) -> int:
    return 1 if recipe.color_mode == "grayscale" else 3


@dataclass(frozen=True)
class Pace:
    """How fast a device is.

    Attributes:
        times: how many times as long it takes as the one that the rates were calibrated on.
        words: a sentence that says who tells.
        same: finished runs of the recipe on it.
    """

    times: float
    words: str
    same: tuple[Run, ...]


def pace(recipe: Recipe, train: int, runs: Sequence[Run], on: Device) -> Pace:
    """Find how fast a device is for a recipe.

    Runs of this recipe that were trained here say it best. Else each recipe's quickest run has a vote: what was slower
    had to share the machine. Recorded reference runs have none: nobody knows what else their machine did.

    Args:
        recipe: what would be trained.
        train: pictures it would be trained on.
        runs: saved runs.
        on: the device.
    """
    done = [run for run in runs if run.status == "done" and not run.imported and on.trained(run)]
    same = tuple(run for run in done if _alike(run, recipe))
    own = _nearest([run for run in same if not run.reference], train)
    times = list(islice((each for run in own if (each := _measured_pace(run)) is not None), MOST_RUNS))
    if times:
        noun = "run" if len(times) == 1 else "runs"
        return Pace(median(times), f"Reckoned from how long {len(times)} finished {noun} of this recipe took.", same)
    quickest: dict[str, float] = {}
    told: list[Run] = []
    for run in done:
        if run.reference:
            continue
        name = str(run.recipe.get("id"))
        enough = sum(other.recipe.get("id") == name for other in told) >= MOST_RUNS
        found = None if enough else _measured_pace(run)
        if found is not None:
            told.append(run)
            quickest[name] = min(quickest.get(name, found), found)
    if quickest:
        recipes = "1 recipe" if len(quickest) == 1 else f"each of {len(quickest)} recipes"
        words = f"Reckoned from the quickest finished run of {recipes}: a busy computer takes longer."
        return Pace(median(quickest.values()), words, same)
    return Pace(1.0, f"Reckoned at the speed of {rates.CALIBRATED_ON}: no run tells yet how fast this is.", same)


def _measured_pace(run: Run) -> float | None:
    """Return how many times as long a finished run took as the rates say; None where it does not tell."""
    if "_pace" not in run.__dict__:  # of a finished run it never changes
        run.__dict__["_pace"] = _pace_of(run)
    pace: float | None = run.__dict__["_pace"]
    return pace


def _pace_of(run: Run) -> float | None:
    try:
        recipe = make_recipe(**run.recipe)
        done = run.info.get("work")
        counts, continues = run.dataset["counts"], bool(run.info.get("from_run"))
        work = workload(recipe, counts, continues=continues, in_model=done is None)
        seconds = (run.metrics or {}).get("seconds") or {}
        named = [float(seconds.get(phase.name) or 0) for phase in phases(recipe, continues)]
        if all(number > 0 for number in named):
            expected = terms_of(replace(work, evaluated=0))  # the phases end before the best checkpoint is evaluated
            measured, reckoned = sum(named), expected["steps"] + expected["evaluation"]
            if isinstance(done, dict) and done.get("extracted_pictures") == work.extract:
                measured += float(seconds.get("features") or 0)
                reckoned += expected["extract"]
        else:
            expected = terms_of(work)
            measured, reckoned = float(run.info["timings"]["total"]), sum(expected.values()) - expected["start"]
    except (CvcoreError, KeyError, TypeError, AttributeError, ValueError):  # an imported run, or of another version
        return None
    return max(measured, 0.0) / reckoned if reckoned else None


def _alike(run: Run, recipe: Recipe) -> bool:
    return all(run.recipe.get(name) == getattr(recipe, name) for name in ("id", "base", "alpha", "cached"))


def _nearest(runs: list[Run], train: int) -> list[Run]:
    """Keep the runs whose number of training pictures is nearest: a short run's start and end weigh more in it."""
    distances = [abs(log((_trained_on(run) or 1) / (train or 1))) for run in runs]
    nearest = min(distances, default=0.0) + 1e-9
    return [run for run, distance in zip(runs, distances, strict=True) if distance <= nearest]


def _trained_on(run: Run) -> int:
    counts = run.dataset.get("counts", {}).get("train", {})
    there = sum(counts.values())
    return min(there, run.recipe.get("train_pictures") or there)


def _as_large(run: Run, recipe: Recipe, work: Workload) -> bool:
    """Whether a run tells the memory of one with these pictures: its own were no fewer, or no smaller part of them.

    What was trained before activations were stored at a cut tells it of no base.
    """
    same = all(run.recipe.get(name) == getattr(recipe, name) for name in ("image_size", "batch_size"))
    same = same and (run.recipe.get("views") or 0) == recipe.views
    enough = run.recipe.get("train_pictures") is None or _trained_on(run) >= work.pictures["train"]
    done = run.info.get("work")
    if recipe.base:
        extracted = isinstance(done, dict) and (done.get("extracted_pictures") or 0) > 0
        same = same and isinstance(done, dict) and extracted == (work.extract > 0)
    return same and enough and isinstance(run.info.get("peak_memory"), int | float)
