"""Approximate Euclidean nearest neighbours from a graph, by pynndescent."""

import numpy as np

_N_NEIGHBORS = 30  # of each bank row in the graph
_SPARE = 16  # rows asked for beyond k: a longer search finds more, and a group may take some away


def build_graph(bank, seed):
    """Return a graph that links each row of `bank` (m, d) with rows near to it."""
    from pynndescent import NNDescent

    graph = NNDescent(bank, n_neighbors=min(_N_NEIGHBORS, len(bank) - 1), random_state=seed)
    graph.prepare()
    return graph


def search_graph(graph, bank, queries, k, bank_groups=None, query_groups=None):
    """Return `k` near rows of the bank for every row of `queries`; some may not be the nearest.

    Parameters
    ----------
    graph : NNDescent
        As `build_graph` made it from `bank`.
    bank : ndarray of shape (m, d)
    queries : ndarray of shape (n_queries, d)
    k : int
    bank_groups, query_groups : ndarray of shape (m,) and (n_queries,), int, optional
        A query is never compared with bank rows of its own group.

    Returns
    -------
    distances : ndarray of shape (n_queries, k), float64
        Euclidean (not squared), ascending; infinite where the search did not find as many rows of other groups.
    indices : ndarray of shape (n_queries, k), int64
        Rows of the bank; -1 where the distance is infinite.
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
