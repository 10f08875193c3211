"""Thresholds with a stated false-alarm rate, and p-values, by split-conformal prediction.

All scores are anomaly scores: higher is more anomalous.
"""

import math
import warnings
from collections import namedtuple
from numbers import Real

import numpy as np
from scipy import stats
from scipy.special import chdtrc, chdtri

from ._kernels.checks import require
from ._kernels.regions import largest_level, measure_regions
from .exceptions import CalibrationWarning

__all__ = [
    "Calibration",
    "ChiSquaredLaw",
    "Region",
    "conformal_p_values",
    "conformal_threshold",
    "expected_false_alarm_rate",
    "false_alarms_p_value",
    "largest_region_levels",
    "largest_region_threshold",
    "select_anomalies",
]

Region = namedtuple("Region", "box center area peak peak_position p_value")
Region.__doc__ = """Connected region of the anomalous pixels of an image.

Parameters
----------
box : tuple of int (top, left, bottom, right)
    Smallest box around the region, in pixels: rows from top to bottom - 1 and columns from left to right - 1.
center : tuple of float (row, column)
    Mean position of the pixels.
area : int
    Number of pixels.
peak : float
    Highest value of the anomaly map in the region.
peak_position : tuple of int (row, column)
    Position of the peak.
p_value : float
    Conformal p-value of the region: (1 + number of calibration maps with a region at least as high) / (n + 1). Heights
    are peaks, or with a `min_defect_area` above 1, the highest level at which a region of that area remains.
"""


def check_rate(false_alarm_rate):
    """Check a false-alarm rate.

    Parameters
    ----------
    false_alarm_rate : object
        Value to be checked.

    Raises
    ------
    ValueError
        If it is not a number in (0, 1).
    """
    if not isinstance(false_alarm_rate, Real) or not 0 < false_alarm_rate < 1:
        raise ValueError(
            f"false_alarm_rate={false_alarm_rate!r} is not accepted; it must be a number between 0 and 1, such as 0.05 "
            "for 5 %."
        )


def _rank(n, false_alarm_rate):
    """Return k such that the threshold is the k-th smallest of n calibration scores."""
    check_rate(false_alarm_rate)
    k = math.ceil((n + 1) * (1 - false_alarm_rate) - 1e-9)  # 20 * 0.95 must be 19, not a hair above
    return min(k, n)


def expected_false_alarm_rate(n, false_alarm_rate):
    """Compute the share of fresh normal samples that a threshold from n calibration scores is expected to flag.

    The threshold is the k-th smallest of n scores, k = ceil((n + 1)(1 - alpha)), at most n. If scores are exchangeable
    and have no ties, a fresh score exceeds it with probability 1 - k / (n + 1).

    Parameters
    ----------
    n : int
        Number of calibration scores.
    false_alarm_rate : float
        Requested false-alarm rate alpha, in (0, 1).

    Returns
    -------
    float
        Expected share of flagged samples.

    Raises
    ------
    ValueError
        If `false_alarm_rate` is not in (0, 1).

    See Also
    --------
    conformal_threshold : Compute the threshold itself.

    Examples
    --------
    >>> from skanomaly.thresholds import expected_false_alarm_rate
    >>> expected_false_alarm_rate(99, 0.05)
    0.05
    >>> round(expected_false_alarm_rate(9, 0.05), 3)
    0.1
    """
    return round(1 - _rank(n, false_alarm_rate) / (n + 1), 15)


