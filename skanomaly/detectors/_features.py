"""The base class of detectors that use features of images."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval

from ..base import BaseDetector
from ..features import PretrainedPatchFeatures


class FeatureDetector(BaseDetector):
    """Base class of detectors that use features of images.

    A subclass has a parameter ``features`` and, if it has maps, ``sigma``. It may override `default_features`.
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform", "map_to_image"]), None],
        "sigma": [Interval(Real, 0, None, closed="left")],
    }

    def default_features(self, X=None):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        PretrainedPatchFeatures
            Features, unfitted.
        """
        return PretrainedPatchFeatures(verbose=self.verbose)

    def _features(self):
        given = super()._features()
        return self.default_features() if given is None else given


class LazyFeatures:
    """Features of images that are computed when ``np.asarray`` is called on them or on a slice.

    Parameters
    ----------
    transform : callable
        Function from samples to features.
    samples : samples
        Samples.
    """

    def __init__(self, transform, samples):
        self.transform, self.samples = transform, samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, key):
        return LazyFeatures(self.transform, self.samples[key])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.transform(self.samples), dtype)

    def batches(self, length):
        """Yield the features batch by batch.

        Parameters
        ----------
        length : int
            Largest number of samples in a batch.

        Yields
        ------
        ndarray
            Features of a batch.
        """
        for start in range(0, len(self), length):
            yield np.asarray(self[start : start + length])
