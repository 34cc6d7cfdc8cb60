"""What a backend and its engine are: the page talks to a backend, the worker process drives an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from cvcore.run_directory import Run


@dataclass(frozen=True)
class Status:
    """How a backend is.

    Attributes:
        words: one sentence for a page: what trains here, on what, and whether somebody serves the line.
        worker_alive: a worker process serves the runs folder now.
        problem: one sentence a user can act on, such as a cluster that does not answer; None where all is well.
    """

    words: str
    worker_alive: bool
    problem: str | None = None


@dataclass(frozen=True)
class Capacity:
    """What a backend can train with.

    Attributes:
        slots: runs it trains at the same time, from 1.
        free: those that nothing trains in now.
        kind: what a run trains on.
        memory_mb: memory of the computer (not of its GPU) that one run may take, in MB (10^6 bytes), or None where
            nobody tells.
        device: its name in words.
    """

    slots: int
    free: int
    kind: Literal["CPU", "GPU"]
    memory_mb: float | None
    device: str


@dataclass(frozen=True)
class Ended:
    """A training process that is gone.

    Attributes:
        run_id: its run.
        attempt: the attempt it was started for.
        reason: one sentence on why it ended without writing a final status, such as a kill for want of memory; None
            where nothing is known.
        again: whether queueing the run again may help; False for what would only happen again.
    """

    run_id: str
    attempt: int
    reason: str | None = None
    again: bool = True


class Backend(Protocol):
    """Where runs train, for those who launch them. A run is given to it after `create_run(backend=name, …)`."""

    @property
    def name(self) -> str:
        """`local` or `ray`, as in run.json."""
        ...

    def submit(self, run: Run) -> None:
        """See that a queued run will be trained: somebody serves its runs folder. Returns at once.

        It waits in the line whatever happens here; `status` says what keeps it from being trained.
        """
        ...

    def stop(self, run: Run) -> None:
        """Ask a queued or running run to stop; what it has is kept.

        Raises:
            CvcoreError: the run is not queued or running.
        """
        ...

    def status(self, folder: Path | None = None) -> Status:
        """Say how this backend is, within a second, for a runs folder; default `settings.runs_folder()`."""
        ...

    def capacity(self, folder: Path | None = None) -> Capacity:
        """Say what it trains with, without loading Keras; of a cluster that does not answer what was last known."""
        ...

    def engine(self, folder: Path) -> Engine:
        """Return what the worker process of a runs folder starts runs with."""
        ...


class Engine(Protocol):
    """Training processes, for the worker: it asks every half second or so, and decides what is queued again.

    No method blocks for longer than a few seconds. Each may raise CvcoreError with a sentence, or OSError; the worker
    then leaves this run, or this round, and goes on.
    """

    @property
    def name(self) -> str:
        """`local` or `ray`, as in run.json; a run gets the name of the engine that starts it."""
        ...

    def slots(self) -> int:
        """Say how many runs train at the same time."""
        ...

    def room_for(self, run: Run) -> bool:
        """Say whether what a queued run is estimated to take is free now; True where that is the cluster's matter."""
        ...

    def start(self, run: Run) -> None:
        """Start the training process for a queued run's current attempt; the process itself takes the attempt."""
        ...

    def adopt(self, run: Run) -> None:
        """Watch a running run that an earlier worker started; called once for each, before anything is started."""
        ...

    def ended(self) -> list[Ended]:
        """Return the training processes that are gone since this was last asked; called in every round.

        A process whose run has its final status is among them too. An engine does its housekeeping here, such as
        fetching what its runs have written elsewhere.
        """
        ...

    def busy(self) -> set[str]:
        """Return the ids of the runs that it started or adopted and whose processes it has not reported as ended."""
        ...

    def stop(self, run: Run) -> None:
        """Pass a stop request on to where the run directory is not seen; called once a request."""
        ...

    def vouches_for(self, run: Run) -> bool:
        """Say whether a running run lives for all its engine knows, so that the silence of its heartbeat means nothing.

        As where its files come through a store that does not answer; False where the heartbeat is all there is.
        """
        ...

    def kill(self, run: Run) -> None:
        """End the training process of a run that gives no sign of life any more, or that nobody wants."""
        ...
