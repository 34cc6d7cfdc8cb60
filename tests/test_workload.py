"""What a run does, counted: pictures decoded and extracted, steps, what runs in each; by hand."""

import pytest
from tiny_lessons import AUGMENTATION, tiny_augmented, tiny_features, tiny_finetune, tiny_scratch

from cvcore.published import get_recipe
from cvcore.workload import Stock, workload

PICTURES = {"train": 18, "validation": 14, "test": 16}
CUT = 2 * 2 * 96  # block3_pool of 32 pixels, below block4_conv1


def extractions(work):
    return [(each.trainable, each.split, each.view, each.pictures) for each in work.extractions]


def test_a_convnet_decodes_and_trains_and_extracts_nothing():
    work = workload(tiny_scratch, PICTURES)
    (training,) = work.trainings
    assert (work.decode, work.extract, work.disk_bytes, work.evaluated) == (48, 0, 0, 14 + 2 * 16)
    assert (training.epochs, training.steps, training.trained, training.validated) == (3, 3, 18, 14)
    assert training.in_model and training.validated_in_model


def test_steps_per_epoch_and_validation_steps_count_the_pictures_they_take():
    # 18 pictures are 3 batches a pass, 6 a batch on average: 5 steps take 30; 1 validation batch takes 8 of 14.
    (training,) = workload(tiny_scratch.with_changes(steps_per_epoch=5, validation_steps=1), PICTURES).trainings
    assert (training.steps, training.trained, training.validated) == (5, 30, 8)
    whole = workload(tiny_scratch.with_changes(validation_steps=99), PICTURES)
    assert whole.trainings[0].validated == 14


def test_a_fine_tuning_run_validates_both_phases_on_the_pictures_it_says_itself():
    recipe = tiny_finetune.with_changes(validation_steps=1)
    assert recipe.starts_from.validation_steps is None
    assert [training.validated for training in workload(recipe, PICTURES).trainings] == [8, 8]


def test_cached_features_see_each_picture_once_however_long_the_head_trains():
    work = workload(tiny_features, PICTURES)
    assert extractions(work) == [
        ("head", "train", None, 18), ("head", "validation", None, 14), ("head", "test", None, 16)
    ]  # fmt: skip
    assert work.disk_bytes == 48 * 128 * 4 and work.views_bytes == 0
    more = workload(tiny_features.with_changes(epochs=99), PICTURES)
    assert extractions(more) == extractions(work)


def test_fine_tuning_stores_what_is_not_augmented_and_trains_the_rest_in_the_model():
    work = workload(tiny_finetune, PICTURES)
    assert extractions(work) == [
        ("head", "train", None, 18), ("head", "validation", None, 14),
        ("block4_conv1", "validation", None, 14), ("block4_conv1", "test", None, 16),
    ]  # fmt: skip
    head, top = work.trainings
    assert not head.in_model and top.in_model and not top.validated_in_model
    plain = workload(tiny_finetune.with_changes(augmentation=None), PICTURES)
    assert ("block4_conv1", "train", None, 18) in extractions(plain) and not plain.trainings[1].in_model
    assert workload(tiny_finetune, PICTURES, continues=True).trainings == (top,)


def test_views_are_extracted_once_each_in_half_precision():
    work = workload(tiny_finetune.with_changes(views=3, epochs=9), PICTURES)
    views = [each for each in work.extractions if each.view is not None]
    assert [(each.view, each.pictures, each.bytes) for each in views] == [(n, 18, 18 * CUT * 2) for n in range(3)]
    assert not work.trainings[1].in_model
    assert work.views_bytes == 3 * 18 * CUT * 2 + 30 * CUT * 4
    start = {"augmentation": AUGMENTATION, "cached": False, "views": 2}
    both = workload(tiny_finetune.with_changes(views=3, starts_from=start), PICTURES)
    assert both.views_bytes == both.disk_bytes > work.views_bytes
    assert work.extract == 3 * 18 + 2 * 14 + 16 + 18 and work.views == 3


