"""Levels that summarise many values."""

import numpy as np


def level(values, which):
    """Return the maximum, the mean, their difference, or the mean of the highest values.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Values, none of them NaN.
    which : {"max", "mean", "contrast"} or float
        Maximum, mean, maximum minus mean, or mean over this share of the highest values, at least one of them.

    Returns
    -------
    float
        The level. Its bits do not depend on the order of the values, unless it takes the mean of all.

    >>> level(np.array([1.0, 4.0, 2.0, 3.0]), 0.5)
    3.5
    """
    if isinstance(which, str):
        if which == "max":
            return float(values.max())
        mean = values.mean(dtype=np.float64)
        return float(mean if which == "mean" else values.max() - mean)
    n_rest = len(values) - max(1, round(which * len(values)))
    return float(np.sort(np.partition(values, n_rest)[n_rest:]).mean(dtype=np.float64))
