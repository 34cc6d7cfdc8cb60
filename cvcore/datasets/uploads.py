"""Zips that browsers sent: kept in the cache's uploads folder, each in a folder named by its hash, until removed."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

from cvcore import cache_entries
from cvcore.datasets.archives import UPLOAD, known_sha256, unpacked_folder
from cvcore.datasets.cache import new_folder, uploads_folder, writing
from cvcore.datasets.dataset import Dataset
from cvcore.datasets.downloads import DOWNLOADS, downloaded_file
from cvcore.datasets.health import Progress
from cvcore.datasets.index import forget, remembered
from cvcore.datasets.opening import open_path
from cvcore.errors import DatasetError

MAX_UPLOADS_BYTES = 4_000_000_000


def uploads() -> list[Path]:
    """The zips kept here, sorted by name."""
    return sorted(uploads_folder().glob("[0-9a-f]*/*.zip"), key=lambda path: (path.name, str(path)))


def add_upload(file_name: str, data: BinaryIO, progress: Progress | None = None) -> Dataset:
    """Keep a zip from a browser and open it, under the limits `archives.UPLOAD`.

    Args:
        file_name: as the browser names it; only its last part is used.
        data: a binary stream, read once.
        progress: as for `open_dataset`.

    Raises:
        DatasetError: too large, not a usable zip, or too much kept already; nothing is then kept.
    """
    folder = uploads_folder()
    stem = re.sub(r"[^\w .()-]", "_", Path(file_name.replace("\\", "/")).stem).strip(" .")[:60] or "upload"
    with writing("The upload"):
        folder.mkdir(parents=True, exist_ok=True)
        kept = kept_bytes()
        if kept > MAX_UPLOADS_BYTES:
            raise DatasetError(
                f"The uploads kept here take {kept / 1e9:.1f} GB already (limit {MAX_UPLOADS_BYTES / 1e9:g}); "
                "remove some on the Dataset page, or ask the teacher to."
            )
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".upload-") as stream:
            digest = hashlib.sha256()
            while chunk := data.read(1 << 20):
                stream.write(chunk)
                digest.update(chunk)
                if stream.tell() > UPLOAD.archive_bytes:
                    raise DatasetError(
                        f"An upload may be at most {UPLOAD.archive_bytes // 10**6} MB; this one is larger."
                    )
            stream.flush()
            if not zipfile.is_zipfile(stream.name):
                raise DatasetError(f"An upload must be a zip archive; {stem!r} is not one.")
            target = folder / digest.hexdigest()[:24]
            new = not target.is_dir()
            if new:
                with new_folder(target) as making:
                    shutil.copyfile(stream.name, making / f"{stem}.zip")
    archive = min(target.glob("*.zip"))
    try:
        return open_path(archive, 0, progress)
    except BaseException:  # also when the browser leaves while pictures are checked
        if new:
            _discard(archive)
        raise


def remove_upload(source: str) -> None:
    """Remove a kept upload: its zip, what was unpacked, decoded and computed of it, its entry in the list of datasets.

    Unpacked pictures stay when another zip that is still here has the same content, and decoded ones and activations
    when another dataset has the same fingerprint. Runs keep what they recorded. Who may is asked by who calls this.

    Args:
        source: of an upload in `known_datasets()`.

    Raises:
        DatasetError: not an upload, or it cannot be removed.
    """
    archive = next((path for path in uploads() if str(path) == source), None)
    if archive is None:
        raise DatasetError("Only an upload that is kept here can be removed; this one is not, or not any more.")
    entries = remembered()
    decoded = {entry["fingerprint"] for entry in entries if entry["source"] == source}
    decoded -= {entry["fingerprint"] for entry in entries if entry["source"] != source}
    try:
        _discard(archive)
    except OSError as error:
        raise DatasetError(f"The upload {archive.stem!r} cannot be removed ({error.strerror or error}).") from error
    for fingerprint in decoded:
        cache_entries.clear_dataset(fingerprint)


def kept_bytes() -> int:
    """What the uploads take on disk: the zips and what is unpacked of them."""
    total = 0
    for archive in uploads():
        for folder in (archive.parent, unpacked_folder(archive.parent.name)):
            for file in folder.rglob("*"):
                with contextlib.suppress(OSError):  # removed meanwhile
                    total += file.stat().st_size
    return total


def _discard(archive: Path) -> None:
    """Remove an upload's folder, its entries in the list and, unless another zip needs it, its unpacked folder."""
    unpacked = unpacked_folder(archive.parent.name)
    others = {Path(entry["source"]) for entry in remembered() if entry["kind"] == "zip"} - {archive}
    others |= {path for item in DOWNLOADS.values() if (path := downloaded_file(item)) is not None}
    shared = any((sha256 := known_sha256(path)) is not None and unpacked_folder(sha256) == unpacked for path in others)
    shutil.rmtree(archive.parent)
    forget(str(archive))
    if not shared:
        shutil.rmtree(unpacked, ignore_errors=True)
