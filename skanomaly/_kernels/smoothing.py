"""From a grid of patch scores to a smooth map, as one small matrix per image axis."""

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter1d


def resize_matrix(n_in, n_out):
    """Return the (n_out, n_in) matrix of bilinear resizing; pixel centres lie at half integers.

    >>> resize_matrix(2, 4)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    positions = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    return _sample_matrix(positions, n_in)


def _sample_matrix(positions, n_in):
    """Return the matrix of linear interpolation at `positions`; outside, the border value is repeated."""
    positions = np.clip(positions, 0, n_in - 1)
    below = np.minimum(np.floor(positions).astype(int), max(n_in - 2, 0))
    share = positions - below
    matrix = np.zeros((len(positions), n_in))
    rows = np.arange(len(positions))
    matrix[rows, below] = 1 - share
    matrix[rows, np.minimum(below + 1, n_in - 1)] += share
    return matrix


@lru_cache(maxsize=256)
def map_operator(n_grid, n_cropped, n_resized, n_out, sigma):
    """Return the matrix that takes one axis of a patch grid to the same axis of the image it came from.

    The image axis of `n_out` pixels was resized to `n_resized`, of which the central `n_cropped` were seen as
    `n_grid` patches. The matrix undoes this: bilinear from the patches to the crop, Gaussian smoothing there
    (borders reflected, kernel cut at 4 sigma), bilinear back to the image.

    Parameters
    ----------
    n_grid, n_cropped, n_resized, n_out : int
    sigma : float
        Of the Gaussian, in pixels of the crop; 0 for none.

    Returns
    -------
    ndarray of shape (n_out, n_grid), float32
        Rows of NaN for pixels outside the crop. Shared between callers, hence read-only.
    """
    smooth = resize_matrix(n_grid, n_cropped)
    if sigma > 0:
        smooth = gaussian_filter1d(smooth, sigma, axis=0, mode="reflect", truncate=4.0)
    margin = (n_resized - n_cropped) // 2
    positions = (np.arange(n_out) + 0.5) * n_resized / n_out - 0.5 - margin
    operator = _sample_matrix(positions, n_cropped) @ smooth
    operator[(positions < -0.5) | (positions > n_cropped - 0.5)] = np.nan
    operator = operator.astype(np.float32)
    operator.setflags(write=False)
    return operator
