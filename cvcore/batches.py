"""Batches for Keras: pictures or features from memory maps, the order derived from (seed, pass)."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from cvcore.memory import let_go
from cvcore.views import view_of_pass


def epoch_seed(seed: int, epoch: int, use: int) -> int:
    """Derive one 31-bit seed for one use in one epoch, so that a resumed epoch repeats itself."""
    return int(np.random.SeedSequence((seed, epoch, use)).generate_state(1)[0] >> 1)


class Rows:
    """Some rows of an array or a memory map, read when they are asked for.

    Args:
        inputs: (n, ...).
        rows: int (m,), indices into it.
    """

    def __init__(self, inputs: np.ndarray, rows: np.ndarray) -> None:
        self._inputs, self._rows = inputs, rows
        self.shape = (len(rows), *inputs.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return self._inputs[self._rows[index]]

    @property
    def base(self) -> np.ndarray:
        """The array that these are rows of."""
        return self._inputs


def read(inputs: np.ndarray | Rows, rows: np.ndarray | slice) -> np.ndarray:
    """Read some rows as float32; what else of a large memory map was read leaves this process' memory."""
    taken = np.asarray(inputs[rows], np.float32)
    let_go(inputs)
    return taken


class TrainingBatches(keras.utils.PyDataset):
    """Batches in a new order each pass over the pictures; set `epoch` before the epoch begins.

    An epoch is one pass, or `steps_per_epoch` batches of a stream of passes that goes on from epoch to epoch.

    Args:
        inputs: (n, ...) array, memory map or some rows of one, pictures 0..255 or activations; or a list of
            them, stored views of the same n pictures, of which each pass takes the next.
        labels: int (n,).
        batch_size: rows a batch; the last one of a pass may be smaller.
        seed: of the run.
        steps_per_epoch: batches an epoch; None for one pass.
    """

    def __init__(
        self,
        inputs: np.ndarray | Rows | list[np.ndarray | Rows],
        labels: np.ndarray,
        batch_size: int,
        seed: int,
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.views = inputs if isinstance(inputs, list) else [inputs]
        self.labels = labels
        self.batch_size = batch_size
        self._seed = seed
        self._per_pass = -(-len(labels) // batch_size)
        self._steps = steps_per_epoch or self._per_pass
        self._order: tuple[int, np.ndarray] = (0, np.empty(0, np.int64))  # of the pass that was asked for last
        self.epoch = 1

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        passed, place = divmod((self.epoch - 1) * self._steps + index, self._per_pass)
        rows = self._order_of(passed + 1)[place * self.batch_size : (place + 1) * self.batch_size]
        inputs = self.views[view_of_pass(passed + 1, len(self.views))]
        return read(inputs, rows), self.labels[rows]

    def passes(self) -> Iterator[tuple[int, np.ndarray]]:
        """Give the rows of this epoch's batches, those of each pass in one piece, with the view that the pass takes."""
        step, end = (self.epoch - 1) * self._steps, self.epoch * self._steps
        while step < end:
            passed, place = divmod(step, self._per_pass)
            steps = min(self._per_pass - place, end - step)
            rows = self._order_of(passed + 1)[place * self.batch_size : (place + steps) * self.batch_size]
            yield view_of_pass(passed + 1, len(self.views)), rows
            step += steps

    def _order_of(self, number: int) -> np.ndarray:
        if self._order[0] != number:
            random = np.random.default_rng(epoch_seed(self._seed, number, use=0))
            self._order = (number, random.permutation(len(self.labels)))
        return self._order[1]


class EvaluationBatches(keras.utils.PyDataset):
    """Batches in the order of the split.

    Args:
        inputs: (n, ...) array or memory map.
        labels: int (n,).
        batch_size: rows a batch.
        rows: ascending indices of the rows to take; None for all.
    """

    def __init__(
        self, inputs: np.ndarray | Rows, labels: np.ndarray, batch_size: int = 64, rows: np.ndarray | None = None
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self.inputs = inputs
        self.labels = labels
        self.batch_size = batch_size
        self.rows = np.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        return read(self.inputs, rows), self.labels[rows]


def validation_rows(pictures: int, batch_size: int, validation_steps: int | None, seed: int) -> np.ndarray | None:
    """Draw the rows of the validation split that are evaluated in training: the same in every epoch.

    Returns:
        Ascending int64 (at most validation_steps * batch_size,), or None for all of the split.
    """
    if validation_steps is None:
        return None
    order = np.random.default_rng(epoch_seed(seed, 0, use=0)).permutation(pictures)
    return np.sort(order[: validation_steps * batch_size])


def mean_image(*splits: np.ndarray | Rows) -> np.ndarray:
    """Average pictures, each pixel and channel apart.

    Args:
        *splits: uint8 (n, height, width, channels), 0..255, each.

    Returns:
        float32 (height, width, channels), 0..1, summed exactly and divided in float64.
    """
    total = np.zeros(splits[0].shape[1:], np.int64)
    for images in splits:
        for start in range(0, len(images), 256):
            total += images[start : start + 256].sum(axis=0, dtype=np.int64)
    return (total / (255 * sum(len(images) for images in splits))).astype(np.float32)
