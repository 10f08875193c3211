"""Similarity of two images."""

from collections import namedtuple

import numpy as np

from .._inputs.images import check_images
from .._kernels.ssim import ssim_factors


class SSIMParts(namedtuple("SSIMParts", "luminance contrast structure")):
    """Three factors of the structural similarity (SSIM) of two images, at each pixel.

    It is a named tuple of three float64 arrays of shape (H, W) or (H, W, 3): `luminance`, the similarity of the means,
    in [0, 1]; `contrast`, the similarity of the standard deviations, in [0, 1]; and `structure`, the correlation, in
    [-1, 1].

    See Also
    --------
    ssim_parts : Compute them.
    """

    __slots__ = ()

    @property
    def ssim(self):
        """Structural similarity, the product of the three."""
        return self.luminance * self.contrast * self.structure


def ssim_parts(image, other, *, window=11, c1=0.01, c2=0.03):
    r"""Compute the luminance, contrast and structure of the structural similarity (SSIM) of two images.

    For the windows p, q around each pixel of the two images,

    .. math::

        \mathrm{SSIM} = l \, c \, s, \quad
        l = \frac{2 \mu_p \mu_q + c_1}{\mu_p^2 + \mu_q^2 + c_1}, \quad
        c = \frac{2 \sigma_p \sigma_q + c_2}{\sigma_p^2 + \sigma_q^2 + c_2}, \quad
        s = \frac{\sigma_{pq} + c_2 / 2}{\sigma_p \sigma_q + c_2 / 2}

    Each channel is compared separately.

    Parameters
    ----------
    image : array-like of shape (H, W) or (H, W, 3)
        Image of dtype uint8, uint16, bool, or float in [0, 1], such as a photograph.
    other : array-like of the same shape
        Image to compare it with, such as its reconstruction.
    window : int, default=11
        Side of the windows, in pixels; an odd number, at least 3.
    c1 : float, default=0.01
        Constant that stabilises SSIM where means are small, for pixels in [0, 1]; images are converted to this range.
        The default is the value of Bergmann et al.; elsewhere, 1e-4 is common.
    c2 : float, default=0.03
        Constant that stabilises SSIM where variances are small, for pixels in [0, 1]. The default is the value of
        Bergmann et al.; elsewhere, 9e-4 is common.

    Returns
    -------
    SSIMParts
        Named tuple (luminance, contrast, structure), with the product as the property `ssim`.

    Raises
    ------
    ValueError
        If the shapes differ, or `window` is not odd or is larger than the images.

    See Also
    --------
    skanomaly.networks.SSIMLoss : One minus SSIM, as the loss of an autoencoder.
    skanomaly.plotting.SSIMDisplay : Plot of the parts.

    References
    ----------
    Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment", IEEE Transactions on Image Processing 2004.
    Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders",
    VISAPP 2019, arXiv:1807.02011.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.metrics import ssim_parts
    >>> image = np.random.default_rng(0).random((32, 32))
    >>> parts = ssim_parts(image, 0.5 * image)  # darker and with less contrast, but with the same structure
    >>> [round(float(part.mean()), 2) for part in parts]
    [0.81, 0.85, 1.0]
    """
    shape = np.shape(image)
    if np.shape(other) != shape:
        raise ValueError(f"other has shape {np.shape(other)}, but image has shape {shape}.")
    x, y = (check_images([np.asarray(pixels)]).read(0) for pixels in (image, other))
    if window % 2 == 0 or not 3 <= window <= min(x.shape[:2]):
        raise ValueError(f"window={window} is not accepted; it must be an odd number from 3 to {min(x.shape[:2])}.")
    parts = ssim_factors(x, y, window, c1, c2)
    return SSIMParts(*(part[..., 0] if part.shape[2] == 1 else part for part in parts))
