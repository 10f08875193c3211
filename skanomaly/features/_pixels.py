"""Pixels of whole images."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._inputs.images import MAX_PIXELS
from .._kernels.smoothing import resize_antialiased, smooth_and_resize
from ._base import DATA_RANGE, IMAGE_SIZE, ImageFeatures, check_geometry, check_image_size, check_masks


class Pixels(ImageFeatures):
    """Resize images to a common size and return their pixels.

    Every image is resized to `image_size` (antialiased bilinear, without cropping). All images get the number of
    channels of the first image in `fit`: colours are averaged, or grey is repeated.

    Parameters
    ----------
    image_size : int or (int, int), default=128
        Height and width that images are resized to, in pixels; an int stands for both.
    gray : bool, default=False
        If True, colours are averaged; if False, the channels are kept.
    data_range : float, (float, float) or None, default=None
        Value in integer images that corresponds to 1.0, such as 4095 for a 12-bit camera, or the two values, in images
        of any type, that correspond to 0.0 and 1.0. None is the largest value of uint8 and uint16, and [0, 1] for
        floats.
    channels : {"rgb", "bgr"}, default="rgb"
        Order of the channels of arrays; "bgr" is the order of OpenCV. Files are not affected.
    max_pixels : int, default=169_000_000
        Largest number of pixels that an image may have.

    Attributes
    ----------
    n_channels_ : int
        Number of channels C, 1 or 3.
    grid_shape_ : tuple of int
        Height and width (H, W) of the resized images.
    n_features_out_ : int
        Number of features of a pixel, which is its number of channels.

    See Also
    --------
    Columns : Features of rows.
    PatchFeatures : Patches of pixels, for detectors that score patches.

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
        "image_size": IMAGE_SIZE,
        "gray": ["boolean"],
        "data_range": DATA_RANGE,
        "channels": [StrOptions({"rgb", "bgr"})],
        "max_pixels": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, image_size=128, *, gray=False, data_range=None, channels="rgb", max_pixels=MAX_PIXELS):
        self.image_size = image_size
        self.gray = gray
        self.data_range = data_range
        self.channels = channels
        self.max_pixels = max_pixels

    def check_samples(self, X, *, reset=False):
        """Check `X` and return it as images that are decoded when needed.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, str, or ImageSource
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern.
        reset : bool, default=False
            If True, the number of channels is set from the images.

        Returns
        -------
        ImageSource
            Checked images.
        """
        samples = super().check_samples(X, reset=reset)
        if reset and self.gray:
            self.n_channels_ = 1
        return samples

    def _check_state(self):
        check_geometry(self)

    def fit_samples(self, samples):
        """Check the geometry; nothing is learnt from the images.

        Parameters
        ----------
        samples : ImageSource
            Images, as returned by `check_samples`.

        Returns
        -------
        self
            Fitted estimator.
        """
        self.grid_shape_ = check_image_size(self.image_size)
        self.n_features_out_ = self.n_channels_
        return self

    def transform(self, X):
        """Return the pixels of resized images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or str
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern. Sizes and numbers of channels may differ from the images in `fit`.

        Returns
        -------
        ndarray of shape (n, h, w, C), float32
            Pixels of the images, resized to `image_size`, in [0, 1].
        """
        return super().transform(X)

    def inverse_transform(self, Z, samples=None):
        """Resize pixels to the original sizes of images.

        Parameters
        ----------
        Z : ndarray of shape (n, h, w, C)
            Pixels, as returned by `transform`. They are clipped to [0, 1].
        samples : ImageSource, default=None
            Images whose sizes the result has; None keeps the size `image_size`.

        Returns
        -------
        list of ndarray of shape (H, W) or (H, W, 3), float32
            Images, in [0, 1].
        """
        check_is_fitted(self)
        sizes = [self.grid_shape_] * len(Z) if samples is None else samples.sizes
        images = [resize_antialiased(image, size) for image, size in zip(np.clip(Z, 0, 1), sizes, strict=True)]
        return [image[..., 0] if self.n_channels_ == 1 else image for image in images]

    def transform_masks(self, masks, samples):
        """Resize masks of images: a resized pixel is masked if it covers any masked pixel.

        Parameters
        ----------
        masks : sequence of array-like of shape (H, W), bool
            Masks of the images.
        samples : ImageSource
            Images, as returned by `check_samples`.

        Returns
        -------
        ndarray of shape (n, h, w, 1), bool
            Resized masks.
        """
        masks = check_masks(masks, samples.sizes)
        return np.stack(
            [resize_antialiased(mask[..., None].astype(np.float32), self.grid_shape_) > 0 for mask in masks]
        )

    def fill(self, Z, samples, masks):
        """Replace the masked pixels of images by the pixels of resized images.

        Parameters
        ----------
        Z : ndarray of shape (n, h, w, C)
            Resized images, as returned by `transform`.
        samples : ImageSource
            Images, as returned by `check_samples`. The result has their sizes and channels, without alpha.
        masks : sequence of array-like of shape (H, W), bool
            Masks, True for pixels to be replaced.

        Returns
        -------
        list of ndarray of shape (H, W) or (H, W, 3), float32
            Images, in [0, 1].
        """
        restored = self.inverse_transform(Z, samples)
        return [_compose(samples.read(i), restored[i], np.asarray(mask)) for i, mask in enumerate(masks)]

    def map_to_image(self, grid, sample, sigma=4.0, *, size=None):
        """Turn a grid of scores into a smooth map of the image.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
            Scores of the cells of an even division of the image.
        sample : ImageSample
            Image that the scores belong to.
        sigma : float, default=4.0
            Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
        size : tuple of int (H, W), default=None
            Size of the map; None gives it the size of the image.

        Returns
        -------
        ndarray of shape (H, W), float32
            Anomaly map: higher is more anomalous.
        """
        return smooth_and_resize(grid, size or sample.size, sigma)

    def _embed(self, source):
        pixels = np.empty((len(source), *self.grid_shape_, self.n_channels_), np.float32)
        for i, resized in enumerate(pixels):
            resized[:] = self._read(source, i)
        return pixels

    def _read(self, source, i):
        """Return image i, resized, as (H, W, C) in [0, 1]."""
        pixels = source.read(i)
        if self.n_channels_ == 1 and pixels.shape[2] == 3:
            # in float64, the mean of three equal values is exactly that value
            pixels = pixels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
        return pixels if pixels.shape[:2] == self.grid_shape_ else resize_antialiased(pixels, self.grid_shape_)


def _compose(pixels, filled, mask):
    """Return an image (H, W, C) with masked pixels taken from another image, which may differ in its channels."""
    filled = filled.reshape(*mask.shape, -1)
    if pixels.shape[2] < filled.shape[2]:
        filled = filled.mean(axis=2, keepdims=True)
    image = np.where(mask[..., None], filled, pixels)
    return image[..., 0] if image.shape[2] == 1 else image
