"""Write a run as one Keras script that repeats it without this app, holding only what its recipe needs.

The script mirrors `models.build`, `batches`, `fitting` and `datasets.pictures`: layers made in the same order draw the
same first weights from the seed, and (seed, epoch) decide the order, dropout and augmentation. Text of people (titles,
class names) enters the script as literals only, never in a comment.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

from cvcore import code_layers, code_parts, code_views
from cvcore.code_network import NetworkCode
from cvcore.code_parts import literal
from cvcore.code_training import compiled, schedule_sources, training
from cvcore.datasets.digits import VALIDATION_SPLIT
from cvcore.datasets.downloads import DOWNLOADS
from cvcore.datasets.pictures import SUFFIXES
from cvcore.datasets.splits import HELD_OUT, VALIDATION_OF_TRAIN
from cvcore.datasets.subset import training_rows
from cvcore.errors import CvcoreError
from cvcore.recipe import Recipe, make_recipe
from cvcore.strategies import Phase, phases

FOLDER_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}


def standalone_script(info: dict[str, Any]) -> str:
    """Write the script that repeats a run: `python code.py DATA_FOLDER [a file with weights]`.

    Args:
        info: a run's run.json: run, recipe, dataset {title, class_names, counts}, seed, from_run.

    Returns:
        Python source for Keras, NumPy and Pillow. On the processor of the run it has its figures, epoch by epoch.

    Raises:
        InvalidRecipe: the recipe in `info` breaks a rule.
        CvcoreError: `info` lacks the seed, the classes or the counts that a run trained here has.
    """
    _check(info)
    return _Script(info).text()


def _check(info: dict[str, Any]) -> None:
    """Check what a script takes from a run.json besides the recipe, which somebody may have edited."""
    dataset = info["dataset"]
    names, counts, split_seed = dataset.get("class_names"), dataset.get("counts"), dataset.get("split_seed", 0)
    odd = {
        "seed": not _is_whole(info.get("seed")),
        "class_names": not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names),
        "counts": not isinstance(counts, dict) or "train" not in counts,
        "split_seed": not _is_whole(split_seed),
        "from_run": not isinstance(info.get("from_run"), str | None),
    }
    if missing := [name for name, is_odd in odd.items() if is_odd]:
        raise CvcoreError(f"only a run whose run.json says what it was trained with can be repeated; its "
                          f"{', '.join(missing)} cannot be read: restore the file, or export another run")  # fmt: skip


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _Script:
    """The parts of one script; each method returns one of them as text."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info
        self.recipe: Recipe = make_recipe(**info["recipe"])
        self.from_run: str | None = info.get("from_run")
        self.phases: tuple[Phase, ...] = phases(self.recipe, continues_a_run=bool(self.from_run))
        self.classes: list[str] = [str(name) for name in info["dataset"]["class_names"]]
        counts = info["dataset"]["counts"]
        self.counts = {split: [int(counts[split].get(name, 0)) for name in self.classes] for split in FOLDER_NAMES
                       if split in counts}  # fmt: skip
        self.network = NetworkCode(self.recipe, self.phases, len(self.classes), bool(self.from_run), "test" in counts)
        self.divided = self._divided()
        self.digits = self._digits()
        self.split_seed = int(info["dataset"].get("split_seed", 0))

    def _divided(self) -> tuple[bool, bool]:
        """Say, by the run's counts, whether the app may have made all the splits itself, and whether validation."""
        columns = [dict(zip(self.counts, column, strict=True)) for column in zip(*self.counts.values(), strict=True)]

        def held_out(share: float, *splits: str) -> bool:
            totals = [sum(column[split] for split in splits) for column in columns]
            return all(column[split] == max(1, int(share * total + 0.5))
                       for column, total in zip(columns, totals, strict=True) for split in splits[1:])  # fmt: skip

        all_of_them = "test" in self.counts and held_out(HELD_OUT, "train", "validation", "test")
        return all_of_them, "validation" in self.counts and held_out(VALIDATION_OF_TRAIN, "train", "validation")

    def _digits(self) -> bool:
        """Say, by the run's classes and counts, whether its pictures may have come in one .npz of digits."""
        if not set(self.classes) <= set("0123456789") or self.counts.keys() != FOLDER_NAMES.keys():
            return False
        train, validation = sum(self.counts["train"]), sum(self.counts["validation"])
        return train == math.floor((train + validation) * (1.0 - VALIDATION_SPLIT))

    def text(self) -> str:
        """Put the parts in the order in which a student reads them."""
        network, streams = self.network, any(phase.recipe.steps_per_epoch for phase in self.phases)
        parts = [
            f"{self.head()}\n\n{self.settings()}",
            code_parts.pictures(sorted(SUFFIXES), self.recipe, self.digits),
            *([code_parts.DIVIDE.replace("SPLIT_SEED", str(self.split_seed))] if any(self.divided) else []),
            *([code_parts.DIGITS.substitute(held_out=VALIDATION_SPLIT)] if self.digits else []),
            code_parts.folders(self.digits),
            *([inspect.getsource(training_rows)] if self.recipe.train_pictures else []),
            self.reading(),
            code_views.with_views(code_parts.BATCHES) if network.views else code_parts.BATCHES,
            *([code_parts.STREAM] if streams else []),
            code_parts.PIPELINE,
            self.every_epoch(),
            *schedule_sources(self.phases),
            *([code_parts.BFLOAT16] if self.recipe.mixed_precision else []),
            *[network.augmentation_layer(policy) for policy in network.policies],
            *([code_views.stored_views(self.recipe.train_pictures is not None)] if network.views else []),
            *([code_layers.CAFFE] if network.caffe else []),
            *([code_layers.doodle_base_source()] if self.recipe.base == "doodle-base" else []),
            network.text(),
            *[training(network, place, self.counts) for place in range(len(self.phases))],
            self.results(),
        ]
        return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"

    def every_epoch(self) -> str:
        """Write the callback that draws anew in each epoch; a model may lack the first layers of the whole network."""
        text = code_parts.EVERY_EPOCH.substitute(reseed=code_parts.RESEED if self.network.draws else "")
        return code_views.above_a_cut(text) if self.network.views and self.network.draws else text

    def head(self) -> str:
        """Write the docstring and the imports."""
        layout = "DATA_FOLDER holds train and validation, each with one folder a class."
        if "test" in self.counts:
            layout = "DATA_FOLDER holds train, validation and test, each with one folder a class."
        if self.divided[0]:
            layout += "\nIt may hold the folders of the classes alone: they are divided 70/15/15 as the app does."
        if self.divided[1]:
            layout += "\nIt may lack validation: 20 % of train are held out as the app does."
        if self.digits and self.info["dataset"].get("id") == "mnist":
            layout += f"\nIt may also be the file mnist.npz, which Keras publishes at\n{DOWNLOADS['mnist'].url}"
        elif self.digits:
            layout += "\nIt may also be the .npz of the digits itself."
        usage = " MODEL_FILE" if self.from_run else ""
        if not self.from_run and self.network.base_file():
            usage = f" {self.network.base_file()}"
        return code_parts.HEAD.substitute(
            usage=usage,
            layout=layout,
            hashlib="import hashlib\n" if any(self.divided) else "",
            tempfile="from tempfile import TemporaryFile\n" if self.network.views else "",
            ops=", ops" if self.network.policies else "",
        )

    def settings(self) -> str:
        """Write the command line and the constants."""
        lines = ["parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])",
                 'parser.add_argument("data_folder")']  # fmt: skip
        if self.from_run:
            lines.append('parser.add_argument("model_file", help="model.keras of the run named in FROM_RUN")')
        elif self.network.base_file() == "WEIGHTS_FILE":
            lines.append('parser.add_argument("weights_file", help="cvcore/weights/doodle_base.weights.h5 of the app")')
        elif self.network.base_file():
            lines.append('parser.add_argument("weights_file", nargs="?", default="imagenet", '
                         'help="default: Keras downloads it")')  # fmt: skip
        lines += [
            'parser.add_argument("--save", metavar="FILE.keras", help="keep the trained network")',
            "arguments = parser.parse_args()",
            "",
            f"RUN = {literal(str(self.info.get('run', '')))}",
            f"RECIPE = {literal(self.recipe.title or self.recipe.id)}",
            f"DATASET = {literal(str(self.info['dataset'].get('title', '')))}",
            *([f"FROM_RUN = {literal(self.from_run)}"] if self.from_run else []),
            f"CLASS_NAMES = {literal(self.classes)}",
            "# Pictures of each class that the run had.",
            f"RUN_COUNTS = {{{', '.join(f'{literal(split)}: {counts}' for split, counts in self.counts.items())}}}",
            f"IMAGE_SIZE = {self.recipe.image_size}",
            f"SEED = {int(self.info['seed'])}",
            "# TensorFlow's own CPU kernels train these networks faster than XLA's.",
            'XLA = False if keras.config.backend() == "tensorflow" else "auto"',
            'print(f"{RUN}: {RECIPE}, on {DATASET}")',
        ]
        return "\n".join(lines)

    def reading(self) -> str:
        """Find the pictures of each split and read them."""
        find = {split: f"{split}_files = files_of({', '.join(map(literal, FOLDER_NAMES[split]))})"
                for split in self.counts}  # fmt: skip
        all_of_them, validation = self.divided
        branches: list[tuple[str, list[str]]] = []

        def lacking(split: str) -> str:
            return f"not folders.keys() & {{{', '.join(map(literal, FOLDER_NAMES[split]))}}}"

        if self.digits:
            branches.append(("in_one_file", ["train_files, validation_files, test_files = digits(data)"]))
        if all_of_them:
            names = ", ".join(f"{split}_files" for split in self.counts)
            branches.append((lacking("train"), [f"{names} = divide(find(data), {HELD_OUT}, {HELD_OUT})"]))
        if validation:
            division = f"train_files, validation_files = divide(train_files, {VALIDATION_OF_TRAIN})"
            branches.append(
                (lacking("validation"), [*[line for split, line in find.items() if split != "validation"], division])
            )
        lines: list[str] = []
        for condition, branch in branches:
            lines.append(f"{'el' if lines else ''}if {condition}:")
            lines += [f"    {line}" for line in branch]
        lines += ["else:", *[f"    {line}" for line in find.values()]] if lines else find.values()
        lines = [*lines, *[f'{split}_images, {split}_labels = load({split}_files, "{split}")' for split in self.counts]]
        if self.recipe.train_pictures:
            lines.append(code_parts.SUBSET.replace("PICTURES", str(self.recipe.train_pictures)))
        return "\n".join(lines)

    def results(self) -> str:
        """Evaluate the best epoch on the test split, once, and save the network if asked to."""
        on_features = self.phases[-1].on_features
        lines = ["# The best epoch, and the test split for the first and only time",
                 'best = min(history, key=lambda row: row["val_loss"])']  # fmt: skip
        if len(self.phases) > 1:
            lines += ['if best["epoch"] <= head_epochs:  # fine-tuning has made it worse',
                      "    model.set_weights(head_weights)"]  # fmt: skip
        figures = "best_epoch {epoch}  val_loss {val_loss:.6g}  val_accuracy {val_accuracy:.6g}"
        lines.append(f'print("{figures}".format(**best))')
        if self.phases[-1].recipe.views:
            lines += self.network.whole_again()
            lines += compiled("model", self.network) if "test" in self.counts else []
        if "test" in self.counts:
            model, kind = "model", "features" if on_features else "images"
            if self.network.other_test and not on_features:
                model = "test_model"
                lines += [*self.network.for_test_pictures(), f"{model} = keras.Model(test_inputs, x)"]
                lines += compiled(model, self.network)
            batches = f"pipeline(Batches(test_{kind}, test_labels, 64))"
            lines.append(f"test_loss, test_accuracy = {model}.evaluate({batches}, verbose=0)")
            lines.append('print(f"test_loss {test_loss:.6g}  test_accuracy {test_accuracy:.6g}")')
        custom = [*map(self.network.augmentation, self.network.policies)]
        custom += ["CaffePreprocessing"] if self.network.caffe else []
        if custom:
            lines.append(f"# keras.saving.load_model needs custom_objects for {' and '.join(custom)}")
        lines.append("if arguments.save:")
        if on_features:
            lines.append("    model = keras.Model(inputs, through_head(extractor.output))")
        return "\n".join([*lines, "    model.save(arguments.save)"])
