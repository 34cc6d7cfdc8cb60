"""Run directories written by hand, exactly as the run directory is documented, for tests that must not train."""

import json
from pathlib import Path

from cvcore.published import get_recipe

LEARNED = {  # training and validation accuracy at the last epoch, test pictures right of 1000
    "doodle-scratch": (0.99, 0.74, 743),
    "doodle-augmented": (0.86, 0.82, 817),
    "doodle-features": (0.93, 0.90, 896),
    "doodle-finetune": (0.97, 0.93, 931),
}
# Wilson 95 % intervals of those counts, from the formula by hand.
INTERVALS = {743: (0.7150, 0.7691), 817: (0.7918, 0.8397), 896: (0.8755, 0.9134), 931: (0.9136, 0.9451)}
DATASET = {
    "id": "doodle-pets",
    "title": "Doodle pets",
    "fingerprint": "d" * 64,
    "counts": {
        "train": {"cat": 200, "dog": 200},
        "validation": {"cat": 100, "dog": 100},
        "test": {"cat": 500, "dog": 500},
    },
    "class_names": ["cat", "dog"],
    "drawn": True,
    "skipped": 0,
}


def write_run(
    folder: Path,
    recipe_id: str = "doodle-features",
    *,
    run_id: str | None = None,
    seed: int = 0,
    status: str = "done",
    epochs: int = 6,
    best_epoch: int = 4,
    dataset: dict | None = None,
    reference: bool = False,
    tested: bool = True,
    changes: dict | None = None,
    **info: object,
) -> str:
    """Write one run directory and return its id."""
    recipe = get_recipe(recipe_id).with_changes(epochs=epochs, **(changes or {}))
    run_id = run_id or f"20260101T0000{seed:02d}Z-{recipe_id}-{len(list(folder.glob('*'))):04x}"
    path = folder / run_id
    path.mkdir(parents=True)
    training, validation, correct = LEARNED.get(recipe_id, LEARNED["doodle-features"])
    document = {
        "schema": 1,
        "run": run_id,
        "status": status,
        "recipe": recipe.model_dump(mode="json"),
        "dataset": dataset or DATASET,
        "seed": seed,
        "attempt": 1,
        "owner": None,
        "process": None,
        "created": "2026-01-01T00:00:00+00:00",
        "device": {"kind": "CPU", "name": "two cores", "cores": 2, "backend": "tensorflow"},
        "timings": {"total": 2.5 * epochs},
        "error": None,
        **({"reference": True} if reference else {}),
        **info,
    }
    (path / "run.json").write_text(json.dumps(document, indent=2))
    lines = ["epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds"]
    for epoch in range(1, epochs + 1):
        part = epoch / epochs
        val_loss = 0.4 + 0.02 * abs(epoch - best_epoch)
        lines.append(
            f"{epoch},{0.7 - 0.6 * part:.6f},{0.5 + (training - 0.5) * part:.6f},"
            f"{val_loss:.6f},{0.5 + (validation - 0.5) * part:.6f},0.001,2.5"
        )
    (path / "history.csv").write_text("\n".join(lines) + "\n")
    if status == "done":
        low, high = INTERVALS[correct]
        metrics = {
            "best_epoch": best_epoch,
            "val_accuracy": 0.5 + (validation - 0.5) * best_epoch / epochs,
            "last_val_accuracy": validation,
            "max_val_accuracy": validation,
            "test_loss": 0.31 if tested else None,
            "test_accuracy": correct / 1000 if tested else None,
            "test_accuracy_interval": [low, high] if tested else None,
            "test_count": 1000 if tested else 0,
            "parameters": {"total": 250_000, "trainable": 97, "frozen": 249_903},
            "seconds": {"features": 1.5, "train": 2.5 * epochs},
            "epochs": epochs,
        }
        (path / "metrics.json").write_text(json.dumps(metrics))
        rows = ["split,path,label,predicted,cat,dog", "test,test/cat/0001.png,cat,cat,0.9,0.1"]
        (path / "predictions.csv").write_text("\n".join(rows) + "\n")
    (path / "log.txt").write_text("2026-01-01T00:00:00+00:00 attempt 1: started\n")
    return run_id


def write_reference_runs(folder: Path) -> list[str]:
    """Write the four reference runs, one a strategy."""
    return [write_run(folder, recipe_id, reference=True, epochs=12, best_epoch=9) for recipe_id in LEARNED]


def write_damaged_run(folder: Path, run_id: str = "20260102T000000Z-doodle-scratch-dead") -> str:
    """Write a run whose run.json is cut off."""
    (folder / run_id).mkdir(parents=True)
    (folder / run_id / "run.json").write_text('{"schema": 1, "run": "2026')
    return run_id
