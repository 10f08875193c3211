"""Local outlier factors (Breunig et al. 2000)."""

import numpy as np

from .neighbors import k_nearest

_TINY = 1e-10  # added to mean distances, which are 0 among copies


def local_densities(rows, k):
    """Compute the local density of each row among all others.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Rows, more than k.
    k : int
        Number of neighbours.

    Returns
    -------
    radii : ndarray of shape (n,)
        Distance of each row to its k-th nearest neighbour.
    densities : ndarray of shape (n,)
        Local reachability density of each row.
    """
    own = np.arange(len(rows))
    distances, neighbors = k_nearest(rows, rows, k, own, own)
    radii = distances[:, -1]
    return radii, _densities(distances, radii[neighbors])


def outlier_factors(rows, radii, densities, queries, k):
    """Compute the local outlier factors of queries among rows: about 1 inside, larger outside.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Rows.
    radii : ndarray of shape (n,)
        Distance of each row to its k-th nearest neighbour.
    densities : ndarray of shape (n,)
        Local reachability density of each row.
    queries : ndarray of shape (m, d), with the dtype of `rows`
        Rows to judge, which are not among `rows`.
    k : int
        Number of neighbours.

    Returns
    -------
    ndarray of shape (m,), float64
        Factors.
    """
    distances, neighbors = k_nearest(rows, queries, k)
    return densities[neighbors].mean(axis=1) / _densities(distances, radii[neighbors])


def _densities(distances, radii):
    """Return 1 / mean of the reachability distances to the neighbours (n, k), whose radii are given."""
    return 1 / (np.maximum(distances, radii).mean(axis=1) + _TINY)
