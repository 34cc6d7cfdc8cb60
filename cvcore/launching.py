"""Launch a run, or one recipe over seeds and training-set sizes, after every check: is it there, does it fit, may it
wait. The checks and the writing are one step, so that two browsers cannot pass a limit or launch a run twice."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cvcore import admission, backends, choices, devices, settings, waiting_line
from cvcore.datasets import Dataset
from cvcore.errors import AlreadyThere, CvcoreError, LineFull
from cvcore.estimate import Device, Estimate
from cvcore.identical import identical_run
from cvcore.new_run import check_continues, check_fits, new_run
from cvcore.recipe import Recipe
from cvcore.run_checks import LAST, LONGEST_NAME, checked_name
from cvcore.run_directory import Run, list_runs, load_run
from cvcore.run_writer import BEING_MADE
from cvcore.stock import stock_of

MOST_OF_A_STUDENT = 12  # runs of one sweep
MOST_OF_A_TEACHER = 60
LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Sweep:
    """One recipe over seeds and training-set sizes.

    Attributes:
        group: as in run.json of each run of it: {id, title, seeds, train_pictures, there}; there has the ids of runs
            that were trained or launched before and belong to it all the same.
        launched: the new runs, as they were queued: all sizes of the first seed, then of the next.
        there: the others.
    """

    group: dict[str, Any]
    launched: tuple[Run, ...]
    there: tuple[Run, ...]


def launch(
    recipe: Recipe,
    dataset: Dataset,
    seed: int,
    *,
    runs: Path | None = None,
    from_run: str | None = None,
    owner: str | None = None,
    anyway: bool = False,
    name: str | None = None,
) -> Run:
    """Queue a run and return at once; a worker trains it when its turn comes, whatever becomes of this process.

    Args:
        recipe: what to train.
        dataset: an opened dataset.
        seed: 0 to 2**31 - 1.
        runs: the runs folder; default `settings.runs_folder()`.
        from_run: id of a features run that a finetune recipe continues; None trains the head first.
        owner: whose run it is; None from a terminal.
        anyway: queue it although the same run is there.
        name: what its owner calls it, or None.

    Raises:
        AlreadyThere: the same run is done, trains or waits; names do not matter.
        TooLarge: it needs more memory than there is.
        LineFull: this owner has as many launches waiting as one may have.
        CvcoreError: the recipe does not fit, or the run cannot be written.
    """
    folder = runs or settings.runs_folder()
    check_fits(recipe, dataset)
    backend, capacity = backends.chosen().name, backends.capacity(folder)
    with waiting_line.submitting(folder):
        known = list_runs(folder)
        twin = None if anyway else identical_run(recipe, dataset.summary(), seed, from_run, known)
        if twin is not None:
            raise AlreadyThere(_there(twin), twin.id, twin.status)
        expected = estimated(recipe, dataset, known, capacity, from_run)
        _check_waiting(known, owner)
        run = new_run(recipe, dataset, seed, runs=folder, from_run=from_run, owner=owner, name=name, backend=backend,
                      ticket=waiting_line.next_ticket(known), estimate=asdict(expected))  # fmt: skip
    backends.submit(run)
    return run


def launch_sweep(
    recipe: Recipe,
    dataset: Dataset,
    seeds: Sequence[int],
    train_pictures: Sequence[int | None] = (None,),
    *,
    runs: Path | None = None,
    from_run: str | None = None,
    owner: str | None = None,
    anyway: bool = False,
    title: str | None = None,
    most: int = MOST_OF_A_STUDENT,
) -> Sweep:
    """Queue a recipe for every seed and training-set size as one group, which waits as one launch.

    Runs that are there already are not trained again: the group names them.

    Args:
        recipe, dataset, runs, from_run, owner: as for `launch`.
        seeds: different ones, see `seeds_from`.
        train_pictures: different training-set sizes, see `sizes_of`; None for all pictures.
        anyway: train again what is there already.
        title: what to call the group, 1 to 80 printable characters; default the recipe and what it is repeated over.
        most: runs that it may have.

    Raises:
        AlreadyThere: every one of its runs is there.
        TooLarge, LineFull, CvcoreError: as for `launch`, or the title is none; then none of its runs is queued.
    """
    folder = runs or settings.runs_folder()
    title = checked_name(title, "a title") or sweep_title(recipe, seeds, train_pictures)
    wanted = variants(recipe, dataset, seeds, train_pictures, most)
    for variant in dict(wanted):
        check_fits(variant, dataset)
        if from_run is not None:
            check_continues(variant, load_run(from_run, folder), dataset)
    backend, capacity = backends.chosen().name, backends.capacity(folder)
    with waiting_line.submitting(folder):
        known = list_runs(folder)
        summary = dataset.summary()
        twins = [None if anyway else identical_run(variant, summary, seed, from_run, known) for variant, seed in wanted]
        there = tuple(twin for twin in twins if twin is not None)
        if len(there) == len(wanted):
            raise AlreadyThere(f"all {len(there)} runs of this sweep are there already", there[0].id, there[0].status)
        group_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-sweep-{secrets.token_hex(2)}"
        group = {"id": group_id, "title": title, "seeds": list(seeds), "train_pictures": list(train_pictures),
                 "there": [run.id for run in there]}  # fmt: skip
        new = [pair for pair, twin in zip(wanted, twins, strict=True) if twin is None]
        expected = {variant: estimated(variant, dataset, known, capacity, from_run) for variant in dict(new)}
        _check_waiting(known, owner, group_id)
        ticket = waiting_line.next_ticket(known)
        launched: list[Run] = []
        try:
            for place, (variant, seed) in enumerate(new):
                launched.append(
                    new_run(variant, dataset, seed, runs=folder, from_run=from_run, owner=owner, backend=backend,
                            ticket=min(LAST, ticket + place), estimate=asdict(expected[variant]), group=group)
                )  # fmt: skip
        except BaseException:
            for run in launched:
                _take_back(run)
            raise
    backends.submit(launched[0])
    return Sweep(group, tuple(launched), there)


def estimated(
    recipe: Recipe, dataset: Dataset, known: Sequence[Run], capacity: backends.Capacity, from_run: str | None = None
) -> Estimate:
    """Estimate a run where it would train, and check that it fits there.

    Args:
        recipe, dataset, from_run: as for `launch`.
        known: the runs of the folder.
        capacity: of the backend.

    Raises:
        TooLarge: it needs more memory than there is.
    """
    room, continues = backends.room(known, capacity), from_run is not None
    about = here(recipe, dataset, capacity.kind, continues) if backends.chosen().name == "local" else {}
    return admission.check(recipe, dataset.counts, room, known, kind=capacity.kind, continues=continues, **about)


def here(recipe: Recipe, dataset: Dataset, kind: str, continues: bool = False) -> dict[str, Any]:
    """Return what this machine adds to an estimate of a run that it would train: {device, stock}."""
    name = choices.gpu() if kind == "GPU" else devices.cpu_name()
    cores = None if kind == "GPU" else devices.available_cores()
    return {"device": Device(kind, name, cores), "stock": stock_of(recipe, dataset, continues=continues)}


def variants(
    recipe: Recipe,
    dataset: Dataset,
    seeds: Sequence[int],
    train_pictures: Sequence[int | None],
    most: int = MOST_OF_A_STUDENT,
) -> list[tuple[Recipe, int]]:
    """List the runs of a sweep: (recipe, seed) for all sizes of the first seed, then of the next.

    Raises:
        CvcoreError: there are none, the same twice, or more than one may launch at once.
    """
    there = len(dataset.split("train"))
    sizes = [size if size is None else int(size) for size in train_pictures]
    full = [size or there for size in sizes]
    if not seeds or not sizes or len(set(seeds)) < len(seeds) or len(set(full)) < len(full):
        raise CvcoreError(f"a sweep needs different seeds and different training-set sizes; received seeds "
                          f"{list(seeds)} and sizes {full}")  # fmt: skip
    if wrong := [seed for seed in seeds if not 0 <= seed <= LARGEST_SEED]:
        raise CvcoreError(f"seed must be between 0 and {LARGEST_SEED}; received {wrong[0]}")
    if len(seeds) * len(sizes) > most:
        raise CvcoreError(f"a sweep may have at most {most} runs; received {len(seeds)} seeds and {len(sizes)} "
                          f"training-set sizes, which are {len(seeds) * len(sizes)}")  # fmt: skip
    by_size = [recipe.with_changes(train_pictures=size) for size in sizes]
    return [(variant, seed) for seed in seeds for variant in by_size]


def seeds_from(seed: int, count: int) -> list[int]:
    """List seeds for a sweep: this one and those that follow, 0 after the largest."""
    return [(seed + step) % (LARGEST_SEED + 1) for step in range(count)]


def sizes_of(dataset: Dataset, least: int = 2) -> list[int]:
    """List sensible training-set sizes, ascending: halves of halves of the training split, down to a sixteenth.

    Args:
        dataset: the pictures.
        least: pictures that a size must have at least, as a batch; one of each class it must have in any case.
    """
    there = len(dataset.split("train"))
    return [there // part for part in (16, 8, 4, 2) if there // part >= max(least, 2, len(dataset.class_names))]


def sweep_title(recipe: Recipe, seeds: Sequence[int], train_pictures: Sequence[int | None]) -> str:
    """Name a sweep by its recipe and what it is repeated over, as one may be named."""
    parts = [f"{len(seeds)} seeds"] if len(seeds) > 1 else []
    parts += [f"{len(train_pictures)} training-set sizes"] if len(train_pictures) > 1 else []
    over = f" over {' and '.join(parts)}" if parts else ""
    called = "".join(letter if letter.isprintable() else " " for letter in recipe.title or recipe.id)
    return f"{called[: LONGEST_NAME - len(over)]}{over}"


def group_runs(group_id: str, runs: Iterable[Run]) -> tuple[dict[str, Any] | None, list[Run]]:
    """Find a sweep by its id: the group as its runs have it, and its runs, those that were there before among them.

    Args:
        group_id: from an address, so perhaps nobody's.
        runs: saved runs.

    Returns:
        (None, []) where no run belongs to it.
    """
    by_id = {run.id: run for run in runs}
    own = [run for run in by_id.values() if isinstance(run.group, dict) and run.group.get("id") == group_id]
    if not own:
        return None, []
    group = own[0].group or {}
    before = [by_id[name] for name in group.get("there") or [] if name in by_id]
    return group, sorted([*own, *before], key=lambda run: (run.ticket or 0, run.id))


def _take_back(run: Run) -> None:
    """Remove a run that was queued a moment ago; a process that trains it already finds it gone, and ends."""
    hidden = run.path.with_name(f"{BEING_MADE}{run.id}")
    with suppress(OSError):
        run.path.rename(hidden)
        shutil.rmtree(hidden)


def _there(run: Run) -> str:
    does = {"done": "is done", "running": "is training now"}.get(run.status, "waits for its turn")
    return f"the same run (recipe, pictures and seed) {does}: {run.id}; open it, or launch it anyway"


def _called(run: Run) -> str:
    """Name a run in a sentence: in a terminal by its id, which its commands take."""
    return run.id if run.owner is None else f"{run.recipe['id']}, seed {run.seed}"


def _check_waiting(known: list[Run], owner: str | None, group: str | None = None) -> None:
    """Check the limit as `waiting_line.check_waiting` does, and name the runs that wait."""
    try:
        waiting_line.check_waiting(known, owner, group=group)
    except LineFull as error:
        waiting = [run for run in waiting_line.in_order(known) if run.owner == owner]
        names = dict.fromkeys(str((run.group or {}).get("title") or run.name or _called(run)) for run in waiting)
        raise LineFull(f"{error} ({'; '.join(names)})") from None
