"""The networks: published parameter counts, what is frozen, preprocessing, weights that do not fit."""

import hashlib

import keras
import numpy as np
import pytest
from tiny_lessons import tiny_augmented, tiny_features, tiny_finetune, tiny_scratch

from cvcore import base_weights, devices
from cvcore.augmentation import AugmentationPolicy
from cvcore.augmentation_layer import Augmentation
from cvcore.base_weights import BUNDLED, BaseWeights, find_weights, load_base
from cvcore.bases import BASES
from cvcore.errors import InvalidRecipe, WeightsNotFound
from cvcore.fitting import compile_model
from cvcore.models import CaffePreprocessing, build, describe, describe_base
from cvcore.published import get_recipe
from cvcore.recipe import make_recipe

mobilenet = tiny_features.then(
    id="tiny-mobilenet", base="MobileNetV2", alpha=0.35, weights="random", unfreeze_from="Conv_1",
    starts_from=tiny_features.with_changes(base="MobileNetV2", alpha=0.35, weights="random"),
)  # fmt: skip


def frozen_and_trainable(recipe):
    counts = describe(recipe)["parameters"]
    assert counts["total"] == counts["trainable"] + counts["frozen"]
    return counts["frozen"], counts["trainable"]


def test_textbook_convnet_has_its_published_parameters():
    found = describe(get_recipe("chollet2-scratch"))
    assert found["parameters"] == {"total": 991_041, "trainable": 991_041, "frozen": 0}
    assert (found["id"], found["strategy"]) == ("chollet2-scratch", "scratch")
    rows = {row["name"]: row for row in found["layers"]}
    assert rows["conv1"]["output_shape"] == [None, 178, 178, 32] and rows["conv1"]["parameters"] == 896
    assert rows["flatten"]["output_shape"] == [None, 12_544]
    assert rows["prediction"]["parameters"] == 12_545


@pytest.mark.parametrize(
    ("name", "image_size", "alpha", "total"),
    [("VGG16", 32, 1.0, 14_714_688), ("Xception", 71, 1.0, 20_861_480), ("MobileNetV2", 32, 0.35, 410_208)],
)
def test_base_without_top_has_its_published_parameters(name, image_size, alpha, total):
    found = describe_base(name, image_size, alpha)
    assert found["parameters"]["total"] == sum(row["parameters"] for row in found["layers"]) == total
    if alpha == 1:
        assert BASES[name].parameters == total
    assert BASES[name].unfreeze_from in [row["name"] for row in found["layers"]]


@pytest.mark.parametrize("name", ["ResNet50", "EfficientNetV2B0"])
def test_larger_base_has_the_layer_where_fine_tuning_starts(name):
    found = describe_base(name, 32)
    assert BASES[name].parameters == found["parameters"]["total"]
    assert BASES[name].unfreeze_from in [row["name"] for row in found["layers"]]


def test_features_train_the_head_and_finetune_also_the_top_of_the_base():
    filters = [layer.filters for layer in load_base(tiny_features, None).layers if hasattr(layer, "filters")]
    total = sum(inputs * 9 * outputs + outputs for inputs, outputs in zip([3, *filters], filters, strict=False))
    top = filters[-3] * 9 * filters[-2] + filters[-2] + filters[-2] * 9 * filters[-1] + filters[-1]
    head = filters[-1] + 1
    assert frozen_and_trainable(tiny_features) == (total, head)
    assert frozen_and_trainable(tiny_finetune) == (total - top, top + head)


@pytest.mark.parametrize("name", ["doodle-scratch", "doodle-augmented", "doodle-features", "doodle-finetune"])
def test_doodle_recipes_are_described(name):
    frozen, trainable = frozen_and_trainable(get_recipe(name))
    assert trainable > 0
    assert (frozen > 0) == ("features" in name or "finetune" in name)


