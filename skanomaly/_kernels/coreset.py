"""Exact greedy k-centre selection, in which most distances are proved unnecessary instead of being computed."""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from .blas import one_blas_thread
from .compiled import compiled, parallel
from .sketches import largest_product, principal_axes, sketch

_AXES = 24, 1 / 11  # principal coordinates in a sketch: the smallest number, and the share of all coordinates
_CANDIDATES = 1024, 1 / 128  # points in a round: the smallest number, and the share of all points
_FEW = 16  # centres found in a round below which the next has twice as many candidates
_SAMPLE = 8192  # points from which the distance of candidates is estimated
_RUN = 256  # centres per step of the progress bar, and largest number found in a round
_TILE = 256  # points per matrix product
_CHUNK = 128  # centres per matrix product
_ROWS = 4096  # points sketched at a time
_FAR = np.float32(1e30)  # product that rules out any distance
_SUMS = {"reassoc", "contract", "nsz"}  # allows sums to use vector registers


class _Points(NamedTuple):
    """The points and what is known of them; the arrays are changed in place."""

    rows: np.ndarray  # (n, d)
    nearest: np.ndarray  # (n,) distance to the nearest centre; -1 for centres
    label: np.ndarray  # (n,) int32, number of that centre
    sketches: np.ndarray  # (n, s + 3) float32; the last column is a bound on the products of farther centres
    norms: np.ndarray  # (n,) squared distance from the mean, in units
    unit: float  # distance of the point farthest from the mean


def greedy_k_center(X, n_centers, start, progress=iter):
    """Select centres such that each new centre is the point farthest from the previous ones.

    In each round, the points farthest from the centres are the candidates. Among them, centres are selected by a plain
    loop until all that are left are closer than the points outside. Then all points are compared with all new centres
    at once: a matrix product of their sketches proves most of them to be farther away than the nearest centre so far;
    the distances of the few others are computed.

    Parameters
    ----------
    X : ndarray of shape (n_points, n_features), float32 or float64, C-contiguous
        Points.
    n_centers : int
        Number of centres, in [1, n_points].
    start : int
        Index of the first centre.
    progress : callable
        Wrapper of the iterable of runs of centres, such as a progress bar.

    Returns
    -------
    centers : ndarray of shape (n_centers,), int64
        Distinct indices of the centres, in order of selection; ties go to the lowest index.
    labels : ndarray of shape (n_points,), int32
        Position in `centers` of the centre nearest to each point.
    radius : float
        Largest distance of any point to its nearest centre; 0 if every point was selected.
    """
    with one_blas_thread():  # numba has threads of its own
        points = _sketched(X)
    centers = np.full(n_centers, start, np.int64)
    _own_everything(start, *points)
    done, wanted = 1, min(len(X), max(_CANDIDATES[0], int(_CANDIDATES[1] * len(X))))
    for begin in progress(range(1, n_centers, _RUN)):
        while done < min(begin + _RUN, n_centers):
            room = min(begin + _RUN, n_centers) - done
            new = _find_centers(done, room, _distance_of(wanted, points.nearest), *points[:3])
            with one_blas_thread():
                _take_over(done, new, _factors(points, new), *points)
            centers[done : done + len(new)] = new
            done += len(new)
            wanted = min(len(X), wanted if len(new) >= min(_FEW, room) else 2 * wanted)
    return centers, points.label, max(float(points.nearest.max()), 0.0)


@compiled(nogil=True)
def greedy_k_center_plain(X, n_centers, start):
    """Select centres by a plain loop that compares every new centre with every point.

    This is the oracle of `greedy_k_center`: it takes the same arguments and returns the same centres and radius.
    """
    centers = np.empty(n_centers, np.int64)
    nearest = np.full(X.shape[0], np.inf, X.dtype)
    current = start
    for i in range(n_centers):
        centers[i] = current
        for point in range(X.shape[0]):
            nearest[point] = min(nearest[point], np.sqrt(_squared_distance(X, point, X, current)))
        nearest[current] = -1  # never selected again, even among duplicates
        current = np.argmax(nearest)
    return centers, max(nearest.max(), 0)


def _sketched(X):
    """Return the points without owners."""
    mean, axes = principal_axes(X, max(_AXES[0], int(_AXES[1] * X.shape[1])))
    parts = [slice(begin, begin + _ROWS) for begin in range(0, len(X), _ROWS)]
    unit = max(float(np.linalg.norm(X[part] - mean, axis=1).max()) for part in parts) or 1.0
    sketches = np.ones((len(X), axes.shape[1] + 3), np.float32)
    norms = np.empty(len(X))
    for part in parts:
        coordinates, rest, norms[part] = sketch((X[part] - mean) / unit, axes)
        sketches[part, :-3], sketches[part, -3] = coordinates, rest
    return _Points(X, np.empty(len(X), X.dtype), np.zeros(len(X), np.int32), sketches, norms, unit)


