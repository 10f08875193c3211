"""Exact Euclidean nearest neighbours, found by computing few of the distances."""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from .blas import one_blas_thread
from .checks import check_search
from .compiled import compiled, parallel
from .sketches import largest_product, principal_axes, sketch

_AXES = 45, 1 / 11  # principal coordinates in a sketch: the smallest number, and the share of all coordinates
_TILE = 512  # bank rows per matrix product
_GROUP = 64  # bank rows of a tile that are ruled out together
_CHUNK = 32  # queries per matrix product
_FAR = 1e12  # norm, relative to the farthest bank row, from which a float32 sketch of a query says nothing
_SUMS = {"reassoc", "contract", "nsz"}  # allows sums to use vector registers


class NeighborIndex(NamedTuple):
    """A bank and the sketches of its rows."""

    rows: np.ndarray  # (m, d), the bank
    mean: np.ndarray  # (d,), float64
    axes: np.ndarray  # (d, s), float64
    sketches: np.ndarray  # (tiles, s + 3, rows per tile), float32
    unit: float  # norm of the row farthest from the mean


def build_index(bank):
    """Return a `NeighborIndex` of the rows of `bank` (m, d), float32 or float64."""
    mean, axes = principal_axes(bank, max(_AXES[0], int(_AXES[1] * bank.shape[1])))
    tiles = [bank[start : start + _TILE] for start in range(0, len(bank), _TILE)]
    unit = max(float(np.linalg.norm(tile - mean, axis=1).max()) for tile in tiles) or 1.0
    sketches = np.zeros((len(tiles), axes.shape[1] + 3, _TILE), np.float32)
    for tile, columns in zip(tiles, sketches, strict=True):
        part = (tile - mean) / unit
        coordinates, rest, norms = sketch(part, axes)
        columns[:, : len(part)] = np.vstack([coordinates.T, rest, norms, np.ones(len(part))])
        columns[-2, len(part) :] = 1  # padding, never close to a query
    return NeighborIndex(bank, mean, axes, sketches, unit)


def search_index(index, queries, k, bank_groups=None, query_groups=None):
    """Return the exact `k` nearest rows of the indexed bank for every row of `queries`.

    The sketches of the bank are multiplied by those of the queries, tile by tile, in the cache of the processor. Rows
    that a product proves to be farther away than the k-th best so far are skipped; the distances of the few others are
    computed.

    Parameters
    ----------
    index : NeighborIndex
        Index of the bank, from `build_index`.
    queries : ndarray of shape (n_queries, n_features), with the dtype of the bank
        Rows whose neighbours are searched; the search is fastest if neighbouring queries are similar.
    k : int
        Number of neighbours per query, at most the number of bank rows outside any one group.
    bank_groups : ndarray of shape (n_bank,), int, optional
        Group of each bank row.
    query_groups : ndarray of shape (n_queries,), int, optional
        Group of each query, which is never compared with bank rows of its own group.

    Returns
    -------
    distances : ndarray of shape (n_queries, k), float64
        Euclidean (not squared) distances in ascending order.
    indices : ndarray of shape (n_queries, k), int64
        Indices of the bank rows; equal distances are ordered by index.
    """
    if bank_groups is None or query_groups is None:
        bank_groups, query_groups = np.zeros(len(index.rows), np.int64), np.ones(len(queries), np.int64)
    check_search(index.rows, queries, k, bank_groups, query_groups)
    with one_blas_thread():  # numba has threads of its own
        return _search(k, queries, query_groups, bank_groups, *index)


