"""Images as they are, resized."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .._inputs.images import MAX_PIXELS
from .._kernels.smoothing import resize_antialiased, smooth_and_resize
from ._base import ImageFeatures, check_image_size, check_masks


class Pixels(ImageFeatures):
    """The pixels of images, resized to one size.

    Every image is resized to `image_size` (antialiased bilinear; no part is lost). Images are gray or have three
    channels as the first image of `fit` does: of others, the colours are averaged, or gray is repeated.

    Parameters
    ----------
    image_size : int or (int, int), default=128
        Height and width that images are resized to, in pixels.
    gray : bool, default=False
        If True, the colours are averaged; False keeps the channels.
    data_range : float or None, default=None
        Value that stands for 1.0 in integer images (4095 for a 12-bit camera); None is the largest value of the dtype.
    max_pixels : int, default=169_000_000
        Largest accepted number of pixels of one image.

    Attributes
    ----------
    n_channels_ : int
        Number of channels C, 1 or 3.
    grid_shape_ : tuple of int
        (H, W) of the resized images.
    n_features_out_ : int
        Number of features of a pixel: its channels.

    See Also
    --------
    PatchFeatures : Patches of pixels, for detectors that score patches.
    Columns : The same for rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import Pixels
    >>> images = np.random.default_rng(0).random((2, 64, 64))
    >>> pixels = Pixels(32).fit(images)
    >>> pixels.transform(images).shape
    (2, 32, 32, 1)
    >>> [image.shape for image in pixels.inverse_transform(pixels.transform(images), pixels.check_samples(images))]
    [(64, 64), (64, 64)]
    """

    batch_len = 64

    _parameter_constraints = {
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple],
        "gray": ["boolean"],
        "data_range": [Interval(Real, 0, None, closed="neither"), None],
        "max_pixels": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, image_size=128, *, gray=False, data_range=None, max_pixels=MAX_PIXELS):
        self.image_size = image_size
        self.gray = gray
        self.data_range = data_range
        self.max_pixels = max_pixels

    def check_samples(self, X, *, reset=False):
        """Return `X` as checked, lazily read images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, glob string, or ImageSource
            uint8, uint16, bool, or float in [0, 1]; C in {1, 3, 4}.
        reset : bool, default=False
            If True, learn the number of channels.

        Returns
        -------
        ImageSource
        """
        samples = super().check_samples(X, reset=reset)
        if reset and self.gray:
            self.n_channels_ = 1
        return samples

    def fit_samples(self, samples):
        """Check the geometry; nothing is learnt from the images.

        Parameters
        ----------
        samples : ImageSource
            As returned by `check_samples`.

        Returns
        -------
        self
        """
        self.grid_shape_ = check_image_size(self.image_size)
        self.n_features_out_ = self.n_channels_
        return self

    def transform(self, X):
        """Return the pixels of images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
            As in `fit`; sizes and number of channels may differ from fit.

        Returns
        -------
        ndarray of shape (n, H, W, C), float32
            In [0, 1], of the size `image_size`.
        """
        return super().transform(X)

    def inverse_transform(self, Z, samples=None):
        """Return pixels as images that a user can look at.

        Parameters
        ----------
        Z : ndarray of shape (n, H, W, C)
            Of the size `image_size`; clipped to [0, 1].
        samples : ImageSource, optional
            Images whose sizes the result takes; without them it keeps the size `image_size`.

        Returns
        -------
        list of ndarray of shape (H, W) or (H, W, 3), float32
        """
        check_is_fitted(self)
        sizes = [self.grid_shape_] * len(Z) if samples is None else samples.sizes
        images = [resize_antialiased(image, size) for image, size in zip(np.clip(Z, 0, 1), sizes, strict=True)]
        return [image[..., 0] if self.n_channels_ == 1 else image for image in images]

    def transform_masks(self, masks, samples):
        """Return where masks of images lie in resized images: wherever a resized pixel holds a masked one.

        Parameters
        ----------
        masks : sequence of array-like of shape (H, W), bool
            Masks of the images.
        samples : ImageSource
            The images.

        Returns
        -------
        ndarray of shape (n, h, w, 1), bool
        """
        masks = check_masks(masks, samples.sizes)
        return np.stack(
            [resize_antialiased(mask[..., None].astype(np.float32), self.grid_shape_) > 0 for mask in masks]
        )

    def fill(self, Z, samples, masks):
        """Return images whose masked pixels are taken from resized images, the others as they are.

        Parameters
        ----------
        Z : ndarray of shape (n, h, w, C)
            Resized images.
        samples : ImageSource
            The images, whose sizes and channels (without alpha) the result takes.
        masks : sequence of array-like of shape (H, W), bool
            True for pixels that are replaced.

        Returns
        -------
        list of ndarray of shape (H, W) or (H, W, 3), float32
        """
        restored = self.inverse_transform(Z, samples)
        return [_compose(samples.read(i), restored[i], np.asarray(mask)) for i, mask in enumerate(masks)]

    def map_to_image(self, grid, sample, sigma=4.0, *, size=None):
        """Return a grid of scores as a smooth map of the image it came from.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
            Scores of equal parts of the image.
        sample : ImageSample
            The image.
        sigma : float, default=4.0
            Standard deviation of the Gaussian that smooths maps, in pixels of a 224 x 224 image.
        size : tuple of int (H, W), optional
            Size of the map; by default that of the image.

        Returns
        -------
        ndarray of shape (H, W), float32
        """
        return smooth_and_resize(grid, size or sample.size, sigma)

    def _embed(self, source):
        pixels = np.empty((len(source), *self.grid_shape_, self.n_channels_), np.float32)
        for i, resized in enumerate(pixels):
            resized[:] = self._read(source, i)
        return pixels

    def _read(self, source, i):
        """Return image i, resized, (H, W, C or 1) in [0, 1]."""
        pixels = source.read(i)
        if self.n_channels_ == 1 and pixels.shape[2] == 3:
            # in float64, the mean of three equal values is that value
            pixels = pixels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
        return pixels if pixels.shape[:2] == self.grid_shape_ else resize_antialiased(pixels, self.grid_shape_)


def _compose(pixels, filled, mask):
    """Return an image (H, W, C) with its masked pixels taken from another, which may have other channels."""
    filled = filled.reshape(*mask.shape, -1)
    if pixels.shape[2] < filled.shape[2]:
        filled = filled.mean(axis=2, keepdims=True)
    image = np.where(mask[..., None], filled, pixels)
    return image[..., 0] if image.shape[2] == 1 else image
