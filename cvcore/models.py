"""The networks: convnets from scratch, and heads on pretrained bases, built from a recipe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import layers

from cvcore.augmentation import UNIFORMS, AugmentationPolicy
from cvcore.augmentation_layer import Augmentation, Drawn
from cvcore.base_weights import BaseWeights, load_base
from cvcore.bases import pixels_become
from cvcore.errors import InvalidRecipe
from cvcore.recipe import Preprocessing, Recipe, make_recipe


@keras.saving.register_keras_serializable("cvcore")
class CaffePreprocessing(layers.Layer):
    """Pixels 0..255 RGB to BGR minus the ImageNet mean, as VGG16 and ResNet50 were trained.

    Source: `keras.applications.imagenet_utils.preprocess_input(mode="caffe")`.
    """

    def call(self, images: Any) -> Any:
        return keras.ops.flip(images, axis=-1) - keras.ops.convert_to_tensor([103.939, 116.779, 123.68], images.dtype)


@dataclass(frozen=True)
class Cut:
    """Where a network with a pretrained base is divided: below nothing is trained, and a look at a picture is enough.

    Attributes:
        layer: name of the layer after which it is cut; Keras numbers some by what was built before.
        place: that layer's place among the base's; more than there are where it comes after the base.
        below: pixels (n, image_size, image_size, 3), float32 0..255, to activations.
        above: activations to probabilities (n, 1) or (n, classes); shares its layers with the whole model.
    """

    layer: str
    place: int
    below: keras.Model
    above: keras.Model
    _views: dict[AugmentationPolicy, keras.Model] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def weights_sha256(self) -> str:
        """The hash of the weights below, in their order, as they were when it was first asked for."""
        digest = hashlib.sha256()
        for weight in self.below.weights:
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).data)
        return digest.hexdigest()

    def below_views(self, augmentation: AugmentationPolicy) -> keras.Model:
        """Assemble [pixels, uniform numbers (n, UNIFORMS) that decide how they are changed] to activations, once."""
        if augmentation in self._views:
            return self._views[augmentation]
        image = keras.Input(self.below.input_shape[1:], name="image")
        uniforms = keras.Input((UNIFORMS,), name="uniforms")
        changed = Drawn(augmentation, name="augmentation")([image, uniforms])
        self._views[augmentation] = keras.Model([image, uniforms], self.below(changed), name="views")
        return self._views[augmentation]


@dataclass(frozen=True)
class Network:
    """The layers of one run, shared by every model that is assembled from them.

    Attributes:
        recipe: what they were built from.
        body: preprocessing, then convolutions or the base, then global average pooling if the recipe pools.
        head: what comes after; trained even when the base is frozen.
        base: the pretrained base inside `body`, or None.
        mean: float32 (image_size, image_size, channels), 0..1, what `mean_image` subtracts; None for zeros.
    """

    recipe: Recipe
    body: tuple[layers.Layer, ...]
    head: tuple[layers.Layer, ...]
    base: keras.Model | None
    mean: np.ndarray | None = None

    def model(self, augmentation: AugmentationPolicy | None = None) -> keras.Model:
        """Assemble pixels (n, image_size, image_size, channels), float32 0..255, to probabilities.

        A policy that changes nothing adds no layer: each layer's place decides what its randomness is drawn from.
        """
        inputs = keras.Input(_input_shape(self.recipe), name="image")
        x = inputs
        if augmentation and not augmentation.is_identity:
            x = Augmentation(augmentation, name="augmentation")(inputs)
        return keras.Model(inputs, self._through(self.head, self._through(self.body, x)), name="fourways")

    def cut(self, trainable: str) -> Cut | None:
        """Divide the network below what a phase trains, or return None where nothing below is worth storing.

        Args:
            trainable: as `train_only` takes it: `head` cuts after the body, a layer of the base at the last tensor
                below it through which everything flows. What lies between the two is not trained either.
        """
        if self.base is None:
            return None
        if trainable == "head":
            place = len(self.base.layers) + len(self.body)
            return Cut(self.body[-1].name, place, *self._divided(self.body, self.head, "feature"))
        names = [layer.name for layer in self.base.layers]
        last = _neck(self.base, names.index(trainable))
        if last is None:
            return None
        place, neck = self.body.index(self.base), self.base.layers[last].output
        bottom = keras.Model(self.base.inputs, neck, name=f"{self.base.name}_below")
        top = keras.Model(neck, self.base.output, name=f"{self.base.name}_above")
        upper = (top, *self.body[place + 1 :], *self.head)
        return Cut(names[last], last, *self._divided((*self.body[:place], bottom), upper, "activation"))

    def _divided(self, lower: tuple[Any, ...], upper: tuple[Any, ...], name: str) -> tuple[keras.Model, keras.Model]:
        image = keras.Input(_input_shape(self.recipe), name="image")
        below = keras.Model(image, self._through(lower, image), name="below")
        between = keras.Input(below.output_shape[1:], name=name)
        return below, keras.Model(between, self._through(upper, between), name="above")

    def preprocessed(self, preprocessing: Preprocessing) -> Network:
        """Return the same layers with the same weights behind another preprocessing of the pixels."""
        recipe = self.recipe.with_changes(preprocessing=preprocessing)
        after = self.body[len(_preprocessing(self.recipe)) :]
        return replace(self, recipe=recipe, body=(*_preprocessing(recipe, self.mean), *after))

    def _through(self, chain: tuple[Any, ...], x: Any) -> Any:
        for layer in chain:
            # A pretrained base always runs in inference mode: its batch statistics are not ours to change. Keras 3
            # drops this `training=False` when the model around it trains: `train_only` and `load_base` see to it too.
            options = {"training": False} if layer is self.base else {}
            x = layer(x, **options)
        return x

    def train_only(self, trainable: str) -> None:
        """Choose what is trained: all of a convnet; of a pretrained base `head`, or also the base from a layer on.

        Batch normalization in the base is never trained, so that it runs in inference mode (F. Chollet, Deep Learning
        with Python, second edition, section 9.3.3).

        Raises:
            InvalidRecipe: the base has no layer of this name.
        """
        if self.base is None:
            return
        self.base.trainable = trainable != "head"
        for layer in self.base.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = False
        if trainable == "head":
            return
        names = [layer.name for layer in self.base.layers]
        if trainable not in names:
            raise InvalidRecipe(
                f"unfreeze_from must name a layer of {self.recipe.base}; received {trainable!r}; "
                f"its last layers: {', '.join(names[-8:])}"
            )
        for layer in self.base.layers[: names.index(trainable)]:
            layer.trainable = False

    def changing_weights(self) -> list[Any]:
        """List the variables that training may change now: all but a base's frozen ones, in a fixed order."""
        frozen = {id(weight) for weight in self.base.weights} if self.base else set()
        trainable = {id(weight) for weight in self.base.trainable_weights} if self.base else set()
        every = [weight for layer in (*self.body, *self.head) for weight in layer.weights]
        return [weight for weight in every if id(weight) not in frozen or id(weight) in trainable]


