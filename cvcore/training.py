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
from cvcore.batches import EvaluationBatches, TrainingBatches, validation_rows
from cvcore.datasets import Dataset, find_dataset
from cvcore.errors import CvcoreError, StoppedOnRequest, SupersededAttempt
from cvcore.fitting import StopCheck, assign, compile_model, compile_with, fit
from cvcore.models import Network, build, count_parameters
from cvcore.new_run import check_fits
from cvcore.recipe import make_recipe
from cvcore.run_directory import Run, load_run
from cvcore.run_writer import RunWriter, start_attempt
from cvcore.strategies import Phase, phases
from cvcore.training_data import TrainingData
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
        self.work = {"decoded_pictures": 0, "extracted_pictures": 0, **(run.info.get("work") or {})}
        self.timings: dict[str, float] = dict(run.info.get("timings") or {})
        for name in {"pictures", "features"} & self.timings.keys():  # the state has those up to the last finished epoch
            self.state.seconds[name] = max(self.timings[name] or 0.0, self.state.seconds.get(name, 0.0))
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
        data = TrainingData(self, dataset)
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

    def train_phase(self, index: int, phase: Phase, network: Network, changing: list[Any], data: TrainingData) -> None:
        """Train one phase from where the state is in it; the network ends with the best weights of the phase."""
        state = self.state
        network.train_only(phase.trainable)
        if not state.phase_ended:
            self.fit_phase(phase, network, changing, data)
        assign(changing, state.phase_best)
        state.begin_phase(index + 1)

    def fit_phase(self, phase: Phase, network: Network, changing: list[Any], data: TrainingData) -> None:
        """Train the whole model on pictures, or what is above the cut on activations of them; evaluate it there."""
        recipe, policy = phase.recipe, phase.recipe.augmentation
        cut = data.cut(network, phase)
        model = whole = network.model(policy)
        evaluated = cut.above if cut else whole
        inputs: Any
        if cut and recipe.views:
            before = len(self.state.rows) - self.state.phase_epochs
            model, inputs = cut.above, data.views(network, cut, recipe, before)
        elif cut and (policy is None or policy.is_identity):
            model, inputs = cut.above, data.activations("train", network, cut)
        else:
            inputs = data.pictures("train")
        compile_model(model, recipe)
        if evaluated is not model:
            compile_with(evaluated, None)
        kept = None if phase.on_features or model is whole else whole
        if kept:
            compile_with(kept, model.optimizer)
        batches = TrainingBatches(inputs, data.labels("train"), recipe.batch_size, self.seed, recipe.steps_per_epoch)
        inputs, labels = data.inputs("validation", network, cut), data.labels("validation")
        # The whole run's recipe, not the phase's: the best epoch is chosen among the epochs of all phases.
        chosen = self.recipe
        rows = validation_rows(len(labels), chosen.batch_size, chosen.validation_steps, self.seed)
        validation = EvaluationBatches(inputs, labels, rows=rows)
        # What is trained on stored features alone has always drawn its dropout by its own layers' places.
        layers = [None, *network.head] if phase.on_features else whole.layers
        fit(model, self, phase, batches, validation, changing, layers=layers, evaluated=evaluated,
            kept=kept, stored=cut is not None and model is cut.above)  # fmt: skip

    def finish(self, network: Network, data: TrainingData) -> None:
        """Evaluate the best checkpoint, on the test split for the first and only time, and write what it says."""
        began = time.perf_counter()
        self.report("evaluating", 0, 0)
        network.train_only(self.phases[-1].trainable)
        last = self.phases[-1]
        cut, model = data.cut(network, last), None
        parts: list[tuple[str, list[str], np.ndarray, np.ndarray]] = []
        tested_with: tuple[Any, ...] = ()
        otherwise = self.recipe.test_preprocessing if self.recipe.tests_other_pixels else None
        tested = network.preprocessed(otherwise) if otherwise else network
        for split, seen in (("validation", network), ("test", tested)):
            if paths := data.paths(split):
                seen_cut = cut if seen is network else data.cut(seen, last)
                inputs, labels = data.inputs(split, seen, seen_cut), data.labels(split)
                if model is None or seen is not network:
                    model = seen_cut.above if seen_cut else seen.model()
                    if not model.compiled:
                        compile_with(model, None)
                batches = EvaluationBatches(inputs, labels)
                outputs = model.predict(batches, verbose=0, callbacks=[StopCheck(self)])
                found = evaluation.class_probabilities(np.asarray(outputs, np.float64))
                parts.append((split, paths, labels, found))
                if split == "test":
                    figures = model.evaluate(batches, verbose=0, callbacks=[StopCheck(self)], return_dict=True)
                    tested_with = found, labels, float(figures["loss"])
        final = network.model(last.recipe.augmentation)
        self.save_checkpoint(final)
        self.writer.text("predictions.csv", evaluation.predictions_csv(parts, data.class_names))
        self.write_metrics(evaluation.test_metrics(*tested_with), count_parameters(final))
        self.timings["evaluation"] = round(time.perf_counter() - began, 3)
        self.timings["total"] = round(self.elapsed(), 3)
        self.writer.finish("done", timings=self.timings, work=self.work, peak_memory=devices.peak_memory_mb())

    def stop(self) -> None:
        """Keep what a stopped run has: its best checkpoint and that epoch's figures, and its state for a resume."""
        if self.state.rows and self.network:
            self.network.train_only(self.phases[-1].trainable)
            assign(self.network.changing_weights(), self.state.best)
            model = self.network.model(self.phases[-1].recipe.augmentation)
            self.save_checkpoint(model)
            self.write_metrics(evaluation.test_metrics(), count_parameters(model))
        sentence = "Stopped on request before the test set was used; resume it to finish."
        timings = {**self.timings, "total": round(self.elapsed(), 3)}
        self.writer.finish("stopped", sentence, timings=timings, work=self.work, peak_memory=devices.peak_memory_mb())

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
