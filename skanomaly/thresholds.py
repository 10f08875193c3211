"""The conformal rule: from scores of normal samples to a threshold with a stated false-alarm rate.

Scores here are anomaly scores: higher is more anomalous.
"""

import math
import warnings

import numpy as np

from .exceptions import CalibrationWarning

__all__ = ["conformal_p_values", "conformal_threshold", "expected_false_alarm_rate", "select_anomalies"]


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


def conformal_threshold(calibration_scores, false_alarm_rate):
    """Return the score above which a sample is called an anomaly.

    Parameters
    ----------
    calibration_scores : array-like of shape (n,)
        Anomaly scores of normal samples that the model did not learn from.
    false_alarm_rate : float
        In (0, 1).

    Returns
    -------
    float
        The ceil((n + 1)(1 - alpha))-th smallest score; the largest where n is too small for that.

    Raises
    ------
    ValueError
        For no scores, or NaN among them.

    Warns
    -----
    CalibrationWarning
        If n is too small; the warning says how many scores are needed.

    Examples
    --------
    >>> from skanomaly.thresholds import conformal_threshold
    >>> conformal_threshold([1.0, 2.0, 3.0, 4.0], false_alarm_rate=0.2)
    4.0
    """
    scores = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    n = len(scores)
    if n == 0 or np.isnan(scores).any():
        raise ValueError(
            f"calibration_scores has {n} values, {np.isnan(scores).sum()} of them NaN; at least one number is needed."
        )
    needed = math.ceil(1 / false_alarm_rate - 1 - 1e-9)
    if n < needed:
        warnings.warn(
            f"false_alarm_rate={false_alarm_rate:g} needs at least {needed} calibration samples, got {n}. The "
            f"largest calibration score is the threshold; expect to flag {1 / (n + 1):.3g} of normal samples.",
            CalibrationWarning,
            stacklevel=2,
        )
    return float(scores[_rank(n, false_alarm_rate) - 1])


def conformal_p_values(scores, calibration_scores):
    """Return (1 + number of calibration scores at least as high) / (n + 1) for every score.

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
    calibration_scores : array-like of shape (n,)

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
    calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    at_least = len(calibration) - np.searchsorted(calibration, scores, side="left")
    return (1 + at_least) / (len(calibration) + 1)


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
        Number n of calibration scores behind the p-values, ``len(detector.calibration_scores_)``. By default, the
        smallest p-value stands for the smallest possible one, 1 / (n + 1).

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
        If 1 / (n + 1) is so coarse that a single anomaly among m could not be selected.

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
    finest = p.min() if n_calibration is None else 1 / (n_calibration + 1)
    if finest > fdr / m:
        warnings.warn(
            f"the smallest possible p-value, {finest:.3g}, is above fdr / m = {fdr / m:.3g}: one anomaly among {m} "
            f"samples could not be selected. Calibrate with at least {math.ceil(m / fdr - 1)} normal samples.",
            CalibrationWarning,
            stacklevel=2,
        )
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= fdr * np.arange(1, m + 1) / m)
    selected = np.zeros(m, bool)
    selected[order[: below[-1] + 1 if len(below) else 0]] = True
    return selected
