"""The health of picture files: size, hash, what is wrong or unusual; remembered by (path, size, mtime)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from cvcore.datasets.cache import dataset_cache, writing
from cvcore.datasets.pictures import (
    UnusablePicture,
    broken_reason,
    decode,
    has_alpha,
    one_large_at_a_time,
    open_header,
    orientation,
    read_bytes,
)
from cvcore.datasets.threads import in_order
from cvcore.files import replace_text

VERSION = 2  # raise it when the rules below or in pictures.py change
SAVE_EVERY = 5_000
Progress = Callable[[int, int], None]


class Health(NamedTuple):
    """What one file is.

    Attributes:
        sha256: of the file's bytes, or of the decoded pixels for drawings; "" when it could not be read.
        width, height: in pixels, upright; 0 when unusable.
        problem: why it cannot be used, or "".
        remarks: kinds of unusual treatment, space separated: animated alpha cmyk deep palette rotated.
        bytes: size of the file.
    """

    sha256: str
    width: int
    height: int
    problem: str
    remarks: str
    bytes: int


def check_bytes(data: bytes, of_pixels: bool = False) -> Health:
    """Check one picture by decoding it.

    A JPEG is decoded at an eighth of its size in grey: all of its entropy-coded data is read, so a truncated file
    is found just as by a whole decode, in half the time.

    Args:
        data: the file's bytes.
        of_pixels: hash the decoded pixels, not the bytes; for drawings, whose PNG bytes depend on the zlib at hand.
    """
    digest = "" if of_pixels else hashlib.sha256(data).hexdigest()
    try:
        image = open_header(data)
        width, height = image.size
        with one_large_at_a_time(width, height):
            remarks = _remarks(image)
            if "rotated" in remarks and orientation(image) >= 5:
                width, height = height, width
            if image.format in ("JPEG", "MPO") and not of_pixels:
                image.draft("L" if image.mode == "RGB" else None, (max(1, image.width // 8), max(1, image.height // 8)))
                try:
                    image.load()
                except Exception as error:
                    raise UnusablePicture(broken_reason(error)) from error
            else:
                image = decode(image)
                if of_pixels:
                    digest = pixels_sha256(image)
            del image  # before the next large one is let in
    except UnusablePicture as error:
        return Health(digest, 0, 0, str(error), "", len(data))
    return Health(digest, width, height, "", " ".join(remarks), len(data))


def pixels_sha256(image: Image.Image) -> str:
    """The hash of a picture's size and decoded RGB pixels."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def check_files(
    root: Path, paths: Sequence[str], of_pixels: bool = False, progress: Progress | None = None
) -> list[Health]:
    """Check files below a folder, decoding only those that are new or have changed since the last check.

    Args:
        root: the folder.
        paths: relative POSIX paths.
        of_pixels: as for `check_bytes`.
        progress: called with (files done, files in all).
    """
    memory = _Memory(root, of_pixels)
    found: dict[str, Health] = {}
    todo: list[tuple[str, int, int]] = []
    for path in paths:
        try:
            status = (root / path).stat()
        except OSError as error:
            found[path] = Health("", 0, 0, f"cannot be read ({error.strerror or error})", "", 0)
            continue
        known = memory.get(path, status.st_size, status.st_mtime_ns)
        if known is None:
            todo.append((path, status.st_size, status.st_mtime_ns))
        else:
            found[path] = known

    def check(entry: tuple[str, int, int]) -> Health:
        try:
            return check_bytes(read_bytes(root / entry[0]), of_pixels)
        except UnusablePicture as error:
            return Health("", 0, 0, str(error), "", entry[1])

    try:
        for number, (entry, health) in enumerate(zip(todo, in_order(check, todo), strict=True), start=1):
            found[entry[0]] = health
            if health.bytes == entry[1]:
                memory.put(entry[0], entry[2], health)
            if progress is not None:
                progress(len(paths) - len(todo) + number, len(paths))
            if number % SAVE_EVERY == 0:
                memory.save()
    finally:
        memory.save()
    return [found[path] for path in paths]


def _remarks(image: Image.Image) -> list[str]:
    remarks = []
    if image.format != "MPO" and getattr(image, "is_animated", False):
        remarks.append("animated")
    if has_alpha(image):
        remarks.append("alpha")
    if image.mode == "CMYK":
        remarks.append("cmyk")
    if image.mode.startswith("I;16"):
        remarks.append("deep")
    if image.mode in ("P", "PA"):
        remarks.append("palette")
    if orientation(image) != 1:
        remarks.append("rotated")
    return remarks


class _Memory:
    """Health by path, size and modification time of one folder, in one JSON file of the cache."""

    def __init__(self, root: Path, of_pixels: bool) -> None:
        name = hashlib.sha256(f"{VERSION}:{of_pixels}:{root.resolve()}".encode()).hexdigest()[:24]
        self.file = dataset_cache() / "health" / f"{name}.json"
        self.entries: dict[str, list] = {}
        self.changed = False
        with contextlib.suppress(OSError, ValueError):
            document = json.loads(self.file.read_text())
            if isinstance(document, dict):
                self.entries = document

    def get(self, path: str, size: int, mtime_ns: int) -> Health | None:
        entry = self.entries.get(path)
        if not isinstance(entry, list) or len(entry) != 7 or entry[0] != mtime_ns or entry[6] != size:
            return None
        return Health(*entry[1:])

    def put(self, path: str, mtime_ns: int, health: Health) -> None:
        self.entries[path] = [mtime_ns, *health]
        self.changed = True

    def save(self) -> None:
        if not self.changed:
            return
        with writing("The health of the pictures"):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            replace_text(self.file, json.dumps(self.entries, separators=(",", ":")))
        self.changed = False
