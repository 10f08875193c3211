"""Fitting and measuring one detector on one data set, in one pass over the test images and in bounded memory."""

import time
from collections import namedtuple

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from .._inputs.labels import anomalous
from .._kernels.localization import PixelCurves, image_pixels
from .._kernels.regions import largest_level
from .._kernels.score_counts import ScoreCounts, ScoreCountsByImage
from ..base import BaseDetector
from ._bootstrap import drawn_counts, image_metrics, pixel_metrics, rates, values_of
from ._evaluate import checked_masks, decided, nearest, too_many_flagged

_EXACT, _ROUNDED = 2**20, 2**12  # distinct scores of pixels, for the metrics and for their bootstrap samples

Measured = namedtuple("Measured", "row draws")
Measured.__doc__ = """Figures of one detector on one data set.

Parameters
----------
row : dict
    Figures by name.
draws : dict of ndarray of shape (n_draws,)
    Metrics of the bootstrap samples, by name.
"""


def measure(detector, data, *, map_size, n_draws, rng):
    """Fit a detector on a data set and measure it.

    Parameters
    ----------
    detector : detector
        Detector, which is fitted in place.
    data : Bunch
        Data set.
    map_size : tuple of int (H, W) or None
        Size at which pixels are compared; None compares at the size of each image.
    n_draws : int
        Number of bootstrap samples.
    rng : numpy.random.Generator
        Source of the bootstrap samples.

    Returns
    -------
    Measured
        Figures and bootstrap samples.
    """
    masks = checked_masks(data)
    anomalies = anomalous(data.y_test)
    counts = drawn_counts(anomalies, n_draws, rng)
    start = time.perf_counter()
    detector.fit(data.X_train)
    fit_seconds = time.perf_counter() - start
    pixels = _Pixels(detector, map_size)
    scores, score_seconds = pixels.see(data, masks) if hasattr(detector, "anomaly_map") else _scored(detector, data)
    row = {"n_train": len(data.X_train), "n_good": int((~anomalies).sum()), "n_anomalous": int(anomalies.sum())}
    draws = {}
    for values, drawn in (
        _of_images(anomalies, scores, counts),
        pixels.metrics(counts),
        _of_decisions(anomalies, _flagged(detector, scores, pixels.levels), counts),
    ):
        row |= {name: float(value) for name, value in values.items()}
        draws |= drawn
    flagged_normal, _, expected = decided(detector, anomalies, scores)
    row |= {} if np.isnan(expected) else {"expected_tnr": 1 - expected}
    row |= {"message": too_many_flagged(detector, flagged_normal, row["n_good"])}
    return Measured(row | {"fit_seconds": fit_seconds, "score_seconds": score_seconds}, draws)


def _scored(detector, data):
    """Return the anomaly scores (n,) of the test images, and the seconds that they took."""
    start = time.perf_counter()
    return -np.asarray(detector.score_samples(data.X_test)), time.perf_counter() - start


def _of_images(anomalies, scores, counts):
    """Return the metrics of one score per image, and of its bootstrap samples, if there are images of both kinds."""
    if anomalies.all() or not anomalies.any():
        return {}, {}
    once = image_metrics(anomalies, scores, np.ones((1, len(scores))))
    return {name: values[0] for name, values in once.items()}, image_metrics(anomalies, scores, counts)


def _of_decisions(anomalies, flagged, counts):
    """Return the rates of each kind of decision, and of its bootstrap samples."""
    row, draws = {}, {}
    for prefix, decisions in flagged.items():
        once = rates(anomalies, decisions, np.ones((1, len(anomalies))))
        for name, values, drawn in zip(("tnr", "tpr"), once, rates(anomalies, decisions, counts), strict=True):
            row[prefix + name], draws[prefix + name] = values[0], drawn
    return row, draws


