"""Every parameter count and shape that the sources state, written down here by hand."""

import keras
import pytest

from cvcore.models import build, describe, describe_base
from cvcore.published import PUBLISHED, get_recipe

CLASSES = {"exercise-mnist": 10}

# recipe: (total, trainable, frozen); the two or three that a source states of a network.
VGG_HEAD = 12_800 * 256 + 256 + 257  # (5, 5, 512) flattened, Dense 256, one unit
COUNTS = {
    "chollet2-scratch": (991_041, 991_041, 0),
    "chollet2-augmented": (991_041, 991_041, 0),
    "chollet2-features": (14_714_688 + VGG_HEAD, VGG_HEAD, 14_714_688),
    "chollet2-features-augmented": (14_714_688 + VGG_HEAD, VGG_HEAD, 14_714_688),
    # block5_conv1..3: three times 3 x 3 x 512 x 512 and 512 biases
    "chollet2-finetune": (14_714_688 + VGG_HEAD, VGG_HEAD + 7_079_424, 14_714_688 - 7_079_424),
    "chollet1-scratch": (3_453_121, 3_453_121, 0),
    "chollet1-augmented": (3_453_121, 3_453_121, 0),
    "lecture-scratch": (3_453_121, 3_453_121, 0),
    "lecture-augmented": (3_453_121, 3_453_121, 0),
    "lecture-augmented-no-dropout": (3_453_121, 3_453_121, 0),
    "lecture-features": (16_812_353, 2_097_665, 14_714_688),
    "lecture-features-augmented": (16_812_353, 2_097_665, 14_714_688),
    "lecture-finetune": (16_812_353, 2_097_665 + 7_079_424, 14_714_688 - 7_079_424),
    "note-features": (16_320_770, 1_605_954, 14_714_816),
    "exercise-mnist": (260_476, 260_476, 0),
    "exercise-scratch": (1_667_169, 1_667_169, 0),
    "exercise-augmented": (1_667_169, 1_667_169, 0),
    "exercise-xception": (20_863_529, 2_049, 20_861_480),
}
# recipe: what each layer of it puts out, pictures aside.
SHAPES = {
    "chollet2-scratch": {"image": (180, 180, 3), "conv5": (7, 7, 256), "flatten": (12_544,), "prediction": (1,)},
    "chollet2-features": {"vgg16": (5, 5, 512), "flatten": (12_800,), "dense1": (256,), "prediction": (1,)},
    "chollet1-scratch": {"image": (150, 150, 3), "pool4": (7, 7, 128), "flatten": (6_272,), "dense1": (512,)},
    "lecture-features": {"vgg16": (4, 4, 512), "flatten": (8_192,), "dense1": (256,), "prediction": (1,)},
    "note-features": {"image": (224, 224, 3), "vgg16": (7, 7, 512), "flatten": (25_088,), "dense1": (64,),
                      "dense1_norm": (64,), "prediction": (2,)},
    "exercise-mnist": {"image": (28, 28, 1), "mean_image": (28, 28, 1), "flatten": (1_600,), "dense1": (150,),
                       "prediction": (10,)},
    "exercise-scratch": {"image": (150, 150, 3), "pool4": (7, 7, 64), "flatten": (3_136,), "dense1": (512,)},
    "exercise-xception": {"xception": (5, 5, 2_048), "average_pool": (2_048,), "prediction": (1,)},
}  # fmt: skip
# recipe: layers between picture and prediction, in their order.
LAYERS = {
    "chollet2-augmented": "augmentation preprocessing conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 conv5 flatten "
                          "dropout",
    "chollet2-features": "preprocessing vgg16 flatten dense1 dense1_dropout",
    "chollet1-scratch": "preprocessing conv1 pool1 conv2 pool2 conv3 pool3 conv4 pool4 flatten dense1",
    "lecture-features-augmented": "augmentation preprocessing vgg16 flatten dense1",
    "note-features": "vgg16 flatten dense1 dense1_norm dense1_dropout",
    "exercise-mnist": "preprocessing mean_image conv1 pool1 pool1_dropout conv2 pool2 pool2_dropout flatten dense1 "
                      "dense1_dropout",
    "exercise-xception": "preprocessing xception average_pool dropout",
}  # fmt: skip
_described: dict = {}


