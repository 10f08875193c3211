"""Linear projection in which the bits of a row do not depend on the other rows."""

import numpy as np
from numba import njit, prange

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
    projected = np.empty((len(rows), len(components)))
    rows, mean, components = (np.ascontiguousarray(part, np.float64) for part in (rows, mean, components))
    _project(rows, mean, components, projected)
    return projected


@njit(cache=True, parallel=True, fastmath=_SUMS)
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
