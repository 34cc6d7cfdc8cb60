"""Where a run trains when nobody waits for it: on this machine, or on a Ray cluster. Settings say which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cvcore import settings, waiting_line
from cvcore.backends import worker_process
from cvcore.backends.interface import Backend, Capacity, Status
from cvcore.errors import CvcoreError
from cvcore.run_directory import RESUMABLE, Run, list_runs, load_run
from cvcore.run_writer import requeue

if TYPE_CHECKING:
    from cvcore.admission import Room

__all__ = [
    "Backend", "Capacity", "Status", "capacity", "chosen", "look_after", "resume", "room", "status", "stop", "submit",
]  # fmt: skip


def chosen() -> Backend:
    """Return the backend that the settings name: Ray where CVCORE_RAY_ADDRESS is set, else this machine."""
    if settings.ray_address():
        from cvcore.backends.ray_backend import RayBackend

        return RayBackend()
    from cvcore.backends.local import LocalBackend

    return LocalBackend()


def submit(run: Run) -> None:
    """See that a queued run will be trained, and return at once; `status` says what keeps it from being trained."""
    chosen().submit(run)


def stop(run: Run) -> None:
    """Ask a queued or running run to stop; what it has is kept.

    Raises:
        CvcoreError: the run is not queued or running, or the request cannot be written.
    """
    chosen().stop(run)


def status(folder: Path | None = None) -> Status:
    """Say how the backend is, for a runs folder; default `settings.runs_folder()`."""
    return chosen().status(folder)


def capacity(folder: Path | None = None) -> Capacity:
    """Say what the backend trains with."""
    return chosen().capacity(folder)


def room(runs: Sequence[Run], capacity: Capacity) -> Room:
    """Say what memory one run can have.

    Args:
        runs: of the folder.
        capacity: of the backend.
    """
    from cvcore import admission  # which the worker has no need of

    if chosen().name == "local":
        return admission.room_here(runs)
    return admission.Room(capacity.memory_mb, "what a run can have in the cluster")


def look_after(folder: Path | None = None) -> str | None:
    """Start a worker if runs need one and none lives; cheap enough for every two seconds.

    Args:
        folder: the runs folder; default `settings.runs_folder()`.

    Returns:
        One sentence on why no worker could be started, or None.
    """
    folder = folder or settings.runs_folder()
    if not worker_process.needed(list_runs(folder)):
        return None
    try:
        worker_process.ensure(folder)
    except CvcoreError as error:
        return str(error)
    return None


def resume(run_id: str, runs: Path | None = None) -> None:
    """Queue a stopped, failed or interrupted run again; it goes on after its last finished epoch.

    It waits as a launch of its owner, whoever resumes it.

    Raises:
        LineFull: its owner has as many launches waiting as one may have.
        TooLarge: it needs more memory than there is.
        CvcoreError: there is no such run, or it is queued, running or done.
    """
    from cvcore import admission

    folder = runs or settings.runs_folder()
    load_run(run_id, folder)
    backend, there = chosen().name, capacity(folder)
    with waiting_line.submitting(folder):
        run, known = load_run(run_id, folder), list_runs(folder)
        if run.status in RESUMABLE:  # else `requeue` says what it is
            group = (run.group or {}).get("id")
            waiting_line.check_waiting(known, run.owner, group=group, whose="of this run's owner")
            admission.check_again(run, room(known, there))
        queued = requeue(run, ticket=waiting_line.next_ticket(known), backend=backend)
    submit(queued)
