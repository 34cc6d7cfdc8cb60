"""Browsers of a class without windows: sessions that speak Streamlit's own protocol to a dashboard on this computer."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 60.0  # seconds for one draw


@dataclass
class Draw:
    """One run of a page's script, as a browser saw it.

    Attributes:
        seconds: from the request to the end of the script.
        received: bytes.
        faults: what went wrong, in words.
        asks: fragment id -> seconds after which the page wants this part of it drawn again, and again.
    """

    seconds: float = 0.0
    received: int = 0
    faults: list[str] = field(default_factory=list)
    asks: dict[str, float] = field(default_factory=dict)


class Browser:
    """One session."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def draw(self, page: str, query: str = "", fragment: str = "") -> Draw:
        """Ask for a page, or for one part of it that draws itself again, and wait until its script has run."""
        request = BackMsg()
        request.rerun_script.page_name = page
        request.rerun_script.query_string = query
        if fragment:
            request.rerun_script.fragment_id = fragment
            request.rerun_script.is_auto_rerun = True
        seen, began = Draw(), time.perf_counter()
        await self.connection.send(request.SerializeToString())
        while True:
            message = await asyncio.wait_for(self.connection.recv(decode=False), PATIENCE)
            seen.received += len(message)
            if _last(message, seen):
                seen.seconds = time.perf_counter() - began
                return seen


def _last(message: bytes, seen: Draw) -> bool:
    """Note what a message says, and say whether it is a draw's last."""
    told = ForwardMsg()
    told.ParseFromString(message)
    kind = told.WhichOneof("type")
    element = told.delta.new_element if kind == "delta" else None
    if element and element.WhichOneof("type") == "exception":
        seen.faults.append(element.exception.message[:120])
    elif element and element.WhichOneof("type") == "alert" and element.alert.format == Alert.ERROR:
        seen.faults.append(element.alert.body[:120])
    elif kind == "page_not_found":
        seen.faults.append("no such page")
    elif kind == "auto_rerun":
        seen.asks[told.auto_rerun.fragment_id] = told.auto_rerun.interval
    elif kind == "script_finished":
        if told.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
            seen.faults.append("the page's script does not compile")
        return told.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
    return False


@asynccontextmanager
async def browser(url: str) -> AsyncIterator[Browser]:
    """Open a session; it ends as a closed window does.

    Args:
        url: such as http://localhost:8501.
    """
    host = urlsplit(url).netloc
    async with connect(
        f"ws://{host}/_stcore/stream", subprotocols=["streamlit"], origin=f"http://{host}",  # type: ignore[arg-type, list-item]
        max_size=None, open_timeout=PATIENCE, ping_interval=None, compression=None,
    ) as connection:  # fmt: skip
        yield Browser(connection)


@dataclass
class Seen:
    """What all browsers of a class saw."""

    first: list[Draw] = field(default_factory=list)
    later: list[Draw] = field(default_factory=list)
    parts: list[Draw] = field(default_factory=list)  # of pages that draw a part of themselves again
    faults: list[str] = field(default_factory=list)

    @property
    def all_faults(self) -> list[str]:
        """Everything that went wrong."""
        return self.faults + [fault for draw in self.first + self.later + self.parts for fault in draw.faults]


@asynccontextmanager
async def _noting_faults(seen: Seen) -> AsyncIterator[None]:
    """A browser that is refused or waits too long is a figure, no end of the measurement."""
    try:
        yield
    except (OSError, TimeoutError, ConnectionClosed) as error:
        seen.faults.append(f"{type(error).__name__}: {error}"[:120])


async def student(
    url: str, page: str, queries: Iterator[str], until: float, seen: Seen, ramp: float, think: float
) -> None:
    """Open a page at a random moment of `ramp` seconds, then draw it again after `think` seconds each on average.

    Args:
        url: the dashboard's.
        page: its path, such as "compare".
        queries: what follows the page's path, for each draw.
        until: when the visit ends (time.monotonic).
        seen: takes what was seen.
        ramp, think: seconds.
    """
    await asyncio.sleep(random.random() * ramp)
    async with _noting_faults(seen), browser(url) as window:
        seen.first.append(await window.draw(page, next(queries)))
        while (pause := random.expovariate(1 / think)) < until - time.monotonic():
            await asyncio.sleep(pause)
            seen.later.append(await window.draw(page, next(queries)))


async def watcher(url: str, page: str, query: str, until: float, seen: Seen, ramp: float) -> None:
    """Open a page and draw again what it asks for, as often as it asks: a browser before a run that trains."""
    await asyncio.sleep(random.random() * ramp)
    async with _noting_faults(seen), browser(url) as window:
        whole = await window.draw(page, query)
        seen.first.append(whole)
        due = {part: time.monotonic() + seconds for part, seconds in whole.asks.items()}
        while due:
            part = min(due, key=lambda one: due[one])
            await asyncio.sleep(max(0.0, due[part] - time.monotonic()))
            seen.parts.append(await window.draw(page, query, part))
            due[part] = time.monotonic() + whole.asks[part]
            if time.monotonic() > until:
                break


def percentile(draws: Sequence[Draw], share: float) -> float:
    """Give the seconds within which this share of the draws was done; 0.0 for none."""
    ordered = sorted(draw.seconds for draw in draws)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
