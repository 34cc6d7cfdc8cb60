"""The training process of one attempt at one run, the same on this machine and on a cluster.

    python -m cvcore.backends.job RUN_ID ATTEMPT --runs RUNS_FOLDER

It takes the attempt before Keras is imported, which costs seconds: of two such processes for one attempt the second
ends at once, without a word. Without --runs, and with CVCORE_STORE set, it trains in a copy of the run from the store.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path

from cvcore import devices, settings
from cvcore.errors import CvcoreError, RunNotFound, SupersededAttempt
from cvcore.run_directory import load_run
from cvcore.run_writer import start_attempt

FAILED = 1  # exit codes: the run failed, as its run.json says
NOT_WRITTEN = 74  # the run could not be written (EX_IOERR); stderr has the sentence


def main(run_id: str, attempt: int, runs: Path | None = None) -> int:
    """Train a queued run until it ends, in this process.

    Args:
        run_id: the run.
        attempt: the attempt that this process is for; if the run has another one by now, nothing is done.
        runs: the runs folder; default a copy from the store where CVCORE_STORE is set, else `settings.runs_folder()`.

    Returns:
        The exit code: 0 for a run that is done, stopped, or another process' matter, else FAILED or NOT_WRITTEN.
    """
    if runs is None and settings.store_url():
        from cvcore.backends.working_copy import working_copy

        try:
            with working_copy(run_id, attempt) as folder:
                return _train(run_id, attempt, folder)
        except CvcoreError as error:
            print(error, file=sys.stderr)
            return NOT_WRITTEN
    return _train(run_id, attempt, runs or settings.runs_folder())


def _train(run_id: str, attempt: int, folder: Path) -> int:
    try:
        run = load_run(run_id, folder)
        if run.status != "queued" or run.attempt != attempt:
            return 0
        writer = start_attempt(run, attempt=attempt)
    except (RunNotFound, SupersededAttempt):
        return 0
    except CvcoreError as error:
        if not isinstance(error.__cause__, OSError):  # another process has taken the attempt meanwhile
            return 0
        print(error, file=sys.stderr)
        return NOT_WRITTEN
    try:
        with writer.heartbeat():  # while Keras is imported, too
            devices.leave_out_jax()
            devices.import_keras()
            from cvcore.training import execute

            gc.freeze()  # what was imported stays; each later search for garbage would go through all of it
            ended = execute(run, writer=writer)
    except SupersededAttempt:
        return 0
    except CvcoreError as error:
        print(error, file=sys.stderr)
        return NOT_WRITTEN
    return FAILED if ended.status == "failed" else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train one attempt at one run.")
    parser.add_argument("run")
    parser.add_argument("attempt", type=int)
    parser.add_argument("--runs", type=Path)
    words = parser.parse_args()
    code = main(words.run, words.attempt, words.runs)
    sys.stderr.flush()
    os._exit(code)  # all is written, and the interpreter would take most of a second to take Keras down