def false_alarms_p_value(n_flagged, n_normal, n_calibration, false_alarm_rate):
    """Compute the probability that a threshold flags at least this many fresh normal samples.

    The threshold is the k-th smallest of n calibration scores, k = ceil((n + 1)(1 - alpha)), at most n. If all scores
    are exchangeable and have no ties, the number of flagged samples follows a beta-binomial distribution with
    parameters n + 1 - k and k: the share that a given threshold flags varies with the calibration samples, and their
    number around that share. A small probability therefore says that the samples are not drawn like those of the
    calibration.

    Parameters
    ----------
    n_flagged : int
        Number of fresh normal samples that are flagged.
    n_normal : int
        Number of fresh normal samples.
    n_calibration : int or float
        Number of calibration scores; infinity for a threshold that is not computed from scores, for which the
        distribution is binomial.
    false_alarm_rate : float
        Requested false-alarm rate alpha, in (0, 1).

    Returns
    -------
    float
        Probability of `n_flagged` or more, in [0, 1].

    Raises
    ------
    ValueError
        If `false_alarm_rate` is not in (0, 1).

    See Also
    --------
    expected_false_alarm_rate : Compute the share of flagged samples to expect.

    Examples
    --------
    >>> from skanomaly.thresholds import false_alarms_p_value
    >>> round(false_alarms_p_value(5, 100, 99, 0.05), 2), round(false_alarms_p_value(20, 100, 99, 0.05), 4)
    (0.51, 0.0004)
    """
    check_rate(false_alarm_rate)
    if math.isinf(n_calibration):
        return float(stats.binom.sf(n_flagged - 1, n_normal, false_alarm_rate))
    k = _rank(n_calibration, false_alarm_rate)
    return float(stats.betabinom.sf(n_flagged - 1, n_normal, n_calibration + 1 - k, k))


def conformal_threshold(calibration_scores, false_alarm_rate, groups=None):
    """Compute the score above which a sample is called an anomaly.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Anomaly scores of normal samples that the model did not learn from.
    false_alarm_rate : float
        Share of normal samples that may be flagged, in (0, 1).
    groups : array-like of shape (n,), default=None
        Group of each score. Scores of one group, such as copies of one photograph, together count as a single sample:
        each weighs one over the size of its group, and n is the number of groups.

    Returns
    -------
    float
        The ceil((n + 1)(1 - alpha))-th smallest score, or the largest if n is too small for that.

    Raises
    ------
    ValueError
        If there are no scores, some are NaN, or `false_alarm_rate` is not in (0, 1).

    Warns
    -----
    CalibrationWarning
        If n is too small; the message says how many scores are needed.

    See Also
    --------
    conformal_p_values : Compute p-values instead of a threshold.
    expected_false_alarm_rate : Compute the share of normal samples that the threshold flags.

    Examples
    --------
    >>> from skanomaly.thresholds import conformal_threshold
    >>> conformal_threshold([1.0, 2.0, 3.0, 4.0], false_alarm_rate=0.2)
    4.0
    """
    calibration = Calibration(calibration_scores, groups=groups)
    calibration.warn_if_short(false_alarm_rate)
    return calibration.threshold(false_alarm_rate)


def conformal_p_values(scores, calibration_scores, groups=None):
    """Compute the conformal p-values of scores.

    The p-value of a score is (1 + number of calibration scores at least as high) / (n + 1).

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
        Anomaly scores of the samples to be tested.
    calibration_scores : array-like of shape (n,)
        Anomaly scores of normal samples that the model did not learn from.
    groups : array-like of shape (n,), default=None
        Group of each calibration score; see `conformal_threshold`.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        The p-value of each score, in [1 / (n + 1), 1]; small for anomalies.

    See Also
    --------
    conformal_threshold : Compute a threshold instead of p-values.
    select_anomalies : Select anomalies by their p-values.

    Examples
    --------
    >>> from skanomaly.thresholds import conformal_p_values
    >>> conformal_p_values([0.0, 2.0, 9.0], [1.0, 2.0, 3.0])
    array([1.  , 0.75, 0.25])
    """
    return Calibration(calibration_scores, groups=groups).p_values(scores)


def largest_region_levels(anomaly_maps, *, min_defect_area):
    """Compute, for each map, the highest level at which a large connected region remains.

    At this level t, the pixels with values of at least t have a connected region (8-connectivity) of at least
    `min_defect_area` pixels; above it, they have none. It is an anomaly score of the image, that an isolated high pixel
    does not raise.

    Parameters
    ----------
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Anomaly maps, higher for anomalies. NaN pixels belong to no region.
    min_defect_area : int
        Area of the smallest region, in pixels.

    Returns
    -------
    ndarray of shape (n,), float64
        Level of each map; ``-inf`` for maps that are smaller than the region.

    See Also
    --------
    largest_region_threshold : Compute a threshold from the maps of normal images.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.thresholds import largest_region_levels
    >>> largest_region_levels(np.array([[[9, 0, 3], [0, 4, 5]]]), min_defect_area=2)
    array([4.])
    """
    return np.array([largest_level(np.asarray(score_map, float), min_defect_area) for score_map in anomaly_maps])


