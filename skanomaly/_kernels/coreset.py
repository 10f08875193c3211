"""Exact greedy k-centre selection, in which most distances are proved unnecessary instead of being computed."""

from typing import NamedTuple

import numpy as np
from numba import njit

_MARGIN = 1e-4  # relative safety margin, against rounding, of the proofs that a distance is unnecessary
_SKETCH = 32  # coordinates of the first filter
_SKETCH_ROUNDING = 1e-6  # rounding error of sketched coordinates, relative to the largest norm
_RUN = 256  # centres per step of the progress bar
_SUMS = {"reassoc", "contract", "nsz"}  # allows sums to use vector registers


class _Points(NamedTuple):
    """The points; points with the same owner are neighbours in memory."""

    rows: np.ndarray  # (n, d)
    sketch: np.ndarray  # (n, s) float32, the leading principal coordinates
    name: np.ndarray  # (n,) index in the order of the caller
    nearest: np.ndarray  # (n,) distance to the owner, which is the nearest centre; -1 for centres
    following: np.ndarray  # (n,) next point with the same owner; -1 ends the list


class _Centers(NamedTuple):
    """The centres, in order of selection."""

    rows: np.ndarray  # (m, d)
    sketch: np.ndarray  # (m, s)
    name: np.ndarray  # (m,) index in the order of the caller
    first: np.ndarray  # (m,) first point that it owns
    radius: np.ndarray  # (m,) distance of the farthest point that it owns; -1 if it owns centres only
    farthest: np.ndarray  # (m,) farthest point that it owns


