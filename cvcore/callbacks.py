"""Keras' own callbacks as a recipe asks for them, and how a resumed phase brings them up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras

from cvcore.schedules import SCHEDULES
from cvcore.strategies import Phase

# What these do depends on the epochs that have gone by, and they forget them when `fit` begins.
REPLAYED = (
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.EarlyStopping,
    keras.callbacks.CSVLogger,
)
LOGGED = ("accuracy", "loss", "val_accuracy", "val_loss")


def callbacks_of(
    phase: Phase, folder: Path, finished: list[dict[str, Any]], whole: keras.Model | None = None
) -> list[keras.callbacks.Callback]:
    """Make the callbacks that a phase's recipe asks for, in the order in which `fit` calls them.

    CSVLogger writes csv_log-PHASE.csv, TensorBoard tensorboard/PHASE/ (scalars, graph, histograms of the weights) and
    ModelCheckpoint checkpoint-PHASE.keras. On cached features the checkpoint is of the head alone, else of the whole
    network. An epoch that was cut off and repeated may be in TensorBoard's
    logs twice.

    Args:
        phase: names the files; its recipe says what is wanted.
        folder: the run directory.
        finished: rows of history.csv of the phase's finished epochs; [] unless the phase is resumed.
        whole: the model that a checkpoint and TensorBoard are of; None for the one that is fitted.
    """
    recipe, callbacks = phase.recipe, []
    if recipe.learning_rate_schedule:
        schedule = SCHEDULES[recipe.learning_rate_schedule]
        callbacks.append(
            keras.callbacks.LearningRateScheduler(lambda epoch, _: schedule(epoch, recipe.epochs, recipe.learning_rate))
        )
    if recipe.reduce_lr_patience:
        monitor = recipe.reduce_lr_monitor
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor, recipe.reduce_lr_factor, recipe.reduce_lr_patience, mode=better(monitor)
            )
        )
    if recipe.early_stopping_patience:
        monitor = recipe.early_stopping_monitor
        callbacks.append(
            keras.callbacks.EarlyStopping(monitor, patience=recipe.early_stopping_patience, mode=better(monitor))
        )
    if recipe.csv_logger:
        callbacks.append(keras.callbacks.CSVLogger(folder / f"csv_log-{phase.name}.csv"))
    if recipe.tensorboard:
        callbacks.append(_TensorBoard(folder / "tensorboard" / phase.name, whole=whole, histogram_freq=1))
    if recipe.model_checkpoint:
        monitor = recipe.model_checkpoint
        best = min if better(monitor) == "min" else max
        callbacks.append(
            _ModelCheckpoint(
                folder / f"checkpoint-{phase.name}.keras", monitor, save_best_only=True, mode=better(monitor),
                whole=whole, initial_value_threshold=best((row[monitor] for row in finished), default=None),
            )
        )  # fmt: skip
    return callbacks


def better(monitor: str) -> str:
    """Say which value of a monitored figure is the better one: `min` of a loss, `max` of an accuracy."""
    return "min" if monitor.endswith("loss") else "max"


def replay(callbacks: list[keras.callbacks.Callback], finished: list[dict[str, Any]]) -> None:
    """Put the finished epochs of a phase through callbacks that have just begun.

    The model's optimizer must be a new one: callbacks that set its learning rate do so again.

    Args:
        callbacks: from `callbacks_of`.
        finished: rows of history.csv.
    """
    replayed = [callback for callback in callbacks if isinstance(callback, REPLAYED)]
    for epoch, row in enumerate(finished):
        logs = {name: row[name] for name in LOGGED}
        for callback in replayed:
            callback.on_epoch_begin(epoch)
        for callback in replayed:
            callback.on_epoch_end(epoch, logs)


def close(callbacks: list[keras.callbacks.Callback]) -> None:
    """Close the files of callbacks whose `fit` was cut off; Keras closes them only after one that ends well."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger) and callback.csv_file is None:
            continue  # cut off before it had begun its file
        if isinstance(callback, keras.callbacks.CSVLogger | keras.callbacks.TensorBoard):
            with suppress(OSError):  # the disk is full: that is what has cut it off, and was said
                callback.on_train_end()


class _ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' callback; the file is replaced whole, and may be of a model that the one fitted is a part of."""

    def __init__(self, path: Path, *words: Any, whole: keras.Model | None = None, **more: Any) -> None:
        self.whole = whole
        self.target, self.written = path, path.with_name(f".{path.stem}.tmp.keras")
        # It fills in {names} in its path.
        super().__init__(str(self.written).replace("{", "{{").replace("}", "}}"), *words, **more)

    def set_model(self, model: keras.Model) -> None:
        super().set_model(self.whole or model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        try:
            super().on_epoch_end(epoch, logs)
            with suppress(FileNotFoundError):  # the epoch was not the best
                self.written.replace(self.target)
        finally:
            self.written.unlink(missing_ok=True)


class _TensorBoard(keras.callbacks.TensorBoard):
    """Keras' callback; a log that cannot be written is an OSError, for which TensorFlow has exceptions of its own.

    Its graph and histograms may be of a model that the one fitted is a part of.
    """

    def __init__(self, folder: Path, *, whole: keras.Model | None = None, **more: Any) -> None:
        self.whole = whole
        super().__init__(folder, **more)

    def set_model(self, model: keras.Model) -> None:
        with _os_errors():
            super().set_model(self.whole or model)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        with _os_errors():
            super().on_test_end(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with _os_errors():
            super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        with _os_errors():
            super().on_train_end(logs)


@contextmanager
def _os_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # By name: nothing here may import TensorFlow.
        if type(error).__name__ not in ("ResourceExhaustedError", "PermissionDeniedError", "NotFoundError",
                                        "FailedPreconditionError", "UnknownError"):  # fmt: skip
            raise
        raise OSError(f"TensorBoard's logs: {type(error).__name__}") from error
