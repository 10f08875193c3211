"""Differentiable structural similarity."""

import torch
from torch.nn import functional as F


def ssim_map(x, y, *, window=11, c1=0.01, c2=0.03, data_range=1.0):
    r"""Return the structural similarity, in a window around every pixel, of two batches of images.

    .. math::

        \mathrm{SSIM}(p, q) = \frac{(2 \mu_p \mu_q + c_1)(2 \sigma_{pq} + c_2)}
        {(\mu_p^2 + \mu_q^2 + c_1)(\sigma_p^2 + \sigma_q^2 + c_2)}

    Windows are square and uniformly weighted, (co)variances are divided by the number of pixels minus one, and each
    channel is compared separately. Beyond the border the image is mirrored, with the border pixels repeated. For equal
    constants, this is ``structural_similarity(full=True, win_size=window)`` of scikit-image, whose mean excludes the
    border.

    Parameters
    ----------
    x : Tensor of shape (n, C, H, W)
        Images.
    y : Tensor of shape (n, C, H, W)
        Images to compare them with.
    window : int
        Side of the windows, in pixels; odd, and at most min(H, W).
    c1 : float
        Constant added to the squared means, for images of range 1. Bergmann et al. (2018) use 0.01 itself; elsewhere
        it is (0.01 L)^2 for a range L.
    c2 : float
        Constant added to the variances, for images of range 1. Bergmann et al. (2018) use 0.03 itself; elsewhere it is
        (0.03 L)^2 for a range L.
    data_range : float
        Range L of the pixels; the constants are multiplied by its square.

    Returns
    -------
    Tensor of shape (n, C, H, W)
        Structural similarity, in [-1, 1]; 1 where the windows are equal.
    """
    if min(x.shape[2:]) < window:
        raise ValueError(f"window={window} is larger than the images of {x.shape[2]} x {x.shape[3]} pixels.")
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
    """Return x (n, C, H, W) with `margin` mirrored pixels added on each side; border pixels are repeated."""
    for axis in (2, 3):
        n = x.shape[axis]
        places = torch.arange(-margin, n + margin, device=x.device)
        places = torch.where(places < 0, -1 - places, torch.where(places >= n, 2 * n - 1 - places, places))
        x = x.index_select(axis, places)
    return x
