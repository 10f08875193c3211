"""What detectors share that look at images through patch features."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval

from ..base import BaseDetector
from ..features import PretrainedPatchFeatures


class FeatureDetector(BaseDetector):
    """Detectors that look at images; ``features=None`` is a pretrained network.

    A subclass takes ``features`` and, where it has maps, ``sigma``; where other features suit it better, it writes
    `default_features`.
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
        X : ignored
            The default is the same for all images.

        Returns
        -------
        PretrainedPatchFeatures
            Unfitted.
        """
        return PretrainedPatchFeatures(verbose=self.verbose)

    def _features(self):
        given = super()._features()
        return self.default_features() if given is None else given


class LazyFeatures:
    """Features of images that are computed when ``np.asarray`` is called on them, or on a part."""

    def __init__(self, transform, samples):
        self.transform, self.samples = transform, samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, key):
        return LazyFeatures(self.transform, self.samples[key])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.transform(self.samples), dtype)

    def batches(self, length):
        """Yield arrays of up to `length` samples."""
        for start in range(0, len(self), length):
            yield np.asarray(self[start : start + length])
