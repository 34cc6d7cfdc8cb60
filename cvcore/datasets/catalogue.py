"""Open datasets by id, folder, zip or .npz of digits, and find them again."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvcore.datasets.cache import dataset_cache, new_folder, uploads_folder, writing
from cvcore.datasets.dataset import Dataset
from cvcore.datasets.downloads import DOWNLOADS, Download, downloaded_file
from cvcore.datasets.index import remember, remembered
from cvcore.datasets.opening import build, is_npz, open_file, open_path, slug
from cvcore.datasets.small import LAYOUTS
from cvcore.datasets.uploads import uploads
from cvcore.errors import DatasetError
from cvcore.settings import data_folder

Progress = Callable[[int, int], None]
DOODLES = "doodle-pets"
_DOODLE_ID = re.compile(r"doodle-pets(?:-([0-9]{1,9}))?")


def open_dataset(
    source: str | Path, seed: int = 0, progress: Progress | None = None, within: Path | None = None
) -> Dataset:
    """Open a dataset, checking every picture that was not checked before.

    Args:
        source: a catalogue id ("doodle-pets", "doodle-pets-7" for drawings of generator seed 7,
            "cats-and-dogs-filtered", "dogs-vs-cats-full", "mnist"), a folder, a zip, an .npz of digits, or the id
            of a folder or file that lies in CVCORE_DATA or was opened before; one of a download's id stands for it
            where its file is not here.
        seed: decides the splits that the folders do not give. Default 0.
        progress: called with (done, total) while unpacking, drawing and checking.
        within: when given (the browser), only folders and files below it may be named, and `source`
            may be relative to it. In any case links that lead out of CVCORE_DATA are skipped below it.

    Raises:
        DatasetError: with one sentence.
    """
    if isinstance(source, str):
        doodles = _DOODLE_ID.fullmatch(source)
        if doodles:
            return _open_doodles(doodles[1], seed, progress)
        if source in DOWNLOADS:
            item = DOWNLOADS[source]
            unpacked = _of_id(source) if within is None and downloaded_file(item) is None else None
            return open_path(unpacked, seed, progress) if unpacked else _open_download(item, seed, progress)
    path = (_of_id(source) if within is None else None) or _resolved(source, within)
    return open_path(path, seed, progress)


def find_dataset(id: str, fingerprint: str, progress: Progress | None = None) -> Dataset:
    """Open again the dataset that was opened under this id with this fingerprint.

    Looks among the datasets opened here, then in the catalogue, then for an upload, folder or file of that name.

    Args:
        id, fingerprint: of the dataset.
        progress: as for `open_dataset`; what it raises ends the search, and nothing half-made stays behind.

    Raises:
        DatasetError: it is not here, or its pictures have changed; no path of this machine is in the sentence.
    """
    sources: list[tuple[str, int]] = []
    for entry in remembered():
        if entry["id"] == id and entry["fingerprint"] == fingerprint:
            sources.append((entry["source"], entry["seed"]))
    if _DOODLE_ID.fullmatch(id) or id in DOWNLOADS:
        sources.append((id, 0))
    sources += [(str(path), 0) for path in [*uploads(), *data_choices()] if slug(_title(path)) == id]
    changed = any(entry["id"] == id and entry["fingerprint"] != fingerprint for entry in remembered())
    problem: DatasetError | None = None
    for source, seed in dict.fromkeys(sources):
        try:
            path = Path(source)
            if not path.is_absolute():
                dataset = open_dataset(source, seed, progress)
            elif path.exists():
                dataset = open_path(path, seed, progress)
            else:
                raise DatasetError("its folder or zip is no longer where it was; put it back or add it again.")
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


def known_datasets(everything: bool = False) -> list[dict[str, Any]]:
    """List the catalogue, drawings, uploads, and what lies in CVCORE_DATA: what a browser may name.

    Args:
        everything: list also what was opened from elsewhere on this machine, as the command line does. Default False.

    Returns:
        Dicts {id, name, title, kind, upload, available, source, fingerprint, bytes}: name is the id, or more where two
        share an id; kind is "drawn", "folder", "zip", "npz" or "download"; upload says whether a browser sent it;
        fingerprint is None for one never opened; bytes is the published size of a download where there is one.
    """
    entries = [entry for entry in remembered() if everything or _may_be_listed(entry)]
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
    for path in [*uploads(), *data_choices()]:
        if str(path) not in sources and (path.name not in archives or _is_upload(str(path))):
            kind = "folder" if path.is_dir() else "npz" if is_npz(path) else "zip"
            found.append(_row(slug(_title(path)), _title(path), kind, True, str(path), None))
    return _named(found, 1 + len(DOWNLOADS))


def _may_be_listed(entry: dict[str, Any]) -> bool:
    """Whether a browser may name this dataset: what was opened from elsewhere is its owner's."""
    if entry["kind"] in ("drawn", "download") or _is_upload(entry["source"]):
        return True
    shared = data_folder()
    return shared is not None and shared in Path(entry["source"]).parents


