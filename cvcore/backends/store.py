"""The store: a bucket or folder through which runs reach machines that share no folder with this one.

    datasets/FINGERPRINT/pictures.zip, about.json    sent once; about.json is written last and says what to expect
    weights/SHA256                                   weights files that this machine has
    runs/RUN/ATTEMPT/files.json                      index of the run's files: {name: {bytes, sha256, object}}
    runs/RUN/ATTEMPT/OBJECT, sent.json, stop         the files; what else the job needs, written last; a stop request
    runs/RUN/done/…                                  a finished run that another one continues

An attempt has a folder of its own, so that the orphan of an earlier one can do no harm. Nothing that comes back is
believed: names are checked, contents are held against the index, and the run directory's lock and attempt decide.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from cvcore import settings
from cvcore.errors import CvcoreError

T = TypeVar("T")
TRIES = 3  # of one transfer, before its caller hears of it
INDEX = "files.json"
SENT = "sent.json"
STOP = "stop"
HALF_FETCHED = ".from-store."  # what the names of files begin with while they are fetched
MOST_INDEX_BYTES = 10**6
MOST_FILES = 500
MOST_FILE_BYTES = 20 * 10**9
MOST_OTHER_BYTES = 50 * 10**6  # of a file that no run has large
_LARGE = re.compile(r"state\.npz|model\.keras|checkpoint-[^/]+\.keras|predictions\.csv|tensorboard/.+")
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}"
_NAME = re.compile(rf"{_PART}(/{_PART}){{0,5}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class StoreTrouble(CvcoreError):
    """The store did not answer, or refused; what was to be sent or fetched is still where it was."""


class DamagedInStore(CvcoreError):
    """What came from the store is not what was sent."""


def open_store() -> Store | None:
    """Open the store that the settings name; None where they name none. Nothing is transferred yet.

    Raises:
        CvcoreError: its URL or options cannot be used, or the package for it is not installed.
    """
    url = settings.store_url()
    return None if url is None else Store(url, settings.store_options())


class Store:
    """One bucket or folder; may be used by several threads."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        """Open a store.

        Args:
            url: an fsspec URL with a folder in it, such as s3://bucket/fourways, gs://bucket/fourways or a folder.
            options: fsspec's storage options, credentials among them.

        Raises:
            CvcoreError: as for `open_store`.
        """
        check_url(url)
        self._secrets = sorted(_strings(options or {}), key=len, reverse=True)
        try:
            fsspec = importlib.import_module("fsspec")
        except ImportError as error:
            raise CvcoreError("CVCORE_STORE needs a package that is not installed; run `pip install -r "
                              "requirements-ray.txt`") from error  # fmt: skip
        try:
            given = {"use_listings_cache": False, "skip_instance_cache": True, **(options or {})}
            if "://" not in url or url.startswith("file:"):
                given["auto_mkdir"] = True
            if url.startswith(("s3:", "s3a:")):  # by default botocore tries for minutes before anybody hears of it
                given.setdefault("config_kwargs", {"connect_timeout": 5, "read_timeout": 30,
                                                   "retries": {"max_attempts": 2}})  # fmt: skip
            self.files, root = fsspec.core.url_to_fs(url, **given)
        except (ImportError, ValueError, TypeError, OSError) as error:
            raise CvcoreError(f"CVCORE_STORE must be a folder or a URL such as s3://bucket/folder, with fitting "
                              f"CVCORE_STORE_OPTIONS ({self.words(error)})") from error  # fmt: skip
        self.root = root.rstrip("/")

    def read(self, path: str, most: int | None = None) -> bytes | None:
        """Return an object, None where there is none.

        Raises:
            DamagedInStore: it has more than `most` bytes.
            StoreTrouble: one sentence.
        """
        full = self._full(path)
        try:
            if most is not None and self.tried("read", lambda: self.files.info(full)["size"]) > most:
                raise DamagedInStore(f"{path} in the store has more than {most:,} bytes; that is nothing that was sent")
            return self.tried("read", lambda: self.files.cat_file(full))
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        """Write an object whole."""
        self._made("written", lambda: self.files.pipe_file(self._full(path), data))

    def put(self, local: Path, path: str) -> None:
        """Send a file."""
        self._made("written", lambda: self.files.put_file(str(local), self._full(path)))

    def get(self, path: str, local: Path) -> None:
        """Fetch an object into a file.

        Raises:
            FileNotFoundError: there is no such object.
            StoreTrouble: one sentence.
        """
        self.tried("read", lambda: self.files.get_file(self._full(path), str(local)))

    def copy(self, source: str, target: str) -> bool:
        """Copy an object within the store; False where there is none."""
        try:
            self.tried("written", lambda: self.files.cp_file(self._full(source), self._full(target)))
        except FileNotFoundError:
            return False
        return True

    def there(self, path: str) -> bool:
        """Say whether there is such an object."""
        return bool(self.tried("read", lambda: self.files.exists(self._full(path))))

    def remove(self, path: str) -> None:
        """Remove an object, or everything below a name; what is not there is removed already."""
        with suppress(FileNotFoundError):
            self.tried("written", lambda: self.files.rm(self._full(path), recursive=True))

    def document(self, path: str) -> dict[str, Any] | None:
        """Return a small JSON object, None where there is none.

        Raises:
            DamagedInStore: it is something else.
            StoreTrouble: one sentence.
        """
        data = self.read(path, MOST_INDEX_BYTES)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise DamagedInStore(f"{path} in the store is not what was sent; remove it there and launch again")
        return found

    def index(self, folder: str) -> dict[str, dict[str, Any]] | None:
        """Return the index of a run's folder, {name: {bytes, sha256, object}}, None where there is none.

        Raises:
            DamagedInStore: it has what no index of ours has, such as a name that leads out of the run.
            StoreTrouble: one sentence.
        """
        document = self.document(f"{folder}/{INDEX}")
        if document is None:
            return None
        found = document.get("files")
        if not isinstance(found, dict) or len(found) > MOST_FILES or not all(map(_sound, found.items())):
            raise DamagedInStore(f"{folder}/{INDEX} in the store names what no run has; nothing of it is taken over")
        return found

    def write_index(self, folder: str, files: dict[str, dict[str, Any]]) -> None:
        """Write the index of a run's folder, after the files in it."""
        self.write(f"{folder}/{INDEX}", json.dumps({"files": files}).encode())

    def fetch_checked(self, path: str, local: Path, bytes: int, sha256: str) -> bool:
        """Fetch an object into a file and hold it against what it should be.

        Returns:
            False where it is another by now, or not there: a newer one is being written, or it is damaged.

        Raises:
            StoreTrouble: one sentence; there may be no room for it here.
        """
        full = self._full(path)
        try:
            if self.tried("read", lambda: self.files.info(full)["size"]) != bytes:
                return False
            if bytes > (free := shutil.disk_usage(local.parent).free):
                raise StoreTrouble(f"{bytes / 1e6:.0f} MB from the store do not fit where {path.rpartition('/')[2]} "
                                   f"belongs, with {free / 1e6:.0f} MB free; free some space")  # fmt: skip
            self.get(path, local)
        except FileNotFoundError:
            return False
        return local.stat().st_size == bytes and file_sha256(local) == sha256

    def tried(self, what: str, transfer: Callable[[], T]) -> T:
        """Try a transfer a few times.

        Raises:
            FileNotFoundError: there is no such object.
            StoreTrouble: it failed each time, or the store refuses us.
        """
        for attempt in range(TRIES):
            try:
                return transfer()
            except FileNotFoundError:
                raise
            except PermissionError as error:
                raise StoreTrouble(f"The store refuses these credentials ({self.words(error)}); set "
                                   "CVCORE_STORE_OPTIONS") from None  # fmt: skip
            except Exception as error:  # noqa: BLE001  (each kind of store has its own errors for a torn connection)
                if attempt == TRIES - 1:
                    raise StoreTrouble(f"The store could not be {what} ({self.words(error)}); it is tried again") from (
                        error if isinstance(error, OSError) else None
                    )
                time.sleep(0.25 * 2**attempt)
        raise AssertionError  # the last try has returned or raised

    def words(self, error: BaseException) -> str:
        """Return an error's first line, without anything that stands in the options."""
        text = str(error).strip() or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text.splitlines()[0][:200]

    def _made(self, what: str, transfer: Callable[[], object]) -> None:
        try:
            self.tried(what, transfer)
        except FileNotFoundError as error:
            raise StoreTrouble(f"The store's bucket or folder is not there ({self.words(error)}); make it, or set "
                               "CVCORE_STORE") from error  # fmt: skip

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"


