"""Fewer training pictures: how accuracy grows with their number is seen on subsets that lie within one another."""

import numpy as np


# Exported scripts carry its source: it uses nothing but NumPy.
def training_rows(labels: np.ndarray, pictures: int) -> np.ndarray:
    """Choose training pictures: each class in proportion, any choice within every larger one, whatever the seed.

    The next picture is always of the class that is furthest behind its share (Sainte-Laguë's divisors, after one of
    each class), because rounding by largest remainders could take a picture of a class away again. Within a class the
    order is a fixed shuffle of that of the files.

    Args:
        labels: int (n,), the class of each training picture, in the order of the files.
        pictures: how many to choose.

    Returns:
        Ascending int64 (pictures,), all n rows where more are asked for.
    """
    turn = np.zeros(len(labels))
    for label in np.unique(labels):
        rows = np.random.default_rng(int(label)).permutation(np.flatnonzero(labels == label))
        turn[rows[1:]] = (2 * np.arange(1, len(rows)) + 1) / len(rows)
    return np.sort(np.lexsort((labels, turn))[:pictures])
