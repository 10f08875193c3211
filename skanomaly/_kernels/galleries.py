"""Nearest patches in a gallery: the patches of a few images, others for every query."""

from typing import NamedTuple

import numpy as np

from .pruned_neighbors import NeighborIndex, build_index, search_index

_GROUP = 64  # tiles of an index are a multiple of this


class Galleries(NamedTuple):
    """The patches of all images with the sketches of a `NeighborIndex`, whose tiles here hold one image each.

    The index of a gallery is thus a copy of some tiles; to build it from its rows takes longer than the search.
    """

    bank: np.ndarray  # (n, p, d)
    mean: np.ndarray
    axes: np.ndarray
    sketches: np.ndarray  # (n, tiles per image, s + 3, rows per tile)
    unit: float


def build_galleries(bank):
    """Return the `Galleries` of images with patches `bank` (n, p, d), float32 or float64."""
    n, p, d = bank.shape
    index = build_index(bank.reshape(-1, d))
    _, n_columns, longest = index.sketches.shape
    n_tiles = -(-p // longest)
    n_tile = _GROUP * -(-p // (n_tiles * _GROUP))
    sketches = np.empty((n, n_tiles, n_columns, n_tile), np.float32)
    padded = np.zeros((n, n_tiles * n_tile), np.float32)
    for column in range(n_columns):
        padded[:, :p] = index.sketches[:, column].reshape(-1)[: n * p].reshape(n, p)
        padded[:, p:] = column == n_columns - 2  # as in the index: no query is near
        sketches[:, :, column] = padded.reshape(n, n_tiles, n_tile)
    return Galleries(bank, index.mean, index.axes, sketches, index.unit)


def search_gallery(galleries, images, queries, k):
    """Return the distances (n_queries, k), float64 and ascending, to the nearest patches of some images, exactly.

    Parameters
    ----------
    galleries : Galleries
    images : ndarray of int
        Fastest where the most similar come first.
    queries : ndarray of shape (n_queries, d), dtype of the bank
    k : int
        At most the number of patches of the images.
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
