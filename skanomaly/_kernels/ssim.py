"""Structural similarity of two images, in three parts."""

import numpy as np
from scipy.ndimage import uniform_filter


def ssim_factors(x, y, window, c1, c2):
    """Return luminance, contrast and structure, whose product is SSIM, in the window around each pixel.

    Windows are uniform, and (co)variances are divided by the number of pixels minus one. Beyond the border, the image
    is mirrored, with the border pixels repeated.

    Parameters
    ----------
    x, y : ndarray of shape (H, W, C)
    window : int
        Side of the windows, odd.
    c1, c2 : float
        Constants that are added to squared means and to variances; half of c2 is added to covariances.

    Returns
    -------
    luminance, contrast, structure : ndarray of shape (H, W, C), float64
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean_x, mean_y = _local_mean(x, window), _local_mean(y, window)
    unbiased = window**2 / (window**2 - 1)
    variance_x, variance_y = (
        np.maximum(0, unbiased * (_local_mean(z * z, window) - mean**2)) for z, mean in ((x, mean_x), (y, mean_y))
    )
    covariance = unbiased * (_local_mean(x * y, window) - mean_x * mean_y)
    deviations = np.sqrt(variance_x * variance_y)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * deviations + c2) / (variance_x + variance_y + c2)
    return luminance, contrast, (covariance + c2 / 2) / (deviations + c2 / 2)


def _local_mean(x, window):
    return uniform_filter(x, (window, window, 1), mode="reflect")
