"""Views of the training images."""

from itertools import product
from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._inputs.views import View, ViewSource
from ._base import OuterImageFeatures

_FLIPS = {None: (View(),), "horizontal": (View(), View(True)), "vertical": (View(), View(True, 180.0))}
_FLIPS["both"] = (*_FLIPS["horizontal"], View(True, 180.0), View(False, 180.0))


class Augmented(OuterImageFeatures):
    """Let detectors learn from several views of each training image.

    A detector with these features is fitted on rotated, mirrored, brighter and darker views of every image, besides the
    image as it is. Views are made when they are needed and are never stored. Scores are not affected otherwise: fresh
    images are seen as they are. In the calibration of thresholds, all views of an image belong to one group: they are
    left out together, and the score of the image as it is counts.

    Use it for parts that lie in any orientation, or for lighting that varies more than in the training images. Views
    that do not occur make a detector blind to the defects that look like them.

    Parameters
    ----------
    features : estimator
        Features of images, such as `PretrainedPatchFeatures`, or a `FrozenEstimator` of fitted features.
    rotations : int or sequence of float, default=1
        Number of orientations, equally spaced over a full turn, or the angles of the rotated views in degrees,
        counter-clockwise. What a rotation brings in from outside the image is the image reflected at its borders.
    flips : {"horizontal", "vertical", "both"} or None, default=None
        Directions in which images are mirrored.
    brightness : sequence of float, default=()
        Factors of the pixels of brighter and darker views, such as (0.8, 1.2); values are clipped to the range of the
        image.

    Attributes
    ----------
    features_ : estimator
        Fitted features.

    See Also
    --------
    PretrainedPatchFeatures : Patch features from the feature maps of a pretrained network.

    Notes
    -----
    Time and memory of `fit` grow with the number of views. Fitted attributes of the inner features, such as
    ``grid_shape_``, are attributes of these features too. A `Pipeline` alone sees each image once, as it is; in a
    `ConformalDetector`, it learns from all views.

    Pickles hold the parameters and the attributes above.

    References
    ----------
    Damm et al., "AnomalyDINO", WACV 2025, arXiv:2405.14529, take eight rotations.

    Examples
    --------
    >>> from skanomaly import Augmented, PatchCore, PretrainedPatchFeatures
    >>> features = Augmented(PretrainedPatchFeatures(), rotations=4, brightness=(0.8, 1.2))
    >>> features.n_views
    12
    >>> detector = PatchCore(features)
    """

    _parameter_constraints = {
        **OuterImageFeatures._parameter_constraints,
        "rotations": [Interval(Integral, 1, None, closed="left"), tuple, list, np.ndarray],
        "flips": [StrOptions({"horizontal", "vertical", "both"}), None],
        "brightness": [tuple, list, np.ndarray],
    }

    _why_images = "only images have views"

    def __init__(self, features, *, rotations=1, flips=None, brightness=()):
        self.features = features
        self.rotations = rotations
        self.flips = flips
        self.brightness = brightness

    @property
    def n_views(self):
        """Number of views of each training image."""
        return len(self._views())

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
        if reset:
            self._views()  # raises if parameters are wrong
        return samples

    def fit_samples(self, samples):
        """Fit the features.

        Parameters
        ----------
        samples : ImageSource
            Images or views, as returned by `check_samples` or `training_views`.

        Returns
        -------
        self
            Fitted estimator.
        """
        self.features_.fit_samples(samples)
        return self

    def training_views(self, samples):
        """Return the views of training images.

        Parameters
        ----------
        samples : ImageSource
            Images, as returned by `check_samples`.

        Returns
        -------
        ImageSource
            All views of the first image, then those of the second, and so on; the first view of each is the image as it
            is.
        """
        return ViewSource(samples, self._views())

    def transform(self, X):
        """Compute the features of images as they are.

        Parameters
        ----------
        X : array-like
            Images, in any form that the features accept.

        Returns
        -------
        ndarray
            Features.
        """
        check_is_fitted(self)
        return self.features_.transform(X)

    def transform_layers(self, X):
        """Compute the features of each layer at its own resolution.

        Parameters
        ----------
        X : array-like
            Images, in any form that the features accept.

        Returns
        -------
        Layers
            Features of the layers.
        """
        check_is_fitted(self)
        return self.features_.transform_layers(X)

    def _views(self):
        """Return all distinct combinations of the parameters, the image as it is first."""
        found = {}
        for flip, angle, factor in product(_FLIPS[self.flips], self._angles(), (1.0, *self._factors())):
            found[View(flip.mirrored, (flip.angle + angle) % 360, float(factor))] = None
        return list(found)

    def _angles(self):
        if isinstance(self.rotations, Integral):
            return [360 * i / self.rotations for i in range(self.rotations)]
        if not all(isinstance(angle, Real) and np.isfinite(angle) for angle in self.rotations):
            raise ValueError(f"rotations={self.rotations!r} must be a number of orientations, or angles in degrees.")
        return [0.0, *map(float, self.rotations)]

    def _factors(self):
        if not all(isinstance(factor, Real) and 0 < factor < np.inf for factor in self.brightness):
            raise ValueError(f"brightness={self.brightness!r} must hold positive factors.")
        return self.brightness
