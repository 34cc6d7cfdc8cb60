"""Runs trained on a Ray cluster: each is a job that Ray places, and that the worker process watches.

Where CVCORE_STORE is set, a run travels through the store; else the runs folder is one that the nodes share. See
docs/cluster.md.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from cvcore import settings
from cvcore.attempt_writer import RunWriter
from cvcore.backends import worker_process
from cvcore.backends.interface import Capacity, Ended, Status
from cvcore.backends.ray_cluster import Board, Cluster, Unreachable, look
from cvcore.backends.ray_jobs import NEVER_PLACED, RayJobs, check_installed, kind_of, why
from cvcore.backends.store import StoreTrouble, open_store
from cvcore.backends.store_runs import RunsThroughStore
from cvcore.errors import CvcoreError, SupersededAttempt
from cvcore.run_directory import HEARTBEAT_FILE, Run, list_runs, load_run, request_stop, worker_alive

T = TypeVar("T")
WATCH_EVERY = 1.0  # seconds between two looks at a job
LOOK_EVERY = 0.5  # seconds between two thoughts of whether to look at the cluster
FETCH_EVERY = 2.0  # seconds between two looks into the store
AGAIN_AFTER = 3.0  # seconds after which a cluster or store that did not answer is asked again
SETTLED = 1.0  # seconds after a job that did not succeed until the cluster is sure to say whether its node lives
KILLED_WITHIN = 15.0  # seconds for Ray to end a job that was killed; after that nobody waits for it
SILENT_IN_STORE = 900.0  # seconds without a new heartbeat, while the store answers, for which Ray's word is taken
OUTPUT = 8000  # characters of a job's output that a run's log takes
OVER = ("SUCCEEDED", "FAILED", "STOPPED")
_asked_at: dict[str, tuple[float, Cluster | None, str | None]] = {}  # the server's own looks, by address
_one_at_a_time = threading.Lock()


class RayBackend:
    """The Ray cluster that CVCORE_RAY_ADDRESS names, for those who launch."""

    name = "ray"

    def submit(self, run: Run) -> None:
        """See that a worker serves the run's folder: it hands the run to the cluster when its turn has come.

        Where Ray is not installed or none can be started the run stays queued, and `status` says why.
        """
        with suppress(CvcoreError):
            check_installed()
            worker_process.ensure(run.path.parent)

    def stop(self, run: Run) -> None:
        """Ask a queued or running run to stop; the worker passes that on.

        Raises:
            CvcoreError: the run is not queued or running, or the request cannot be written.
        """
        request_stop(load_run(run.id, run.path.parent))

    def status(self, folder: Path | None = None) -> Status:
        """Say how the cluster is, from what the worker notes; without a worker it is asked, briefly."""
        folder = folder or settings.runs_folder()
        cluster, problem = _known(folder)
        try:
            check_installed()
        except CvcoreError as error:
            problem = f"{error}."
        words = "Runs train on a Ray cluster."
        if cluster:
            slots = cluster.slots()
            words = f"Runs train on {cluster.words()}, up to {slots} at a time."
            if not slots and not problem:
                cpus, gpus = cluster.share()
                problem = (f"No node of the Ray cluster has the {gpus:g} GPUs and {cpus:g} CPUs that a run takes."
                           if cluster.nodes else "The Ray cluster has no living node.")  # fmt: skip
        return Status(words, worker_alive(folder), worker_process.problem(folder) or problem)

    def capacity(self, folder: Path | None = None) -> Capacity:
        """Count the slots of the cluster and those that nothing of ours trains in now."""
        folder = folder or settings.runs_folder()
        cluster = _known(folder)[0]
        if cluster is None:
            return Capacity(1, 0, "CPU", None, "a Ray cluster that has not answered yet")
        running = sum(run.status == "running" and run.backend == self.name for run in list_runs(folder))
        slots = max(1, cluster.slots())
        return Capacity(slots, max(0, slots - running), cluster.kind, cluster.memory_mb(), cluster.words())

    def engine(self, folder: Path) -> RayEngine:
        """Return what submits the jobs of a worker.

        Raises:
            CvcoreError: Ray is not installed, or the store cannot be used.
        """
        return RayEngine(folder)


class RayEngine:
    """The jobs of one worker: a thread each, which sends, submits, watches and brings home."""

    name = "ray"

    def __init__(self, folder: Path) -> None:
        """Args: folder: the runs folder; the nodes share it unless CVCORE_STORE is set."""
        check_installed()
        self.folder, self.address = folder.resolve(), settings.ray_address() or ""
        store = open_store()
        self.store = RunsThroughStore(store) if store else None
        self.jobs = RayJobs(self.address, self.folder)
        self.cluster: Cluster | None = None
        self.looked = 0.0  # when the last look began, by the monotonic clock
        self.doubted = 0.0  # a look that began before this may count a node that is gone
        self.problems: dict[str, str] = {}
        self._board = Board(folder, self.address)
        self._watched: dict[str, _Job] = {}
        self._look()
        threading.Thread(target=_look_on, args=(weakref.ref(self),), name="Ray cluster", daemon=True).start()

    def slots(self) -> int:
        """What the cluster's nodes have room for; 0 while it does not answer, or may have just lost a node.

        On slots of a node that is gone two jobs would wait in Ray, which need not take them in the order of the line.
        """
        known = self.cluster if "cluster" not in self.problems and self.looked >= self.doubted else None
        return known.slots() if known else 0

    def doubt(self) -> None:
        """Take no slot for free before the cluster was asked again: a job has ended otherwise than it should."""
        self.doubted = time.monotonic() + SETTLED

    def due(self) -> bool:
        """Say whether it is time for another look."""
        now = time.monotonic()
        return now - self.looked >= Board.EVERY or self.looked < self.doubted <= now

    def room_for(self, run: Run) -> bool:
        """Leave that to Ray."""
        return True

    def start(self, run: Run) -> None:
        """Submit a job for a queued run's current attempt, in a thread: sending its pictures may take minutes."""
        self._watch(run, submitted=False)

    def adopt(self, run: Run) -> None:
        """Watch the job of a running run that an earlier worker submitted."""
        if run.backend == self.name and run.id not in self._watched:
            self._watch(run, submitted=True)

    def _watch(self, run: Run, submitted: bool) -> None:
        self._watched[run.id] = job = _Job(self, run, submitted)
        job.start()

    def ended(self) -> list[Ended]:
        """Return the jobs that are over and whose runs are home."""
        over = [job for job in self._watched.values() if job.result is not None]
        for job in over:
            del self._watched[job.run_read.id]
            self.problems.pop(job.run_read.id, None)
        return [job.result for job in over if job.result is not None]

    def busy(self) -> set[str]:
        """Return the runs whose jobs are not over."""
        return set(self._watched)

    def stop(self, run: Run) -> None:
        """Pass a stop request on: into the store, or to Ray for a job that has not begun."""
        if job := self._watched.get(run.id):
            job.stop_asked.set()

    def vouches_for(self, run: Run) -> bool:
        """Say whether Ray still has the job of a run whose heartbeat comes through a store, and not for too long."""
        job = self._watched.get(run.id)
        return self.store is not None and job is not None and time.monotonic() - job.heard < SILENT_IN_STORE

    def kill(self, run: Run) -> None:
        """Have Ray end the job of a run."""
        if job := self._watched.get(run.id):
            job.killed.set()

    def _look(self) -> None:
        began = time.monotonic()
        try:
            self.cluster = look(self.address)
            self.problems.pop("cluster", None)
        except Exception as error:  # noqa: BLE001  (the thread that looks goes on, and so does the worker)
            self.problems["cluster"] = _told(error)
        self.looked = began
        problems = list(self.problems.values())
        try:
            self._board.write(self.cluster, problems[-1] if problems else None)
        except Exception:
            logging.getLogger(__name__).exception("writing what is known of the cluster")