def test_head_follows_the_recipe_and_the_number_of_classes():
    recipe = tiny_scratch.with_changes(dropout=0.1, block_dropout=0.2, dense=(5, 4), dense_dropout=0.3, pools=1)
    names = [row["name"] for row in describe(recipe, classes=3)["layers"]]
    assert " ".join(names) == (
        "image preprocessing conv1 pool1 pool1_dropout conv2 flatten dropout "
        "dense1 dense1_dropout dense2 dense2_dropout prediction"
    )
    assert describe(recipe, classes=3)["layers"][-1]["parameters"] == 4 * 3 + 3
    assert describe(recipe, classes=2)["layers"][-1]["parameters"] == 4 + 1
    pooled = describe(tiny_scratch.with_changes(pooling="average"))["layers"]
    assert pooled[-3]["output_shape"] == [None, 8]


def test_batch_normalization_comes_between_a_hidden_layer_and_its_dropout():
    recipe = tiny_scratch.with_changes(dense=(5, 4), dense_batch_norm=True, dense_dropout=0.3)
    names = [row["name"] for row in describe(recipe)["layers"]]
    expected = "dense1 dense1_norm dense1_dropout dense2 dense2_norm dense2_dropout prediction"
    assert " ".join(names).endswith(expected)
    counts, without = (describe(one)["parameters"] for one in (recipe, recipe.with_changes(dense_batch_norm=False)))
    # Two trained and two measured numbers a unit.
    assert counts["trainable"] - without["trainable"] == counts["frozen"] - without["frozen"] == 2 * (5 + 4)


def test_two_classes_may_have_a_softmax():
    sigmoid = build(tiny_scratch, 2)
    softmax = build(tiny_scratch.with_changes(classifier_activation="softmax"), 2)
    assert sigmoid.model().output_shape == (None, 1) and softmax.model().output_shape == (None, 2)
    for network, loss in ((sigmoid, "binary_crossentropy"), (softmax, "sparse_categorical_crossentropy")):
        model = network.model()
        compile_model(model, network.recipe)
        assert model.loss == loss
    assert build(tiny_scratch, 3).model().output_shape == (None, 3)


def test_seed_decides_the_first_weights():
    def first_weights(seed):
        weights = build(tiny_scratch, 2, seed).model().weights
        return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in weights])

    assert np.array_equal(first_weights(1), first_weights(1))
    assert not np.array_equal(first_weights(1), first_weights(2))


def test_network_too_deep_for_its_pictures_is_one_sentence():
    with pytest.raises(InvalidRecipe, match="image_size 16 is too small for this network; choose a larger image_size"):
        build(tiny_scratch.with_changes(image_size=16, filters=(4, 4, 4, 4)), 2)


def test_caffe_preprocessing_is_that_of_keras():
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(np.float32)
    expected = keras.applications.vgg16.preprocess_input(images.copy())
    np.testing.assert_allclose(CaffePreprocessing()(images), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("base", "module"), [("MobileNetV2", "mobilenet_v2"), ("Xception", "xception"), ("ResNet50", "resnet50"),
                         ("VGG16", "vgg16"), ("EfficientNetV2B0", "efficientnet_v2")],
)  # fmt: skip
def test_each_base_gets_the_preprocessing_it_was_trained_with(base, module):
    from cvcore.models import _preprocessing

    recipe = make_recipe(id="x", strategy="features", base=base, preprocessing="base", image_size=224)
    images = np.random.default_rng(1).integers(0, 256, (1, 6, 6, 3)).astype(np.float32)
    found = images
    for layer in _preprocessing(recipe):
        found = layer(found)
    expected = getattr(keras.applications, module).preprocess_input(images.copy())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_rescaling_maps_pixels_to_0_to_1_and_none_leaves_them():
    images = np.array([[[[0, 51, 255]]]], np.float32)
    (layer,) = build(tiny_scratch, 2).body[:1]
    np.testing.assert_allclose(layer(images), [[[[0, 0.2, 1]]]], atol=1e-6)
    assert build(tiny_scratch.with_changes(preprocessing="none"), 2).body[0].name == "conv1"


GREYS = tiny_scratch.with_changes(color_mode="grayscale", preprocessing="mean_image")