def _neck(base: keras.Model, frozen: int) -> int | None:
    """Find the last of the base's first `frozen` layers whose output is all that the layers after it take from before.

    Returns:
        Its place among the base's layers; None where only the pictures themselves are such a place.
    """
    makers = {
        id(tensor): place for place, layer in enumerate(base.layers) for tensor in keras.tree.flatten(layer.output)
    }
    reaches = list(range(len(base.layers)))  # of each layer, the last one that takes its output
    for place, layer in enumerate(base.layers):
        for tensor in keras.tree.flatten(layer.input) if place else []:
            reaches[makers[id(tensor)]] = place
    necks, open_until = [], 0
    for place in range(frozen):
        if open_until <= place:  # nothing made before this layer is taken after it
            necks.append(place)
        open_until = max(open_until, reaches[place])
    return necks[-1] if necks and necks[-1] > 0 else None


def build(
    recipe: Recipe, classes: int, seed: int = 0, weights: BaseWeights | None = None, mean: np.ndarray | None = None
) -> Network:
    """Build a recipe's layers with initial weights drawn from the seed.

    Args:
        recipe: decides the architecture.
        classes: number of classes, at least 2; 2 gives one sigmoid unit unless the recipe says softmax, more a softmax.
        seed: of the initial weights.
        weights: of the base; None leaves the base random.
        mean: float32 (image_size, image_size, channels), 0..1, for `mean_image` preprocessing; None takes zeros.

    Raises:
        InvalidRecipe: the pictures become too small for the convolutions.
    """
    keras.utils.set_random_seed(seed)
    base = load_base(recipe, weights) if recipe.base else None
    body = [*_preprocessing(recipe, mean), *([base] if base else _convolutions(recipe))]
    if recipe.pooling == "average":
        body.append(layers.GlobalAveragePooling2D(name="average_pool"))
    network = Network(recipe, tuple(body), tuple(_head(recipe, classes)), base, mean)
    try:
        network.model()
    except ValueError as error:
        raise InvalidRecipe(f"image_size {recipe.image_size} is too small for this network; choose a larger image_size "
                            "or fewer filters") from error  # fmt: skip
    return network


