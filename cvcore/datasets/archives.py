"""Unpack a zip that may be hostile: only pictures, under limits that are checked twice.

The directory of the zip is checked before anything is written; the same limits hold while unpacking, because
directories lie. Names that lead out of the archive, absolute names, links and encrypted members refuse the whole
archive; a member that is merely damaged is skipped with its reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cvcore.datasets.cache import dataset_cache, new_folder, writing
from cvcore.datasets.folder import is_junk, is_picture_name
from cvcore.datasets.pictures import MAX_PICTURE_BYTES
from cvcore.errors import DatasetError
from cvcore.files import replace_json

Progress = Callable[[int, int], None]
MAX_RATIO = 200  # of the whole archive; deflate reaches 1,032, pictures are about 1
RATIO_FROM_BYTES = 50_000_000  # small archives may be as repetitive as they like
CHUNK = 1 << 18
_END, _END_64, _LOCATOR, _ENTRY = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        archive_bytes: size of the zip.
        total_bytes: all members together, unpacked.
        members: number of entries, folders included.
    """

    archive_bytes: int
    total_bytes: int
    members: int


LOCAL = Limits(archive_bytes=4_000_000_000, total_bytes=4_000_000_000, members=200_000)
UPLOAD = Limits(archive_bytes=200_000_000, total_bytes=600_000_000, members=30_000)


@dataclass(frozen=True)
class Unpacked:
    """An unpacked archive: its folder, the zip's SHA-256, and (path, reason) of the members left out."""

    folder: Path
    sha256: str
    problems: tuple[tuple[str, str], ...]


def unpack(archive: Path, limits: Limits = LOCAL, progress: Progress | None = None) -> Unpacked:
    """Unpack a zip's pictures into the cache, once per content.

    The zip's hash is remembered by (path, size, mtime), so that a second call reads none of it.

    Args:
        archive: the zip.
        limits: what it may hold.
        progress: called with (pictures done, pictures in all).

    Raises:
        DatasetError: not a zip, encrypted, over a limit, unsafe names, or no room to unpack.
    """
    try:
        status = archive.stat()
    except OSError as error:
        raise DatasetError(f"{archive.name} cannot be read: {error.strerror or error}.") from error
    if status.st_size > limits.archive_bytes:
        raise DatasetError(
            f"A zip may be at most {limits.archive_bytes // 10**6} MB; {archive.name} is {status.st_size / 1e6:.0f} MB."
        )
    memo = _memo(archive, status)
    sha256 = _remembered(memo)
    if sha256 is None:
        try:
            sha256 = file_sha256(archive)
        except OSError as error:
            raise DatasetError(f"{archive.name} cannot be read: {error.strerror or error}.") from error
    target = unpacked_folder(sha256)
    if not (target / "zip.json").is_file():
        if target.is_dir():  # an older, damaged cache
            shutil.rmtree(target, ignore_errors=True)
        with writing(f"The pictures of {archive.name}"), new_folder(target) as folder:
            problems = _extract(archive, folder / "files", limits, progress)
            replace_json(folder / "zip.json", {"sha256": sha256, "problems": problems})
    with writing(f"The pictures of {archive.name}"):
        memo.parent.mkdir(parents=True, exist_ok=True)
        if not memo.is_file():
            replace_json(memo, {"sha256": sha256})
        document = json.loads((target / "zip.json").read_text())
    problems = [(str(path), str(reason)) for path, reason in document["problems"]]
    return Unpacked(target / "files", sha256, tuple(problems))


def unpacked_folder(sha256: str) -> Path:
    """Where the pictures of the zip with this SHA-256 are unpacked, or would be."""
    return dataset_cache() / f"zip-{sha256[:24]}"


def known_sha256(archive: Path) -> str | None:
    """The SHA-256 of a zip that was unpacked here before and has not changed since; None of any other."""
    try:
        return _remembered(_memo(archive, archive.stat()))
    except OSError:
        return None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _memo(archive: Path, status: os.stat_result) -> Path:
    key = hashlib.sha256(f"{archive.resolve()}|{status.st_size}|{status.st_mtime_ns}".encode()).hexdigest()[:24]
    return dataset_cache() / "zips" / f"{key}.json"


def _remembered(memo: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        value = json.loads(memo.read_text())["sha256"]
        return value if isinstance(value, str) and len(value) == 64 else None
    return None


def _extract(archive: Path, folder: Path, limits: Limits, progress: Progress | None) -> list[tuple[str, str]]:
    name = archive.name
    folder.mkdir()
    try:
        with archive.open("rb") as stream:
            check_directory_size(stream, name, limits)
            with zipfile.ZipFile(stream) as zipped:
                members, problems = _members(zipped, name, limits, archive.stat().st_size)
                _check_room(folder, members, name)
                _write_members(zipped, members, folder, problems, name, limits, progress)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error, ValueError) as error:
        raise DatasetError(f"{name} is not a readable zip archive ({error}); make it anew and try again.") from error
    return problems