def test_mean_image_is_subtracted_and_saved_with_the_model_without_a_parameter(tmp_path):
    random = np.random.default_rng(0)
    mean = random.random((32, 32, 1)).astype(np.float32)
    network = build(GREYS, 3, seed=1, mean=mean)
    images = random.integers(0, 256, (4, 32, 32, 1)).astype(np.float32)
    found = images
    for layer in network.body[:2]:
        found = layer(found)
    np.testing.assert_allclose(found, images / 255 - mean, atol=1e-6)
    rescaled = describe(GREYS.with_changes(preprocessing="rescale"), 3)["parameters"]
    assert describe(GREYS, 3)["parameters"] == rescaled
    model = network.model()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(images), model(images))
    without = build(GREYS, 3, seed=1).model()
    assert np.abs(np.asarray(without(images)) - np.asarray(model(images))).max() > 1e-3


def test_greys_have_one_channel_throughout():
    network = build(GREYS, 2)
    assert network.model().input_shape == (None, 32, 32, 1)
    assert network.model(tiny_augmented.augmentation).input_shape == (None, 32, 32, 1)
    assert network.body[2].kernel.shape == (3, 3, 1, 4)


@pytest.mark.parametrize("how", ["rescale", "none", "base"])
def test_network_behind_another_preprocessing_keeps_its_weights(how):
    recipe = tiny_finetune.with_changes(base="VGG16", preprocessing="rescale", weights="random")
    network = build(recipe, 2, seed=2)
    other = network.preprocessed(how)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    expected = {"rescale": images / 255, "none": images, "base": CaffePreprocessing()(images)}[how]
    seen = network.preprocessed("none").cut("head").below(expected)
    np.testing.assert_allclose(other.cut("head").below(images), seen, rtol=1e-4, atol=1e-4)
    assert other.head is network.head and other.base is network.base and other.recipe.preprocessing == how
    assert network.recipe == recipe and network.body[0].name == "preprocessing"


def test_mixed_precision_computes_pixels_and_the_prediction_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        recipe = tiny_augmented.with_changes(preprocessing="mean_image")
        model = build(recipe, 2).model(recipe.augmentation)
    finally:
        keras.config.set_dtype_policy("float32")
    computed = {layer.name: layer.compute_dtype for layer in model.layers}
    full = {"augmentation", "preprocessing", "mean_image", "prediction"}
    assert {name for name, dtype in computed.items() if dtype == "float32"} - {"image"} == full
    assert computed["conv1"] == computed["dense1"] == "bfloat16"
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}


def test_augmentation_comes_before_preprocessing_and_only_where_it_is_asked_for():
    network = build(tiny_augmented, 2)
    assert isinstance(network.model(tiny_augmented.augmentation).layers[1], Augmentation)
    for policy in (None, AugmentationPolicy(fill_mode="wrap")):  # this one changes nothing
        assert not any(isinstance(layer, Augmentation) for layer in network.model(policy).layers)


def test_fine_tuning_leaves_the_batch_statistics_and_what_is_below_alone():
    devices.prepare()
    network = build(mobilenet, 2, seed=0)
    network.train_only(str(mobilenet.unfreeze_from))
    before = {weight.path: keras.ops.convert_to_numpy(weight) for weight in network.base.weights}
    model = network.model()
    compile_model(model, mobilenet.with_changes(optimizer="sgd", learning_rate=1.0))
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    model.fit(images, np.array([0, 1, 1, 1]), epochs=2, batch_size=4, verbose=0)
    after = {weight.path: keras.ops.convert_to_numpy(weight) for weight in network.base.weights}
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert len(before) > 200
    assert changed and {path.split("/")[-2] for path in changed} <= {"Conv_1", "Conv_1_bn"}
    assert not [path for path in changed if "moving_" in path]
    listed = {id(weight) for weight in network.changing_weights()}
    assert {path for weight in network.base.weights if id(weight) in listed for path in [weight.path]} >= changed


