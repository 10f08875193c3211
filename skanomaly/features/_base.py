"""What all features share: the way from what a user passes to what a model sees, and back."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._inputs.images import as_pair, check_images
from ..base import all_or_nothing


class BaseFeatures(TransformerMixin, BaseEstimator):
    """Everything that all features share.

    A subclass writes

    - ``check_samples(X, *, reset=False)``: the door; returns samples, which have a length and take slices and integer
      arrays, and takes back those that it returned; with `reset` it learns names and number of columns or channels;
    - ``fit_samples(samples)``: what is learnt from samples, and ``n_features_out_``; returns self;
    - ``transform(X)``: what a model sees of `X` or of samples;
    - ``map_to_image(grid, sample, sigma, *, size=None)``, where ``makes_maps`` is True;

    and says by ``learns`` whether the values depend on the samples of `fit_samples`, by ``batch_len`` how many samples
    are embedded and scored at a time (None: all).
    """

    makes_maps, learns, batch_len = True, False, 32

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_features_out_")

    def fit(self, X, y=None):
        """Check `X`, and learn what these features learn.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.
        y : ignored

        Returns
        -------
        self
        """
        with all_or_nothing(self):
            return self.fit_samples(self.check_samples(X, reset=True))

    def transform_layers(self, X):
        """Return the features layer by layer, each at its own resolution; here there is one layer.

        Parameters
        ----------
        X : array-like
            As in `transform`.

        Returns
        -------
        Layers
        """
        return Layers([self.transform(X)])


class ImageFeatures(BaseFeatures):
    """Features of images, with parameters `data_range` and `max_pixels`.

    A subclass writes `fit_samples`, `map_to_image`, and ``_embed(source)``, which `transform` returns.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def fit(self, X, y=None):
        """Check `X` and the parameters; nothing is learnt from the images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
            uint8, uint16, bool, or float in [0, 1]; C in {1, 3, 4}.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For parameters that do not fit together.
        ImageReadError
            For files that are not images; the message names all of them.
        """
        return super().fit(X, y)

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
        if reset:
            self._validate_params()
        samples = check_images(X, data_range=self.data_range, max_pixels=self.max_pixels)
        if reset:
            self.n_channels_ = samples.n_channels
        return samples

    def transform(self, X):
        """Return the patch grids of images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
            As in `fit`; sizes and number of channels may differ from fit.

        Returns
        -------
        ndarray of shape (n, h, w, d), float32
        """
        check_is_fitted(self)
        return self._embed(self.check_samples(X))


class Layers:
    """Features of several layers, each at its own resolution, which are sliced by sample.

    Parameters
    ----------
    arrays : list of ndarray of shape (n, h_l, w_l, d_l)
    """

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, index):
        """Return the samples at a slice or an integer array."""
        return Layers([array[index] for array in self.arrays])


def layer_widths(features):
    """Return the number of features d_l of every layer of fitted features."""
    shapes = getattr(features, "layer_shapes_", None)
    return [features.n_features_out_] if shapes is None else [shape[-1] for shape in shapes]


def check_image_size(size):
    """Return an `image_size` as (height, width), in pixels.

    Raises
    ------
    ValueError
        For anything but one side or a pair, of positive integers.
    """
    pair = as_pair(size)
    if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in pair):
        raise ValueError(f"image_size={size!r}; accepted is one side or (height, width), in pixels.")
    return pair


def check_masks(masks, shapes):
    """Return masks as a list of bool arrays.

    Parameters
    ----------
    masks : sequence of array-like, bool
        One for each sample.
    shapes : list of tuple of int
        Shape of every sample.

    Raises
    ------
    ValueError
        For another number of masks, another shape, or another dtype.
    """
    if len(masks) != len(shapes):
        raise ValueError(f"mask has length {len(masks)}, X has {len(shapes)} samples; accepted is one mask for each.")
    masks = [np.asarray(mask) for mask in masks]
    for i, (mask, shape) in enumerate(zip(masks, shapes, strict=True)):
        if mask.shape != tuple(shape) or mask.dtype != bool:
            raise ValueError(
                f"mask[{i}] is {mask.dtype} of shape {mask.shape}; accepted is bool of shape {tuple(shape)}, as in X."
            )
    return masks
