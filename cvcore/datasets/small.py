"""The sources' subsets: the textbook's, cut from the competition's pictures by index, and a tiny one of any source."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cvcore.datasets.cache import new_folder
from cvcore.datasets.pictures import MAX_PICTURE_BYTES
from cvcore.datasets.small_by_order import COMPETITION, OrderedLayout, chosen
from cvcore.errors import DatasetError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SmallLayout:
    """One of the textbook's subsets.

    Attributes:
        ranges: split -> (first index, last index + 1), for each class.
        folders: "cat" and "dog" -> folder name.
    """

    ranges: dict[str, tuple[int, int]]
    folders: dict[str, str]


LAYOUTS: dict[str, SmallLayout | OrderedLayout] = {
    # 2nd edition: 2,000 test pictures
    "cats_vs_dogs_small": SmallLayout(
        {"train": (0, 1000), "validation": (1000, 1500), "test": (1500, 2500)}, {"cat": "cat", "dog": "dog"}
    ),
    # 1st edition: 1,000 test pictures
    "cats_and_dogs_small": SmallLayout(
        {"train": (0, 1000), "validation": (1000, 1500), "test": (1500, 2000)}, {"cat": "cats", "dog": "dogs"}
    ),
    # the transfer-learning note; how its pictures divide into classes it does not say
    "dogs_vs_cats_tiny": OrderedLayout({"train": 202, "valid": 103, "test": 451}),
}


def make_small(
    source: str | Path, destination: str | Path, layout: str, progress: Progress | None = None
) -> dict[str, dict[str, int]]:
    """Copy a source's subset out of more pictures.

    The textbook's two take the competition's pictures of fixed numbers. `dogs_vs_cats_tiny` has 202, 103 and 451
    pictures in `train`, `valid` and `test`; its source does not publish which, nor how many of each class. Here each
    class gives half, the first by name one more of an odd number: 101 + 101, 52 + 51, 226 + 225; in the natural order
    of their names (2 before 10), first train, then validation, then test, no picture twice.

    Args:
        source: the folder that holds `cat.0.jpg` … `dog.12499.jpg` (or holds a `train` folder that does), or the zip;
            for `dogs_vs_cats_tiny` also any folder or zip with two class folders, in split folders or not.
        destination: the folder to make; it must not exist.
        layout: a key of `LAYOUTS`.
        progress: called with (pictures copied, pictures in all).

    Returns:
        Pictures by split folder and class folder.

    Raises:
        DatasetError: unknown layout, existing destination, missing pictures, a damaged zip, or no room.

    Source: Chollet, Deep Learning with Python, 2nd edition, section 8.2; 1st edition, section 5.2; for the tiny one
    a course note on transfer learning.
    """
    if layout not in LAYOUTS:
        raise DatasetError(f"Unknown layout {layout!r}; known: {', '.join(LAYOUTS)}.")
    plan = LAYOUTS[layout]
    source, destination = Path(source).expanduser(), Path(destination).expanduser()
    if destination.exists() or destination.is_symlink():
        raise DatasetError(f"The destination {str(destination)!r} exists already; name a new folder.")
    with _Source.open(source) as pictures:
        files: Iterator[tuple[PurePosixPath, bytes]]
        if isinstance(plan, OrderedLayout):
            total, files = sum(plan.splits.values()), chosen(plan, layout, source)
        else:
            jobs = _jobs(plan, layout, pictures.names, source.name)
            total, files = len(jobs), ((path, pictures.read(pictures.names[kind, n])) for kind, n, path in jobs)
        counts: dict[str, dict[str, int]] = {}
        try:
            with new_folder(destination.absolute(), prefix=".make-small-") as folder:
                for done, (target, data) in enumerate(files, start=1):
                    (folder / target).parent.mkdir(parents=True, exist_ok=True)
                    (folder / target).write_bytes(data)
                    of_split = counts.setdefault(target.parts[0], {})
                    of_split[target.parts[1]] = of_split.get(target.parts[1], 0) + 1
                    if progress is not None:
                        progress(done, total)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise DatasetError(f"{source.name} is damaged ({error}); fetch it again.") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DatasetError(
                f"{str(destination)!r} could not be written ({reason}); nothing was left there."
            ) from error
    return counts


def _jobs(
    plan: SmallLayout, layout: str, names: dict[tuple[str, int], str], source: str
) -> list[tuple[str, int, PurePosixPath]]:
    jobs = [
        (kind, index, PurePosixPath(split, folder, f"{kind}.{index}.jpg"))
        for split, (start, stop) in plan.ranges.items()
        for kind, folder in plan.folders.items()
        for index in range(start, stop)
    ]
    missing = [f"{kind}.{index}.jpg" for kind, index, _ in jobs if (kind, index) not in names]
    if missing:
        last = max(stop for _, stop in plan.ranges.values()) - 1
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DatasetError(
            f"{layout} needs cat.0.jpg to cat.{last}.jpg and dog.0.jpg to dog.{last}.jpg; "
            f"{source} lacks {missing[0]}{more}."
        )
    return jobs


class _Source:
    """Where the pictures come from: a folder or a zip; `names` leads from (kind, index) to a name in it."""

    def __init__(self, names: dict[tuple[str, int], str], zipped: zipfile.ZipFile | None) -> None:
        self.names = names
        self._zipped = zipped

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._zipped is not None:
            self._zipped.close()

    @classmethod
    def open(cls, source: Path) -> _Source:
        if source.is_dir():
            inner = source / "train" if (source / "train").is_dir() else source
            return cls(_indexed([str(path) for path in inner.iterdir() if path.is_file()]), None)
        if not source.exists():
            raise DatasetError(
                f"No folder or zip named {str(source)!r}; give the competition's train folder or train.zip."
            )
        try:
            zipped = zipfile.ZipFile(source)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise DatasetError(f"{source.name} is neither a folder nor a readable zip ({error}).") from error
        sound = [info.filename for info in zipped.infolist() if 0 < info.file_size <= MAX_PICTURE_BYTES]
        return cls(_indexed(sound), zipped)

    def read(self, name: str) -> bytes:
        return Path(name).read_bytes() if self._zipped is None else self._zipped.read(name)


def _indexed(names: list[str]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for name in names:
        match = COMPETITION.fullmatch(PurePosixPath(name).name)
        if match:
            found.setdefault((match[1].lower(), int(match[2])), name)
    return found