def _distance_of(n_wanted, nearest):
    """Return a distance that about `n_wanted` points reach or exceed, and at least one does."""
    sample = nearest[:: -(-len(nearest) // _SAMPLE)]
    place = len(sample) - 1 - int(n_wanted / len(nearest) * (len(sample) - 1))
    return np.partition(sample, place)[place]


def _factors(points, centers):
    """Return the factors of the sketches for `centers`, as a few matrices of shape (s + 3, centres)."""
    width = min(_CHUNK, -(-len(centers) // 16) * 16)
    factors = np.zeros((-(-len(centers) // width) * width, points.sketches.shape[1]), np.float32)
    factors[:, -2] = _FAR  # padding
    factors[: len(centers), :-2] = -2 * points.sketches[centers, :-2]
    factors[: len(centers), -2] = points.norms[centers]
    factors[:, -1] = 1
    return np.ascontiguousarray(factors.reshape(-1, width, factors.shape[1]).transpose(0, 2, 1))


@compiled(fastmath=_SUMS, nogil=True)
def _squared_distance(A, a, B, b):
    total = A.dtype.type(0)
    for j in range(A.shape[1]):
        step = A[a, j] - B[b, j]
        total += step * step
    return total


@parallel(nogil=True)
def _own_everything(start, rows, nearest, label, sketches, norms, unit):
    """Make point `start` the first centre, the owner of all points."""
    for point in prange(len(rows)):
        nearest[point] = np.sqrt(_squared_distance(rows, point, rows, start)) if point != start else -1
        sketches[point, -1] = _last_column(nearest[point], norms[point], unit)


@njit(inline="always")
def _last_column(nearest, norm, unit):
    return -largest_product(nearest, norm, unit) if nearest > 0 else _FAR  # no centre is closer than a duplicate


@compiled(nogil=True)
def _find_centers(first, room, distance, rows, nearest, label):
    """Select up to `room` centres, the first of which has number `first`, among the points at `distance` or more."""
    candidates = np.flatnonzero(nearest >= distance)
    subset, reach = rows[candidates], nearest[candidates]
    found = np.empty(room, np.int64)
    count, farthest = 0, np.argmax(reach)
    while count < room and reach[farthest] >= distance:
        new, found[count] = farthest, candidates[farthest]
        reach[new] = -1  # never selected again, even among duplicates
        label[candidates[new]] = first + count
        for i in range(len(candidates)):
            if reach[i] > 0:
                separation = np.sqrt(_squared_distance(subset, i, subset, new))
                if separation < reach[i]:
                    reach[i], label[candidates[i]] = separation, first + count
            if reach[i] > reach[farthest]:  # the lowest index among ties
                farthest = i
        count += 1
    nearest[candidates] = reach
    return found[:count]


@parallel(nogil=True)
def _take_over(first, centers, factors, rows, nearest, label, sketches, norms, unit):
    """Give to each of the new `centers`, the first of which has number `first`, the points to which it is nearest."""
    n_chunks, _, width = factors.shape
    for tile in prange((len(rows) + _TILE - 1) // _TILE):
        begin, end = tile * _TILE, min((tile + 1) * _TILE, len(rows))
        products = np.empty((end - begin, width), np.float32)
        for chunk in range(n_chunks):
            np.dot(sketches[begin:end], factors[chunk], products)
            for point in range(begin, end):
                if not _any_negative(products.view(np.int32), point - begin):
                    continue
                for j in range(width):
                    if products[point - begin, j] < 0:
                        center = chunk * width + j
                        distance = np.sqrt(_squared_distance(rows, point, rows, centers[center]))
                        if distance < nearest[point]:
                            nearest[point], label[point] = distance, first + center
                sketches[point, -1] = _last_column(nearest[point], norms[point], unit)


@compiled()
def _any_negative(bits, i):
    union = np.int32(0)
    for j in range(bits.shape[1]):
        union |= bits[i, j]
    return union < 0


@compiled()
def covering_radius(rows, centers, labels):
    """Return the largest distance of any row to the centre given by its label."""
    largest = 0.0
    for i in range(len(rows)):
        largest = max(largest, _squared_distance(rows, i, centers, labels[i]))
    return np.sqrt(largest)


@compiled()
def cover_again(rows, distances, radius):
    """Select rows greedily, farthest first, until every row is within `radius` of a centre.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Rows to cover.
    distances : ndarray of shape (n,)
        Distance of each row to the nearest existing centre.
    radius : float
        Largest distance allowed.

    Returns
    -------
    ndarray of shape (m,), int64
        Indices of the selected rows; empty if all rows are covered already.
    """
    nearest = distances.copy()
    selected = np.empty(len(rows), np.int64)
    count = 0
    while count < len(rows):
        farthest = np.argmax(nearest)
        if nearest[farthest] <= radius:
            break
        selected[count] = farthest
        count += 1
        for i in range(len(rows)):
            nearest[i] = min(nearest[i], np.sqrt(_squared_distance(rows, i, rows, farthest)))
        nearest[farthest] = -1
    return selected[:count]
