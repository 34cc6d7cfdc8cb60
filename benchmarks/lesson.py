"""Run the lesson over several seeds on drawings of a fresh generator seed, and write docs/lesson.md.

    python -m benchmarks.lesson --generator-seed 2026 --seeds 5

Every figure comes from a run directory under --runs; a run that is there already is not repeated, so an interrupted
benchmark goes on where it was.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path

from cvcore.comparison import reference_runs
from cvcore.run_directory import Run, list_runs
from cvcore.settings import PROJECT

RECIPES = ("doodle-scratch", "doodle-augmented", "doodle-features", "doodle-finetune")


def trained(recipe: str, dataset: str, seed: int, folder: Path) -> Run:
    """Return the finished run of a recipe, dataset and seed; train it first if there is none."""
    for run in list_runs(folder):
        if (run.recipe.get("id"), run.dataset.get("id"), run.seed, run.status) == (recipe, dataset, seed, "done"):
            return run
    command = [sys.executable, "-m", "cvcore", "train", recipe, "--data", dataset, "--seed", str(seed)]
    done = subprocess.run([*command, "--runs", str(folder), "--json"], cwd=PROJECT, stdout=subprocess.PIPE, check=True)
    print(recipe, seed, json.loads(done.stdout)["test_accuracy"], flush=True)
    return trained(recipe, dataset, seed, folder)


def row(recipe: str, runs: list[Run]) -> tuple[str, float]:
    """Return a table row of one recipe over its seeds, and its mean test accuracy."""
    metrics = [run.metrics or {} for run in runs]

    def column(name: str) -> list[float]:
        return [100 * one[name] for one in metrics]

    def spread(values: list[float]) -> str:
        return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"

    gap = [train - val for train, val in zip(column("last_accuracy"), column("last_val_accuracy"), strict=True)]
    each = " ".join(f"{value:.1f}" for value in column("test_accuracy"))
    seconds = statistics.median(run.info["timings"]["total"] for run in runs)
    memory = max(run.info["peak_memory"] for run in runs)
    tested, validated = spread(column("test_accuracy")), spread(column("val_accuracy"))
    cells = [f"`{recipe}`", tested, each, validated, f"{statistics.fmean(gap):.1f}", f"{seconds:.0f}", f"{memory:.0f}"]
    return "| " + " | ".join(cells) + " |", statistics.fmean(column("test_accuracy"))


def main() -> None:
    """Train what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator-seed", type=int, default=2026)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=PROJECT / ".cache" / "lesson-runs")
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "lesson.md")
    args = parser.parse_args()
    dataset = f"doodle-pets-{args.generator_seed}"
    runs = {
        recipe: [trained(recipe, dataset, seed, args.runs) for seed in range(1, args.seeds + 1)] for recipe in RECIPES
    }
    rows = [row(recipe, runs[recipe]) for recipe in RECIPES]
    steps = [f"{after[1] - before[1]:+.1f}" for before, after in itertools.pairwise(rows)]
    first = runs[RECIPES[0]][0]
    recorded = sorted(reference_runs(list_runs(PROJECT / "runs")), key=lambda run: run.id)
    seconds = [run.info["timings"]["total"] for run in recorded]
    reference = f"{', '.join(f'{value:.0f}' for value in seconds)} s, {sum(seconds):.0f} s together"
    args.out.write_text(f"""# The lesson, measured

The four doodle recipes on drawings that were made after recipes and drawings were frozen: generator seed
{args.generator_seed} (`{dataset}`, fingerprint `{first.dataset["fingerprint"][:12]}`), {args.seeds} seeds each, by
`python -m benchmarks.lesson --generator-seed {args.generator_seed} --seeds {args.seeds}`
on {first.info["device"]["cores"]} cores ({first.info["device"]["name"]}).

Test accuracy and validation accuracy in percent at the epoch with the lowest validation loss, mean ± standard deviation
over seeds; "gap" is training minus validation accuracy at the last epoch, in points; seconds are the median of the
whole run, memory the largest peak of its process.

| recipe | test accuracy | each seed | validation | gap | seconds | MB |
|---|---|---|---|---|---|---|
{chr(10).join(text for text, _ in rows)}

From one strategy to the next: {", ".join(steps)} points of mean test accuracy. Seconds depend on what else the
computer does; the reference runs in `runs/`, trained one after the other, took {reference}.

## How far to trust it

These are drawings: the order of the four strategies is the lesson, the percentages are those of this drawn task.

- Recipes and drawings were tuned on drawings of other generator seeds (1, 101, 102, 103), the last three with their
  test splits as further validation pictures. Nothing was chosen on the drawings of the table.
- The drawings' difficulty was set so that the lesson can be seen: a first version left the convnet from scratch at
  chance.
- The bundled base was trained on sixteen other animals and things, none of them a cat or a dog
  (`tools/doodle_things.py`). A first list also had a goat with floppy ears and a hamster with a cat's cheeks; it left
  fine-tuning nothing to gain and was cut. Some parts are still shared: bear and deer have a dog's snout from the front,
  the mouse has whiskers. ImageNet, the base of the published recipes, contains cats and dogs outright.
- Fine-tuning depends on its details: from `block4_conv1` on, without augmentation, it gained nothing in tuning.
""")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
