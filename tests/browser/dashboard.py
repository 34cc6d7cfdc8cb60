"""The dashboard as a real server, and a visit to it by a real browser."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from cvcore.settings import PROJECT
from tools.ports import free_port

# Streamlit's own search for its base path on a deep link; it finds it at the next attempt.
EXPECTED_404 = ("/_stcore/health", "/_stcore/host-config")
# What is said of a connection that took over 15 s, and is opened at the next attempt, and of what a page was still
# fetching when it was left. An answer that is no good, such as a 404, is no such thing.
BROKEN_OFF = re.compile(
    r"^WebSocket connection to|WebSocket onerror|DoInitPings|Failed to fetch(?! dynamically)"
    r"|net::ERR_(ABORTED|CONNECTION_\w+|EMPTY_RESPONSE|NETWORK_\w+|TIMED_OUT)"
)
HERE = re.compile(r"(https?|wss?)://(localhost|127\.0\.0\.1)[:/]")
PATIENCE = 300_000  # milliseconds
THERE = "document.querySelector('h1') && !document.querySelector('[data-testid=stSkeleton]')"


@dataclass
class Server:
    """A running dashboard."""

    url: str
    process: subprocess.Popen
    log: Path

    def memory_mb(self) -> float:
        """Return the resident memory of the server process, MB (10^6 bytes)."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6


@contextmanager
def serving(folder: Path, runs: Path, cache: Path, port: int | None = None, *flags: str) -> Iterator[Server]:
    """Start `streamlit run app.py` as `make run` does, wait until it answers, stop it at the end."""
    port = port or free_port()
    environment = {**os.environ, "CVCORE_RUNS": str(runs), "CVCORE_CACHE": str(cache)}
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), *flags]
    command += ["--server.websocketPingInterval", "600"]  # seconds: a machine that stalls hangs nobody up
    log = folder / f"server-{port}-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=output)
    server = Server(f"http://localhost:{port}", process, log)
    try:
        wait_until_healthy(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(true: Callable[[], object], seconds: float = 300) -> None:
    """Ask every tenth of a second until the answer is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_until_healthy(server: Server, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log.read_text()
        with suppress(OSError), urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"the server did not answer in {seconds} s: {server.log.read_text()}")


@dataclass
class Visit:
    """A page open in a browser.

    Attributes:
        said: what its console said.
        draws: 1 from when it asks for a run of its script until one has ended, else 0.
        whole: whether it asked for all of the page, not for a part of it: then the end of a part is not waited for.
    """

    page: Page
    said: list[str]
    draws: int = 0
    whole: bool = True

    def settle(self) -> None:
        """Wait until the script has run and what it drew is there; parts that are drawn every second may go on."""
        self.page.wait_for_selector("h1")
        until = time.monotonic() + PATIENCE / 1000
        while self.draws:
            assert time.monotonic() < until, "the server has not answered"
            self.page.wait_for_timeout(50)
        self.page.wait_for_function(THERE)
        self.page.wait_for_timeout(300)  # until what has come is drawn

    def sent(self, message: str | bytes) -> None:
        """Note that the page asks for a draw."""
        asked = BackMsg.FromString(message) if isinstance(message, bytes) else BackMsg()
        if asked.WhichOneof("type") == "rerun_script" and not asked.rerun_script.is_auto_rerun:
            self.whole = not asked.rerun_script.fragment_id or bool(self.draws and self.whole)
            self.draws = 1

    def received(self, message: str | bytes) -> None:
        """Note that a draw has ended, and not for another one."""
        told = ForwardMsg.FromString(message) if isinstance(message, bytes) else ForwardMsg()
        if told.WhichOneof("type") == "script_finished":
            part = told.script_finished == ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY
            early = told.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN
            self.draws *= early or (part and self.whole)

    def check(self) -> None:
        """Hold the page to what every page owes: no traceback, no error box, a quiet console."""
        self.page.wait_for_selector("[data-testid=stApp][data-test-connection-state=CONNECTED]")
        text = self.page.locator("body").inner_text()
        assert "Traceback" not in text
        assert self.page.get_by_test_id("stException").count() == 0, text
        assert self.page.get_by_test_id("stAlertContentError").count() == 0, text
        assert self.said == []


def expected(said: str, url: str) -> bool:
    """Say whether an error in the console is none of ours: a connection to this computer that broke off."""
    if HERE.match(url) is None and "net::" in said:  # nothing is fetched from elsewhere
        return False
    return url.endswith(EXPECTED_404) or BROKEN_OFF.search(said) is not None


def visiting(browser: Browser, width: int = 1280, height: int = 1000) -> Visit:
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(PATIENCE)
    visit = Visit(page, [])

    def listen(message) -> None:
        if message.type == "error" and not expected(message.text, message.location.get("url", "")):
            visit.said.append(f"{message.text} ({message.location.get('url')})")

    def connect(socket) -> None:
        visit.draws, visit.whole = 1, True
        socket.on("framesent", visit.sent)
        socket.on("framereceived", visit.received)

    page.on("websocket", connect)
    page.on("console", listen)
    page.on("pageerror", lambda error: visit.said.append(str(error)))
    return visit
