"""What the server's process does beside answering browsers: settings from its secrets, a look at the queue."""

import json
import logging
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import streamlit as st

from cvcore import backends
from warm_up import warm_up

LOOK_AFTER_EVERY = 2.0  # seconds
CLUSTER = {
    "address": "CVCORE_RAY_ADDRESS", "store": "CVCORE_STORE", "store_options": "CVCORE_STORE_OPTIONS",
    "gpus": "CVCORE_RAY_GPUS", "cpus": "CVCORE_RAY_CPUS", "token": "RAY_AUTH_TOKEN",
}  # fmt: skip

log = logging.getLogger("fourways")


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Take the settings over, and run one thread that looks after the queue as long as the server lives."""
    send_at_once()
    if st.secrets.load_if_toml_exists():
        secrets_to_environment(st.secrets.to_dict())
    warm_up()
    ended = threading.Event()
    threading.Thread(target=look_after, args=(ended,), name="look-after", daemon=True).start()
    try:
        yield {}
    finally:
        ended.set()


def send_at_once() -> int:
    """Have the sockets that this process listens on send small packets at once (TCP_NODELAY).

    Streamlit opens its socket in a way for which asyncio leaves Nagle's algorithm on. Each small file then waits 40 ms
    for the browser's acknowledgement of its headers, the files of a first visit together for half a second. Connections
    take the option over from the socket that they came in by.

    Returns:
        How many sockets there were; 0 where the system does not list what is open.
    """
    found, paths = 0, []
    with suppress(OSError):  # an optimisation keeps no server from starting
        paths = list(Path("/dev/fd").iterdir())
    for path in paths:
        with suppress(OSError):  # one may have been closed meanwhile
            found += stat.S_ISSOCK(os.fstat(int(path.name)).st_mode) and _send_at_once(int(path.name))
    return found


def _send_at_once(number: int) -> bool:
    with socket.socket(fileno=os.dup(number)) as one:
        tcp = one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM
        listens = tcp and bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if listens:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listens


def look_after(ended: threading.Event, every: float = LOOK_AFTER_EVERY) -> None:
    """Start a worker whenever runs wait and none lives, until the server ends; what fails is logged once.

    Args:
        ended: set when the server ends.
        every: seconds between two looks, default 2.
    """
    said = None
    while not ended.wait(every):
        try:
            problem = backends.look_after()
            if problem and problem != said:
                log.warning(problem)
            said = problem
        except Exception as error:  # the pages go on, and the next look may succeed
            if repr(error) != said:
                said = repr(error)
                log.exception("the queue could not be looked after; it is tried again every %g s", every)


def secrets_to_environment(secrets: Mapping[str, Any]) -> None:
    """Hand settings among the server's secrets to `cvcore` and to the training processes, which read the environment.

    Args:
        secrets: `CVCORE_…` entries are taken over as they are, and so is what a `[cluster]` table holds (`CLUSTER` says
            under which names, docs/cluster.md what for). What the environment says already stays.
    """
    settings = {name: value for name, value in secrets.items() if name.startswith("CVCORE_")}
    cluster = secrets.get("cluster")
    if isinstance(cluster, Mapping):
        settings |= {variable: cluster[name] for name, variable in CLUSTER.items() if name in cluster}
        if "token" in cluster:
            settings["RAY_AUTH_MODE"] = "token"
    for variable, value in settings.items():
        os.environ.setdefault(variable, json.dumps(dict(value)) if isinstance(value, Mapping) else str(value))
