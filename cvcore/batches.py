"""Batches for Keras: pictures or features from memory maps, the order derived from (seed, epoch)."""

from __future__ import annotations

import keras
import numpy as np


def epoch_seed(seed: int, epoch: int, use: int) -> int:
    """Derive one 31-bit seed for one use in one epoch, so that a resumed epoch repeats itself."""
    return int(np.random.SeedSequence((seed, epoch, use)).generate_state(1)[0] >> 1)


class TrainingBatches(keras.utils.PyDataset):
    """Batches in a new order each epoch; set `epoch` before the epoch begins.

    Args:
        inputs: (n, ...) array or memory map, pictures 0..255 or features.
        labels: int (n,).
        batch_size: rows a batch; the last one may be smaller.
        seed: of the run.
    """

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._inputs = inputs
        self._labels = labels
        self._batch_size = batch_size
        self._seed = seed
        self.epoch = 1

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        order = np.random.default_rng(epoch_seed(self._seed, self.epoch, use=0)).permutation(len(self._labels))
        rows = order[index * self._batch_size : (index + 1) * self._batch_size]
        return np.asarray(self._inputs[rows], np.float32), self._labels[rows]


class EvaluationBatches(keras.utils.PyDataset):
    """Batches in the order of the split.

    Args:
        inputs: (n, ...) array or memory map.
        labels: int (n,).
        batch_size: rows a batch.
    """

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, batch_size: int = 64) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._inputs = inputs
        self._labels = labels
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._labels) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        return np.asarray(self._inputs[rows], np.float32), self._labels[rows]
