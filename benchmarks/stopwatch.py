"""Time the parts of several ways of doing one thing in turn, and say how near the machine's limit they come."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

GEMM_SIDE = 2048
CONVOLUTION = (16, 56, 256)  # pictures, side, filters in and out


def seconds_a_call(function: Callable[..., Any], batches: Iterable[tuple[Any, ...]]) -> float:
    """Call a function with one batch after the other; return the seconds a call took on average."""
    batches = list(batches)
    began = time.perf_counter()
    for batch in batches:
        function(*batch)
    return (time.perf_counter() - began) / len(batches)


def interleaved(parts: dict[str, Callable[[], float]], pairs: int) -> dict[str, list[float]]:
    """Measure each part once a round, there and back in turn, so that a machine that slows down slows all alike.

    Args:
        parts: each does one piece of work and returns its seconds.
        pairs: rounds that count; one before them, which compiles, does not.
    """
    for part in parts.values():
        part()
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(pairs):
        for name in list(parts) if number % 2 == 0 else reversed(parts):
            seconds[name].append(parts[name]())
    return seconds


def peak_parts() -> dict[str, tuple[float, Callable[[], float]]]:
    """Return what the machine's peak is measured with: name -> (10^9 operations, a part for `interleaved`)."""
    random = np.random.default_rng(0)
    images, side, filters = CONVOLUTION
    matrix = keras.ops.convert_to_tensor(random.random((GEMM_SIDE, GEMM_SIDE), np.float32))
    maps = keras.ops.convert_to_tensor(random.random((images, side, side, filters), np.float32))
    layer = keras.layers.Conv2D(filters, 3, padding="same")
    layer.build(maps.shape)
    return {
        "matrix product": (2 * GEMM_SIDE**3 / 1e9, lambda: _timed(keras.ops.matmul, matrix, matrix)),
        "convolution": (images * 2 * 9 * (side * filters) ** 2 / 1e9, lambda: _timed(layer, maps)),
    }


def _timed(function: Callable[..., Any], *arguments: Any) -> float:
    began = time.perf_counter()
    keras.ops.convert_to_numpy(keras.ops.ravel(function(*arguments))[:1])
    return time.perf_counter() - began


def gflop(model: keras.Model, training: bool) -> float:
    """Count the 10^9 operations of convolutions and dense layers for one picture through a model.

    Args:
        model: layers in a row, perhaps with models among them.
        training: count the way back too: to what is trained, and for its own weights where a layer is trained.
    """
    total, reached = 0.0, False
    for layer in _layers(model):
        forward = _forward_gflop(layer)
        learns = training and bool(layer.trainable_weights)
        total += forward * (1 + learns + (training and reached))
        reached = reached or learns
    return total


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    found = []
    for layer in model.layers:
        found += _layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def _forward_gflop(layer: keras.layers.Layer) -> float:
    if not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
        return 0.0
    outputs = layer.output.shape[1:]
    places = int(np.prod(outputs[:-1])) if isinstance(layer, keras.layers.Conv2D) else 1
    return 2 * int(np.prod(layer.kernel.shape)) * places / 1e9


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each part's seconds."""
    return {name: statistics.median(values) for name, values in seconds.items()}


class SecondEpoch(keras.callbacks.Callback):
    """Time the second epoch of a `fit`, its validation included: the first one compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.began = self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.seconds = time.perf_counter() - self.began