def check_url(url: str) -> None:
    """Check that a store's URL can be shown and logged: Ray does both with a job's environment.

    Raises:
        CvcoreError: it has a user or a password in it; the sentence does not repeat them.
    """
    if re.search(r"://[^/]*@", url):
        raise CvcoreError("CVCORE_STORE must be a URL without user and password, which belong into "
                          "CVCORE_STORE_OPTIONS")  # fmt: skip


def attempt_folder(run_id: str, attempt: int) -> str:
    """Return the folder of an attempt in the store."""
    return f"runs/{run_id}/{attempt}"


def entry(data: bytes, name: str) -> dict[str, Any]:
    """Return the index entry of a small file, whose object has the file's name."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "object": name}


def large_entry(path: Path, name: str) -> dict[str, Any]:
    """Return the index entry of a large file: its object's name has its hash in it, so that none is ever changed."""
    sha256 = file_sha256(path)
    return {"bytes": path.stat().st_size, "sha256": sha256, "object": f"{name}.{sha256[:16]}"}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_hash(sha256: str) -> None:
    """Check that a hash named by the store is one, before it becomes part of a path.

    Raises:
        DamagedInStore: it is not.
    """
    if _SHA256.fullmatch(sha256) is None:
        raise DamagedInStore("the store names a hash that is none; remove the run's folder there and launch again")


def temporary_beside(path: Path) -> Path:
    """Return a new empty file in a folder, to be renamed or removed."""
    with tempfile.NamedTemporaryFile(prefix=HALF_FETCHED, suffix=".tmp", dir=path, delete=False) as stream:
        return Path(stream.name)


def _sound(item: tuple[object, object]) -> bool:
    """Say whether an entry of an index is one that this module writes."""
    name, about = item
    return (
        isinstance(name, str)
        and isinstance(about, dict)
        and isinstance(about.get("object"), str)
        and _NAME.fullmatch(name) is not None
        and _NAME.fullmatch(about["object"]) is not None
        and name != STOP
        and type(about.get("bytes")) is int
        and 0 <= about["bytes"] <= (MOST_FILE_BYTES if _LARGE.fullmatch(name) else MOST_OTHER_BYTES)
        and isinstance(about.get("sha256"), str)
        and _SHA256.fullmatch(about["sha256"]) is not None
    )


def _strings(value: Any) -> set[str]:
    """Every text within options that may be a secret."""
    if isinstance(value, dict):
        return {text for inner in value.values() for text in _strings(inner)}
    if isinstance(value, list | tuple):
        return {text for inner in value for text in _strings(inner)}
    return {value} if isinstance(value, str) and len(value) >= 4 else set()
