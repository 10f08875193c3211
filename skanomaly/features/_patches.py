"""Patches of pixels, without a network."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .._inputs.images import MAX_PIXELS, as_pair
from .._kernels.smoothing import SIGMA_SIDE, patch_map_operator, render, resize_antialiased
from ._base import DATA_RANGE, IMAGE_SIZE, ImageFeatures, check_geometry, check_image_size

_NOISE = 10 / 255  # standard deviation below which a patch counts as flat


class PatchFeatures(ImageFeatures):
    r"""Compute patch features from raw pixels.

    Every image is resized to `image_size` (antialiased bilinear, without cropping), halved `level` times by averaging
    2 x 2 pixels, and cut into overlapping squares, `stride` pixels apart. With ``normalization="contrast"``, the p
    pixel values x of a patch become

    .. math:: z_i = \frac{x_i - \bar x}{\sqrt{\frac{1}{p} \sum_j (x_j - \bar x)^2 + (10 / 255)^2}}

    so that brightness and contrast do not matter, while the noise of flat patches is not amplified. Use
    ``normalization=None`` to detect stains, which differ in little but brightness.

    Parameters
    ----------
    patch_size : int, default=8
        Side of a patch, in pixels of the resized and halved image.
    stride : int, default=4
        Distance between neighbouring patches, in pixels of the resized and halved image. Pixels at the right and bottom
        that no whole patch covers are ignored.
    level : int, default=0
        Number of times that the resized image is halved; patches cover 2^level times the height and width.
    normalization : {"contrast"} or None, default="contrast"
        How the pixel values of a patch are normalised; None keeps them, in [0, 1].
    image_size : int or (int, int), default=128
        Height and width that images are resized to, in pixels; an int stands for both.
    gray : bool, default=True
        If True, colours are averaged; if False, patches have three channels, and grey images are repeated.
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
        Number of channels of the first image in `fit`, 1 or 3.
    n_features_out_ : int
        Number of features d of a patch: its pixels row by row, with the channels of a pixel next to each other.
    grid_shape_ : tuple of int
        Height and width (h, w) of the patch grid.

    See Also
    --------
    Pixels : Whole images instead of patches.
    PretrainedPatchFeatures : Patch features from a pretrained network.

    References
    ----------
    Coates and Ng, "Learning Feature Representations with K-means", Neural Networks: Tricks of the Trade, 2012,
    for the normalisation. They add 10 to the variance of grey levels in [0, 255]; here, it is 10^2.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import PatchFeatures
    >>> images = np.random.default_rng(0).random((2, 64, 64))
    >>> features = PatchFeatures(patch_size=8, stride=4, image_size=32)
    >>> features.fit_transform(images).shape
    (2, 7, 7, 64)
    """

    _parameter_constraints = {
        "patch_size": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "level": [Interval(Integral, 0, None, closed="left")],
        "normalization": [StrOptions({"contrast"}), None],
        "image_size": IMAGE_SIZE,
        "gray": ["boolean"],
        "data_range": DATA_RANGE,
        "channels": [StrOptions({"rgb", "bgr"})],
        "max_pixels": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        patch_size=8,
        stride=4,
        *,
        level=0,
        normalization="contrast",
        image_size=128,
        gray=True,
        data_range=None,
        channels="rgb",
        max_pixels=MAX_PIXELS,
    ):
        self.patch_size = patch_size
        self.stride = stride
        self.level = level
        self.normalization = normalization
        self.image_size = image_size
        self.gray = gray
        self.data_range = data_range
        self.channels = channels
        self.max_pixels = max_pixels

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

        Raises
        ------
        ValueError
            If the image cannot be halved `level` times, or is smaller than a patch.
        """
        self.grid_shape_ = tuple((n - self.patch_size) // self.stride + 1 for n in self._check_geometry())
        self.n_features_out_ = self.patch_size**2 * (1 if self.gray else 3)
        return self

    def map_to_image(self, grid, sample, sigma=4.0, *, size=None):
        """Turn a grid of patch scores into a smooth map of the image.

        Scores are placed at the centres of their patches, interpolated linearly (constant beyond the outer centres),
        smoothed by a Gaussian and resized bilinearly to the image.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
            Scores of the patches.
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
        pixel = 2**self.level
        first = (self.patch_size * pixel - 1) / 2
        rows, columns = (
            patch_map_operator(n_grid, first, self.stride * pixel, n_resized, n_out, sigma * n_resized / SIGMA_SIDE)
            for n_grid, n_resized, n_out in zip(grid.shape, as_pair(self.image_size), size or sample.size, strict=True)
        )
        return render(rows, grid, columns)

    def _check_geometry(self):
        """Return the height and width of the halved image."""
        size, step = check_image_size(self.image_size), 2**self.level
        if any(n % step for n in size):
            raise ValueError(
                f"image_size={self.image_size} cannot be halved level={self.level} times; it must be a multiple of "
                f"{step}."
            )
        height, width = (n // step for n in size)
        if self.patch_size > min(height, width):
            raise ValueError(
                f"patch_size={self.patch_size} is larger than the image of {height} x {width} pixels (image_size="
                f"{self.image_size} halved level={self.level} times); at most {min(height, width)} is accepted."
            )
        return height, width

    def _embed(self, source):
        grids = np.empty((len(source), *self.grid_shape_, self.n_features_out_), np.float32)
        for i, grid in enumerate(grids):
            grid[:] = self._patches(self._read(source, i))
        return grids

    def _read(self, source, i):
        """Return image i, resized and halved, as (H, W, C), float32 in [0, 1]."""
        pixels = source.read(i)
        if self.gray and pixels.shape[2] == 3:
            # in float64, the mean of three equal values is exactly that value
            pixels = pixels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
        if pixels.shape[:2] != as_pair(self.image_size):
            pixels = resize_antialiased(pixels, as_pair(self.image_size))
        for _ in range(self.level):
            pixels = (pixels[::2] + pixels[1::2]) / 2
            pixels = (pixels[:, ::2] + pixels[:, 1::2]) / 2
        return pixels if self.gray or pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)

    def _patches(self, pixels):
        """Return the patch grid (h, w, d) of pixels (H, W, C)."""
        side = self.patch_size
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(0, 1))
        windows = windows[:: self.stride, :: self.stride].transpose(0, 1, 3, 4, 2)
        patches = windows.reshape(*self.grid_shape_, self.n_features_out_)
        return patches if self.normalization is None else _normalize_contrast(patches)


def _normalize_contrast(patches):
    """Return patches (h, w, d) with their mean subtracted, divided by their contrast."""
    centered = patches - patches.mean(axis=-1, keepdims=True)
    variance = np.square(centered).mean(axis=-1, keepdims=True)
    return centered / np.sqrt(variance + np.float32(_NOISE**2))
