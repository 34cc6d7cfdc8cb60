"""Networks cut below what is trained: the two parts are the whole; activations stored with what decides them."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tiny_lessons import AUGMENTATION, tiny_features, tiny_finetune, tiny_scratch

from cvcore import activations, devices, filling, training_data
from cvcore.augmentation import UNIFORMS
from cvcore.augmentation_layer import apply
from cvcore.base_weights import find_weights
from cvcore.bases import BASES
from cvcore.batches import TrainingBatches
from cvcore.datasets import pixel_cache
from cvcore.extraction import extracted, what_is_stored
from cvcore.fitting import assign, compile_model, reseed, values
from cvcore.models import build
from cvcore.strategies import phases
from cvcore.training_data import TrainingData, _Meter
from cvcore.views import view_uniforms
from cvcore.workload import workload

PICTURES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 2, 40)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path))


def described(recipe, trainable="head", split="train", fingerprint="f", **more):
    network = build(recipe, 2, weights=find_weights(recipe, 0))
    network.train_only(trainable)
    return what_is_stored(recipe, network.cut(trainable), fingerprint, split, **more)


@pytest.mark.parametrize(
    ("base", "trainable", "layer"),
    [
        ("VGG16", "block5_conv1", "block4_pool"),
        ("VGG16", "block5_conv3", "block5_conv2"),
        ("ResNet50", "conv5_block1_1_conv", "conv4_block6_out"),
        ("ResNet50", "conv5_block2_3_conv", "conv5_block1_out"),
        ("MobileNetV2", "block_14_expand", "block_13_project_BN"),
        ("MobileNetV2", "block_14_project", "block_13_project_BN"),
        ("EfficientNetV2B0", "block6f_expand_conv", "block6e_add"),
        ("Xception", "block13_sepconv1", "add_10"),
        ("doodle-base", "block3_conv1", "block2_pool"),
    ],
)
def test_base_is_cut_where_everything_goes_through_one_layer(base, trainable, layer):
    side = BASES[base].min_image_size
    recipe = tiny_finetune.with_changes(base=base, unfreeze_from=trainable, weights="random", image_size=side)
    network = build(recipe, 2, seed=2)
    network.train_only(trainable)
    cut, whole = network.cut(trainable), network.model()
    # Names of the layers that Keras numbers depend on what was built before.
    assert cut.layer == layer or (layer.startswith("add_") and cut.layer.startswith("add"))
    images = np.random.default_rng(0).uniform(0, 255, (2, side, side, 3)).astype(np.float32)
    np.testing.assert_allclose(cut.above(cut.below(images)), whole(images), atol=1e-5)
    assert [weight.path for weight in cut.above.trainable_variables] == [
        weight.path for weight in whole.trainable_variables
    ]
    assert not cut.below.trainable_variables


def test_convnet_and_a_base_trained_from_its_first_layer_have_nothing_to_cut():
    assert build(tiny_scratch, 2).cut("everything") is None
    recipe = tiny_finetune.with_changes(unfreeze_from="block1_conv1")
    network = build(recipe, 2)
    network.train_only("block1_conv1")
    assert network.cut("block1_conv1") is None


def test_a_run_stores_where_its_estimate_says_so(lessons):
    dataset = lessons.dataset()
    for layer, pays, changes in (("block1_conv1", False, {}), ("block2_conv1", False, {}), ("block4_conv1", True, {}),
                                 ("block2_conv1", True, {"views": 2})):  # fmt: skip
        recipe = tiny_finetune.with_changes(unfreeze_from=layer, **changes)
        network, phase = build(recipe, 2), phases(recipe)[-1]
        network.train_only(phase.trainable)
        found = TrainingData(SimpleNamespace(recipe=recipe), dataset).cut(network, phase)
        reckoned = workload(recipe, dataset.counts).trainings[-1]
        assert (found is not None) == (not reckoned.validated_in_model) == pays, layer
        if found:
            assert np.prod(found.below.output_shape[1:]) == reckoned.network.below[-1].outputs


def test_who_waits_for_pictures_or_features_of_another_run_says_so(lessons, tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path))
    told, looks, really = [], [], filling.try_lock

    def other_has_it_at_first(descriptor):
        looks.append(descriptor)
        return len(looks) % 2 == 0 and really(descriptor)

    def report(words, done, pictures, left=None):
        if words not in told:
            told.append(words)

    monkeypatch.setattr(filling, "try_lock", other_has_it_at_first)
    session = SimpleNamespace(recipe=tiny_features, work={"decoded_pictures": 0, "extracted_pictures": 0}, timings={},
                              state=SimpleNamespace(seconds={}), report=report,
                              writer=SimpleNamespace(update=lambda **more: None))  # fmt: skip
    network = build(tiny_features, 2, weights=find_weights(tiny_features, 0))
    TrainingData(session, lessons.dataset()).activations("validation", network, network.cut("head"))
    assert told == [
        "waiting for another run: reading validation pictures", "reading validation pictures",
        "waiting for another run: features of validation pictures", "features of validation pictures",
    ]  # fmt: skip


@pytest.mark.parametrize("trainable", ["head", "block4_conv1"])
def test_training_on_stored_activations_has_the_losses_of_training_in_the_model(trainable):
    recipe = tiny_finetune.with_changes(augmentation=None, dropout=0.4) if trainable != "head" else (
        tiny_features.with_changes(dropout=0.4))  # fmt: skip
    network = build(recipe, 2, seed=3, weights=find_weights(recipe, 0))
    network.train_only(trainable)
    cut, whole = network.cut(trainable), network.model()
    stored = extracted(what_is_stored(recipe, cut, "f", "train"), cut, PICTURES)
    assert stored.dtype == np.float32
    changing = network.changing_weights()
    start, losses = values(changing), {}
    for name, model, inputs in (("in the model", whole, PICTURES), ("stored", cut.above, stored)):
        assign(changing, start)
        compile_model(model, recipe)
        batches = TrainingBatches(inputs, LABELS, 8, seed=5)
        reseed(whole.layers, seed=5, epoch=1)
        losses[name] = []
        for step in range(5):
            model.reset_metrics()
            losses[name].append(float(model.train_on_batch(*batches[step])[0]))
    np.testing.assert_allclose(losses["stored"], losses["in the model"], atol=1e-4)
    assert np.ptp(losses["stored"]) > 1e-3, "the five losses differ: each step changed something"
    assert any(not np.array_equal(before, after) for before, after in zip(start, values(changing), strict=True))


def test_stored_features_are_what_the_base_computes():
    network = build(tiny_features, 2, seed=3, weights=find_weights(tiny_features, 0))
    cut = network.cut("head")
    chunks, computed = [], []
    what = what_is_stored(tiny_features, cut, "f", "validation")
    stored = extracted(what, cut, PICTURES, lambda done, of: chunks.append((done, of)), computed.append)
    assert stored.dtype == np.float32 and stored.shape == (40, 128)
    assert chunks[-1] == (40, 40) and sum(computed) == 40
    expected = network.base(np.asarray(PICTURES, np.float32) / 255, training=False)
    expected = keras.ops.convert_to_numpy(keras.ops.mean(expected, axis=(1, 2)))
    np.testing.assert_allclose(stored, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01
    computed.clear()
    assert np.array_equal(extracted(what, cut, PICTURES, on_computed=computed.append), stored) and not computed


def test_views_are_of_pictures_changed_as_their_numbers_say_in_half_precision():
    recipe = tiny_features.with_changes(cached=False, augmentation=AUGMENTATION, views=2)
    network = build(recipe, 2, weights=find_weights(recipe, 0))
    cut, found = network.cut("head"), []
    for view in range(2):
        uniforms = view_uniforms(view, 40)
        what = what_is_stored(recipe, cut, "f", "train", view=view)
        found.append(extracted(what, cut, PICTURES, policy=recipe.augmentation, uniforms=uniforms))
        changed = apply(recipe.augmentation, keras.ops.convert_to_tensor(PICTURES, "float32"), uniforms)
        np.testing.assert_allclose(found[view], cut.below(changed), rtol=2e-3, atol=2e-3)
    assert found[0].dtype == np.float16 and np.abs(np.float32(found[0]) - found[1]).max() > 0.01


def test_one_model_computes_all_views():
    cut = build(tiny_features, 2).cut("head")
    policy = tiny_finetune.augmentation
    assert cut.below_views(policy) is cut.below_views(policy)
    assert cut.below_views(policy) is not cut.below_views(policy.model_copy(update={"rotation": 1.0}))


def test_place_of_a_cut_does_not_depend_on_what_was_built_before():
    recipe = tiny_finetune.with_changes(base="Xception", unfreeze_from="block13_sepconv1", weights="random",
                                        image_size=71)  # fmt: skip
    cuts = [build(recipe, 2).cut("block13_sepconv1") for _ in range(2)]
    assert cuts[0].layer != cuts[1].layer, "Keras numbers them on"
    assert cuts[0].place == cuts[1].place < 132
    assert len({build(tiny_features.with_changes(pooling=how), 2).cut("head").place
                for how in ("average", "flatten")}) == 2  # fmt: skip


def test_numbers_of_a_view_belong_to_pictures_and_not_to_runs():
    assert view_uniforms(1, 7).shape == (7, UNIFORMS) and view_uniforms(1, 7).dtype == np.float32
    assert np.array_equal(view_uniforms(1, 7), view_uniforms(1, 7))
    assert not np.array_equal(view_uniforms(0, 7), view_uniforms(1, 7))


def test_key_changes_with_everything_that_decides_activations(monkeypatch):
    monkeypatch.setattr(devices, "gpus", list)
    changes = ({"image_size": 40}, {"interpolation": "nearest"}, {"antialias": True}, {"preprocessing": "none"},
               {"pooling": "flatten"}, {"weights": "random"})  # fmt: skip
    views = tiny_features.with_changes(cached=False, augmentation=AUGMENTATION, views=2)
    other_views = views.with_changes(augmentation={"rotation": 3})
    found = [
        described(tiny_features), described(tiny_features, fingerprint="g"), described(tiny_features, split="test"),
        described(tiny_features, train_pictures=9), described(tiny_finetune, "block4_conv1"),
        described(views, view=0), described(views, view=1), described(other_views, view=0),
        *(described(tiny_features.with_changes(**change)) for change in changes),
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(pixel_cache, "VERSION", 99)
        found.append(described(tiny_features))
    with monkeypatch.context() as patch:
        patch.setattr(devices, "gpus", lambda: [devices.Gpu("NVIDIA H200")])
        found.append(described(tiny_features))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found.append(described(tiny_features))
    finally:
        keras.config.set_dtype_policy("float32")
    keys = [activations.key_of(what) for what in found]
    assert len(set(keys)) == len(keys)
    others = described(tiny_features.with_changes(dropout=0.5, learning_rate=0.1, epochs=9)), described(views)
    assert {activations.key_of(what) for what in others} == {keys[0]}


def test_what_a_killed_attempt_computed_is_counted_with_its_seconds(monkeypatch):
    """All but what it did since run.json was told last, which is every 5 seconds."""
    clock, told = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(training_data, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    session = SimpleNamespace(work={"extracted_pictures": 7}, timings={"total": 9.0}, writer=SimpleNamespace(
        update=lambda work, timings: told.append((work["extracted_pictures"], timings["features"]))),
        state=SimpleNamespace(seconds={"features": 1.0}))  # fmt: skip
    meter = _Meter(session, "features of train pictures")
    with pytest.raises(KeyboardInterrupt), meter.noted("features", "extracted_pictures"):
        for seconds in (4.0, 2.0, 3.0, 2.0, 1.0):
            clock.now += seconds
            meter.count(10)
        assert told == [(27, 7.0), (47, 12.0)]  # what a kill here leaves
        raise KeyboardInterrupt
    assert (session.work, session.state.seconds) == ({"extracted_pictures": 57}, {"features": 13.0})
    assert session.timings == {"total": 9.0, "features": 13.0}


def test_the_first_chunk_in_which_a_model_is_compiled_does_not_count_for_the_time_that_is_left(monkeypatch):
    clock, told = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(training_data, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    session = SimpleNamespace(report=lambda words, done, pictures, left: told.append(left))
    meter = _Meter(session, "features of train pictures")
    for seconds, done, computed in ((0.0, 10, 0), (5.0, 20, 10), (0.5, 30, 10), (0.5, 40, 10)):
        clock.now += seconds
        meter.count(computed)
        meter.show(done, 100)
    assert told == [None, None, 3.5, 3.0]  # 20 pictures a second
