"""Exact curves over all distinct values of a score; curves run along the last axis."""

import numpy as np


def weighted_curve(scores, *weights):
    """Return the sums of weights at or above every distinct score.

    Parameters
    ----------
    scores : ndarray of shape (n,), float
        Scores.
    *weights : ndarray of shape (n,)
        Weights, such as those of positive items and of negative items.

    Returns
    -------
    tuple of ndarray of shape (n_distinct + 1,), float64
        For each of the weights, its sums from 0 (threshold above every score) to that of all items.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(scores) - 1)
    return tuple(np.append(0.0, np.cumsum(weight[order], dtype=np.float64)[last_of_tie]) for weight in weights)


def area_under(x, y, limit=1.0):
    """Return the mean height of curves over [0, limit], with y interpolated at the limit.

    >>> float(area_under(np.array([0.0, 1.0]), np.array([0.0, 1.0]), limit=0.5))
    0.25
    """
    step, rise = np.diff(x), np.diff(y)
    width = np.clip(limit - x[..., :-1], 0, step)
    inside = np.where(step > 0, width / np.where(step > 0, step, 1), 0)
    return np.sum(width * (y[..., :-1] + rise * inside / 2), axis=-1) / limit


def cut(x, y, limit):
    """Return the part of a curve up to x = `limit`, at which y is interpolated."""
    inside = x <= limit
    return np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))


def average_precision(negatives, positives):
    """Return the average precision from the numbers of items at or above every distinct score.

    >>> float(average_precision(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0])))
    0.5
    """
    precision = positives / np.maximum(positives + negatives, np.finfo(float).tiny)
    return np.sum(np.diff(positives) * precision[..., 1:], axis=-1) / positives[..., -1]


def f1_max(negatives, positives):
    """Return the largest F1 score from the numbers of items at or above every distinct score.

    >>> float(f1_max(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0]))) == 2 / 3
    True
    """
    return np.max(2 * positives / (positives + negatives + positives[..., -1:]), axis=-1)
