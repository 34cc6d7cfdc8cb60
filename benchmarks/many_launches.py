"""Thirty launches within a minute, ten owners with three each, through the real worker: who trained, in what order.

    python -m benchmarks.many_launches

The runs are of the doodle pets, one short epoch each, and nobody waits for them: the launches come in a random order at
random moments. Printed are the order in which the runs started, how long each waited, and what must be true of it.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cvcore.backends import look_after
from cvcore.datasets import open_dataset
from cvcore.launching import launch
from cvcore.published import get_recipe
from cvcore.run_directory import Run, list_runs
from cvcore.waiting_line import next_turn


def verdicts(runs: list[Run], queued: dict[str, int]) -> dict[str, bool]:
    """Say of each thing that must be true of finished runs whether it is.

    Args:
        runs: finished ones.
        queued: by the id of a run the number of the turn that was next when it had been queued.
    """
    served = sorted(runs, key=lambda run: run.turn or 0)
    tickets: dict[str | None, list[int]] = {}
    for run in served:
        tickets.setdefault(run.owner, []).append(run.ticket or 0)
    return {
        "all are done": all(run.status == "done" for run in runs),
        "each was trained once": all(run.attempt == 1 and run.log().count(": on ") == 1 for run in runs),
        "each has every epoch once": all(
            run.history()["epoch"].tolist() == list(range(1, run.recipe["epochs"] + 1)) for run in runs
        ),
        "no owner's first run waited behind another's second": not overtaken(served, queued),
        "each owner's runs started in the order of their launches": all(
            numbers == sorted(numbers) for numbers in tickets.values()
        ),
    }


def overtaken(served: list[Run], queued: dict[str, int]) -> list[tuple[str, str]]:
    """List pairs: a run that was its owner's second or later, and another owner's first that waited meanwhile."""
    firsts: dict[str | None, Run] = {}
    for run in served:
        firsts.setdefault(run.owner, run)
    return [
        (run.id, first.id)
        for first in firsts.values()
        for run in served
        if run is not firsts[run.owner] and queued[first.id] <= (run.turn or 0) < (first.turn or 0)
    ]


def main() -> None:
    """Launch, wait, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, default=10)
    parser.add_argument("--launches", type=int, default=3, help="Of each owner.")
    parser.add_argument("--within", type=float, default=60.0, help="Seconds from the first launch to the last.")
    words = parser.parse_args()
    recipe = get_recipe("doodle-scratch").with_changes(epochs=2, steps_per_epoch=2, image_size=64)
    chance = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="many-launches-") as scratch:
        folder = Path(scratch)
        os.environ.setdefault("CVCORE_CACHE", str(folder / "cache"))
        dataset = open_dataset("doodle-pets")
        coming = [f"{owner:016x}" for owner in range(words.owners)] * words.launches
        chance.shuffle(coming)
        moments = sorted(chance.uniform(0, words.within) for _ in coming)
        queued = {}
        began = time.monotonic()
        for seed, (moment, owner) in enumerate(zip(moments, coming, strict=True)):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            run = launch(recipe, dataset, seed, runs=folder / "runs", owner=owner)
            queued[run.id] = next_turn(folder / "runs")
        print(f"{len(coming)} launches in {time.monotonic() - began:.0f} s", flush=True)
        while any(run.status in ("queued", "running") or run.comes_back for run in list_runs(folder / "runs")):
            look_after(folder / "runs")
            time.sleep(2)
        runs = sorted(list_runs(folder / "runs"), key=lambda run: run.turn or 0)
        seconds = time.monotonic() - began
        for run in runs:
            print(
                f"turn {run.turn:2d}: owner {int(str(run.owner), 16)}, launched as number {run.ticket:2d}, {run.status}"
            )
        print(f"all ended after {seconds:.0f} s, {seconds / len(runs):.1f} s a run; a run itself took "
              f"{statistics.median(run.info['timings']['total'] for run in runs):.1f} s in its process")  # fmt: skip
        found = verdicts(runs, queued)
        for what, true in found.items():
            print(f"{'yes' if true else 'NO '}  {what}")
    sys.exit(0 if all(found.values()) else 1)


if __name__ == "__main__":
    main()
