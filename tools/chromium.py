"""Find a Chromium for the browser tests, or install one: an existing one, else apt as root, else Playwright's own.

python -m tools.chromium        # prints its path
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find() -> str | None:
    """Return the path of a Chromium that is installed, or None."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Exception:  # noqa: BLE001  (Playwright's driver may be unusable; then there is none)
        return None
    return path if path and Path(path).is_file() else None


def install() -> None:
    """Install one with apt when this is root on a system that has it, else with Playwright."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        updated = subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False)
        if updated.returncode == 0:
            command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
            subprocess.run(command, env=quiet, check=False)
    if find() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def main() -> int:
    """Print the path of a Chromium; exit 1 with a sentence when none can be had."""
    if find() is None:
        install()
    path = find()
    if path is None:
        sentence = "The browser tests need Chromium; install it with your system's packages and run make test again."
        print(sentence, file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
