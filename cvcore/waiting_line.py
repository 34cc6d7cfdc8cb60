"""The line of queued runs: whose turn is next, who stands where, and how many of one owner may wait."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cvcore import trash
from cvcore.errors import CvcoreError, LineFull
from cvcore.locks import locked
from cvcore.run_checks import LAST
from cvcore.run_directory import Run, list_runs
from cvcore.settings import runs_folder, waiting_limit


@dataclass(frozen=True)
class Place:
    """Where a queued run stands.

    Attributes:
        position: 1 for the run that starts next.
        starts_in: seconds until it is expected to start, None where a run before it says nothing of its time.
    """

    position: int
    starts_in: float | None


def in_order(runs: list[Run]) -> list[Run]:
    """Return the queued runs in the order in which they start.

    First those that have a slot already, of a worker that was killed before their processes began: these still come.
    Then those that lost their process and go on by themselves. Then the owners one after the other, a run each, round
    after round: who was served longest ago first, and before those who was never served; among these who queued first.
    An owner's own runs start in the order in which they were queued. Runs without an owner count as one owner's.

    Args:
        runs: all runs of a folder: those that are not queued say when their owner was last served, as do the deleted
            ones in its trash.
    """
    queued = sorted((run for run in runs if run.status == "queued"), key=_queued_at)
    waiting: dict[str | None, deque[Run]] = {}
    for run in queued:
        if not run.requeues and not is_placed(run):
            waiting.setdefault(run.owner, deque()).append(run)
    deleted = trash.served(runs[0].path.parent) if waiting else {}
    served = {owner: deleted.get(owner, 0) for owner in waiting}
    for run in runs:
        if run.owner in served:
            served[run.owner] = max(served[run.owner], run.turn or 0)
    line = sorted((run for run in queued if is_placed(run)), key=lambda run: run.turn or 0)
    line += [run for run in queued if run.requeues and not is_placed(run)]
    # One round: an owner served goes to the end, behind everybody who waits.
    owners = deque(sorted(waiting, key=lambda owner: (served[owner], _queued_at(waiting[owner][0]))))
    while owners:
        owner = owners.popleft()
        line.append(waiting[owner].popleft())
        if waiting[owner]:
            owners.append(owner)
    return line


def is_placed(run: Run) -> bool:
    """Say whether a worker has given a slot to the current attempt of a run."""
    return run.info.get("placed") == run.attempt


def places(runs: list[Run], slots: int) -> dict[str, Place]:
    """Return where each queued run stands, by its id.

    Args:
        runs: all runs of a folder.
        slots: how many runs train at a time.
    """
    running = [run for run in runs if run.status == "running" and run.backend is not None]
    free: list[float] = [_left(run) for run in running]  # seconds until each slot is free, infinite when not known
    free += [0.0] * (max(1, slots) - len(free))
    heapq.heapify(free)
    found = {}
    for position, run in enumerate(in_order(runs), 1):
        starts_in = heapq.heappop(free)
        found[run.id] = Place(position, None if starts_in == float("inf") else starts_in)
        heapq.heappush(free, starts_in + _seconds(run, float("inf")))
    return found


def next_ticket(runs: list[Run]) -> int:
    """Return a place in the line behind that of every run; to be asked for while `submitting`."""
    return min(LAST, max((run.ticket or 0 for run in runs), default=0) + 1)


def next_turn(folder: Path | None = None) -> int:
    """Return the number of the next start in a runs folder; default `settings.runs_folder()`."""
    folder = folder or runs_folder()
    turns = (*(run.turn or 0 for run in list_runs(folder)), *trash.served(folder).values())
    return min(LAST, max(turns, default=0) + 1)


@contextmanager
def submitting(folder: Path | None = None) -> Iterator[None]:
    """Keep others from queueing runs meanwhile, so that a limit and a ticket hold when the run is written.

    Args:
        folder: the runs folder, made when missing; default `settings.runs_folder()`.

    Raises:
        CvcoreError: the folder is not writable, or somebody has been queueing for a minute.
    """
    folder = folder or runs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder / ".queue.lock")
        lock.__enter__()
    except OSError as error:
        raise CvcoreError(f"no run can be queued ({error.strerror or error}); make room in or give access to the runs "
                          "folder, then launch again") from error  # fmt: skip
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def check_waiting(
    runs: list[Run],
    owner: str | None,
    adding: int = 1,
    group: str | None = None,
    limit: int | None = None,
    whose: str = "of yours",
) -> None:
    """Check that an owner may add to the line; to be asked while `submitting`.

    Args:
        runs: all runs of the folder.
        owner: who adds.
        adding: how many launches.
        group: the id of the sweep that all of them belong to; a sweep counts as one launch, however many runs it has.
        limit: launches of one owner that may wait; default `settings.waiting_limit()`.
        whose: how the sentence calls an owner's launches.

    Raises:
        LineFull: one sentence.
    """
    limit = waiting_limit() if limit is None else limit
    waits = {(run.group or {}).get("id") or run.id for run in runs if run.status == "queued" and run.owner == owner}
    added = adding if group is None else len({group} - waits)
    if added and len(waits) + added > limit:
        words = "from the terminal" if owner is None else whose
        raise LineFull(f"at most {limit} launches {words} may wait at a time, and {len(waits)} wait now; wait until "
                       "one has started, or stop one that waits")  # fmt: skip


def _queued_at(run: Run) -> tuple[int, str]:
    return run.ticket or 0, run.id


def _seconds(run: Run, otherwise: float) -> float:
    found = (run.estimate or {}).get("seconds")
    return otherwise if found is None else float(found)


def _left(run: Run) -> float:
    """Return the seconds that a running run still takes: as it measures them in this phase, as estimated beyond it."""
    now, estimated = run.progress() or {}, _seconds(run, float("inf"))
    epoch, epochs, step, steps = (now.get(name) or 0 for name in ("epoch", "epochs", "step", "steps"))
    measured, last = now.get("seconds_left"), run.recipe.get("epochs") or epochs
    if not epochs:
        return estimated
    if measured is not None:
        return float(measured) + (estimated * last / epochs if epoch <= epochs - last else 0.0)
    done = epoch - 1 + (step / steps if steps and now.get("phase") == "training" else 0.0)
    return estimated * max(0.0, 1 - done / epochs)
