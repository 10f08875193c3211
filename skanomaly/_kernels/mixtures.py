"""Log-densities of Gaussian mixtures, of vectors and of all patches of an image.

Vectors are the columns of matrices here, so that loops over many vectors run over neighbouring numbers. The factors of
the precisions are triangular: they are cut into bands of columns, and no band is multiplied with the values that it
does not see.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from .blas import one_blas_thread
from .compiled import compiled, parallel

_BAND = 12  # columns of a triangular factor that are multiplied at a time
_BLOCK = 512  # vectors per matrix product
_NEGLIGIBLE = -40.0  # exponents below add nothing to a sum above 1
_DARK = 1 / 255  # added to the mean of a patch before dividing by it


class Mixture(NamedTuple):
    """Gaussian mixture, arranged for `log_density` and `patch_log_density`.

    Parameters
    ----------
    center : ndarray of shape (d,)
        Value that is subtracted from vectors first: no digits are lost to a large mean.
    factors : ndarray of shape (K * d * d,)
        Transposed factors of the precisions, band after band: rows (component, column of the band), columns up to the
        end of the band.
    shifts : ndarray of shape (K * d,)
        Means times the factors, in the same order.
    offsets : ndarray of shape (K,)
        Logarithms of the weights and of the constants of the Gaussians.
    """

    center: np.ndarray
    factors: np.ndarray
    shifts: np.ndarray
    offsets: np.ndarray


def arrange_mixture(weights, means, precisions_cholesky, dtype=np.float32):
    """Return a `Mixture`, given the fitted attributes of scikit-learn's GaussianMixture with full covariances.

    Parameters
    ----------
    weights : ndarray of shape (K,)
    means : ndarray of shape (K, d)
    precisions_cholesky : ndarray of shape (K, d, d)
        Upper triangular factors U of the precisions U U^T.
    dtype : dtype, default=float32
        Type in which vectors are multiplied.
    """
    d = means.shape[1]
    center = weights @ means
    shifts = np.einsum("ki,kij->kj", means - center, precisions_cholesky)
    factors, in_bands = [], []
    for start in range(0, d, _BAND):
        stop = min(start + _BAND, d)
        factors.append(precisions_cholesky[:, :stop, start:stop].transpose(0, 2, 1).ravel())
        in_bands.append(shifts[:, start:stop].ravel())
    log_determinants = np.log(np.diagonal(precisions_cholesky, axis1=1, axis2=2)).sum(axis=1)
    offsets = np.log(weights) + log_determinants - d / 2 * np.log(2 * np.pi)
    return Mixture(*(np.concatenate(part).astype(dtype) for part in ([center], factors, in_bands)), offsets)


def log_density(X, mixture):
    """Return the log-densities (n,), float64, of vectors X (n, d)."""
    density = np.empty(len(X))
    with one_blas_thread():
        for start in range(0, len(X), _BLOCK):
            part = slice(start, start + _BLOCK)
            columns = np.ascontiguousarray((X[part] - mixture.center).T, mixture.center.dtype)
            _log_densities(columns, mixture.factors, mixture.shifts, mixture.offsets, density[part])
    return density


def patches_at(image, places, side, weber):
    """Return patches of an image (H, W, C), as the columns of a matrix.

    Parameters
    ----------
    image : ndarray of shape (H, W, C)
    places : ndarray of shape (n,), int
        Numbers of the patches, row by row.
    side : int
        Side of a patch.
    weber : bool
        Whether patches x become (x - m) / (m + 1 / 255), with m their mean.

    Returns
    -------
    ndarray of shape (side * side * C, n)
    """
    width = image.shape[1] - side + 1
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))
    patches = windows[places // width, places % width].transpose(2, 3, 1, 0).reshape(-1, len(places))
    patches = np.ascontiguousarray(patches)
    if weber:
        _normalize(patches)
    return patches


def patch_log_density(image, mixture, side, weber=False, projection=None):
    """Return the log-densities (h, w), float64, of all patches of an image.

    Parameters
    ----------
    image : ndarray of shape (H, W, C)
    mixture : Mixture
    side : int
        Side p of a patch; h = H - p + 1.
    weber : bool, default=False
        As in `patches_at`.
    projection : ndarray of shape (d, p * p * C), default=None
        Matrix that patches are multiplied by.
    """
    dtype = mixture.center.dtype
    shape = image.shape[0] - side + 1, image.shape[1] - side + 1
    projection = np.empty((0, 0), dtype) if projection is None else np.ascontiguousarray(projection, dtype)
    density = np.empty(shape)
    with one_blas_thread():
        _patch_log_densities(np.ascontiguousarray(image, dtype), side, weber, projection, *mixture, density)
    return density


@compiled()
def _normalize(patches):
    """Divide patches (d, n) by their means, and subtract 1, in place."""
    d, n = patches.shape
    for j in range(n):
        mean = patches[0, j] * 0
        for i in range(d):
            mean += patches[i, j]
        mean /= d
        for i in range(d):
            patches[i, j] = (patches[i, j] - mean) / (mean + patches.dtype.type(_DARK))


@parallel()
def _patch_log_densities(image, side, weber, projection, center, factors, shifts, offsets, density):
    n_channels = image.shape[2]
    height, width = density.shape
    for row in prange(height):
        patches = np.empty((side * side * n_channels, width), image.dtype)
        for i in range(side):
            for j in range(side):
                for c in range(n_channels):
                    patches[(i * side + j) * n_channels + c] = image[row + i, j : j + width, c]
        if weber:
            _normalize(patches)
        vectors = np.dot(projection, patches) if len(projection) else patches
        for i in range(len(center)):
            vectors[i] -= center[i]
        _log_densities(vectors, factors, shifts, offsets, density[row])


@compiled(fastmath={"contract"})
def _log_densities(vectors, factors, shifts, offsets, density):
    """Set the log-densities (n,) of centred vectors (d, n)."""
    d, n = vectors.shape
    n_components, begin = len(offsets), 0
    squares = np.zeros((n_components, n), vectors.dtype)
    for start in range(0, d, _BAND):
        stop = min(start + _BAND, d)
        band = stop - start
        end = begin + n_components * band * stop
        y = np.dot(factors[begin:end].reshape(n_components * band, stop), vectors[:stop])
        for k in range(n_components):
            for j in range(band):
                shift = shifts[n_components * start + k * band + j]
                line = y[k * band + j]
                for i in range(n):
                    squares[k, i] += (line[i] - shift) * (line[i] - shift)
        begin = end
    _log_sum(squares, offsets, density)


@compiled()
def _log_sum(squares, offsets, density):
    """Set the logarithms (n,) of the sums of exp(offset - square / 2) over the components."""
    n_components, n = squares.shape
    for i in range(n):
        highest = -np.inf
        for k in range(n_components):
            highest = max(highest, offsets[k] - squares[k, i] / 2)
        total = 0.0
        for k in range(n_components):
            exponent = offsets[k] - squares[k, i] / 2 - highest
            if exponent > _NEGLIGIBLE:
                total += np.exp(exponent)
        density[i] = highest + np.log(total)
