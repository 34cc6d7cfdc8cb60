"""Run directories with made-up figures, as many as a measurement of pages needs: nothing is trained."""

import json
import math
import random
from pathlib import Path

from cvcore.published import get_recipe
from cvcore.statistics import wilson_interval

# Recipe, pictures of each class in training, validation and test, title of its pictures, accuracy that it comes to.
KINDS = (
    ("doodle-scratch", (200, 100, 500), "Doodle pets (drawings)", 0.74),
    ("doodle-augmented", (200, 100, 500), "Doodle pets (drawings)", 0.82),
    ("doodle-features", (200, 100, 500), "Doodle pets (drawings)", 0.90),
    ("doodle-finetune", (200, 100, 500), "Doodle pets (drawings)", 0.93),
    ("exercise-scratch", (1000, 500, 0), "Cats and dogs (filtered)", 0.71),
    ("exercise-augmented", (1000, 500, 0), "Cats and dogs (filtered)", 0.79),
    ("mobilenet-features", (1000, 500, 0), "Cats and dogs (filtered)", 0.97),
    ("chollet2-scratch", (1000, 500, 1000), "Cats vs. dogs, small", 0.75),
)


def write_runs(folder: Path, number: int, epochs: int = 100) -> list[str]:
    """Write finished runs of several recipes, seeds and learning rates, the same ones each time.

    Args:
        folder: where the run directories go.
        number: how many.
        epochs: of each.

    Returns:
        Their ids, in the order of writing.
    """
    draw = random.Random(number)
    return [_write_run(folder, nth, epochs, draw) for nth in range(number)]


def _write_run(folder: Path, nth: int, epochs: int, draw: random.Random) -> str:
    recipe_id, sizes, title, reached = KINDS[nth % len(KINDS)]
    seed = nth // len(KINDS)
    usual = get_recipe(recipe_id)
    rate = usual.learning_rate * (0.5 if seed % 5 == 4 else 1)  # one in five has another learning rate
    recipe = usual.with_changes(epochs=epochs, learning_rate=rate)
    classes = {"train": sizes[0], "validation": sizes[1], **({"test": sizes[2]} if sizes[2] else {})}
    run_id = f"20260101T{nth // 3600:02d}{nth // 60 % 60:02d}{nth % 60:02d}Z-{recipe_id}-{nth:04x}"
    path = folder / run_id
    path.mkdir(parents=True)
    rows = _history(epochs, reached, rate, draw)
    metrics = _metrics(rows, 2 * sizes[2])
    document = {
        "schema": 1, "run": run_id, "status": "done", "recipe": recipe.model_dump(mode="json"),
        "dataset": {"id": usual.dataset, "title": title, "fingerprint": f"{len(title):064x}", "drawn": sizes[0] == 200,
                    "counts": {split: {"cat": n, "dog": n} for split, n in classes.items()},
                    "class_names": ["cat", "dog"], "skipped": 0},
        "seed": seed, "attempt": 1, "owner": None, "process": None, "created": "2026-01-01T00:00:00+00:00",
        "device": {"kind": "CPU", "name": "made up", "cores": 2, "backend": "tensorflow"},
        "timings": {"total": 2.5 * epochs}, "error": None,
    }  # fmt: skip
    (path / "run.json").write_text(json.dumps(document, indent=2))
    (path / "metrics.json").write_text(json.dumps(metrics, indent=2))
    names = "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds"
    (path / "history.csv").write_text("\n".join([names, *(",".join(map(repr, row)) for row in rows)]) + "\n")
    return run_id


def _history(epochs: int, reached: float, rate: float, draw: random.Random) -> list[list[float]]:
    rows: list[list[float]] = []
    reached = min(0.99, reached + draw.gauss(0, 0.015))
    for epoch in range(1, epochs + 1):
        learned = 1 - math.exp(-6 * epoch / epochs)
        accuracy = min(1.0, 0.5 + 0.48 * learned + draw.gauss(0, 0.004))
        val_accuracy = min(1.0, 0.5 + (reached - 0.5) * learned + draw.gauss(0, 0.012))
        val_loss = 0.69 - 0.4 * learned + 0.35 * (epoch / epochs) ** 2 + draw.gauss(0, 0.01)
        rows.append([epoch, 0.7 - 0.65 * learned, accuracy, val_loss, val_accuracy, rate, 2.5])
    return rows


def _metrics(rows: list[list[float]], tested: int) -> dict[str, object]:
    best, last = min(rows, key=lambda row: row[3]), rows[-1]
    right = round(best[4] * tested)
    return {
        "epochs": len(rows), "best_epoch": int(best[0]), "val_loss": best[3], "val_accuracy": best[4],
        "last_accuracy": last[2], "last_val_accuracy": last[4], "max_val_accuracy": max(row[4] for row in rows),
        "test_loss": 0.5 if tested else None, "test_accuracy": right / tested if tested else None,
        "test_accuracy_interval": list(wilson_interval(right, tested)) if tested else None, "test_count": tested,
        "parameters": {"total": 126_177, "trainable": 126_177, "frozen": 0}, "seconds": {"training": 2.5 * len(rows)},
    }  # fmt: skip
