"""Exact Euclidean nearest neighbours that compute few of the distances."""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

_ROWS_PER_CLUSTER = 32
_SKETCH = 32  # coordinates of the last filter before a full distance
_MARGIN = 1e-5  # a proof that a distance is superfluous has to hold with this relative margin: rounding
_ROUNDING = 1e-5  # of sketched coordinates, relative to the norms
_PRODUCT_ROUNDING = 32  # of squared distances from a matrix product, in units of eps (|q| + |c|)^2
_BLOCK_VALUES = 2**23  # query-to-centre distances held at a time: 32 MB in float32
_CHUNK = 64  # queries that one thread takes in a row, each starting from its predecessor's answer
_SUMS = {"reassoc", "contract", "nsz"}  # lets sums use vector registers


class NeighborIndex(NamedTuple):
    """A bank sorted by cluster, and by distance to the cluster's centre within each; its mean is subtracted."""

    mean: np.ndarray  # (d,)
    rows: np.ndarray  # (m, d)
    name: np.ndarray  # (m,) row in the caller's bank
    to_center: np.ndarray  # (m,) distance to the own centre, ascending within a cluster
    sketch: np.ndarray  # (m, s) leading principal coordinates
    axes: np.ndarray  # (d, s) of the sketch
    centers: np.ndarray  # (c, d)
    start: np.ndarray  # (c + 1,) first row of each cluster
    largest_norm: float  # of rows and centres


def build_index(bank):
    """Return a `NeighborIndex` of the rows of `bank` (m, d), float32 or float64.

    Clusters come from one k-means step from evenly spaced rows: enough to prune, and cheap beside a coreset.
    """
    mean = bank.mean(axis=0, dtype=np.float64).astype(bank.dtype)
    rows = bank - mean
    n_clusters = max(1, len(rows) // _ROWS_PER_CLUSTER)
    centers = rows[np.linspace(0, len(rows) - 1, n_clusters).astype(int)]
    label = _nearest_center(rows, centers)
    counts = np.bincount(label, minlength=n_clusters)
    order = np.argsort(label, kind="stable")
    filled = counts > 0
    sums = np.add.reduceat(rows[order], (np.cumsum(counts) - counts)[filled], axis=0, dtype=np.float64)
    centers = np.ascontiguousarray(sums / counts[filled, None], dtype=bank.dtype)
    label = _nearest_center(rows, centers)
    to_center = np.sqrt(((rows - centers[label]) ** 2).sum(axis=1))
    order = np.lexsort((to_center, label))
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), 4096)).astype(int)].astype(np.float64)
    _, axes = np.linalg.eigh(sample.T @ sample)
    axes = np.ascontiguousarray(axes[:, : -_SKETCH - 1 : -1], dtype=bank.dtype)
    rows = np.ascontiguousarray(rows[order])
    return NeighborIndex(
        mean=mean,
        rows=rows,
        name=order,
        to_center=to_center[order],
        sketch=rows @ axes,
        axes=axes,
        centers=centers,
        start=np.searchsorted(label[order], np.arange(len(centers) + 1)),
        largest_norm=float(np.sqrt(np.einsum("ij,ij->i", rows, rows).max())),
    )


