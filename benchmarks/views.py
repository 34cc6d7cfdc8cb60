"""What stored views cost in accuracy: each recipe with fresh augmentation and with views, seed by seed.

    python -m benchmarks.views                                  # the doodle recipes, 5 seeds, 4 views
    python -m benchmarks.views --recipes mobilenet-features-augmented --data PICTURES --weights FILE

Every figure comes from a run directory under --runs; a run that is there already is not repeated. Prints a Markdown
table: validation accuracy in percent at the lowest validation loss, and the difference with its paired 95 % interval.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from cvcore.published import get_recipe
from cvcore.recipe import Recipe
from cvcore.run_directory import Run, list_runs
from cvcore.settings import PROJECT

RECIPES = ("doodle-features", "doodle-finetune")
CODE = """import json, sys
from cvcore import api
from cvcore.recipe import make_recipe
given = json.load(sys.stdin)
api.train(make_recipe(**given.pop("recipe")), **given)
"""
POLICY = "doodle-augmented"  # whose augmentation a recipe without one takes


def augmented(name: str) -> Recipe:
    """Return a recipe that trains on augmented pictures in every epoch: itself, or itself end to end."""
    recipe = get_recipe(name)
    if recipe.augmentation is not None:
        return recipe
    policy = get_recipe(POLICY if name.startswith("doodle") else "chollet2-augmented").augmentation
    return recipe.with_changes(id=f"{name}-augmented", cached=False, augmentation=policy)


def trained(recipe: Recipe, data: str, seed: int, folder: Path, weights: str | None) -> Run:
    """Return the finished run of a recipe and seed; train it in a process of its own if there is none."""
    for run in list_runs(folder):
        same = run.status == "done" and run.seed == seed and run.recipe.get("id") == recipe.id
        if same and (run.recipe.get("views") or 0) == recipe.views:
            return run
    words = {"data": data, "seed": seed, "runs": str(folder), "weights": weights}
    given = json.dumps({"recipe": recipe.model_dump(mode="json"), **words})
    subprocess.run([sys.executable, "-c", CODE], input=given, text=True, cwd=PROJECT, check=True)
    return trained(recipe, data, seed, folder, weights)


def row(recipe: Recipe, views: int, fresh: Sequence[Run], stored: Sequence[Run]) -> str:
    """Return the table's row of a recipe: the runs of both ways, seed by seed."""
    cells = [f"`{recipe.id}`", str(len(fresh)), str(views)]
    accuracies = [[100 * (run.metrics or {})["val_accuracy"] for run in runs] for runs in (fresh, stored)]
    for values in accuracies:
        cells.append(f"{statistics.fmean(values):.1f} ({' '.join(f'{value:.1f}' for value in values)})")
    differences = [after - before for before, after in zip(*accuracies, strict=True)]
    mean, half = statistics.fmean(differences), math.nan
    if len(differences) > 1:
        half = stats.t.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    cells.append(f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--data", default="doodle-pets")
    parser.add_argument("--weights")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=PROJECT / ".cache" / "views-runs")
    chosen = parser.parse_args()
    print("| recipe | seeds | views | changed anew in every epoch | stored views | difference, points |")
    print("|---|---|---|---|---|---|")
    for recipe in map(augmented, chosen.recipes):
        fresh, stored = (
            [trained(recipe.with_changes(views=views), chosen.data, seed, chosen.runs, chosen.weights)
             for seed in range(1, chosen.seeds + 1)]
            for views in (0, chosen.views)
        )  # fmt: skip
        print(row(recipe, chosen.views, fresh, stored), flush=True)


if __name__ == "__main__":
    main()
