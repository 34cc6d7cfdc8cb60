"""Train runs in children that kill themselves with SIGKILL; started by test_resume, not a test itself.

python kill_while_training.py RUNS_FOLDER LESSON_FOLDER MOMENT…   prints one run id a line.

TensorFlow is imported once and each child is forked before it computes anything: an import costs seconds.
"""

import os
import signal
import sys
from pathlib import Path

from tiny_lessons import tiny_augmented, tiny_stubborn

from cvcore import api
from cvcore.datasets import open_dataset
from cvcore.run_directory import list_runs
from cvcore.run_history import HISTORY_COLUMNS
from cvcore.run_writer import RunWriter
from cvcore.training_state import TrainingState

TRAINING = ("training", "head", "fine-tuning")  # progress of other kinds has other names


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(epoch, step):
    """Kill after a batch, or, where many are taken at once, after the first of those that have this one."""

    def on_progress(now):
        if now["epoch"] == epoch and now["step"] >= step and now["phase"] in TRAINING:
            die()

    return on_progress


def in_state_write(epoch):
    """Kill when half of the state file that ends an epoch has reached the disk."""
    whole = TrainingState.save

    def save(state, path):
        whole(state, path)
        if len(state.rows) == epoch:
            os.truncate(path, path.stat().st_size // 2)
            die()

    TrainingState.save = save


def in_history_line(epoch):
    """Kill when half of an epoch's line is in history.csv, its state already saved."""
    whole = RunWriter.append_history

    def append(writer, row):
        if row["epoch"] != epoch:
            return whole(writer, row)
        line = ",".join(str(row[name]) for name in HISTORY_COLUMNS)
        with (writer.path / "history.csv").open("a") as stream:
            stream.write(line[: len(line) // 2])
        die()

    RunWriter.append_history = append


MOMENTS = {
    "after epoch 1": (tiny_augmented, lambda: at_step(2, 1)),
    "in mid-epoch": (tiny_augmented, lambda: at_step(3, 2)),
    "in a state write": (tiny_augmented, lambda: in_state_write(2)),
    "in a history line": (tiny_augmented, lambda: in_history_line(2)),
    "while early stopping counts": (tiny_stubborn, lambda: at_step(3, 1)),
    "as fine-tuning begins": (tiny_stubborn, lambda: at_step(4, 1)),
    "within fine-tuning": (tiny_stubborn, lambda: at_step(5, 2)),
}


def main(runs, lesson, moments):
    dataset = open_dataset(lesson)
    for moment in moments:
        before = {run.id for run in list_runs(runs)}
        child = os.fork()
        if child == 0:
            recipe, arm = MOMENTS[moment]
            api.train(recipe, dataset, runs=runs, on_progress=arm())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"the child was not killed {moment}")
        (run_id,) = {run.id for run in list_runs(runs)} - before
        print(run_id, flush=True)


if __name__ == "__main__":
    import cvcore.training  # noqa: F401

    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
