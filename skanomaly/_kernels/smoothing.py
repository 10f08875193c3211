"""Resizing of images, and smooth maps from grids of patch scores: one matrix per image axis."""

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array

from .blas import one_blas_thread

SIGMA_SIDE = 224  # side of the image, in pixels, that a sigma refers to


def resize_matrix(n_in, n_out):
    """Return the matrix (n_out, n_in) of bilinear resizing, with pixel centres at half integers.

    >>> resize_matrix(2, 4)
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    positions = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    return _sample_matrix(positions, n_in)


@lru_cache(maxsize=256)
def antialiased_matrix(n_in, n_out):
    """Return the matrix of antialiased bilinear resizing.

    Every output pixel is the average of the input pixels weighted by a triangle that is twice as wide as an output
    pixel, and at least two input pixels wide, which makes enlarging equal to `resize_matrix`.

    Returns
    -------
    csr_array of shape (n_out, n_in), float32
        Resizing matrix, sparse because few input pixels contribute to an output pixel. It is shared between callers
        and must not be changed.

    >>> (7 * antialiased_matrix(4, 2)).toarray()
    array([[3., 3., 1., 0.],
           [0., 1., 3., 3.]], dtype=float32)
    """
    scale = n_in / n_out
    centers = (np.arange(n_out) + 0.5) * scale
    distances = np.abs(np.arange(n_in) + 0.5 - centers[:, None])
    weights = np.maximum(0, 1 - distances / max(scale, 1))
    return csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def resize_antialiased(image, size):
    """Return an image (H, W, C), float32, resized to `size` (H', W') by antialiased bilinear interpolation.

    Its bits depend neither on the memory layout of `image` nor on the number of threads.
    """
    height, width = size
    for length in (height, width):  # each pass resizes the first axis and swaps the two
        n_in, n_other, n_channels = image.shape
        resized = antialiased_matrix(n_in, length) @ image.reshape(n_in, n_other * n_channels)
        image = resized.reshape(length, n_other, n_channels).transpose(1, 0, 2)
    return image


def _sample_matrix(positions, n_in):
    """Return the matrix of linear interpolation at `positions`; outside the grid, the border value is repeated."""
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
    """Return the matrix that maps one axis of a patch grid to the same axis of the original image.

    The image axis was resized to `n_resized` pixels, the central `n_cropped` of which were seen as `n_grid` patches.
    The matrix undoes this: bilinear interpolation from the patches to the crop, Gaussian smoothing there (borders
    reflected, kernel truncated at 4 sigma), and bilinear interpolation back to the image.

    Parameters
    ----------
    n_grid : int
        Length of the axis in the grid, in patches.
    n_cropped : int
        Length of the axis in the crop, in pixels.
    n_resized : int
        Length of the axis in the resized image, in pixels.
    n_out : int
        Length of the axis in the original image, in pixels.
    sigma : float
        Standard deviation of the Gaussian, in pixels of the crop; 0 means no smoothing.

    Returns
    -------
    ndarray of shape (n_out, n_grid), float32
        Matrix, with rows of NaN for pixels outside the crop. It is shared between callers and therefore read-only.
    """
    return _smooth_operator(resize_matrix(n_grid, n_cropped), n_resized, n_out, sigma)


def average_grids(grids):
    """Return the mean (h, w) of score grids [(h_l, w_l)], resized bilinearly to the finest of them."""
    return np.mean(_resized(grids), axis=0)


def harmonic_grids(grids):
    """Return the root of the harmonic mean (h, w) of the squares of grids [(h_l, w_l)], resized to the finest of them.

    The lowest value at each place is factored out, so that no square overflows or vanishes. Values are not negative.
    """
    grids = _resized(grids)
    lowest = grids.min(axis=0)
    ratios = np.divide(lowest, grids, out=np.ones_like(grids), where=grids != lowest)
    return lowest / np.sqrt(np.mean(np.square(ratios), axis=0))


def _resized(grids):
    """Return grids [(h_l, w_l)] as (L, h, w), resized bilinearly to the finest of them."""
    return np.stack(resize_to_finest([grid[..., None] for grid in grids]))[..., 0]


def resize_to_finest(grids):
    """Return grids [(h_l, w_l, d_l)] resized bilinearly to the finest of them, in their own dtype."""
    size = max(grid.shape[:2] for grid in grids)
    return [grid if grid.shape[:2] == size else _resize_grid(grid, size) for grid in grids]


def _resize_grid(grid, size):
    rows, columns = (resize_matrix(n, m).astype(grid.dtype) for n, m in zip(grid.shape[:2], size, strict=True))
    return columns @ np.tensordot(rows, grid, axes=1)


def smooth_and_resize(grid, size, sigma):
    """Return the map (h, w) of a whole image, smoothed and resized to `size` (H, W).

    The standard deviation `sigma` of the Gaussian is in pixels of an image with a side of `SIGMA_SIDE`.
    """
    rows, columns = (
        map_operator(n, n, n, n_out, sigma * n / SIGMA_SIDE) for n, n_out in zip(grid.shape, size, strict=True)
    )
    return render(rows, grid, columns)


def render(rows, grid, columns):
    """Return the map (H, W), float32, of a grid (h, w), given the operators (H, h) and (W, w) of the two axes."""
    with one_blas_thread():
        return rows @ grid.astype(np.float32, copy=False) @ columns.T


@lru_cache(maxsize=256)
def patch_map_operator(n_grid, first, step, n_resized, n_out, sigma):
    """Return the matrix of `map_operator` for patches with given centres in an image that was not cropped.

    Interpolation is linear between the centres, and constant beyond the outermost ones.

    Parameters
    ----------
    n_grid : int
        Length of the axis in the grid, in patches.
    first : float
        Position of the first centre, in pixels of the resized image; pixel i is at position i.
    step : float
        Distance between neighbouring centres, in pixels of the resized image.
    n_resized : int
        Length of the axis in the resized image, in pixels.
    n_out : int
        Length of the axis in the original image, in pixels.
    sigma : float
        Standard deviation of the Gaussian, in pixels of the resized image; 0 means no smoothing.

    Returns
    -------
    ndarray of shape (n_out, n_grid), float32
        Matrix, shared between callers and therefore read-only.
    """
    positions = (np.arange(n_resized) - first) / step
    return _smooth_operator(_sample_matrix(positions, n_grid), n_resized, n_out, sigma)


def _smooth_operator(to_crop, n_resized, n_out, sigma):
    """Return the matrix that applies `to_crop` (n_cropped, n_grid), smooths, and resizes to the original image."""
    n_cropped, smooth = len(to_crop), to_crop
    if sigma > 0:
        smooth = gaussian_filter1d(smooth, sigma, axis=0, mode="reflect", truncate=4.0)
    margin = (n_resized - n_cropped) // 2
    positions = (np.arange(n_out) + 0.5) * n_resized / n_out - 0.5 - margin
    operator = _sample_matrix(positions, n_cropped) @ smooth
    operator[(positions < -0.5) | (positions > n_cropped - 0.5)] = np.nan
    operator = operator.astype(np.float32)
    operator.setflags(write=False)
    return operator
