"""Kill training processes, the worker and the dashboard at random moments, and count what is lost: nothing should be.

    python -m benchmarks.faults --rounds 100

Each kill -9 is a round. Runs of several owners are launched a few at a time; while they train, processes are killed,
the dashboard (a real `streamlit run app.py`, whose thread brings the worker back) is started again as a supervisor
would, and a run that was killed more often than it comes back by itself is resumed as its owner would. When all have
ended, every file of theirs is checked, and compared with an undisturbed run of the same recipe and seed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from PIL import Image

from cvcore import backends, waiting_line
from cvcore.datasets import Dataset, open_dataset
from cvcore.new_run import new_run
from cvcore.recipe import Recipe, make_recipe
from cvcore.run_directory import Run, list_runs, load_run
from cvcore.settings import PROJECT
from tools.ports import free_port

TARGETS = ("child", "worker", "dashboard")
PATIENCE = 300.0  # seconds for what takes a few
COMPARED = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
FIGURES = ("best_epoch", "val_accuracy", "last_val_accuracy", "test_loss", "test_accuracy", "epochs")
LEFT_BEHIND = ("stop", "heartbeat.json", "progress.json", "state.npz")  # in a run that is done
Found = TypeVar("Found")

small = make_recipe(
    id="small-scratch", strategy="scratch", image_size=32, filters=(4, 8), dense=(8,), optimizer="adam",
    learning_rate=0.01, batch_size=8, epochs=12,
)  # fmt: skip
RECIPES = (
    small,
    small.with_changes(
        id="small-augmented", strategy="augmented", dropout=0.3, epochs=8,
        augmentation={"horizontal_flip": True, "rotation": 20},
    ),
)  # fmt: skip


def wait_for(condition: Callable[[], Found], what: str, patience: float = PATIENCE) -> Found:
    """Ask every tenth of a second until the answer is true, and return it; give up with an error after a while."""
    began = time.monotonic()
    while not (found := condition()):
        if time.monotonic() - began > patience:
            raise TimeoutError(f"waited {patience:.0f} s in vain until {what}")
        time.sleep(0.1)
    return found


def command_processes(module: str, folder: Path) -> list[psutil.Process]:
    """Find the processes of a module that serve a runs folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if f"cvcore.backends.{module}" in words and str(folder) in words:
                found.append(process)
    return found