def _is_upload(source: str) -> bool:
    return uploads_folder() in Path(source).parents


def data_choices() -> list[Path]:
    """The folders, zips and .npz files directly below CVCORE_DATA, sorted by name; [] when it is not set or there."""
    folder = data_folder()
    if folder is None or not folder.is_dir():
        return []
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in inside if path.resolve().is_relative_to(folder) and (path.is_dir() or _is_file(path))]


def _row(
    id: str, title: str, kind: str, available: bool, source: str, fingerprint: str | None, size: int | None = None
) -> dict[str, Any]:
    row = {"id": id, "title": title, "kind": kind, "upload": _is_upload(source), "available": available}
    return {**row, "source": source, "fingerprint": fingerprint, "bytes": size}


def _named(rows: list[dict[str, Any]], fixed: int) -> list[dict[str, Any]]:
    """Give each row a name of its own; the first `fixed` rows, the catalogue, keep their ids whatever comes after."""
    tally = Counter(row["id"] for row in rows)
    for number, row in enumerate(rows):
        alone = number < fixed or tally[row["id"]] == 1
        row["name"] = row["id"] if alone else f"{row['id']} {(row['fingerprint'] or row['kind'])[:8]}"
    return rows


def _is_file(path: Path) -> bool:
    return path.suffix.lower() in (".zip", ".npz") and path.is_file()


def _title(path: Path) -> str:
    return path.stem if path.is_file() else path.name


def _of_id(id: str | Path) -> Path | None:
    """The one folder or file of this id that lies in CVCORE_DATA or was opened before; None when nothing has it.

    Raises:
        DatasetError: several have it.
    """
    if not isinstance(id, str) or slug(id) != id or Path(id).exists():
        return None
    opened = [Path(entry["source"]) for entry in remembered() if entry["id"] == id]
    named = [path for path in [*uploads(), *data_choices()] if slug(_title(path)) == id]
    found = {path.resolve() for path in [*opened, *named] if path.is_absolute() and path.exists()}
    if len(found) > 1:
        raise DatasetError(f"{len(found)} datasets are called {id!r}; name the folder or file of the one meant.")
    return found.pop() if found else None


def _resolved(source: str | Path, within: Path | None) -> Path:
    """The absolute path of a named folder or file.

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
        layout = next((name for name in LAYOUTS if slug(name) == shown), None)
        if layout is not None:
            raise DatasetError(
                f"No dataset {shown!r} here; make it with `python -m cvcore make-small SOURCE FOLDER/{layout} "
                f"--layout {layout}`."
            )
        known = ", ".join([DOODLES, *DOWNLOADS])
        raise DatasetError(f"No dataset, folder or zip named {shown[:200]!r}; known datasets: {known}.")
    return resolved


def _open_download(item: Download, seed: int, progress: Progress | None) -> Dataset:
    path = downloaded_file(item)
    if path is None:
        raise DatasetError(item.missing())
    dataset = open_file(path, item.id, item.title, seed=seed, progress=progress)
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
