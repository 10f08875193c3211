"""The conformal rule: from scores of normal samples to a threshold with a stated false-alarm rate.

Scores here are anomaly scores: higher is more anomalous.
"""

import math
import warnings

import numpy as np
from scipy.special import chdtrc, chdtri

from .exceptions import CalibrationWarning

__all__ = [
    "Calibration",
    "ChiSquaredLaw",
    "conformal_p_values",
    "conformal_threshold",
    "expected_false_alarm_rate",
    "select_anomalies",
]


def _rank(n, false_alarm_rate):
    """Return k: the threshold is the k-th smallest of n calibration scores."""
    k = math.ceil((n + 1) * (1 - false_alarm_rate) - 1e-9)  # 20 * 0.95 must be 19, not a hair above
    return min(k, n)


def expected_false_alarm_rate(n, false_alarm_rate):
    """Return the share of fresh normal samples that n calibration scores are expected to flag.

    The threshold is the k-th smallest of n scores, k = ceil((n + 1)(1 - alpha)), at most n. For exchangeable scores
    without ties, a fresh one exceeds it with probability 1 - k / (n + 1).

    Parameters
    ----------
    n : int
        Number of calibration scores.
    false_alarm_rate : float
        The rate alpha that was asked for.

    Returns
    -------
    float

    Examples
    --------
    >>> from skanomaly.thresholds import expected_false_alarm_rate
    >>> expected_false_alarm_rate(99, 0.05)
    0.05
    >>> round(expected_false_alarm_rate(9, 0.05), 3)
    0.1
    """
    return round(1 - _rank(n, false_alarm_rate) / (n + 1), 15)


def conformal_threshold(calibration_scores, false_alarm_rate, groups=None):
    """Return the score above which a sample is called an anomaly.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Anomaly scores of normal samples that the model did not learn from.
    false_alarm_rate : float
        Share of normal samples that may be flagged, in (0, 1).
    groups : array-like of shape (n,), optional
        Group of each score. Scores of one group, such as copies of one photograph, count as a single sample together:
        each weighs one over the size of its group, and n is the number of groups.

    Returns
    -------
    float
        The ceil((n + 1)(1 - alpha))-th smallest score, or the largest where n is too small for that.

    Raises
    ------
    ValueError
        For no scores, or NaN among them.

    Warns
    -----
    CalibrationWarning
        If n is too small; the warning says how many are needed.

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
    """Return (1 + number of calibration scores at least as high) / (n + 1) for every score.

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
        Anomaly scores.
    calibration_scores : array-like of shape (n,)
        Anomaly scores of normal samples that the model did not learn from.
    groups : array-like of shape (n,), optional
        Group of each calibration score; see `conformal_threshold`.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        In [1 / (n + 1), 1]; small for anomalies.

    Examples
    --------
    >>> from skanomaly.thresholds import conformal_p_values
    >>> conformal_p_values([0.0, 2.0, 9.0], [1.0, 2.0, 3.0])
    array([1.  , 0.75, 0.25])
    """
    return Calibration(calibration_scores, groups=groups).p_values(scores)


class Calibration:
    """What decisions rest on: the scores of normal samples that the model did not learn from.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Anomaly scores: higher is more anomalous.
    peaks : array-like of shape (n,), optional
        Highest level of each sample's anomaly map.
    groups : array-like of shape (n,), optional
        Group of each sample; those of one group count as a single sample together. By default, each is its own.
    indices : array-like of shape (n,), optional
        Position of each sample in the data that the scores come from. By default, 0 to n - 1.

    Attributes
    ----------
    scores, peaks, indices : ndarray of shape (n,) or None
        The parameters, aligned with each other.
    weights : ndarray of shape (n,), float64
        One over the size of each sample's group.
    n : int
        Number of groups.

    Raises
    ------
    ValueError
        For no scores, or NaN among them.
    """

    def __init__(self, scores, peaks=None, groups=None, indices=None):
        self.scores = np.asarray(scores, dtype=np.float64)
        self.peaks = None if peaks is None else np.asarray(peaks, dtype=np.float64)
        n = len(self.scores)
        if n == 0 or np.isnan(self.scores).any():
            raise ValueError(
                f"calibration_scores has {n} values, {np.isnan(self.scores).sum()} of them NaN; at least one number is "
                "needed."
            )
        groups = np.arange(n) if groups is None else groups
        _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        self.weights, self.n = 1 / sizes[members], len(sizes)
        self.indices = np.arange(n) if indices is None else np.asarray(indices)

    def threshold(self, false_alarm_rate):
        """Return the anomaly score above which at most this share of fresh normal samples is expected."""
        return _quantile(self.scores, self.weights, _rank(self.n, false_alarm_rate))

    def pixel_threshold(self, false_alarm_rate):
        """Return the level that the maps of at most this share of fresh normal samples are expected to exceed."""
        return _quantile(self.peaks, self.weights, _rank(self.n, false_alarm_rate))

    def expected_rate(self, false_alarm_rate):
        """Return the share of fresh normal samples that the threshold is expected to flag."""
        return expected_false_alarm_rate(self.n, false_alarm_rate)

    def p_values(self, scores):
        """Return the conformal p-values of anomaly scores (m,)."""
        order = np.argsort(self.scores, kind="stable")
        below = np.concatenate([[0.0], np.cumsum(self.weights[order])])
        at_least = self.n - below[np.searchsorted(self.scores[order], scores, side="left")]
        return np.clip((1 + at_least) / (self.n + 1), 1 / (self.n + 1), 1.0)

    def warn_if_short(self, false_alarm_rate):
        """Warn where the samples are too few for a rate, with the number needed."""
        needed = math.ceil(1 / false_alarm_rate - 1 - 1e-9)
        if self.n < needed:
            warnings.warn(
                f"false_alarm_rate={false_alarm_rate:g} needs at least {needed} calibration samples, got {self.n}. The "
                f"largest calibration score is the threshold; expect to flag {1 / (self.n + 1):.3g} of normal samples.",
                CalibrationWarning,
                stacklevel=3,
            )


def _quantile(values, weights, rank):
    """Return the smallest value at which the weights of the values up to it reach a rank."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= rank - 1e-9
    return float(values[order][np.argmax(reached)] if reached.any() else values[order][-1])


