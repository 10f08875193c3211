"""Gaussians, one per position: moments that can be merged, Cholesky factors and Mahalanobis distances.

A symmetric matrix or its Cholesky factor L is stored as its lower triangle, row by row: the element (i, j), with
j <= i, is at ``i * (i + 1) // 2 + j``. Computations run on tiles of four rows, enough independent sums to keep the
processor busy. Tiles are padded with zeros, so that the result of a sample is the same, bit for bit, whichever samples
it is scored with.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

_BLOCK = 67  # samples per update of the scatter: 68 rows with the shift of the mean
_LANES = 16  # tiles are padded to a multiple of this number of columns, so that loops have no remainder
_GROUP = 64  # samples per thread and factor, while the factor is in the cache
_CHUNK_BYTES = 2**27  # size of the float64 factors held in memory at a time in leave-one-out
_FUSED = {"contract"}  # allows fused multiply-add
_SUMS = {"reassoc", "contract", "nsz"}  # allows sums to use vector registers


class Moments(NamedTuple):
    """Number, mean and scatter (sum of outer products of the deviations from the mean) of samples at P positions."""

    count: int
    mean: np.ndarray  # (P, d) float64
    scatter: np.ndarray  # (P, d (d + 1) / 2), packed

    def copy(self):
        """Return a copy that can be changed in place."""
        return self._replace(mean=self.mean.copy(), scatter=self.scatter.copy())


def empty_moments(n_positions, n_features, dtype):
    """Return the `Moments` of zero samples, with a scatter of `dtype` float32 or float64."""
    n_packed = n_features * (n_features + 1) // 2
    return Moments(0, np.zeros((n_positions, n_features)), np.zeros((n_positions, n_packed), dtype))


def add_samples(moments, X):
    """Add samples X (n, P, d) to the moments in place, and return them with the new count.

    Blocks of samples are centred on their own mean in float64, then multiplied in the precision of the scatter (Chan
    et al., 1983), so that a large mean costs no precision.
    """
    _add_samples(X, moments.count, moments.mean, moments.scatter)
    return moments._replace(count=moments.count + len(X))


def merge_moments(moments, other):
    """Add the samples behind `other` to the moments in place, and return them with the new count."""
    _merge(moments.count, moments.mean, moments.scatter, other.count, other.mean, other.scatter)
    return moments._replace(count=moments.count + other.count)


def factorize(scatter, weight, ridge, dtype=None):
    """Return the packed Cholesky factors of ``weight * scatter + ridge * I``, and which matrices are singular.

    Parameters
    ----------
    scatter : ndarray of shape (P, d (d + 1) / 2), float32 or float64
        Packed scatter matrices.
    weight : float
        Factor of the scatter.
    ridge : float
        Value added to the diagonal.
    dtype : dtype, optional
        Dtype of the factors, by default that of the scatter. They are computed in float64.

    Returns
    -------
    factor : ndarray of shape (P, D (D + 1) / 2)
        Packed factors, where D is d rounded up to a multiple of four and the added rows are those of the identity. NaN
        where the matrix is singular.
    singular : ndarray of shape (P,), bool
        Whether a pivot is at most d eps times the diagonal element, hence mere rounding; eps is that of the dtype of
        the scatter.
    """
    d = _n_features(scatter)
    padded = (d + 3) // 4 * 4
    factor = np.empty((len(scatter), padded * (padded + 1) // 2), dtype or scatter.dtype)
    tolerance = d * np.finfo(scatter.dtype).eps
    return factor, _factorize(scatter, float(weight), float(ridge), tolerance, factor)


def mahalanobis(X, mean, factor):
    """Return the Mahalanobis distances (n, P), float64, of samples X (n, P, d), given the factors of the covariances.

    Every factor is read only once, and the distance of a sample does not depend on the other samples.
    """
    return np.sqrt(_squared_distances(X, mean, factor))


def leave_one_out(X, moments, weight, ridge):
    """Return the Mahalanobis distances of the samples behind the moments, each to the Gaussian of the others.

    Parameters
    ----------
    X : ndarray of shape (n, P, d)
        Exactly the samples behind `moments`.
    moments : Moments
        Moments of all samples.
    weight : float
        Factor of the scatter in the covariances without a sample, as in `factorize`.
    ridge : float
        Value added to the diagonal of the covariances without a sample, as in `factorize`.

    Returns
    -------
    ndarray of shape (n, P), float64
        Distances; NaN where the covariance without the sample is singular.
    """
    distances = np.empty(X.shape[:2])
    step = max(1, _CHUNK_BYTES // (8 * moments.scatter.shape[1]))
    for start in range(0, X.shape[1], step):
        part = slice(start, start + step)
        factor, _ = factorize(moments.scatter[part], weight, ridge, np.float64)  # 1 - c q loses digits
        squared = _squared_distances(np.ascontiguousarray(X[:, part]), moments.mean[part], factor)
        distances[:, part] = without_own(squared, moments.count, weight, X.shape[2])
    return distances


def without_own(squared, n, weight, n_features):
    r"""Return the distance of each of n samples to the Gaussian of the others, given its distance to that of all.

    If sample i, with deviation :math:`\delta` from the mean of all n samples, is left out, the mean moves by
    :math:`-\delta / (n - 1)` and the scatter loses :math:`\frac{n}{n - 1} \delta \delta^T`. Let A be the covariance
    computed from the scatter of all samples, :math:`c = \frac{n}{n - 1}` times `weight` and
    :math:`q = \delta^T A^{-1} \delta`. Then the Sherman-Morrison formula gives

    .. math:: M_i^2 = \Bigl( \frac{n}{n - 1} \Bigr)^2 \frac{q}{1 - c q}

    Parameters
    ----------
    squared : ndarray of shape (n, P)
        Squared distances q to the Gaussian whose covariance is `weight` times the scatter of all n samples.
    n : int
        Number of samples.
    weight : float
        Factor that turns the scatter of n - 1 samples into their covariance.
    n_features : int
        Number of features d.

    Returns
    -------
    ndarray of shape (n, P), float64
        Distances (not squared); NaN where the covariance without the sample is singular.
    """
    ratio = n / (n - 1)
    rest = 1 - ratio * weight * squared
    rest[rest <= n_features * np.finfo(np.float64).eps] = np.nan
    return ratio * np.sqrt(squared / rest)


def pack(matrices):
    """Return the packed lower triangles (..., d (d + 1) / 2) of matrices (..., d, d)."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return matrices[..., rows, columns]


