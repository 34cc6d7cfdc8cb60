"""The lesson's headline in a browser: how long from Launch until a validation accuracy stands on the Train page.

    python -m benchmarks.headline --data FOLDER --pictures "Cats and dogs, filtered" --weights FOLDER

FOLDER of --data holds the pictures as a folder or zip, that of --weights the file of the base's weights. Starts a
dashboard of its own with nothing stored, launches the recipe with one seed after the other in a real Chromium, and
prints for each: seconds until training began, until an accuracy was shown, until the run was done, and the peak memory
of its process; then the server's. The first finds nothing stored, the others what the first stored. Run it on a machine
that does nothing else; it ends with 1 when a limit is broken.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Page, sync_playwright

from benchmarks.classroom import dashboard
from benchmarks.pages import FINISHED
from cvcore.run_directory import load_run
from tools.chromium import find

CHROMIUM = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
PATIENCE = 600_000  # milliseconds
FIRST, AGAIN = 45.0, 12.0  # seconds from Launch until the accuracy of the finished run is shown
ACCURACY = 0.965
CHILD_MB = 1100.0


def main() -> None:
    """Launch, wait, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder that holds the pictures (CVCORE_DATA)")
    parser.add_argument("--pictures", required=True, help="what the list of pictures shows begins like this")
    parser.add_argument("--weights", default="", help="folder that holds the weights (CVCORE_WEIGHTS)")
    parser.add_argument("--recipe", default="mobilenet-features")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for name in ("runs", "cache"):
            (here / name).mkdir()
            os.environ[f"CVCORE_{name.upper()}"] = str(here / name)
        os.environ["CVCORE_DATA"] = str(Path(chosen.data).resolve())
        if chosen.weights:
            os.environ["CVCORE_WEIGHTS"] = str(Path(chosen.weights).resolve())
        with dashboard(here) as (url, server), sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=find(), args=CHROMIUM.split())
            page = chromium.new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(f"{url}/train")
            _pick(page, "Pictures", chosen.pictures)
            _pick(page, "Recipe", f"({chosen.recipe})")
            print("| seed | training began | an accuracy shown | done and shown | validation | peak MB |")
            print("|---|---|---|---|---|---|")
            broken = [_launch(page, seed, here / "runs", FIRST if n == 0 else AGAIN)
                      for n, seed in enumerate(chosen.seeds)]  # fmt: skip
            print(f"\nserver {psutil.Process(server.pid).memory_info().rss / 1e6:.0f} MB")
    sys.exit(any(broken))


def _launch(page: Page, seed: int, runs: Path, limit: float) -> bool:
    """Launch a run and print what it took; say whether it broke a limit."""
    before = {path.name for path in runs.iterdir()}
    page.get_by_label("Seed", exact=True).fill(str(seed))
    page.get_by_label("Seed", exact=True).press("Enter")
    page.wait_for_timeout(1000)
    page.wait_for_function(FINISHED)
    page.get_by_role("button", name="Launch").click()
    began = time.perf_counter()
    while not (new := [path for path in runs.iterdir() if path.name not in before and path.name.startswith("2")]):
        time.sleep(0.01)
    history = new[0] / "history.csv"
    while not (new[0] / "progress.json").exists() or '"step": 0' in (new[0] / "progress.json").read_text():
        time.sleep(0.01)
    first = time.perf_counter() - began
    page.wait_for_url(f"**run={new[0].name}*")
    page.get_by_test_id("stMetric").filter(has_text="Validation accuracy").filter(has_text="%").wait_for()
    shown = time.perf_counter() - began
    page.locator(".stMarkdownBadge").filter(has_text="done").first.wait_for()
    done = time.perf_counter() - began
    assert history.exists()
    run = load_run(new[0].name, runs)
    accuracy, peak = run.metrics["val_accuracy"], run.info["peak_memory"]
    print(f"| {seed} | {first:.1f} s | {shown:.1f} s | {done:.1f} s | {accuracy:.1%} | {peak:.0f} |", flush=True)
    return done > limit or accuracy < ACCURACY or peak > CHILD_MB


def _pick(page: Page, label: str, words: str) -> None:
    page.wait_for_function(FINISHED)
    page.get_by_role("combobox", name=label).first.click()
    page.get_by_role("option").filter(has_text=words).first.click()
    page.wait_for_timeout(500)
    page.wait_for_function(FINISHED)


if __name__ == "__main__":
    main()
