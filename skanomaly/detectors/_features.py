"""What detectors share that look at images through features: the door, and the way back to the image."""

from numbers import Real

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, Interval

from ..base import BaseDetector
from ..features import PretrainedPatchFeatures
from ..features._pretrained import NO_EFFECT

_NOT_COMPARED = (*NO_EFFECT, "weights", "device", "batch_size")  # weights by their hash; the rest moves last digits


class FeatureDetector(BaseDetector):
    """Detectors that score the features of images.

    A subclass takes ``features`` (None for those of `default_features`) and, where it has maps, ``sigma``.
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "features": [HasMethods(["fit", "transform", "map_to_image"]), None],
        "sigma": [Interval(Real, 0, None, closed="left")],
    }
    _batch_len = 32

    def default_features(self):
        """Return the features that ``features=None`` stands for, unfitted."""
        return PretrainedPatchFeatures(verbose=self.verbose)

    def _check_samples(self, X, reset):
        if reset:
            features = self.default_features() if self.features is None else self.features
            self.features_ = clone(features).fit(X, None)  # a FrozenEstimator insists on y
        return self.features_.check_samples(X)

    def _check_same_features(self, other):
        """Raise where another detector has not seen what this one would see."""
        mine, its = (_seen_by(detector.features_) for detector in (self, other))
        for name in mine | its:
            if mine.get(name) != its.get(name):
                raise ValueError(
                    f"other.features_ has {name}={its.get(name)!r}, that of this {type(self).__name__} "
                    f"{name}={mine.get(name)!r}: the two cannot be merged."
                )

    def _embed(self, samples):
        return self.features_.transform(samples)

    def _render(self, grid, size):
        return self.features_.map_to_image(grid, size, self.sigma)


def _seen_by(features):
    """Return all that the values of fitted features depend on, by name."""
    network = getattr(features, "features_", features)  # of crops
    seen = {"weights_sha256_": getattr(network, "weights_sha256_", None)}
    seen |= {name: getattr(features, name, None) for name in ("grid_shape_", "level_shapes_", "n_features_out_")}
    features = getattr(features, "estimator", features)  # a frozen one is what it holds
    seen["class"] = type(features).__name__
    for name, value in features.get_params().items():
        if name.rpartition("__")[2] not in _NOT_COMPARED:
            seen[name] = type(value).__name__ if hasattr(value, "get_params") else _comparable(value)
    return seen


def _comparable(value):
    return tuple(value) if isinstance(value, list) else value


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
