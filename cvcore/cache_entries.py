"""What is stored in the cache and can be computed again: a list for people, and what is cleared of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cvcore.cache_room import File, about, files, lock_file, pixels_folder, remove
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
        said: what its file says of it; others wrote it.
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
    said: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its file's place in the store, which no two have alike."""
        return self.path.relative_to(self.path.parents[1]).as_posix()

    @property
    def key(self) -> str:
        """Hexadecimal digits that tell it from others: activations are named by them."""
        return self.path.stem if self.kind == "activations" else hashlib.sha256(self.name.encode()).hexdigest()[:32]


def entries() -> list[Entry]:
    """List what is stored, the last used first."""
    found = [_entry(file) for file in files() if file.path.suffix != ".tmp"]
    return sorted(found, key=lambda entry: (-entry.used, entry.path.name))


def short_keys(found: Iterable[Entry]) -> dict[str, str]:
    """Return the first digits of each entry's key by its name, as many as tell the keys apart, at least 6."""
    keys = {entry.name: entry.key for entry in found}
    whole = set(keys.values())
    digits = next(number for number in range(6, 33) if len({key[:number] for key in whole}) == len(whole))
    return {name: key[:digits] for name, key in keys.items()}


def clear(chosen: Iterable[Entry]) -> int:
    """Remove entries, but none that a process fills or has mapped.

    Returns:
        The bytes they took.

    Raises:
        CvcoreError: the cache folder cannot be written.
    """
    wanted = {entry.path for entry in chosen}
    if not wanted:
        return 0
    try:
        with locked(lock_file()):
            return sum(file.written for file in files() if file.path in wanted and remove(file))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CvcoreError(f"What is stored could not be removed ({reason}); give access to the cache folder") from error


def clear_dataset(fingerprint: str) -> None:
    """Remove all that is stored of a dataset's pictures; what cannot be removed stays until room is needed."""
    of_it = [
        entry
        for entry in entries()
        if about(entry.path).get("fingerprint") == fingerprint or entry.path.parent.name == fingerprint[:24]
    ]
    with contextlib.suppress(CvcoreError):
        clear(of_it)
    with contextlib.suppress(OSError):
        (pixels_folder() / fingerprint[:24]).rmdir()


def _entry(file: File) -> Entry:
    said = about(file.path)
    kind, whole = file.kind, file.path.suffix == ".npy"
    words = _activation_words(said) if kind == "activations" else _picture_words(file.path, said)
    if not whole:
        state = "being computed" if file.in_use else "unfinished"
        words = f"{words}, {state}" if words else state
    return Entry(kind, file.path, _word(said.get("title")) or "unknown pictures", words or "no description",
                 file.bytes, file.changed, file.used, file.in_use, whole, said)  # fmt: skip


def _activation_words(said: dict[str, Any]) -> str:
    shape, view, layer = said.get("shape"), said.get("view"), _word(said.get("layer"))
    parts = [
        _word(said.get("base")) + _alpha(said.get("alpha")) + (f" up to {layer}" if layer else ""),
        _pictures(said.get("split"), shape[0] if isinstance(shape, list) and shape else None),
        f"augmented view {view + 1}{_policy(said.get('augmentation'))}" if type(view) is int else "",
        _pixels(said),
        _word(said.get("dtype")),
    ]
    return ", ".join(filter(None, parts))


def _alpha(value: object) -> str:
    return f" alpha {value:g}" if isinstance(value, float) and 0 < value < 1e3 and value != 1 else ""


def _policy(value: object) -> str:
    """Name a policy of augmentation by a few digits: in words it would be a line by itself."""
    if not isinstance(value, dict):
        return ""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    return f" of policy {digest[:6]}"


def _picture_words(path: Path, said: dict[str, Any]) -> str:
    pictures = _pictures(said.get("split"), said.get("pictures"))
    if not pictures:
        return path.stem
    parts = [pictures, _pixels(said), _word(said.get("interpolation"))]
    parts += ["antialiased"] if said.get("antialias") is True else []
    parts += ["grey"] if said.get("color_mode") == "grayscale" else []
    return ", ".join(filter(None, parts))


def _pictures(split: object, count: object) -> str:
    number = f"{_count(count):,} " if _count(count) else ""
    return f"{number}{_word(split)} pictures" if _word(split) else ""


def _pixels(said: dict[str, Any]) -> str:
    return f"{side} pixels" if (side := _count(said.get("image_size"))) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value < 10**9 else None


def _word(value: object) -> str:
    return " ".join(value.split())[:120] if isinstance(value, str) else ""
