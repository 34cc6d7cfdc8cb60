"""A small dataset of any two classes: so many pictures a split, taken class by class in the order of their names."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cvcore.datasets.archives import unpack
from cvcore.datasets.folder import read_layout
from cvcore.datasets.health import check_bytes
from cvcore.datasets.pictures import MAX_PICTURE_BYTES, UnusablePicture, read_bytes
from cvcore.errors import DatasetError

COMPETITION = re.compile(r"(cat|dog)\.(\d{1,6})\.jpg", re.IGNORECASE)


@dataclass(frozen=True)
class OrderedLayout:
    """A subset that is defined by its numbers of pictures alone.

    Attributes:
        splits: folder of each split -> its pictures, both classes together; of an odd number the first class by
            name has one more.
    """

    splits: dict[str, int]

    def of_class(self, number: int) -> dict[str, int]:
        """Pictures of each split of the first class (0) or the second (1)."""
        return {split: (count + 1 - number) // 2 for split, count in self.splits.items()}


@dataclass(frozen=True)
class TwoClasses:
    """Pictures of two classes: {class name: names in order}, and a function that reads one by its name."""

    names: dict[str, list[str]]
    read: Callable[[str], bytes]


def chosen(plan: OrderedLayout, layout: str, source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Choose the pictures of a layout: (path in the new folder, the file's bytes), 756 in all for the tiny one.

    Files that are no usable pictures are passed over, and so are those that equal an earlier one byte for byte: none
    lands in two splits.

    Args:
        plan: how many to choose.
        layout: what messages call it.
        source: the competition's train folder or zip, or any folder or zip with two classes.

    Raises:
        DatasetError: not two classes, or too few pictures.
    """
    seen: set[str] = set()
    with two_classes(source) as found:
        if len(found.names) != 2:
            raise DatasetError(f"{layout} takes two classes; {source.name} has {len(found.names)}.")
        for number, class_name in enumerate(sorted(found.names)):
            splits = plan.of_class(number)
            places = iter([split for split, count in splits.items() for _ in range(count)])
            place, used, names = next(places, None), 0, set[str]()
            for name in found.names[class_name]:
                if place is None:
                    break
                data = _usable(found, name, seen)
                if data is None:
                    continue
                yield PurePosixPath(place, class_name, _own_name(PurePosixPath(name), names)), data
                place, used = next(places, None), used + 1
            if place is not None:
                raise DatasetError(
                    f"{layout} needs {sum(splits.values())} different usable pictures of {class_name!r}; "
                    f"{source.name} has {used}."
                )


def _usable(found: TwoClasses, name: str, seen: set[str]) -> bytes | None:
    try:
        data = found.read(name)
    except UnusablePicture:
        return None
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 in seen or check_bytes(data).problem:
        return None
    seen.add(sha256)
    return data


def _own_name(path: PurePosixPath, names: set[str]) -> str:
    """The file's name, or with a number where another folder of the class had one like it."""
    name, number = path.name, 1
    while name.lower() in names:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    names.add(name.lower())
    return name


@contextmanager
def two_classes(source: Path) -> Iterator[TwoClasses]:
    """List the pictures of a source: the competition's `cat.N.jpg`, or class folders with or without split folders."""
    if source.is_dir():
        inner = source / "train" if (source / "train").is_dir() else source
        flat = _competition([str(path) for path in inner.iterdir() if path.is_file()])
        yield TwoClasses(flat, read_bytes) if flat else _class_folders(source, source)
        return
    with zipfile.ZipFile(source) as zipped:
        sound = [info.filename for info in zipped.infolist() if 0 < info.file_size <= MAX_PICTURE_BYTES]
        flat = _competition(sound)
        if flat:
            yield TwoClasses(flat, zipped.read)
            return
    yield _class_folders(unpack(source).folder, source)


def _competition(names: list[str]) -> dict[str, list[str]]:
    """The competition's pictures in the order of their numbers; {} unless both kinds lie in one and the same folder."""
    found: dict[str, dict[int, str]] = {}
    folders = set()
    for name in names:
        match = COMPETITION.fullmatch(PurePosixPath(name).name)
        if match:
            folders.add(PurePosixPath(name).parent)
            found.setdefault(match[1].lower(), {}).setdefault(int(match[2]), name)
    if len(folders) != 1 or len(found) != 2:
        return {}
    return {kind: [numbered[number] for number in sorted(numbered)] for kind, numbered in found.items()}


def _class_folders(folder: Path, source: Path) -> TwoClasses:
    layout = read_layout(folder, source.name)
    names: dict[str, list[str]] = {class_name: [] for class_name in layout.class_names}
    for path, _, class_name in layout.files:
        names[class_name].append(path)
    for paths in names.values():
        paths.sort(key=_natural)
    return TwoClasses(names, lambda path: read_bytes(layout.root / path))


def _natural(path: str) -> tuple[list[int | str], str]:
    """A key by which `2.jpg` comes before `10.jpg`; of two files of one name the order of their folders decides."""
    parts = re.split(r"([0-9]+)", PurePosixPath(path).name)
    return [int(part) if part.isascii() and part.isdigit() else part.casefold() for part in parts], path
