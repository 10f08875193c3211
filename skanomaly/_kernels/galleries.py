"""Nearest patches in a gallery: the patches of a few images, chosen anew for every query image."""

from typing import NamedTuple

import numpy as np
from numba import prange

from .checks import require
from .compiled import compiled, parallel
from .pruned_neighbors import NeighborIndex, build_index, search_index

_GROUP = 64  # the length of a tile of an index is a multiple of this
_SUMS = {"reassoc", "contract", "nsz"}  # allows sums to use vector registers


class Galleries(NamedTuple):
    """Patches of all images with the sketches of a `NeighborIndex`, each of whose tiles holds patches of one image.

    The index of a gallery is then a copy of some of the tiles; building it from its rows would take longer than the
    search.
    """

    bank: np.ndarray  # (n, p, d)
    mean: np.ndarray
    axes: np.ndarray
    sketches: np.ndarray  # (n, tiles per image, s + 3, rows per tile)
    unit: float


def build_galleries(bank):
    """Return the `Galleries` of n images with p patches each, `bank` (n, p, d), float32 or float64."""
    n, p, d = bank.shape
    index = build_index(bank.reshape(-1, d))
    _, n_columns, longest = index.sketches.shape
    n_tiles = -(-p // longest)
    n_tile = _GROUP * -(-p // (n_tiles * _GROUP))
    sketches = np.empty((n, n_tiles, n_columns, n_tile), np.float32)
    padded = np.zeros((n, n_tiles * n_tile), np.float32)
    for column in range(n_columns):
        padded[:, :p] = index.sketches[:, column].reshape(-1)[: n * p].reshape(n, p)
        padded[:, p:] = column == n_columns - 2  # as in the index: never close to a query
        sketches[:, :, column] = padded.reshape(n, n_tiles, n_tile)
    return Galleries(bank, index.mean, index.axes, sketches, index.unit)


def search_gallery(galleries, images, queries, k):
    """Return the exact distances to the nearest patches of some images.

    Parameters
    ----------
    galleries : Galleries
        Patches of all images.
    images : ndarray of int
        Indices of the images to search; the search is fastest if the most similar ones come first.
    queries : ndarray of shape (n_queries, d), with the dtype of the bank
        Patches whose neighbours are searched.
    k : int
        Number of neighbours per query, at most the number of patches of the images.

    Returns
    -------
    ndarray of shape (n_queries, k), float64
        Euclidean (not squared) distances in ascending order.
    """
    (_, p, d), (_, n_tiles, n_columns, n_tile) = galleries.bank.shape, galleries.sketches.shape
    rows = np.zeros((len(images), n_tiles * n_tile, d), galleries.bank.dtype)
    for own, image in zip(rows, images, strict=True):
        own[:p] = galleries.bank[image]
    padding = np.zeros(rows.shape[:2], np.int64)
    padding[:, p:] = 1
    sketches = galleries.sketches[images].reshape(-1, n_columns, n_tile)
    index = NeighborIndex(rows.reshape(-1, d), galleries.mean, galleries.axes, sketches, galleries.unit)
    return search_index(index, queries, k, padding.ravel(), np.ones(len(queries), np.int64))[0]


def search_window(bank, images, queries, k, window):
    """Return the exact distances to the nearest patches of some images at about the same position.

    Parameters
    ----------
    bank : ndarray of shape (n, h, w, d)
        Patches of all images.
    images : ndarray of int
        Indices of the images to search.
    queries : ndarray of shape (h, w, d), with the dtype of the bank
        Patches whose neighbours are searched.
    k : int
        Number of neighbours per query, at most the number of patches of the images in the window of a corner.
    window : int
        Largest difference of the rows, and of the columns, of patches that are compared.

    Returns
    -------
    ndarray of shape (h, w, k), float64
        Euclidean (not squared) distances in ascending order.
    """
    (n, height, width, d), reach = bank.shape, window + 1
    require(queries.shape == (height, width, d), f"queries have the shape {queries.shape}, the bank {bank.shape[1:]}")
    require(len(images) > 0 and min(images) >= 0 and max(images) < n, "images are out of bounds")
    require(1 <= k <= len(images) * min(height, reach) * min(width, reach), f"{k} neighbours are too many")
    return np.sqrt(_search_window(np.ascontiguousarray(bank), images, np.ascontiguousarray(queries), k, window))


@parallel()
def _search_window(bank, images, queries, k, window):
    height, width, _ = queries.shape
    best = np.full((height, width, k), np.inf)
    for cell in prange(height * width):
        row, column = cell // width, cell % width
        for image in images:
            for i in range(max(0, row - window), min(height, row + window + 1)):
                for j in range(max(0, column - window), min(width, column + window + 1)):
                    _insert(best[row, column], _squared_distance(queries[row, column], bank[image, i, j]))
    return best


@compiled(fastmath=_SUMS)
def _squared_distance(a, b):
    total = 0.0
    for i in range(len(a)):
        total += (np.float64(a[i]) - np.float64(b[i])) ** 2
    return total


@compiled()
def _insert(best, value):
    """Insert a value into ascending ones, of which the last is dropped."""
    place = len(best) - 1
    if not value < best[place]:
        return
    while place > 0 and value < best[place - 1]:
        best[place] = best[place - 1]
        place -= 1
    best[place] = value
