"""A Chromium that nothing listens in on, as a visitor's: driven over its debugging port with next to nothing enabled.

Playwright enables the domains Runtime and Network of every page. V8 then reads Plotly's 4.7 MB anew for each stack
trace that they record, and a first visit takes half a second of processor time more than without.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PATIENCE = 120.0  # seconds
# What Playwright starts it with too, so far as it keeps a browser from doing other things than showing a page.
FLAGS = (
    "--headless --hide-scrollbars --mute-audio --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage "
    "--no-first-run --no-default-browser-check --disable-background-networking --disable-sync --disable-extensions "
    "--disable-default-apps --disable-component-update --disable-breakpad --disable-field-trial-config "
    "--disable-back-forward-cache --disable-renderer-backgrounding --disable-background-timer-throttling "
    "--metrics-recording-only --password-store=basic --use-mock-keychain --remote-debugging-port=0"
)


class Tab:
    """One tab of a browser.

    Args:
        connection: to the browser.
        script: JavaScript that runs in each page before its own.
        size: of what is seen of a page, pixels.
    """

    def __init__(self, connection: ClientConnection, script: str, size: tuple[int, int] = (1280, 1000)) -> None:
        self._connection, self._number, self._session = connection, 0, ""
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        width, height = size
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._send("Page.enable")
        self._send("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url: str) -> None:
        """Ask for an address; returns when its page begins."""
        self._send("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Give the value of a JavaScript expression in the page; of a promise, what it comes to."""
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, condition: str, then: str = "true") -> Any:
        """Wait until a JavaScript condition holds in a frame of the page, and give what an expression is then."""
        look = f"({condition}) ? done({then}) : requestAnimationFrame(look)"
        look = f"const look = () => {{ try {{ {look} }} catch (error) {{ failed(error) }} }}; look();"
        return self.evaluate(f"new Promise((done, failed) => {{ {look} }})")

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._connection.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])


@contextmanager
def bare_chromium(executable: str | None, script: str = "") -> Iterator[Tab]:
    """Start a browser that has seen nothing, and give an empty tab of it.

    Args:
        executable: of Chromium, None where none was found.
        script: as `Tab` takes it.

    Raises:
        RuntimeError: there is none.
    """
    if executable is None:
        raise RuntimeError("this needs Chromium and found none; install it with: python -m tools.chromium")
    with ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        command = [executable, *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        port, path = _where(Path(profile) / "DevToolsActivePort", process)
        connection = stack.enter_context(connect(f"ws://127.0.0.1:{port}{path}", max_size=None, ping_interval=None))
        tab = Tab(connection, script)
        time.sleep(1)  # until what a browser does after its start is done
        yield tab


def _where(file: Path, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Wait until a browser says by which port and path it is reached."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        if file.exists() and len(words := file.read_text().split()) == 2:
            return words[0], words[1]
        time.sleep(0.05)
    raise RuntimeError("Chromium did not start")
