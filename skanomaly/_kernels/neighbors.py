"""Exact Euclidean nearest neighbours in memory-bounded blocks."""

import numpy as np
from numba import prange

from .checks import check_search
from .compiled import compiled, parallel

_BLOCK_VALUES = 2**22  # size of a block of the distance matrix: 16 MB in float32
_ROUNDING = 32  # bound on the rounding error of a squared distance, in units of eps (|q| + |b|)^2
SPARE = 4  # candidates beyond k whose distances are computed again without cancellation


def k_nearest(bank, queries, k, bank_groups=None, query_groups=None):
    """Return the exact `k` nearest rows of `bank` for every row of `queries`.

    A matrix product ranks the bank; the distances of the best few rows are then computed again in float64 from the
    differences themselves, so that a query contained in the bank has distance 0 and no result depends on the other
    queries. If rounding errors of the product leave open whether the nearest rows are among these few, the distances
    of all rows are computed.

    Parameters
    ----------
    bank : ndarray of shape (n_bank, n_features), float32 or float64
        Rows to search.
    queries : ndarray of shape (n_queries, n_features), with the dtype of `bank`
        Rows whose neighbours are searched.
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
    n_queries, n_bank = len(queries), len(bank)
    center = bank.mean(axis=0, dtype=np.float64).astype(bank.dtype)
    centered = bank - center
    half_norms = np.einsum("ij,ij->i", centered, centered) / 2
    if bank_groups is None or query_groups is None:
        bank_groups, query_groups = np.zeros(n_bank, np.int64), np.ones(n_queries, np.int64)
    check_search(bank, queries, k, bank_groups, query_groups)
    n_candidates = min(k + SPARE, n_bank)
    farthest = np.sqrt(2 * half_norms.max())
    # The shape of a block depends on the bank alone, so the products of a query do not depend on the other queries.
    n_rows = max(1, min(1024, _BLOCK_VALUES // n_bank))
    block = np.zeros((n_rows, bank.shape[1]), bank.dtype)
    distances = np.empty((n_queries, k))
    indices = np.empty((n_queries, k), np.int64)
    for start in range(0, n_queries, n_rows):
        part = slice(start, min(start + n_rows, n_queries))
        n_real = part.stop - start
        np.subtract(queries[part], center, out=block[:n_real])
        products = block @ centered.T
        candidates, last = _rank(half_norms, products[:n_real], n_candidates, bank_groups, query_groups[part])
        norms = np.einsum("ij,ij->i", block[:n_real], block[:n_real])
        certain = squared_bound(last, norms, farthest, bank.dtype)
        distances[part], indices[part] = _measure(
            bank, queries[part], candidates, certain, k, bank_groups, query_groups[part]
        )
    return distances, indices


def squared_bound(last, norms, farthest, dtype):
    """Return a lower bound on the squared distances of all rows that are not candidates.

    Parameters
    ----------
    last : ndarray of shape (n_queries,)
        Largest value of ``half_norms - products`` among the candidates, in which products have rounding errors.
    norms : ndarray of shape (n_queries,)
        Squared distances of the queries from the mean.
    farthest : float
        Largest distance of a bank row from the mean.
    dtype : dtype
        Type of the products.

    Returns
    -------
    ndarray of shape (n_queries,)
        Lower bound.
    """
    return 2 * last + norms - _ROUNDING * np.finfo(dtype).eps * (np.sqrt(norms) + farthest) ** 2


@parallel()
def _rank(half_norms, products, n_candidates, bank_groups, query_groups):
    """Return the bank rows with the smallest values of `half_norms - products`, and the largest of these values.

    Where groups leave fewer rows than requested, the remaining rows are -1 and the value is infinite.
    """
    n_queries, n_bank = products.shape
    candidates = np.full((n_queries, n_candidates), -1, np.int64)
    last = np.empty(n_queries)
    for i in prange(n_queries):
        best = np.full(n_candidates, np.inf, products.dtype)
        for row in range(n_bank):
            value = half_norms[row] - products[i, row]
            if value < best[-1] and bank_groups[row] != query_groups[i]:
                place = n_candidates - 1
                while place > 0 and best[place - 1] > value:
                    best[place] = best[place - 1]
                    candidates[i, place] = candidates[i, place - 1]
                    place -= 1
                best[place] = value
                candidates[i, place] = row
        last[i] = best[-1]
    return candidates, last


@parallel()
def _measure(bank, queries, candidates, certain, k, bank_groups, query_groups):
    """Return the `k` smallest distances and their rows.

    The candidates suffice if the k-th of them is closer than the square root of `certain`, the smallest possible
    distance of any other row; otherwise the distances of all rows are computed.
    """
    n_queries = len(queries)
    distances = np.empty((n_queries, k))
    indices = np.empty((n_queries, k), np.int64)
    for i in prange(n_queries):
        rows = np.sort(candidates[i][candidates[i] >= 0])
        squared = _squared_distances(bank, queries, i, rows)
        order = np.argsort(squared, kind="mergesort")[:k]
        if len(order) < k or not squared[order[-1]] < certain[i]:  # fewer where the products overflowed
            rows = np.flatnonzero(bank_groups != query_groups[i])
            squared = _squared_distances(bank, queries, i, rows)
            order = np.argsort(squared, kind="mergesort")[:k]
        distances[i] = np.sqrt(squared[order])
        indices[i] = rows[order]
    return distances, indices


@compiled()
def _squared_distances(bank, queries, i, rows):
    squared = np.zeros(len(rows))
    for c in range(len(rows)):
        for j in range(bank.shape[1]):
            step = np.float64(queries[i, j]) - np.float64(bank[rows[c], j])
            squared[c] += step * step
    return squared
