"""Maps as overlapping patches, and back."""

import numpy as np
from numba import njit, prange

_SUMS = {"reassoc", "contract", "nsz"}  # lets sums use vector registers


def cut_patches(maps, patch_size, stride):
    """Return the square patches of maps.

    Parameters
    ----------
    maps : ndarray of shape (C, n, h, w)
    patch_size, stride : int

    Returns
    -------
    ndarray of shape (C, n p, patch_size^2)
        Image by image, row by row; what no whole patch reaches at the bottom and the right is left out.
    """
    windows = np.lib.stride_tricks.sliding_window_view(maps, (patch_size, patch_size), axis=(2, 3))
    return windows[:, :, ::stride, ::stride].reshape(len(maps), -1, patch_size**2)


def add_residuals(maps, codes, dictionaries, patch_size, stride, errors, residuals):
    r"""Compare maps with what the codes of their patches stand for.

    All sums run in a fixed order, in float64: the results of an image do not depend on the others.

    Parameters
    ----------
    maps : ndarray of shape (C, n, h, w)
        Covered by the patches to the last row and column.
    codes : ndarray of shape (C, n p, k), float64
        Of the patches of `cut_patches`.
    dictionaries : ndarray of shape (C, k, patch_size^2), float64
    patch_size, stride : int
    errors : ndarray of shape (C, n, p), float64, contiguous
        Filled with the squared error of every patch.
    residuals : ndarray of shape (n, h, w), float64
        To which the squared difference of map and reconstruction is added for one channel after another; where patches
        overlap, the reconstruction is their mean.
    """
    grid = tuple((size - patch_size) // stride + 1 for size in maps.shape[2:])
    codes = codes.reshape(*maps.shape[:2], *grid, -1)
    atoms = dictionaries.reshape(*dictionaries.shape[:2], patch_size, patch_size)
    _add_residuals(maps, codes, atoms, stride, errors.reshape(*errors.shape[:2], *grid), residuals)


@njit(cache=True, parallel=True)
def _add_residuals(maps, codes, dictionaries, stride, errors, residuals):
    for i in prange(maps.shape[1]):
        restored, count = np.empty(residuals.shape[1:]), np.empty(residuals.shape[1:])
        for c in range(maps.shape[0]):
            _restore(maps[c, i], codes[c, i], dictionaries[c], stride, errors[c, i], restored, count)
            for y in range(count.shape[0]):
                for x in range(count.shape[1]):
                    residuals[i, y, x] += (maps[c, i, y, x] - restored[y, x] / count[y, x]) ** 2


@njit(cache=True, fastmath=_SUMS)
def _restore(seen, codes, atoms, stride, errors, restored, count):
    """Fill in the errors of the patches of one map, their sum, and how many overlap."""
    side = atoms.shape[1]
    patch = np.empty((side, side))
    restored[:], count[:] = 0.0, 0.0
    for row in range(codes.shape[0]):
        for column in range(codes.shape[1]):
            _decode(codes[row, column], atoms, patch)
            error = 0.0
            for y in range(side):
                for x in range(side):
                    Y, X = row * stride + y, column * stride + x
                    error += (seen[Y, X] - patch[y, x]) ** 2
                    restored[Y, X] += patch[y, x]
                    count[Y, X] += 1
            errors[row, column] = error


@njit(cache=True, fastmath=_SUMS)
def _decode(code, atoms, patch):
    patch[:] = 0.0
    for j in range(len(code)):
        if code[j] != 0:
            for y in range(patch.shape[0]):
                for x in range(patch.shape[1]):
                    patch[y, x] += code[j] * atoms[j, y, x]
