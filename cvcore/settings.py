"""Where things are on this machine: four environment variables, defaults beside the project."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: Path | None) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else default


def runs_folder() -> Path:
    """The folder of run directories: `CVCORE_RUNS`, default `runs/` beside the project."""
    folder = _folder("CVCORE_RUNS", PROJECT / "runs")
    assert folder is not None
    return folder


def cache_folder() -> Path:
    """The cache folder: `CVCORE_CACHE`, default `.cache/` beside the project.

    Drawn and unpacked datasets, decoded pictures and features can be made again; uploads and weights files are there
    too, and deleting those loses them.
    """
    folder = _folder("CVCORE_CACHE", PROJECT / ".cache")
    assert folder is not None
    return folder


def data_folder() -> Path | None:
    """The only folder whose datasets a browser may name: `CVCORE_DATA`, default none."""
    return _folder("CVCORE_DATA", None)


def weights_folder() -> Path | None:
    """The folder looked in first for pretrained weights: `CVCORE_WEIGHTS`, default none."""
    return _folder("CVCORE_WEIGHTS", None)