def greedy_k_center(X, n_centers, start, progress=iter):
    """Select centres such that each new centre is the point farthest from the previous ones.

    Every centre q keeps a list of the points that it owns and the largest of their distances, its radius r. By the
    triangle inequality, a new centre c can take points from q only if d(c, q) < 2 r, and a point x from q only if
    d(c, q) < 2 d(x, q). If, moreover, the leading principal coordinates of x and c are closer than d(x, q), the
    distance d(x, c) is computed. From time to time the points are rearranged in memory, so that a list can be read in
    one sweep.

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
    sketch, slack = _sketch(X)
    n_points = len(X)
    points = _Points(X, sketch, np.arange(n_points), np.empty(n_points, X.dtype), np.arange(1, n_points + 1))
    points.following[-1] = -1
    centers = _Centers(
        np.empty((n_centers, X.shape[1]), X.dtype),
        np.empty((n_centers, sketch.shape[1]), sketch.dtype),
        np.empty(n_centers, np.int64),
        np.full(n_centers, -1, np.int64),
        np.full(n_centers, -1, X.dtype),
        np.full(n_centers, -1, np.int64),
    )
    _own_everything(start, X, points.nearest, centers.rows, centers.first, centers.radius, centers.farthest)
    centers.sketch[0], centers.name[0] = sketch[start], start
    arranged = 1
    for begin in progress(range(1, n_centers, _RUN)):
        end = min(begin + _RUN, n_centers)
        _add_centers(begin, end, slack, *points, *centers)
        if end >= 2 * arranged:
            points, arranged = _arrange(points, centers, end), end
    order, label = _lists(points.following, centers.first, n_centers)
    labels = np.empty(n_points, np.int32)
    labels[points.name[order]] = label
    labels[centers.name] = np.arange(n_centers)  # centres stay in the list of their previous owner
    return centers.name, labels, max(float(centers.radius.max()), 0.0)


@njit(cache=True, nogil=True)
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


def _sketch(X):
    """Return the leading principal coordinates of X, as float32, and a bound on their rounding error."""
    if X.shape[1] <= 2 * _SKETCH:
        return np.empty((len(X), 0), np.float32), 0.0
    mean = X.mean(axis=0, dtype=np.float64)
    sample = X[np.linspace(0, len(X) - 1, min(len(X), 4096)).astype(int)] - mean
    _, axes = np.linalg.eigh(sample.T @ sample)
    sketch = np.empty((len(X), _SKETCH), np.float32)
    largest = 0.0
    for start in range(0, len(X), 16384):
        centered = X[start : start + 16384] - mean
        sketch[start : start + 16384] = centered @ axes[:, : -_SKETCH - 1 : -1]
        largest = max(largest, np.einsum("ij,ij->i", centered, centered).max())
    return sketch, _SKETCH_ROUNDING * np.sqrt(largest)


@njit(cache=True, fastmath=_SUMS, nogil=True)
def _squared_distance(A, a, B, b):
    total = A.dtype.type(0)
    for j in range(A.shape[1]):
        step = A[a, j] - B[b, j]
        total += step * step
    return total


# The loops below take the fields of `_Points` and `_Centers` one by one, because numba counts references to the arrays
# of a tuple at every access, which would cost more than the work itself.


@njit(cache=True, nogil=True)
def _own_everything(start, rows, nearest, center_rows, first, radius, farthest):
    """Make point `start` the first centre, the owner of all points."""
    center_rows[0] = rows[start]
    first[0] = 0
    for point in range(rows.shape[0]):
        nearest[point] = np.sqrt(_squared_distance(rows, point, center_rows, 0)) if point != start else -1
        if nearest[point] > radius[0]:
            radius[0], farthest[0] = nearest[point], point


@njit(cache=True, nogil=True)
def _add_centers(
    begin, end, slack,
    rows, sketch, name, nearest, following,
    center_rows, center_sketch, center_name, first, radius, farthest,
):  # fmt: skip
    """Select the centres numbered `begin` to `end`."""
    for new in range(begin, end):
        widest = _widest(new, name, radius, farthest)
        point = farthest[widest]
        center_rows[new], center_sketch[new], center_name[new] = rows[point], sketch[point], name[point]
        nearest[point] = -1  # never selected again, even among duplicates
        for q in range(new):
            if radius[q] < 0:
                continue
            reach = 2 * radius[q] * (1 + _MARGIN)
            if q != widest and _apart(center_sketch, q, center_sketch, new, reach + slack):
                continue
            gap = np.sqrt(_squared_distance(center_rows, q, center_rows, new))
            if q == widest or gap < reach:
                _take_over(
                    q, new, gap * (1 - _MARGIN), slack,
                    rows, sketch, name, nearest, following,
                    center_rows, center_sketch, first, radius, farthest,
                )  # fmt: skip


@njit(cache=True, nogil=True)
def _widest(n_centers, name, radius, farthest):
    """Return the centre with the largest radius; ties go to the lowest name of the point there."""
    widest = 0
    for q in range(n_centers):
        if radius[q] > radius[widest] or (radius[q] == radius[widest] and name[farthest[q]] < name[farthest[widest]]):
            widest = q
    return widest


@njit(cache=True, fastmath=_SUMS, nogil=True)
def _apart(sketch, point, center_sketch, center, distance):
    """Return whether the sketches are at least `distance` apart."""
    total = np.float32(0)
    for j in range(sketch.shape[1]):
        step = sketch[point, j] - center_sketch[center, j]
        total += step * step
    return total >= distance * distance


@njit(cache=True, nogil=True)
def _take_over(
    q, new, gap, slack,
    rows, sketch, name, nearest, following,
    center_rows, center_sketch, first, radius, farthest,
):  # fmt: skip
    """Move those points of centre `q` that are closer to centre `new` to the list of the latter."""
    point, previous = first[q], -1
    radius[q], farthest[q] = -1, point
    while point >= 0:
        after, owner = following[point], q
        reach = nearest[point] * (1 + _MARGIN) + slack
        if gap < 2 * nearest[point] and not _apart(sketch, point, center_sketch, new, reach):
            distance = np.sqrt(_squared_distance(rows, point, center_rows, new))
            if distance < nearest[point]:
                nearest[point], owner = distance, new
        if owner == q:
            previous = point
        else:
            if previous < 0:
                first[q] = after
            else:
                following[previous] = after
            following[point], first[new] = first[new], point
        if nearest[point] > radius[owner] or (nearest[point] == radius[owner] and name[point] < name[farthest[owner]]):
            radius[owner], farthest[owner] = nearest[point], point
        point = after


def _arrange(points, centers, n_centers):
    """Return the points sorted by owner; the centres are updated in place."""
    order, _ = _lists(points.following, centers.first, n_centers)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    place = np.append(place, -1)  # so that -1 stays -1
    centers.first[:] = place[centers.first]
    centers.farthest[:] = place[centers.farthest]
    return _Points(
        points.rows[order],
        points.sketch[order],
        points.name[order],
        points.nearest[order],
        place[points.following[order]],
    )


@njit(cache=True)
def _lists(following, first, n_centers):
    """Return the points, list by list, and the owner of each of them."""
    order = np.empty(len(following), np.int64)
    label = np.empty(len(following), np.int32)
    count = 0
    for q in range(n_centers):
        point = first[q]
        while point >= 0:
            order[count], label[count] = point, q
            count += 1
            point = following[point]
    return order, label


@njit(cache=True)
def covering_radius(rows, centers, labels):
    """Return the largest distance of any row to the centre given by its label."""
    largest = 0.0
    for i in range(len(rows)):
        largest = max(largest, _squared_distance(rows, i, centers, labels[i]))
    return np.sqrt(largest)


@njit(cache=True)
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
