"""Whether the memory that a run is estimated to take is there; if not, what of it could be smaller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cvcore.bases import BASES, MOBILENET_ALPHAS
from cvcore.errors import InvalidRecipe, TooLarge
from cvcore.estimate import Device, Estimate, estimate
from cvcore.memory import Memory, held, memory
from cvcore.processes import on_this_computer
from cvcore.recipe import Recipe
from cvcore.run_directory import Run
from cvcore.workload import Stock, Workload, workload

IMAGE_SIZES = (299, 224, 192, 180, 160, 150, 128, 96, 64, 48, 32)


@dataclass(frozen=True)
class Room:
    """Memory that one run can have.

    Attributes:
        megabytes: how much, MB (10^6 bytes); None where nobody tells, and every run is admitted.
        words: where the figure comes from, as the end of a sentence.
    """

    megabytes: float | None
    words: str = ""


def room_here(runs: Sequence[Run], now: Memory | None = None) -> Room:
    """Say what a run of this machine can have when its turn comes: what is free now, and what comes back until then.

    Args:
        runs: saved runs; the memory of those that train here now comes back when they end.
        now: what is free now; None measures it.
    """
    now = now or memory()
    training = [run.process for run in runs if run.status == "running" and run.process]
    returning = sum(held(int(process["pid"])) for process in training if on_this_computer(process))
    megabytes = min(now.total, now.free + returning)
    whose = "the container's limit is" if now.contained else "this machine has"
    return Room(megabytes, f"{whose} {now.total:,.0f} MB, and others take {now.total - megabytes:,.0f} MB of it")


def check(
    recipe: Recipe,
    counts: dict[str, Any],
    room: Room,
    runs: Sequence[Run] = (),
    *,
    kind: str = "CPU",
    continues: bool = False,
    device: Device | None = None,
    stock: Stock | None = None,
) -> Estimate:
    """Estimate a run and check that it fits, before anything of it is made.

    Args:
        recipe, counts, runs, kind, continues, device, stock: as for `cvcore.estimate.estimate`.
        room: what a run can have, of this machine or of a cluster's.

    Returns:
        The estimate.

    Raises:
        TooLarge: it does not fit into memory, or its views would take more than half of the store; the sentence has
            the numbers, and a smaller recipe that fits where there is one.
    """
    if stock is not None and stock.limit is not None:
        _check_views(recipe, counts, continues, stock.limit)
    found = estimate(recipe, counts, runs, kind=kind, continues=continues, device=device, stock=stock)
    if _fits(found.memory_mb, room):
        return found
    told = _told(found.memory_mb, room)
    # Where runs have shown that this recipe takes more than was reckoned, its smaller kin takes more in proportion.
    more = max(1.0, found.memory_mb / estimate(recipe, counts, continues=continues, stock=stock).memory_mb)
    for changes in _smaller(recipe):
        try:
            smaller = recipe.with_changes(**changes)
        except InvalidRecipe:
            continue
        needed = more * estimate(smaller, counts, runs, kind=kind, continues=continues, device=device).memory_mb
        if _fits(needed, room):
            words = " and ".join(f"{name} {value:g}" for name, value in changes.items())
            raise TooLarge(f"{told}; choose {words}, with which it would need about {needed:,.0f} MB")
    raise TooLarge(f"{told}; no smaller batch, picture or base of this recipe fits: free memory, or train elsewhere")


def _check_views(recipe: Recipe, counts: dict[str, Any], continues: bool, limit: int) -> None:
    """Check that the views of a run take at most half of the store, so that they do not push out what others stored.

    Raises:
        TooLarge: they take more; the sentence has the numbers, and the most views that do not.
    """

    def having(views: int) -> Workload:
        first = recipe.starts_from
        start = {"starts_from": {"views": min(views, first.views)}} if first and first.views else {}
        own = {"views": min(views, recipe.views)} if recipe.views else {}
        return workload(recipe.with_changes(**own, **start), counts, continues=continues)

    def needed(views: int) -> int:
        return having(views).views_bytes

    most = max(recipe.views, recipe.starts_from.views if recipe.starts_from else 0)
    half = limit // 2
    if not most or needed(most) <= half:
        return
    most = having(most).views  # no more than there are passes
    told = (f"the activations of {most} views of each training picture would take {needed(most) / 1e9:.2f} GB, and the "
            f"views of one run may take half of the store's {limit / 1e9:.2f} GB (CVCORE_CACHE_LIMIT)")  # fmt: skip
    fewer = next((views for views in range(most - 1, 0, -1) if needed(views) <= half), 0)
    if not fewer:
        raise TooLarge(f"{told}; set views to 0, which draws them anew in every epoch, or take smaller pictures")
    raise TooLarge(f"{told}; choose views {fewer}, which take {needed(fewer) / 1e9:.2f} GB, or 0, which draws them "
                   "anew in every epoch")  # fmt: skip


def check_again(run: Run, room: Room) -> None:
    """Check that a run fits that was estimated when it was launched; one without an estimate is admitted.

    Raises:
        TooLarge: it does not fit; the sentence has the numbers.
    """
    needed = (run.estimate or {}).get("memory_mb")
    if needed is not None and not _fits(needed, room):
        raise TooLarge(f"{_told(needed, room)}; free memory and resume it then, or launch a smaller one")


def _fits(megabytes: float, room: Room) -> bool:
    return room.megabytes is None or megabytes <= room.megabytes


def _told(megabytes: float, room: Room) -> str:
    where = f" ({room.words})" if room.words else ""
    return f"this run would need about {megabytes:,.0f} MB of memory and {room.megabytes:,.0f} MB can be had{where}"


def _smaller(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """List changes that make a run smaller, the one that changes least what is learned first."""
    batches = [recipe.batch_size // part for part in (2, 4, 8, 16, 32, 64, 128) if recipe.batch_size // part >= 4]
    least = BASES[recipe.base].min_image_size if recipe.base else 16
    sizes = [size for size in IMAGE_SIZES if least <= size < recipe.image_size]
    alphas = [alpha for alpha in sorted(MOBILENET_ALPHAS, reverse=True) if alpha < recipe.alpha]
    if not recipe.cached:  # whose base runs on the same number of pictures at a time whatever the batches of the head
        yield from ({"batch_size": batch} for batch in batches)
    yield from ({"image_size": size} for size in sizes)
    if recipe.base == "MobileNetV2":
        yield from ({"alpha": alpha} for alpha in alphas)
    yield from ({"batch_size": batch, "image_size": size} for batch in batches for size in sizes)
