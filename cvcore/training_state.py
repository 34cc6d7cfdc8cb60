"""Everything a resumed run needs, in one file replaced whole: state.npz."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np

from cvcore.errors import CvcoreError
from cvcore.run_directory import STATE_FILE


@dataclass
class TrainingState:
    """Where a run is.

    Attributes:
        phase: index of the phase that is under way, from 0.
        phase_epochs: its epochs already finished.
        rows: all finished epochs, as in history.csv.
        best_val_loss: lowest so far in the whole run, None before the first epoch ends.
        phase_best_val_loss: lowest so far in this phase; the next phase starts from its weights.
        phase_ended: the phase has had all its epochs, or was stopped early.
        seconds: training seconds of each phase by name.
        elapsed: wall seconds up to the last finished epoch, of all attempts.
        weights: the weights that the run changes, now.
        best: those weights at the run's best epoch.
        phase_best: those weights at this phase's best epoch.
        optimizer: the optimizer's variables.
    """

    phase: int = 0
    phase_epochs: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    best_val_loss: float | None = None
    phase_best_val_loss: float | None = None
    phase_ended: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    elapsed: float = 0.0
    weights: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)
    phase_best: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)

    ARRAYS: ClassVar = ("weights", "best", "phase_best", "optimizer")

    @property
    def phase_rows(self) -> list[dict[str, Any]]:
        """The finished epochs of the phase that is under way."""
        return self.rows[len(self.rows) - self.phase_epochs :]

    def finish_epoch(self, val_loss: float, weights: list[np.ndarray], optimizer: list[np.ndarray]) -> None:
        """Take over what an epoch ended with; keep its weights as the best where its val_loss is the lowest."""
        self.phase_epochs += 1
        self.weights, self.optimizer = weights, optimizer
        if self.phase_best_val_loss is None or val_loss < self.phase_best_val_loss:
            self.phase_best_val_loss, self.phase_best = val_loss, weights
        if self.best_val_loss is None or val_loss < self.best_val_loss:
            self.best_val_loss, self.best = val_loss, weights

    def begin_phase(self, index: int) -> None:
        """Forget what belongs to the phase before."""
        self.phase, self.phase_epochs, self.phase_ended = index, 0, False
        self.phase_best_val_loss, self.phase_best, self.optimizer = None, [], []

    def save(self, path: Path) -> None:
        """Write the state into a file."""
        numbers = {name: value for name, value in vars(self).items() if name not in self.ARRAYS}
        arrays = {
            f"{name}_{index:04d}": array for name in self.ARRAYS for index, array in enumerate(getattr(self, name))
        }
        numbers["counts"] = {name: len(getattr(self, name)) for name in self.ARRAYS}
        meta = np.frombuffer(json.dumps(numbers).encode(), np.uint8)
        with path.open("wb") as stream:
            np.savez(stream, meta=meta, **arrays)

    @classmethod
    def load(cls, folder: Path) -> TrainingState:
        """Read the state file, or return the state of a run that has not begun.

        Raises:
            CvcoreError: the file is there but cannot be read.
        """
        if not (folder / STATE_FILE).is_file():
            return cls()
        try:
            with np.load(folder / STATE_FILE, allow_pickle=False) as stored:
                numbers: dict[str, Any] = json.loads(stored["meta"].tobytes())
                counts = numbers.pop("counts")
                arrays: dict[str, Any] = {
                    name: [stored[f"{name}_{i:04d}"] for i in range(counts[name])] for name in cls.ARRAYS
                }
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise CvcoreError(
                f"the saved state of run {folder.name} cannot be read; delete its {STATE_FILE} to start from epoch 1"
            ) from error
        known = {one.name for one in fields(cls)}  # an older version counted for early stopping here
        return cls(**{name: value for name, value in numbers.items() if name in known}, **arrays)
