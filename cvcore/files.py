"""Files replaced whole: written to a temporary name beside the target, then renamed over it."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def replace_file(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Replace a file whole; a reader sees the old or the new content, never half of one.

    Args:
        path: the file to replace; its folder must exist.
        write: called once with a binary stream opened for writing and reading.

    Raises:
        OSError: the disk is full or the folder is not writable; the old file is then untouched.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101  (mkstemp makes it private to this user)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Replace a text file whole, in UTF-8."""
    replace_file(path, lambda stream: _write_all(stream, text.encode()))


def replace_json(path: Path, document: Any) -> None:
    """Replace a JSON file whole, indented by two spaces, keys in the order given."""
    replace_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_all(stream: IO[bytes], data: bytes) -> None:
    stream.write(data)