@njit(cache=True)
def _n_features(packed):
    return int(np.sqrt(2 * packed.shape[-1]))


# Some indices are unsigned, because numba checks at every access whether a signed index counts from the end.


@njit(cache=True, fastmath=_FUSED)
def _add_products(rows, n_rows, tile, i, start, stop):
    """Add the products, over the first rows, of columns i to i + 3 and columns start to stop to the tile."""
    i0 = np.uint64(i)
    i1, i2, i3 = i0 + np.uint64(1), i0 + np.uint64(2), i0 + np.uint64(3)
    for block in range(np.uint64(n_rows // 4)):
        k0 = block * np.uint64(4)
        k1, k2, k3 = k0 + np.uint64(1), k0 + np.uint64(2), k0 + np.uint64(3)
        w00, w01, w02, w03 = rows[k0, i0], rows[k0, i1], rows[k0, i2], rows[k0, i3]
        w10, w11, w12, w13 = rows[k1, i0], rows[k1, i1], rows[k1, i2], rows[k1, i3]
        w20, w21, w22, w23 = rows[k2, i0], rows[k2, i1], rows[k2, i2], rows[k2, i3]
        w30, w31, w32, w33 = rows[k3, i0], rows[k3, i1], rows[k3, i2], rows[k3, i3]
        for j in range(np.uint64(start), np.uint64(stop)):
            r0, r1, r2, r3 = rows[k0, j], rows[k1, j], rows[k2, j], rows[k3, j]
            tile[0, j] = tile[0, j] + w00 * r0 + w10 * r1 + w20 * r2 + w30 * r3
            tile[1, j] = tile[1, j] + w01 * r0 + w11 * r1 + w21 * r2 + w31 * r3
            tile[2, j] = tile[2, j] + w02 * r0 + w12 * r1 + w22 * r2 + w32 * r3
            tile[3, j] = tile[3, j] + w03 * r0 + w13 * r1 + w23 * r2 + w33 * r3


@njit(cache=True)
def _padded(d):
    return (d + _LANES - 1) // _LANES * _LANES


@njit(cache=True, parallel=True)
def _add_samples(X, count, mean, scatter):
    n, n_positions, d = X.shape
    for p in prange(n_positions):
        rows = np.zeros(((min(_BLOCK, n) + 4) // 4 * 4, _padded(d)), scatter.dtype)
        tile = np.empty((4, _padded(d)), scatter.dtype)
        step = np.empty(d)
        for first in range(0, n, _BLOCK):
            last = min(first + _BLOCK, n)
            _center(X, first, last, p, step, rows)
            _move_mean(mean, p, step, count + first, last - first, rows)
            _add_scatter(rows, (last - first + 4) // 4 * 4, tile, scatter[p], d)


@njit(cache=True)
def _center(X, first, last, p, step, rows):
    """Write the mean of the samples from first to last to `step`, and their deviations from it to `rows`."""
    step[:] = 0
    for i in range(first, last):
        for j in range(len(step)):
            step[j] += X[i, p, j]
    for j in range(len(step)):
        step[j] /= last - first
    for i in range(first, last):
        for j in range(len(step)):
            rows[i - first, j] = X[i, p, j] - step[j]
    rows[last - first :] = 0


@njit(cache=True)
def _move_mean(mean, p, step, seen, n, rows):
    """Merge the mean `step` of n samples into that of those seen; append the shift to `rows` for the scatter."""
    share = n / (seen + n)
    for j in range(len(step)):
        rows[n, j] = np.sqrt(seen * share) * (step[j] - mean[p, j])
        mean[p, j] += share * (step[j] - mean[p, j])


@njit(cache=True)
def _add_scatter(rows, n_rows, tile, packed, d):
    place = 0
    for i in range(0, d, 4):
        stop = _padded(i + 4)
        tile[:, :stop] = 0
        _add_products(rows, n_rows, tile, i, 0, stop)
        for r in range(min(4, d - i)):
            row = packed[place : place + i + r + 1]
            for j in range(len(row)):
                row[j] += tile[r, j]
            place += len(row)


@njit(cache=True, parallel=True)
def _merge(count, mean, scatter, other_count, other_mean, other_scatter):
    n_positions, d = mean.shape
    share = other_count / (count + other_count)
    for p in prange(n_positions):
        step = other_mean[p] - mean[p]
        place = 0
        for i in range(d):
            for j in range(i + 1):
                scatter[p, place + j] += other_scatter[p, place + j] + count * share * step[i] * step[j]
            place += i + 1
        for i in range(d):
            mean[p, i] += share * step[i]


@njit(cache=True, parallel=True)
def _factorize(scatter, weight, ridge, tolerance, factor):
    n_positions, n_packed = scatter.shape
    d, padded = _n_features(scatter), _n_features(factor)
    singular = np.empty(n_positions, np.bool_)
    for p in prange(n_positions):
        work = np.zeros(factor.shape[1])
        for k in range(n_packed):
            work[k] = weight * scatter[p, k]
        for i in range(padded):
            work[_row(i) + i] += ridge if i < d else 1.0
        singular[p] = not _cholesky(work, padded, tolerance)
        for k in range(len(work)):
            factor[p, k] = np.nan if singular[p] else work[k]
    return singular


@njit(cache=True)
def _cholesky(packed, d, tolerance):
    """Replace a packed matrix by its Cholesky factor, four rows at a time; return whether it has one."""
    tile, sums, four = np.empty((4, d)), np.empty((4, 4)), np.uint64(4)
    for i in range(np.uint64(0), np.uint64(d), four):
        place = _row(i)
        for r in range(four):
            for k in range(i + r + np.uint64(1)):
                tile[r, k] = packed[place + k]
            place += i + r + np.uint64(1)
        _solve(packed, tile, i, sums)
        place = _row(i)
        for r in range(four):
            for k in range(i):
                packed[place + k] = tile[r, k]
            place += i + r + np.uint64(1)
        _sum_products(packed, tile, i, sums)
        place = _row(i) + i
        for r in range(four):
            for q in range(r + np.uint64(1)):
                value = tile[r, i + q] - sums[r, q]
                for k in range(q):
                    value -= tile[r, i + k] * tile[q, i + k]
                if q < r:
                    value /= tile[q, i + q]
                elif value > tolerance * tile[r, i + r]:
                    value = np.sqrt(value)
                else:
                    return False
                tile[r, i + q] = packed[place + q] = value
            place += i + r + np.uint64(1)
    return True


@njit(cache=True, parallel=True)
def _squared_distances(X, mean, factor):
    n, n_positions, d = X.shape
    padded = _n_features(factor)
    n_groups = (n + _GROUP - 1) // _GROUP
    squared = np.empty((n, n_positions))
    for task in prange(n_positions * n_groups):
        p, group = task // n_groups, task % n_groups
        packed = factor[p]
        tile, sums = np.zeros((4, padded), factor.dtype), np.empty((4, 4), factor.dtype)
        for first in range(group * _GROUP, min((group + 1) * _GROUP, n), 4):
            n_rows = min(4, n - first)
            for r in range(n_rows):
                for j in range(d):
                    tile[r, j] = X[first + r, p, j] - mean[p, j]
            _solve(packed, tile, padded, sums)
            for r in range(n_rows):
                total = 0.0
                for j in range(d):
                    total += np.float64(tile[r, j]) ** 2
                squared[first + r, p] = total
                tile[r, d:] = 0
    return squared


@njit(cache=True)
def _row(i):
    """Return the position of the first element of row i of a packed matrix."""
    return i * (i + np.uint64(1)) // np.uint64(2)


@njit(cache=True, fastmath=_FUSED)
def _solve(packed, tile, d, sums):
    """Replace the first d elements v of each row of the tile by the solution y of L y = v."""
    one = tile.dtype.type(1)
    for i in range(np.uint64(0), np.uint64(d), np.uint64(4)):
        _sum_products(packed, tile, i, sums)
        i1, i2, i3 = i + np.uint64(1), i + np.uint64(2), i + np.uint64(3)
        o0, o1, o2, o3 = _row(i), _row(i1), _row(i2), _row(i3)
        l10, l20, l21 = packed[o1 + i], packed[o2 + i], packed[o2 + i1]
        l30, l31, l32 = packed[o3 + i], packed[o3 + i1], packed[o3 + i2]
        inverse0, inverse1 = one / packed[o0 + i], one / packed[o1 + i1]
        inverse2, inverse3 = one / packed[o2 + i2], one / packed[o3 + i3]
        for r in range(np.uint64(4)):
            y0 = (tile[r, i] - sums[0, r]) * inverse0
            y1 = (tile[r, i1] - sums[1, r] - l10 * y0) * inverse1
            y2 = (tile[r, i2] - sums[2, r] - l20 * y0 - l21 * y1) * inverse2
            y3 = (tile[r, i3] - sums[3, r] - l30 * y0 - l31 * y1 - l32 * y2) * inverse3
            tile[r, i], tile[r, i1], tile[r, i2], tile[r, i3] = y0, y1, y2, y3


@njit(cache=True, fastmath=_SUMS)
def _sum_products(packed, tile, i, sums):
    """Write the products of the first i elements of rows i to i + 3 of L and of the rows of the tile to `sums`."""
    o0, o1, o2, o3 = _row(i), _row(i + np.uint64(1)), _row(i + np.uint64(2)), _row(i + np.uint64(3))
    zero = tile.dtype.type(0)
    s00, s01, s02, s03 = zero, zero, zero, zero
    s10, s11, s12, s13 = zero, zero, zero, zero
    s20, s21, s22, s23 = zero, zero, zero, zero
    s30, s31, s32, s33 = zero, zero, zero, zero
    for k in range(i):
        a0, a1, a2, a3 = packed[o0 + k], packed[o1 + k], packed[o2 + k], packed[o3 + k]
        b0, b1, b2, b3 = tile[0, k], tile[1, k], tile[2, k], tile[3, k]
        s00 += a0 * b0
        s01 += a0 * b1
        s02 += a0 * b2
        s03 += a0 * b3
        s10 += a1 * b0
        s11 += a1 * b1
        s12 += a1 * b2
        s13 += a1 * b3
        s20 += a2 * b0
        s21 += a2 * b1
        s22 += a2 * b2
        s23 += a2 * b3
        s30 += a3 * b0
        s31 += a3 * b1
        s32 += a3 * b2
        s33 += a3 * b3
    sums[0, 0], sums[0, 1], sums[0, 2], sums[0, 3] = s00, s01, s02, s03
    sums[1, 0], sums[1, 1], sums[1, 2], sums[1, 3] = s10, s11, s12, s13
    sums[2, 0], sums[2, 1], sums[2, 2], sums[2, 3] = s20, s21, s22, s23
    sums[3, 0], sums[3, 1], sums[3, 2], sums[3, 3] = s30, s31, s32, s33
