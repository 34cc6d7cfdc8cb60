"""What is stored in the cache and can be computed again: a list for people, and what is cleared of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvcore.cache_room import File, about, activations_folder, files, lock_file, pixels_folder, remove
from cvcore.errors import CvcoreError
from cvcore.locks import locked


@dataclass(frozen=True)
class Entry:
    """One stored array.

    Attributes:
        kind: "activations" or "pictures".
        path: its file.
        title: of the dataset, as its file says; others wrote it, so it is shown escaped.
        words: what it is, in a few words, to be shown escaped too.
        bytes: what it takes, or will take once it is whole.
        created: when it was made, in seconds since 1970; of an unfinished one, when it was last written.
        used: when it was last used, in seconds since 1970.
        in_use: a process has it mapped, or fills it.
        whole: False for one that is being filled, or whose filling was interrupted and would go on.
    """

    kind: str
    path: Path
    title: str
    words: str
    bytes: int
    created: float
    used: float
    in_use: bool
    whole: bool = True


def entries() -> list[Entry]:
    """List what is stored, the last used first."""
    found = [_entry(file) for file in files() if file.path.suffix != ".tmp"]
    return sorted(found, key=lambda entry: (-entry.used, entry.path.name))


def clear(chosen: Iterable[Entry]) -> int:
    """Remove entries; what a process fills stays, and who has one mapped can go on using it.

    Returns:
        The bytes they took.

    Raises:
        OSError: the cache folder cannot be written.
    """
    wanted = {entry.path for entry in chosen}
    if not wanted:
        return 0
    with locked(lock_file()):
        return sum(file.written for file in files() if file.path in wanted and remove(file))


def clear_dataset(fingerprint: str) -> None:
    """Remove all that is stored of a dataset's pictures; what cannot be removed stays until room is needed."""
    of_it = [
        entry
        for entry in entries()
        if about(entry.path).get("fingerprint") == fingerprint or entry.path.parent.name == fingerprint[:24]
    ]
    with contextlib.suppress(OSError, CvcoreError):
        clear(of_it)
    with contextlib.suppress(OSError):
        (pixels_folder() / fingerprint[:24]).rmdir()


def _entry(file: File) -> Entry:
    said = about(file.path)
    kind = "activations" if file.path.parent == activations_folder() else "pictures"
    whole = file.path.suffix == ".npy"
    words = _activation_words(said) if kind == "activations" else _picture_words(file.path, said)
    if not whole:
        state = "being computed" if file.in_use else "unfinished"
        words = f"{words}, {state}" if words else state
    created = file.used
    with contextlib.suppress(OSError):
        created = file.path.stat().st_mtime
    return Entry(kind, file.path, _word(said.get("title")) or "unknown pictures", words or "no description",
                 file.bytes, created, file.used, file.in_use, whole)  # fmt: skip


def _activation_words(said: dict[str, Any]) -> str:
    view, side = said.get("view"), said.get("image_size")
    layer = _word(said.get("layer"))
    parts = [
        f"{_word(said.get('split'))} split" if _word(said.get("split")) else "",
        _word(said.get("base")) + (f" up to {layer}" if layer else ""),
        f"augmented view {view + 1}" if type(view) is int else "",
        f"{side} pixels" if type(side) is int else "",
        _word(said.get("dtype")),
    ]
    return ", ".join(filter(None, parts))


def _picture_words(path: Path, said: dict[str, Any]) -> str:
    split, side = _word(said.get("split")), said.get("image_size")
    if not split or type(side) is not int:
        return path.stem
    parts = [f"{split} split", f"{side} pixels", _word(said.get("interpolation"))]
    parts += ["antialiased"] if said.get("antialias") is True else []
    parts += ["grey"] if said.get("color_mode") == "grayscale" else []
    return ", ".join(filter(None, parts))


def _word(value: object) -> str:
    return " ".join(value.split())[:120] if isinstance(value, str) else ""
