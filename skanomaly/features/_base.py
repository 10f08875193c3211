"""Base classes of all features."""

import copy
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from .._doc_links import DocLinkMixin
from .._inputs.images import MAX_PIXELS, ImageSource, as_pair, check_images
from .._inputs.samples import begin
from .._kernels.checks import require
from ..base import all_or_nothing
from ..exceptions import DataWarning

IMAGE_SIZE = [Interval(Integral, 1, None, closed="left"), tuple, list]  # constraints of sizes in pixels
DATA_RANGE = [Interval(Real, 0, None, closed="neither"), tuple, list, None]


class BaseFeatures(TransformerMixin, DocLinkMixin, BaseEstimator):
    """Base class of all features.

    A subclass implements

    - ``check_samples(X, *, reset=False)``: check `X` and return it as samples, which have a length and can be indexed
      by slices and integer arrays. It also accepts samples that it returned before. With `reset`, it sets the number
      of channels, or the number and names of columns;
    - ``fit_samples(samples)``: learn from samples, set ``n_features_out_`` and return self;
    - ``transform(X)``: return the features of `X` or of samples;
    - ``map_to_image(grid, sample, sigma, *, size=None)``: return a score grid as a map of the image. Needed only if
      ``makes_maps`` is True.

    The attribute ``learns`` says whether the features depend on the samples of `fit_samples`, and ``batch_len`` how
    many samples are embedded and scored at a time (None for all).
    """

    makes_maps, learns, batch_len = True, False, 32

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_features_out_")

    def fit(self, X, y=None):
        """Fit the features.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the class accepts.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self
            Fitted estimator.
        """
        with all_or_nothing(self):
            return self.fit_samples(self.check_samples(X, reset=True))

    def transform_layers(self, X):
        """Compute the features of each layer at its own resolution; here, there is one layer.

        Parameters
        ----------
        X : array-like
            Samples, as in `transform`.

        Returns
        -------
        Layers
            Features of the layers.
        """
        return Layers([self.transform(X)])


class ImageFeatures(BaseFeatures):
    """Base class of features of images, with parameters `data_range`, `channels` and `max_pixels`.

    A subclass implements `fit_samples`, `map_to_image` and ``_embed(source)``, whose result `transform` returns.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def fit(self, X, y=None):
        """Check the images and the parameters; nothing is learnt from the images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or str
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self
            Fitted estimator.

        Raises
        ------
        ValueError
            If parameters contradict each other.
        ImageReadError
            If any files cannot be read as images; the message names all of them.
        """
        return super().fit(X, y)

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
        if reset:
            self._validate_params()
            check_data_range(self.data_range)
        samples = check_images(X, data_range=self.data_range, max_pixels=self.max_pixels, channels=self.channels)
        self._check_not_single(X, reset)
        if reset:
            self.n_channels_ = samples.n_channels
        return samples

    def _check_not_single(self, X, reset):
        """Raise or warn if `X`, which is accepted as three grey images, is probably an image with channels first."""
        shape = tuple(getattr(X, "shape", ()))
        if len(shape) != 3 or shape[0] != 3:
            return
        text = f"X has shape {shape}, which may be that of a single image with channels first"
        if not reset and self.n_channels_ == 3:
            raise ValueError(
                f"{text}; the features were fitted on colour images. Pass [image.transpose(1, 2, 0)] for the image, or "
                "X[..., None] for three grey images."
            )
        if reset:
            warnings.warn(f"{text}; it is taken as three grey images.", DataWarning, stacklevel=2)

    def transform(self, X):
        """Compute the patch grids of images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or str
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern. Sizes and numbers of channels may differ from the images in `fit`.

        Returns
        -------
        ndarray of shape (n, h, w, d), float32
            Patch grids.
        """
        check_is_fitted(self)
        return self._embed(self.check_samples(X))


class OuterFeatures(BaseFeatures):
    """Base class of features that look through other features, the parameter `features`.

    The other features, fitted, are ``features_``.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.features).input_tags
        return tags

    def _inner(self):
        return vars(self).get("features_", self.features)

    @property
    def learns(self):
        """Whether the features depend on the samples of `fit`."""
        return self._inner().learns

    @property
    def batch_len(self):
        """Number of samples that are embedded and scored at a time; None for all."""
        return self._inner().batch_len

    def check_samples(self, X, *, reset=False):
        """Check `X` and return it as samples of the features.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the features accept.
        reset : bool, default=False
            If True, fresh features are created first.

        Returns
        -------
        samples
            Checked samples.
        """
        if reset:
            self._validate_params()
            self.features_ = begin(self.features)
        return self.features_.check_samples(X, reset=reset)


