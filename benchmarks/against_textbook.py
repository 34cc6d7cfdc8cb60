"""Time the four strategies here and as the textbook writes them, in turn in one process, step by step.

    python -m benchmarks.against_textbook --data FOLDER [--pairs 5] [--strategies scratch,augmented,...] [--json FILE]

FOLDER has train/ and validation/ with a folder a class. Prints a table of medians with their ratios and the share of
this machine's measured peak, and for each strategy its total: seconds of each part times how often a run needs it. Ends
with 1 where a ratio is below what it shall be. A machine's speed drifts: trust the ratios, and an idle machine.

Our parts are those that train a run: its network, cut, batches, and store. A training step is arithmetic alone, with
the batch at hand; reading one is a part of its own ("input"). VGG16 has random weights: they take as long.
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvcore import devices

if __name__ == "__main__":
    devices.leave_out_jax()
    devices.import_keras()

import keras
import numpy as np

from benchmarks import stopwatch, textbook
from cvcore.base_weights import find_weights
from cvcore.batches import EvaluationBatches, TrainingBatches
from cvcore.datasets import open_dataset, pixels
from cvcore.extraction import CHUNK, extracted, what_is_stored
from cvcore.fitting import compile_model, predicting
from cvcore.models import build
from cvcore.published import get_recipe
from cvcore.recipe import Recipe
from cvcore.stored_epochs import fit_stored, serves
from cvcore.views import view_uniforms

EVALUATED = 64  # pictures of a validation batch here; the textbook's are as large as its training batches
RECIPES = {
    "scratch": "chollet2-scratch",
    "augmented": "chollet2-augmented",
    "features": "chollet2-features",
    "features-end-to-end": "chollet2-features-augmented",
    "finetune": "chollet2-finetune",
}
# What a ratio, textbook / ours, shall be at 180 px: of a training step, of the total, of the total with stored views.
FLOORS = {
    "scratch": {"training step": 0.97},
    "augmented": {"training step": 1.1},
    "features-end-to-end": {"total": 1.4, "total with views": 12.0},
    "finetune": {"total": 1.3, "total with views": 3.4},
}
Parts = dict[str, Callable[[], float]]
Terms = list[tuple[float, str]]  # how often, and which part


class Pictures:
    """The pictures of a folder as each of the two reads them.

    Args:
        folder: with train/ and validation/.
        image_size: side in pixels.
        batch_size: of training.
    """

    def __init__(self, folder: Path, image_size: int, batch_size: int) -> None:
        self.folder, self.image_size, self.batch_size = folder, image_size, batch_size
        dataset = open_dataset(str(folder))
        began = time.perf_counter()
        self.ours = {split: self._decoded(dataset, split) for split in ("train", "validation")}
        self.labels = {split: dataset.labels(split) for split in self.ours}
        self.counts = {split: len(labels) for split, labels in self.labels.items()}
        self.decode = (time.perf_counter() - began) / sum(self.counts.values())
        self.files = textbook.pictures(folder, "train", image_size, batch_size)

    def _decoded(self, dataset: Any, split: str) -> np.ndarray:
        return pixels(dataset, split, self.image_size, "bilinear", False)

    def textbook_input(self, batches: int = 6) -> float:
        """Read batches as the textbook does; the seconds of one, the first left out."""
        stream = iter(self.files.repeat())
        next(stream)
        return stopwatch.seconds_a_call(lambda: next(stream), [()] * batches)

    def our_input(self, batches: int = 6) -> float:
        """Read batches as a run here does; the seconds of one."""
        source = self.training_batches()
        return stopwatch.seconds_a_call(
            lambda index: _tensors(source[index]), [(i % len(source),) for i in range(batches)]
        )

    def training_batches(self) -> TrainingBatches:
        return TrainingBatches(self.ours["train"], self.labels["train"], self.batch_size, seed=0)

    def ready(self, steps: int, size: int | None = None) -> list[tuple[Any, Any]]:
        """Return batches of pictures and labels at hand as tensors."""
        rows = [np.arange(size or self.batch_size) + step for step in range(steps)]
        images, labels = self.ours["train"], self.labels["train"]
        return [_tensors((images[at % len(images)].astype(np.float32), labels[at % len(images)])) for at in rows]


def _tensors(batch: Any) -> tuple[Any, ...]:
    return tuple(keras.ops.convert_to_tensor(part) for part in batch)


class Case:
    """One strategy, timed.

    Args:
        name: a key of RECIPES.
        pictures: what it is trained on.
        pairs, steps: rounds that count, and steps in each.
        views: stored views where the strategy has them.
        counts: pictures of a run, a split.
        epochs: of a run; None for the recipe's.
    """

    def __init__(
        self, name: str, pictures: Pictures, pairs: int, steps: int, views: int, counts: dict[str, int],
        epochs: int | None,
    ) -> None:  # fmt: skip
        recipe = get_recipe(RECIPES[name]).with_changes(image_size=pictures.image_size, batch_size=pictures.batch_size)
        if recipe.base:
            recipe = recipe.with_changes(weights="random")
        self.name, self.pictures, self.steps, self.recipe = name, pictures, steps, recipe
        self.network = build(recipe, 2, weights=find_weights(recipe, 0) if recipe.base else None)
        self.trainable = recipe.unfreeze_from or ("head" if recipe.base else "everything")
        self.network.train_only(self.trainable)
        self.cut = self.network.cut(self.trainable)
        self.whole = self.network.model(recipe.augmentation)
        compile_model(self.whole, recipe)
        self.batches = pictures.ready(steps)
        self.parts: Parts = {"textbook: input": pictures.textbook_input, "ours: input": pictures.our_input}
        self.gflop: dict[str, float] = {}  # of the parts whose share of the peak is told
        self.terms: dict[str, Terms] = {}
        self.asked = 0
        s, v, e = (-(-counts["train"] // recipe.batch_size), -(-counts["validation"] // recipe.batch_size),
                   epochs or recipe.epochs)  # fmt: skip
        self.counted = {"s": s, "v": v, "w": -(-counts["validation"] // EVALUATED), "e": e, "k": views, **counts}
        (self.of_features if name == "features" else self.of_steps)()
        peaks = stopwatch.peak_parts()
        seconds = stopwatch.interleaved({**self.parts, **{peak: part for peak, (_, part) in peaks.items()}}, pairs)
        self.seconds = {name: float(f"{value:.4g}") for name, value in stopwatch.medians(seconds).items()}
        self.peak = max(work / self.seconds[peak] for peak, (work, _) in peaks.items())

    def of_steps(self) -> None:
        """Time training and validation steps of a whole model, and where there is a base those above its cut."""
        n, recipe = self.counted, self.recipe
        theirs = (
            textbook.end_to_end(self.pictures.image_size, self.name == "finetune") if recipe.base
            else textbook.convnet(self.pictures.image_size, self.name == "augmented")
        )  # fmt: skip
        evaluated = self.pictures.ready(1, EVALUATED)
        self.parts |= {
            "textbook: training step": lambda: stopwatch.seconds_a_call(theirs.train_on_batch, self.batches),
            "ours: training step": lambda: stopwatch.seconds_a_call(self.whole.train_on_batch, self.batches),
            "textbook: validation step": lambda: stopwatch.seconds_a_call(theirs.test_on_batch, self.batches),
        }
        step, forward = (recipe.batch_size * stopwatch.gflop(self.whole, training) for training in (True, False))
        self.gflop |= {"textbook: training step": step, "ours: training step": step,
                       "textbook: validation step": forward}  # fmt: skip
        s, v, w, e, k = (n[name] for name in "svwek")
        self.terms["textbook"] = [(e * s, "textbook: training step"), (e * v, "textbook: validation step"),
                                  (e * (s + v), "textbook: input")]  # fmt: skip
        once: Terms = [(n["train"] + n["validation"], "ours: decoding of a picture")]
        steps: Terms = [(e * s, "ours: training step"), (e * s, "ours: input")]
        if self.cut is None:
            self.parts["ours: validation step"] = lambda: stopwatch.seconds_a_call(self.whole.test_on_batch, evaluated)
            self.gflop["ours: validation step"] = EVALUATED * stopwatch.gflop(self.whole, training=False)
            self.terms["ours"] = [*once, *steps, (e * w, "ours: validation step")]
            return
        self.extraction("ours: extraction of a picture", None)
        self.extraction("ours: extraction of a view", recipe)
        once.append((n["validation"], "ours: extraction of a picture"))
        views: Terms = [*once, (k * n["train"], "ours: extraction of a view")]
        judged, one = self.above(), [_tensors(self.stored("validation", np.float32, EVALUATED))]
        self.parts["ours: validation step above the cut"] = lambda: stopwatch.seconds_a_call(judged.test_on_batch, one)
        evaluation: Terms = [(e * w, "ours: validation step above the cut")]
        self.terms["ours"] = [*once, *steps, *evaluation]
        if self.trainable == "head":
            self.parts["ours: epoch of the head"] = lambda: self.head_epoch(np.float16, k)
            self.terms["views"] = [*views, (e, "ours: epoch of the head")]
            return
        above, part = self.above(), "ours: training step above the cut"
        rows = [_tensors(self.stored("train", np.float32, recipe.batch_size))] * self.steps
        self.parts[part] = lambda: stopwatch.seconds_a_call(above.train_on_batch, rows)
        self.gflop[part] = recipe.batch_size * stopwatch.gflop(above, training=True)
        self.terms["views"] = [*views, (e * s, part), (e * s, "ours: input"), *evaluation]

    def of_features(self) -> None:
        """Time the extraction of features, and the training of a head on them."""
        n, base = self.counted, textbook.base(self.pictures.image_size)
        assert self.cut is not None
        self.parts["textbook: features of a batch"] = lambda: stopwatch.seconds_a_call(
            lambda images, _: textbook.features(base, images), self.batches
        )
        self.gflop["textbook: features of a batch"] = self.recipe.batch_size * stopwatch.gflop(base, training=False)
        self.extraction("ours: extraction of a picture", None)
        self.parts |= {"textbook: epoch of the head": self.textbook_head_epoch,
                       "ours: epoch of the head": lambda: self.head_epoch(np.float32, 1)}  # fmt: skip
        s, v, e = (n[name] for name in "sve")
        self.terms["textbook"] = [(s + v, "textbook: features of a batch"), (s + v, "textbook: input"),
                                  (e, "textbook: epoch of the head")]  # fmt: skip
        pictures = n["train"] + n["validation"]
        self.terms["ours"] = [(pictures, "ours: decoding of a picture"), (pictures, "ours: extraction of a picture"),
                              (e, "ours: epoch of the head")]  # fmt: skip

    def textbook_head_epoch(self) -> float:
        """Train the textbook's head on made-up features; the seconds of the second epoch, its validation included."""
        timed, validation = stopwatch.SecondEpoch(), self.stored("validation", np.float32)
        model = textbook.head(validation[0].shape[1:])
        model.fit(*self.stored("train", np.float32), batch_size=self.recipe.batch_size, epochs=2, verbose=0,
                  validation_data=validation, callbacks=[timed])  # fmt: skip
        return timed.seconds

    def head_epoch(self, dtype: Any, views: int) -> float:
        """Train our head on made-up activations as a run does; the seconds of the second epoch, likewise."""
        timed = stopwatch.SecondEpoch()
        inputs, labels = self.stored("train", dtype)
        batches = TrainingBatches([inputs] * views, labels, self.recipe.batch_size, seed=0)
        validation = EvaluationBatches(*self.stored("validation", np.float32))
        above = self.above()
        if serves(batches, validation):
            fit_stored(above, batches, validation, [timed], initial_epoch=0, epochs=2)
        else:
            above.fit(batches, epochs=2, validation_data=validation, verbose=0, shuffle=False, callbacks=[timed])
        return timed.seconds

    def above(self) -> keras.Model:
        """Return what is above the cut, compiled."""
        cut = self.network.cut(self.trainable)
        assert cut is not None
        compile_model(cut.above, self.recipe)
        return cut.above

    def stored(self, split: str, dtype: Any, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Make up activations of a split's pictures, or of some, at the cut; and their labels."""
        assert self.cut is not None
        labels = np.arange(rows or self.counted[split]) % 2
        random = np.random.default_rng(0)
        return random.random((len(labels), *self.cut.below.output_shape[1:]), np.float32).astype(dtype), labels

    def extraction(self, part: str, viewed: Recipe | None) -> None:
        """Time the store being filled, decoded pictures and the writing included: of two chunks the second one."""
        cut, images = self.cut, self.pictures.ours["train"]
        assert cut is not None
        images = np.resize(images[: 2 * CHUNK], (2 * CHUNK, *images.shape[1:]))
        policy = viewed.augmentation if viewed else None
        uniforms = view_uniforms(0, len(images)) if viewed else None
        told = what_is_stored(self.recipe, cut, "benchmark", "train", view=0 if viewed else None)
        predicting(cut.below)

        def run() -> float:
            marks: list[float] = []
            self.asked += 1  # another key each time
            what = {**told, "measured": f"{self.name}, {part}, {self.asked}"}
            extracted(what, cut, images, lambda done, n: marks.append(time.perf_counter()), policy=policy,
                      uniforms=uniforms)  # fmt: skip
            return (marks[-1] - marks[-2]) / CHUNK

        self.parts[part] = run
        self.gflop[part] = stopwatch.gflop(cut.below, training=False)

    def document(self) -> dict[str, Any]:
        """Return what was measured: seconds, shares of the peak, totals with their terms, ratios."""
        seconds = {**self.seconds, "ours: decoding of a picture": self.pictures.decode}
        totals = {way: sum(count * seconds[part] for count, part in terms) for way, terms in self.terms.items()}
        ratios = {}
        if "textbook: training step" in seconds:
            steps = (seconds["textbook: training step"], seconds["ours: training step"])
            inputs = (seconds["textbook: input"], seconds["ours: input"])
            ratios["training step"] = steps[0] / steps[1]
            ratios["training step with its input"] = (steps[0] + inputs[0]) / (steps[1] + inputs[1])
        ratios["total"] = totals["textbook"] / totals["ours"]
        if "views" in totals:
            ratios["total with views"] = totals["textbook"] / totals["views"]
        return {
            "strategy": self.name,
            "recipe": self.recipe.id,
            "views": self.counted["k"] if "views" in totals else None,
            "epochs": self.counted["e"],
            "peak_gflop_a_second": self.peak,
            "seconds": seconds,
            "share_of_peak": {name: work / seconds[name] / self.peak for name, work in self.gflop.items()},
            "formulas": {way: [[count, part] for count, part in terms] for way, terms in self.terms.items()},
            "totals": totals,
            "ratios": ratios,
        }


def table(documents: list[dict[str, Any]]) -> str:
    """Return Markdown: a row a strategy, then each total as the sum that it is."""
    head = ["strategy", "epochs", "step, textbook", "ours", "ratio", "with input", "share of peak", "total, textbook",
            "ours", "ratio", "with views", "ratio"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    sums = []
    for found in documents:
        seconds, ratios, totals, shares = (found[name] for name in ("seconds", "ratios", "totals", "share_of_peak"))
        step = "training step" if "training step" in ratios else None
        row = [found["strategy"], str(found["epochs"])]
        row += ([f"{seconds[f'textbook: {step}']:.3f} s", f"{seconds[f'ours: {step}']:.3f} s", f"{ratios[step]:.2f}",
                 f"{ratios['training step with its input']:.2f}", f"{shares[f'ours: {step}']:.0%}"] if step
                else ["", "", "", "", f"{shares['ours: extraction of a picture']:.0%}"])  # fmt: skip
        row += [f"{totals['textbook']:,.0f} s", f"{totals['ours']:,.0f} s", f"{ratios['total']:.2f}"]
        row += [f"{totals['views']:,.0f} s", f"{ratios['total with views']:.1f}"] if found["views"] else ["", ""]
        lines.append("| " + " | ".join(row) + " |")
        for way, terms in found["formulas"].items():
            name = f"views={found['views']}" if way == "views" else way
            parts = " + ".join(f"{count:,} x {seconds[part]:.4g} s ({part.split(': ')[1]})" for count, part in terms)
            sums.append(f"- {found['strategy']}, {name}: {parts} = {totals[way]:,.0f} s")
    return "\n".join([*lines, "", *sums])


def too_slow(documents: list[dict[str, Any]]) -> list[str]:
    """Name the ratios that are below what they shall be."""
    return [
        f"{found['strategy']}: {name} {found['ratios'][name]:.2f}, at least {floor:g} wanted"
        for found in documents
        for name, floor in FLOORS.get(found["strategy"], {}).items()
        if found["ratios"][name] < floor
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 1 where something is too slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--strategies", default=",".join(RECIPES), help="some of them, with commas")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps of each measurement")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--epochs", type=int, help="of a run, for its total; default the recipe's")
    parser.add_argument("--image-size", type=int, default=180)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--json", type=Path, help="write everything that was measured there, too")
    words = parser.parse_args(arguments)
    if unknown := set(words.strategies.split(",")) - set(RECIPES):
        parser.error(f"--strategies must be some of {', '.join(RECIPES)}; received {', '.join(sorted(unknown))}")
    device, before = devices.prepare(), os.environ.get("CVCORE_CACHE")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CVCORE_CACHE"] = cache
        try:
            documents = measured(words)
        finally:
            os.environ.pop("CVCORE_CACHE")
            os.environ |= {} if before is None else {"CVCORE_CACHE": before}
    today = datetime.date.today().isoformat()
    machine = f"{device['name']} ({device['cores']} cores, Keras {keras.version()} on {device['backend']})"
    peak = max(found["peak_gflop_a_second"] for found in documents)
    print(f"\n{today}, {machine}, {words.image_size} px, batches of {words.batch_size}, {words.pairs} pairs, "
          f"peak {peak:.0f} GFLOP/s:\n")  # fmt: skip
    print(table(documents))
    if words.json:
        said = {"date": today, "machine": machine, "image_size": words.image_size, "batch_size": words.batch_size,
                "pairs": words.pairs, "strategies": documents}  # fmt: skip
        words.json.write_text(json.dumps(said, indent=1))
    slow = too_slow(documents) if words.image_size == 180 else []
    print("\n".join(["", *slow]) if slow else "")
    return 1 if slow else 0


def measured(words: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one strategy after the other."""
    pictures = Pictures(words.data, words.image_size, words.batch_size)
    documents = []
    for name in words.strategies.split(","):
        print(f"{name} ...", file=sys.stderr, flush=True)
        case = Case(name, pictures, words.pairs, words.steps, words.views, pictures.counts, words.epochs)
        documents.append(case.document())
        del case
        keras.utils.clear_session(free_memory=True)
    return documents


if __name__ == "__main__":
    sys.exit(main())
