"""What `model.fit` needs from us: compile, randomness from (seed, epoch), and a callback that records."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cvcore.batches import TrainingBatches, epoch_seed
from cvcore.errors import CvcoreError
from cvcore.recipe import Recipe

if TYPE_CHECKING:
    from cvcore.strategies import Phase
    from cvcore.training import Session


def compile_model(model: keras.Model, recipe: Recipe) -> None:
    """Compile a model with a recipe's optimizer, the loss of its last layer, and accuracy."""
    optimizer: keras.optimizers.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
    elif recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(recipe.learning_rate)
    else:
        optimizer = keras.optimizers.RMSprop(recipe.learning_rate)
    optimizer.build(model.trainable_variables)
    two_classes = model.output_shape[-1] == 1
    loss = "binary_crossentropy" if two_classes else "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], jit_compile=_xla())


def predicting(model: keras.Model) -> keras.Model:
    """Return the model made ready for `predict`."""
    if not model.compiled:
        model.compile(jit_compile=_xla())
    return model


def _xla() -> bool | str:
    # On a CPU these networks train 1.6 to 3 times faster without XLA: benchmarks/training_step.py.
    return False if keras.config.backend() == "tensorflow" else "auto"


def reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Set the random state of dropout and augmentation from (seed, epoch), so that a resumed epoch repeats itself."""
    for index, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign([epoch_seed(seed, epoch, use=index + 1), 0])


def values(variables: list[Any]) -> list[np.ndarray]:
    """Copy variables into numpy arrays."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: list[Any], arrays: list[np.ndarray]) -> None:
    """Set variables from numpy arrays, one for one."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


class Recorder(keras.callbacks.Callback):
    """Record each batch and epoch into the run directory, and keep the best weights."""

    def __init__(self, session: Session, phase: Phase, batches: TrainingBatches, changing: list[Any]) -> None:
        super().__init__()
        self.session, self.phase, self.batches, self.changing = session, phase, batches, changing
        self.began = self.first_step = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.began = time.perf_counter()
        number = len(self.session.state.rows) + 1
        self.batches.epoch = number
        reseed(self.model, self.session.seed, number)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if batch == 0:
            self.first_step = time.perf_counter() - self.began
        self.session.report(
            self.phase.name,
            batch + 1,
            len(self.batches),
            seconds_left=self.seconds_left(batch + 1),
            loss=_finite(logs.get("loss")),
            accuracy=_finite(logs.get("accuracy")),
        )

    def seconds_left(self, step: int) -> float | None:
        """Estimate the seconds left in this phase: from its finished epochs, or from this first epoch's steps.

        The first step of a phase compiles the network and says nothing about the others: None after it alone.
        """
        state, elapsed = self.session.state, time.perf_counter() - self.began
        finished = [row["seconds"] for row in state.rows[len(state.rows) - state.phase_epochs :]]
        if not finished and step < 2:
            return None
        a_step = (elapsed - self.first_step) / max(1, step - 1)
        an_epoch = float(np.median(finished[1:] or finished)) if finished else a_step * len(self.batches)
        return round(max(0.0, an_epoch * (self.phase.recipe.epochs - state.phase_epochs) - elapsed), 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs, state = logs or {}, self.session.state
        number = len(state.rows) + 1
        if not (np.isfinite(logs["loss"]) and np.isfinite(logs["val_loss"])):
            raise CvcoreError(
                f"the loss is no longer a finite number in epoch {number}; start a run with a lower learning_rate than "
                f"{self.phase.recipe.learning_rate:g}"
            )
        seconds = time.perf_counter() - self.began
        row = {
            "epoch": number,
            **{name: float(logs[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")},
            "learning_rate": float(f"{float(self.model.optimizer.learning_rate):.6g}"),  # kept as float32
            "seconds": round(seconds, 3),
        }
        state.rows.append(row)
        state.seconds[self.phase.name] = state.seconds.get(self.phase.name, 0.0) + seconds
        state.finish_epoch(row["val_loss"], values(self.changing), values(self.model.optimizer.variables))
        state.elapsed = self.session.elapsed()
        self.session.save_state()
        self.session.writer.append_history(row)
        if state.waited_enough(self.phase.recipe.early_stopping_patience):
            self.model.stop_training = True


class StopCheck(keras.callbacks.Callback):
    """Stop a prediction at a batch boundary when asked to."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.session.report("evaluating", 0, 0)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