def described(name):
    if name not in _described:
        _described[name] = describe(get_recipe(name), CLASSES.get(name, 2))
    return _described[name]


def test_there_is_a_count_of_every_published_recipe():
    assert set(COUNTS) == set(PUBLISHED) and len(COUNTS) == 18


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_the_published_ones_trainable_and_frozen_apart(name):
    total, trainable, frozen = COUNTS[name]
    assert described(name)["parameters"] == {"total": total, "trainable": trainable, "frozen": frozen}
    assert sum(row["parameters"] for row in described(name)["layers"]) == total


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_the_published_ones(name):
    found = {row["name"]: tuple(row["output_shape"]) for row in described(name)["layers"]}
    assert {layer: found[layer][1:] for layer in SHAPES[name]} == SHAPES[name]
    assert all(shape[0] is None for shape in found.values())


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_in_the_published_order(name):
    assert " ".join(row["name"] for row in described(name)["layers"]) == f"image {LAYERS[name]} prediction"


@pytest.mark.parametrize(
    ("base", "image_size", "shape", "total"),
    [("VGG16", 180, (5, 5, 512), 14_714_688), ("VGG16", 150, (4, 4, 512), 14_714_688),
     ("VGG16", 224, (7, 7, 512), 14_714_688), ("Xception", 150, (5, 5, 2_048), 20_861_480)],
)  # fmt: skip
def test_base_without_top_has_its_published_parameters_and_feature_maps(base, image_size, shape, total):
    found = describe_base(base, image_size)
    assert found["parameters"]["total"] == total
    assert tuple(found["layers"][-1]["output_shape"]) == (None, *shape)


def test_freezing_vgg16_leaves_none_of_its_26_trainable_tensors_and_4_of_the_model_s_30():
    network = build(get_recipe("lecture-features-augmented"), 2)
    model = network.model()
    assert (len(network.base.trainable_weights), len(model.trainable_weights)) == (26, 30)
    network.train_only("head")
    assert (len(network.base.trainable_weights), len(model.trainable_weights)) == (0, 4)


def test_fine_tuning_trains_the_three_convolutions_of_the_last_block():
    for name in ("chollet2-finetune", "lecture-finetune"):
        network = build(get_recipe(name), 2)
        network.train_only(str(get_recipe(name).unfreeze_from))
        trained = [layer.name for layer in network.base.layers if layer.trainable_weights]
        assert trained == ["block5_conv1", "block5_conv2", "block5_conv3"]
        # The textbook says "from the fourth last layer on": the pooling after them has no weights.
        assert [layer.name for layer in network.base.layers[-4:]] == [*trained, "block5_pool"]


def test_one_sigmoid_unit_or_a_softmax_as_published():
    activations = {"chollet2-scratch": keras.activations.sigmoid, "note-features": keras.activations.softmax}
    for name, activation in activations.items():
        assert build(get_recipe(name), 2).head[-1].activation is activation
    assert build(get_recipe("exercise-mnist"), 10).head[-1].activation is keras.activations.softmax


@pytest.mark.parametrize(
    ("name", "activation"),
    [("chollet2-features", keras.activations.linear), ("lecture-features", keras.activations.relu),
     ("note-features", keras.activations.relu), ("exercise-mnist", keras.activations.relu)],
)  # fmt: skip
def test_hidden_layer_of_the_head_has_the_published_activation(name, activation):
    head = {layer.name: layer for layer in build(get_recipe(name), CLASSES.get(name, 2)).head}
    assert head["dense1"].activation is activation


@pytest.mark.parametrize("name", ["chollet2-scratch", "chollet1-scratch", "exercise-scratch", "exercise-mnist"])
def test_convolutions_are_three_by_three_without_padding_and_pooled_by_two(name):
    body = build(get_recipe(name), CLASSES.get(name, 2)).body
    convolutions = [layer for layer in body if isinstance(layer, keras.layers.Conv2D)]
    assert tuple(layer.filters for layer in convolutions) == get_recipe(name).filters
    for layer in convolutions:
        assert (layer.kernel_size, layer.strides, layer.padding) == ((3, 3), (1, 1), "valid")
        assert layer.activation is keras.activations.relu
    assert {layer.pool_size for layer in body if isinstance(layer, keras.layers.MaxPooling2D)} == {(2, 2)}
