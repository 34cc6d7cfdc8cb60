"""Train one run in this process: phases, fit, checkpoint, resume, stop. What it learns goes to the run directory."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cvcore import devices, evaluation
from cvcore.base_weights import BaseWeights, find_weights
from cvcore.batches import EvaluationBatches, Rows, TrainingBatches, mean_image, validation_rows
from cvcore.datasets import Dataset, find_dataset, pixels
from cvcore.datasets.subset import training_rows
from cvcore.errors import CvcoreError, StoppedOnRequest, SupersededAttempt
from cvcore.features import feature_key, mapped_features, stored_features
from cvcore.fitting import StopCheck, assign, compile_model, fit, predicting
from cvcore.models import Network, build, count_parameters
from cvcore.new_run import check_fits
from cvcore.recipe import make_recipe
from cvcore.run_directory import Run, load_run
from cvcore.run_writer import RunWriter, start_attempt
from cvcore.strategies import Phase, phases
from cvcore.training_state import STATE_FILE, TrainingState

Progress = Callable[[dict[str, Any]], None]


def execute(
    run: Run, dataset: Dataset | None = None, weights_file: Path | None = None, on_progress: Progress | None = None,
    writer: RunWriter | None = None,
) -> Run:  # fmt: skip
    """Train a queued, stopped, failed or interrupted run in this process until it ends.

    Args:
        run: as created by `run_writer.create_run`; an earlier attempt is resumed after its last finished epoch.
        dataset: the run's dataset; None looks it up by id and fingerprint.
        weights_file: a local file with the base's weights, or None.
        on_progress: called with what progress.json says, on every batch.
        writer: of the attempt that this process has taken already; None takes the next one.

    Returns:
        The run as it is now: done, stopped or failed.

    Raises:
        SupersededAttempt: a newer attempt took the run over; this one wrote nothing more.
        CvcoreError: the run could not be written, not even to say so.
    """
    writer = writer or start_attempt(run)
    with writer.heartbeat():
        _train(run, writer, dataset, weights_file, on_progress)
    return load_run(run.id, run.path.parent)


def _train(
    run: Run, writer: RunWriter, dataset: Dataset | None, weights_file: Path | None, on_progress: Progress | None
) -> None:
    try:
        session = Session(run, writer, on_progress)
        try:
            session.train(dataset, weights_file)
        except (StoppedOnRequest, KeyboardInterrupt):
            session.stop()
        finally:
            devices.set_precision(False)  # for models that this process builds next
    except SupersededAttempt:
        raise
    except CvcoreError as error:
        _fail(writer, str(error))
    except Exception as error:  # noqa: BLE001  (whatever Keras raises is this run's failure; its traceback is logged)
        writer.log(traceback.format_exc())
        _fail(writer, f"Training failed ({type(error).__name__}); log.txt in the run directory has the details.")


def _fail(writer: RunWriter, sentence: str) -> None:
    try:
        writer.finish("failed", sentence)
    except SupersededAttempt:
        raise
    except CvcoreError:
        # A full disk also keeps us from saying so in run.json; without its process the run shows as interrupted.
        writer.log(sentence)
        raise CvcoreError(sentence) from None


class Session:
    """One attempt at one run."""

    def __init__(self, run: Run, writer: RunWriter, on_progress: Progress | None) -> None:
        self.path, self.info, self.writer, self.on_progress = run.path, run.info, writer, on_progress
        self.recipe = make_recipe(**run.recipe)
        self.seed: int = run.info["seed"]
        self.phases = phases(self.recipe, continues_a_run=bool(run.info.get("from_run")))
        self.epochs = sum(phase.recipe.epochs for phase in self.phases)
        self.state = TrainingState.load(run.path)
        self.network: Network | None = None
        self.weights: BaseWeights | None = None
        self.timings: dict[str, float] = {}
        self.began = time.perf_counter()
        self.earlier = self.state.elapsed

    def train(self, dataset: Dataset | None, weights_file: Path | None) -> None:
        """Go through the phases from where the state is, then evaluate."""
        device = devices.prepare(self.recipe.mixed_precision)
        self.writer.update(device=device)
        self.writer.log(f"on {device['name']}, Keras on {device['backend']}, {device['precision']}")
        self.writer.replace_history(self.state.rows)
        self.report("reading pictures", 0, 0)
        if dataset is None:
            wanted = self.info["dataset"]
            dataset = find_dataset(
                wanted["id"], wanted["fingerprint"], lambda done, n: self.report("finding pictures", done, n)
            )
        check_fits(self.recipe, dataset)
        data = _Data(self, dataset)
        self.network = network = self.build_network(dataset, weights_file, data.mean())
        self.timings["preparation"] = round(time.perf_counter() - self.began, 3)
        # What the last phase may change includes what the earlier ones may: one list serves the whole run.
        network.train_only(self.phases[-1].trainable)
        changing = network.changing_weights()
        if self.state.weights:
            assign(changing, self.state.weights)
        for index, phase in enumerate(self.phases):
            if index >= self.state.phase:
                self.train_phase(index, phase, network, changing, data)
        assign(changing, self.state.best)
        self.finish(network, data)

    def build_network(self, dataset: Dataset, weights_file: Path | None, mean: np.ndarray | None) -> Network:
        """Build the network with the weights it starts from: random, the base's, or those of a saved run."""
        classes = len(dataset.class_names)
        if source := self.info.get("from_run"):
            network = build(self.recipe, classes, self.seed)
            load_checkpoint(network, load_run(source, self.path.parent))
            return network
        if self.recipe.base:
            known = self.info.get("weights")
            if known and known["origin"] != "file" and not self.state.rows:
                known = None  # nothing has been trained on them yet: they may have been the wrong ones
            self.weights = find_weights(self.recipe, self.seed, weights_file, known)
            self.writer.update(weights=self.weights.summary())
        return build(self.recipe, classes, self.seed, self.weights, mean)

    def train_phase(self, index: int, phase: Phase, network: Network, changing: list[Any], data: _Data) -> None:
        """Train one phase from where the state is in it; the network ends with the best weights of the phase."""
        state, recipe = self.state, phase.recipe
        network.train_only(phase.trainable)
        model = network.head_model() if phase.on_features else network.model(recipe.augmentation)
        compile_model(model, recipe)
        if not state.phase_ended:
            inputs, labels = data.inputs("train", network, phase.on_features)
            batches = TrainingBatches(inputs, labels, recipe.batch_size, self.seed, recipe.steps_per_epoch)
            inputs, labels = data.inputs("validation", network, phase.on_features)
            # The whole run's recipe, not the phase's: the best epoch is chosen among the epochs of all phases.
            whole = self.recipe
            rows = validation_rows(len(labels), whole.batch_size, whole.validation_steps, self.seed)
            fit(model, self, phase, batches, EvaluationBatches(inputs, labels, rows=rows), changing)
        assign(changing, state.phase_best)
        state.begin_phase(index + 1)

    def finish(self, network: Network, data: _Data) -> None:
        """Evaluate the best checkpoint, on the test split for the first and only time, and write what it says."""
        began = time.perf_counter()
        self.report("evaluating", 0, 0)
        network.train_only(self.phases[-1].trainable)
        final = network.model(self.phases[-1].recipe.augmentation)
        on_features = all(phase.on_features for phase in self.phases)
        model = predicting(network.head_model() if on_features else network.model())
        parts: list[tuple[str, list[str], np.ndarray, np.ndarray]] = []
        otherwise = self.recipe.test_preprocessing if self.recipe.tests_other_pixels else None
        tested = network.preprocessed(otherwise) if otherwise else network
        for split, seen in (("validation", network), ("test", tested)):
            if paths := data.paths(split):
                inputs, labels = data.inputs(split, seen, on_features)
                if seen is not network and not on_features:
                    model = predicting(seen.model())
                outputs = model.predict(EvaluationBatches(inputs, labels), verbose=0, callbacks=[StopCheck(self)])
                parts.append((split, paths, labels, evaluation.class_probabilities(np.asarray(outputs, np.float64))))
        test = next(((part[3], part[2]) for part in parts if part[0] == "test"), (None, None))
        self.save_checkpoint(final)
        self.writer.text("predictions.csv", evaluation.predictions_csv(parts, data.class_names))
        self.write_metrics(evaluation.test_metrics(*test), count_parameters(final))
        self.timings["evaluation"] = round(time.perf_counter() - began, 3)
        self.timings["total"] = round(self.elapsed(), 3)
        self.writer.finish("done", timings=self.timings, peak_memory=devices.peak_memory_mb())

    def stop(self) -> None:
        """Keep what a stopped run has: its best checkpoint and that epoch's figures, and its state for a resume."""
        if self.state.rows and self.network:
            self.network.train_only(self.phases[-1].trainable)
            assign(self.network.changing_weights(), self.state.best)
            model = self.network.model(self.phases[-1].recipe.augmentation)
            self.save_checkpoint(model)
            self.write_metrics(evaluation.test_metrics(None, None), count_parameters(model))
        sentence = "Stopped on request before the test set was used; resume it to finish."
        timings = {**self.timings, "total": round(self.elapsed(), 3)}
        self.writer.finish("stopped", sentence, timings=timings, peak_memory=devices.peak_memory_mb())

    def write_metrics(self, test: dict[str, Any], parameters: dict[str, int] | None) -> None:
        """Replace metrics.json."""
        seconds = {name: round(value, 3) for name, value in self.state.seconds.items()}
        figures = evaluation.history_metrics(self.state.rows)
        self.writer.document("metrics.json", {**figures, **test, "parameters": parameters, "seconds": seconds})

    def save_state(self) -> None:
        """Replace the state file, so that a resume goes on after the epoch that just ended."""
        with self.writer.replacing(STATE_FILE) as temporary:
            self.state.save(temporary)

    def save_checkpoint(self, model: keras.Model) -> None:
        """Replace model.keras whole."""
        with self.writer.replacing("model.keras") as temporary:
            model.save(temporary)

    def elapsed(self) -> float:
        """Return the seconds of this attempt and of the finished epochs of earlier ones."""
        return self.earlier + time.perf_counter() - self.began

    def report(self, phase: str, step: int, steps: int, seconds_left: float | None = None, **more: Any) -> None:
        """Write progress, and stop here if somebody asked for it.

        Args:
            phase: what is being done.
            step: steps done of this epoch or stage.
            steps: steps in all; 0 when unknown.
            seconds_left: estimate for this phase, None when unknown.

        Raises:
            StoppedOnRequest: a stop was requested.
        """
        if self.writer.stop_requested():
            raise StoppedOnRequest("the run was asked to stop")
        epoch = min(len(self.state.rows) + 1, self.epochs)
        document = {"phase": phase, "step": step, "steps": steps, "epoch": epoch, "epochs": self.epochs,
                    "seconds_left": seconds_left, **more}  # fmt: skip
        self.writer.progress(document, now=steps == 0)
        if self.on_progress:
            self.on_progress(document)


