"""Training a head on stored activations in memory, many steps a call: a step then costs little but its mathematics.

TensorFlow's `fit` works a millisecond or two around each step, most of what a head takes; here a stretch of steps is
one compiled call, which gathers the rows of each batch itself. Steps, order and randomness are those of `fit`, to the
last bit. So are the callbacks, but for those of batches: they are called once a stretch, with its first and last step.

The other backends train with `fit`: JAX's adds a tenth of a millisecond to a step, and a loop of its own takes longer
to compile than that adds up to; PyTorch's steps take as long in any loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from cvcore import devices
from cvcore.batches import EvaluationBatches, Rows, TrainingBatches
from cvcore.memory import let_go

IN_MEMORY = 256e6  # bytes of activations of both splits; larger ones are read batch by batch
OPERATIONS = 4e9  # floating point operations of a stretch: a stop is noticed between two of them
LONGEST = 256  # steps of a stretch
READ = 8  # operations that take as long as reading a weight in a step
UPDATED = 64  # and as Adam's pass over the weight, its gradient and its averages


def serves(batches: TrainingBatches, validation: EvaluationBatches) -> bool:
    """Say whether `fit_stored` is to train on these activations."""
    bytes_in_all = sum(_bytes(inputs) for inputs in (*batches.views, validation.inputs))
    return keras.config.backend() == "tensorflow" and bytes_in_all <= IN_MEMORY


def fit_stored(
    model: keras.Model, batches: TrainingBatches, validation: EvaluationBatches, callbacks: list[Any], *,
    initial_epoch: int, epochs: int,
) -> None:  # fmt: skip
    """Train as `model.fit(batches, validation_data=validation, shuffle=False, ...)` does.

    Args:
        model: compiled; takes what the batches give, as float32.
        batches: of the training split; before each epoch a callback sets which one it is.
        validation: of the validation split.
        callbacks: as `fit` takes them.
        initial_epoch: how many epochs are finished.
        epochs: how many there will be then.
    """
    called = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs, steps=len(batches), verbose=0)
    training = _Steps(model, batches.views, batches.labels, batches.batch_size, trains=True)
    evaluation = _Steps(model, [validation.inputs], validation.labels, validation.batch_size, trains=False)
    model.stop_training = False
    called.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        called.on_epoch_begin(epoch)
        for first, last, view, rows in training.stretches(batches.passes()):
            called.on_train_batch_begin(first)
            training.take(view, rows)
            logs = _figures(model)
            called.on_train_batch_end(last, logs)
        model.reset_metrics()
        called.on_test_begin()
        for first, last, view, rows in evaluation.stretches([(0, validation.rows)]):
            called.on_test_batch_begin(first)
            evaluation.take(view, rows)
            called.on_test_batch_end(last, _figures(model))
        evaluated = _figures(model)
        called.on_test_end(evaluated)
        logs = {**logs, **{f"val_{name}": value for name, value in evaluated.items()}}
        called.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    called.on_train_end(logs)


class _Steps:
    """A model's training or test steps on rows of activations that are held in memory."""

    def __init__(
        self, model: keras.Model, views: list[np.ndarray | Rows], labels: np.ndarray, batch_size: int, *, trains: bool
    ) -> None:
        self._size, self._step = batch_size, model.train_step if trains else model.test_step
        self._views = [_in_memory(inputs) for inputs in views]
        self._labels = ops.convert_to_tensor(labels)
        self._longest = _longest(model.count_params(), batch_size, len(labels), trains)
        self._call = devices.tensorflow_graph(self._several)
        # The variables of loss and metrics are made now: in a loop of the graph they could not be.
        inputs, labels = _batch(self._views[0], self._labels, np.zeros(1, np.int32))
        outputs = model(inputs, training=False)
        model.compute_loss(inputs, labels, outputs, training=False)
        model.compute_metrics(inputs, labels, outputs)

    def stretches(self, passes: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """Divide rows into stretches of steps: the first step, the last, the view, the rows.

        Args:
            passes: (view, rows in order) for each part of an epoch in which batches follow one another.
        """
        step = 0
        for view, rows in passes:
            for start in range(0, len(rows), self._longest * self._size):
                stretch = rows[start : start + self._longest * self._size]
                steps = -(-len(stretch) // self._size)
                yield step, step + steps - 1, view, stretch
                step += steps

    def take(self, view: int, rows: np.ndarray) -> None:
        """Take the steps of one stretch."""
        padded = np.zeros(self._longest * self._size, np.int32)  # one shape: it is compiled once
        padded[: len(rows)] = rows
        self._call(self._views[view], self._labels, ops.convert_to_tensor(padded), ops.convert_to_tensor(len(rows)))

    def _several(self, inputs: Any, labels: Any, rows: Any, count: Any) -> None:
        size = self._size

        def one(index: Any, unused: Any) -> Any:
            self._step(_batch(inputs, labels, rows[index * size : ops.minimum((index + 1) * size, count)]))
            return unused

        ops.fori_loop(0, (count + size - 1) // size, one, 0)


def _longest(weights: int, batch_size: int, rows: int, trains: bool) -> int:
    """Return how many steps a stretch has."""
    of_a_step = weights * ((6 * batch_size + UPDATED) if trains else (2 * batch_size + READ))
    return int(max(1, min(LONGEST, OPERATIONS // max(1, of_a_step), -(-rows // batch_size))))


def _batch(inputs: Any, labels: Any, rows: Any) -> tuple[Any, Any]:
    return ops.cast(ops.take(inputs, rows, axis=0), "float32"), ops.take(labels, rows, axis=0)


def _figures(model: keras.Model) -> dict[str, float]:
    return {name: float(value) for name, value in model.get_metrics_result().items()}


def _bytes(inputs: np.ndarray | Rows) -> int:
    source = inputs.base if isinstance(inputs, Rows) else inputs
    return int(np.prod(inputs.shape)) * source.dtype.itemsize


def _in_memory(inputs: np.ndarray | Rows) -> Any:
    tensor = ops.convert_to_tensor(inputs[:])
    let_go(inputs)
    return tensor