class OuterImageFeatures(OuterFeatures):
    """Base class of features that look at images through other features of images.

    Fitted attributes of the other features are attributes of these features too.
    """

    _parameter_constraints = {"features": [HasMethods(["fit_samples", "transform", "map_to_image"])]}
    _why_images = "only images are accepted"

    def __getattr__(self, name):
        if name.startswith("_") or name in ("features", "features_", "feature_names_in_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(vars(self).get("features_", self.features), name)

    def __sklearn_is_fitted__(self):
        return "features_" in vars(self) and hasattr(self.features_, "n_features_out_")

    @property
    def makes_maps(self):
        """Whether there are anomaly maps."""
        return self._inner().makes_maps

    def check_samples(self, X, *, reset=False):
        """Check `X` and return it as images.

        Parameters
        ----------
        X : array-like
            Images, in any form that the features accept.
        reset : bool, default=False
            If True, fresh features are created first.

        Returns
        -------
        ImageSource
            Checked images.

        Raises
        ------
        TypeError
            If the features are not features of images.
        """
        samples = super().check_samples(X, reset=reset)
        if not isinstance(samples, ImageSource):
            raise TypeError(f"features={type(self.features).__name__}() is not accepted: {self._why_images}.")
        return samples


class Layers:
    """Features of several layers, each at its own resolution, that can be indexed by sample.

    Parameters
    ----------
    arrays : list of ndarray of shape (n, h_l, w_l, d_l)
        Features of each layer.
    """

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, index):
        """Return the samples at a slice or an integer array."""
        return Layers([array[index] for array in self.arrays])


def check_geometry(features):
    """Raise a ValueError unless the shapes of fitted features are those that their parameters lead to.

    Parameters
    ----------
    features : estimator
        Features that learn nothing from samples, from a model file for example.
    """
    if hasattr(features, "n_features_out_"):
        require(features.n_channels_ in (1, 3), "n_channels_ is neither 1 nor 3")
        again = copy.copy(features).fit_samples(None)
        require(tuple(again.grid_shape_) == tuple(features.grid_shape_), "grid_shape_ is not that of the parameters")
        require(again.n_features_out_ == features.n_features_out_, "n_features_out_ is not that of the parameters")
        require(max(again.grid_shape_) ** 2 <= MAX_PIXELS, "grid_shape_ is too large")


def layer_widths(features):
    """Return the number of features of each layer.

    Parameters
    ----------
    features : estimator
        Fitted features.

    Returns
    -------
    list of int
        Number of features d_l of each layer.
    """
    shapes = getattr(features, "layer_shapes_", None)
    return [features.n_features_out_] if shapes is None else [shape[-1] for shape in shapes]


def check_image_size(size):
    """Check the parameter `image_size` and return it as a pair.

    Parameters
    ----------
    size : int or (int, int)
        Parameter to check.

    Returns
    -------
    tuple of int
        Height and width, in pixels.

    Raises
    ------
    ValueError
        If it is not a positive integer or a pair of positive integers.
    """
    pair = as_pair(size)
    if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in pair):
        raise ValueError(f"image_size={size!r} must be one side or (height, width), in pixels.")
    return pair


def check_data_range(data_range):
    """Raise a ValueError if the parameter `data_range` is a pair that is not ascending.

    Parameters
    ----------
    data_range : float, (float, float) or None
        Parameter to check.
    """
    if not isinstance(data_range, (tuple, list)):
        return
    if len(data_range) != 2 or not all(isinstance(v, Real) for v in data_range) or not data_range[0] < data_range[1]:
        raise ValueError(f"data_range={data_range!r} must be one value or (low, high), with low < high.")


def check_masks(masks, shapes):
    """Check masks of samples and return them as arrays.

    Parameters
    ----------
    masks : sequence of array-like, bool
        Mask of each sample.
    shapes : list of tuple of int
        Shape of each sample.

    Returns
    -------
    list of ndarray, bool
        Checked masks.

    Raises
    ------
    ValueError
        If the number of masks, a shape or a dtype is wrong.
    """
    if len(masks) != len(shapes):
        raise ValueError(f"mask has length {len(masks)}, but X has {len(shapes)} samples; one mask is needed for each.")
    masks = [np.asarray(mask) for mask in masks]
    for i, (mask, shape) in enumerate(zip(masks, shapes, strict=True)):
        if mask.shape != tuple(shape) or mask.dtype != bool:
            raise ValueError(
                f"mask[{i}] is {mask.dtype} of shape {mask.shape}; it must be bool of shape {tuple(shape)}, as in X."
            )
    return masks
