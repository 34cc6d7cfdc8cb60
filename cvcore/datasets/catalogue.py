"""Open datasets by catalogue id, folder or zip, and find them again."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from cvcore.datasets.archives import LOCAL, UPLOAD, Limits, unpack, unpacked_folder
from cvcore.datasets.cache import dataset_cache, new_folder, writing
from cvcore.datasets.dataset import Dataset
from cvcore.datasets.downloads import DOWNLOADS, Download, downloaded_file
from cvcore.datasets.index import remember, remembered
from cvcore.datasets.opening import build
from cvcore.errors import DatasetError
from cvcore.settings import cache_folder, data_folder

Progress = Callable[[int, int], None]
DOODLES = "doodle-pets"
_DOODLE_ID = re.compile(r"doodle-pets(?:-([0-9]{1,9}))?")
MAX_UPLOADS_BYTES = 4_000_000_000


def open_dataset(
    source: str | Path, seed: int = 0, progress: Progress | None = None, within: Path | None = None
) -> Dataset:
    """Open a dataset, checking every picture that was not checked before.

    Args:
        source: a catalogue id ("doodle-pets", "doodle-pets-7" for drawings of generator seed 7,
            "cats-and-dogs-filtered", "dogs-vs-cats-full"), a folder, or a zip.
        seed: decides the splits that the folders do not give. Default 0.
        progress: called with (done, total) while unpacking, drawing and checking.
        within: when given (the browser), only folders and zips below it may be named, and `source`
            may be relative to it. In any case links that lead out of CVCORE_DATA are skipped below it.

    Raises:
        DatasetError: with one sentence.
    """
    if isinstance(source, str):
        doodles = _DOODLE_ID.fullmatch(source)
        if doodles:
            return _open_doodles(doodles[1], seed, progress)
        if source in DOWNLOADS:
            return _open_download(DOWNLOADS[source], seed, progress)
    path = _resolved(source, within)
    return _open_path(path, seed, progress)


def find_dataset(id: str, fingerprint: str) -> Dataset:
    """Open again the dataset that was opened under this id with this fingerprint.

    Looks among the datasets opened here, then in the catalogue, then for a folder or zip of that name in CVCORE_DATA.

    Raises:
        DatasetError: it is not here, or its pictures have changed.
    """
    sources: list[tuple[str, int]] = []
    for entry in remembered():
        if entry["id"] == id and entry["fingerprint"] == fingerprint:
            sources.append((entry["source"], entry["seed"]))
    if _DOODLE_ID.fullmatch(id) or id in DOWNLOADS:
        sources.append((id, 0))
    sources += [(str(path), 0) for path in data_choices() if slug(path.stem if _is_zip(path) else path.name) == id]
    changed = any(entry["id"] == id and entry["fingerprint"] != fingerprint for entry in remembered())
    problem: DatasetError | None = None
    for source, seed in dict.fromkeys(sources):
        try:
            dataset = open_dataset(source, seed)
        except DatasetError as error:
            problem = problem or error
            continue
        if dataset.fingerprint == fingerprint:
            return dataset
        changed = True
    if changed:
        raise DatasetError(
            f"The pictures of {id!r} are not those of fingerprint {fingerprint[:12]} any more; open it again."
        )
    if problem is not None:
        raise DatasetError(f"{id!r} cannot be opened again: {problem}") from problem
    raise DatasetError(f"No dataset {id!r} with fingerprint {fingerprint[:12]} here; open its folder or zip once.")


def known_datasets() -> list[dict[str, Any]]:
    """List the catalogue, every dataset opened here, and the folders and zips directly below CVCORE_DATA.

    Returns:
        Dicts {id, name, title, kind, available, source, fingerprint, bytes}: name is the id, or more where two
        share an id; kind is "drawn", "folder", "zip" or "download"; fingerprint is None for one never opened; bytes is
        the published size of a download where there is one.
    """
    entries = remembered()
    found: list[dict[str, Any]] = []
    opened = {entry["source"]: entry for entry in reversed(entries)}
    fixed: list[tuple[str, str, str, bool, int | None]] = [(DOODLES, "Doodle pets (drawings)", "drawn", True, None)]
    fixed += [
        (item.id, item.title, "download", downloaded_file(item) is not None, item.bytes) for item in DOWNLOADS.values()
    ]
    for id, title, kind, available, size in fixed:
        fingerprint = opened[id]["fingerprint"] if id in opened else None
        found.append(_row(id, title, kind, available, id, fingerprint, size))
    seen = {(row["id"], row["fingerprint"]) for row in found}
    sources = set()
    for entry in entries:
        sources.add(entry["source"])
        key = (entry["id"], entry["fingerprint"])
        if entry["source"] in DOWNLOADS or entry["source"] == DOODLES or key in seen:
            continue
        seen.add(key)
        available = entry["kind"] == "drawn" or Path(entry["source"]).exists()
        found.append(_row(entry["id"], entry["title"], entry["kind"], available, entry["source"], entry["fingerprint"]))
    archives = {item.file_name for item in DOWNLOADS.values()}
    for path in data_choices():
        if str(path) not in sources and path.name not in archives:
            name, kind = (path.stem, "zip") if _is_zip(path) else (path.name, "folder")
            found.append(_row(slug(name), name, kind, True, str(path), None))
    return _named(found, 1 + len(DOWNLOADS))


def data_choices() -> list[Path]:
    """The folders and zips directly below CVCORE_DATA, sorted by name; [] when it is not set or not there."""
    folder = data_folder()
    if folder is None or not folder.is_dir():
        return []
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in inside if path.resolve().is_relative_to(folder) and (path.is_dir() or _is_zip(path))]


def add_upload(file_name: str, data: BinaryIO, progress: Progress | None = None) -> Dataset:
    """Keep a zip from a browser and open it, under the limits `archives.UPLOAD`.

    Args:
        file_name: as the browser names it; only its last part is used.
        data: a binary stream, read once.
        progress: as for `open_dataset`.

    Raises:
        DatasetError: too large, not a usable zip; nothing is then kept.
    """
    uploads = cache_folder() / "uploads"
    stem = re.sub(r"[^\w .()-]", "_", Path(file_name.replace("\\", "/")).stem).strip(" .")[:60] or "upload"
    with writing("The upload"):
        uploads.mkdir(parents=True, exist_ok=True)
        kept = sum(path.stat().st_size for path in uploads.glob("*/*.zip"))
        if kept > MAX_UPLOADS_BYTES:
            raise DatasetError(
                f"The uploads kept here take {kept / 1e9:.1f} GB already (limit {MAX_UPLOADS_BYTES / 1e9:g}); "
                "delete some from the uploads folder of the cache."
            )
        with tempfile.NamedTemporaryFile(dir=uploads, prefix=".upload-") as stream:
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
            target = uploads / digest.hexdigest()[:24]
            if not target.is_dir():
                with new_folder(target) as folder:
                    shutil.copyfile(stream.name, folder / f"{stem}.zip")
    archive = next(iter(sorted(target.glob("*.zip"))))
    try:
        return _open_path(archive, 0, progress, limits=UPLOAD)
    except DatasetError:
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(unpacked_folder(digest.hexdigest()), ignore_errors=True)
        raise


def slug(name: str) -> str:
    """A name as an id: [a-z0-9-]{1,40}; "dataset" when nothing of it is left."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "dataset"