def _look_on(known: weakref.ref[RayEngine]) -> None:
    """Look every few seconds, for as long as somebody has the engine."""
    while True:
        time.sleep(LOOK_EVERY)
        engine = known()
        if engine is None:
            return
        if engine.due():
            engine._look()
        del engine


class _Job(threading.Thread):
    """One attempt of one run on the cluster, from sending it to bringing it home."""

    def __init__(self, engine: RayEngine, run: Run, submitted: bool) -> None:
        super().__init__(name=f"{run.id}, attempt {run.attempt}", daemon=True)
        self.engine, self.run_read, self.submitted = engine, run, submitted
        self.id = f"{run.id}-{run.attempt}"
        self.stop_asked, self.killed = threading.Event(), threading.Event()
        self.result: Ended | None = None
        self.heard = time.monotonic()  # when a new heartbeat came, or last could not be asked for
        self._beat = b""

    def run(self) -> None:
        """Do all of it; `result` says how it ended."""
        run = self.run_read
        reason, again = None, True
        try:
            if not self.submitted:
                self._patiently(self._send)
                self._patiently(self._submit)
            while kind_of(details := self._watch()) == NEVER_PLACED:  # others have the nodes: it waits on
                self.engine.jobs.remove(self.id)
                self._patiently(self._submit)
            if details is None or details.status.value != "SUCCEEDED":
                self.engine.doubt()
            self._bring_home()
            reason, again = why(details)
            if self.killed.is_set():
                reason, again = None, True
            self._keep_output(reason)
        except SupersededAttempt:
            pass
        except CvcoreError as error:
            reason, again = str(error), False
        except Exception as error:  # a thread that dies unheard would leave its run waiting for ever
            logging.getLogger(__name__).exception("watching %s", self.id)
            reason = f"Its Ray job could not be watched any more ({type(error).__name__})."
        self.result = Ended(run.id, run.attempt, reason, again)

    def _patiently(self, step: Callable[[], T]) -> T:
        """Do a step as soon as the cluster and the store answer, while the run still wants it.

        Raises:
            SupersededAttempt: nobody wants it any more.
        """
        while True:
            try:
                done = step()
                self.engine.problems.pop(self.run_read.id, None)
                return done
            except (Unreachable, StoreTrouble) as error:
                self.engine.problems[self.run_read.id] = f"{error}."
            if self.killed.wait(AGAIN_AFTER) or not self._wanted():
                raise SupersededAttempt(f"{self.id} is not wanted any more")

    def _wanted(self) -> bool:
        try:
            now = load_run(self.run_read.id, self.engine.folder)
        except CvcoreError:
            return False
        return now.attempt == self.run_read.attempt and now.info["status"] in ("queued", "running")

    def _send(self) -> None:
        if not self.stop_asked.is_set() and self.engine.store:
            self.engine.store.send(self.run_read)

    def _submit(self) -> None:
        if self.stop_asked.is_set():
            raise SupersededAttempt(f"{self.id} was stopped before it began")
        cluster = self.engine.cluster or look(self.engine.address)
        self.engine.jobs.submit(self.id, self.run_read, cluster)

    def _watch(self) -> Any:
        """Wait for the end of the job; return what Ray says of it, None where it does not know it any more."""
        run, engine = self.run_read, self.engine
        fetched = told = 0.0
        stopping = killing = False
        while True:
            with suppress(Unreachable):
                details = engine.jobs.details(self.id)
                if details is None or details.status.value in OVER:
                    return details
                if details.status.value == "PENDING" and self.stop_asked.is_set():
                    engine.jobs.stop(self.id)
                if self.killed.is_set() and not killing:
                    engine.jobs.stop(self.id)
                    killing = True
            if self.killed.is_set():
                told = told or time.monotonic()
            if told and time.monotonic() - told > KILLED_WITHIN:
                raise SupersededAttempt(f"{self.id} was killed, and Ray has not answered")
            if engine.store and time.monotonic() - fetched > FETCH_EVERY:
                fetched = time.monotonic()
                try:
                    if self.stop_asked.is_set() and not stopping:
                        engine.store.ask_to_stop(run)
                        stopping = True
                    engine.store.fetch(run)
                    engine.problems.pop(run.id, None)
                    self._listen()
                except SupersededAttempt:
                    raise
                except CvcoreError as error:  # the disk of the runs folder may also be full
                    engine.problems[run.id] = f"{error}."
                    self.heard = time.monotonic()
            time.sleep(WATCH_EVERY)

    def _listen(self) -> None:
        with suppress(OSError):
            beat = (self.run_read.path / HEARTBEAT_FILE).read_bytes()
            if beat != self._beat:
                self._beat, self.heard = beat, time.monotonic()

    def _bring_home(self) -> None:
        """Fetch the rest of what the run has written, before anybody decides what becomes of it."""
        store = self.engine.store
        if store is None:
            return

        def fetch_rest() -> bool:
            try:
                return store.fetch(self.run_read, over=True)
            except CvcoreError as error:
                if isinstance(error.__cause__, OSError):  # no room here: it stays in the store until there is
                    raise StoreTrouble(str(error)) from error
                raise

        for _ in range(20):  # files that do not become what their index says are left there
            if self._patiently(fetch_rest):
                break
            time.sleep(0.5)
        if load_run(self.run_read.id, self.engine.folder).info["status"] == "done":
            with suppress(StoreTrouble):
                store.remove(self.run_read)

    def _keep_output(self, reason: str | None) -> None:
        """Put the job's output into the log of a run whose own process could not say how it ended."""
        now = load_run(self.run_read.id, self.engine.folder)
        if now.attempt != self.run_read.attempt or now.info["status"] not in ("queued", "running"):
            return
        output = ""
        with suppress(CvcoreError):
            output = self.engine.jobs.output(self.id)[-OUTPUT:].strip()
        if output or reason:
            text = f"Ray job {self.id} is over. {reason or ''}".strip()
            RunWriter(now.path, now.attempt).log(f"{text}\n{output}".strip())


def _told(error: Exception) -> str:
    """Say why a cluster could not be asked."""
    if isinstance(error, CvcoreError):
        return f"{error}."
    logging.getLogger(__name__).error("asking the Ray cluster", exc_info=error)
    return f"The Ray cluster could not be asked ({type(error).__name__}); the details are in the log."


def _known(folder: Path) -> tuple[Cluster | None, str | None]:
    """Return what is known of the cluster within a second: what the worker noted, else what it says itself."""
    address = settings.ray_address() or ""
    cluster, problem, fresh = Board(folder, address).read()
    if fresh and worker_alive(folder):
        return cluster, problem
    at, found, said = _asked_at.get(address, (-1e9, cluster, None))
    if time.monotonic() - at > Board.FRESH / 2 and _one_at_a_time.acquire(blocking=False):
        try:
            found, said = look(address, timeout=0.5), None
        except Exception as error:  # noqa: BLE001  (a page says it, whatever it is)
            said = _told(error)
        finally:
            _asked_at[address] = (time.monotonic(), found, said)
            _one_at_a_time.release()
    return found, said
