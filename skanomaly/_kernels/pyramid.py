"""Image pyramids: levels of half the height and width each, and back to the size of the image."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array

from .smoothing import resize_matrix


def pyramid(image, n_levels):
    """Return the levels of an image (H, W, C), the image itself first, each the 2 x 2 means of the one before.

    The image is continued by its last row and column up to a multiple of 2^(n_levels - 1), so that pixel i of level l
    covers the pixels i 2^l to (i + 1) 2^l - 1 of the image.
    """
    step = 2 ** (n_levels - 1)
    pads = [(0, -n % step) for n in image.shape[:2]]
    levels = [np.pad(image, (*pads, (0, 0)), mode="edge") if any(pad for _, pad in pads) else image]
    for _ in range(n_levels - 1):
        rows = (levels[-1][::2] + levels[-1][1::2]) / 2
        levels.append((rows[:, ::2] + rows[:, 1::2]) / 2)
    return levels


def enlarge_level(scores, level, side, size):
    """Return the scores of the patches of a level, bilinearly enlarged to the pixels of the image.

    Parameters
    ----------
    scores : ndarray of shape (h, w)
        Scores of the patches of the level, which have a stride of 1.
    level : int
        Number of times that the image was halved.
    side : int
        Side of a patch; beyond the centres of the outermost patches, their scores are repeated.
    size : tuple of int (H, W)
        Size of the image.

    Returns
    -------
    ndarray of shape (H, W)
        Scores of the pixels.
    """
    before = (side - 1) // 2
    scores = np.pad(scores, (before, side - 1 - before), mode="edge")
    if level == 0:
        return scores[: size[0], : size[1]]
    rows, columns = (_enlarging_matrix(n, level, m) for n, m in zip(scores.shape, size, strict=True))
    return (columns @ (rows @ scores).T).T


@lru_cache(maxsize=64)
def _enlarging_matrix(n_in, level, n_out):
    """Return the first rows of the matrix of bilinear resizing by 2^level, sparse, shared between callers."""
    return csr_array(resize_matrix(n_in, n_in * 2**level)[:n_out])


def adjacent_levels(levels, limits):
    """Return the largest, over pairs of adjacent levels, of the smaller excess of the two over its limit.

    It is above 0 where both levels of some pair are above their limits: regions of adjacent levels are intersected, and
    the intersections united. A single level is its own excess.

    Parameters
    ----------
    levels : list of ndarray of shape (H, W)
        Scores of the levels, from fine to coarse.
    limits : sequence of float
        Limit of each level.

    Returns
    -------
    ndarray of shape (H, W)
        Combined scores.
    """
    excess = [level - limit for level, limit in zip(levels, limits, strict=True)]
    pairs = pairwise(excess) if len(excess) > 1 else [(excess[0], excess[0])]
    return np.max([np.minimum(*pair) for pair in pairs], axis=0)