@pytest.mark.parametrize("base", ["MobileNetV2", "EfficientNetV2B0"])
def test_base_answers_alike_in_training_and_at_inference(base):
    # Keras 3 drops the `training=False` with which the base is called: batch normalization and EfficientNet's dropout
    # would come to life in fit.
    recipe = tiny_finetune.with_changes(base=base, weights="random", dropout=0.0)
    network = build(recipe, 2)
    network.train_only(str(recipe.unfreeze_from))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    model = network.model()
    np.testing.assert_allclose(model(images, training=True), model(images, training=False), atol=1e-6)


def weights_of_another_network(folder, ending):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    path = folder / f"other{ending}"
    model.save_weights(path) if ending == ".weights.h5" else path.write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    return path


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
@pytest.mark.parametrize("base", ["doodle-base", "MobileNetV2"])
def test_weights_of_another_network_are_one_sentence(tmp_path, monkeypatch, base, ending):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    recipe = tiny_features.with_changes(base=base)
    found = find_weights(recipe, 0, weights_of_another_network(tmp_path, ending))
    with pytest.raises(WeightsNotFound) as caught:
        load_base(recipe, found)
    assert str(caught.value).startswith(f"the weights file other{ending} does not fit {base} (alpha 1.0, without top)")
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_weights_file_that_was_given_is_kept_by_its_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "mine.weights.h5"
    file.write_bytes(b"weights")
    first = find_weights(tiny_features, 0, file)
    file.unlink()
    again = find_weights(tiny_features, 0, None, first.summary())
    assert again == first and again.path.read_bytes() == b"weights"
    assert first.sha256 == hashlib.sha256(b"weights").hexdigest() == again.path.name.partition(".")[0]
    again.path.unlink()
    with pytest.raises(
        WeightsNotFound, match=r"used the weights file mine\.weights\.h5, which is no longer in the cache"
    ):
        find_weights(tiny_features, 0, None, first.summary())


def test_a_run_that_has_begun_takes_no_other_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    mine = tmp_path / "mine.weights.h5"
    mine.write_bytes(b"weights")
    bundled, given = find_weights(tiny_features, 0).summary(), find_weights(tiny_features, 0, mine).summary()
    assert find_weights(tiny_features, 0, None, bundled).summary() == bundled
    monkeypatch.setattr(base_weights, "BUNDLED", mine)
    with pytest.raises(WeightsNotFound) as caught:
        find_weights(tiny_features, 0, None, bundled)
    assert str(caught.value) == (
        f"the weights file mine.weights.h5 found here is not the {BUNDLED.name} that this run began with (its SHA-256 "
        f"begins {given['sha256'][:12]}, that one's {bundled['sha256'][:12]}); put that one back in its place, or "
        "start a new run"
    )


def test_weights_are_looked_for_in_their_folder_first(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_WEIGHTS", str(tmp_path))
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    (tmp_path / name).write_bytes(b"weights")
    recipe = tiny_features.with_changes(base="MobileNetV2", alpha=0.35)
    found = find_weights(recipe, 0)
    assert (found.path, found.name, found.origin) == (tmp_path / name, name, "folder")


def test_bundled_base_is_found_without_any_folder(monkeypatch):
    monkeypatch.delenv("CVCORE_WEIGHTS", raising=False)
    found = find_weights(tiny_features, 0)
    assert (found.path, found.origin) == (BUNDLED, "bundled")
    assert BUNDLED.stat().st_size < 5e6


def test_random_weights_are_named_by_their_seed():
    recipe = tiny_features.with_changes(weights="random")
    assert find_weights(recipe, 3) == BaseWeights(None, "random", "random-3", "random")


def test_offline_says_which_file_to_put_where(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.delenv("CVCORE_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # else a copy that Keras has kept is what is spoken of
    monkeypatch.setattr(keras.applications, "VGG16", unreachable)
    with pytest.raises(WeightsNotFound) as caught:
        base_weights.find_weights(tiny_features.with_changes(base="VGG16"), 0)
    for part in ("vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "58.9 MB", "CVCORE_WEIGHTS", "--weights"):
        assert part in str(caught.value)