def test_of_more_views_than_passes_those_are_extracted_that_the_passes_take():
    """Three epochs of the head come first; a pass is three steps."""
    for changes, taken in (({"epochs": 2}, [3, 4]), ({"epochs": 3, "steps_per_epoch": 2}, [2, 3])):
        work = workload(tiny_finetune.with_changes(views=64, **changes), PICTURES)
        assert sorted(each.view for each in work.extractions if each.view is not None) == taken
        assert work.views == 2
    alone = workload(tiny_finetune.with_changes(views=64), PICTURES, continues=True)
    assert [each.view for each in alone.extractions if each.view is not None] == [0, 1]


def test_what_is_stored_already_is_neither_decoded_nor_extracted():
    keys = [("head", "train", None), ("head", "validation", None)]
    work = workload(tiny_features, PICTURES, stock=Stock(("train", "validation"), keys))
    assert (work.decode, work.extract) == (16, 16)
    assert work.disk_bytes == workload(tiny_features, PICTURES).disk_bytes


def test_activations_beyond_the_limit_are_computed_anew_but_views_are_not():
    recipe = tiny_finetune.with_changes(augmentation=None, starts_from={"epochs": 2})
    needed = 48 * CUT * 4
    assert workload(recipe, PICTURES, stock=Stock(limit=needed)).trainings[1].in_model is False
    small = workload(recipe, PICTURES, stock=Stock(limit=needed - 1))
    assert small.trainings[1].in_model and small.trainings[1].validated_in_model and not small.trainings[0].in_model
    views = workload(tiny_finetune.with_changes(views=2), PICTURES, stock=Stock(limit=needed - 1))
    assert not views.trainings[1].in_model


def test_what_takes_longer_to_write_than_to_compute_again_is_not_stored():
    """VGG16 at 224 pixels: one convolution makes 12.8 MB of a picture of 0.15; three and a pooling make 6.4 MB."""
    vgg = tiny_finetune.with_changes(base="VGG16", image_size=224, augmentation=None)
    layers = {"block1_conv2": False, "block1_pool": False, "block2_conv2": True, "block5_conv1": True}
    for layer, pays in layers.items():
        work = workload(vgg.with_changes(unfreeze_from=layer), PICTURES)
        assert work.trainings[1].in_model == work.trainings[1].validated_in_model == (not pays), layer
        assert {each.trainable for each in work.extractions} == ({"head", layer} if pays else {"head"})
    views = vgg.with_changes(unfreeze_from="block1_conv2", augmentation=AUGMENTATION, views=2)
    assert not workload(views, PICTURES).trainings[1].in_model


def test_a_run_of_an_older_version_had_only_cached_features_stored():
    work = workload(tiny_finetune, PICTURES, in_model=True)
    assert extractions(work) == [("head", "train", None, 18), ("head", "validation", None, 14)]
    assert work.trainings[1].in_model and work.trainings[1].validated_in_model


def test_fewer_training_pictures_are_trained_on_and_extracted():
    for recipe in (tiny_scratch, tiny_augmented, tiny_features, tiny_finetune.with_changes(views=2)):
        fewer = workload(recipe.with_changes(train_pictures=12), PICTURES)
        assert {training.trained for training in fewer.trainings} == {12}
        assert {each.pictures for each in fewer.extractions if each.split == "train"} <= {12}
        assert fewer.decode == 48  # the whole split is decoded, once for every size


def test_the_textbooks_views_are_as_large_as_was_measured():
    """block4_pool of 2,000 pictures at 180 pixels, four views: 0.99 GB in float16."""
    recipe = get_recipe("chollet2-finetune").with_changes(views=4)
    views = [each.bytes for each in workload(recipe, {"train": 2000}).extractions if each.view is not None]
    # Both phases have views where both augment.
    assert sum(bytes for bytes in views if bytes > 10**8) / 1e9 == pytest.approx(0.99, abs=0.005)


def test_an_identity_of_an_augmentation_is_none():
    policy = {name: 0 if name != "horizontal_flip" else False for name in AUGMENTATION}
    recipe = get_recipe("mobilenet-features-augmented").with_changes(augmentation=policy)
    assert not workload(recipe, PICTURES).trainings[0].in_model
