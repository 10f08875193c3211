"""Gaussians, one per position: moments that merge, triangular factors, Mahalanobis distances.

A symmetric matrix or its Cholesky factor L is stored as its lower triangle, row after row: element (i, j), with j <= i,
lies at ``i * (i + 1) // 2 + j``. Work is done on tiles of four rows, whose sums keep the processor busy; a tile is
filled up with zeros, so that a sample takes the same steps, to the bit, whoever it is scored with.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from .checks import require
from .compiled import compiled, parallel

_BLOCK = 67  # samples summed up before they are added to the scatter: 68 rows with the step of the mean
_LANES = 16  # tiles are padded to a multiple of this, so that loops over columns leave no remainder
_GROUP = 64  # samples that one thread solves for while a factor is in its cache
_CHUNK_BYTES = 2**27  # of float64 factors held at a time while samples are left out
_FUSED = {"contract"}  # multiply and add in one instruction
_SUMS = {"reassoc", "contract", "nsz"}  # lets sums use vector registers


class Moments(NamedTuple):
    """Number, mean and scatter (sum of outer products of deviations from the mean) of samples at P positions."""

    count: int
    mean: np.ndarray  # (P, d) float64
    scatter: np.ndarray  # (P, d (d + 1) / 2), packed

    def copy(self):
        """Return moments that can be changed in place without changing these."""
        return self._replace(mean=self.mean.copy(), scatter=self.scatter.copy())


def check_moments(moments):
    """Raise a ValueError if the parts of moments are not finite or do not have the shapes that kernels rely on.

    Parameters
    ----------
    moments : Moments
        Moments, from a model file for example.
    """
    count, mean, scatter = moments
    d = mean.shape[1]
    require(scatter.shape == (len(mean), d * (d + 1) // 2), "location_ and scatter_ have different shapes")
    require(mean.dtype == scatter.dtype and mean.dtype.kind == "f", "location_ and scatter_ have different dtypes")
    require(
        count >= 1 and np.isfinite(mean).all() and np.isfinite(scatter).all(), "location_ or scatter_ is not finite"
    )
    diagonal = np.cumsum(np.arange(1, d + 1)) - 1
    require((scatter[:, diagonal] >= 0).all(), "scatter_ has negative variances")


def empty_moments(n_positions, n_features, dtype):
    """Return the `Moments` of no samples; `dtype` is that of the scatter, float32 or float64."""
    n_packed = n_features * (n_features + 1) // 2
    return Moments(0, np.zeros((n_positions, n_features)), np.zeros((n_positions, n_packed), dtype))


def add_samples(moments, X):
    """Add samples X (n, P, d) to the moments, in place; return them with their new count.

    Blocks of samples are centred on their own mean in float64, then multiplied in the precision of the scatter (Chan
    et al., 1983): no digits are lost to a large mean.
    """
    _add_samples(X, moments.count, moments.mean, moments.scatter)
    return moments._replace(count=moments.count + len(X))


def merge_moments(moments, other):
    """Add the samples behind `other` to the moments, in place; return them with their new count."""
    _merge(moments.count, moments.mean, moments.scatter, other.count, other.mean, other.scatter)
    return moments._replace(count=moments.count + other.count)


def factorize(scatter, weight, ridge, dtype=None):
    """Return packed Cholesky factors of ``weight * scatter + ridge * I``, and where there are none.

    Parameters
    ----------
    scatter : ndarray of shape (P, d (d + 1) / 2), float32 or float64
    weight, ridge : float
    dtype : dtype, optional
        Of the factors, by default that of the scatter. They are computed in float64.

    Returns
    -------
    factor : ndarray of shape (P, D (D + 1) / 2)
        D is d rounded up to a multiple of four, with ones on the rest of the diagonal. NaN where singular.
    singular : ndarray of shape (P,), bool
        Whether a pivot is no larger than d eps times the diagonal, eps that of the scatter: rounding alone.
    """
    d = _n_features(scatter)
    padded = (d + 3) // 4 * 4
    factor = np.empty((len(scatter), padded * (padded + 1) // 2), dtype or scatter.dtype)
    tolerance = d * np.finfo(scatter.dtype).eps
    return factor, _factorize(scatter, float(weight), float(ridge), tolerance, factor)


def mahalanobis(X, mean, factor):
    """Return the Mahalanobis distances (n, P), float64, of samples X (n, P, d) by the factors of the covariances.

    Every factor is read once, and a distance does not depend on the other samples.
    """
    d = _n_features(factor)
    require(X.shape[1:] == mean.shape and len(factor) == len(mean), f"X has the shape {X.shape}, mean {mean.shape}")
    require(d - 4 < mean.shape[1] <= d, f"the factors are of {d} features, mean of {mean.shape[1]}")
    return np.sqrt(_squared_distances(X, mean, factor))


def leave_one_out(X, moments, ridge, groups):
    """Return the Mahalanobis distances (n, P) of the samples behind the moments, by Gaussians without their own group.

    Covariances are the scatter divided by the number of samples that are left, less one, plus ``ridge * I``.

    Parameters
    ----------
    X : ndarray of shape (n, P, d)
        All samples behind `moments`, and no others.
    moments : Moments
    ridge : float
    groups : ndarray of shape (n,), int
        From 0 on; each leaves two samples or more.

    Returns
    -------
    ndarray of shape (n, P), float64
        NaN where the covariance without the group is singular.
    """
    distances = np.empty(X.shape[:2])
    step = max(1, _CHUNK_BYTES // (8 * moments.scatter.shape[1]))
    for size in np.unique(np.bincount(groups)):
        weight = 1 / (len(X) - size - 1)
        for start in range(0, X.shape[1], step):
            part = slice(start, start + step)
            factor, _ = factorize(moments.scatter[part], weight, ridge, np.float64)  # 1 - c q loses digits
            for run in runs_of_groups(groups, size, len(X)):
                chosen = np.ascontiguousarray(X[run, part])
                distances[run, part] = left_out(chosen, size, len(X), moments.mean[part], factor, weight)
    return distances


def runs_of_groups(groups, size, length):
    """Yield samples, as integer arrays, whose groups have a size: whole groups, one after another.

    Parameters
    ----------
    groups : ndarray of shape (n,), int
        From 0 on.
    size : int
    length : int
        Most samples of an array; at least one group is in each.
    """
    order = np.argsort(groups, kind="stable")
    members = order[np.bincount(groups)[groups[order]] == size]
    step = size * max(1, length // size)
    for start in range(0, len(members), step):
        yield members[start : start + step]


def left_out(X, size, n, mean, factor, weight):
    """Return the Mahalanobis distances (m, P) of samples by the Gaussians without their own group.

    Parameters
    ----------
    X : ndarray of shape (m, P, d)
        One group after another, each of `size` samples.
    size : int
    n : int
        Number of all samples.
    mean, factor : ndarray
        Of all samples, as in `mahalanobis`, the factor of ``weight * scatter + ridge * I``.
    weight : float
        ``1 / (n - size - 1)``.

    Returns
    -------
    ndarray of shape (m, P), float64
        NaN where the covariance without the group is singular.
    """
    if size == 1:
        return without_own(_squared_distances(X, mean, factor), n, weight, X.shape[2])
    groups = [X[start : start + size] for start in range(0, len(X), size)]
    step = max(1, _CHUNK_BYTES // (8 * size * X.shape[2]))
    parts = [slice(start, start + step) for start in range(0, X.shape[1], step)]
    return np.concatenate(
        [
            np.hstack([_without_group(group[:, part], n, mean[part], factor[part], weight) for part in parts])
            for group in groups
        ]
    )


def without_own(squared, n, weight, n_features):
    r"""Return the distances of n samples by the Gaussians of the others, from squared ones by that of all.

    Without sample i, at deviation :math:`\delta` from the mean of all n, the mean moves by
    :math:`-\delta / (n - 1)` and the scatter loses :math:`\frac{n}{n - 1} \delta \delta^T`. With A the covariance
    made of the scatter of all, :math:`c = \frac{n}{n - 1}` times `weight` and :math:`q = \delta^T A^{-1} \delta`,
    the formula of Sherman and Morrison gives

    .. math:: M_i^2 = \Bigl( \frac{n}{n - 1} \Bigr)^2 \frac{q}{1 - c q}

    Parameters
    ----------
    squared : ndarray of shape (n, P)
        q, where `weight` has made a covariance of n - 1 samples of the scatter of n.
    n : int
    weight : float
    n_features : int

    Returns
    -------
    ndarray of shape (n, P), float64
        NaN where the covariance without the sample is singular.
    """
    ratio = n / (n - 1)
    rest = 1 - ratio * weight * squared
    rest[rest <= n_features * np.finfo(np.float64).eps] = np.nan
    return ratio * np.sqrt(squared / rest)


def _without_group(X, n, mean, factor, weight):
    r"""Return the distances (k, P) of a group of k samples by the Gaussians of the n - k others.

    Let the rows of :math:`Y` be the deviations of the group from the mean of all, solved by the factor of A. Without
    the group the scatter loses :math:`B^T C B`, B the deviations and :math:`C = I + 1 1^T / (n - k)`, and the
    deviations become :math:`C B`. With R the root of C and the singular values of :math:`R Y = U S V^T`, the formula
    of Woodbury gives

    .. math:: M_i^2 = \sum_j \frac{(R U S)_{ij}^2}{1 - w S_j^2}
    """
    k, d = len(X), X.shape[2]
    share = (np.sqrt(n / (n - k)) - 1) / k
    solved = _solved(np.ascontiguousarray(X), mean, factor)
    singular = np.isnan(solved).any(axis=(1, 2))
    solved[singular] = 0
    U, S, _ = np.linalg.svd(solved + share * solved.sum(axis=1, keepdims=True), full_matrices=False)
    rest = 1 - weight * S**2
    rest[rest <= d * np.finfo(np.float64).eps] = np.nan
    rest[singular] = np.nan
    spread = U * S[:, None]
    spread += share * spread.sum(axis=1, keepdims=True)
    return np.sqrt((spread**2 / rest[:, None]).sum(axis=2)).T


def pack(matrices):
    """Return the packed lower triangles (..., d (d + 1) / 2) of matrices (..., d, d)."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return matrices[..., rows, columns]