def largest_region_threshold(anomaly_maps, *, min_defect_area):
    """Compute the threshold above which no normal image has a large connected region.

    This is the rule of Bergmann et al.: on normal validation images, the threshold is raised until the largest
    connected region above it is smaller than the smallest defect that matters. An image is called an anomaly if it has
    such a region above the threshold, which is when its `largest_region_levels` is above the threshold.

    In detectors, ``min_defect_area`` and ``pixel_threshold_`` do the same for a given false-alarm rate.

    Parameters
    ----------
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Anomaly maps of normal images that the model did not learn from, higher for anomalies.
    min_defect_area : int
        Area of the smallest region, in pixels.

    Returns
    -------
    float
        Threshold on maps and on `largest_region_levels`.

    See Also
    --------
    largest_region_levels : Compute the scores to compare with the threshold.
    conformal_threshold : Compute a threshold with a given false-alarm rate.

    References
    ----------
    Bergmann et al., "MVTec AD", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.thresholds import largest_region_levels, largest_region_threshold
    >>> normal, fresh = np.array([[[9, 0, 3], [0, 4, 5]]]), np.array([[[7, 7, 0]], [[9, 0, 9]]])
    >>> threshold = largest_region_threshold(normal, min_defect_area=2)
    >>> threshold, largest_region_levels(fresh, min_defect_area=2) > threshold
    (4.0, array([ True, False]))
    """
    return float(largest_region_levels(anomaly_maps, min_defect_area=min_defect_area).max())


