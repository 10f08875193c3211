"""What a network sees of samples: rows, whole images, overlapping patches of them, or the cells of a grid.

A view leads from samples Z, arrays of shape (n, d) or (n, h, w, d), to tensors x (n, ...), of which `split` makes what
the network sees, (N, \\*shape), and back: `join` puts values of those together to values of samples. A sample's `mean`,
or `total`, of values is the same whether they come whole or in overlapping patches.
"""

import math

import numpy as np
from torch.nn import functional as F

from .patches import PatchSamples, average_patches, patch_corners, split_patches

_VECTORS_AT_A_TIME = 1024
_IMAGES_AT_A_TIME = 4


def mean_values(values):
    """Return the mean (n,) of values (n, ...)."""
    return values.flatten(1).mean(dim=1)


class Rows:
    """Rows (n, d), as they are.

    Parameters
    ----------
    shape : tuple of int (d,)

    Attributes
    ----------
    batch_len : int
        Number of samples that are scored in one pass.
    """

    batch_len = _VECTORS_AT_A_TIME

    def __init__(self, shape):
        self.shape = tuple(shape)

    def fit(self, Z):
        """Return the statistics of training samples that `standardize` needs, by name; here there are none."""
        return {}

    def standardize(self, Z):
        """Return samples in the units of the network."""
        return Z

    def arrange(self, Z):
        """Return samples (an array) with the axes of x."""
        return Z

    def arrange_back(self, x):
        """Return x with the axes of samples."""
        return x

    def split(self, x):
        """Return what the network sees of x."""
        return x

    def join(self, values):
        """Return values of what the network sees as values of samples."""
        return values

    def to_learn_from(self, x):
        """Return x in the form that `fit_loop` takes batches of."""
        return self.split(x)

    def per_sample(self, values):
        """Return the mean (n,) of one value for each part that the network sees."""
        return values

    def mean(self, values):
        """Return the mean (n,) of values, of the shape of what the network sees."""
        return mean_values(self.join(values))

    def total(self, values):
        """Return the sum (n,) of values, of the shape of what the network sees."""
        return self.join(values).flatten(1).sum(dim=1)


class Images(Rows):
    """Images (n, h, w, c) as (n, c, h, w).

    Parameters
    ----------
    shape : tuple of int (c, h, w)
    batch_len : int, default=4
        Number of samples that are scored in one pass.
    """

    def __init__(self, shape, batch_len=_IMAGES_AT_A_TIME):
        super().__init__(shape)
        self.batch_len = batch_len

    def arrange(self, Z):
        """Return samples (an array) with the axes of x."""
        # a copy even of one channel, whose strides would have torch take convolutions that differ in the last bits
        return Z.transpose(0, 3, 1, 2).copy()

    def arrange_back(self, x):
        """Return x with the axes of samples."""
        return x.permute(0, 2, 3, 1)


class Patches(Images):
    """Overlapping patches of images, over which values are averaged.

    Parameters
    ----------
    shape : tuple of int (c, side, side)
        Of the patches.
    size : tuple of int (h, w)
        Of the images.
    stride : int
        Largest distance of neighbouring patches.
    """

    def __init__(self, shape, size, stride):
        super().__init__(shape, batch_len=1)  # an image is many patches
        self.size, self.corners = size, patch_corners(size, shape[-1], stride)

    def split(self, x):
        """Return the patches of all images, those of one image after another."""
        return split_patches(x, self.corners, self.shape[-1])

    def join(self, values):
        """Return images of the values of patches, their mean where patches overlap."""
        return average_patches(values, self.corners, self.size)

    def to_learn_from(self, x):
        """Return the patches, which are cut when a batch asks for them."""
        return PatchSamples(x, self.corners, self.shape[-1])

    def per_sample(self, values):
        """Return the mean (n,) of one value for each patch."""
        return values.unflatten(0, (-1, len(self.corners))).mean(dim=1)

    def mean(self, values):
        """Return the mean (n,) over images, where every pixel counts once, whatever the number of its patches."""
        if values.shape[-2:] != self.shape[-2:]:
            values = F.interpolate(values, self.shape[-2:])
        return super().mean(values)

    def total(self, values):
        """Return the sum (n,) over a patch, at the mean of the image."""
        return self.mean(values) * math.prod(self.shape)


class Cells(Rows):
    """The cells of feature grids (n, h, w, d), each a vector, standardised feature by feature.

    Parameters
    ----------
    shape : tuple of int (d,)
    grid : tuple of int (h, w)
    location, scale : ndarray of shape (d,), optional
        Returned by `fit`.
    """

    batch_len = 1  # products of vectors in float32 depend on their place in the batch

    def __init__(self, shape, grid, location=None, scale=None):
        super().__init__(shape)
        self.grid, self.location, self.scale = tuple(grid), location, scale

    def fit(self, Z):
        """Return mean and standard deviation of every feature, over the cells of training samples."""
        location, scale = Z.mean(axis=(0, 1, 2), dtype="f8"), Z.std(axis=(0, 1, 2), dtype="f8")
        scale = np.where(scale > 1e-6 * np.abs(location), scale, 1.0)
        return {"location": location.astype(Z.dtype), "scale": scale.astype(Z.dtype)}

    def standardize(self, Z):
        """Return samples in the units of the network."""
        return (Z - self.location) / self.scale

    def split(self, x):
        """Return the cells of all grids, those of one grid after another."""
        return x.flatten(0, 2)

    def join(self, values):
        """Return grids of the values of cells."""
        return values.unflatten(0, (-1, *self.grid))

    def per_sample(self, values):
        """Return the mean (n,) of one value for each cell."""
        return mean_values(self.join(values))
