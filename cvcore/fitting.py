"""What `model.fit` needs from us: compile, randomness from (seed, epoch), and callbacks that guard and record."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cvcore.batches import EvaluationBatches, TrainingBatches, epoch_seed
from cvcore.callbacks import callbacks_of, close, replay
from cvcore.errors import CvcoreError
from cvcore.recipe import Recipe
from cvcore.run_writer import RunWriter, disk_errors_as_sentences
from cvcore.stored_epochs import fit_stored, serves

if TYPE_CHECKING:
    from cvcore.strategies import Phase
    from cvcore.training import Session


def compile_model(model: keras.Model, recipe: Recipe) -> None:
    """Compile a model with a new optimizer of a recipe's, the loss of its last layer, and accuracy."""
    optimizer: keras.optimizers.Optimizer
    rate: Any = recipe.learning_rate
    if recipe.learning_rate_decay:
        rate = keras.optimizers.schedules.InverseTimeDecay(rate, 1, recipe.learning_rate_decay)
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
    elif recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate)
    else:
        optimizer = keras.optimizers.RMSprop(rate)
    optimizer.build(model.trainable_variables)
    compile_with(model, optimizer)


def compile_with(model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> None:
    """Compile a model with this optimizer, or None to evaluate it only, the loss of its last layer, and accuracy."""
    sigmoid = model.output_shape[-1] == 1
    loss = "binary_crossentropy" if sigmoid else "sparse_categorical_crossentropy"
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], jit_compile=_xla())


def predicting(model: keras.Model) -> keras.Model:
    """Return the model made ready for `predict`."""
    if not model.compiled:
        model.compile(jit_compile=_xla())
    return model


def _xla() -> bool | str:
    # On a CPU these networks train 1.6 to 3 times faster without XLA: benchmarks/training_step.py.
    return False if keras.config.backend() == "tensorflow" else "auto"


def reseed(layers: list[Any], seed: int, epoch: int) -> None:
    """Set the random state of dropout and augmentation from (seed, epoch), so that a resumed epoch repeats itself.

    Args:
        layers: in an order that is that of the run: a layer's place decides what it draws.
        seed: of the run.
        epoch: of the run, from 1.
    """
    for index, layer in enumerate(layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign([epoch_seed(seed, epoch, use=index + 1), 0])
    if keras.config.backend() == "torch":  # its dropout asks the generator of the process instead of the layer's
        keras.utils.set_random_seed(epoch_seed(seed, epoch, use=0))


def values(variables: list[Any]) -> list[np.ndarray]:
    """Copy variables into numpy arrays."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: list[Any], arrays: list[np.ndarray]) -> None:
    """Set variables from numpy arrays, one for one."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def fit(
    model: keras.Model, session: Session, phase: Phase, batches: TrainingBatches, validation: EvaluationBatches,
    changing: list[Any], *, layers: list[Any], evaluated: keras.Model, kept: keras.Model | None = None,
    stored: bool = False,
) -> None:  # fmt: skip
    """Train a compiled model from where the session's state is in this phase to the phase's end.

    Args:
        model: compiled with a new optimizer.
        session: records what happens.
        phase: says for how long and with which callbacks.
        batches: of the training split.
        validation: of the validation split.
        changing: the variables whose best values are kept.
        layers: as `reseed` takes them.
        evaluated: the model that takes what `validation` gives: the same one, or a compiled one of the same weights.
        kept: the model that ModelCheckpoint keeps; None for the one that is trained.
        stored: whether the batches of both splits are stored activations.

    Raises:
        CvcoreError: the run directory cannot be written, or the loss is no longer a finite number.
    """
    state = session.state
    asked_for = callbacks_of(phase, session.path, state.phase_rows, kept)
    fence, recorder = Fence(session.writer), Recorder(session, phase, batches, changing, asked_for, layers)
    apart = [] if evaluated is model else [EvaluationApart(evaluated, validation)]
    called = [*apart, fence, *asked_for, FenceEnd(fence), recorder]
    epochs = {"initial_epoch": state.phase_epochs, "epochs": phase.recipe.epochs}
    try:
        with disk_errors_as_sentences(session.path):
            # What is fine-tuned takes long enough a step for Keras' own work not to matter.
            if stored and phase.trainable == "head" and serves(batches, validation):
                fit_stored(model, batches, validation, called, **epochs)
                return
            model.fit(
                batches,
                validation_data=None if apart else validation,
                callbacks=called,
                verbose=0,
                shuffle=False,
                **epochs,
            )
    finally:
        close(asked_for)
        fence.release()