class Calibration:
    """Scores of normal samples that the model did not learn from, and the thresholds and p-values based on them.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Anomaly scores: higher is more anomalous.
    peaks : array-like of shape (n,), default=None
        Peaks of the anomaly maps.
    groups : array-like of shape (n,), default=None
        Group of each sample; samples of one group together count as a single sample. None puts each sample into a group
        of its own.
    indices : array-like of shape (n,), default=None
        Positions of the samples in the data that the scores come from; None stands for 0 to n - 1.

    Attributes
    ----------
    scores : ndarray of shape (n,), float64
        Anomaly scores.
    peaks : ndarray of shape (n,), float64, or None
        Peaks of the anomaly maps.
    indices : ndarray of shape (n,)
        Positions of the samples in the data that the scores come from.
    weights : ndarray of shape (n,), float64
        One over the size of each sample's group.
    n : int
        Number of groups.

    Raises
    ------
    ValueError
        If there are no scores, or some are NaN.
    """

    def __init__(self, scores, peaks=None, groups=None, indices=None):
        self.scores = np.asarray(scores, dtype=np.float64)
        self.peaks = None if peaks is None else np.asarray(peaks, dtype=np.float64)
        n = len(self.scores)
        if n == 0 or np.isnan(self.scores).any():
            raise ValueError(
                f"calibration_scores has {n} values, {np.isnan(self.scores).sum()} of them NaN; it must have at least "
                "one value, and none may be NaN."
            )
        groups = np.arange(n) if groups is None else groups
        _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        self.weights, self.n = 1 / sizes[members], len(sizes)
        self.indices = np.arange(n) if indices is None else np.asarray(indices)

    def _check_state(self):
        """Raise a ValueError if attributes from a model file do not fit together."""
        n_samples = len(self.scores)
        require(1 <= self.n <= n_samples, "there are no scores, or fewer than groups")
        require((self.weights > 0).all() and abs(self.weights.sum() - self.n) < 1e-6, "weights do not sum to n")
        require((self.indices >= 0).all() and self.indices.dtype.kind in "iu", "indices are negative")

    def threshold(self, false_alarm_rate):
        """Compute the threshold on anomaly scores.

        Parameters
        ----------
        false_alarm_rate : float
            Share of normal samples that may be flagged, in (0, 1).

        Returns
        -------
        float
            Anomaly score that at most this share of fresh normal samples is expected to exceed.
        """
        return _quantile(self.scores, self.weights, _rank(self.n, false_alarm_rate))

    def pixel_threshold(self, false_alarm_rate):
        """Compute the threshold on anomaly maps.

        Parameters
        ----------
        false_alarm_rate : float
            Share of normal samples that may be flagged, in (0, 1).

        Returns
        -------
        float
            Level that the maps of at most this share of fresh normal samples are expected to exceed.
        """
        return _quantile(self.peaks, self.weights, _rank(self.n, false_alarm_rate))

    def expected_rate(self, false_alarm_rate):
        """Compute the share of fresh normal samples that the threshold is expected to flag.

        Parameters
        ----------
        false_alarm_rate : float
            Share of normal samples that may be flagged, in (0, 1).

        Returns
        -------
        float
            Expected share of flagged samples.
        """
        return expected_false_alarm_rate(self.n, false_alarm_rate)

    def p_values(self, scores):
        """Compute the conformal p-values of anomaly scores.

        Parameters
        ----------
        scores : array-like of shape (m,)
            Anomaly scores.

        Returns
        -------
        ndarray of shape (m,), float64
            The p-value of each score, in [1 / (n + 1), 1]; small for anomalies.
        """
        return self._p_values(self.scores, scores)

    def regions(self, score_map, mask, min_defect_area=1):
        """Measure the connected regions of the mask of an anomaly map.

        Parameters
        ----------
        score_map : ndarray of shape (H, W)
            Anomaly map.
        mask : ndarray of shape (H, W), bool
            Mask of its anomalous pixels.
        min_defect_area : int, default=1
            Area of the smallest region, in pixels, for which the peaks were computed.

        Returns
        -------
        list of Region
            Regions (8-connectivity), the largest first.
        """
        found = measure_regions(score_map, mask, min_defect_area)
        p_values = self._p_values(self.peaks, [level for *_, level in found])
        return [Region(*parts, float(p)) for (*parts, _), p in zip(found, p_values, strict=True)]

    def _p_values(self, of_normal, values):
        order = np.argsort(of_normal, kind="stable")
        below = np.concatenate([[0.0], np.cumsum(self.weights[order])])
        at_least = self.n - below[np.searchsorted(of_normal[order], values, side="left")]
        return np.clip((1 + at_least) / (self.n + 1), 1 / (self.n + 1), 1.0)

    def warn_if_short(self, false_alarm_rate):
        """Warn if there are too few samples for a false-alarm rate.

        Parameters
        ----------
        false_alarm_rate : float
            Share of normal samples that may be flagged, in (0, 1).

        Warns
        -----
        CalibrationWarning
            If there are too few samples; the message says how many are needed.
        """
        check_rate(false_alarm_rate)
        needed = math.ceil(1 / false_alarm_rate - 1 - 1e-9)
        if self.n < needed:
            warnings.warn(
                f"false_alarm_rate={false_alarm_rate:g} needs at least {needed} calibration samples, got {self.n}. The "
                f"threshold is set to the largest calibration score; expect it to flag {1 / (self.n + 1):.3g} of "
                "normal samples.",
                CalibrationWarning,
                stacklevel=3,
            )