def unpack(packed):
    """Return the lower triangles (..., d, d), zero above the diagonal, that are packed in (..., d (d + 1) / 2)."""
    d = _n_features(packed)
    rows, columns = np.tril_indices(d)
    matrices = np.zeros((*packed.shape[:-1], d, d), packed.dtype)
    matrices[..., rows, columns] = packed
    return matrices


@compiled()
def _n_features(packed):
    return int(np.sqrt(2 * packed.shape[-1]))


# Some indices are unsigned: numba would test signed ones for counting from the end, in every step of a loop.


@compiled(fastmath=_FUSED)
def _add_products(rows, n_rows, tile, i, start, stop):
    """Add the products of columns i to i + 3 of the first rows with columns start to stop to the rows of the tile."""
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


@compiled()
def _padded(d):
    return (d + _LANES - 1) // _LANES * _LANES


@parallel()
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


@compiled()
def _center(X, first, last, p, step, rows):
    """Write the mean of samples first to last to `step`, and their deviations from it to `rows`."""
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


@compiled()
def _move_mean(mean, p, step, seen, n, rows):
    """Merge the mean `step` of n samples with that of those seen; add what this adds to the scatter as a row."""
    share = n / (seen + n)
    for j in range(len(step)):
        rows[n, j] = np.sqrt(seen * share) * (step[j] - mean[p, j])
        mean[p, j] += share * (step[j] - mean[p, j])


