"""Train tiny runs with the Keras backend that KERAS_BACKEND names: RUNS_FOLDER PICTURES, run ids as JSON on stdout.

One process for all: they share the time that a backend takes to load and to compile.
"""

import contextlib
import json
import runpy
import sys
from pathlib import Path

from tiny_lessons import tiny_augmented, tiny_features, tiny_features_augmented, tiny_finetune, tiny_scratch

from cvcore import api
from cvcore.recipe import Recipe
from cvcore.run_directory import Run, list_runs, request_stop

# 18 training pictures: batches of 9 compile one training step each, those of 8 a second one for the last two.
RECIPES: dict[str, Recipe] = {
    "scratch": tiny_scratch.with_changes(color_mode="grayscale", preprocessing="mean_image", learning_rate_decay=0.1),
    "augmented": tiny_augmented.with_changes(batch_size=9, steps_per_epoch=3, validation_steps=1, epochs=2),
    "features": tiny_features.with_changes(batch_size=9, dense=(4,), dense_batch_norm=True, dense_dropout=0.2,
                                           classifier_activation="softmax"),
    "callbacks": tiny_features.with_changes(batch_size=9, epochs=6, learning_rate=1e-30, early_stopping_patience=4,
                                            reduce_lr_patience=2, reduce_lr_monitor="val_accuracy", csv_logger=True,
                                            model_checkpoint="val_loss"),
    "end to end": tiny_features_augmented.with_changes(batch_size=9, epochs=1),
    "finetune": tiny_finetune.with_changes(batch_size=9, starts_from={"batch_size": 9, "epochs": 1}),
}  # fmt: skip
# The epoch in whose first step a second run of the recipe is asked to stop, to be resumed.
STOPPED = {"callbacks": 4, "finetune": 3}


def train_and_stop(name: str, pictures: Path, runs: Path) -> Run:
    def on_progress(now: dict) -> None:
        if (now["epoch"], now["step"]) == (STOPPED[name], 1):
            request_stop(next(run for run in list_runs(runs) if run.status == "running"))

    run = api.train(RECIPES[name], pictures, runs=runs, on_progress=on_progress)
    assert (run.status, len(run.history())) == ("stopped", STOPPED[name] - 1)
    return run


def repeat_by_script(run: Run, pictures: Path, output: Path) -> None:
    sys.argv = [str(run.path / "code.py"), str(pictures)]
    with output.open("w") as stream, contextlib.redirect_stdout(stream):
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    runs, pictures = Path(sys.argv[1]), Path(sys.argv[2])
    ids = {name: api.train(recipe, pictures, runs=runs).id for name, recipe in RECIPES.items()}
    ids |= {f"{name}, resumed": api.resume(train_and_stop(name, pictures, runs)).id for name in STOPPED}
    repeat_by_script(api.load(ids["augmented"], runs), pictures, runs / "script.txt")
    print(json.dumps(ids))
