"""Which changes a stored view has, and which view a pass takes."""

import numpy as np
import pytest

from cvcore.augmentation import UNIFORMS
from cvcore.published import RECIPES
from cvcore.views import in_words, passes, unused_in_words, view_of_pass, view_uniforms, views_used


def test_a_view_is_the_same_each_time_and_another_view_is_another():
    first = view_uniforms(0, 50)
    assert first.shape == (50, UNIFORMS) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() < 1
    np.testing.assert_array_equal(first, view_uniforms(0, 50))
    assert np.abs(first - view_uniforms(1, 50)).mean() > 0.2


def test_views_come_back_after_as_many_passes_which_need_not_be_epochs():
    assert "the same again every 4 epochs" in in_words(4)
    assert "the same again every 4 passes" in in_words(4, one_pass=False)
    assert "the same in every epoch" in in_words(1)


@pytest.mark.parametrize("views, taken", [(1, [0, 0, 0, 0, 0]), (3, [0, 1, 2, 0, 1])])
def test_passes_take_the_views_in_turn(views, taken):
    assert [view_of_pass(number, views) for number in range(1, 6)] == taken


@pytest.mark.parametrize("before", [0, 1, 5, 14])
@pytest.mark.parametrize("steps", [None, 1, 3, 7])
@pytest.mark.parametrize("views", [1, 2, 3, 5, 64])
def test_only_views_that_a_pass_takes_are_computed_and_each_pass_takes_its_own(views, steps, before):
    """Against all the passes that the batches of a phase belong to, three batches a pass."""
    recipe = RECIPES["chollet2-finetune"].with_changes(views=views, steps_per_epoch=steps, epochs=4, batch_size=8)
    an_epoch = steps or 3
    taken = {step // 3 for step in range(before * an_epoch, (before + 4) * an_epoch)}
    used = views_used(recipe, 20, before)
    assert len(used) == len(set(used)) == min(views, len(taken)) and set(passes(recipe, 20, before)) == taken
    for number in taken:
        assert used[view_of_pass(number + 1, len(used))] == view_of_pass(number + 1, views)


def test_more_views_than_passes_are_said():
    recipe = RECIPES["mobilenet-features-augmented"].with_changes(epochs=6)
    assert unused_in_words(recipe, 100) == unused_in_words(recipe.with_changes(views=6), 100) == ""
    assert unused_in_words(recipe.with_changes(views=8), 100) == (
        "Its 6 passes over the pictures take 6 of the 8 views: the others are not computed."
    )
    assert "Its 1 pass over the pictures takes 1 of the 8" in unused_in_words(
        recipe.with_changes(views=8, epochs=1), 100
    )
