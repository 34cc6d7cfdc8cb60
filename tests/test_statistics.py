from math import isnan, nan

import pytest

from cvcore.errors import CvcoreError
from cvcore.statistics import ema, seed_summary, wilson_interval


def test_wilson_interval_of_81_in_263_is_the_worked_example_of_newcombe():
    # R. G. Newcombe (1998), Statistics in Medicine 17, table I: 81/263 gives 0.2553 to 0.3662.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_interval_of_15_in_148_is_the_worked_example_of_newcombe():
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_wilson_interval_stays_within_zero_and_one():
    assert wilson_interval(0, 20)[0] == 0.0
    assert wilson_interval(0, 20)[1] == pytest.approx(0.1611, abs=5e-5)
    assert wilson_interval(20, 20)[1] == 1.0
    assert wilson_interval(20, 20)[0] == pytest.approx(1 - 0.1611, abs=5e-5)


def test_wilson_interval_narrows_with_less_confidence():
    low, high = wilson_interval(50, 100, confidence=0.5)
    assert high - low < 0.07 < wilson_interval(50, 100)[1] - wilson_interval(50, 100)[0]


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (-1, 10), (11, 10)])
def test_wilson_interval_refuses_impossible_counts(correct, n):
    with pytest.raises(CvcoreError, match=f"received {correct} of {n}"):
        wilson_interval(correct, n)


def test_wilson_interval_refuses_a_confidence_of_95():
    with pytest.raises(CvcoreError, match="received 95"):
        wilson_interval(1, 2, confidence=95)


def test_ema_with_weight_zero_is_the_raw_series():
    assert ema([1, 5, 2], 0) == [1, 5, 2]


def test_ema_by_hand():
    # running: 1, 2.5, 3.25; divided by 1 - 0.5**k: 0.5, 0.75, 0.875
    assert ema([2, 4, 4], 0.5) == pytest.approx([1 / 0.5, 2.5 / 0.75, 3.25 / 0.875])


def test_ema_of_a_constant_is_that_constant():
    assert ema([0.7] * 5, 0.9) == pytest.approx([0.7] * 5)


def test_ema_steps_over_a_missing_epoch():
    smoothed = ema([2, nan, 4], 0.5)
    assert isnan(smoothed[1])
    assert [smoothed[0], smoothed[2]] == pytest.approx([2, 2.5 / 0.75])


@pytest.mark.parametrize("weight", [-0.1, 1, 1.5])
def test_ema_refuses_a_weight_out_of_range(weight):
    with pytest.raises(CvcoreError, match="smoothing weight"):
        ema([1, 2], weight)


def test_seed_summary_of_three_uses_t_of_two_degrees():
    # mean 2, deviation 1, t(0.975, 2) = 4.302653: half = 4.302653 / sqrt(3) = 2.484138
    summary = seed_summary([1, 2, 3])
    assert (summary.n, summary.mean, summary.deviation) == (3, 2, 1)
    assert (summary.low, summary.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_one_more_value_after_three_has_the_prediction_interval():
    # 4.302653 * sqrt(1 + 1/3) = 4.968276, twice the interval of the mean
    summary = seed_summary([1, 2, 3])
    assert (summary.one_low, summary.one_high) == pytest.approx((2 - 4.968276, 2 + 4.968276), abs=1e-6)


def test_seed_summary_of_two_gives_no_interval():
    summary = seed_summary([0.8, 0.9])
    assert summary.deviation == pytest.approx(0.0707107, abs=1e-6)
    assert {summary.low, summary.high, summary.one_low, summary.one_high} == {None}


def test_seed_summary_of_one_gives_its_value_alone():
    summary = seed_summary([0.8])
    assert (summary.n, summary.mean, summary.deviation, summary.low) == (1, 0.8, None, None)


def test_seed_summary_of_nothing_is_refused():
    with pytest.raises(CvcoreError, match="received none"):
        seed_summary([])
