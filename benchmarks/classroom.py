"""How quick the dashboard stays for a class, and whether its server's memory does.

    python -m benchmarks.classroom                  # 50 browsers beside a run that trains, 100 with none, 30 that watch
    python -m benchmarks.classroom --minutes 20     # the first of them for 20 minutes: does memory stay

Starts the dashboard as README.md does, with copies of the recorded runs in a folder of its own. Each browser opens
Compare on four runs, then draws it again every five seconds on average (one in two of those times with another metric,
smoothing or run). Prints the figures, and ends with 1 when one of them is over its limit.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import psutil

from benchmarks.browsers import Seen, percentile, student, watcher
from cvcore import launching, run_directory
from cvcore.datasets import open_dataset
from cvcore.published import get_recipe
from cvcore.run_directory import Run
from cvcore.settings import PROJECT
from tools.ports import free_port

THINK, RAMP = 5.0, 10.0  # seconds between two draws of a browser; in which all arrive
MEMORY_GROWS = 0.10  # at most, of the server's memory once every page has been drawn
SETTLED = 60.0  # seconds after which the server's memory is first read


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        name: what it is called.
        sessions: browsers on Compare.
        trains: whether a run trains beside them.
        watching: browsers on Train that watch that run.
        first, later: limits, seconds at the 95th percentile.
    """

    name: str
    sessions: int
    trains: bool
    watching: int = 0
    first: float = 2.0
    later: float = 0.5


CASES = (
    Case("beside a training run", 50, trains=True),
    Case("nothing trains", 100, trains=False, later=0.4),
    Case("30 more watch a run that trains", 20, trains=True, watching=30),
)


def queries(runs: list[Run], varied: bool) -> Iterator[str]:
    """Give what follows Compare's path: four runs first; if varied, then every other time something else is chosen."""
    four = [run.id for run in runs[:: max(1, len(runs) // 4)]][:4]
    while True:
        yield urlencode({"runs": four}, doseq=True)
        chosen: dict[str, object] = {"runs": four}
        if varied:
            chosen["compare_metric"] = random.choice(("Accuracy", "Loss"))
            chosen["compare_smoothing"] = random.choice(("off", "0.5", "0.9"))
            chosen["runs"] = [*four[:3], random.choice(runs).id]
        yield urlencode(chosen, doseq=True)


@contextmanager
def dashboard(folder: Path, script: str = "app.py") -> Iterator[tuple[str, psutil.Process]]:
    """Start the dashboard as `make run` does, or another script, on a free port; give its address and its process."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([*command, "--server.headless", "true"], cwd=PROJECT, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            if server.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
            with suppress(OSError), urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                break
            time.sleep(0.1)
        yield url, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


@contextmanager
def training(runs: Path) -> Iterator[Run]:
    """Have a real run train meanwhile, as one launched from a page does."""
    recipe = get_recipe("doodle-augmented").with_changes(epochs=1000, image_size=192)  # for most of an hour
    run = launching.launch(recipe, open_dataset("doodle-pets"), 1, runs=runs, anyway=True)
    while not (run.path / "history.csv").exists():
        time.sleep(0.5)
        if run_directory.load_run(run.id, runs).status not in ("queued", "running"):
            raise SystemExit(run_directory.load_run(run.id, runs).log())
    try:
        yield run
    finally:
        run_directory.request_stop(run_directory.load_run(run.id, runs))
        while run_directory.worker_alive(runs):  # it ends when nothing trains any more
            time.sleep(0.5)


async def memory_of(server: psutil.Process, until: float) -> list[float]:
    """Read the server's resident memory every ten seconds, MB."""
    read = []
    while time.monotonic() < until:
        await asyncio.sleep(10)
        read.append(server.memory_info().rss / 1e6)
    return read


async def visited(case: Case, url: str, server: psutil.Process, runs: list[Run], seconds: float, watched: Run | None,
                  varied: bool) -> tuple[Seen, Seen, list[float]]:  # fmt: skip
    """Let a class visit for some seconds; give what those on Compare saw, those who watch, and the server's memory."""
    compared, watching, until = Seen(), Seen(), time.monotonic() + seconds
    class_ = [
        student(url, "compare", queries(runs, varied), until, compared, RAMP, THINK) for _ in range(case.sessions)
    ]
    query = urlencode({"run": watched.id}) if watched else ""
    class_ += [watcher(url, "train", query, until, watching, RAMP) for _ in range(case.watching)]
    memory = asyncio.create_task(memory_of(server, until))
    await asyncio.gather(*class_)
    return compared, watching, await memory


def figures(case: Case, compared: Seen, watching: Seen, memory: list[float], cpu: float) -> dict[str, object]:
    """Sum a measurement up."""
    draws = len(compared.first) + len(compared.later)
    received = [draw.received for draw in compared.later]
    told: dict[str, object] = {
        "case": case.name,
        "sessions": case.sessions,
        "first_p95_s": round(percentile(compared.first, 0.95), 3),
        "reruns": len(compared.later),
        "rerun_median_s": round(percentile(compared.later, 0.5), 3),
        "rerun_p95_s": round(percentile(compared.later, 0.95), 3),
        "rerun_bytes": round(sum(received) / max(1, len(received))),
        "server_cpu_ms_a_draw": round(1000 * cpu / max(1, draws + len(watching.first) + len(watching.parts)), 1),
        "faults": compared.all_faults + watching.all_faults,
    }
    if case.watching:
        told["watch_draws"] = len(watching.parts)
        told["watch_p95_s"] = round(percentile(watching.parts, 0.95), 3)
    settled = memory[int(SETTLED / 10) :]
    if settled:
        told["memory_mb"] = [round(settled[0]), round(settled[-1])]
        told["memory_grew"] = round(settled[-1] / settled[0] - 1, 3)
    return told


def over(case: Case, told: dict[str, object]) -> list[str]:
    """Name what is over its limit."""
    limits = {"first_p95_s": case.first, "rerun_p95_s": case.later, "memory_grew": MEMORY_GROWS}
    found = [f"{name} {told[name]}, at most {limit}" for name, limit in limits.items() if told.get(name, 0) > limit]  # type: ignore[operator]
    return [*found, str(told["faults"])] if told["faults"] else found


def main() -> int:
    """Measure every case, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="measure memory: the first case alone, for so long")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each case, default 40")
    parser.add_argument("--case", type=int, choices=range(1, len(CASES) + 1), help="this case alone")
    parser.add_argument("--same", action="store_true", help="every draw is of the same four runs")
    args = parser.parse_args()
    cases = [CASES[args.case - 1]] if args.case else CASES[:1] if args.minutes else CASES
    seconds = args.minutes * 60 if args.minutes else args.seconds
    problems = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "runs"
        shutil.copytree(PROJECT / "runs", folder)
        os.environ |= {"CVCORE_RUNS": str(folder), "CVCORE_CACHE": f"{scratch}/cache", "CVCORE_WORKER_IDLE": "1"}
        recorded = [run for run in run_directory.list_runs(folder) if run.reference]
        for case in cases:
            with dashboard(Path(scratch)) as (url, server):
                before = server.cpu_times()
                if case.trains:
                    with training(folder) as run:
                        seen = asyncio.run(visited(case, url, server, recorded, seconds, run, not args.same))
                else:
                    seen = asyncio.run(visited(case, url, server, recorded, seconds, None, not args.same))
                after = server.cpu_times()
            told = figures(case, *seen, after.user + after.system - before.user - before.system)
            print(json.dumps(told), flush=True)
            problems += [f"{case.name}: {problem}" for problem in over(case, told)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
