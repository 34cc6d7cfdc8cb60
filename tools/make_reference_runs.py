"""Train the four doodle recipes anew, as the reference runs that ship in runs/.

    python -m tools.make_reference_runs [--seed N]      # or: make reference-runs

Each is trained by the command line in a process of its own, on drawings that are there already and with no stored
features, then marked as a reference run, and its model is removed. The reference runs of these recipes that were
there before are deleted once the four new ones are done; those of other recipes stay (tools.record_runs ships them).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cvcore.datasets import open_dataset
from cvcore.files import replace_json
from cvcore.run_directory import list_runs, load_run
from cvcore.settings import PROJECT

RECIPES = ("doodle-scratch", "doodle-augmented", "doodle-features", "doodle-finetune")
FOLDER = PROJECT / "runs"


def train(recipe: str, seed: int, cache: Path) -> str:
    """Train one recipe and return the run's id."""
    shutil.rmtree(cache / "features", ignore_errors=True)
    command = [sys.executable, "-m", "cvcore", "train", recipe, "--data", "doodle-pets", "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--runs", str(FOLDER), "--json"],
        cwd=PROJECT,
        env={**os.environ, "CVCORE_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        check=True,
    )
    summary = json.loads(done.stdout)
    print(f"{recipe}: test accuracy {summary['test_accuracy']:.3f}, {summary['seconds']:.0f} s", flush=True)
    return summary["run"]


def main() -> None:
    """Train, mark, and replace the earlier reference runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    earlier = [run for run in list_runs(FOLDER) if run.reference and run.recipe.get("id") in RECIPES]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        os.environ["CVCORE_CACHE"] = folder
        open_dataset("doodle-pets")
        began = time.perf_counter()
        trained = [train(recipe, seed, cache) for recipe in RECIPES]
        print(f"the four in sequence: {time.perf_counter() - began:.0f} s of wall time")
    for run_id in trained:
        run = load_run(run_id, FOLDER)
        replace_json(run.path / "run.json", {**run.info, "reference": True})
        (run.path / "model.keras").unlink()
    for run in earlier:
        for file in run.path.iterdir():
            file.unlink()
        run.path.rmdir()


if __name__ == "__main__":
    main()