class EvaluationApart(keras.callbacks.Callback):
    """Evaluate after each epoch on another model of the same weights, as if `fit` had done so; the first callback."""

    def __init__(self, evaluated: keras.Model, validation: EvaluationBatches) -> None:
        super().__init__()
        self.evaluated, self.validation = evaluated, validation

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        found = self.evaluated.evaluate(self.validation, verbose=0, return_dict=True)
        if logs is not None:  # which the callbacks after this one are given too
            logs.update({f"val_{name}": value for name, value in found.items()})


class Fence(keras.callbacks.Callback):
    """Keep the run locked while the callbacks after it write their files, up to `FenceEnd`.

    A superseded attempt's are not called any more.
    """

    def __init__(self, writer: RunWriter) -> None:
        super().__init__()
        self.writer = writer
        self._held = ExitStack()

    def hold(self) -> None:
        self.release()
        self._held.enter_context(self.writer.holding())

    def release(self) -> None:
        self._held.close()

    def set_model(self, model: keras.Model) -> None:  # in which TensorBoard begins its logs
        super().set_model(model)
        self.hold()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.hold()  # CSVLogger begins its file anew

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self.hold()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.hold()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.hold()


class FenceEnd(keras.callbacks.Callback):
    """Release the run after the callbacks that a fence guards."""

    def __init__(self, fence: Fence) -> None:
        super().__init__()
        self.fence = fence

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.fence.release()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.fence.release()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self.fence.release()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.fence.release()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.fence.release()


class Recorder(keras.callbacks.Callback):
    """Record each batch and epoch into the run directory, and keep the best weights; the last of the callbacks."""

    def __init__(
        self, session: Session, phase: Phase, batches: TrainingBatches, changing: list[Any],
        others: list[keras.callbacks.Callback], layers: list[Any],
    ) -> None:  # fmt: skip
        super().__init__()
        self.session, self.phase, self.batches, self.changing = session, phase, batches, changing
        self.others, self.layers = others, layers
        self.began = 0.0
        self.first: tuple[int, float] | None = None  # steps of this epoch when it was first told of any, and seconds

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        state = self.session.state
        with self.session.writer.holding():
            replay(self.others, state.phase_rows)
        if state.optimizer:
            assign(self.model.optimizer.variables, state.optimizer)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.began, self.first = time.perf_counter(), None
        number = len(self.session.state.rows) + 1
        self.batches.epoch = number
        reseed(self.layers, self.session.seed, number)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        self.first = self.first or (batch + 1, time.perf_counter() - self.began)
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
        finished = [row["seconds"] for row in state.phase_rows]
        steps, seconds = self.first or (step, elapsed)
        if not finished and step <= steps:
            return None
        a_step = (elapsed - seconds) / max(1, step - steps)
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
            "learning_rate": float(f"{self.rate_of_last_step(logs):.6g}"),  # kept as float32
            "seconds": round(seconds, 3),
        }
        state.rows.append(row)
        state.seconds[self.phase.name] = state.seconds.get(self.phase.name, 0.0) + seconds
        state.finish_epoch(row["val_loss"], values(self.changing), values(self.model.optimizer.variables))
        state.phase_ended = self.model.stop_training or state.phase_epochs >= self.phase.recipe.epochs
        state.elapsed = self.session.elapsed()
        self.session.save_state()
        self.session.writer.append_history(row)

    def rate_of_last_step(self, logs: dict[str, Any]) -> float:
        """Return the learning rate that the epoch's last step was taken with."""
        if "learning_rate" in logs:  # noted by the callback that may since have set the next epoch's
            return logs["learning_rate"]
        recipe, optimizer = self.phase.recipe, self.model.optimizer
        if recipe.learning_rate_decay:
            steps = int(keras.ops.convert_to_numpy(optimizer.iterations)) - 1
            return recipe.learning_rate / (1 + recipe.learning_rate_decay * steps)
        return float(optimizer.learning_rate)


class StopCheck(keras.callbacks.Callback):
    """Stop a prediction or an evaluation at a batch boundary when asked to."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.session.report("evaluating", 0, 0)

    on_test_batch_end = on_predict_batch_end


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