def _quantile(values, weights, rank):
    """Return the smallest value such that the weights of all values up to it sum to at least `rank`."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= rank - 1e-9
    return float(values[order][np.argmax(reached)] if reached.any() else values[order][-1])


def select_anomalies(p_values, *, fdr=0.1, n_calibration=None):
    r"""Select anomalies such that the expected share of normal samples among them is at most `fdr`.

    This is the Benjamini-Hochberg procedure: the k smallest p-values are selected, where k is the largest number with
    :math:`p_{(k)} \le k \, q / m`.

    Parameters
    ----------
    p_values : array-like of shape (m,)
        The p-values, in (0, 1], as returned by ``detector.p_values(X)``.
    fdr : float, default=0.1
        False discovery rate q, in (0, 1).
    n_calibration : int, default=None
        Number n of calibration samples behind the p-values (`detector.select` passes it). If given, a warning is issued
        when n is too small for any anomaly to be selected.

    Returns
    -------
    ndarray of shape (m,), bool
        True for the selected samples.

    Raises
    ------
    ValueError
        If any p-value is outside (0, 1], or `fdr` is outside (0, 1).

    Warns
    -----
    CalibrationWarning
        If `n_calibration` is given and the smallest possible p-value, 1 / (n + 1), is too large for a single anomaly
        among m samples to be selected.

    See Also
    --------
    conformal_p_values : Compute p-values from scores.

    References
    ----------
    Benjamini, Hochberg, 1995. For conformal p-values: Bates et al., "Testing for outliers with conformal p-values",
    Annals of Statistics 2023.

    Examples
    --------
    >>> from skanomaly import select_anomalies
    >>> select_anomalies([0.001, 0.8, 0.03, 0.5], fdr=0.1)
    array([ True, False,  True, False])
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p > 0) & (p <= 1)).all():
        wrong = p[~((p > 0) & (p <= 1))]
        got = f"shape {p.shape}" if p.ndim != 1 else f"{wrong[0]:g}"
        raise ValueError(f"p_values must be 1-dimensional and in (0, 1], got {got}.")
    if not 0 < fdr < 1:
        raise ValueError(f"fdr={fdr} is not accepted; it must be in (0, 1).")
    m = len(p)
    if m == 0:
        return np.zeros(0, bool)
    if n_calibration is not None and 1 / (n_calibration + 1) > fdr / m:
        warnings.warn(
            f"The smallest possible p-value, {1 / (n_calibration + 1):.3g}, is above fdr / m = {fdr / m:.3g}: a single "
            f"anomaly among {m} samples cannot be selected. Calibrate with at least {math.ceil(m / fdr - 1)} normal "
            "samples.",
            CalibrationWarning,
            stacklevel=2,
        )
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= fdr * np.arange(1, m + 1) / m)
    selected = np.zeros(m, bool)
    selected[order[: below[-1] + 1 if len(below) else 0]] = True
    return selected


class ChiSquaredLaw:
    """Chi-squared distribution of squared scores, which takes the place of a `Calibration`.

    Parameters
    ----------
    n_features : int
        Degrees of freedom.

    Attributes
    ----------
    scores, peaks, indices : None
        There are no calibration samples.
    n : float
        Infinity, because the number of samples does not bound p-values from below.
    """

    scores = peaks = indices = None
    n = math.inf

    def __init__(self, n_features):
        self.n_features = n_features

    def threshold(self, false_alarm_rate):
        """Compute the threshold on anomaly scores.

        Parameters
        ----------
        false_alarm_rate : float
            Share of normal samples that may be flagged, in (0, 1).

        Returns
        -------
        float
            Anomaly score that this share of normal samples exceeds under the law.
        """
        check_rate(false_alarm_rate)
        return float(np.sqrt(chdtri(self.n_features, false_alarm_rate)))

    def expected_rate(self, false_alarm_rate):
        """Return the share of fresh normal samples that the threshold is expected to flag.

        Parameters
        ----------
        false_alarm_rate : float
            Share of normal samples that may be flagged, in (0, 1).

        Returns
        -------
        float
            The rate itself.
        """
        return false_alarm_rate

    def p_values(self, scores):
        """Compute the probabilities of scores at least as high under the law.

        Parameters
        ----------
        scores : array-like of shape (m,)
            Anomaly scores.

        Returns
        -------
        ndarray of shape (m,), float64
            The p-value of each score, above 0; small for anomalies.
        """
        return np.maximum(chdtrc(self.n_features, np.square(scores)), np.finfo(np.float64).tiny)

    def warn_if_short(self, false_alarm_rate):
        """Do nothing, because the law needs no samples.

        Parameters
        ----------
        false_alarm_rate : float
            Share of normal samples that may be flagged, in (0, 1).
        """
