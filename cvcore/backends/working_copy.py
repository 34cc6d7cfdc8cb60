"""A run trained where no folder is shared: a copy of it from the store, and what it writes back there meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cvcore.backends.store import (
    SENT,
    STOP,
    DamagedInStore,
    Store,
    StoreTrouble,
    attempt_folder,
    entry,
    large_entry,
    open_store,
)
from cvcore.backends.store_inputs import fetch_pictures, fetch_weights
from cvcore.errors import CvcoreError
from cvcore.run_directory import RUN_ID, STOP_FILE, load_run
from cvcore.run_writer import start_attempt

T = TypeVar("T")
PUSH_EVERY = 2.0  # seconds between two looks at what the run has written
SMALL = 10**6  # bytes; larger files travel beside, so that the heartbeat is not kept waiting
PATIENCE = 900.0  # seconds for which a store that does not answer is tried when nothing can go on without it
ENDED = ("done", "stopped", "failed")


@contextmanager
def working_copy(run_id: str, attempt: int) -> Iterator[Path]:
    """Fetch a run from the store into a temporary runs folder, and keep the store up to date until the end.

    Its pictures and weights go to the cache of this machine: CVCORE_CACHE, default ~/.cache/fourways. A run whose
    pictures or weights cannot be had is failed with a sentence, there and in the store.

    Args:
        run_id: the run.
        attempt: the attempt to train.

    Yields:
        The runs folder; the run in it is queued, or failed already.

    Raises:
        CvcoreError: the store does not answer, or has no such run.
    """
    store = open_store()
    if store is None or RUN_ID.fullmatch(run_id) is None:
        raise CvcoreError(f"CVCORE_STORE must be set to train a run from the store; received run {run_id[:80]!r}")
    if not os.environ.get("CVCORE_CACHE"):  # where it is set, nobody needs a home
        os.environ["CVCORE_CACHE"] = str(Path.home() / ".cache" / "fourways")
    runs = Path(tempfile.mkdtemp(prefix="fourways-runs-"))
    try:
        folder = attempt_folder(run_id, attempt)
        needs = _patiently(lambda: store.document(f"{folder}/{SENT}"))
        if needs is None:
            raise CvcoreError(f"the store has no attempt {attempt} of run {run_id}; launch it again")
        files = _patiently(lambda: fetch_run(store, folder, runs / run_id))
        pusher = _Pusher(store, folder, runs / run_id, files)
        try:
            _fetch_inputs(store, needs, runs)
        except StoreTrouble:
            raise
        except CvcoreError as error:
            start_attempt(load_run(run_id, runs), attempt=attempt).finish("failed", str(error))
        with pusher:
            yield runs
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def fetch_run(store: Store, folder: str, target: Path) -> dict[str, dict[str, Any]]:
    """Fetch a run's files into a new folder and return their index.

    Raises:
        DamagedInStore: they are not what the index says.
        StoreTrouble: one sentence.
    """
    files = store.index(folder)
    if files is None:
        raise DamagedInStore(f"{folder} in the store has no index; launch the run again")
    target.mkdir(exist_ok=True)
    for name, about in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if not store.fetch_checked(f"{folder}/{about['object']}", target / name, about["bytes"], about["sha256"]):
            raise DamagedInStore(f"{name} of {folder} in the store is not what was sent; launch the run again")
    return files


def _fetch_inputs(store: Store, needs: dict[str, Any], runs: Path) -> None:
    dataset, weights, source = needs.get("dataset"), needs.get("weights"), needs.get("from_run")
    if isinstance(dataset, dict):
        _patiently(lambda: fetch_pictures(store, dataset))
    if isinstance(weights, dict):
        _patiently(lambda: fetch_weights(store, weights))
    if isinstance(source, str) and RUN_ID.fullmatch(source):
        _patiently(lambda: fetch_run(store, f"runs/{source}/done", runs / source))


class _Pusher:
    """Sends what a run writes, in a thread, and passes on a request to stop."""

    def __init__(self, store: Store, folder: str, path: Path, files: dict[str, dict[str, Any]]) -> None:
        self.store, self.folder, self.path, self.files = store, folder, path, dict(files)
        self._stamps = {name: _stamp(path / name) for name in files}
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="large files")
        self._large: tuple[str, Future[dict[str, Any]]] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"store of {path.name}", daemon=True)
        self._unindexed = False

    def __enter__(self) -> _Pusher:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Send everything that is left, run.json last.

        Raises:
            StoreTrouble: the store did not answer for PATIENCE seconds.
        """
        self._ended.set()
        self._thread.join()
        _patiently(self._push_all)
        self._beside.shutdown()

    def _run(self) -> None:
        said = ""
        while not self._ended.wait(PUSH_EVERY):
            try:
                if not (self.path / STOP_FILE).exists() and self.store.there(f"{self.folder}/{STOP}"):
                    (self.path / STOP_FILE).touch()
                self.push()
                said = ""
            except (CvcoreError, OSError) as error:
                if str(error) != said:
                    print(error, file=sys.stderr, flush=True)
                said = str(error)

    def push(self) -> None:
        """Send small files that have changed, and one large one beside."""
        for name in self._changed():
            if name == "run.json" and _status(self.path / name) in ENDED:
                continue  # it is true only once everything else is there
            if _size(self.path / name) <= SMALL:
                self._send_small(name)
            elif self._large is None:
                self._large = (name, self._beside.submit(self._send_large, name))
        self._take_large(wait=False)
        self._send_index()

    def _push_all(self) -> None:
        self._take_large(wait=True)
        names = self._changed()
        for name in sorted(names, key=lambda name: name == "run.json"):
            if _size(self.path / name) <= SMALL:
                self._send_small(name)
            else:
                self._note(name, self._send_large(name))
        self._send_index()

    def _changed(self) -> list[str]:
        found = {path.relative_to(self.path).as_posix(): _stamp(path) for path in sorted(self.path.rglob("*"))
                 if path.is_file() and not path.name.startswith(".") and path.name != STOP_FILE}  # fmt: skip
        gone = self.files.keys() - found.keys()
        self._unindexed = self._unindexed or bool(gone)
        for name in gone:
            del self.files[name]
            self._stamps.pop(name, None)
        return [name for name, stamp in found.items() if stamp is not None and self._stamps.get(name) != stamp]

    def _send_small(self, name: str) -> None:
        stamp = _stamp(self.path / name)
        try:
            data = (self.path / name).read_bytes()
        except FileNotFoundError:
            return
        self.store.write(f"{self.folder}/{name}", data)
        self._note(name, {**entry(data, name), "stamp": stamp})

    def _send_large(self, name: str) -> dict[str, Any]:
        """Send a large file as it is now: a second name for it keeps it while the run replaces it."""
        with tempfile.TemporaryDirectory(prefix=".sending-", dir=self.path.parent) as folder:
            kept = Path(folder) / "file"
            stamp = _stamp(self.path / name)
            os.link(self.path / name, kept)
            about = large_entry(kept, name)
            self.store.put(kept, f"{self.folder}/{about['object']}")
        return {**about, "stamp": stamp}

    def _take_large(self, wait: bool) -> None:
        if self._large is None or not (wait or self._large[1].done()):
            return
        (name, sending), self._large = self._large, None
        try:
            about = sending.result()
        except FileNotFoundError:  # removed by the run before it was sent
            return
        self._note(name, about)

    def _note(self, name: str, about: dict[str, Any]) -> None:
        before = self.files.get(name, {}).get("object", name)
        self._stamps[name] = about.pop("stamp")
        self.files[name] = about
        self._unindexed = True
        if before not in (name, about["object"]):  # nobody who reads the index from now on needs it
            self._send_index()
            self.store.remove(f"{self.folder}/{before}")

    def _send_index(self) -> None:
        if self._unindexed:
            self.store.write_index(self.folder, self.files)
            self._unindexed = False


def _patiently(transfer: Callable[[], T]) -> T:
    """Try until the store answers, for PATIENCE seconds.

    Raises:
        CvcoreError: what the last try said.
    """
    until, wait = time.monotonic() + PATIENCE, 1.0
    while True:
        try:
            return transfer()
        except StoreTrouble as error:
            if time.monotonic() > until:
                raise
            print(error, file=sys.stderr, flush=True)
        time.sleep(wait)
        wait = min(30.0, 2 * wait)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _status(path: Path) -> str | None:
    try:
        return json.loads(path.read_text()).get("status")
    except (OSError, ValueError, AttributeError):
        return None