def _nearest_center(rows, centers):
    half_norms = np.einsum("ij,ij->i", centers, centers) / 2
    label = np.empty(len(rows), np.int64)
    step = max(1, _BLOCK_VALUES // len(centers))
    for begin in range(0, len(rows), step):
        label[begin : begin + step] = (half_norms - rows[begin : begin + step] @ centers.T).argmin(axis=1)
    return label


def search_index(index, queries, k, bank_groups=None, query_groups=None):
    """Return the `k` nearest rows of the indexed bank for every row of `queries`, exactly.

    With best the k-th smallest distance so far, a query q skips cluster c if d(q, c) - radius_c > best, a row b of it
    if abs(d(q, c) - d(b, c)) > best (triangle inequality), or if their sketches are farther apart than best. Queries
    are taken cluster by cluster, each with its predecessor's answer as the first bound.

    Parameters
    ----------
    index : NeighborIndex
    queries : ndarray of shape (n_queries, n_features), dtype of the bank
    k : int
        At most the number of bank rows outside any one group.
    bank_groups, query_groups : ndarray of shape (n_bank,) and (n_queries,), int, optional
        A query is never compared with bank rows of its own group.

    Returns
    -------
    distances : ndarray of shape (n_queries, k), float64
        Euclidean (not squared), ascending.
    indices : ndarray of shape (n_queries, k), int64
        Rows of the bank; equal distances are ordered by index.
    """
    if bank_groups is None or query_groups is None:
        groups, query_groups = np.zeros(len(index.rows), np.int64), np.ones(len(queries), np.int64)
    else:
        groups = bank_groups[index.name]
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), np.int64)
    center_norms = np.einsum("ij,ij->i", index.centers, index.centers)
    eps = np.finfo(index.rows.dtype).eps
    step = max(1, _BLOCK_VALUES // len(index.centers))
    for begin in range(0, len(queries), step):
        block = queries[begin : begin + step] - index.mean
        norms = np.einsum("ij,ij->i", block, block)
        to_centers = block @ index.centers.T
        to_centers *= -2
        to_centers += center_norms
        to_centers += norms[:, None]
        order = np.argsort(to_centers.argmin(axis=1), kind="stable")
        reaches = np.sqrt(norms) + index.largest_norm
        block = block[order]
        found = _search(
            k, block, block @ index.axes, to_centers[order], query_groups[begin : begin + step][order],
            (_PRODUCT_ROUNDING * eps * reaches**2)[order], (_ROUNDING * reaches)[order],
            index.rows, index.name, index.to_center, index.sketch, index.centers, index.start, groups,
        )  # fmt: skip
        distances[begin + order], indices[begin + order] = found
    return distances, indices


@njit(cache=True, fastmath=_SUMS)
def _squared_distance(A, a, B, b):
    total = A.dtype.type(0)
    for j in range(A.shape[1]):
        step = A[a, j] - B[b, j]
        total += step * step
    return total


@njit(cache=True, parallel=True)
def _search(
    k, queries, sketches, to_centers, query_groups, product_error, slack,
    rows, name, to_center, sketch, centers, start, groups,
):  # fmt: skip
    """Return the distances and names of the k nearest rows; queries come cluster by cluster."""
    n_queries = len(queries)
    distances = np.empty((n_queries, k))
    names = np.empty((n_queries, k), np.int64)
    for chunk in prange((n_queries + _CHUNK - 1) // _CHUNK):
        best = np.empty(k, queries.dtype)
        found = np.full(k, -1, np.int64)
        for q in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, n_queries)):
            group = query_groups[q]
            bound = _first_bound(queries, q, rows, found, groups, group)
            best[:] = np.inf
            found[:] = -1
            nearest = to_centers[q].argmin()
            for visit in range(-1, len(centers)):
                c = nearest if visit < 0 else visit
                if visit == nearest or start[c] == start[c + 1]:
                    continue
                reach = min(best[k - 1], bound) * (1 + _MARGIN) + slack[q]
                radius = to_center[start[c + 1] - 1]
                if to_centers[q, c] - product_error[q] > (reach + radius) ** 2:
                    continue
                gap = np.sqrt(_squared_distance(queries, q, centers, c))
                if gap - radius > reach:
                    continue
                for row in range(start[c], start[c + 1]):
                    if to_center[row] < gap - reach:
                        continue
                    if to_center[row] > gap + reach:
                        break
                    if groups[row] == group or _squared_distance(sketches, q, sketch, row) > reach * reach:
                        continue
                    distance = np.sqrt(_squared_distance(queries, q, rows, row))
                    if distance <= best[k - 1]:
                        _insert(best, found, distance, row, name)
                        reach = min(best[k - 1], bound) * (1 + _MARGIN) + slack[q]
            _report(queries, q, rows, name, found, distances, names)
    return distances, names


@njit(cache=True)
def _first_bound(queries, q, rows, previous, groups, group):
    """Return the distance within which the k answers of the query before lie, if all may be compared with."""
    bound = queries.dtype.type(0)
    for row in previous:
        if row < 0 or groups[row] == group:
            return queries.dtype.type(np.inf)
        bound = max(bound, np.sqrt(_squared_distance(queries, q, rows, row)))
    return bound


@njit(cache=True)
def _insert(best, found, distance, row, name):
    """Put a row in its place among the k best; equal distances are ordered by name."""
    place = len(best)
    while place > 0 and (
        distance < best[place - 1]
        or (distance == best[place - 1] and (found[place - 1] < 0 or name[row] < name[found[place - 1]]))
    ):
        place -= 1
    for later in range(len(best) - 1, place, -1):
        best[later], found[later] = best[later - 1], found[later - 1]
    if place < len(best):
        best[place], found[place] = distance, row


@njit(cache=True)
def _report(queries, q, rows, name, found, distances, names):
    """Measure the answers of one query in float64 and put them in order."""
    k = len(found)
    for i in range(k):
        total = 0.0
        for j in range(rows.shape[1]):
            step = np.float64(queries[q, j]) - np.float64(rows[found[i], j])
            total += step * step
        distance, place = np.sqrt(total), i
        while place > 0 and (
            distance < distances[q, place - 1]
            or (distance == distances[q, place - 1] and name[found[i]] < names[q, place - 1])
        ):
            distances[q, place], names[q, place] = distances[q, place - 1], names[q, place - 1]
            place -= 1
        distances[q, place], names[q, place] = distance, name[found[i]]
