"""Intervals, smoothing and seed aggregates: how sure a figure is."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from statistics import NormalDist, fmean, stdev

from cvcore.errors import CvcoreError


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bound a proportion from a count: the test-sampling error of an accuracy.

    Args:
        correct: pictures classified rightly, 0..n.
        n: pictures in all, at least 1.
        confidence: share of repeated samples whose interval would hold the true proportion, in (0, 1), default 0.95.

    Returns:
        (low, high), both within 0..1.

    Raises:
        CvcoreError: a count or the confidence is out of its range.

    Source: E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if n < 1 or not 0 <= correct <= n:
        raise CvcoreError(f"correct must be between 0 and n, and n at least 1; received {correct} of {n}")
    _check_confidence(confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high


def ema(values: Sequence[float], weight: float) -> list[float]:
    """Smooth a series by its exponential moving average, corrected for the missing start.

    Args:
        values: one value an epoch; NaN (no value that epoch) stays NaN and changes nothing after it.
        weight: share kept of what came before, in [0, 1); 0 returns the values unchanged.

    Returns:
        As many values as came in. The first is always the first value itself.

    Raises:
        CvcoreError: the weight is out of its range.
    """
    if not 0 <= weight < 1:
        raise CvcoreError(f"the smoothing weight must be at least 0 and below 1; received {weight}")
    smoothed, running, kept = [], 0.0, 1.0
    for value in map(float, values):
        if isnan(value):
            smoothed.append(value)
            continue
        running = weight * running + (1 - weight) * value
        kept *= weight
        smoothed.append(running / (1 - kept))
    return smoothed


@dataclass(frozen=True)
class SeedSummary:
    """What runs that differ only in their seed say together.

    Attributes:
        n: runs.
        mean: their mean.
        deviation: sample standard deviation (n - 1), None for a single run.
        low, high: t interval of the mean, None below three runs: two say nothing about their own spread.
        one_low, one_high: t interval of one more value, the prediction interval, wider; None below three runs.
    """

    n: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    one_low: float | None = None
    one_high: float | None = None


def seed_summary(values: Sequence[float], confidence: float = 0.95) -> SeedSummary:
    """Summarise one figure over seeds: mean, deviation, the t interval of the mean and that of one more value.

    Args:
        values: one value a seed, at least one.
        confidence: as in `wilson_interval`, default 0.95.

    Raises:
        CvcoreError: there are no values, or the confidence is out of its range.
    """
    if not values:
        raise CvcoreError("a summary over seeds needs at least one run; received none")
    _check_confidence(confidence)
    n, mean = len(values), fmean(values)
    deviation = stdev(values) if n > 1 else None
    if n < 3 or deviation is None:
        return SeedSummary(n, mean, deviation, None, None)
    from scipy.special import stdtrit  # here: 27 MB that most processes never need

    t = float(stdtrit(n - 1, 0.5 + confidence / 2))
    half, one = t * deviation / sqrt(n), t * deviation * sqrt(1 + 1 / n)
    return SeedSummary(n, mean, deviation, mean - half, mean + half, mean - one, mean + one)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise CvcoreError(f"confidence must be between 0 and 1; received {confidence}")
