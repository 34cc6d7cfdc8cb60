"""Read the layout of a folder: wrapping folders, split folders, class folders, and what does not belong."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cvcore.datasets.dataset import SPLITS
from cvcore.datasets.pictures import SUFFIXES
from cvcore.errors import DatasetError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r"})
MAX_CLASSES = 1_000
MAX_FILES = 200_000
MAX_WRAPPERS = 4
LAYOUT = "one folder a class, or train/, validation/ and test/ with one folder a class in each"


@dataclass
class Layout:
    """What a folder holds.

    Attributes:
        root: the folder that paths are relative to, wrapping folders removed.
        class_names: sorted.
        files: (relative POSIX path, split or None, class name), sorted.
        skipped: (path, reason) of files that are not pictures by name or place.
        notes: sentences.
    """

    root: Path
    class_names: tuple[str, ...] = ()
    files: list[tuple[str, str | None, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_layout(folder: Path, name: str, within: Path | None = None) -> Layout:
    """Find the splits, classes and picture files of a folder without opening any file.

    Args:
        folder: an existing folder.
        name: what to call it in messages.
        within: when given, links that lead out of this folder are skipped.

    Raises:
        DatasetError: not laid out as a dataset, one class only, or a held-out class that train lacks.
    """
    layout = Layout(_unwrap(folder, within))
    reader = _Reader(layout, within)
    folders = reader.folders(layout.root)
    splits: dict[str, str] = {}
    for entry in folders:
        split = SPLIT_NAMES.get(entry.lower())
        if split is not None and split in splits:
            raise DatasetError(f"{name} has two folders for {split}, {splits[split]!r} and {entry!r}; keep one.")
        if split is not None:
            splits[split] = entry
    if "train" in splits:
        _read_splits(layout, reader, folders, splits, name)
    else:
        _read_classes(layout, reader, folders, name)
    layout.files.sort()
    return layout


def _read_splits(layout: Layout, reader: _Reader, folders: list[str], splits: dict[str, str], name: str) -> None:
    for other in sorted(set(folders) - set(splits.values())):
        layout.notes.append(f"The folder {other!r} beside the splits is not used.")
    reader.loose_files(layout.root, "outside the split folders")
    for split in SPLITS:
        if split not in splits:
            continue
        folder = layout.root / splits[split]
        classes = reader.folders(folder)
        loose = reader.loose_files(folder, "outside the class folders")
        if split == "train":
            layout.class_names = _checked_classes(classes, loose, f"{name}/{splits[split]}")
        elif not classes:
            layout.notes.append(f"The folder {splits[split]!r} has no class folders, so it is not used.")
            continue
        unknown = sorted(set(classes) - set(layout.class_names))
        if unknown:
            raise DatasetError(
                f"Every class needs a folder in train; {name}/{splits[split]} has {unknown[0]!r}, which train lacks."
            )
        for class_name in classes:
            reader.pictures(folder / class_name, split, class_name)


def _read_classes(layout: Layout, reader: _Reader, folders: list[str], name: str) -> None:
    loose = reader.loose_files(layout.root, "outside the class folders")
    layout.class_names = _checked_classes(folders, loose, name)
    for class_name in folders:
        reader.pictures(layout.root / class_name, None, class_name)


def _checked_classes(classes: list[str], loose_pictures: int, name: str) -> tuple[str, ...]:
    if len(classes) > MAX_CLASSES:
        raise DatasetError(f"A dataset may have at most {MAX_CLASSES} classes; {name} has {len(classes)} folders.")
    if len(classes) >= 2:
        return tuple(classes)
    if classes:
        raise DatasetError(
            f"A dataset needs at least 2 classes, one folder each; {name} has one, {classes[0]!r}: add a second folder."
        )
    if loose_pictures:
        raise DatasetError(
            f"A dataset needs {LAYOUT}; {name} has {loose_pictures} pictures and no class folders "
            "(`python -m cvcore make-small` sorts the competition's train folder)."
        )
    raise DatasetError(f"A dataset needs {LAYOUT}; {name} has no such folders.")


def _unwrap(folder: Path, within: Path | None) -> Path:
    """Go down while a folder holds just one folder that itself holds folders, and that one is not a split."""
    for _ in range(MAX_WRAPPERS):
        reader = _Reader(Layout(folder), within)
        inside = reader.folders(folder)
        if len(inside) != 1 or inside[0].lower() in SPLIT_NAMES or not reader.folders(folder / inside[0]):
            break
        folder = folder / inside[0]
    return folder


def is_junk(name: str) -> bool:
    """Whether an operating system left this file or folder behind; such names are passed over without a word."""
    return name.startswith(".") or name.lower() in JUNK


def is_picture_name(name: str) -> bool:
    """Whether a file's name ends as a picture's does."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


class _Reader:
    """Lists folders; what it cannot use goes to the layout's skipped list."""

    def __init__(self, layout: Layout, within: Path | None) -> None:
        self.layout = layout
        self.within = within

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as listing:
                entries = [entry for entry in listing if not is_junk(entry.name)]
        except OSError as error:
            self._skip(folder, f"cannot be read ({error.strerror or error})")
            return []
        return sorted((entry for entry in entries if self._allowed(entry)), key=lambda entry: entry.name)

    def _allowed(self, entry: os.DirEntry[str]) -> bool:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            self._skip(entry.path, "name is not UTF-8")
            return False
        if self.within is None or not entry.is_symlink():
            return True
        if Path(entry.path).resolve().is_relative_to(self.within.resolve()):
            return True
        self._skip(entry.path, "link that leads out of the data folder")
        return False

    def _skip(self, path: str | Path, reason: str) -> None:
        relative = Path(path).relative_to(self.layout.root).as_posix()
        self.layout.skipped.append((relative.encode(errors="replace").decode(), reason))

    def folders(self, folder: Path) -> list[str]:
        return [entry.name for entry in self._entries(folder) if entry.is_dir()]

    def loose_files(self, folder: Path, reason: str) -> int:
        """Count the pictures that lie where none belong, and list them as skipped."""
        loose = [entry.path for entry in self._entries(folder) if entry.is_file() and is_picture_name(entry.name)]
        for path in loose:
            self._skip(path, reason)
        return len(loose)

    def pictures(self, folder: Path, split: str | None, class_name: str) -> None:
        """Add every picture below a class folder, at any depth; links to folders are not followed below it."""
        prefix = folder.relative_to(self.layout.root).as_posix()
        pending = [(folder, prefix)]
        while pending:
            here, here_prefix = pending.pop()
            for entry in self._entries(here):
                path = f"{here_prefix}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append((Path(entry.path), path))
                elif entry.is_dir():
                    self._skip(entry.path, "link to a folder")
                elif not entry.is_file():
                    self._skip(entry.path, "not a regular file")
                elif not is_picture_name(entry.name):
                    self._skip(entry.path, f"not a picture by its name ({Path(entry.name).suffix or 'no ending'})")
                else:
                    self.layout.files.append((path, split, class_name))
                    if len(self.layout.files) > MAX_FILES:
                        raise DatasetError(f"A dataset may have at most {MAX_FILES:,} pictures; this folder has more.")
