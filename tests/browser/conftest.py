"""A real server and a real Chromium. Nothing is skipped: without a browser these tests fail and say what to install."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard import PATIENCE, Server, Visit, serving, visiting
from handmade_runs import write_reference_runs
from playwright.sync_api import Browser, sync_playwright

from tools.chromium import find

CHROMIUM = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the session: Playwright's event loop runs as long, and no test of the process may begin one of its own.
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find(), args=CHROMIUM.split(), timeout=PATIENCE)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """One cache for all browser tests: the drawings are drawn once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def runs(tmp_path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    write_reference_runs(folder)
    return folder


@pytest.fixture
def server(tmp_path, runs, cache) -> Iterator[Server]:
    with serving(tmp_path, runs, cache) as started:
        yield started


@pytest.fixture
def visit(browser) -> Iterator[Visit]:
    opened = visiting(browser)
    yield opened
    opened.page.context.close()
