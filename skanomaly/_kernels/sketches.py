"""Sketches of rows: short vectors whose products prove that rows are far apart.

The sketch of a row b is (P b, |b - P b|, |b|^2, 1), where P b are its leading principal coordinates, the mean is
subtracted and lengths are in `unit`. Since |P b - P q|^2 + (|b - P b| - |q - P q|)^2 <= |b - q|^2, the product of the
sketch with (-2 P q, -2 |q - P q|, 1, |q|^2 - x^2) is negative for every row b closer to q than x.
"""

import numpy as np
from numba import njit

_SAMPLE = 4096  # rows from which the principal axes are computed
_MARGIN = 1e-5  # relative safety margin of a distance in the dtype of the rows
_ROUNDING = 32 * np.finfo(np.float32).eps  # rounding of squared distances from sketches, relative to (|q| + |b|)^2


def principal_axes(rows, n_axes):
    """Return the mean (d,) of rows (n, d) and their leading principal axes (d, at most n_axes), as float64."""
    mean = rows.mean(axis=0, dtype=np.float64)
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(int)] - mean
    return mean, np.ascontiguousarray(np.linalg.eigh(sample.T @ sample)[1][:, : -n_axes - 1 : -1])


def sketch(rows, axes):
    """Return the coordinates P b, the lengths |b - P b| and the squared norms |b|^2 of centred rows, in their unit."""
    coordinates = rows @ axes
    norms = np.einsum("ij,ij->i", rows, rows)
    return coordinates, np.sqrt(np.maximum(norms - (coordinates**2).sum(axis=1), 0)), norms


@njit(inline="always")
def largest_product(reach, norm, unit):
    """Return an upper bound on the product, with a last factor of 0, of rows within `reach`; norm is squared."""
    return (reach * (1 + _MARGIN) / unit) ** 2 - norm + _ROUNDING * (np.sqrt(norm) + 1) ** 2
