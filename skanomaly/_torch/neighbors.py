"""Exact Euclidean nearest neighbours on a GPU, in memory-bounded blocks."""

from typing import NamedTuple

import numpy as np
import torch

from .._kernels import neighbors
from .device import full_precision
from .inference import padded

_BLOCK_BYTES = 2**28  # largest size of a block of values or of differences
_BLOCK_ROWS = 1024  # largest number of queries in a block


class PlacedBank(NamedTuple):
    """A bank and what is derived from it, on a device."""

    host: np.ndarray  # (m, d), the bank on the host
    rows: torch.Tensor  # (m, d)
    center: torch.Tensor  # (d,), mean of the rows
    centered: torch.Tensor  # (m, d)
    half_norms: torch.Tensor  # (m,), half of the squared distances from the mean


def place_bank(bank, device):
    """Return a `PlacedBank` of the rows of `bank` (m, d), float32 or float64."""
    rows = torch.tensor(bank, device=device)
    center = torch.tensor(bank.mean(axis=0, dtype=np.float64).astype(bank.dtype), device=device)
    return PlacedBank(bank, rows, center, rows - center, (rows - center).square().sum(dim=1) / 2)


def k_nearest(bank, queries, k, bank_groups=None, query_groups=None):
    """Return the exact `k` nearest rows of a bank on its device for every row of `queries`.

    As on the CPU, a matrix product ranks the bank, and the distances of the best few rows are computed again from the
    differences themselves, in float64 where the device has it. The queries for which rounding errors leave open whether
    the nearest rows are among these few are searched for on the CPU.

    Parameters
    ----------
    bank : PlacedBank
        Bank, from `place_bank`.
    queries : ndarray of shape (n_queries, n_features), with the dtype of the bank
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
    if bank_groups is None or query_groups is None:
        bank_groups, query_groups = np.zeros(len(bank.rows), np.int64), np.ones(len(queries), np.int64)
    columns = torch.tensor(bank_groups, device=bank.rows.device)
    distances, indices = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    n_candidates = min(k + neighbors.SPARE, len(bank.rows))
    n_rows = _rows_per_block(bank.rows, n_candidates)
    for start in range(0, len(queries), n_rows):
        part = slice(start, min(start + n_rows, len(queries)))
        found = _search_block(bank, queries[part], n_candidates, n_rows, columns, query_groups[part])
        distances[part], indices[part], certain = _nearest_of(*found, k)
        doubtful = start + np.flatnonzero(~certain)
        if len(doubtful):
            distances[doubtful], indices[doubtful] = neighbors.k_nearest(
                bank.host, queries[doubtful], k, bank_groups, query_groups[doubtful]
            )
    return distances, indices


def _rows_per_block(rows, n_candidates):
    """Return a number of queries that depends on the bank alone, so that no result depends on the other queries."""
    n_bank, d = rows.shape
    bytes_per_query = max(n_bank * rows.element_size(), 8 * n_candidates * d)
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // bytes_per_query))


@torch.inference_mode()
def _search_block(bank, queries, n_candidates, n_rows, bank_groups, query_groups):
    """Return the candidates of each query, their squared distances, and a lower bound on those of all other rows."""
    device = bank.rows.device
    block, groups = (padded(torch.tensor(part, device=device), n_rows) for part in (queries, query_groups))
    centered = block - bank.center
    with full_precision(device):
        values = torch.addmm(bank.half_norms[None], centered, bank.centered.T, alpha=-1)
    values.masked_fill_(groups[:, None] == bank_groups, torch.inf)
    values, candidates = values.topk(n_candidates, largest=False)
    exact = torch.float32 if device.type == "mps" else torch.float64
    squared = (bank.rows[candidates].to(exact) - block[:, None].to(exact)).square().sum(dim=2)
    squared.masked_fill_(groups[:, None] == bank_groups[candidates], torch.inf)
    results = candidates, squared, values[:, -1], centered.square().sum(dim=1), bank.half_norms.max()
    candidates, squared, last, norms, farthest = (result.cpu().numpy() for result in results)
    if n_candidates == len(bank.rows):
        bound = np.full(n_rows, np.inf)
    else:
        with np.errstate(invalid="ignore", over="ignore"):  # where products overflow
            bound = neighbors.squared_bound(last.astype(np.float64), norms, np.sqrt(2 * farthest), queries.dtype)
    return tuple(result[: len(queries)] for result in (candidates, squared, bound))


def _nearest_of(candidates, squared, bound, k):
    """Return the distances and rows of the nearest `k` candidates, and whether no other row can be nearer."""
    order = np.lexsort((candidates, squared), axis=1)[:, :k]
    squared = np.take_along_axis(squared, order, axis=1).astype(np.float64)
    return np.sqrt(squared), np.take_along_axis(candidates, order, axis=1), squared[:, -1] < bound
