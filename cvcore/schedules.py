"""Learning-rate schedules by name: the rate of each epoch, for Keras' LearningRateScheduler."""

import math
from collections.abc import Callable


def step(epoch: int, epochs: int, learning_rate: float) -> float:
    """Halve the rate after every ten epochs."""
    return learning_rate * 0.5 ** (epoch // 10)


def exponential(epoch: int, epochs: int, learning_rate: float) -> float:
    """Keep the rate for ten epochs, then divide it by e (2.718) over every ten more."""
    return learning_rate * math.exp(-0.1 * max(0, epoch - 9))


def cosine(epoch: int, epochs: int, learning_rate: float) -> float:
    """Fall along half a cosine, from the rate in the first epoch to a hundredth of it in the last."""
    share = epoch / max(1, epochs - 1)
    return learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


# name -> function of (epoch from 0, epochs in all, the recipe's learning_rate); each uses nothing but `math`, because
# exported scripts carry its source.
SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "step": step,
    "exponential": exponential,
    "cosine": cosine,
}