@parallel()
def _search(k, queries, query_groups, groups, rows, mean, axes, sketches, unit):
    n = len(queries)
    n_tiles, n_columns, n_tile = sketches.shape
    distances = np.empty((n, k))
    names = np.empty((n, k), np.int64)
    for chunk in prange((n + _CHUNK - 1) // _CHUNK):
        start = chunk * _CHUNK
        n_real = min(_CHUNK, n - start)
        factors = np.zeros((_CHUNK, n_columns), np.float32)
        norms = np.zeros(_CHUNK)
        _sketch_queries(queries, start, n_real, mean, axes, unit, factors, norms)
        best = np.full((_CHUNK, k), np.inf, queries.dtype)
        found = np.full((_CHUNK, k), -1, np.int64)
        products = np.empty((_CHUNK, n_tile), np.float32)
        grouped = products.reshape(_CHUNK, n_tile // _GROUP, _GROUP)
        bits = grouped.view(np.int32)
        for tile in range(n_tiles):
            np.dot(factors, sketches[tile], products)
            for i in range(n_real):
                _visit_tile(
                    i, tile * n_tile, grouped, bits, factors, norms, unit, queries, start + i, rows,
                    query_groups[start + i], groups, best, found,
                )  # fmt: skip
        for i in range(n_real):
            _report(i, queries, rows, found, start + i, distances, names)
    return distances, names


@compiled()
def _sketch_queries(queries, start, n_real, mean, axes, unit, factors, norms):
    """Fill `factors` with the sketches of the queries, and `norms` with their squared norms."""
    scaled = np.zeros((len(factors), len(mean)))
    for i in range(n_real):
        for j in range(len(mean)):
            scaled[i, j] = (queries[start + i, j] - mean[j]) / unit
    coordinates = np.dot(scaled, axes)
    n_axes = axes.shape[1]
    for i in range(n_real):
        for j in range(len(mean)):
            norms[i] += scaled[i, j] ** 2
        if not norms[i] < _FAR**2:
            continue  # factors of 0 rule out no row
        rest = norms[i]
        for j in range(n_axes):
            rest -= coordinates[i, j] ** 2
            factors[i, j] = -2 * coordinates[i, j]
        factors[i, n_axes] = -2 * np.sqrt(max(rest, 0.0))
        factors[i, n_axes + 1] = 1


@njit(inline="always")
def _visit_tile(i, first, products, bits, factors, norms, unit, queries, q, rows, group, groups, best, found):
    """Compare query q, the i-th of its chunk, with the rows from `first` on that its products do not rule out."""
    k = best.shape[1]
    base = np.float64(factors[i, -1])
    seed, reach = -1, best[i, k - 1]
    if base == 0:  # no bound so far
        seed = first + _smallest(products, i, min(len(rows) - first, bits.shape[1] * bits.shape[2]))
        if groups[seed] == group:
            seed = -1
        else:
            _insert(best, found, i, np.sqrt(_squared_distance(queries, q, rows, seed)), seed)
        reach = min(best[i, k - 1], _reach_of_neighbor(i, queries, q, rows, group, groups, found))
    limit = np.float32(base + _level(reach, norms[i], unit))
    for part in range(bits.shape[1]):
        if base != 0 and not _any_negative(bits, i, part):
            continue
        for j in range(bits.shape[2]):
            row = first + part * bits.shape[2] + j
            if not products[i, part, j] < limit or row == seed:
                continue
            if row >= len(rows) or groups[row] == group:
                continue
            distance = np.sqrt(_squared_distance(queries, q, rows, row))
            if distance <= best[i, k - 1]:
                _insert(best, found, i, distance, row)
                reach = min(reach, best[i, k - 1])
                limit = np.float32(base + _level(reach, norms[i], unit))
    level = _level(reach, norms[i], unit)
    factors[i, -1] = -level if level < np.inf else 0


@njit(inline="always")
def _level(reach, norm, unit):
    """Return an upper bound on the product, without its last column, of rows within `reach`; norm is squared."""
    if not (reach < np.inf and norm < _FAR**2):
        return np.inf
    return largest_product(reach, norm, unit)


@compiled()
def _reach_of_neighbor(i, queries, q, rows, group, groups, found):
    """Return a distance within which k rows lie, those of the previous query, or infinity if any is excluded."""
    reach = queries.dtype.type(np.inf if i == 0 else 0)
    for j in range(found.shape[1] if i > 0 else 0):
        row = found[i - 1, j]
        if row < 0 or groups[row] == group:
            return queries.dtype.type(np.inf)
        reach = max(reach, np.sqrt(_squared_distance(queries, q, rows, row)))
    return reach


@compiled()
def _smallest(products, i, n):
    best = 0
    for j in range(n):
        if products[i, j // _GROUP, j % _GROUP] < products[i, best // _GROUP, best % _GROUP]:
            best = j
    return best


@compiled()
def _any_negative(bits, i, part):
    union = np.int32(0)
    for j in range(bits.shape[2]):
        union |= bits[i, part, j]
    return union < 0


@compiled(fastmath=_SUMS)
def _squared_distance(A, a, B, b):
    total = A.dtype.type(0)
    for j in range(A.shape[1]):
        step = A[a, j] - B[b, j]
        total += step * step
    return total


@compiled()
def _insert(best, found, i, distance, row):
    """Insert a row among the k best of query i; equal distances are ordered by row."""
    place = best.shape[1]
    while place > 0 and (
        distance < best[i, place - 1]
        or (distance == best[i, place - 1] and (found[i, place - 1] < 0 or row < found[i, place - 1]))
    ):
        place -= 1
    for later in range(best.shape[1] - 1, place, -1):
        best[i, later], found[i, later] = best[i, later - 1], found[i, later - 1]
    if place < best.shape[1]:
        best[i, place], found[i, place] = distance, row


@compiled()
def _report(i, queries, rows, found, q, distances, names):
    """Compute the distances of the rows found for query q, the i-th of its chunk, in float64 and sort them."""
    for j in range(found.shape[1]):
        row = found[i, j]
        total = 0.0
        for column in range(rows.shape[1]):
            step = np.float64(queries[q, column]) - np.float64(rows[row, column])
            total += step * step
        distance, place = np.sqrt(total), j
        while place > 0 and (
            distance < distances[q, place - 1] or (distance == distances[q, place - 1] and row < names[q, place - 1])
        ):
            distances[q, place], names[q, place] = distances[q, place - 1], names[q, place - 1]
            place -= 1
        distances[q, place], names[q, place] = distance, row