@compiled()
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


@parallel()
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


@parallel()
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


@compiled()
def _cholesky(packed, d, tolerance):
    """Replace a packed matrix by its factor, four rows at a time; return whether it has one."""
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


@parallel()
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


@parallel()
def _solved(X, mean, factor):
    """Return the deviations (P, n, d), float64, of samples X (n, P, d) from the mean, solved by the factors."""
    n, n_positions, d = X.shape
    padded = _n_features(factor)
    solved = np.empty((n_positions, n, d))
    for p in prange(n_positions):
        tile, sums = np.zeros((4, padded), factor.dtype), np.empty((4, 4), factor.dtype)
        for first in range(0, n, 4):
            n_rows = min(4, n - first)
            tile[:] = 0
            for r in range(n_rows):
                for j in range(d):
                    tile[r, j] = X[first + r, p, j] - mean[p, j]
            _solve(factor[p], tile, padded, sums)
            for r in range(n_rows):
                for j in range(d):
                    solved[p, first + r, j] = tile[r, j]
    return solved


@compiled()
def _row(i):
    """Return where row i of a packed matrix begins."""
    return i * (i + np.uint64(1)) // np.uint64(2)


@compiled(fastmath=_FUSED)
def _solve(packed, tile, d, sums):
    """Replace the first d entries v of each row of the tile by the solution y of L y = v."""
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


@compiled(fastmath=_SUMS)
def _sum_products(packed, tile, i, sums):
    """Write the products of the first i entries of rows i to i + 3 of L with those of the rows of the tile."""
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
