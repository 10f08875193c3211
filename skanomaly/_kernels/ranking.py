"""Exact curves over all distinct values of a score."""

import numpy as np


def weighted_curve(scores, positive_weight, negative_weight):
    """Return the shares of the negative and the positive weight at or above every distinct score.

    Parameters
    ----------
    scores : ndarray of shape (n,), float
        Scores.
    positive_weight : ndarray of shape (n,), float
        Weights of positive items, with sum 1.
    negative_weight : ndarray of shape (n,), float
        Weights of negative items, with sum 1.

    Returns
    -------
    negative_share : ndarray of shape (n_distinct + 1,), float64
        Share of the negative weight, from 0 (threshold above every score) to 1.
    positive_share : ndarray of shape (n_distinct + 1,), float64
        Share of the positive weight, from 0 (threshold above every score) to 1.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(scores) - 1)

    def cumulate(weight):
        return np.append(0.0, np.cumsum(weight[order], dtype=np.float64)[last_of_tie])

    return cumulate(negative_weight), cumulate(positive_weight)


def area_under(x, y, limit=1.0):
    """Return the mean height of a curve over [0, limit], with y interpolated at the limit.

    >>> area_under(np.array([0.0, 1.0]), np.array([0.0, 1.0]), limit=0.5)
    0.25
    """
    x_cut, y_cut = cut(x, y, limit)
    return float(np.trapezoid(y_cut, x_cut) / limit)


def cut(x, y, limit):
    """Return the part of a curve up to x = `limit`, at which y is interpolated."""
    inside = x <= limit
    return np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
