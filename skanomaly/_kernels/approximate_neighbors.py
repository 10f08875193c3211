"""Approximate Euclidean nearest neighbours, found with the graphs of pynndescent."""

import numpy as np

_N_NEIGHBORS = 30  # neighbours of each bank row in the graph
_SPARE = 16  # rows searched beyond k: a longer search finds more, and groups may exclude some of them


def build_graph(bank, seed):
    """Return a graph that links each row of `bank` (m, d) to rows close to it."""
    try:
        from pynndescent import NNDescent
    except ImportError as error:
        raise ImportError(
            "algorithm='pynndescent' needs pynndescent, which is not installed; install it: "
            "pip install 'skanomaly[approximate]'"
        ) from error
    graph = NNDescent(bank, n_neighbors=min(_N_NEIGHBORS, len(bank) - 1), random_state=seed)
    graph.prepare()
    return graph


def search_graph(graph, bank, queries, k, bank_groups=None, query_groups=None):
    """Return `k` nearby rows of the bank for every row of `queries`, not necessarily the nearest ones.

    Parameters
    ----------
    graph : NNDescent
        Graph of the bank, from `build_graph`.
    bank : ndarray of shape (m, d)
        Rows to search.
    queries : ndarray of shape (n_queries, d)
        Rows whose neighbours are searched.
    k : int
        Number of neighbours per query.
    bank_groups : ndarray of shape (m,), int, optional
        Group of each bank row.
    query_groups : ndarray of shape (n_queries,), int, optional
        Group of each query, which is never compared with bank rows of its own group.

    Returns
    -------
    distances : ndarray of shape (n_queries, k), float64
        Euclidean (not squared) distances in ascending order; infinite where the search found fewer rows of other
        groups.
    indices : ndarray of shape (n_queries, k), int64
        Indices of the bank rows; -1 where the distance is infinite.
    """
    found = graph.query(queries, min(k + _SPARE, len(bank)))[0].astype(np.int64)
    steps = bank[found].astype(np.float64) - queries[:, None]
    distances = np.sqrt(np.einsum("ijk,ijk->ij", steps, steps))
    unusable = found < 0
    if bank_groups is not None and query_groups is not None:
        unusable |= bank_groups[found] == query_groups[:, None]
    distances[unusable], found[unusable] = np.inf, -1
    order = np.lexsort((found, distances), axis=1)[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(found, order, axis=1)
