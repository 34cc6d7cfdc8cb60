"""From a folder, zip or .npz of digits to a Dataset: layout, health, splits, limits, notes, fingerprint."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cvcore.datasets.archives import LOCAL, UPLOAD, Limits, unpack
from cvcore.datasets.cache import uploads_folder
from cvcore.datasets.dataset import Dataset, Picture, fingerprint
from cvcore.datasets.digits import unpack_digits
from cvcore.datasets.downloads import DOWNLOADS
from cvcore.datasets.folder import read_layout
from cvcore.datasets.health import Health, Progress, check_files
from cvcore.datasets.index import remember
from cvcore.datasets.splits import Labelled, assign_splits, check_minimum
from cvcore.settings import data_folder

_REMARKS = {
    "animated": "animated or multi-page: the first frame is used",
    "alpha": "transparent: laid on white",
    "cmyk": "CMYK: converted to RGB",
    "deep": "16-bit: scaled to 8 bits",
    "palette": "palette: converted to RGB",
    "rotated": "turned upright as the EXIF data says",
}


def open_path(path: Path, seed: int = 0, progress: Progress | None = None) -> Dataset:
    """Open a folder, zip or .npz of digits that is there; an upload under the limits of uploads.

    Raises:
        DatasetError: with one sentence, in which the path has no part but its name.
    """
    if path.is_dir():
        # the same rule for the command line and the browser: one folder, one fingerprint
        shared = data_folder()
        within = shared if shared is not None and path.is_relative_to(shared) else None
        dataset = build(path, slug(path.name), path.name, seed=seed, progress=progress, within=within)
        remember(dataset, str(path), "folder")
        return dataset
    limits = UPLOAD if path.is_relative_to(uploads_folder()) else LOCAL
    dataset = open_file(path, slug(path.stem), path.stem, limits, seed, progress)
    remember(dataset, str(path), "npz" if is_npz(path) else "zip")
    return dataset


def open_file(
    path: Path, id: str, title: str, limits: Limits = LOCAL, seed: int = 0, progress: Progress | None = None
) -> Dataset:
    """Unpack a zip, or an .npz of digits, into the cache and read it as a dataset.

    Args:
        path: an existing file.
        id, title: of the dataset.
        limits: what a zip may hold.
        seed, progress: as for `build`; progress is called while unpacking too.

    Raises:
        DatasetError: with one sentence.
    """
    if not is_npz(path):
        unpacked = unpack(path, limits, progress)
        return build(
            unpacked.folder, id, title, seed=seed, progress=progress, problems=unpacked.problems, name=path.name
        )
    digits = unpack_digits(path, progress)
    dataset = build(digits.folder, id, title, seed=seed, progress=progress, name=path.name)
    notes = ["The last 10 % of the training digits are the validation split, as Keras' validation_split=0.1 takes it."]
    if id == "mnist" and digits.sha256 != DOWNLOADS["mnist"].sha256:
        notes.append("This is not the file that Keras publishes: its SHA-256 is another.")
    return replace(dataset, notes=(*dataset.notes, *notes))


def is_npz(path: Path) -> bool:
    """Whether a file is an .npz by its name."""
    return path.suffix.lower() == ".npz"


def slug(name: str) -> str:
    """A name as an id: [a-z0-9-]{1,40}; "dataset" when nothing of it is left."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "dataset"


def build(
    folder: Path,
    id: str,
    title: str,
    *,
    seed: int = 0,
    drawn: bool = False,
    progress: Progress | None = None,
    within: Path | None = None,
    problems: Sequence[tuple[str, str]] = (),
    name: str | None = None,
) -> Dataset:
    """Read a folder as a dataset.

    Args:
        folder: laid out as `folder.read_layout` describes.
        id, title: of the dataset.
        seed: decides the splits that the folders do not give.
        drawn: the pictures are drawings of this project; their pixels are hashed, not their bytes.
        progress: called with (pictures checked, pictures in all).
        within: links that lead out of this folder are skipped.
        problems: (path, reason) of files that were left out before.
        name: what messages call it. Default: the title.

    Raises:
        DatasetError: one class only, an empty class, too few pictures, no such layout.
    """
    layout = read_layout(folder, name or title, within)
    health = check_files(layout.root, [path for path, _, _ in layout.files], drawn, progress)
    skipped = [*problems, *layout.skipped]
    usable: list[tuple[Labelled, Health]] = []
    unusable: Counter[str] = Counter()
    for (path, split, class_name), found in zip(layout.files, health, strict=True):
        if found.problem:
            skipped.append((path, found.problem))
            unusable[class_name] += 1
        else:
            usable.append((Labelled(path, split, class_name, found.sha256), found))
    splits, notes = assign_splits([entry for entry, _ in usable], seed)
    counts: dict[str, dict[str, int]] = {"train": {}, "validation": {}}
    for (entry, _), split in zip(usable, splits, strict=True):
        of_split = counts.setdefault(split, {})
        of_split[entry.class_name] = of_split.get(entry.class_name, 0) + 1
    check_minimum(layout.class_names, counts, unusable)
    label = {class_name: number for number, class_name in enumerate(layout.class_names)}
    pictures = [
        Picture(
            entry.path,
            split,
            label[entry.class_name],
            found.width,
            found.height,
            found.bytes,
            entry.sha256,
        )
        for (entry, found), split in zip(usable, splits, strict=True)
    ]
    pictures.sort(key=lambda picture: (picture.split, picture.path))
    return Dataset(
        id=id,
        title=title,
        drawn=drawn,
        root=layout.root,
        class_names=layout.class_names,
        pictures=tuple(pictures),
        skipped=tuple(sorted(dict.fromkeys(skipped))),
        notes=(*layout.notes, *notes, *_duplicates(pictures), *_unusual([found for _, found in usable])),
        fingerprint=fingerprint(pictures, layout.class_names),
        seed=seed,
    )


def _unusual(health: Sequence[Health]) -> list[str]:
    tally = Counter(remark for found in health for remark in found.remarks.split())
    return [
        f"{tally[key]} {'picture' if tally[key] == 1 else 'pictures'} {text}."
        for key, text in _REMARKS.items()
        if tally[key]
    ]


def _duplicates(pictures: Sequence[Picture]) -> list[str]:
    """Say when one picture is in two splits (the score is then too good) or under two labels (it is then too bad)."""
    groups: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[picture.sha256].append(picture)
    across = sum(len({picture.split for picture in group}) > 1 for group in groups.values())
    doubtful = sum(len({picture.label for picture in group}) > 1 for group in groups.values())
    notes = []
    if across:
        notes.append(f"{_are(across)} in more than one split, byte for byte: scores will look too good.")
    if doubtful:
        notes.append(f"{_are(doubtful)} under more than one label, byte for byte.")
    return notes


def _are(number: int) -> str:
    return "1 picture is" if number == 1 else f"{number} pictures are"