class Dashboard:
    """`streamlit run app.py` on a port of this machine that, on Linux, nobody else is given meanwhile."""

    def __init__(self, runs: Path, log: Path) -> None:
        self.runs, self.log = runs, log
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self) -> None:
        """Start it, and return at once."""
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(self.port),
                   "--server.headless", "true", "--server.address", "127.0.0.1"]  # fmt: skip
        environment = {**os.environ, "CVCORE_RUNS": str(self.runs)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)  # fmt: skip

    def kill(self) -> None:
        """End it without warning."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Faults:
    """One runs folder, the processes that serve it, and who kills them.

    Attributes:
        runs: the runs folder.
        dataset: what is trained on.
        references: an undisturbed run of each (recipe, seed) that is launched.
        chance: decides targets and moments.
    """

    runs: Path
    dataset: Dataset
    references: dict[tuple[Recipe, int], Run]
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    attempts: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runs.mkdir(parents=True, exist_ok=True)
        self.dashboard = Dashboard(self.runs, self.runs.parent / "dashboard.log")
        self.dashboard.start()

    def close(self) -> None:
        """End the dashboard, the worker and what still trains."""
        self.dashboard.kill()
        for module in ("worker", "job"):
            for process in command_processes(module, self.runs):
                with suppress(psutil.Error):
                    process.kill()

    def launch(self, owner: str, recipe: Recipe, seed: int) -> str:
        """Queue a run and leave the rest to the dashboard."""
        with waiting_line.submitting(self.runs):
            ticket = waiting_line.next_ticket(list_runs(self.runs))
            return new_run(recipe, self.dataset, seed, runs=self.runs, owner=owner, backend="local", ticket=ticket).id

    def batch(self, targets: list[str], launches: int = 4) -> None:
        """Launch runs of several owners, kill while they train, wait until all are done, and check every file."""
        chosen = [self.chance.choice(list(self.references)) for _ in range(launches)]
        ids = {self.launch(f"{place % 3:016x}", *what): what for place, what in enumerate(chosen)}
        for target in targets:
            if not self.all_done(list(ids)):
                self.kill(target, list(ids))
        self.settle(list(ids))
        for run_id, what in ids.items():
            self.problems += check(load_run(run_id, self.runs), self.references[what])
        self.problems += [f"{path.relative_to(self.runs)}: left behind" for path in stray_files(self.runs)]

    def kill(self, target: str, ids: list[str]) -> None:
        """Wait for a random moment, then kill one process of a kind; there is one soon, as long as runs are left."""
        if self.chance.random() < 0.5:  # while something trains, not in the seconds that Keras takes to start
            self.until(ids, self.trains, "something trains")
            time.sleep(self.chance.uniform(0, 0.8))
        else:
            time.sleep(self.chance.uniform(0, 3))
        if target == "dashboard":
            self.dashboard.kill()
            self.killed[target] += 1
            time.sleep(self.chance.uniform(0, 1))
            self.dashboard.start()
            return
        module = {"child": "job", "worker": "worker"}[target]
        living = self.until(ids, lambda: command_processes(module, self.runs), f"there is a {target} to kill")
        for process in living or []:
            with suppress(psutil.Error):
                process.kill()
                self.killed[target] += 1

    def until(self, ids: list[str], condition: Callable[[], Found], what: str) -> Found | None:
        """Wait for a condition, and return what it found; None when all runs are done before."""
        found: list[Found] = []

        def met() -> bool:
            if now := condition():
                found.append(now)
            return bool(now) or self.all_done(ids)

        wait_for(met, what)
        return found[0] if found else None

    def trains(self) -> bool:
        """Say whether a run is in its epochs."""
        return any(run.status == "running" and len(run.history()) for run in list_runs(self.runs))

    def all_done(self, ids: list[str]) -> bool:
        """Say whether all runs are done; resume those that have been given up."""
        statuses = {run_id: load_run(run_id, self.runs) for run_id in ids}
        for run_id, run in statuses.items():
            if run.info["status"] == "interrupted":
                backends.resume(run_id, self.runs)
                self.resumed += 1
        return all(run.status in ("done", "failed") for run in statuses.values())

    def settle(self, ids: list[str]) -> None:
        """Wait until all runs are done."""
        wait_for(lambda: self.all_done(ids), "all runs are done")
        self.attempts += sum(load_run(run_id, self.runs).attempt for run_id in ids)

    def report(self) -> str:
        """Say what was done and what was found."""
        runs = list_runs(self.runs)
        kills = ", ".join(f"{count} of the {target}" for target, count in sorted(self.killed.items()))
        done = sum(run.status == "done" for run in runs)
        return (f"{sum(self.killed.values())} kills ({kills}); {done} of {len(runs)} runs done in {self.attempts} "
                f"attempts, {self.resumed} of them resumed by hand; {len(self.problems)} problems")  # fmt: skip


def check(run: Run, reference: Run) -> list[str]:
    """List what is wrong with a finished run, compared with an undisturbed one."""
    if run.status != "done":
        return [f"{run.id}: {run.status}: {run.error}"]
    problems = []
    history, expected = run.history(), reference.history()
    if history["epoch"].tolist() != list(range(1, len(expected) + 1)):
        problems.append(f"{run.id}: epochs {history['epoch'].tolist()}")
    elif not np.allclose(history[COMPARED], expected[COMPARED], rtol=0, atol=1e-6):
        problems.append(f"{run.id}: its history differs from that of an undisturbed run")
    metrics, wanted = run.metrics or {}, reference.metrics or {}
    differing = [name for name in FIGURES if not np.isclose(metrics[name], wanted[name], rtol=0, atol=1e-6)]
    if differing:
        problems.append(f"{run.id}: {differing} differ from those of an undisturbed run")
    if len(run.predictions()) != len(reference.predictions()):
        problems.append(f"{run.id}: {len(run.predictions())} predictions")
    problems += [f"{run.id}: attempt {attempt} took place {count} times" for attempt, count in begun(run).items()
                 if count > 1]  # fmt: skip
    problems += [f"{run.id}: {name} is left" for name in LEFT_BEHIND if (run.path / name).exists()]
    for path in run.path.glob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            problems.append(f"{run.id}: {path.name} is damaged")
    return problems


def begun(run: Run) -> Counter[str]:
    """Count how often each attempt says in the log on what device it trains."""
    lines = [line.split(" ", 1)[1] for line in run.log().splitlines() if " attempt " in line and ": on " in line]
    return Counter(line.partition(":")[0] for line in lines)


def stray_files(runs: Path) -> list[Path]:
    """List temporary files in run directories."""
    return [path for run in list_runs(runs) for path in run.path.iterdir() if path.name.startswith(".")]


def undisturbed(recipe: Recipe, data: Path, seed: int, runs: Path) -> Run:
    """Train in a process of its own, and return the run."""
    code = ("import json, sys; from cvcore import api, devices; from cvcore.recipe import make_recipe\n"
            "devices.import_keras(); recipe = make_recipe(**json.loads(sys.argv[1]))\n"
            "print(api.train(recipe, sys.argv[2], seed=int(sys.argv[3]), runs=sys.argv[4]).id)")  # fmt: skip
    words = [recipe.model_dump_json(), str(data), str(seed), str(runs)]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=PROJECT, stdout=subprocess.PIPE, check=True)
    return load_run(done.stdout.decode().split()[-1], runs)


def write_pictures(root: Path) -> Path:
    """Write small noisy pictures of two classes, one brighter than the other: root/split/class/number.png."""
    for split, count in {"train": 9, "validation": 7, "test": 8}.items():
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                draws = np.random.default_rng([label, number, count])
                picture = draws.integers(40 * label, 200 + 40 * label, (32, 32, 3), np.uint8)
                Image.fromarray(picture).save(root / split / name / f"{number}.png")
    return root


def main() -> None:
    """Kill and check until there have been enough rounds, then print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="Decides targets and moments.")
    words = parser.parse_args()
    os.environ.setdefault("CVCORE_NICENESS", "0")
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        folder = Path(scratch)
        os.environ["CVCORE_CACHE"] = str(folder / "cache")
        data = write_pictures(folder / "pictures")
        references = {(recipe, seed): undisturbed(recipe, data, seed, folder / "undisturbed")
                      for recipe in RECIPES for seed in (0, 1)}  # fmt: skip
        faults = Faults(folder / "runs", open_dataset(data), references, random.Random(words.seed))
        began = time.monotonic()
        try:
            while sum(faults.killed.values()) < words.rounds:
                faults.batch([faults.chance.choice(TARGETS) for _ in range(6)])
                print(f"{time.monotonic() - began:.0f} s: {faults.report()}", flush=True)
        finally:
            faults.close()
        for problem in faults.problems:
            print(problem)
        sys.exit(1 if faults.problems else 0)


if __name__ == "__main__":
    main()
