"""Views of samples as inputs of a network: rows, whole images, overlapping patches of images, or cells of a grid.

A view converts samples Z, arrays of shape (n, d) or (n, h, w, d), to tensors x (n, ...). From these, `split` makes the
inputs of the network, (N, \\*shape), and `join` combines values of inputs to values of samples. The `mean` or `total`
of the values of a sample is the same for whole images and for overlapping patches.
"""

import math

import numpy as np

from .patches import PatchSamples, average_patches, patch_corners, split_patches

_VECTORS_AT_A_TIME = 1024
_IMAGES_AT_A_TIME = 4


def mean_values(values):
    """Return the mean (n,) of values (n, ...)."""
    return values.flatten(1).mean(dim=1)


class Rows:
    """Rows (n, d) as they are.

    Parameters
    ----------
    shape : tuple of int (d,)
        Shape of an input.

    Attributes
    ----------
    batch_len : int
        Number of samples scored at a time.
    """

    batch_len = _VECTORS_AT_A_TIME

    def __init__(self, shape):
        self.shape = tuple(shape)

    def fit(self, Z):
        """Return the statistics of training samples that `standardize` needs, by name; here, there are none."""
        return {}

    def standardize(self, Z):
        """Return samples in the units of the network."""
        return Z

    def arrange(self, Z):
        """Return samples, an array, with the axes of x."""
        return Z

    def arrange_back(self, x):
        """Return x with the axes of samples."""
        return x

    def split(self, x):
        """Return the inputs of the network for x."""
        return x

    def join(self, values):
        """Return values of inputs as values of samples."""
        return values

    def to_learn_from(self, x):
        """Return x as training samples for `fit_loop`."""
        return self.split(x)

    def per_sample(self, values):
        """Return the mean (n,) of values that each belong to an input."""
        return values

    def mean(self, values):
        """Return the mean (n,) of values in the shape of the inputs."""
        return mean_values(self.join(values))

    def total(self, values):
        """Return the sum (n,) of values in the shape of the inputs."""
        return self.join(values).flatten(1).sum(dim=1)


class Images(Rows):
    """Images (n, h, w, c) as (n, c, h, w).

    Parameters
    ----------
    shape : tuple of int (c, h, w)
        Shape of an input.
    """

    batch_len = _IMAGES_AT_A_TIME

    def arrange(self, Z):
        """Return samples, an array, with the axes of x."""
        # copied even if there is one channel, because torch chooses convolutions by strides, and their last bits differ
        return Z.transpose(0, 3, 1, 2).copy()

    def arrange_back(self, x):
        """Return x with the axes of samples."""
        return x.permute(0, 2, 3, 1)


class Patches(Images):
    """Overlapping patches of images, over which values are averaged.

    Parameters
    ----------
    shape : tuple of int (c, side, side)
        Shape of a patch.
    size : tuple of int (h, w)
        Size of the images.
    stride : int
        Largest distance between neighbouring patches.
    """

    batch_len = 1  # an image has many patches

    def __init__(self, shape, size, stride):
        super().__init__(shape)
        self.size, self.corners = size, patch_corners(size, shape[-1], stride)

    def split(self, x):
        """Return the patches of all images, image by image."""
        return split_patches(x, self.corners, self.shape[-1])

    def join(self, values):
        """Return images from the values of patches, averaged where patches overlap."""
        return average_patches(values, self.corners, self.size)

    def to_learn_from(self, x):
        """Return the patches, which are cut when a batch needs them."""
        return PatchSamples(x, self.corners, self.shape[-1])

    def per_sample(self, values):
        """Return the mean (n,) of values that each belong to a patch."""
        return values.unflatten(0, (-1, len(self.corners))).mean(dim=1)

    def mean(self, values):
        """Return the mean (n,) over patches of the mean in each patch."""
        return self.per_sample(mean_values(values))

    def total(self, values):
        """Return the mean (n,) over patches of the sum in each patch."""
        return self.per_sample(values.flatten(1).sum(dim=1))


class Cells(Rows):
    """Cells of feature grids (n, h, w, d) as vectors, standardised feature by feature.

    Parameters
    ----------
    shape : tuple of int (d,)
        Shape of an input.
    grid : tuple of int (h, w)
        Size of the grids.
    location : ndarray of shape (d,), default=None
        Mean of each feature, as returned by `fit`.
    scale : ndarray of shape (d,), default=None
        Standard deviation of each feature, as returned by `fit`.
    """

    def __init__(self, shape, grid, location=None, scale=None):
        super().__init__(shape)
        self.grid, self.location, self.scale = tuple(grid), location, scale
        self.batch_len = max(1, _VECTORS_AT_A_TIME // math.prod(grid))

    def fit(self, Z):
        """Return the mean and standard deviation of each feature over the cells of training samples."""
        location, scale = Z.mean(axis=(0, 1, 2), dtype="f8"), Z.std(axis=(0, 1, 2), dtype="f8")
        scale = np.where(scale > 1e-6 * np.abs(location), scale, 1.0)
        return {"location": location.astype(Z.dtype), "scale": scale.astype(Z.dtype)}

    def standardize(self, Z):
        """Return samples in the units of the network."""
        return (Z - self.location) / self.scale

    def split(self, x):
        """Return the cells of all grids, grid by grid."""
        return x.flatten(0, 2)

    def join(self, values):
        """Return grids from the values of cells."""
        return values.unflatten(0, (-1, *self.grid))

    def per_sample(self, values):
        """Return the mean (n,) of values that each belong to a cell."""
        return mean_values(self.join(values))
