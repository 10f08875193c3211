"""Structural similarity, differentiable."""

import torch
from torch.nn import functional as F


def ssim_map(x, y, *, window=11, c1=0.01, c2=0.03, data_range=1.0):
    r"""Return the structural similarity of the windows around every pixel of two batches of images.

    .. math::

        \mathrm{SSIM}(p, q) = \frac{(2 \mu_p \mu_q + c_1)(2 \sigma_{pq} + c_2)}
        {(\mu_p^2 + \mu_q^2 + c_1)(\sigma_p^2 + \sigma_q^2 + c_2)}

    Windows are square and weighted uniformly, (co)variances are divided by the number of pixels less one, each channel
    is compared by itself. Beyond the border the image is mirrored, border pixels included. With the same constants this
    is scikit-image's ``structural_similarity(full=True, win_size=window)``, whose mean leaves out the border.

    Parameters
    ----------
    x, y : Tensor of shape (n, C, H, W)
    window : int
        Side of the windows, odd, in pixels; at most min(H, W).
    c1, c2 : float
        Added to the squared means, and to the variances, of images whose range is 1. Bergmann et al. (2018) take
        0.01 and 0.03 as they stand; elsewhere one finds (0.01 L)^2 and (0.03 L)^2 with L the range.
    data_range : float
        Range L of the pixels; the constants are multiplied by its square.

    Returns
    -------
    Tensor of shape (n, C, H, W)
        In [-1, 1]; 1 where the windows are equal.
    """
    if min(x.shape[2:]) < window:
        raise ValueError(f"window={window} is larger than the images, {x.shape[2]} x {x.shape[3]} pixels.")
    c1, c2 = c1 * data_range**2, c2 * data_range**2
    n = window * window
    x, y = _mirror(x, window // 2), _mirror(y, window // 2)
    mean_x, mean_y = _local_mean(x, window), _local_mean(y, window)
    variances = (_local_mean(x * x + y * y, window) - mean_x**2 - mean_y**2) * (n / (n - 1))
    covariance = (_local_mean(x * y, window) - mean_x * mean_y) * (n / (n - 1))
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def _local_mean(x, window):
    return F.avg_pool2d(F.avg_pool2d(x, (window, 1), 1), (1, window), 1)


def _mirror(x, margin):
    """Return x (n, C, H, W) with `margin` pixels on each side, mirrored with the border pixels repeated."""
    for axis in (2, 3):
        n = x.shape[axis]
        places = torch.arange(-margin, n + margin, device=x.device)
        places = torch.where(places < 0, -1 - places, torch.where(places >= n, 2 * n - 1 - places, places))
        x = x.index_select(axis, places)
    return x
