"""The network of an exported script, layer by layer as `models.build` makes it: see `code_export`."""

from __future__ import annotations

from cvcore.augmentation import AugmentationPolicy
from cvcore.bases import BASES, pixels_become
from cvcore.code_layers import augmentation_layer
from cvcore.code_parts import literal
from cvcore.layer_counts import base_layers, cut_place
from cvcore.recipe import Recipe
from cvcore.strategies import Phase

BATCH_NORMALIZED = ("Xception", "MobileNetV2", "ResNet50", "EfficientNetV2B0")

MEAN_IMAGE = """\
# The mean picture of the training and validation splits, which the network takes off each picture.
mean_image = np.concatenate([train_images, validation_images]).mean(axis=0) / 255"""


class NetworkCode:
    """The lines that make a recipe's network.

    Args:
        recipe: of the run.
        phases: of the run, from `strategies.phases`.
        classes: number of classes.
        from_run: whether the run continues a saved one.
        tests: whether it has a test split.

    Attributes:
        input: the layer that pictures come in by.
        softmax: whether the last layer has a unit a class.
        views: whether a phase trains on stored views.
        one_model: whether one model serves all phases.
        policies: the augmentation policies, each once.
        draws: whether anything draws at random in each epoch.
        mean_image: whether a mean picture is taken off the pictures.
        caffe: whether `CaffePreprocessing` is needed.
        other_test: whether test pictures are preprocessed otherwise than training pictures.
    """

    def __init__(self, recipe: Recipe, phases: tuple[Phase, ...], classes: int, from_run: bool, tests: bool) -> None:
        self.recipe, self.phases, self.from_run = recipe, phases, from_run
        # Beside layers that compute in bfloat16, those that handle pixels and probabilities stay exact.
        self.exact = ', dtype="float32"' if recipe.mixed_precision else ""
        channels = 3 if recipe.color_mode == "rgb" else 1
        self.input = f'keras.Input((IMAGE_SIZE, IMAGE_SIZE, {channels}), name="image")'
        self.softmax = classes > 2 or recipe.classifier_activation == "softmax"
        policies = [_policy(phase.recipe) for phase in phases]
        self.views = any(phase.recipe.views for phase in phases)
        # One model serves all phases unless they train on other inputs or with another augmentation.
        on_features = self.views or any(phase.on_features for phase in phases)
        self.one_model = not on_features and all(policy == policies[0] for policy in policies)
        self.policies = [policy for place, policy in enumerate(policies) if policy and policy not in policies[:place]]
        own = [*self.convolutions(), *self.head_layers()]
        self.draws = bool(self.policies) or any("Dropout" in layer for layer in own)
        self.other_test = tests and recipe.tests_other_pixels
        pixels = self.preprocessing(recipe.preprocessing)
        if self.other_test:
            pixels = [*pixels, *self.preprocessing(str(recipe.test_preprocessing))]
        self.mean_image = any("mean_image" in layer for layer in pixels)
        self.caffe = any("CaffePreprocessing" in layer for layer in pixels)

    def base_file(self) -> str:
        """Name the argument for the base's weights; "" where there is none to give."""
        if self.recipe.base is None or self.recipe.weights == "random":
            return ""
        return "WEIGHTS_FILE" if BASES[self.recipe.base].weights_file is None else "[WEIGHTS_FILE]"

    def preprocessing(self, how: str) -> list[str]:
        """Name the layers of a recipe's `preprocessing` or `test_preprocessing`."""
        how = pixels_become(how, self.recipe.base)
        options = f'name="preprocessing"{self.exact}'
        rescale = f"layers.Rescaling(1 / 255, {options})"
        normalize = 'layers.Normalization((1, 2, 3), mean_image, np.ones_like(mean_image), name="mean_image"'
        return {
            "rescale": [rescale],
            "mean_image": [rescale, f"{normalize}{self.exact})"],
            "tf": [f"layers.Rescaling(1 / 127.5, offset=-1, {options})"],
            "caffe": [f"CaffePreprocessing({options})"],
        }.get(how, [])

    def convolutions(self) -> list[str]:
        """Name the layers of a convnet before its head; none for a base."""
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
        recipe = self.recipe
        convolutions = ["base"] if recipe.base else self.convolutions()
        return _connected([*self.preprocessing(recipe.preprocessing), *convolutions, *self.pooling()], start)

    def pooling(self) -> list[str]:
        """Name the layer between the convolutions and the head, where there is one."""
        return ['layers.GlobalAveragePooling2D(name="average_pool")'] if self.recipe.pooling == "average" else []

    def cut(self, trainable: str) -> tuple[list[str], list[str], int]:
        """Divide the network below what a phase trains.

        Returns:
            Lines that make `extractor`, which is frozen; lines that make `model` of the rest; how many layers of the
            whole network, its pictures and their augmentation among them, the rest has not.
        """
        recipe, before = self.recipe, self.preprocessing(self.recipe.preprocessing)
        if trainable == "head":
            below = [f"inputs = {self.input}", "extractor = keras.Model(inputs, through_base(inputs))"]
            rest, skipped = "feature", len(before) + 1 + len(self.pooling())
        else:
            assert recipe.base is not None
            place = cut_place(recipe.base, trainable)
            name = base_layers(recipe.base, recipe.image_size, recipe.alpha)[place].name
            below = [
                f"last_frozen = base.layers[{place}].output  # {name}: all that the layers above take from below",
                "below, above = keras.Model(base.input, last_frozen), keras.Model(last_frozen, base.output)",
                f"inputs = {self.input}",
                *_connected([*before, "below"], "inputs"),
                "extractor = keras.Model(inputs, x)",
            ]
            rest, skipped = "x", len(before)
        above = ['feature = keras.Input(extractor.output_shape[1:], name="feature")']
        above += _connected(["above", *self.pooling()], "feature") if rest == "x" else []
        return below, [*above, f"model = keras.Model(feature, through_head({rest}))"], 1 + skipped

    def whole_again(self) -> list[str]:
        """Put the trained layers back behind the frozen ones."""
        first, start = self.pictures_in(self.phases[-1].recipe)
        whole = f"model = keras.Model(inputs, through_head(through_base({start})))"
        return ["# The whole network, from pictures on", *first, whole]

    def head_layers(self) -> list[str]:
        """Name the layers after the convolutions or the base."""
        recipe = self.recipe
        chain = ['layers.Flatten(name="flatten")'] if recipe.pooling == "flatten" else []
        if recipe.dropout:
            chain.append(f'layers.Dropout({recipe.dropout}, name="dropout")')
        activation = "" if recipe.dense_activation == "linear" else f'activation="{recipe.dense_activation}", '
        for index, units in enumerate(recipe.dense, start=1):
            chain.append(f'layers.Dense({units}, {activation}name="dense{index}")')
            if recipe.dense_batch_norm:
                chain.append(f'layers.BatchNormalization(name="dense{index}_norm")')
            if recipe.dense_dropout:
                chain.append(f'layers.Dropout({recipe.dense_dropout}, name="dense{index}_dropout")')
        last = 'len(CLASS_NAMES), activation="softmax"' if self.softmax else '1, activation="sigmoid"'
        return [*chain, f'layers.Dense({last}, name="prediction"{self.exact})']

    def augmentation(self, policy: AugmentationPolicy) -> str:
        """Name the layer class of a policy; two phases may have two."""
        return "Augmentation" if policy == self.policies[-1] else "HeadAugmentation"

    def augmentation_layer(self, policy: AugmentationPolicy) -> str:
        """Write the layer class of a policy."""
        viewed = any(phase.recipe.views and _policy(phase.recipe) == policy for phase in self.phases)
        return augmentation_layer(policy, self.augmentation(policy), with_given_numbers=viewed)

    def pictures_in(self, recipe: Recipe) -> tuple[list[str], str]:
        """Begin a model at its pictures, augmented as a phase's recipe says; say where it goes on from."""
        lines, policy = [f"inputs = {self.input}"], _policy(recipe)
        if policy is None:
            return lines, "inputs"
        return [*lines, f'x = {self.augmentation(policy)}(name="augmentation"{self.exact})(inputs)'], "x"

    def text(self) -> str:
        """Make every layer that has weights, in the order in which the app makes them."""
        lines = [*MEAN_IMAGE.splitlines(), "", ""] if self.mean_image else []
        lines += ["# The network", "keras.utils.set_random_seed(SEED)"]
        lines += self._base_lines() if self.recipe.base else []
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

    def _base_lines(self) -> list[str]:
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

    def unfreezing(self, first: str) -> list[str]:
        """Let the base be trained from the layer named `first` on."""
        lines = [
            "base.trainable = True",
            "for layer in base.layers:",
            f"    if layer.name == {literal(first)}:",
            "        break",
            "    layer.trainable = False",
        ]
        if self.recipe.base in BATCH_NORMALIZED:
            lines += [
                "for layer in base.layers:",
                "    if isinstance(layer, layers.BatchNormalization):",
                "        layer.trainable = False  # the base stays in inference mode",
            ]
        return lines

    def for_test_pictures(self) -> list[str]:
        """Join the trained layers, from behind the preprocessing on, to the other preprocessing of test pictures."""
        last = self.phases[-1]
        augmented = _policy(last.recipe) is not None and not last.on_features
        before = 1 + augmented + len(self.preprocessing(self.recipe.preprocessing))
        trained = "extractor" if last.on_features else "model"
        return [
            "# The source's bug, kept on purpose: it tests on pixels preprocessed otherwise than those it trained on.",
            f"x = test_inputs = {self.input}",
            *[f"x = {layer}(x)" for layer in self.preprocessing(str(self.recipe.test_preprocessing))],
            f"for layer in {trained}.layers[{before}:]:",
            "    x = layer(x)",
        ]


def _connected(chain: list[str], start: str) -> list[str]:
    """Connect x from `start` through layers; those of a base run in inference mode."""
    names = [start, *["x"] * len(chain)]
    return [
        f"x = {layer}({name}{', training=False' if layer in ('base', 'below', 'above') else ''})"
        for name, layer in zip(names, chain, strict=False)
    ]


def _policy(recipe: Recipe) -> AugmentationPolicy | None:
    return recipe.augmentation if recipe.augmentation and not recipe.augmentation.is_identity else None