def _flagged(detector, scores, levels):
    """Return what is flagged at the calibrated threshold, and by the largest region, where there is such a threshold.

    The rule of Bergmann et al. raises the level until no region of a calibration map is large enough, which is the
    highest of the calibration peaks.
    """
    if not hasattr(detector, "offset_"):
        return {}
    found = {"": scores > -detector.offset_}
    peaks = getattr(detector.calibration_, "peaks", None)
    if levels and peaks is not None:
        found["region_"] = np.array(levels) > peaks.max()
    return found


class _Pixels:
    """Pixels of test images, counted map by map."""

    def __init__(self, detector, map_size):
        self._detector, self._size = detector, map_size
        self._exact, self._by_image = ScoreCounts(_EXACT), ScoreCountsByImage(_ROUNDED)
        self._n_regions, self._known = [], []
        self.levels, self._n_defects = [], 0

    def see(self, data, masks):
        """Count the pixels of all test images; return the anomaly scores (n,), and the seconds that they took."""
        scores, area = [], _defect_area(self._detector)
        known = [getattr(mask, "known", True) for mask in data.masks_test]
        results = _Timed(self._detector.iter_scores_and_maps(data.X_test, size=self._size))
        for i, (mask, (normality, score_map)) in enumerate(zip(masks, results, strict=True)):
            scores.append(-normality)
            if self._size is None and area is not None:
                self.levels.append(largest_level(score_map, area))
            if known[i]:
                self._count(mask if self._size is None else nearest(mask, self._size), score_map)
                self._known.append(i)
        return np.array(scores), results.seconds

    def _count(self, mask, score_map):
        values, weights, n_regions = image_pixels(mask, score_map)
        self._exact.add(values, weights)
        self._by_image.add(values, weights)
        self._n_regions.append(n_regions)
        self._n_defects += n_regions

    def metrics(self, counts):
        """Return the metrics of the maps, and of their bootstrap samples, if there are defects."""
        if not self._n_defects:
            return {}, {}
        curves = PixelCurves(*self._exact.curves(), self._n_defects)
        histograms, n_regions = self._by_image.histograms(), np.array(self._n_regions)
        return values_of(curves), pixel_metrics(histograms, n_regions, counts[:, self._known])


class _Timed:
    """Iterator that counts the seconds for which it is waited for."""

    def __init__(self, iterator):
        self._iterator, self.seconds = iterator, 0.0

    def __iter__(self):
        return self

    def __next__(self):
        start = time.perf_counter()
        try:
            return next(self._iterator)
        finally:
            self.seconds += time.perf_counter() - start


def _defect_area(detector):
    """Return the area of the smallest defect that the thresholds of maps are based on, or None."""
    for owner in (detector, getattr(detector, "estimator_", None)):
        if hasattr(owner, "min_defect_area_"):
            return owner.min_defect_area_
    return None


def with_memory(detector, X, memory):
    """Clone a detector such that its pretrained features are cached.

    Parameters
    ----------
    detector : estimator
        Detector.
    X : array-like
        Training samples, for features that depend on them.
    memory : path-like or None
        Folder of the cache; None clones only. Features with a cache of their own keep it.

    Returns
    -------
    estimator
        Unfitted clone.
    """
    detector = clone(detector)
    if memory is None:
        return detector
    for prefix, part in _parts(detector).items():
        if isinstance(part, BaseDetector) and part.get_params(deep=False).get("features", part) is None:
            default = part.default_features(X)
            if _is_cached(default):
                detector.set_params(**{f"{prefix}features": default})
    for part in _parts(detector).values():
        if _is_cached(part) and part.memory is None:
            part.set_params(memory=memory)
    return detector


def _is_cached(part):
    """Return whether an object is features with a cache; other objects, such as pipelines, have another memory."""
    return not isinstance(part, type) and hasattr(part, "memory") and hasattr(part, "memory_limit")


def _parts(estimator):
    """Return the estimator and its parameters, by the prefix of the names of their own; nothing that is frozen."""
    found = {"": estimator} | {f"{name}__": value for name, value in estimator.get_params(deep=True).items()}
    frozen = tuple(name for name, value in found.items() if isinstance(value, FrozenEstimator))
    return {name: value for name, value in found.items() if not name.startswith(frozen)}
