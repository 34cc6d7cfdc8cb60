"""Which changes a stored view has, and which view a pass takes."""

import numpy as np
import pytest

from cvcore.augmentation import UNIFORMS
from cvcore.views import in_words, view_of_pass, view_uniforms


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