class _Data:
    """The pictures of a run, decoded once, and the features of its base, computed once; both on first use."""

    def __init__(self, session: Session, dataset: Dataset) -> None:
        self.session, self.dataset = session, dataset
        self.class_names = dataset.class_names
        chosen = session.recipe.train_pictures  # of the training split; a finetune recipe's start has the same
        self.rows = None if chosen is None else training_rows(dataset.labels("train"), chosen)

    def paths(self, split: str) -> list[str]:
        return [picture.path for picture in self.dataset.split(split)]

    def labels(self, split: str) -> np.ndarray:
        labels = self.dataset.labels(split)
        return labels if split != "train" or self.rows is None else labels[self.rows]

    def pictures(self, split: str) -> np.ndarray | Rows:
        """Return the decoded pictures of a split, uint8 (n, image_size, image_size, channels)."""
        recipe, report = self.session.recipe, self.session.report
        images = pixels(
            self.dataset, split, recipe.image_size, recipe.interpolation, recipe.antialias,
            progress=lambda done, n: report(f"reading {split} pictures", done, n), color_mode=recipe.color_mode,
        )  # fmt: skip
        return images if split != "train" or self.rows is None else Rows(images, self.rows)

    def mean(self) -> np.ndarray | None:
        """Return the mean picture of the training and validation splits where the recipe subtracts it, else None."""
        recipe = self.session.recipe
        if "mean_image" not in (recipe.preprocessing, recipe.test_preprocessing):
            return None
        return mean_image(self.pictures("train"), self.pictures("validation"))

    def inputs(self, split: str, network: Network, on_features: bool) -> tuple[np.ndarray | Rows, np.ndarray]:
        """Return what a model of this network takes for a split, pictures or features, and the labels."""
        images, labels = self.pictures(split), self.labels(split)
        if not on_features:
            return images, labels
        assert self.session.weights is not None
        report, seconds = self.session.report, self.session.state.seconds
        decides = (network, self.session.weights.sha256, self.dataset.fingerprint, split)
        key = feature_key(*decides)
        if split == "train" and self.rows is not None:
            whole = mapped_features(key, len(self.dataset.split(split)))
            if whole is not None:  # by a run on all of them
                return Rows(whole, self.rows), labels
            key = feature_key(*decides, len(self.rows))
        began = time.perf_counter()
        stored = stored_features(network, images, key, lambda done, n: report(f"features of {split}", done, n))
        seconds["features"] = seconds.get("features", 0.0) + time.perf_counter() - began
        return stored, labels


def load_checkpoint(network: Network, run: Run) -> None:
    """Put the best weights of a saved run into a network of the same architecture.

    Raises:
        CvcoreError: the run has no model.keras, or one of another architecture.
    """
    path = run.path / "model.keras"
    if not path.is_file():
        raise CvcoreError(f"run {run.id} has no model.keras to continue from; train it again")
    saved = keras.saving.load_model(path, compile=False, safe_mode=True)
    try:
        network.model().set_weights(saved.get_weights())
    except ValueError as error:
        raise CvcoreError(
            f"run {run.id} has another network than this recipe; continue from a run of the recipe it starts from"
        ) from error
