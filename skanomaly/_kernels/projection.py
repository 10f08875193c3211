"""Linear projections in which the bits of a row do not depend on the other rows."""

import numpy as np
from numba import prange

from .checks import require
from .compiled import parallel

_SUMS = {"reassoc", "contract", "nsz"}  # allows sums to use vector registers


def project_l1(rows, mean, components):
    r"""Return :math:`C (x / \lVert x \rVert_1 - \mu)` for every row x.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Rows x; a row of zeros is not divided by its norm.
    mean : ndarray of shape (d,)
        Mean :math:`\mu`.
    components : ndarray of shape (k, d)
        Matrix C.

    Returns
    -------
    ndarray of shape (n, k), float64
        Projected rows.
    """
    require(rows.shape[1:] == mean.shape == components.shape[1:], "rows, mean and components differ in their width")
    projected = np.empty((len(rows), len(components)))
    rows, mean, components = (np.ascontiguousarray(part, np.float64) for part in (rows, mean, components))
    _project(rows, mean, components, projected)
    return projected


def squared_lengths(rows, mean, components):
    r"""Return :math:`\lVert C (x - \mu) \rVert^2` for every row x.

    Parameters
    ----------
    rows : ndarray of shape (n, d), float64
        Rows x.
    mean : ndarray of shape (d,), float64
        Mean :math:`\mu`.
    components : ndarray of shape (k, d), float64
        Matrix C.

    Returns
    -------
    ndarray of shape (n,), float64
        Squared lengths of the projected rows.
    """
    require(rows.shape[1:] == mean.shape == components.shape[1:], "rows, mean and components differ in their width")
    squared = np.empty(len(rows))
    _square(np.ascontiguousarray(rows), mean, np.ascontiguousarray(components), squared)
    return squared


@parallel(fastmath=_SUMS)
def _project(rows, mean, components, projected):
    for i in prange(len(rows)):
        norm = 0.0
        for v in range(rows.shape[1]):
            norm += abs(rows[i, v])
        scale = 1 / norm if norm > 0 else 1.0
        centered = np.empty(rows.shape[1])
        for v in range(len(centered)):
            centered[v] = rows[i, v] * scale - mean[v]
        for j in range(len(components)):
            total = 0.0
            for v in range(len(centered)):
                total += components[j, v] * centered[v]
            projected[i, j] = total


@parallel(fastmath=_SUMS)
def _square(rows, mean, components, squared):
    n, d = rows.shape
    for block in prange((n + 3) // 4):
        first = 4 * block
        tile = np.zeros((4, d))  # filled up with zeros, so that every row takes the same steps
        for i in range(first, min(first + 4, n)):
            for v in range(d):
                tile[i - first, v] = rows[i, v] - mean[v]
        total0 = total1 = total2 = total3 = 0.0
        for j in range(len(components)):
            sum0 = sum1 = sum2 = sum3 = 0.0
            for v in range(d):
                c = components[j, v]
                sum0 += c * tile[0, v]
                sum1 += c * tile[1, v]
                sum2 += c * tile[2, v]
                sum3 += c * tile[3, v]
            total0 += sum0 * sum0
            total1 += sum1 * sum1
            total2 += sum2 * sum2
            total3 += sum3 * sum3
        for i in range(first, min(first + 4, n)):
            squared[i] = (total0, total1, total2, total3)[i - first]
