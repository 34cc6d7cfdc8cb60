"""Operations and outputs of each layer: by hand, and held against the layers that Keras builds."""

import math

import pytest
from tiny_lessons import tiny_finetune, tiny_greys, tiny_scratch

from cvcore import layer_counts
from cvcore.bases import BASES
from cvcore.errors import InvalidRecipe
from cvcore.layer_counts import base_layers, body_layers, cut_place, head_layers, network
from cvcore.published import RECIPES, get_recipe

# Sides that leave remainders in other places than the sizes the bases were trained at.
SIZES = {"doodle-base": 50, "VGG16": 75, "Xception": 99, "MobileNetV2": 97, "ResNet50": 61, "EfficientNetV2B0": 71}


def operations(layers):
    return sum(layer.operations for layer in layers)


def test_a_small_convnet_by_hand():
    # 32 px: conv 4 of 3x3 over 30x30, pooled to 15; conv 8 of 3x3 over 13x13, pooled to 6; 288 -> 8 -> 1.
    body = body_layers(tiny_scratch)
    assert [(layer.kind, layer.side, layer.channels) for layer in body[1:]] == [
        ("conv", 30, 4), ("pool", 15, 4), ("conv", 13, 8), ("pool", 6, 8)
    ]  # fmt: skip
    assert operations(body) == 2 * 9 * 3 * 4 * 30**2 + 2 * 9 * 4 * 8 * 13**2
    head = head_layers(tiny_scratch, 288)
    assert operations(head) == 2 * 288 * 8 + 2 * 8 and [layer.weights for layer in head] == [2304, 8]


def test_one_pool_average_pooling_greys_and_classes():
    # 30x30 pooled to 15, then 13x13 unpooled, averaged to 8 values.
    recipe = tiny_scratch.with_changes(pools=1, pooling="average")
    found = network(recipe, "everything", classes=3)
    expected = 2 * 9 * 3 * 4 * 30**2 + 2 * 9 * 4 * 8 * 13**2 + 2 * 8 * 8 + 2 * 8 * 3
    assert operations(found.above) == expected and not found.below and found.stored is None
    assert body_layers(tiny_greys)[1].operations == 2 * 9 * 1 * 4 * 30**2
    assert body_layers(recipe)[-1].outputs == 8


def test_dropout_is_a_layer_where_the_recipe_has_some():
    recipe = get_recipe("exercise-scratch")
    dropped = [layer.outputs for layer in network(recipe, "everything").above if layer.kind == "dropout"]
    assert dropped == [74 * 74 * 16, 36 * 36 * 32, 17 * 17 * 64, 7 * 7 * 64, 512]
    assert not any(layer.kind == "dropout" for layer in network(tiny_scratch, "everything").above)


def test_the_known_bases_have_the_operations_of_their_papers():
    for base in BASES.values():
        found = operations(base_layers(base.name, base.image_size)) / 1e9
        assert found == pytest.approx(base.gflop, rel=0.05), base.name
    half = operations(base_layers("MobileNetV2", 224, 0.5))
    assert half < operations(base_layers("MobileNetV2", 224, 1.0)) / 2


@pytest.mark.parametrize("base", BASES)
def test_the_table_is_what_keras_builds(base):
    import keras

    from cvcore import models
    from cvcore.base_weights import load_base

    changes = {"base": base, "image_size": SIZES[base], "weights": "random"}
    recipe = RECIPES["mobilenet-features"].with_changes(**changes, **({"alpha": 1.4} if base == "MobileNetV2" else {}))
    keras.backend.clear_session()  # some layers of Xception are named by their number in the session
    whole = load_base(recipe, None)
    built = whole.layers
    found = base_layers(base, recipe.image_size, recipe.alpha)
    assert [layer.name for layer in found[1:]] == [layer.name for layer in built[1:]]
    for ours, theirs in zip(found, built, strict=True):
        assert ours.outputs == math.prod(theirs.output.shape[1:]), ours
        kernels = [weight for weight in theirs.weights if weight.name.endswith("kernel")]
        assert ours.weights == sum(math.prod(weight.shape) for weight in kernels), ours
    for place in range(1, len(built)):
        neck = models._neck(whole, place)
        assert cut_place(base, found[place].name) == (neck or 0), found[place]


def test_below_the_cut_nothing_is_trained_and_above_it_all_is_kept():
    recipe = get_recipe("chollet2-finetune")
    found = network(recipe, str(recipe.unfreeze_from))
    assert found.stored is not None and (found.stored.name, found.stored.side) == ("block4_pool", 11)
    assert found.above[found.trained].name == "block5_conv1" and found.trained == 0
    whole = network(recipe, "head")
    assert whole.stored is not None and whole.stored.name == "block5_pool"
    assert operations(found.below + found.above) == operations(whole.below + whole.above)
    mobile = get_recipe("mobilenet-finetune")
    assert network(mobile, "block_14_depthwise").trained == 3  # what leads to it runs in each step, and is not trained
    lowest = network(tiny_finetune, "block1_conv1")
    assert not lowest.below and lowest.above[lowest.trained].name == "block1_conv1"


def test_a_layer_that_the_base_has_not_is_named():
    with pytest.raises(InvalidRecipe, match=r"unfreeze_from must name a layer of VGG16; received 'conv9'; its last"):
        cut_place("VGG16", "conv9")


def test_the_table_has_every_base_once():
    assert list(layer_counts._table()) == list(BASES)
