"""Download the public archives: progress, resume, size and hash checks, and a clear sentence when offline."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cvcore.datasets.archives import file_sha256
from cvcore.datasets.cache import writing
from cvcore.errors import DatasetError
from cvcore.files import replace_json
from cvcore.settings import cache_folder, data_folder

Progress = Callable[[int, int], None]
CHUNK = 1 << 18
TIMEOUT_SECONDS = 30.0
ATTEMPTS = 3


@dataclass(frozen=True)
class Download:
    """A public archive.

    Attributes:
        id: catalogue id.
        title: what people call it.
        url: where it is published.
        file_name: what it is called on disk, in CVCORE_DATA or in the cache.
        bytes: the published size, or None where none is published; then what arrives is recorded, not checked.
        about: one sentence on what is in it.
        sha256: the published hash, or None where none is published.
    """

    id: str
    title: str
    url: str
    file_name: str
    bytes: int | None
    about: str
    sha256: str | None = None

    @property
    def size(self) -> str:
        """The size in words."""
        return f"{self.bytes / 1e6:.1f} MB" if self.bytes else "size not published"

    def missing(self) -> str:
        """The sentence for an archive that is not here yet."""
        return (
            f"{self.title} is not downloaded yet ({self.size}): run `python -m cvcore download {self.id}`, press "
            f"Download on the Dataset page, or put {self.file_name} from {self.url} into the folder that "
            "CVCORE_DATA names."
        )


DOWNLOADS = {
    item.id: item
    for item in (
        Download(
            "cats-and-dogs-filtered",
            "Cats and dogs, filtered",
            "https://storage.googleapis.com/mledu-datasets/cats_and_dogs_filtered.zip",
            "cats_and_dogs_filtered.zip",
            68_606_236,
            "3,000 photographs: train 2 x 1,000, validation 2 x 500, no test split.",
        ),
        Download(
            "dogs-vs-cats-full",
            "Dogs vs. cats, the full archive",
            "https://download.microsoft.com/download/3/e/1/3e1c3f21-ecdb-4869-8368-6deba77b919f/kagglecatsanddogs_5340.zip",
            "kagglecatsanddogs_5340.zip",
            None,
            "About 25,000 photographs without splits; a few files are not pictures and are skipped.",
        ),
        Download(
            "mnist",
            "MNIST, handwritten digits",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
            "mnist.npz",
            11_490_434,
            "70,000 digits of 28 x 28 greys: train 54,000, validation 6,000 (Keras' last 10 %), test 10,000.",
            sha256="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",  # as Keras states it
        ),
    )
}


def downloaded_file(item: Download) -> Path | None:
    """The archive's file: in CVCORE_DATA first, then in the cache; None when it is in neither."""
    folder = data_folder()
    candidates = [folder / item.file_name] if folder is not None else []
    candidates.append(cache_folder() / "downloads" / item.file_name)
    return next((path for path in candidates if path.is_file()), None)


def download(id: str, progress: Progress | None = None) -> Path:
    """Fetch a catalogue archive, unless it is here already.

    An interrupted download is continued where it stopped (`FILE.part`). The size and SHA-256 of what arrived are
    recorded in `FILE.json`, and checked where they are published: of the size all but one, of the hash only MNIST's.

    Args:
        id: "cats-and-dogs-filtered", "dogs-vs-cats-full" or "mnist".
        progress: called with (bytes so far, bytes in all; 0 when not known).

    Returns:
        The archive's path.

    Raises:
        DatasetError: unknown id, offline, a wrong size or hash, or no room.
    """
    if id not in DOWNLOADS:
        raise DatasetError(f"No dataset named {id!r} can be downloaded; known: {', '.join(DOWNLOADS)}.")
    item = DOWNLOADS[id]
    return downloaded_file(item) or fetch(item, cache_folder() / "downloads", progress)


def fetch(item: Download, folder: Path, progress: Progress | None = None) -> Path:
    """Download an archive into a folder; see `download`."""
    target = folder / item.file_name
    part = folder / f"{item.file_name}.part"
    with writing(f"The download of {item.file_name}"):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(item, part):
            return target if target.is_file() else _fetch(item, part, target, progress)


