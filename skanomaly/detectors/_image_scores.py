"""Scores of images from their anomaly maps."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .._inputs.images import as_pair
from .._kernels.checks import require
from .._kernels.levels import level

IMAGE_SCORE = [StrOptions({"max", "mean", "contrast"}), Interval(Real, 0, 1, closed="neither")]  # of `image_score`


def image_score_or(option):
    """Return the constraints of a parameter `image_score` that accepts another option as well.

    Parameters
    ----------
    option : str
        Option.

    Returns
    -------
    list
        Constraints.
    """
    return [StrOptions({*IMAGE_SCORE[0].options, option}), *IMAGE_SCORE[1:]]


def image_scores(detector, grids, image_score="max"):
    """Compute the scores of images from their score grids.

    Parameters
    ----------
    detector : BaseDetector
        Fitted detector.
    grids : ndarray of shape (n, h, w)
        Score grids.
    image_score : {"max", "mean", "contrast"} or float, default="max"
        Level of the smoothed anomaly map, at the size at which the features see images: its maximum, its mean, its
        maximum minus its mean, or the mean over this share of its highest pixels.

    Returns
    -------
    ndarray of shape (n,), float64
        Scores of the images.
    """
    if isinstance(image_score, str) and image_score == "mean":  # smoothing would not change it
        return grids.reshape(len(grids), -1).mean(axis=1, dtype=np.float64)
    features = detector.features_
    size = features.frame_shape_ if hasattr(features, "frame_shape_") else as_pair(features.image_size)
    maps = (features.map_to_image(grid, None, detector.sigma_, size=size) for grid in grids)
    return np.array([level(_seen(score_map), image_score) for score_map in maps])


def _seen(score_map):
    """Return the values of a map where the detector looked."""
    seen = score_map[~np.isnan(score_map)]
    require(seen.size, "The anomaly map of an image is NaN everywhere; a value is too large.")
    return seen