def _row(
    id: str, title: str, kind: str, available: bool, source: str, fingerprint: str | None, size: int | None = None
) -> dict[str, Any]:
    row = {"id": id, "title": title, "kind": kind, "available": available, "source": source}
    return {**row, "fingerprint": fingerprint, "bytes": size}


def _named(rows: list[dict[str, Any]], fixed: int) -> list[dict[str, Any]]:
    """Give each row a name of its own; the first `fixed` rows, the catalogue, keep their ids whatever comes after."""
    tally = Counter(row["id"] for row in rows)
    for number, row in enumerate(rows):
        alone = number < fixed or tally[row["id"]] == 1
        row["name"] = row["id"] if alone else f"{row['id']} {(row['fingerprint'] or row['kind'])[:8]}"
    return rows


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and path.is_file()


def _resolved(source: str | Path, within: Path | None) -> Path:
    """The absolute path of a named folder or zip.

    Raises:
        DatasetError: not there, or outside `within`.
    """
    shown = str(source)
    try:
        path = Path(source).expanduser() if within is None else within / source
        resolved = path.resolve()
        exists = resolved.is_dir() or resolved.is_file()
    except (OSError, ValueError, RuntimeError):
        raise DatasetError(f"No dataset, folder or zip named {shown[:200]!r}.") from None
    if within is not None and not (resolved.is_relative_to(within.resolve()) and resolved != within.resolve()):
        raise DatasetError(f"Only folders below CVCORE_DATA can be named here; received {shown[:200]!r}.")
    if not exists:
        known = ", ".join([DOODLES, *DOWNLOADS])
        raise DatasetError(f"No dataset, folder or zip named {shown[:200]!r}; known datasets: {known}.")
    return resolved


def _open_path(path: Path, seed: int, progress: Progress | None, limits: Limits = LOCAL) -> Dataset:
    if path.is_dir():
        # the same rule for the command line and the browser: one folder, one fingerprint
        shared = data_folder()
        within = shared if shared is not None and path.is_relative_to(shared) else None
        dataset = build(path, slug(path.name), path.name, seed=seed, progress=progress, within=within)
        remember(dataset, str(path), "folder")
        return dataset
    unpacked = unpack(path, limits, progress)
    dataset = build(
        unpacked.folder,
        slug(path.stem),
        path.stem,
        seed=seed,
        progress=progress,
        problems=unpacked.problems,
        name=path.name,
    )
    remember(dataset, str(path), "zip")
    return dataset


def _open_download(item: Download, seed: int, progress: Progress | None) -> Dataset:
    path = downloaded_file(item)
    if path is None:
        raise DatasetError(item.missing())
    unpacked = unpack(path, LOCAL, progress)
    dataset = build(
        unpacked.folder, item.id, item.title, seed=seed, progress=progress, problems=unpacked.problems, name=path.name
    )
    remember(dataset, item.id, "download")
    return dataset


def _open_doodles(number: str | None, seed: int, progress: Progress | None) -> Dataset:
    from cvcore.datasets import doodle_animals, doodle_parts, doodles

    drawn_by = doodles.DEFAULT_SEED if number is None else int(number)
    source = b"".join(Path(str(module.__file__)).read_bytes() for module in (doodles, doodle_animals, doodle_parts))
    # the generator's own text is in the folder's name: drawings of an older generator are never taken for today's
    folder = dataset_cache() / f"doodles-{drawn_by}-{hashlib.sha256(source).hexdigest()[:12]}"
    if not folder.is_dir():
        with writing("The drawings"), new_folder(folder) as making:
            doodles.write_doodle_pets(making, drawn_by, progress)
    own = drawn_by == doodles.DEFAULT_SEED
    id = DOODLES if own else f"{DOODLES}-{drawn_by}"
    title = "Doodle pets (drawings)" if own else f"Doodle pets (drawings, generator seed {drawn_by})"
    dataset = build(folder, id, title, seed=seed, progress=progress, drawn=True)
    remember(dataset, id, "drawn")
    return dataset
