"""The part of the cache that belongs to datasets, and one sentence for whatever keeps it from being written."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cvcore.errors import DatasetError
from cvcore.settings import cache_folder

_FORGOTTEN_SECONDS = 24 * 3600.0


def dataset_cache() -> Path:
    """The folder of unpacked archives, drawings, health and index, all of which can be made again; not made here."""
    return cache_folder() / "datasets"


def uploads_folder() -> Path:
    """The folder of zips that browsers sent, which cannot be made again; not made here."""
    return cache_folder() / "uploads"


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn an OSError into one sentence that names what could not be written and what to do.

    Args:
        what: the subject of the sentence, such as "The decoded pictures".
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(
            f"{what} could not be written to the cache folder ({reason}); "
            "free some space or point CVCORE_CACHE at another folder."
        ) from error


@contextlib.contextmanager
def new_folder(target: Path, prefix: str = ".making-") -> Iterator[Path]:
    """Fill a folder under a temporary name and rename it to `target` at the end.

    When another process has made `target` in the meantime, its folder stays and ours is thrown away.
    What a killed process left behind is removed after a day, inside the cache only: elsewhere folders are the user's.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.parent.is_relative_to(cache_folder()):
        for old in target.parent.glob(f"{prefix}*"):
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > _FORGOTTEN_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)  # noqa: PTH101  (mkdtemp makes it private to this user)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
