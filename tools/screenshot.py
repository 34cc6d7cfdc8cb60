"""Make the README's screenshot: start the dashboard, open Compare on the reference runs, save the picture.

python -m tools.screenshot                      # docs/compare.png
python -m tools.screenshot train docs/train.png --width 1280 --dark
"""

import argparse
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import sync_playwright

from tools.chromium import find
from tools.ports import free_port

PROJECT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Save one screenshot; exit 1 with a sentence when the browser or the server is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", nargs="?", default="compare", help="the page's path in the address, default compare")
    parser.add_argument("file", nargs="?", default="docs/compare.png", help="default docs/compare.png")
    parser.add_argument("--width", type=int, default=1280, help="pixels, default 1280")
    parser.add_argument("--height", type=int, default=900, help="pixels, default 900")
    parser.add_argument("--dark", action="store_true", help="the dark theme")
    options = parser.parse_args()
    executable = find()
    if executable is None:
        print("No Chromium was found; python -m tools.chromium installs one.", file=sys.stderr)
        return 1
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    server = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://localhost:{port}"
        if not answers(address):
            print("The dashboard did not start; streamlit run app.py shows why.", file=sys.stderr)
            return 1
        save(executable, f"{address}/{options.page}", options)
    finally:
        server.terminate()
        server.wait()
    print(options.file)
    return 0


def answers(address: str, seconds: float = 60) -> bool:
    """Wait until the server answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
            return True
        time.sleep(0.2)
    return False


def save(executable: str, address: str, options: argparse.Namespace) -> None:
    """Open the address, wait until it is drawn, save the picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(
            viewport={"width": options.width, "height": options.height},
            color_scheme="dark" if options.dark else "light",
        )
        page.goto(address)
        page.wait_for_selector("h1", timeout=120_000)
        page.wait_for_selector("[data-testid=stStatusWidget]", state="detached", timeout=120_000)
        # Charts and tables are fetched and drawn after the script has ended.
        page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')", timeout=120_000)
        page.wait_for_timeout(1500)
        page.screenshot(path=str(PROJECT / options.file))
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
