"""All saved runs as the pages see them: listed at most once a second for all browsers, what follows worked out once."""

import threading
import time
from functools import cached_property
from itertools import count
from pathlib import Path

from cvcore import comparison, kinds, run_directory, settings
from cvcore.run_directory import RUN_ID, Run

FRESH = 1.0  # seconds
_FOLDERS = 4  # kept at once; a server has one, tests have many


class SavedRuns:
    """All runs as they were listed at one moment. Every session shares it: nothing in it is ever changed.

    Attributes:
        runs: newest first, damaged ones among them.
        number: another one whenever a run.json or metrics.json has changed; the key of what is drawn from all runs.
    """

    def __init__(self, runs: list[Run], number: int) -> None:
        self.runs = tuple(runs)
        self.number = number

    @cached_property
    def damaged(self) -> list[Run]:
        """Those that cannot be read, newest first."""
        return [run for run in self.runs if run.status == "damaged"]

    @cached_property
    def whole(self) -> list[Run]:
        """All others, in the order of the lesson."""
        return comparison.in_teaching_order([run for run in self.runs if run.status != "damaged"])

    @cached_property
    def opening(self) -> list[Run]:
        """What a comparison opens on: recorded runs, else the newest."""
        newest = [run for run in self.runs if run.status != "damaged"]
        return comparison.opening_runs(self.whole) or newest[:4]

    @cached_property
    def together(self) -> dict[str, tuple[str, ...]]:
        """Name of a choice of many runs, such as `all` -> their ids."""
        return {name: ids for name, (_, ids) in kinds.together(self.whole).items()}

    @cached_property
    def labels(self) -> dict[str, str]:
        """What a picker of runs offers: name of a choice of many, or run id -> what tells it from all others."""
        labels = comparison.run_labels(self.whole)
        taken = set(labels.values())
        many = {name: label for name, (label, _) in kinds.together(self.whole).items() if label not in taken}
        return {**many, **labels}


_lock = threading.Lock()
_listed: dict[Path, tuple[float, SavedRuns]] = {}  # folder -> when its list was made (monotonic), the list
_numbers = count(1)


def saved_runs() -> SavedRuns:
    """List the runs of `settings.runs_folder()`, at most a second old."""
    folder = settings.runs_folder()
    with _lock:
        made, before = _listed.pop(folder, (float("-inf"), None))
        now = time.monotonic()
        if before is None or now - made >= FRESH:
            runs = run_directory.list_runs(folder)
            # A run that trains changes its history and its progress, not what this list is made of.
            if before is None or list(before.runs) != runs:
                before = SavedRuns(runs, next(_numbers))
            made = now
        _listed[folder] = made, before
        while len(_listed) > _FOLDERS:
            del _listed[next(iter(_listed))]
        return before


def look_for(ids: list[str]) -> None:
    """List the runs anew at the next use if one of these ids is there by now, as that of an address just made."""
    folder = settings.runs_folder()
    with _lock:
        listed = _listed.get(folder)
    known = {run.id for run in listed[1].runs} if listed else set()
    if any(RUN_ID.fullmatch(run_id) and (folder / run_id).is_dir() for run_id in ids if run_id not in known):
        forget()


def forget() -> None:
    """List the runs anew at the next use, as after a launch."""
    with _lock:
        _listed.update({folder: (float("-inf"), before) for folder, (_, before) in _listed.items()})
