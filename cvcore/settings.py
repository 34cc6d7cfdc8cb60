"""Where things are and who trains: environment variables, defaults beside the project and on this machine."""

import json
import math
import os
from pathlib import Path
from typing import Any

from cvcore.errors import CvcoreError

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

    Drawn and unpacked datasets, decoded pictures and activations can be made again; uploads and weights files are there
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


def ray_address() -> str | None:
    """The address of a Ray cluster's dashboard, such as http://head:8265: `CVCORE_RAY_ADDRESS`, default none.

    None trains on this machine.
    """
    return os.environ.get("CVCORE_RAY_ADDRESS") or None


def store_url() -> str | None:
    """The fsspec URL through which runs reach a cluster that shares no folder: `CVCORE_STORE`, default none."""
    return os.environ.get("CVCORE_STORE") or None


def ray_cpus() -> float | None:
    """CPUs of a Ray cluster that a run takes: `CVCORE_RAY_CPUS`, default none, which leaves it to the cluster's size.

    Raises:
        CvcoreError: it is not a number from 0.
    """
    return _number("CVCORE_RAY_CPUS", 0, least=0) if os.environ.get("CVCORE_RAY_CPUS") else None


def ray_gpus() -> float | None:
    """GPUs of a Ray cluster that a run takes, such as 0.5: `CVCORE_RAY_GPUS`, default none: 1 where there are GPUs.

    Raises:
        CvcoreError: it is not a number from 0.
    """
    return _number("CVCORE_RAY_GPUS", 0, least=0) if os.environ.get("CVCORE_RAY_GPUS") else None


def store_options() -> dict[str, Any]:
    """The fsspec storage options of the store, credentials among them: `CVCORE_STORE_OPTIONS`, a JSON object.

    Or @ and the path of a file with such an object, which keeps it out of lists of processes and of logs.

    Raises:
        CvcoreError: it is not a JSON object; the sentence does not repeat it.
    """
    given = os.environ.get("CVCORE_STORE_OPTIONS") or "{}"
    try:
        options = json.loads(Path(given[1:]).read_text() if given.startswith("@") else given)
    except (OSError, ValueError):
        options = None
    if not isinstance(options, dict):
        raise CvcoreError('CVCORE_STORE_OPTIONS must be a JSON object, such as {"key": "…", "secret": "…"}, or @ and '
                          "the path of a file with one")  # fmt: skip
    return options


def waiting_limit() -> int:
    """How many launches of one owner may wait at a time: `CVCORE_WAITING_LIMIT`, default 3.

    Raises:
        CvcoreError: it is not a whole number from 1.
    """
    return int(_number("CVCORE_WAITING_LIMIT", 3, least=1))


def worker_idle() -> float:
    """Seconds after which a worker with nothing to do ends: `CVCORE_WORKER_IDLE`, default 20.

    Raises:
        CvcoreError: it is not a number from 0.
    """
    return _number("CVCORE_WORKER_IDLE", 20.0, least=0)


def training_niceness() -> int:
    """How much lower the priority of training is than that of the pages: `CVCORE_NICENESS`, default 10.

    0 gives it as much of a busy processor as the pages get, 10 a tenth of that, 19 (the most) a sixtieth.

    Raises:
        CvcoreError: it is not a whole number from 0.
    """
    return min(19, int(_number("CVCORE_NICENESS", 10, least=0)))


def cache_limit(room: float = math.inf) -> int:
    """Bytes that stored activations and decoded pictures may take together: `CVCORE_CACHE_LIMIT`, in GB (10^9 bytes).

    Args:
        room: bytes that the disk would have free without them. The default is 10 GB and at most half of that;
            `activations.limit` knows it.

    Raises:
        CvcoreError: it is not a number from 0.
    """
    default = min(10.0, room / 2e9)
    return int(_number("CVCORE_CACHE_LIMIT", default, least=0) * 1e9)


def _number(variable: str, default: float, least: float) -> float:
    word = os.environ.get(variable)
    try:
        value = float(word) if word else default
    except ValueError:
        value = float("nan")
    if not least <= value < 10**9:
        raise CvcoreError(f"{variable} must be a number from {least:g}; received {word!r}")
    return value
