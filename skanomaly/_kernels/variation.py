"""Location and spread of each value of a sample, over many samples."""

from typing import NamedTuple

import numpy as np

_MAD_SCALE = 1.4826  # median absolute deviations of a Gaussian per standard deviation
_VALUES = 2**22  # sorted at a time


class Spread(NamedTuple):
    """Number of samples, and mean and sum of squared deviations from it of each of their values."""

    count: int
    mean: np.ndarray  # (...), float64
    squares: np.ndarray  # (...), float64


def spread_of(X):
    """Return the `Spread` of samples X (n, ...), summed in float64."""
    mean = X.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for sample in X:
        squares += np.square(sample - mean)
    return Spread(len(X), mean, squares)


def merge_spreads(a, b):
    """Return the `Spread` of the samples behind two others (Chan et al., 1983)."""
    count = a.count + b.count
    step, share = b.mean - a.mean, b.count / count
    return Spread(count, a.mean + share * step, a.squares + b.squares + a.count * share * np.square(step))


def standard_deviation(spread):
    """Return the standard deviation of each value, with n - 1 in the denominator; 0 for a single sample."""
    return np.sqrt(spread.squares / max(spread.count - 1, 1))


def median_and_deviation(X):
    """Return the median of each value of samples X (n, ...), and its scaled median absolute deviation, in float64."""
    columns = X.reshape(len(X), -1)
    median, deviation = (np.empty(columns.shape[1]) for _ in range(2))
    step = max(1, _VALUES // len(X))
    for start in range(0, columns.shape[1], step):
        part = slice(start, start + step)
        median[part] = np.median(columns[:, part], axis=0)
        deviation[part] = _MAD_SCALE * np.median(np.abs(columns[:, part] - median[part]), axis=0)
    return median.reshape(X.shape[1:]), deviation.reshape(X.shape[1:])


def relative_deviations(X, location, bright, dark):
    """Return the deviations of samples X (n, ...) from the location, in units of the limit on their side.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
    location : ndarray of shape (...)
    bright, dark : ndarray of shape (...)
        Largest normal deviation above and below the location.

    Returns
    -------
    ndarray of shape (n, ...), float64
        Non-negative; 1 where a sample is at a limit.
    """
    r = X - location
    return np.maximum(r / bright, -r / dark)
