"""Write a run as one Keras script that repeats it without this app, holding only what its recipe needs.

The script mirrors `models.build`, `batches`, `fitting` and `datasets.pictures`: layers made in the same order draw the
same first weights from the seed, and (seed, epoch) decide the order, dropout and augmentation. Text of people (titles,
class names) enters the script as literals only, never in a comment.
"""

from __future__ import annotations

from typing import Any

from cvcore import code_parts
from cvcore.augmentation import AugmentationPolicy
from cvcore.bases import BASES
from cvcore.datasets.pictures import SUFFIXES
from cvcore.datasets.splits import HELD_OUT, VALIDATION_OF_TRAIN
from cvcore.recipe import Recipe, make_recipe
from cvcore.strategies import Phase, phases

BATCH_NORMALIZED = ("Xception", "MobileNetV2", "ResNet50", "EfficientNetV2B0")
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
        Python source for Keras, NumPy and Pillow. On the machine of the run it has the run's figures, epoch by epoch.

    Raises:
        InvalidRecipe: the recipe in `info` breaks a rule.
    """
    return _Script(info).text()


def literal(value: Any) -> str:
    """Write a string, a number, or a list of them as Python source, strings in double quotes where that is plain."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    text = repr(value)
    plain = isinstance(value, str) and text[0] == "'" and '"' not in text and "\\" not in text
    return f'"{text[1:-1]}"' if plain else text


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
        self.on_features = any(phase.on_features for phase in self.phases)
        policies = [_policy(phase.recipe) for phase in self.phases]
        # One model serves all phases unless they train on other inputs or with another augmentation.
        self.one_model = not self.on_features and all(policy == policies[0] for policy in policies)
        self.policies = [policy for place, policy in enumerate(policies) if policy and policy not in policies[:place]]
        self.divided = self._divided()
        self.caffe = code_parts.CAFFE_LAYER in self.preprocessing()
        self.split_seed = int(info["dataset"].get("split_seed", 0))
        self.loss = "binary_crossentropy" if len(self.classes) == 2 else "sparse_categorical_crossentropy"

    def _divided(self) -> tuple[bool, bool]:
        """Say, by the run's counts, whether the app may have made all the splits itself, and whether validation."""
        columns = [dict(zip(self.counts, column, strict=True)) for column in zip(*self.counts.values(), strict=True)]

        def held_out(share: float, *splits: str) -> bool:
            totals = [sum(column[split] for split in splits) for column in columns]
            return all(column[split] == max(1, int(share * total + 0.5))
                       for column, total in zip(columns, totals, strict=True) for split in splits[1:])  # fmt: skip

        all_of_them = "test" in self.counts and held_out(HELD_OUT, "train", "validation", "test")
        return all_of_them, "validation" in self.counts and held_out(VALIDATION_OF_TRAIN, "train", "validation")

    def text(self) -> str:
        """Put the parts in the order in which a student reads them."""
        resize = code_parts.RESIZE[self.recipe.interpolation, self.recipe.antialias]
        draws = bool(self.policies) or any("Dropout" in layer for layer in (*self.convolutions(), *self.head_layers()))
        parts = [
            f"{self.head()}\n\n{self.settings()}",
            code_parts.PICTURES.substitute(suffixes=literal(sorted(SUFFIXES)), resize=resize),
            *([code_parts.DIVIDE.replace("SPLIT_SEED", str(self.split_seed))] if any(self.divided) else []),
            code_parts.FOLDERS,
            self.reading(),
            code_parts.BATCHES,
            code_parts.EVERY_EPOCH.substitute(reseed=code_parts.RESEED if draws else ""),
            *[code_parts.augmentation_layer(policy, self.augmentation(policy)) for policy in self.policies],
            *([code_parts.CAFFE] if self.caffe else []),
            *([code_parts.doodle_base_source()] if self.recipe.base == "doodle-base" else []),
            self.network(),
            *[self.training(place) for place in range(len(self.phases))],
            self.results(),
        ]
        return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"

    def head(self) -> str:
        """Write the docstring and the imports."""
        layout = "DATA_FOLDER holds train and validation, each with one folder a class."
        if "test" in self.counts:
            layout = "DATA_FOLDER holds train, validation and test, each with one folder a class."
        if self.divided[0]:
            layout += "\nIt may hold the folders of the classes alone: they are divided 70/15/15 as the app does."
        if self.divided[1]:
            layout += "\nIt may lack validation: 20 % of train are held out as the app does."
        usage = " MODEL_FILE" if self.from_run else ""
        if not self.from_run and self.base_file():
            usage = f" {self.base_file()}"
        return code_parts.HEAD.substitute(
            usage=usage,
            layout=layout,
            hashlib="import hashlib\n" if any(self.divided) else "",
            ops=", ops" if self.policies else "",
        )

    def base_file(self) -> str:
        """Name the argument for the base's weights; "" where there is none to give."""
        if self.recipe.base is None or self.recipe.weights == "random":
            return ""
        return "WEIGHTS_FILE" if BASES[self.recipe.base].weights_file is None else "[WEIGHTS_FILE]"

    def settings(self) -> str:
        """Write the command line and the constants."""
        lines = ["parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])",
                 'parser.add_argument("data_folder")']  # fmt: skip
        if self.from_run:
            lines.append('parser.add_argument("model_file", help="model.keras of the run named in FROM_RUN")')
        elif self.base_file() == "WEIGHTS_FILE":
            lines.append('parser.add_argument("weights_file", help="cvcore/weights/doodle_base.weights.h5 of the app")')
        elif self.base_file():
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
        if all_of_them:
            names = ", ".join(f"{split}_files" for split in self.counts)
            branches.append(("train", [f"{names} = divide(find(data), {HELD_OUT}, {HELD_OUT})"]))
        if validation:
            division = f"train_files, validation_files = divide(train_files, {VALIDATION_OF_TRAIN})"
            branches.append(
                ("validation", [*[line for split, line in find.items() if split != "validation"], division])
            )
        lines: list[str] = []
        for split, branch in branches:
            names = ", ".join(map(literal, FOLDER_NAMES[split]))
            lines.append(f"{'el' if lines else ''}if not folders.keys() & {{{names}}}:")
            lines += [f"    {line}" for line in branch]
        lines += ["else:", *[f"    {line}" for line in find.values()]] if lines else find.values()
        return "\n".join(
            [*lines, *[f'{split}_images, {split}_labels = load({split}_files, "{split}")' for split in self.counts]]
        )

    # The network, layer by layer as `models.build` makes it.

    def preprocessing(self) -> list[str]:
        base = BASES[self.recipe.base] if self.recipe.base else None
        how = base.preprocessing if base and self.recipe.preprocessing == "base" else self.recipe.preprocessing
        return {
            "rescale": ['layers.Rescaling(1 / 255, name="preprocessing")'],
            "tf": ['layers.Rescaling(1 / 127.5, offset=-1, name="preprocessing")'],
            "caffe": [code_parts.CAFFE_LAYER],
        }.get(how, [])

    def convolutions(self) -> list[str]:
        recipe, chain = self.recipe, []
        pools = len(recipe.filters) if recipe.pools is None else recipe.pools
        for index, filters in enumerate(recipe.filters, start=1):
            chain.append(f'layers.Conv2D({filters}, 3, activation="relu", name="conv{index}")')
            if index <= pools:
                chain.append(f'layers.MaxPooling2D(2, name="pool{index}")')
                if recipe.block_dropout:
                    chain.append(f'layers.Dropout({recipe.block_dropout}, name="pool{index}_dropout")')
        return chain

    def body_lines(self, start: str) -> list[str]:
        """Connect x from `start` through preprocessing, the convolutions or the base, and average pooling."""
        pool = ['layers.GlobalAveragePooling2D(name="average_pool")'] if self.recipe.pooling == "average" else []
        chain = [*self.preprocessing(), *(["base"] if self.recipe.base else self.convolutions()), *pool]
        names = [start, *["x"] * len(chain)]
        return [
            f"x = {layer}({name}{', training=False' if layer == 'base' else ''})"
            for name, layer in zip(names, chain, strict=False)
        ]

    def head_layers(self) -> list[str]:
        recipe = self.recipe
        chain = ['layers.Flatten(name="flatten")'] if recipe.pooling == "flatten" else []
        if recipe.dropout:
            chain.append(f'layers.Dropout({recipe.dropout}, name="dropout")')
        activation = "" if recipe.dense_activation == "linear" else f'activation="{recipe.dense_activation}", '
        for index, units in enumerate(recipe.dense, start=1):
            chain.append(f'layers.Dense({units}, {activation}name="dense{index}")')
            if recipe.dense_dropout:
                chain.append(f'layers.Dropout({recipe.dense_dropout}, name="dense{index}_dropout")')
        two = len(self.classes) == 2
        last = '1, activation="sigmoid"' if two else 'len(CLASS_NAMES), activation="softmax"'
        return [*chain, f'layers.Dense({last}, name="prediction")']

    def augmentation(self, policy: AugmentationPolicy) -> str:
        """Name the layer class of a policy; two phases may have two."""
        return "Augmentation" if policy == self.policies[-1] else "HeadAugmentation"

    def pictures_in(self, recipe: Recipe) -> tuple[list[str], str]:
        """Begin a model at its pictures, augmented as a phase's recipe says; say where it goes on from."""
        lines, policy = ['inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")'], _policy(recipe)
        if policy is None:
            return lines, "inputs"
        return [*lines, f'x = {self.augmentation(policy)}(name="augmentation")(inputs)'], "x"

    def network(self) -> str:
        """Make every layer that has weights, in the order in which the app makes them."""
        lines = ["# The network", "keras.utils.set_random_seed(SEED)"]
        lines += self.base_lines() if self.recipe.base else []
        if self.one_model:
            first, start = self.pictures_in(self.phases[0].recipe)
            lines += [*first, *self.body_lines(start), *[f"x = {layer}(x)" for layer in self.head_layers()]]
            lines += ["model = keras.Model(inputs, x)"]
        else:
            lines += ["head = [", *[f"    {layer}," for layer in self.head_layers()], "]", "", ""]
            lines += ["def through_base(x):", *[f"    {line}" for line in self.body_lines("x")], "    return x", "", ""]
            lines += ["def through_head(x):", "    for layer in head:", "        x = layer(x)", "    return x"]
        if self.from_run:
            lines.append("model.load_weights(arguments.model_file)  # base and head as the run FROM_RUN left them")
        return "\n".join(lines)

    def base_lines(self) -> list[str]:
        """Make the pretrained base; it is frozen until a phase says otherwise."""
        recipe, shape = self.recipe, "(IMAGE_SIZE, IMAGE_SIZE, 3)"
        given = bool(self.base_file()) and not self.from_run
        if recipe.base == "doodle-base":
            lines = [f"base = doodle_base({shape})"]
            lines += ["base.load_weights(arguments.weights_file)"] if given else []
        else:
            alpha = f'alpha={recipe.alpha}, name="mobilenetv2", ' if recipe.base == "MobileNetV2" else ""
            weights = "arguments.weights_file" if given else "None"
            options = f"include_top=False, {alpha}weights={weights}, input_shape={shape}"
            lines = [f"base = keras.applications.{recipe.base}(", f"    {options}", ")"]
        if recipe.base == "EfficientNetV2B0":
            lines += [
                "for layer in base.layers:",
                "    if isinstance(layer, layers.Dropout):",
                "        layer.rate = 0.0  # the base stays in inference mode",
            ]
        return [*lines, "base.trainable = False"]

    def training(self, place: int) -> str:
        """Write one phase: what is trainable, the model, compile and fit."""
        phase = self.phases[place]
        recipe, split = phase.recipe, "features" if phase.on_features else "images"
        lines = [f"# {place + 1}. {phase.name.capitalize()}"] if len(self.phases) > 1 else ["# Training"]
        if phase.on_features:
            lines += code_parts.FEATURES.splitlines()
            for name in self.counts if len(self.phases) == 1 else ("train", "validation"):
                batches = f"Batches({name}_images, {name}_labels, 32)"
                lines.append(f"{name}_features = extractor.predict({batches}, verbose=0)")
            lines += ['feature = keras.Input(extractor.output_shape[1:], name="feature")']
            lines += ["model = keras.Model(feature, through_head(feature))"]
        elif not self.one_model:
            first, start = self.pictures_in(recipe)
            lines += [*first, f"model = keras.Model(inputs, through_head(through_base({start})))"]
        if phase.trainable not in ("everything", "head"):
            if place:
                lines += ["head_epochs, head_weights = len(history), model.get_weights()"]
            lines += ["base.trainable = True", "for layer in base.layers:"]
            lines += [
                f"    if layer.name == {literal(phase.trainable)}:",
                "        break",
                "    layer.trainable = False",
            ]
            if recipe.base in BATCH_NORMALIZED:
                lines += [
                    "for layer in base.layers:",
                    "    if isinstance(layer, layers.BatchNormalization):",
                    "        layer.trainable = False  # the base stays in inference mode",
                ]
        patience = recipe.early_stopping_patience or recipe.epochs
        lines += [
            f"batches = Batches(train_{split}, train_labels, {recipe.batch_size})",
            "# Ends with the weights of the lowest val_loss"
            + (f", {patience} epochs after it at the latest." if recipe.early_stopping_patience else "."),
            f'keep_best = keras.callbacks.EarlyStopping("val_loss", patience={patience}, restore_best_weights=True)',
            "model.compile(",
            f"    optimizer={_optimizer(recipe)},",
            f'    loss="{self.loss}",',
            '    metrics=["accuracy"],',
            "    jit_compile=XLA,",
            ")",
            "model.fit(",
            "    batches,",
            f"    validation_data=Batches(validation_{split}, validation_labels, 64),",
            f"    epochs={recipe.epochs},",
            "    callbacks=[EveryEpoch(batches), keep_best],",
            "    shuffle=False,",
            "    verbose=0,",
            ")",
        ]
        return "\n".join(lines)

    def results(self) -> str:
        """Evaluate the best epoch on the test split, once, and save the network if asked to."""
        lines = ["# The best epoch, and the test split for the first and only time",
                 'best = min(history, key=lambda row: row["val_loss"])']  # fmt: skip
        if len(self.phases) > 1:
            lines += ['if best["epoch"] <= head_epochs:  # fine-tuning has made it worse',
                      "    model.set_weights(head_weights)"]  # fmt: skip
        figures = "best_epoch {epoch}  val_loss {val_loss:.6g}  val_accuracy {val_accuracy:.6g}"
        lines.append(f'print("{figures}".format(**best))')
        if "test" in self.counts:
            kind = "features" if self.phases[-1].on_features else "images"
            lines.append(f"test_loss, test_accuracy = model.evaluate(Batches(test_{kind}, test_labels, 64), verbose=0)")
            lines.append('print(f"test_loss {test_loss:.6g}  test_accuracy {test_accuracy:.6g}")')
        custom = [*map(self.augmentation, self.policies), *(["CaffePreprocessing"] if self.caffe else [])]
        if custom:
            lines.append(f"# keras.saving.load_model needs custom_objects for {' and '.join(custom)}")
        lines.append("if arguments.save:")
        if self.phases[-1].on_features:
            lines.append("    model = keras.Model(inputs, through_head(extractor.output))")
        return "\n".join([*lines, "    model.save(arguments.save)"])


def _policy(recipe: Recipe) -> AugmentationPolicy | None:
    return recipe.augmentation if recipe.augmentation and not recipe.augmentation.is_identity else None


def _optimizer(recipe: Recipe) -> str:
    name = {"rmsprop": "RMSprop", "adam": "Adam", "sgd": "SGD"}[recipe.optimizer]
    options = f", momentum={recipe.momentum}" if recipe.momentum else ""
    if recipe.optimizer != "sgd":
        options = ""
    elif recipe.nesterov:
        options += ", nesterov=True"
    return f"keras.optimizers.{name}({recipe.learning_rate}{options})"