@contextlib.contextmanager
def _alone(item: Download, part: Path) -> Iterator[None]:
    """Lock the .part file: two that write it destroy each other's download, be they browsers or command lines.

    Raises:
        DatasetError: another one is at it.
    """
    with part.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(
                f"{item.title} is being downloaded already, by another page or command line; "
                "open it again when that one is done."
            ) from None
        try:
            yield
        finally:
            if part.is_file() and part.stat().st_size == 0:
                part.unlink()


def _fetch(item: Download, part: Path, target: Path, progress: Progress | None) -> Path:
    total = 0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            total = _transfer(item, part, progress)
            break
        except _TransferBroken as error:
            if attempt == ATTEMPTS:
                raise DatasetError(
                    f"{item.title} could not be downloaded ({error}); try again when online, "
                    f"or put {item.file_name} from {item.url} into the folder that CVCORE_DATA names."
                ) from error
    _check_size(item, part, total)
    found = file_sha256(part)
    if item.sha256 is not None and found != item.sha256:
        _empty(part)
        raise DatasetError(
            f"{item.file_name} should have the SHA-256 {item.sha256[:12]}… as published; what arrived has "
            f"{found[:12]}…: it is not the file meant here and was not kept."
        )
    record = {"url": item.url, "bytes": part.stat().st_size, "sha256": found}
    replace_json(target.with_name(f"{target.name}.json"), record)
    part.replace(target)
    return target


class _TransferBroken(Exception):
    """The connection failed or ended early; what arrived is kept in the .part file."""


def _transfer(item: Download, part: Path, progress: Progress | None) -> int:
    """Continue the .part file to its end.

    Returns:
        The size that the server declares, 0 when it declares none.
    """
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(item.url, headers={"User-Agent": "cvcore", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing after `start`: either complete or not ours
            return _size_of_refused_range(error, part, start)
        raise _TransferBroken(f"{urlsplit(item.url).hostname} answers {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransferBroken(_why(error, item)) from error
    with response:
        resumed = response.status == 206 and _range_start(response) == start
        if not resumed:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else 0
        if item.bytes and total and total != item.bytes:
            _empty(part)
            raise DatasetError(_wrong_size(item, total))
        _receive(item, response, part, start, total, progress)
    return total


def _receive(item: Download, response, part: Path, start: int, total: int, progress: Progress | None) -> None:
    done = start
    with part.open("ab" if start else "wb") as stream:
        while True:
            try:
                chunk = response.read(CHUNK)
            except http.client.IncompleteRead as error:
                stream.write(error.partial)
                raise _TransferBroken("the connection ended early") from error
            except (OSError, http.client.HTTPException) as error:
                raise _TransferBroken(_why(error, item)) from error
            if not chunk:
                break
            stream.write(chunk)
            done += len(chunk)
            if item.bytes and done > item.bytes:
                stream.close()
                _empty(part)
                raise DatasetError(_wrong_size(item, done))
            if progress is not None:
                progress(done, total)
    if total and done < total:
        raise _TransferBroken("the connection ended early")


def _range_start(response) -> int | None:
    with contextlib.suppress(ValueError, IndexError):
        return int(response.headers.get("Content-Range", "").split()[1].split("-")[0])
    return None


def _size_of_refused_range(error: urllib.error.HTTPError, part: Path, start: int) -> int:
    declared = error.headers.get("Content-Range", "").rpartition("/")[2]
    if declared.isdigit() and int(declared) == start:
        return start
    _empty(part)
    raise _TransferBroken("the part kept from before does not fit") from error


def _check_size(item: Download, part: Path, total: int) -> None:
    size = part.stat().st_size
    if item.bytes and size != item.bytes:
        _empty(part)
        raise DatasetError(_wrong_size(item, size))
    if total and size != total:
        _empty(part)
        raise DatasetError(f"{item.file_name} should have {total:,} bytes by its server; {size:,} arrived: try again.")


def _empty(part: Path) -> None:
    """Throw away what arrived; the file stays, for it carries the lock, until `_alone` removes it."""
    with part.open("wb"):
        pass


def _wrong_size(item: Download, size: int) -> str:
    return (
        f"{item.file_name} should have {item.bytes:,} bytes as published; the server sends {size:,}: "
        "it is not the archive meant here and was not kept."
    )


def _why(error: Exception, item: Download) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return f"{urlsplit(item.url).hostname} cannot be reached"