def describe(recipe: Recipe, classes: int = 2) -> dict[str, Any]:
    """Describe a recipe's network as its last phase trains it, without loading any weights; a mean image is zeros.

    Returns:
        {id, strategy, layers: [{name, type, output_shape, parameters}], parameters: {total, trainable, frozen}}.
    """
    network = build(recipe, classes)
    network.train_only("everything" if network.base is None else recipe.unfreeze_from or "head")
    model = network.model(recipe.augmentation)
    return {
        "id": recipe.id,
        "strategy": recipe.strategy,
        "layers": _layer_rows(model),
        "parameters": count_parameters(model),
    }


def describe_base(name: str, image_size: int, alpha: float = 1.0) -> dict[str, Any]:
    """Describe a pretrained base alone, every layer a row."""
    recipe = make_recipe(id="base", strategy="features", base=name, alpha=alpha, image_size=image_size)
    model = load_base(recipe, None)
    return {"id": name, "strategy": None, "layers": _layer_rows(model), "parameters": count_parameters(model)}


def count_parameters(model: keras.Model) -> dict[str, int]:
    """Count a model's weights: total, trainable and frozen."""
    trainable = sum(int(keras.ops.size(weight)) for weight in model.trainable_weights)
    total = model.count_params()
    return {"total": total, "trainable": trainable, "frozen": total - trainable}


def _layer_rows(model: keras.Model) -> list[dict[str, Any]]:
    return [
        {
            "name": layer.name,
            "type": type(layer).__name__,
            "output_shape": list(keras.tree.flatten(layer.output)[0].shape),
            "parameters": layer.count_params(),
        }
        for layer in model.layers
    ]


def _input_shape(recipe: Recipe) -> tuple[int, int, int]:
    return recipe.image_size, recipe.image_size, 1 if recipe.color_mode == "grayscale" else 3


# Preprocessing computes in float32 whatever the dtype policy: bfloat16 would round pixels.
def _preprocessing(recipe: Recipe, mean: np.ndarray | None = None) -> list[layers.Layer]:
    how = pixels_become(recipe.preprocessing, recipe.base)
    if how == "caffe":
        return [CaffePreprocessing(name="preprocessing", dtype="float32")]
    if how == "tf":
        return [layers.Rescaling(1 / 127.5, offset=-1, name="preprocessing", dtype="float32")]
    chain: list[layers.Layer] = []
    if how in ("rescale", "mean_image"):
        chain.append(layers.Rescaling(1 / 255, name="preprocessing", dtype="float32"))
    if how == "mean_image":
        mean = np.zeros(_input_shape(recipe), np.float32) if mean is None else mean
        variance = np.ones_like(mean)
        chain.append(layers.Normalization((1, 2, 3), mean, variance, name="mean_image", dtype="float32"))
    return chain


def _convolutions(recipe: Recipe) -> list[layers.Layer]:
    pools = len(recipe.filters) if recipe.pools is None else recipe.pools
    chain: list[layers.Layer] = []
    for index, filters in enumerate(recipe.filters, start=1):
        chain.append(layers.Conv2D(filters, 3, activation="relu", name=f"conv{index}"))
        if index <= pools:
            chain.append(layers.MaxPooling2D(2, name=f"pool{index}"))
            if recipe.block_dropout:
                chain.append(layers.Dropout(recipe.block_dropout, name=f"pool{index}_dropout"))
    return chain


def _head(recipe: Recipe, classes: int) -> list[layers.Layer]:
    chain: list[layers.Layer] = [layers.Flatten(name="flatten")] if recipe.pooling == "flatten" else []
    if recipe.dropout:
        chain.append(layers.Dropout(recipe.dropout, name="dropout"))
    activation = None if recipe.dense_activation == "linear" else recipe.dense_activation
    for index, units in enumerate(recipe.dense, start=1):
        chain.append(layers.Dense(units, activation=activation, name=f"dense{index}"))
        if recipe.dense_batch_norm:
            chain.append(layers.BatchNormalization(name=f"dense{index}_norm"))
        if recipe.dense_dropout:
            chain.append(layers.Dropout(recipe.dense_dropout, name=f"dense{index}_dropout"))
    if classes == 2 and recipe.classifier_activation == "sigmoid":
        chain.append(layers.Dense(1, activation="sigmoid", name="prediction", dtype="float32"))
    else:
        chain.append(layers.Dense(classes, activation="softmax", name="prediction", dtype="float32"))
    return chain
