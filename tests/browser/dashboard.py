"""The dashboard as a real server, and a visit to it by a real browser."""

import os
import socket
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

from cvcore.settings import PROJECT

# Streamlit's own search for its base path on a deep link; it finds it at the next attempt.
EXPECTED_404 = ("/_stcore/health", "/_stcore/host-config")


@dataclass
class Server:
    """A running dashboard."""

    url: str
    process: subprocess.Popen
    log: Path

    def memory_mb(self) -> float:
        """Return the resident memory of the server process, MB (10^6 bytes)."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(folder: Path, runs: Path, cache: Path, port: int | None = None, *flags: str) -> Iterator[Server]:
    """Start `streamlit run app.py` as `make run` does, wait until it answers, stop it at the end."""
    port = port or free_port()
    environment = {**os.environ, "CVCORE_RUNS": str(runs), "CVCORE_CACHE": str(cache)}
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), *flags]
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
    """A page open in a browser, with what its console said."""

    page: Page
    said: list[str]

    def settle(self) -> None:
        """Wait until the script has run and nothing is being drawn."""
        self.page.wait_for_selector("h1", timeout=300_000)
        self.page.wait_for_selector("[data-testid=stStatusWidget]", state="detached", timeout=300_000)
        self.page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')", timeout=300_000)
        self.page.wait_for_timeout(300)

    def check(self) -> None:
        """Hold the page to what every page owes: no traceback, no error box, a quiet console."""
        text = self.page.locator("body").inner_text()
        assert "Traceback" not in text
        assert self.page.get_by_test_id("stException").count() == 0, text
        assert self.page.get_by_test_id("stAlertContentError").count() == 0, text
        assert self.said == []


def visiting(browser: Browser, width: int = 1280, height: int = 1000) -> Visit:
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(300_000)  # milliseconds
    visit = Visit(page, [])

    def listen(message) -> None:
        expected = message.location.get("url", "").endswith(EXPECTED_404)
        if message.type == "error" and not expected:
            visit.said.append(f"{message.text} ({message.location.get('url')})")

    page.on("console", listen)
    page.on("pageerror", lambda error: visit.said.append(str(error)))
    return visit
