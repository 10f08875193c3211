"""Maps cut into overlapping patches, and reassembled from them."""

import numpy as np
from numba import prange

from .checks import require
from .compiled import compiled, parallel

_SUMS = {"reassoc", "contract", "nsz"}  # allows sums to use vector registers


def cut_patches(maps, patch_size, stride):
    """Return the square patches of maps.

    Parameters
    ----------
    maps : ndarray of shape (C, n, h, w)
        Maps of C channels of n images.
    patch_size : int
        Side of the patches, in pixels of the maps.
    stride : int
        Step between patches, in pixels of the maps.

    Returns
    -------
    ndarray of shape (C, n p, patch_size^2)
        Patches, image by image and row by row. Pixels at the bottom and on the right that no complete patch reaches
        are left out.
    """
    windows = np.lib.stride_tricks.sliding_window_view(maps, (patch_size, patch_size), axis=(2, 3))
    return windows[:, :, ::stride, ::stride].reshape(len(maps), -1, patch_size**2)


def add_residuals(maps, codes, dictionaries, patch_size, stride, errors, residuals):
    r"""Add up the squared differences between maps and their reconstructions from the codes of patches.

    All sums run in float64 and in a fixed order, so the results of an image do not depend on the other images.

    Parameters
    ----------
    maps : ndarray of shape (C, n, h, w)
        Maps, covered completely by the patches.
    codes : ndarray of shape (C, n p, k), float64
        Codes of the patches returned by `cut_patches`.
    dictionaries : ndarray of shape (C, k, patch_size^2), float64
        Atoms of each channel.
    patch_size : int
        Side of the patches, in pixels of the maps.
    stride : int
        Step between patches, in pixels of the maps.
    errors : ndarray of shape (C, n, p), float64, contiguous
        Output: the squared error of every patch.
    residuals : ndarray of shape (n, h, w), float64
        Output: the squared difference between map and reconstruction is added to it, one channel after another. Where
        patches overlap, the reconstruction is their mean.
    """
    grid = tuple((size - patch_size) // stride + 1 for size in maps.shape[2:])
    codes = codes.reshape(*maps.shape[:2], *grid, -1)
    require(maps.shape[1:2] + maps.shape[2:] == residuals.shape, "residuals have another shape than the maps")
    require(errors.shape[:2] == maps.shape[:2], "errors have another shape than the maps")
    require(codes.shape[-1] == dictionaries.shape[1] and len(dictionaries) == len(maps), "codes do not fit")
    atoms = dictionaries.reshape(*dictionaries.shape[:2], patch_size, patch_size)
    _add_residuals(maps, codes, atoms, stride, errors.reshape(*errors.shape[:2], *grid), residuals)


@parallel()
def _add_residuals(maps, codes, dictionaries, stride, errors, residuals):
    for i in prange(maps.shape[1]):
        restored, count = np.empty(residuals.shape[1:]), np.empty(residuals.shape[1:])
        for c in range(maps.shape[0]):
            _restore(maps[c, i], codes[c, i], dictionaries[c], stride, errors[c, i], restored, count)
            for y in range(count.shape[0]):
                for x in range(count.shape[1]):
                    residuals[i, y, x] += (maps[c, i, y, x] - restored[y, x] / count[y, x]) ** 2


@compiled(fastmath=_SUMS)
def _restore(seen, codes, atoms, stride, errors, restored, count):
    """Fill in the errors of the patches of one map, the sum of the patches, and the number of patches at each pixel."""
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


@compiled(fastmath=_SUMS)
def _decode(code, atoms, patch):
    patch[:] = 0.0
    for j in range(len(code)):
        if code[j] != 0:
            for y in range(patch.shape[0]):
                for x in range(patch.shape[1]):
                    patch[y, x] += code[j] * atoms[j, y, x]