def select_anomalies(p_values, *, fdr=0.1, n_calibration=None):
    r"""Select anomalies so that at most a share `fdr` of the selected is expected to be normal (Benjamini-Hochberg).

    With p-values sorted, the k smallest are selected, k being the largest with :math:`p_{(k)} \le k \, q / m`.

    Parameters
    ----------
    p_values : array-like of shape (m,)
        In (0, 1], from ``detector.p_values(X)``.
    fdr : float, default=0.1
        False-discovery rate q, in (0, 1).
    n_calibration : int, optional
        Number n of calibration samples behind the p-values (`detector.select` knows it). With it, a warning tells when
        n is too small to select anything; without it there is no such check.

    Returns
    -------
    ndarray of shape (m,), bool
        True for the selected.

    Raises
    ------
    ValueError
        For p-values outside (0, 1], or `fdr` outside (0, 1).

    Warns
    -----
    CalibrationWarning
        If `n_calibration` is given and 1 / (n + 1) is so coarse that a single anomaly among m could not be selected.

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
        raise ValueError(f"p_values must be 1-dimensional and in (0, 1], got shape {p.shape}.")
    if not 0 < fdr < 1:
        raise ValueError(f"fdr={fdr} is not accepted; it must be in (0, 1).")
    m = len(p)
    if m == 0:
        return np.zeros(0, bool)
    if n_calibration is not None and 1 / (n_calibration + 1) > fdr / m:
        warnings.warn(
            f"the smallest possible p-value, {1 / (n_calibration + 1):.3g}, is above fdr / m = {fdr / m:.3g}: one "
            f"anomaly among {m} samples could not be selected. Calibrate with at least {math.ceil(m / fdr - 1)} normal "
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
    """What decisions rest on where squared scores follow a chi-squared law, in place of a `Calibration`.

    Parameters
    ----------
    n_features : int
        Degrees of freedom.

    Attributes
    ----------
    scores, peaks, indices : None
        There are no calibration samples.
    n : float
        Infinity: p-values are not bounded from below by a number of samples.
    """

    scores = peaks = indices = None
    n = math.inf

    def __init__(self, n_features):
        self.n_features = n_features

    def threshold(self, false_alarm_rate):
        """Return the anomaly score above which this share of normal samples lies under the law."""
        return float(np.sqrt(chdtri(self.n_features, false_alarm_rate)))

    def expected_rate(self, false_alarm_rate):
        """Return the share of fresh normal samples that the threshold flags under the law."""
        return false_alarm_rate

    def p_values(self, scores):
        """Return the probabilities (m,) of scores at least as high under the law."""
        return chdtrc(self.n_features, np.square(scores))

    def warn_if_short(self, false_alarm_rate):
        """Do nothing: no number of samples is too small for a law."""