def check_directory_size(stream: BinaryIO, name: str, limits: Limits) -> None:
    """Find the directory as `zipfile` does and count its entries, which it would read into memory without a limit.

    The numbers of entries that the end records declare are not looked at: `zipfile` reads as many as there are.

    Raises:
        DatasetError: no zip, end records that disagree, or more than `limits.members` entries.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 65_557))
    tail = stream.read()
    at = len(tail) - 22
    if at < 0 or tail[at : at + 4] != _END or tail[-2:] != b"\0\0":  # a comment follows
        at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise DatasetError(f"{name} is not a zip archive; a dataset is a folder, a .zip of one, or MNIST's .npz.")
    directory = struct.unpack("<I", tail[at + 12 : at + 16])[0]
    end = size - len(tail) + at
    locator = tail[at - 20 : at] if at >= 20 else b""
    if locator[:4] == _LOCATOR:
        # `zipfile` reads the record right before the locator, whatever place the locator names
        end -= 20 + 56
        stream.seek(max(0, end))
        record = stream.read(56)
        if end < 0 or record[:4] != _END_64 or struct.unpack("<Q", locator[8:16])[0] != end:
            raise DatasetError(f"{name} is not a readable zip archive (its end records disagree); make it anew.")
        directory = struct.unpack("<Q", record[40:48])[0]
    too_many = DatasetError(f"A zip may hold at most {limits.members:,} files; {name} has more.")
    if directory > limits.members * 400:
        raise too_many
    stream.seek(max(0, end - directory))
    if _entries(stream.read(directory), limits.members + 1) > limits.members:
        raise too_many
    stream.seek(0)


def _entries(directory: bytes, most: int) -> int:
    """Count the entries of a zip's directory, up to `most`."""
    at = count = 0
    while count < most and directory[at : at + 4] == _ENTRY and at + 46 <= len(directory):
        at += 46 + sum(struct.unpack("<HHH", directory[at + 28 : at + 34]))
        count += 1
    return count


def _members(
    zipped: zipfile.ZipFile, name: str, limits: Limits, archive_bytes: int
) -> tuple[list[tuple[zipfile.ZipInfo, str]], list[tuple[str, str]]]:
    """Check the whole directory and choose the members to unpack, each with its safe relative path."""
    infos = zipped.infolist()
    if len(infos) > limits.members:
        raise DatasetError(f"A zip may hold at most {limits.members:,} files; {name} has {len(infos):,}.")
    total = sum(info.file_size for info in infos)
    if total > limits.total_bytes:
        raise DatasetError(
            f"A zip may hold at most {limits.total_bytes / 1e9:g} GB unpacked; {name} declares {total / 1e9:.1f} GB."
        )
    if total > RATIO_FROM_BYTES and total > MAX_RATIO * archive_bytes:
        raise DatasetError(
            f"{name} unpacks to {total / archive_bytes:.0f} times its size; pictures never do (limit {MAX_RATIO})."
        )
    chosen: list[tuple[zipfile.ZipInfo, str]] = []
    problems: list[tuple[str, str]] = []
    seen: set[str] = set()
    for info in infos:
        path = _safe_path(info.filename, name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DatasetError(f"A zip of pictures may hold files and folders only; {name} has a link: {path!r}.")
        if info.flag_bits & 0x1:
            raise DatasetError(f"{name} is encrypted; make a zip without a password.")
        if info.filename.endswith(("/", "\\")) or kind == stat.S_IFDIR or any(map(is_junk, PurePosixPath(path).parts)):
            continue
        reason = _unwanted(info, path, seen)
        if reason:
            problems.append((path, reason))
            continue
        seen.add(path)
        chosen.append((info, path))
    return chosen, problems


def _safe_path(filename: str, name: str) -> str:
    """A member's name as a relative POSIX path; names that lead elsewhere refuse the archive."""
    path = filename.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or (path[1:2] == ":" and path[:1].isalpha()) or ".." in parts:
        raise DatasetError(f"A zip may only hold names inside itself; {name} has {filename[:100]!r}.")
    return "/".join(parts)


def _unwanted(info: zipfile.ZipInfo, path: str, seen: set[str]) -> str:
    if not is_picture_name(path):
        return f"not a picture by its name ({PurePosixPath(path).suffix or 'no ending'})"
    if path in seen:
        return "twice in the zip"
    if info.file_size > MAX_PICTURE_BYTES:
        return f"file too large ({info.file_size / 1e6:.0f} MB, limit {MAX_PICTURE_BYTES // 10**6} MB)"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # bz2 and lzma can unpack a few kilobytes to a hundred megabytes in one step
        return "packed with a method other than deflate"
    try:
        too_long = max(len(part.encode()) for part in path.split("/")) > 255
    except UnicodeEncodeError:
        return "name is not UTF-8"
    return "name too long" if too_long or len(path) > 1_000 else ""


def _check_room(folder: Path, members: list[tuple[zipfile.ZipInfo, str]], name: str) -> None:
    needed = sum(info.file_size for info, _ in members)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"{name} needs {needed / 1e6:.0f} MB unpacked and the cache folder has {free / 1e6:.0f} MB free; "
            "free some space or point CVCORE_CACHE at another folder."
        )


def _write_members(
    zipped: zipfile.ZipFile,
    members: list[tuple[zipfile.ZipInfo, str]],
    folder: Path,
    problems: list[tuple[str, str]],
    name: str,
    limits: Limits,
    progress: Progress | None,
) -> None:
    left = limits.total_bytes
    for number, (info, path) in enumerate(members, start=1):
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            problems.append((path, "its folder is also a file in the zip"))
            continue
        try:
            left -= _write_member(zipped, info, target, min(left, MAX_PICTURE_BYTES))
        except _OverLimit:
            raise DatasetError(
                f"{name} unpacks to more than its directory declares ({path!r}); it is damaged or made to do harm."
            ) from None
        except IsADirectoryError:
            problems.append((path, "is also a folder in the zip"))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
            target.unlink(missing_ok=True)
            problems.append((path, "damaged in the zip"))
        if progress is not None:
            progress(number, len(members))


class _OverLimit(Exception):
    """More bytes came out of a member than may."""


def _write_member(zipped: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, limit: int) -> int:
    written = 0
    with zipped.open(info) as source, target.open("wb") as stream:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > min(limit, info.file_size):
                raise _OverLimit
            stream.write(chunk)
    return written
