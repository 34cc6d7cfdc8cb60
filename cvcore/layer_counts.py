"""Operations and outputs of every layer of a network, counted without Keras.

Of the pretrained bases `base_layers.csv` knows the layers (`python -m tools.list_base_layers` writes it from Keras); a
convnet from scratch is what its recipe says. An operation is a multiplication or an addition, as in a FLOP.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cvcore.bases import MOBILENET_ALPHAS
from cvcore.errors import InvalidRecipe
from cvcore.recipe import Recipe

TABLE = Path(__file__).with_name("base_layers.csv")


@dataclass(frozen=True)
class Layer:
    """One layer, of one picture.

    Attributes:
        name: as in the network.
        kind: `conv`, `depthwise`, `separable`, `dense`, `norm`, `activation`, `dropout`, `add`, `multiply`, `pool`,
            `pad`, `global` or `other`.
        after: places of the layers whose outputs it takes.
        side: of its output, in pixels; 1 for a vector.
        channels: of its output.
        operations: of one forward pass; counted of convolutions and dense layers, whose share is all but everything.
        weights: of its kernels.
    """

    name: str
    kind: str
    after: tuple[int, ...]
    side: int
    channels: int
    operations: int = 0
    weights: int = 0

    @property
    def outputs(self) -> int:
        """Numbers that it hands on."""
        return self.side**2 * self.channels


@cache
def base_layers(base: str, image_size: int, alpha: float = 1.0) -> tuple[Layer, ...]:
    """List the layers of a pretrained base without its top, in the order of its Keras model.

    Args:
        base: a name in BASES.
        image_size: side of the pictures, pixels.
        alpha: one of MOBILENET_ALPHAS for MobileNetV2; 1 for the others.
    """
    column = MOBILENET_ALPHAS.index(alpha) if base == "MobileNetV2" else 0
    found: list[Layer] = []
    for place, row in enumerate(_table()[base]):
        after = tuple(map(int, row["after"].split())) if row["after"] else (place - 1,) if place else ()
        channels = [int(number) for number in row["channels"].split("/")]
        given = (image_size, 3) if not after else (max(found[i].side for i in after), found[after[0]].channels)
        of_layer = channels[column if len(channels) > 1 else 0]
        found.append(_layer(row, after, *given, of_layer))
    return tuple(found)


@cache
def _table() -> dict[str, list[dict[str, str]]]:
    by_base: dict[str, list[dict[str, str]]] = {}
    with TABLE.open(newline="") as stream:
        for row in csv.DictReader(stream):
            by_base.setdefault(row["base"], []).append(row)
    return by_base


def _layer(row: dict[str, str], after: tuple[int, ...], side: int, given: int, channels: int) -> Layer:
    kind, size, stride = row["kind"], int(row["size"] or 0), int(row["stride"] or 1)
    if kind == "pad":
        side += size or (1 if side % 2 == 0 else 2)
    elif kind == "global" or row["layer"].endswith("se_reshape"):
        side = 1
    elif row["padding"]:
        side = -(-side // stride) if row["padding"] == "same" else (side - size) // stride + 1
    weights = {"conv": size**2 * given * channels, "depthwise": size**2 * given,
               "separable": size**2 * given + given * channels}.get(kind, 0)  # fmt: skip
    return Layer(row["layer"], kind, after, side, channels, 2 * weights * side**2, weights)


@cache
def cut_place(base: str, unfreeze_from: str) -> int:
    """Return the place of the last layer below the first trained one through which everything flows.

    What a frozen base makes of a picture may be stored there: nothing above takes anything from below.

    Raises:
        InvalidRecipe: the base has no layer of this name.
    """
    rows = _table()[base]
    names = [row["layer"] for row in rows]
    if unfreeze_from not in names:
        raise InvalidRecipe(f"unfreeze_from must name a layer of {base}; received {unfreeze_from!r}; its last "
                            f"layers: {', '.join(names[-8:])}")  # fmt: skip
    lowest = len(rows)  # that any layer from here on takes its input from
    place = 0
    for index in range(len(rows) - 1, 0, -1):
        after = [int(number) for number in rows[index]["after"].split()] or [index - 1]
        lowest = min(lowest, *after)
        if lowest == index - 1 and index <= names.index(unfreeze_from):
            place = index - 1
            break
    return place


def body_layers(recipe: Recipe) -> tuple[Layer, ...]:
    """List what comes before the head: the base or the convolutions; global average pooling where the recipe pools."""
    found = list(base_layers(recipe.base, recipe.image_size, recipe.alpha) if recipe.base else _convolutions(recipe))
    if recipe.pooling == "average":
        found.append(Layer("average_pool", "global", (len(found) - 1,), 1, found[-1].channels))
    return tuple(found)


def _convolutions(recipe: Recipe) -> list[Layer]:
    channels = 1 if recipe.color_mode == "grayscale" else 3
    found = [Layer("pixels", "other", (), recipe.image_size, channels)]
    pools = len(recipe.filters) if recipe.pools is None else recipe.pools

    def add(**layer: Any) -> None:
        found.append(Layer(after=(len(found) - 1,), **layer))

    for index, filters in enumerate(recipe.filters, start=1):
        side, weights = max(1, found[-1].side - 2), 9 * found[-1].channels * filters
        add(name=f"conv{index}", kind="conv", side=side, channels=filters, operations=2 * weights * side**2,
            weights=weights)  # fmt: skip
        if index <= pools:
            add(name=f"pool{index}", kind="pool", side=max(1, side // 2), channels=filters)
            if recipe.block_dropout:
                add(name=f"pool{index}_dropout", kind="dropout", side=found[-1].side, channels=filters)
    return found


def head_layers(recipe: Recipe, units: int, classes: int = 2) -> tuple[Layer, ...]:
    """List what comes after the body: dense layers, and dropout where the recipe has some.

    Args:
        recipe: says how many.
        units: what the first one takes, flattened or pooled.
        classes: of the pictures; two have one unit at the end unless the recipe says softmax.
    """
    last = 1 if classes == 2 and recipe.classifier_activation == "sigmoid" else classes
    found: list[Layer] = [Layer("dropout", "dropout", (-1,), 1, units)] if recipe.dropout else []
    for index, width in enumerate((*recipe.dense, last), start=1):
        name = f"dense{index}" if index <= len(recipe.dense) else "prediction"
        found.append(Layer(name, "dense", (len(found) - 1,), 1, width, 2 * units * width, units * width))
        if recipe.dense_dropout and index <= len(recipe.dense):
            found.append(Layer(f"{name}_dropout", "dropout", (len(found) - 1,), 1, width))
        units = width
    return tuple(found)


@dataclass(frozen=True)
class Network:
    """The layers of a recipe's network below and above a cut.

    Attributes:
        below: frozen, to be run once a picture where what it makes is stored; empty where all is trained.
        above: the rest of the body, then the head; run in each step.
        trained: of `above`, from this place on each is trained: backwards goes no further down.
    """

    below: tuple[Layer, ...]
    above: tuple[Layer, ...]
    trained: int = 0

    @property
    def stored(self) -> Layer | None:
        """The layer whose outputs are stored."""
        return self.below[-1] if self.below else None


def network(recipe: Recipe, trainable: str, classes: int = 2) -> Network:
    """Divide a recipe's network as a phase does that trains `trainable` of it.

    Args:
        recipe: what the network is built from.
        trainable: `everything`, `head`, or the base layer from which on the base is trained.
        classes: of the pictures.

    Raises:
        InvalidRecipe: the base has no layer of this name.
    """
    body = body_layers(recipe)
    head = head_layers(recipe, body[-1].outputs, classes)
    if recipe.base is None or trainable == "everything":
        return Network((), (*body, *head))
    if trainable == "head":
        return Network(body, head)
    place = cut_place(recipe.base, trainable) + 1
    if place == 1:  # only the pixels themselves
        place = 0
    names = [layer.name for layer in body]
    return Network(body[:place], (*body[place:], *head), names.index(trainable) - place)
